"""What the relay counts, as text for Prometheus: routes, statuses, sums. No room, no member, no address, no token."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

__all__ = ["Metrics"]

_Labels = tuple[tuple[str, str], ...]
_HELP = {
    "requests_total": "Requests answered, by route and status.",
    "refused_total": "Requests refused, by reason.",
    "bytes_total": "Bytes of bodies, in and out.",
    "rooms": "Rooms.",
    "members": "Members of all rooms.",
    "messages": "Messages kept.",
    "blobs": "Attachments kept.",
    "bytes": "Bytes of messages and attachments kept.",
    "waiting": "Requests that wait for a message.",
    "uploads": "Uploads that run.",
    "draining": "1 while the relay is going down.",
}


class Metrics:
    """Counters of one relay. Every label is one of a few words of ours, so their number is bounded.

    >>> metrics = Metrics()
    >>> metrics.count("refused_total", reason="size")
    >>> print(metrics.text({"rooms": 2}).splitlines()[2])
    fedart_relay_refused_total{reason="size"} 1
    """

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, _Labels]] = Counter()

    def count(self, name: str, amount: int = 1, **labels: str) -> None:
        """Add to a counter."""
        self._counts[name, tuple(labels.items())] += amount

    def text(self, gauges: Mapping[str, int]) -> str:
        """All counters, and the values of the moment, in Prometheus' text format."""
        lines: list[str] = []
        values = [*sorted(self._counts.items()), *(((name, ()), value) for name, value in gauges.items())]
        last = ""
        for (name, labels), value in values:
            if name != last:
                kind = "counter" if name.endswith("_total") else "gauge"
                lines += [f"# HELP fedart_relay_{name} {_HELP[name]}", f"# TYPE fedart_relay_{name} {kind}"]
                last = name
            shown = ",".join(f'{key}="{label}"' for key, label in labels)
            lines.append(f"fedart_relay_{name}{{{shown}}} {value}" if shown else f"fedart_relay_{name} {value}")
        return "\n".join(lines) + "\n"
