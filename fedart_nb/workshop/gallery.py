"""One HTML page of a workshop: every artist's pictures before and after, the numbers, and what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from ..analysis.keepsake import STAGES, Keepsake

__all__ = ["write_gallery"]

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --quiet: #666; }
@media (prefers-color-scheme: dark) { :root { --quiet: #aaa; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.9rem; margin-bottom: .2rem } h2 { margin-top: 2.5rem }
table { border-collapse: collapse; margin: 1rem 0 } caption { text-align: left; color: var(--quiet); padding: .3rem 0 }
th, td { padding: .35rem .6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: middle }
td.n { text-align: right; font-variant-numeric: tabular-nums } td.best { font-weight: 700 }
img { display: block; border-radius: 6px; background: #fff; border: 1px solid var(--line) }
small { color: var(--quiet); font-weight: 400 } .scroll { overflow-x: auto }
"""


def write_gallery(path: Path, keepsakes: Sequence[Keepsake]) -> Path:
    """Write the page for several artists' keepsakes to `path`, with the pictures inside; returns the path."""
    head = "".join(
        f'<th scope="col">{escape(text)}</th>' for text in ("artist", "art", "pictures", "bytes sent", *STAGES)
    )
    body = "".join(_row(k) for k in keepsakes)
    rooms = "".join(f'<h2>{escape(k.name)}</h2><div class="scroll">{k.to_html()}</div>' for k in keepsakes)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>A federated round on real art</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body>
<h1>A federated round on real art</h1>
<p>{len(keepsakes)} artists, each in a kernel of their own, trained one shared adapter through a relay. No picture,
caption or file name left a kernel. Every row below uses the same prompts and the same noise.</p>
<p>Every update left its kernel masked: relay and host saw sums alone.</p>
<h2>Held-out loss</h2>
<p>Denoising loss on each artist's own held-out pictures; lower is better; the lowest of a row is bold and marked ★.</p>
<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>
{rooms}
<p><small>Written by <code>fedart demo</code> (<code>fedart_nb/workshop/demo.py</code>).
Sample art: see ATTRIBUTION.md.</small></p>
</body></html>
""",
        encoding="utf-8",
    )
    return path


def _row(keepsake: Keepsake) -> str:
    best = min(keepsake.losses.values(), default=None)
    losses = "".join(
        f'<td class="n best">★ {keepsake.losses[s]:.4f}</td>'
        if keepsake.losses[s] == best
        else f'<td class="n">{keepsake.losses[s]:.4f}</td>'
        for s in STAGES
        if s in keepsake.losses
    )
    return (
        f'<tr><th scope="row">{escape(keepsake.name)}</th><td>{escape(keepsake.title)}</td>'
        f'<td class="n">{keepsake.pictures_used}</td><td class="n">{keepsake.bytes_sent:,}</td>{losses}</tr>'
    )
