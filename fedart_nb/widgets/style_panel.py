"""The panel that mixes the shared and the personal adapter: sliders that answer at once, pictures that become exact."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets
import numpy as np

from fedart_nb._system import settings
from fedart_nb._system.files import folder_name
from fedart_nb.analysis.mixer import MAX_WEIGHT, Mixer, Sample, neighbours
from fedart_nb.art.provenance import Recipe, save_picture
from fedart_nb.errors import ArtError, FedArtError
from fedart_nb.events import Note, SampleStep
from fedart_nb.jobs import Job
from fedart_nb.widgets import parts
from fedart_nb.widgets.panel import Panel
from fedart_nb.widgets.seed_strip import SeedStrip
from fedart_nb.widgets.weight import Weight
from fedart_nb.widgets.wipe import PlainWipe, Wipe

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fedart_nb.session import Session

__all__ = ["StyleMix", "StylePanel"]

_FAST_STEPS, _FAST_AHEAD = 4, 4
_AHEAD = 64  # pictures: the two lines of the grid and its diagonals, for four seeds
_WEIGHT_STEP = 0.05
_BREATH_S = 0.05  # between two pictures drawn ahead, others may take the backbone
_BACKBONE, _SHARED = "backbone", "shared"


@dataclass(frozen=True)
class StyleMix:
    """Exact pictures of one mix, uint8 (n, height, width, 3), one a seed, and what they are compared with.

    `before` is the left side of the wipe for the seed at index `chosen`, uint8 (height, width, 3).
    """

    recipes: tuple[Recipe, ...]
    chosen: int
    before_recipe: Recipe
    pictures: NDArray[np.uint8] = field(repr=False, compare=False)
    before: NDArray[np.uint8] = field(repr=False, compare=False)

    @property
    def shared(self) -> float:
        """Weight of the shared adapter; 0 where the session has none."""
        return self.recipes[0].shared

    @property
    def personal(self) -> float:
        """Weight of the personal adapter; 0 where the session has none."""
        return self.recipes[0].personal


class StylePanel(Panel):
    """Mix the session's shared and personal adapter, and see at once what each does to your pictures.

    A slider shows the nearest mix that is drawn already, says so, and has the exact one drawn; while nothing else is
    to be done, neighbouring mixes are drawn ahead. `value` is the last exact `StyleMix`, or None. Works without a front
    end: `start()`, `set_weights()`, `wait()`, `save()`.

    Args:
        session: whose adapters are mixed; pictures stay in this kernel.
        prompt: what to draw.
        seeds: one picture each.
        shared, personal: weights to begin with, 0 to 1.5.
        steps, guidance: as in `session.pictures`.
        anchored: whether to begin with "Keep to the words" on, where the backbone has it (`session.pictures`).
        limit_bytes: memory for pictures that are drawn; the least recently used go first.
        ahead: at most so many neighbouring pictures are drawn ahead; 0 for none.
        plain_controls: stock controls only, for pages that show no custom widgets.

    Example:
        >>> panel = StylePanel(session, "a red fox")
        >>> panel.start()
        >>> panel.wait().pictures.shape
        (4, 128, 128, 3)
        >>> panel.set_weights(personal=0.5).wait().personal
        0.5
        >>> panel.save("fox.png")
    """

    title = "Mix your style"
    lead = "How much of the room, how much of you? Both adapters and all pictures stay in this kernel."
    holds_own = True

    def __init__(
        self,
        session: Session,
        prompt: str = "cat",
        *,
        seeds: Sequence[int] = (1, 2, 3, 4),
        shared: float = 1.0,
        personal: float = 1.0,
        steps: int | None = None,
        guidance: float | None = None,
        anchored: bool = True,
        limit_bytes: int = 64 * 2**20,
        ahead: int | None = None,
        plain_controls: bool = False,
    ) -> None:
        super().__init__(session)
        if not 1 <= len(seeds) <= 12:
            raise FedArtError(f"{len(seeds)} seeds were given; expected 1 to 12.")
        fast = settings.fast_mode()
        self.session = session
        steps = steps or (_FAST_STEPS if fast else None)
        self._mixer = Mixer(session, steps=steps, guidance=guidance, anchored=anchored, limit_bytes=limit_bytes)
        self._ahead = ahead if ahead is not None else (_FAST_AHEAD if fast else _AHEAD)
        self._ahead_job: Job | None = None
        self._asked = False  # somebody wants pictures: what is missing is drawn whenever the session is free
        self._shown: Sample | None = None  # large on the right
        self._step: SampleStep | None = None
        self._read: str | None = None  # the prompt whose words are explained
        self._build(prompt, seeds, _checked(shared), _checked(personal), plain_controls)

    # the buttons' methods

    def start(self) -> Job:
        """Draw the mix that the controls say; returns the running job, which can be awaited."""
        with self._reporting():
            self._check()
            self._asked = True
            job = self.job
            if self._is_drawing and job is not None:
                return job  # it notices what has changed
            return self._draw()

    def cancel(self) -> None:
        """Stop drawing; what is drawn is kept, and nothing more is drawn until a control moves or `start()`."""
        self._asked = False
        if self._ahead_job is not None:
            self._ahead_job.cancel()
        super().cancel()

    def wait(self, timeout_s: float | None = None) -> StyleMix | None:
        """Block until the exact pictures are there (pictures drawn ahead are not waited for); returns `value`."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            job = self.job
            super().wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
            if self.job is job:  # no follow-up was started for a control that had moved meanwhile
                return self.value

    def set_weights(self, *, shared: float | None = None, personal: float | None = None) -> StylePanel:
        """Move the sliders, as a person does: the nearest mix is shown, the exact one is drawn."""
        with self._reporting():
            for control, weight in ((self._shared, shared), (self._personal, personal)):
                if weight is not None:
                    control.value = _checked(weight)
        return self

    def show(self, index: int) -> StylePanel:
        """Show the picture of the seed at this place large; places count from 0."""
        self._strip.show(index)
        return self

    def keep(self, index: int, kept: bool = True) -> StylePanel:
        """Lock the seed at this place, so that `reroll` leaves it alone."""
        self._strip.keep(index, kept)
        return self

    def reroll(self) -> StylePanel:
        """Give every seed that is not kept a new number, by chance."""
        self._strip.reroll()
        return self

    def save(self, path: str | Path | None = None) -> Path:
        """Save the picture that is shown large as a new PNG file with its recipe; `read_recipe(path)` reads that back.

        Without a path, and with none typed into the panel, the file is named after prompt and seed. What is written is
        what is shown: the nearest mix until the exact one is there.
        """
        with self._reporting():
            if self._shown is None:
                raise ArtError("Nothing is drawn yet, so there is nothing to save. Press Draw first.")
            recipe = replace(self._shown.recipe, artist=self._artist.value.strip()[:200])
            target = _target(path or self._file.value.strip(), recipe)
            save_picture(target, self._shown.picture, recipe)
            text = f"{target}: {_mix(recipe)}, seed {recipe.seed}. The recipe with the prompt is inside the file."
            with self._lock:
                self._saved.value = parts.notice(text, level="success", title="Saved")
            self._clear_error()
            self._say(f"Saved as {target}", now=True)
            return target

    # construction

    def _build(self, prompt: str, seeds: Sequence[int], shared: float, personal: float, plain: bool) -> None:
        self._prompt = parts.field(ipywidgets.Text(description="What to draw", value=prompt), grow=True)
        self._prompt.continuous_update = False
        self._start = self._button("Draw", self.start, icon="paint-brush", style="primary")
        self._cancel = self._button("Stop", self.cancel, icon="stop", style="danger")
        self._words = ipywidgets.HTML()
        self._wipe = PlainWipe(self._unsaved_html()) if plain else Wipe()
        self._shared = _slider("Shared adapter", shared, plain)
        self._personal = _slider("Personal adapter", personal, plain)
        self._base = parts.field(
            ipywidgets.RadioButtons(
                description="Compare with",
                options=[("Backbone alone", _BACKBONE), ("Shared adapter only", _SHARED)],
                value=_BACKBONE,
            )
        )
        self._anchored = ipywidgets.Checkbox(
            description="Keep to the words (slower)", value=self._mixer.anchored, indent=False
        )
        self._anchored.tooltip = "The backbone says what is drawn, your adapters how. Off: the adapters alone."
        self._missing_note = ipywidgets.HTML()
        self._note = ipywidgets.HTML()
        self._strip = SeedStrip(seeds, on_change=self._wished, html=self._unsaved_html)
        self._file = parts.field(ipywidgets.Text(description="File (empty: named after the prompt)"), grow=True)
        self._artist = parts.field(ipywidgets.Text(description="Signed by (optional)"))
        self._save = self._button("Save picture", self.save, icon="download")
        self._saved = ipywidgets.HTML()
        for control in (self._prompt, self._shared, self._personal, self._base, self._anchored):
            control.observe(lambda _change: self._wished(), "value")
        sliders = ipywidgets.VBox(
            [self._missing_note, self._shared, self._personal, self._anchored, self._base, self._note]
        )
        sliders.add_class("fedart-mix-controls")
        picture = ipywidgets.Box([self._wipe])
        picture.add_class("fedart-mix-picture")
        both = ipywidgets.HBox([picture, sliders])
        both.add_class("fedart-mix")
        self._compose(
            parts.card(parts.row(self._prompt, self._start, self._cancel), self._words, title="Prompt"),
            parts.card(both, title="Mix"),
            parts.card(self._strip, title="Seeds", lead="The same mix from other noise. Keep what you like."),
            parts.card(
                parts.row(self._file, self._artist, self._save),
                self._saved,
                title="Save the picture that is shown large",
                lead="Its recipe goes into the file: prompt, seed, weights, and the adapters' fingerprints. No name "
                "unless you sign.",
            ),
        )
        self._paint()

    # what is wanted

    def _wished(self) -> None:
        """A control has moved: show the nearest picture at once, and have the exact one drawn."""
        with suppress(Exception), self._reporting():  # a callback is a boundary; the error area has the error
            self._check()
            self._asked = True
            self._mixer.anchored = self._anchored.value
            self._paint()
            self._set_value()
            self._sync()

    def _check(self) -> None:
        if not self._prompt_text:
            raise FedArtError("The prompt is empty. Type what to draw, such as “cat”.")

    @property
    def _prompt_text(self) -> str:
        return " ".join(self._prompt.value.split())

    def _mixes(self) -> list[Recipe]:
        """The recipes of the current mix, one a seed."""
        weights = {"shared": self._shared.value, "personal": self._personal.value}
        return [self._mixer.recipe(self._prompt_text, seed, **weights) for seed in self._strip.seeds]

    def _before(self, seed: int) -> Recipe:
        """The recipe of the left side of the wipe."""
        shared = self._shared.value if self._base.value == _SHARED and self.session.shared is not None else 0.0
        return self._mixer.recipe(self._prompt_text, seed, shared=shared, personal=0.0)

    def _missing(self) -> list[Recipe]:
        """What has to be drawn before everything shown is exact: the large picture first."""
        mixes, chosen = self._mixes(), self._strip.chosen
        needed = [mixes[chosen], self._before(mixes[chosen].seed), *mixes] if self._prompt_text else []
        return [recipe for recipe in dict.fromkeys(needed) if recipe not in self._mixer]

    def _neighbours(self) -> list[Recipe]:
        """What the next move is likely to ask for: the chosen seed's neighbours, then those of the other seeds."""
        room = self._mixer.capacity - 2 * len(self._strip.seeds)
        points = neighbours(self._shared.value, self._personal.value)
        chosen = self._strip.seeds[self._strip.chosen]
        others = [seed for seed in self._strip.seeds if seed != chosen]
        text = self._prompt_text
        wanted = [self._mixer.recipe(text, chosen, shared=s, personal=p) for s, p in points]
        wanted += [self._before(seed) for seed in others]
        wanted += [self._mixer.recipe(text, seed, shared=s, personal=p) for s, p in points for seed in others]
        return list(dict.fromkeys(wanted))[: max(0, min(self._ahead, room))]

    # the work, in the jobs' threads

    @property
    def _is_drawing(self) -> bool:
        return self.is_busy and self.job is not None and not self.job.has_ended

    def _draw(self) -> Job:
        return self._begin("drawing", self._events(), on_event=self._show, on_end=self._finish)

    def _go_on(self) -> None:
        """Draw what is missing when the session is free; when nothing is, draw ahead. Never called under the lock."""
        if self._closed or not self._asked or not self._prompt_text or self.is_busy:
            return
        if not len(self._mixer) or self._missing():
            with suppress(FedArtError):  # another panel was quicker; when it is done, `_sync` comes here again
                self._draw()
        elif any(recipe not in self._mixer for recipe in self._neighbours()):
            with self._lock:
                if self._ahead_job is not None:
                    return
                self._ahead_job = Job(
                    self._events_ahead(),
                    name="drawing ahead",
                    on_event=lambda _e: self._paint(),
                    on_end=self._finish_ahead,
                )
            self._ahead_job.start()

    def _events(self) -> Iterator[Any]:
        yield Note("Loading the backbone")
        count = 2 * len(self._strip.seeds)
        if self._mixer.capacity < count:
            raise FedArtError(
                f"{count} pictures have to be held, and the memory of {self._mixer.limit_bytes:,} bytes holds "
                f"{self._mixer.capacity}. Use fewer seeds, or raise limit_bytes."
            )
        while missing := self._missing():
            yield from self._drawn(missing[0], self._missing)

    def _events_ahead(self) -> Iterator[Any]:
        pause = threading.Event()
        while not self.is_busy:
            recipe = next((recipe for recipe in self._neighbours() if recipe not in self._mixer), None)
            if recipe is None:
                return
            yield from self._drawn(recipe, lambda: [] if self.is_busy else self._neighbours())
            pause.wait(_BREATH_S)

    def _drawn(self, recipe: Recipe, wanted: Any) -> Iterator[Any]:
        """Draw one picture, unless it is no longer among the wanted ones: the latest wish wins."""
        steps = self._mixer.draw(recipe)
        try:
            for step in steps:
                yield step
                if recipe not in wanted():
                    return
        finally:
            steps.close()

    # what is shown

    def _show(self, event: Any) -> None:
        self._step = event if isinstance(event, SampleStep) else None
        self._paint()

    def _finish(self, job: Job) -> None:
        self._step = None
        self._asked = self._asked and job.state == "done"
        self._set_value()
        self._paint(drawing=False)
        self._say("The exact pictures are there." if job.state == "done" else "Drawing has stopped.", now=True)

    def _finish_ahead(self, job: Job) -> None:
        with self._lock:
            self._ahead_job = None
        if job.error is not None:
            self._asked = False
            self._show_error(job.error)
        if not self._closed:
            self._paint()
            self._sync()

    def _set_value(self) -> None:
        """Once every picture is exact, they are the value; equal recipes notify nobody again."""
        if not len(self._mixer) or not self._prompt_text:
            return
        mixes, chosen = self._mixes(), self._strip.chosen
        before = self._before(mixes[chosen].seed)
        found = [self._mixer.find(recipe) for recipe in (*mixes, before)]
        pictures = [sample.picture for sample in found if sample is not None]
        if len(pictures) == len(found):
            self.value = StyleMix(tuple(mixes), chosen, before, np.stack(pictures[:-1]), pictures[-1])

    def _paint(self, *, drawing: bool | None = None) -> None:
        """Show the nearest picture of everything, and say which weights are shown."""
        with self._lock:
            if self._closed:
                return
            known = len(self._mixer) > 0 and bool(self._prompt_text)
            seeds = self._strip.seeds
            mixes: list[Recipe | None] = [*self._mixes()] if known else [None] * len(seeds)
            for index, wish in enumerate(mixes):
                found = self._mixer.nearest(wish) if wish else None
                exact = found is not None and found.recipe == wish
                note = "" if found is None else "exact" if exact else f"≈ nearest drawn: {_short(found.recipe)}"
                self._strip.paint(index, found, _alt(found), note)
            wish = mixes[self._strip.chosen]
            self._shown = self._mixer.nearest(wish) if wish else None
            before_wish = self._before(seeds[self._strip.chosen]) if known else None
            before = self._mixer.nearest(before_wish) if before_wish else None
            before = before if before is not None and before.recipe == before_wish else None
            titles = (_mix(before.recipe) if before else "", _mix(self._shown.recipe) if self._shown else "")
            self._wipe.show(before, self._shown, titles=titles, alts=(_alt(before), _alt(self._shown)))
            note = self._note_html(wish, self._is_drawing if drawing is None else drawing)
            if self._note.value != note:
                self._note.value = note
            self._show_words()

    def _note_html(self, wish: Recipe | None, drawing: bool) -> str:
        if self._shown is None or wish is None:
            lines = [parts.badge("Nothing drawn yet", sign="○")]
            text = "" if drawing else "Press Draw."
        elif self._shown.recipe == wish:
            lines = [parts.badge("Exact", level="success", sign="✓")]
            text = f"Shown: {_mix(wish)}."
        else:
            lines = [parts.badge("Nearest drawn", level="warning", sign="≈")]
            text = f"Shown: {_mix(self._shown.recipe)}{_kept(self._shown.recipe, wish)}. You asked for {_mix(wish)}."
        lines.append(f"<p>{escape(text)}</p>")
        if drawing:
            left = len(self._missing()) if wish is not None else 0
            what = f"Drawing exactly, {left} picture{'s' if left != 1 else ''} to go" if left else "Drawing"
            step = self._step
            lines.append(parts.progress(what, step.index if step else None, step.total if step else 1))
        elif wish is not None:
            near = self._neighbours()
            ready = sum(recipe in self._mixer for recipe in near)
            stopped = "Press Draw for the exact pictures." if self._missing() else ""
            ahead = f"{ready} of {len(near)} neighbouring pictures are ready too." if near else ""
            lines.append(f'<p class="fedart-progress-text">{escape(stopped or ahead)}</p>')
        return f'<div class="fedart-mix-note">{"".join(lines)}</div>'

    def _show_words(self) -> None:
        """What the backbone has to say: how it reads the prompt, and whether it anchors; once it is loaded."""
        if not len(self._mixer) or self._read == self._prompt_text:
            return
        from fedart_nb.diffusion import anchor_of
        from fedart_nb.diffusion.prompts import explain

        self._anchored.layout.display = "" if anchor_of(self.session.backbone) else "none"
        self._read = self._prompt_text
        self._words.value = parts.words_note(explain([self.session.backbone.understand(self._read)]))

    def _sync(self) -> None:
        shared, personal = self.session.shared is not None, self.session.personal is not None
        drawing = self._is_drawing
        with self._lock:
            self._start.disabled = self.is_busy
            self._cancel.disabled = not drawing and self._ahead_job is None
            self._shared.disabled, self._personal.disabled = not shared, not personal
            self._save.disabled = self._shown is None
            self._base.layout.display = "" if shared and personal else "none"
            note = _missing_adapters(shared, personal)
            if self._missing_note.value != note:
                self._missing_note.value = note
        self._go_on()

    def _summary(self) -> list[tuple[str, str]]:
        if self.value is None:
            return [("pictures", "not drawn yet")]
        return [("prompt", self.value.recipes[0].prompt), ("mix", _mix(self.value.recipes[0]))]

    def _static_own(self) -> str:
        if self.value is None:
            return ""
        mix: StyleMix = self.value
        samples = [self._mixer.find(recipe) for recipe in (mix.before_recipe, *mix.recipes)]
        figures = (parts.picture(s.thumbnail_png, _alt(s), caption=_mix(s.recipe)) for s in samples if s is not None)
        return f'<div style="display:flex;flex-wrap:wrap;gap:10px">{"".join(figures)}</div>'

    def close(self) -> None:
        """Stop all drawing, and take the panel out of the page and out of memory."""
        self._asked = False
        if self._ahead_job is not None:
            self._ahead_job.cancel()
        super().close()


