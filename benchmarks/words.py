"""What half words cost in precision: the masked mean's largest error with 16 and with 32 bits a number, and its bytes.

python benchmarks/words.py --json
"""

from __future__ import annotations

import numpy as np
from _report import measure, options, report

from fedart_nb.secagg.encoding import Field, FixedPoint

ARTISTS, SIZE = 10, 164_000


def largest_error(bits: int, artists: int, size: int, seed: int) -> float:
    """Of the mean of uniform updates between -1 and 1, the clip, against the float64 mean."""
    updates = np.random.default_rng(seed).uniform(-1, 1, (artists, size))
    code = FixedPoint([Field("update", size, limit=1.0, bits=bits)], artists=artists)
    total = np.zeros(code.size, np.uint32)
    for update in updates:
        total += code.encode({"update": update}).words
    mean = code.decode(total, count=artists)["update"] / artists
    return float(np.abs(mean - updates.mean(0)).max())


def main() -> None:
    chosen = options(__doc__)
    seeds = 3 if chosen.quick else 10
    lines = []
    for bits in (16, 32):
        each = [largest_error(bits, ARTISTS, SIZE, seed) for seed in range(seeds)]
        others = {f"artists_{n}": largest_error(bits, n, SIZE, 0) for n in (3, 5, 30)}
        lines.append(
            measure(
                f"secagg.error_over_clip_{bits}bit",
                max(each),
                "",
                how=f"{ARTISTS} artists, {SIZE:,} numbers uniform within the clip; largest error over the clip",
                spread=(float(f"{min(each):.3g}"), float(f"{max(each):.3g}")),
                seeds=seeds,
                baseline={"bytes_per_number": bits / 8} | others,
            )
        )
    report(__file__, lines, chosen)


if __name__ == "__main__":
    main()
