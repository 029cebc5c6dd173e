"""The strip of seeds: one small picture each; show one large, keep the good ones, and let chance change the others."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import ipywidgets

from fedart_nb.analysis.mixer import Sample
from fedart_nb.errors import FedArtError
from fedart_nb.widgets import parts

__all__ = ["SeedStrip"]

_LAST_SEED = 2**31 - 1
_ROLL_BELOW = 10_000  # short enough to be read out to a friend


class SeedStrip(ipywidgets.VBox):
    """Stock controls only, so that it works wherever ipywidgets do; `on_change` is called after each change.

    `html` makes the places for pictures.

    `seeds` are the numbers, `chosen` is the index of the picture that is shown large, `kept` are the locked ones.
    """

    def __init__(
        self, seeds: Sequence[int], *, on_change: Callable[[], None], html: Callable[[], Any] = ipywidgets.HTML
    ) -> None:
        self._on_change = on_change
        self._rolling = False
        self.chosen = 0
        self._images, self._numbers, self._shows, self._keeps = [], [], [], []
        for index, seed in enumerate(seeds):
            number = parts.field(
                ipywidgets.BoundedIntText(
                    description=f"Seed of picture {index + 1}", value=int(seed), min=0, max=_LAST_SEED
                )
            )
            number.observe(lambda _change: self._changed(), "value")
            keep = ipywidgets.Checkbox(description="", indent=False)
            keep.add_class("fedart-check")
            show = parts.button("", partial(self.show, index))
            show.add_class("fedart-small")
            self._images.append(html())
            self._numbers.append(number)
            self._shows.append(show)
            self._keeps.append(keep)
        self._tiles = [
            ipywidgets.VBox(list(tile))
            for tile in zip(self._images, self._shows, self._numbers, self._keeps, strict=True)
        ]
        for tile in self._tiles:
            tile.add_class("fedart-seed")
        strip = ipywidgets.Box(self._tiles)
        strip.add_class("fedart-seeds")
        roll = parts.button("New seeds for those not kept", self.reroll, icon="refresh")
        super().__init__([strip, parts.row(roll)])
        self.add_class("fedart-stack")
        self._name()

    @property
    def seeds(self) -> tuple[int, ...]:
        """The numbers, from left to right."""
        return tuple(number.value for number in self._numbers)

    @property
    def kept(self) -> tuple[bool, ...]:
        """Which seeds `reroll` leaves alone."""
        return tuple(keep.value for keep in self._keeps)

    def show(self, index: int) -> None:
        """Show the picture at this place large; places count from 0."""
        if not 0 <= index < len(self._numbers):
            raise FedArtError(f"There is no seed at place {index}; expected 0 to {len(self._numbers) - 1}.")
        self.chosen = index
        self._changed()

    def keep(self, index: int, kept: bool = True) -> None:
        """Lock the seed at this place, or let it go."""
        self._keeps[index].value = kept

    def reroll(self) -> None:
        """Give every seed that is not kept a new number, by chance."""
        self._rolling = True
        try:
            for number, kept in zip(self._numbers, self.kept, strict=True):
                if not kept:
                    number.value = secrets.choice([seed for seed in range(1, _ROLL_BELOW) if seed not in self.seeds])
        finally:
            self._rolling = False
        self._changed()

    def paint(self, index: int, sample: Sample | None, alt: str, note: str) -> None:
        """Put a thumbnail into one place; None leaves it empty."""
        blank = '<div class="fedart-blank">not drawn yet</div>'
        html = parts.picture(sample.thumbnail_png, alt, caption=note) if sample else blank
        if self._images[index].value != html:
            self._images[index].value = html

    def _changed(self) -> None:
        if not self._rolling:
            self._name()
            self._on_change()

    def _name(self) -> None:
        """Every control says which seed it belongs to, so that they can be told apart by ear."""
        for index, seed in enumerate(self.seeds):
            shown = index == self.chosen
            self._shows[index].description = f"✓ Showing seed {seed}" if shown else f"Show seed {seed}"
            self._keeps[index].description = f"Keep seed {seed}"
            (self._tiles[index].add_class if shown else self._tiles[index].remove_class)("fedart-raised")