def _slider(label: str, weight: float, plain: bool) -> Any:
    if plain:
        return parts.field(
            ipywidgets.BoundedFloatText(description=label, value=weight, min=0.0, max=MAX_WEIGHT, step=_WEIGHT_STEP)
        )
    return Weight(label=label, value=weight, max=MAX_WEIGHT, step=_WEIGHT_STEP)


def _checked(weight: float) -> float:
    if not 0 <= weight <= MAX_WEIGHT:
        raise FedArtError(f"The weight is {weight}; expected 0 (off) to {MAX_WEIGHT} (1 is as trained).")
    return float(weight)


def _mix(recipe: Recipe) -> str:
    """A mix in words.

    >>> _mix(Recipe("cat", 1, 20, 5.0, 128, "", shared=1.0, shared_sha256="a"))
    'shared 1'
    """
    named = [(name, weight) for name, weight in (("shared", recipe.shared), ("personal", recipe.personal)) if weight]
    return " + ".join(f"{name} {weight:g}" for name, weight in named) or "backbone alone"


def _kept(shown: Recipe, wish: Recipe) -> str:
    """How the shown picture differs from the wish in keeping to the words, if both have adapters to keep there."""
    both_mixed = all(recipe.shared or recipe.personal for recipe in (shown, wish))
    if shown.anchored == wish.anchored or not both_mixed:
        return ""
    return ", kept to the words" if shown.anchored else ", not kept to the words"


