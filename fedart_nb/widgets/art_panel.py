"""The panel where an artist chooses pictures, looks at them, and says of each whether it takes part."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets

from fedart_nb._system import settings
from fedart_nb.art import ArtSet, Problem
from fedart_nb.art.sources import path_of
from fedart_nb.errors import ArtError
from fedart_nb.events import Note
from fedart_nb.jobs import Job
from fedart_nb.widgets import parts
from fedart_nb.widgets.adding import ADD, REPLACE, check_sample, is_own, outcome
from fedart_nb.widgets.panel import Panel, close_tree
from fedart_nb.widgets.remarks import remarks_table, remarks_title
from fedart_nb.widgets.upload import Upload

__all__ = ["ArtPanel"]

_PAGE = 24
_LICENCES = {"CC-PDDC": "public domain (CC-PDDC)", "CC0-1.0": "public domain dedication (CC0 1.0)"}
_STATIC_TILES = 12


class ArtPanel(Panel):
    """Choose sample art, a folder, or files; include or leave out each picture; sets `session.art`.

    `value` is the tuple of the included pictures' ids.

    Example:
        >>> panel = ArtPanel(session)
        >>> panel.load_sample("openmoji").include(panel.value[0], False)
    """

    title = "Your art"
    lead = "Choose the pictures that the model may learn from. Only what you include is ever read by training."
    holds_own = True

    def __init__(self, session: Any, *, size_px: int = 128, limit: int = 2000, page: int = _PAGE) -> None:
        super().__init__(session)
        self.session = session
        self._size_px, self._limit, self._page_size = size_px, limit, page
        self._page = 0
        self._tiles: dict[str, tuple[Any, Any]] = {}
        self._ignore_ticks = False
        self._build()
        if session.art is not None:
            self._show_art()

    # the buttons' methods

    def load_sample(self, name: str | None = None, *, replace: bool | None = None) -> ArtPanel:
        """Load a set of the sample art that comes with the package (default: the one chosen in the panel).

        Own pictures give way to it only with `replace=True`, or where the panel says so.
        """
        self._start_sample(name, replace).wait()
        return self

    def load_folder(self, path: str | Path | None = None, *, replace: bool | None = None) -> ArtPanel:
        """Load the pictures of a folder on the kernel's machine (default: the path typed into the panel).

        They are added to own pictures that are loaded, each once; `replace=True` takes them instead.
        """
        self._start_folder(path, replace).wait()
        return self

    def load_files(self, files: Iterable[str | Path | tuple[str, bytes]], *, replace: bool | None = None) -> ArtPanel:
        """Load files, paths or (name, bytes) pairs, in the way of `load_folder`; captions may come alone."""
        self._start_files(list(files), replace).wait()
        return self

    def remove_pictures(self, pictures: Iterable[str]) -> ArtPanel:
        """Take pictures, by their ids, out of the set; the files stay where they are."""
        with self._reporting():
            art = self._art().without(pictures)
            self._set_art(art if len(art) else None)
        return self

    def remove_left_out(self) -> ArtPanel:
        """Take the pictures that are left out of training out of the set."""
        return self.remove_pictures([picture.id for picture in self._art().pictures if not picture.included])

    def remove_all(self) -> ArtPanel:
        """Take all pictures out of the set."""
        return self.remove_pictures([picture.id for picture in self._art().pictures])

    def include(self, picture: str, included: bool = True) -> ArtPanel:
        """Let the picture with this id take part, or leave it out from now on."""
        with self._reporting():
            self._art().include(picture, included)
            self._mark(picture, included)
            self._count()
        return self

    def include_all(self, included: bool = True) -> ArtPanel:
        """Let every picture take part, or none."""
        with self._reporting():
            art = self._art()
            art.restore_consent(() if included else [picture.id for picture in art.pictures])
            for picture_id in self._tiles:
                self._mark(picture_id, included)
            self._count()
        return self

    def show_page(self, number: int) -> ArtPanel:
        """Show another page of the gallery, counted from 1."""
        self._page = min(max(1, number), self._pages) - 1
        self._show_gallery()
        return self

    # construction

    def _build(self) -> None:
        place, shared = settings.kernel_location()
        where = ipywidgets.HTML(_where(place, shared))
        samples = ArtSet.samples()
        self._sample_options = [
            (f"{info.title}, by {info.artist} ({info.count} pictures)", name) for name, info in samples.items()
        ]
        self._sample = parts.field(
            ipywidgets.Dropdown(description="Sample art", options=self._sample_options), grow=True
        )
        self._how = ipywidgets.RadioButtons(
            description="When you choose more",
            options=[("Add them to the pictures below", ADD), ("Replace the pictures below", REPLACE)],
        )
        parts.field(self._how)
        self._how.layout.display = "none"
        self._folder = parts.field(
            ipywidgets.Text(description="Folder on the kernel's machine", placeholder="/home/me/drawings"), grow=True
        )
        self._folder.continuous_update = False
        self._upload = Upload(
            on_files=self._take_files,
            on_problem=self._show_error,
            max_px=4 * self._size_px,
            help=(
                "Choose files, or drop files or a folder here; captions (.txt, .csv, .jsonl) may be among them. "
                f"Pictures are shrunk to {4 * self._size_px} pixels and lose their metadata before they leave the "
                "browser; kinds that it cannot read, such as TIFF and HEIC, go to the kernel as they are. For more "
                "than a few hundred, a folder path is quicker."
            ),
        )
        self._sample_button = self._button("Load sample", lambda: self._start_sample(None, None), style="primary")
        self._folder_button = self._button("Load folder", lambda: self._start_folder(None, None), icon="folder-open")
        self._licence = ipywidgets.HTML()
        self._sample.observe(lambda _change: self._show_licence(samples), "value")
        self._progress = ipywidgets.HTML()
        self._counted = ipywidgets.HTML()
        self._all_button = self._button("Include all", lambda: self.include_all(True))
        self._none_button = self._button("Leave all out", lambda: self.include_all(False))
        self._previous = self._button("Previous", lambda: self.show_page(self._page), icon="chevron-left")
        self._next = self._button("Next", lambda: self.show_page(self._page + 2), icon="chevron-right")
        self._drop_button = self._button("Remove those left out", self.remove_left_out)
        self._empty_button = self._button("Remove all", self.remove_all)
        for control in (self._drop_button, self._empty_button):
            control.tooltip = "Out of this set; the files stay where they are"
        small_ones = (self._all_button, self._none_button, self._drop_button, self._empty_button)
        for small in (*small_ones, self._previous, self._next):
            small.add_class("fedart-small")
        self._page_text = ipywidgets.HTML()
        self._page_text.layout.width = "auto"
        self._gallery = ipywidgets.Box()
        self._gallery.add_class("fedart-gallery")
        self._problems = self._unsaved_html()
        self._paging = parts.row(self._previous, self._page_text, self._next)
        self._paging.add_class("fedart-centred")
        self._outcome = ipywidgets.HTML()
        bar = parts.row(self._counted, *small_ones)
        bar.add_class("fedart-centred")
        self._chosen = parts.card(self._outcome, bar, self._problems, self._gallery, self._paging)
        self._chosen.layout.display = "none"
        choose = parts.card(
            parts.row(self._sample, self._sample_button),
            self._licence,
            parts.row(self._folder, self._folder_button),
            self._upload,
            self._how,
            title="Choose pictures",
        )
        self._show_licence(samples)
        self._compose(where, choose, self._progress, self._chosen)

    # loading

    def _start_sample(self, name: str | None, replace: bool | None) -> Job:
        with self._reporting():
            name = name or self._sample.value
            if not name:
                raise ArtError("No sample art is chosen. Choose one in the list.")
            check_sample(self.session.art, self._chosen_way(replace))
        return self._load(f"the sample art {name!r}", lambda: ArtSet.sample(name, size_px=self._size_px))

    def _start_folder(self, path: str | Path | None, replace: bool | None) -> Job:
        with self._reporting():
            text = str(path or self._folder.value).strip()
            if not text:
                raise ArtError("The folder path is empty. Type where your pictures lie, such as /home/me/drawings.")
            folder = path_of(text)
        art = self._added_to(replace)
        if art is not None:
            return self._load(f"the folder {text!r}", lambda: art.with_folder(folder, limit=self._limit))
        return self._load(
            f"the folder {text!r}", lambda: ArtSet.from_folder(folder, size_px=self._size_px, limit=self._limit)
        )

    def _start_files(self, files: list[Any], replace: bool | None) -> Job:
        count = sum(not isinstance(file, Problem) for file in files)
        many = f"{count} file{'s' if count != 1 else ''}"
        art = self._added_to(replace)
        if art is not None:
            return self._load(many, lambda: art.with_files(files, limit=self._limit))
        return self._load(many, lambda: ArtSet.from_files(files, size_px=self._size_px, limit=self._limit))

    def _take_files(self, files: list[Any]) -> None:
        with suppress(Exception), self._reporting():  # a message of the browser is the boundary; the error is shown
            self._start_files(files, None)

    def _chosen_way(self, replace: bool | None) -> str:
        return self._how.value if replace is None else REPLACE if replace else ADD

    def _added_to(self, replace: bool | None) -> Any:
        """The art to which pictures are added; None where they are a set of their own."""
        art = self.session.art
        return art if is_own(art) and self._chosen_way(replace) == ADD else None

    def _load(self, what: str, make: Callable[[], Any]) -> Job:
        def events() -> Iterator[Note]:
            yield Note(f"Reading {what}")
            self._loaded = make()
            yield Note(f"{len(self._loaded)} pictures read")

        with self._reporting():
            return self._begin(f"reading {what}", events(), on_event=self._show_reading, on_end=self._take)

    def _show_reading(self, note: Note) -> None:
        self._progress.value = parts.progress(note.text, None, 1, "Large folders take a moment.")
        self._say(note.text)

    def _take(self, job: Job) -> None:
        self._progress.value = ""
        if job.state == "done":
            told = outcome(self.session.art, self._loaded)
            self._how.value = ADD
            self._set_art(self._loaded, told)

    def _set_art(self, art: Any, told: str = "") -> None:
        self.session.art = art
        if self._keeping is not None:
            self._keeping.renew()
        self._show_art(told)

    # what is shown

    def _show_art(self, told: str = "") -> None:
        art = self.session.art
        self._page = 0
        own = is_own(art)
        with self._lock:
            self._chosen.layout.display = "none" if art is None else ""
            self._how.layout.display = "" if own else "none"
            self._outcome.value = parts.notice("", level="success", title=told, role="status") if told else ""
            self._problems.value = "" if art is None else remarks_table(art.problems)
            self._show_sample(art, own)
        if art is None:
            self._empty()
            return
        self._show_gallery()
        self._count()
        self._say(self._counted_text(), now=True)

    def _show_sample(self, art: Any, own: bool) -> None:
        """The list of sample art shows the one that is loaded, or that it is none of them."""
        names = [name for _, name in self._sample_options]
        mine = [(f"None: {len(art)} of your own pictures are loaded", "")] if own else []
        value = "" if own else art.name if art is not None and art.name in names else self._sample.value or names[0]
        if self._sample.options != (*mine, *self._sample_options):
            self._sample.options = (*mine, *self._sample_options)
        self._sample.value = value

    def _empty(self) -> None:
        for tile in self._gallery.children:
            close_tree(tile)
        self._gallery.children = ()
        self._tiles = {}
        self.value = ()
        self._say("No picture is loaded.", now=True)
        self._sync()

    def _show_gallery(self) -> None:
        art = self._art()
        with self._lock:
            earlier = self._gallery.children
            start = self._page * self._page_size
            page = art.pictures[start : start + self._page_size]
            tiles = {p.id: self._tile(art, p, number) for number, p in enumerate(page, start=start + 1)}
            self._tiles = tiles
            self._gallery.children = [tile for tile, _ in tiles.values()]
            for tile in earlier:
                close_tree(tile)
            self._paging.layout.display = "" if self._pages > 1 else "none"
            self._page_text.value = f"<span>Page {self._page + 1} of {self._pages}</span>"
        self._sync()

    def _tile(self, art: Any, picture: Any, number: int) -> tuple[Any, Any]:
        tick = ipywidgets.Checkbox(value=picture.included, description=f"Picture {number}", indent=False)
        alt = picture.caption[:200] or f"picture {picture.name}"
        shown = self._unsaved_html()
        shown.value = parts.picture(
            art.thumbnail_png(picture.id, 96), alt, caption=picture.caption[:80] or "no caption"
        )
        tile = ipywidgets.VBox([shown, tick])
        tile.add_class("fedart-tile")
        if not picture.included:
            tile.add_class("fedart-out")
        tick.observe(lambda change, chosen=picture.id: self._ticked(chosen, change["new"]), "value")
        return tile, tick

    def _ticked(self, picture: str, included: bool) -> None:
        if not self._ignore_ticks:
            self._art().include(picture, included)
            self._mark(picture, included)
            self._count()

    def _mark(self, picture: str, included: bool) -> None:
        if picture not in self._tiles:
            return
        tile, tick = self._tiles[picture]
        with self._lock:
            (tile.remove_class if included else tile.add_class)("fedart-out")
            self._ignore_ticks = True
            try:
                tick.value = included
            finally:
                self._ignore_ticks = False

    def _count(self) -> None:
        with self._lock:
            self._counted.value = f'<div class="fedart-count">{escape(self._looked_at())}</div>'
        self.value = tuple(picture.id for picture in self._art().pictures if picture.included)
        self._say(self._counted_text())
        self._sync()

    def _counted_text(self) -> str:
        art = self._art()
        included = sum(picture.included for picture in art.pictures)
        held = sum(picture.included and picture.split == "test" for picture in art.pictures)
        text = f"{included} of {len(art.pictures)} pictures included"
        return f"{text}, {held} of them held out to test with" if held else text

    def _looked_at(self) -> str:
        title = remarks_title(self._art().problems)
        return f"{self._counted_text()}; {title}" if title else self._counted_text()

    def _show_licence(self, samples: dict[str, Any]) -> None:
        info = samples.get(self._sample.value)
        self._licence.value = ""
        if info is not None:
            share = "; what you make of it must be shared under the same licence" if info.share_alike else ""
            licence = _LICENCES.get(info.licence, info.licence)
            self._licence.value = f'<p class="fedart-lead">{escape(f"Licence: {licence}{share}.")}</p>'

    def _art(self) -> Any:
        if self.session.art is None:
            raise ArtError("No pictures are loaded yet. Load sample art, a folder or files first.")
        return self.session.art

    @property
    def _pages(self) -> int:
        return max(1, -(-len(self._art().pictures) // self._page_size))

    def _sync(self) -> None:
        busy, has_art = self.is_busy, self.session.art is not None
        with self._lock:
            for control in (
                *(self._sample, self._sample_button, self._folder, self._folder_button, self._upload, self._how),
            ):
                control.disabled = busy
            for control in (self._all_button, self._none_button, *(tick for _, tick in self._tiles.values())):
                control.disabled = busy
            self._empty_button.disabled = busy
            self._drop_button.disabled = busy or not has_art or all(p.included for p in self.session.art.pictures)
            self._previous.disabled = not has_art or self._page == 0
            self._next.disabled = not has_art or self._page + 1 >= self._pages

    def _summary(self) -> list[tuple[str, str]]:
        if self.session.art is None:
            return [("pictures", "none chosen yet")]
        name = self.session.art.name if self.keeps_own else "your own"
        return [("art set", name), ("pictures", self._counted_text())]

    def _static_own(self) -> str:
        if self.session.art is None:
            return ""
        chosen = [picture for picture in self.session.art.pictures if picture.included][:_STATIC_TILES]
        images = (parts.picture(self.session.art.thumbnail_png(p.id, 64), p.caption[:200], size_px=64) for p in chosen)
        return f'<div style="display:flex;flex-wrap:wrap;gap:6px">{"".join(images)}</div>'


def _where(place: str, shared: bool) -> str:
    if shared:
        return parts.notice(
            f"This notebook's kernel runs on {place}. Other people operate that machine.",
            level="warning",
            title="Where your pictures would go",
        )
    return parts.notice(
        f"This notebook's kernel runs on {place}. Pictures that you load here stay here: no picture is ever sent to "
        "the relay, the host or another artist.",
        title="Where your pictures stay",
    )
