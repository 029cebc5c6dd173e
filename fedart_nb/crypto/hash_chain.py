"""A file of JSON lines, each with the hash of the one before: later changes show, and no line is ever torn."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedart_nb._system.files import private_folder, write_private
from fedart_nb.crypto.canonical_json import canonical_json
from fedart_nb.errors import LedgerError, WireError

__all__ = ["Body", "Link", "chained", "merged", "read_chain", "salvaged", "write_chain"]

_START = "0" * 64
_LIMIT_BYTES = 16 * 1024 * 1024

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Link:
    """One line: what was written (`body`), the hash of the line before it, and its own."""

    body: Body = field(repr=False)
    previous: str = _START

    @property
    def hash(self) -> str:
        """SHA-256 over the former hash and the body's canonical JSON, 64 hex digits."""
        return hashlib.sha256(self.previous.encode() + b"\n" + canonical_json(self.body)).hexdigest()

    def then(self, body: Body) -> Link:
        """The next link."""
        return Link(body, self.hash)


def read_chain(path: Path, check: Callable[[Body, bool], str] = lambda _body, _first: "") -> list[Link]:
    """All links of a file; [] where there is none.

    Args:
        check: says what is wrong with what a line says (and whether it is the first one), or "".

    Raises:
        LedgerError: a line is missing, changed, no JSON or incomplete; the message says which, of which file.
    """
    if not path.exists():
        return []
    if path.stat().st_size > _LIMIT_BYTES:
        raise LedgerError(
            f"{path.name} has {path.stat().st_size:,} bytes; a ledger never has more than {_LIMIT_BYTES:,}."
        )
    links: list[Link] = []
    known: set[str] = set()
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            told = json.loads(line)
            body, claimed = told["body"], told["hash"]
            link = Link(body, links[-1].hash if links else _START)
            good = isinstance(body, dict) and told["previous"] == link.previous and claimed == link.hash
        except (ValueError, KeyError, TypeError, RecursionError):
            good = False
        if not good:
            raise LedgerError(
                f"Line {number} of {path.name} was changed, or a line before it was taken out: its hash does not fit."
            )
        wrong = check(body, number == 1)
        if not wrong and body.get("id") in known:
            wrong = f"it has the id {body['id']!r} of a line before it"
        if wrong:
            raise LedgerError(f"Line {number} of {path.name} is no line of a ledger: {wrong}.")
        known.add(str(body.get("id")))
        links.append(link)
    if not links:
        raise LedgerError(f"{path.name} is empty; a ledger has at least its first line.")
    return links


def write_chain(path: Path, links: Iterable[Link]) -> None:
    """Write all links, atomically: a crash leaves the former file or the new one, never half a line."""
    lines = (
        canonical_json({"body": dict(k.body), "previous": k.previous, "hash": k.hash}).decode() + "\n" for k in links
    )
    if not path.parent.exists():
        private_folder(path.parent)
    write_private(path, "".join(lines).encode())


def merged(
    one: Sequence[Link], bodies: Iterable[Body], larger: Callable[[Body, Body], Body]
) -> tuple[list[Link], list[str]]:
    """A chain with every line of both, and the ids of lines that say two things.

    What `one` lacks of `bodies` comes at its end. So a copy that was put back, and a copy that went on by itself, both
    count in full; where one id has two bodies, somebody changed one of them, and the `larger` one counts.
    """
    ours = {str(link.body.get("id")): link.body for link in one}
    theirs: dict[str, Body] = {}
    for body in bodies:
        theirs.setdefault(str(body.get("id")), body)
    twice = [name for name, body in theirs.items() if name in ours and dict(ours[name]) != dict(body)]
    kept = {**ours, **{name: body for name, body in theirs.items() if name not in ours}}
    for name in twice:
        kept[name] = larger(ours[name], theirs[name])
    if all(kept[name] == body for name, body in ours.items()):
        return chained([body for name, body in kept.items() if name not in ours], one), twice
    return chained(list(kept.values())), twice


def chained(bodies: Iterable[Body], after: Sequence[Link] = ()) -> list[Link]:
    """A chain of these, or a chain that goes on with them."""
    out = list(after)
    for body in bodies:
        out.append(out[-1].then(body) if out else Link(body))
    return out


def salvaged(path: Path) -> list[dict[str, Any]]:
    """Bodies of every line of a damaged file that can still be read, whether or not their hashes fit."""
    bodies = []
    for line in path.read_bytes()[:_LIMIT_BYTES].splitlines():
        try:
            body = json.loads(line)["body"]
            canonical_json(body)
        except (WireError, ValueError, KeyError, TypeError, RecursionError):
            continue
        if isinstance(body, dict):
            bodies.append(body)
    return bodies