def _short(recipe: Recipe) -> str:
    return f"{recipe.shared:g} + {recipe.personal:g}"


def _alt(sample: Sample | None) -> str:
    return f"“{sample.recipe.prompt}”, seed {sample.recipe.seed}, drawn by {_mix(sample.recipe)}" if sample else ""


def _missing_adapters(shared: bool, personal: bool) -> str:
    if shared and personal:
        return ""
    texts = []
    if not shared:
        texts.append("No shared adapter yet: RoomPanel(session) gets one from a room.")
    if not personal:
        texts.append("No personal adapter yet: TrainPanel(session) trains one.")
    return parts.notice("\n".join(texts), title="Nothing to turn" if not shared and not personal else "One of two")


def _target(path: str | Path, recipe: Recipe) -> Path:
    if path:
        target = Path(path).expanduser()
        target = target if target.suffix else target.with_suffix(".png")
        if target.suffix.lower() != ".png":
            raise ArtError(f"{str(target)!r} is no PNG file; only those carry a recipe. Let the name end in .png.")
        return target
    stem = f"{folder_name(recipe.prompt.lower())[:40]}-seed-{recipe.seed}"
    names = (f"{stem}.png", *(f"{stem}-{number}.png" for number in range(2, 10_000)))
    return next(Path(name) for name in names if not Path(name).exists())
