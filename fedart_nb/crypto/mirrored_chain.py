"""A chain that is kept twice, under two roots: what one copy lacks the other tells, and a changed one is set aside."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from fedart_nb._system.files import locked, private_folder, set_aside
from fedart_nb.crypto.hash_chain import Body, Link, chained, merged, read_chain, salvaged, write_chain
from fedart_nb.errors import LedgerError

__all__ = ["TwinChain"]


class TwinChain:
    """Two files with one chain. `read` and `append` are called under `lock()`.

    Args:
        path, witness: the two files; None: there is one.
        check: what is wrong with a line's body (is it the first one?), or "".
        larger: of two bodies with one id, the one that counts.
        counts: whether a readable line of a damaged file counts.
        name: what it is, for messages.

    Attributes:
        warnings: sentences about what was found odd and counted all the same, newest last.
    """

    def __init__(
        self,
        path: Path,
        witness: Path | None,
        *,
        check: Callable[[Body, bool], str],
        larger: Callable[[Body, Body], Body],
        counts: Callable[[Body], bool],
        name: str = "this ledger",
    ) -> None:
        self.places = [path] if witness is None else [witness, path]
        self.warnings: list[str] = []
        self._check, self._larger, self._counts, self._name = check, larger, counts, name
        self._seen: tuple[bytes, list[Link]] | None = None

    @property
    def is_there(self) -> bool:
        """Whether there is a file yet."""
        return any(place.exists() for place in self.places)

    def lock(self) -> AbstractContextManager[None]:
        """Other threads and processes wait."""
        for place in self.places:
            if not place.parent.exists():
                private_folder(place.parent)
        return locked(self.places[0].with_suffix(".lock"))

    def read(self) -> list[Link]:
        """Both copies as one chain that holds all of both; puts right whichever lacks something. [] without files.

        Raises:
            LedgerError: no copy is whole, or the two begin differently.
        """
        digest = self._digest()
        if self._seen is not None and self._seen[0] == digest:
            return self._seen[1]
        links = self._reconciled()
        self._seen = (self._digest(), links)
        return links

    def append(self, *bodies: Body) -> list[Link]:
        """Write these at the end of both copies."""
        links = chained(bodies, self.read())
        self._write(links)
        self._seen = (self._digest(), links)
        return links

    def _reconciled(self) -> list[Link]:
        whole: dict[Path, list[Link]] = {}
        damaged: dict[Path, LedgerError] = {}
        for place in self.places:
            try:
                if links := read_chain(place, self._check):
                    whole[place] = links
            except LedgerError as error:
                damaged[place] = error
        first_error = next(iter(damaged.values()), None)
        if not whole:
            if first_error is None:
                return []
            raise LedgerError(
                f"{first_error} No whole copy is left, so it is not known what was spent, and nothing is trained. Keep "
                f"{' and '.join(repr(str(place)) for place in damaged)}; a new room begins a new ledger."
            )
        found = list(whole.values())
        links, twice = found[0], list[str]()
        for other in found[1:]:
            if other[0].body.get("id") != links[0].body.get("id"):
                raise LedgerError(f"The two files of {self._name} belong to different ledgers.")
            links, twice = merged(links, [link.body for link in other], self._larger)
        rest = [body for place in damaged for body in salvaged(place) if self._counts(body)]
        links, _ = merged(links, rest, self._larger)
        changed = [place for place, kept in whole.items() if _lacks(kept, links, twice)]
        aside = [set_aside(place) for place in (*damaged, *changed)]
        kept_as = f" ({', '.join(path.name for path in aside)} is kept.)" if aside else ""
        if first_error is not None:
            self._warn(
                f"{first_error} The other copy is whole, and counts, with what can be read of the damaged one.{kept_as}"
            )
        if twice:
            self._warn(
                f"{len(twice)} line{'s' * (len(twice) > 1)} of {self._name} say one thing in one copy and another in "
                f"the other: somebody changed one of them. The larger spending counts.{kept_as}"
            )
        elif len(found) == len(self.places) and any(one != links for one in found) and not damaged:
            self._warn(
                "One copy of this ledger lacked entries that the other had, as after a restored backup or a copied "
                "folder. All of them count."
            )
        if damaged or len(found) < len(self.places) or any(one != links for one in found):
            self._write(links)
        return links

    def _write(self, links: list[Link]) -> None:
        for place in self.places:
            write_chain(place, links)

    def _digest(self) -> bytes:
        digest = hashlib.sha256()
        for place in self.places:
            data = place.read_bytes() if place.exists() else b""
            digest.update(len(data).to_bytes(8, "big") + data)
        return digest.digest()

    def _warn(self, sentence: str) -> None:
        if sentence not in self.warnings:
            self.warnings.append(sentence)


def _lacks(kept: list[Link], links: list[Link], twice: list[str]) -> bool:
    """Whether a copy says less than what counts, in a line that both have."""
    counts = {str(link.body["id"]): link.body for link in links}
    return any(counts[str(link.body["id"])] != link.body for link in kept if str(link.body["id"]) in twice)
