"""A file of JSON lines, each with the hash of the one before: later changes show, and no line is ever torn."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedart_nb.errors import LedgerError
from fedart_nb.files import write_private

__all__ = ["Link", "read_chain", "reconciled", "salvaged", "with_bodies", "write_chain"]

_START = "0" * 64
_LIMIT_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Link:
    """One line: what was written (`body`), the hash of the line before it, and its own."""

    body: Mapping[str, Any] = field(repr=False)
    previous: str = _START

    @property
    def hash(self) -> str:
        """SHA-256 over the former hash and the body's canonical JSON, 64 hex digits."""
        return hashlib.sha256(f"{self.previous}\n{_canonical(self.body)}".encode()).hexdigest()

    def then(self, body: Mapping[str, Any]) -> Link:
        """The next link."""
        return Link(body, self.hash)


def read_chain(path: Path) -> list[Link]:
    """All links of a file; [] where there is none.

    Raises:
        LedgerError: a line is missing, changed or no JSON; the message says which.
    """
    if not path.exists():
        return []
    if path.stat().st_size > _LIMIT_BYTES:
        raise LedgerError(
            f"{path.name} has {path.stat().st_size:,} bytes; a ledger never has more than {_LIMIT_BYTES:,}."
        )
    links: list[Link] = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            told = json.loads(line)
            body, claimed = told["body"], told["hash"]
            link = Link(body, links[-1].hash if links else _START)
            good = isinstance(body, dict) and told["previous"] == link.previous and claimed == link.hash
        except (ValueError, KeyError, TypeError):
            good = False
        if not good:
            raise LedgerError(
                f"Line {number} of {path.name} was changed, or a line before it was taken out: its hash does not fit."
            )
        links.append(link)
    if not links:
        raise LedgerError(f"{path.name} is empty; a ledger has at least its first line.")
    return links


def write_chain(path: Path, links: Sequence[Link]) -> None:
    """Write all links, atomically: a crash leaves the former file or the new one, never half a line."""
    lines = (_canonical({"body": dict(k.body), "previous": k.previous, "hash": k.hash}) + "\n" for k in links)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_private(path, "".join(lines).encode())


def reconciled(one: Sequence[Link], other: Sequence[Link]) -> list[Link]:
    """A chain with every link of both: the longer one, or where they part, the other's branch at the end of one's.

    So a copy that was put back, and a copy that went on by itself, both count in full. Raises LedgerError when the two
    do not even begin alike.
    """
    same = 0
    for a, b in zip(one, other, strict=False):
        if a.hash != b.hash:
            break
        same += 1
    if one and other and same == 0:
        raise LedgerError("The two files of this ledger belong to different ledgers.")
    out = list(one)
    return with_bodies(out, [link.body for link in other[same:]])


def with_bodies(links: Sequence[Link], bodies: Sequence[Mapping[str, Any]]) -> list[Link]:
    """The chain and what it lacks of `bodies`, at its end; what has the same id is the same."""
    out = list(links)
    known = {link.body.get("id") for link in links}
    for body in bodies:
        if body.get("id") not in known:
            known.add(body.get("id"))
            out.append(out[-1].then(body) if out else Link(body))
    return out


def salvaged(path: Path) -> list[dict[str, Any]]:
    """Bodies of every line of a damaged file that can still be read, whether or not their hashes fit."""
    bodies = []
    for line in path.read_bytes()[:_LIMIT_BYTES].splitlines():
        try:
            body = json.loads(line)["body"]
        except (ValueError, KeyError, TypeError):
            continue
        if isinstance(body, dict):
            bodies.append(body)
    return bodies


def _canonical(body: Mapping[str, Any]) -> str:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
