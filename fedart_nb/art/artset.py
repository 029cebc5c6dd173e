"""An art set: pictures with captions, a train/test split, and the artist's consent for each one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from fedart_nb.art.collecting import Collected, Picture, content_hash
from fedart_nb.art.loading import of_files, of_folder
from fedart_nb.art.merging import merged
from fedart_nb.art.reading import png_of
from fedart_nb.art.samples import SampleInfo, sample_folder, sample_infos
from fedart_nb.art.splits import divided
from fedart_nb.errors import ArtError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from fedart_nb.art.handed import Handed
    from fedart_nb.art.problems import Problem

__all__ = ["ArtSet"]


class ArtSet:
    """Pictures of one artist, decoded to `size_px` and kept in memory (2,000 at 128 px take 98 MB).

    Make one with `from_folder`, `from_files` or `sample`; `with_folder` and `with_files` give a set with more pictures.
    What could not be used, or not as it was, is in `problems`, never fatal; `report()` is the same as text.
    Consent is per picture: `include(id, False)` withholds one, and from then on `pixels` refuses to hand it out.
    `revision` grows with every change of consent or split, so that a cache of latents knows when it is stale.
    """

    def __init__(
        self,
        name: str,
        *,
        size_px: int,
        pictures: Iterable[tuple[Picture, NDArray[np.uint8]]],
        problems: Iterable[Problem] = (),
        fixed_splits: Iterable[str] = (),
    ) -> None:
        self.name = name
        self.is_sample = False  # art that ships with the package; only `sample` says so
        self.size_px = size_px
        self.revision = 0
        self._test_fraction = 0.2
        self._pictures: dict[str, Picture] = {}
        self._pixels: dict[str, NDArray[np.uint8]] = {}
        for picture, pixels in pictures:
            self._pictures[picture.id] = picture if picture.sha256 else replace(picture, sha256=content_hash(pixels))
            self._pixels[picture.id] = pixels
        self._excluded = {picture.id for picture in self._pictures.values() if not picture.included}
        self._problems = tuple(problems)
        self._fixed_splits = frozenset(fixed_splits)  # ids whose split the metadata gave

    @classmethod
    def from_folder(
        cls, path: str | os.PathLike[str], *, size_px: int = 128, limit: int = 2000, name: str | None = None
    ) -> ArtSet:
        """Read the pictures of a folder and of the folders in it, with their captions.

        Captions come from a table (metadata.csv, metadata.jsonl and their like) or a text beside the picture, else from
        its name. Folders named train and test are the two sides of the split. Of more than `limit` pictures, `limit`
        evenly spaced ones (in the order of names) are taken, and a problem says how many were left out.

        Raises:
            ArtError: there is no such folder, or no usable picture in it.

            >>> art = ArtSet.from_folder("~/drawings")
        """
        title, found = of_folder(path, size_px=size_px, limit=limit, name=name)
        return cls._built(title, found, size_px)

    @classmethod
    def from_files(
        cls, files: Iterable[Handed] | Handed, *, size_px: int = 128, limit: int = 2000, name: str = "uploaded"
    ) -> ArtSet:
        """Read paths, (name, bytes) pairs, or what an upload widget gives; tables and texts may be among them.

        >>> art = ArtSet.from_files([("maple-leaf.png", data), ("maple-leaf.txt", b"a red maple leaf")])
        """
        return cls._built(name, of_files(files, name=name, size_px=size_px, limit=limit), size_px)

    def with_folder(self, path: str | os.PathLike[str], *, limit: int = 2000) -> ArtSet:
        """A set with these pictures and those of a folder, each once; see `with_files`."""
        before = [picture.name for picture in self.pictures]
        _, found = of_folder(path, size_px=self.size_px, limit=limit, here_before=before)
        return self._with(found)

    def with_files(self, files: Iterable[Handed] | Handed, *, limit: int = 2000) -> ArtSet:
        """A set with these pictures and those in the files, each once; this set stays as it is.

        A picture that is here already (the same pixels) keeps its place and the artist's consent; a caption that comes
        with it in a table or text replaces its former one. Captions may come alone: `with_files(["metadata.csv"])`.
        """
        before = [picture.name for picture in self.pictures]
        found = of_files(files, name=self.name, size_px=self.size_px, limit=limit, here_before=before)
        return self._with(found)

    @classmethod
    def sample(cls, name: str, limit: int | None = None, *, size_px: int = 128) -> ArtSet:
        """Art that ships with the package, by the names in `samples()`; `limit` takes evenly spaced ones.

        >>> len(ArtSet.sample("openmoji", limit=24))
        24
        """
        with sample_folder(name) as folder:
            art = cls.from_folder(folder, size_px=size_px, limit=2000 if limit is None else limit, name=name)
        art.is_sample = True
        return art

    @staticmethod
    def samples() -> dict[str, SampleInfo]:
        """The art that ships with the package: name -> what it looks like, by whom, licence, how many."""
        return sample_infos()

    @classmethod
    def _built(cls, name: str, collected: Collected, size_px: int) -> ArtSet:
        art = cls(
            name,
            size_px=size_px,
            pictures=collected.pictures,
            problems=collected.problems,
            fixed_splits=collected.fixed_splits,
        )
        art.split()
        art.revision = 0
        return art

    def without(self, picture_ids: Iterable[str]) -> ArtSet:
        """A set without these pictures; the files on disk stay where they are. This set stays as it is.

        Their remarks go with them. An id that the artist withholds stays withheld, should the picture come back.
        """
        gone = {self._known(key).id for key in picture_ids}
        names = {self._pictures[key].name for key in gone}
        art = ArtSet(
            self.name,
            size_px=self.size_px,
            pictures=[(picture, self._pixels[picture.id]) for picture in self.pictures if picture.id not in gone],
            problems=[problem for problem in self.problems if problem.file not in names],
            fixed_splits=self._fixed_splits - gone,
        )
        art.restore_consent(self._excluded)
        art._divide(self._test_fraction, stay=self._pictures)
        art.is_sample = self.is_sample
        return art

    def _with(self, found: Collected) -> ArtSet:
        merge = merged(self.pictures, self.problems, found)
        art = ArtSet(
            self.name,
            size_px=self.size_px,
            pictures=[*((picture, self._pixels[picture.id]) for picture in merge.kept), *merge.added],
            problems=merge.problems,
            fixed_splits=self._fixed_splits | merge.fixed_splits,
        )
        art.restore_consent(self._excluded)
        art._divide(self._test_fraction, stay=self._pictures)
        art.is_sample = self.is_sample and not merge.added and merge.kept == self.pictures
        return art

    def __len__(self) -> int:
        return len(self._pictures)

    def __iter__(self) -> Iterator[Picture]:
        return iter(self.pictures)

    def __repr__(self) -> str:
        withheld = len(self._pictures) - len(self.included())
        note = f", {withheld} excluded" if withheld else ""
        return f"ArtSet({self.name!r}, {len(self)} pictures{note}, {self.size_px} px)"

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """All pictures, included and excluded, in the order of names."""
        return tuple(self._pictures.values())

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What could not be used, or not as it was."""
        return self._problems

    def report(self) -> str:
        """What was read and what the artist should look at: each file, its rows, what was found, and what to do."""
        count = len(self.problems)
        head = f"{len(self)} pictures in {self.name!r}, {len(self.included())} included"
        if not count:
            return f"{head}. Nothing to look at."
        lines = "".join(f"\n- {problem}" for problem in self.problems)
        return f"{head}. {count} thing{'s' if count > 1 else ''} to look at:{lines}"

    @property
    def excluded_ids(self) -> tuple[str, ...]:
        """Ids that the artist withholds, sorted: what a session saves. `restore_consent` takes it back."""
        return tuple(sorted(self._excluded))

    def include(self, picture_id: str, included: bool = True) -> None:
        """Give (True) or withhold (False) one picture; raises `ArtError` for an id that is not in this set."""
        self._known(picture_id)
        if included:
            self.restore_consent(self._excluded - {picture_id})
        else:
            self.restore_consent(self._excluded | {picture_id})

    def restore_consent(self, excluded_ids: Iterable[str]) -> None:
        """Withhold exactly these ids; one that is not here is remembered, so a picture that returns stays withheld."""
        excluded = set(excluded_ids)
        if excluded == self._excluded:
            return
        self._excluded = excluded
        self._pictures = {key: replace(p, included=key not in excluded) for key, p in self._pictures.items()}
        self.revision += 1

    def included(self, split: str | None = None) -> tuple[Picture, ...]:
        """The pictures that may be used, all of them or those of one split ("train" or "test")."""
        if split not in {None, "train", "test"}:
            message = f'There is no split {split!r}; choose "train", "test" or None for both.'
            raise ArtError(message)
        return tuple(p for p in self.pictures if p.included and split in (None, p.split))

    def split(self, test_fraction: float = 0.2) -> tuple[tuple[Picture, ...], tuple[Picture, ...]]:
        """Divide the set again and return the included (train, test) pictures.

        A split that the metadata gave stays. The others fall by their id, so the same picture falls on the same side
        everywhere. From 5 pictures on at least one is "test"; below 5 all are "train"; one is always "train".
        """
        if not 0 <= test_fraction < 1:
            message = f"test_fraction is {test_fraction}; choose at least 0 and less than 1."
            raise ArtError(message)
        self._divide(test_fraction)
        return self.included("train"), self.included("test")

    def _divide(self, test_fraction: float, *, stay: Iterable[str] = ()) -> None:
        """Ids in `stay` keep the side that they have, so that no picture is trained on and tested with in turn."""
        before = self._pictures
        self._test_fraction = test_fraction
        fixed = {key: before[key].split for key in (*self._fixed_splits, *stay) if key in before}
        sides = divided(before, fixed, test_fraction)
        after = {key: replace(picture, split=sides[key]) for key, picture in before.items()}
        if after != before:
            self._pictures = after
            self.revision += 1

    def pixels(self, pictures: Iterable[str | Picture]) -> NDArray[np.uint8]:
        """Pixels of ids or pictures, uint8 (n, size_px, size_px, 3), a copy, in the order given.

        Raises `ArtError` for an excluded picture: this is the only way to the pixels, so training never reads one.
        """
        ids = [p if isinstance(p, str) else p.id for p in pictures]
        for key in ids:
            picture = self._known(key)
            if key in self._excluded:
                message = (
                    f"{picture.name!r} ({key}) is excluded by its artist and is not read; "
                    f"ask for art.included(), or give it with art.include({key!r})."
                )
                raise ArtError(message)
        if not ids:
            return np.zeros((0, self.size_px, self.size_px, 3), dtype=np.uint8)
        return np.stack([self._pixels[key] for key in ids])

    def thumbnail_png(self, picture_id: str, size_px: int = 64) -> bytes:
        """A small PNG for the artist's own eyes: of excluded pictures, too."""
        self._known(picture_id)
        return png_of(self._pixels[picture_id], size_px=size_px)

    def _known(self, picture_id: str) -> Picture:
        try:
            return self._pictures[picture_id]
        except KeyError:
            message = f"There is no picture {picture_id!r} in {self!r}; ids are in art.pictures."
            raise ArtError(message) from None
