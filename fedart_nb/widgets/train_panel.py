"""The panel that trains the personal adapter: settings, progress, the loss curve, pictures before and after."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import ipywidgets

from fedart_nb._system import settings
from fedart_nb._system.arguments import texts
from fedart_nb.errors import TrainingError
from fedart_nb.events import Note, Sampled, SampleStep, Step, Trained
from fedart_nb.figures import loss_curve
from fedart_nb.jobs import Job
from fedart_nb.widgets import parts
from fedart_nb.widgets.panel import Panel

if TYPE_CHECKING:
    from fedart_nb.session import Session

__all__ = ["PRESETS", "TrainPanel"]

#: Steps that show something, that teach a style, and that a person with patience may want.
PRESETS = {"Quick": 40, "Sensible": 200, "Long": 400}
_FAST_STEPS = 4
_TOKEN_PLACES = 4  # of a style token
_CURVE_EVERY_S = 1.0  # drawing it takes a training step's time on a small machine
#: Training asks more often where there is much noise, and without a caption now and then; validation asks everything.
_ABOUT_CURVE = (
    "The two losses are asked differently, so their heights cannot be compared: training asks more about very noisy "
    "pictures, and each step about other ones; the held-out loss asks always the same. Compare how far each falls."
)
_BACKBONE, _YOURS = "Backbone alone", "With your adapter"


class TrainPanel(Panel):
    """Train the session's personal adapter and watch it: it never leaves this kernel.

    `value` is the last `Trained` event, or None. `history` holds the steps so far, `before` and `after` the pictures
    that the backbone alone and your adapter drew from the same prompts and noise, uint8 (n, height, width, 3).
    With `on_shared=False` a shared adapter that the session holds is left out of it; `style_token` ticks the box that
    makes a few vectors learn which are added to every caption (`TrainConfig.style_tokens`).

    Example:
        >>> panel = TrainPanel(session, prompts=["a red fox"], steps=40)
        >>> panel.start()
        >>> panel.wait()
    """

    title = "Train your own adapter"
    lead = "A small adapter learns your style on top of the frozen backbone. It stays in this kernel."
    holds_own = True

    def __init__(
        self,
        session: Session,
        prompts: Sequence[str] | None = None,
        *,
        steps: int | None = None,
        rank: int = 8,
        learning_rate: float = 3e-3,
        seed: int = 1,
        pictures: int = 3,
        on_shared: bool = True,
        style_token: bool = False,
    ) -> None:
        super().__init__(session)
        self.session = session
        self.history: list[Step] = []
        self.before: Any = None
        self.after: Any = None
        self.resume_state: Any = None
        self._trained: Trained | None = None
        self._prompts = texts("prompts", prompts, TrainingError) if prompts is not None else None
        self._seed, self._count, self._on_shared = seed, pictures, on_shared
        self._phase = ""
        self._words: tuple[str, ...] = ()
        self._curve_at = 0.0
        self._loss_before: float | None = None  # on the held-out pictures, at step 0
        steps = steps or (_FAST_STEPS if settings.fast_mode() else PRESETS["Sensible"])
        self._build(steps, rank, learning_rate, style_token)
        self._find_unfinished()
        self._show_former()

    # the buttons' methods

    def start(self) -> Job:
        """Train from the beginning with the settings shown; returns the running job, which can be awaited."""
        with self._reporting():
            config, adapter = self._settings()
            self._check_art()
            with self._lock:
                self.history, self.after, self.resume_state, self._trained = [], None, None, None
            return self._begin(
                "training", self._events(config, adapter, None), on_event=self._show, on_end=self._finish
            )

    def resume(self) -> Job:
        """Go on from where training was cancelled, up to the number of steps shown; returns the running job."""
        with self._reporting():
            config, adapter = self._settings()
            self._check_art()
            state = self.resume_state
            if state is None:
                raise TrainingError("There is nothing to resume. Press Start to train from the beginning.")
            if state.step >= config.steps:
                raise TrainingError(f"{state.step} of {config.steps} steps are done already. Ask for more steps.")
            return self._begin(
                "training", self._events(config, adapter, state), on_event=self._show, on_end=self._finish
            )

    def take_back(self) -> TrainPanel:
        """Make the adapter that training replaced the session's personal one again; this one is kept in its place."""
        with self._reporting():
            self.session.take_former_back()
            with self._lock:
                self.after = None
                self._draw_pictures()
            self._show_former()
            self._say("The former adapter is back.", now=True)
            self._sync()
        return self

    @property
    def prompts(self) -> tuple[str, ...]:
        """What the pictures before and after show; by default captions of your own held-out pictures."""
        if self._prompts is not None:
            return self._prompts
        art = self.session.art
        if art is None:
            return ()
        captions = [p.caption for p in (*art.included("test"), *art.included("train")) if p.caption]
        return tuple(dict.fromkeys(captions))[: self._count]

    # construction

    def _build(self, steps: int, rank: int, learning_rate: float, style_token: bool) -> None:
        options = [(f"{name} ({count} steps)", count) for name, count in PRESETS.items()] + [("My own", 0)]
        known = steps if steps in PRESETS.values() else 0
        self._preset = parts.field(
            ipywidgets.RadioButtons(description="How long", options=options, value=known, orientation="horizontal")
        )
        self._steps = parts.field(ipywidgets.BoundedIntText(description="Steps", value=steps, min=1, max=100_000))
        ranks = sorted({1, 2, 4, 8, 16, rank})
        self._rank = parts.field(ipywidgets.Dropdown(description="Rank of the adapter", options=ranks, value=rank))
        self._rate = parts.field(
            ipywidgets.BoundedFloatText(
                description="Learning rate", value=learning_rate, min=1e-8, max=1.0, step=0.0005
            )
        )
        told = f"Learn a style token too ({_TOKEN_PLACES} vectors that are added to every caption)"
        self._token = ipywidgets.Checkbox(description=told, value=style_token, indent=False)
        self._token.layout.width = "auto"
        self._token.add_class("fedart-check")
        self._preset.observe(self._preset_chosen, "value")
        self._steps.observe(self._steps_typed, "value")
        self._start = self._button("Start", self.start, icon="play", style="primary")
        self._cancel = self._button("Cancel", self.cancel, icon="stop", style="danger")
        self._resume = self._button("Resume", self.resume, icon="step-forward")
        self._back = self._button("Go back to the former adapter", self.take_back, icon="undo")
        self._former_text = ipywidgets.HTML()
        self._former = parts.row(self._former_text, self._back)
        self._former.layout.display = "none"
        self._notes = self._unsaved_html()
        self._progress = ipywidgets.HTML()
        self._curve = ipywidgets.HTML()
        self._pictures = self._unsaved_html()
        self._curve_card = parts.card(self._progress, self._curve, title="Progress")
        self._picture_card = parts.card(self._pictures, title="Before and after")
        self._curve_card.layout.display = self._picture_card.layout.display = "none"
        chosen = parts.card(
            self._preset,
            parts.row(self._steps, self._rank, self._rate),
            self._token,
            parts.row(self._start, self._cancel, self._resume),
            self._former,
            title="Settings",
        )
        self._compose(chosen, self._notes, self._curve_card, self._picture_card)

    def _show_former(self) -> None:
        """Say that training replaces nothing for good, where there is something to replace or to go back to."""
        former = len(getattr(self.session, "former_adapters", ()))
        has_one = getattr(self.session, "personal", None) is not None
        kept = f"{former} former adapter{'s are' if former != 1 else ' is'} kept." if former else ""
        text = f"{kept} Training again keeps the present one too.".strip() if has_one else kept
        self._former_text.value = f'<p class="fedart-lead">{text}</p>'
        self._back.layout.display = "" if former else "none"
        self._former.layout.display = "" if former or has_one else "none"

    def _preset_chosen(self, change: dict[str, Any]) -> None:
        if change["new"]:
            self._steps.value = change["new"]

    def _steps_typed(self, change: dict[str, Any]) -> None:
        self._preset.value = change["new"] if change["new"] in PRESETS.values() else 0

    # the work, in the job's thread

    def _settings(self) -> tuple[Any, Any]:
        from fedart_nb.diffusion import PERSONAL, AdapterConfig

        rank = int(self._rank.value)
        config = replace(
            PERSONAL,
            steps=int(self._steps.value),
            learning_rate=float(self._rate.value),
            style_tokens=_TOKEN_PLACES if self._token.value else 0,
        )
        return config, AdapterConfig(rank=rank, alpha=float(rank))

    def _check_art(self) -> None:
        if self.session.art is None or not self.session.art.included("train"):
            raise TrainingError("No picture is included yet. Choose pictures with ArtPanel(session), then start again.")

    def _find_unfinished(self) -> None:
        """After a kernel restart, offer to go on with what an earlier kernel had saved."""
        try:
            self.resume_state = self.session.resumable
        except TrainingError as error:
            self._show_error(error)
        if self.resume_state is not None:
            text = f"An earlier kernel stopped after {self.resume_state.step} steps. Resume goes on from there."
            self._progress.value = parts.notice(text, title="Unfinished training found")
            self._curve_card.layout.display = ""
        self._sync()

    def _events(self, config: Any, adapter: Any, state: Any) -> Iterator[Any]:
        yield Note("Loading the backbone")
        self._words = _how_words_are_read(self.session, self.prompts)
        if self.before is None and self.prompts:
            self._phase = f"Drawing: {_BACKBONE}"
            self.before = yield from self._draw(shared=0.0, personal=0.0)
        self._phase = "Training"
        yield Note("Encoding your pictures (once)")
        for event in self.session.train_personal(config, adapter=adapter, resume=state, on_shared=self._on_shared):
            if isinstance(event, Step):
                self.resume_state = event.state
                self._loss_before = getattr(event.state, "loss_before", None)
                self.history.append(replace(event, state=None))
            elif isinstance(event, Trained):
                self._trained = event
                self.resume_state = None
            yield event
        if self.prompts:
            self._phase = f"Drawing: {_YOURS}"
            self.after = yield from self._draw(shared=float(self._on_shared), personal=1.0)

    def _draw(self, *, shared: float, personal: float) -> Generator[Any, None, Any]:
        seeds = [self._seed + i for i in range(len(self.prompts))]
        few = 4 if settings.fast_mode() else None
        drawn = None
        for event in self.session.pictures(self.prompts, seeds=seeds, shared=shared, personal=personal, steps=few):
            if isinstance(event, Sampled):
                drawn = event.pictures
            yield event
        return drawn

    # what is shown, by the job's watcher

    def _show(self, event: Any) -> None:
        self._curve_card.layout.display = ""
        if isinstance(event, Note):
            self._progress.value = parts.progress(event.text, None, 1, "A moment, please.")
            self._say(event.text)
        elif isinstance(event, Step):
            text = self._progress_text(event)
            self._progress.value = parts.progress("Training", event.index, event.total, text)
            self._say(text)
            self._draw_curve(event.total)
        elif isinstance(event, SampleStep):
            text = f"step {event.index} of {event.total}"
            self._progress.value = parts.progress(self._phase, event.index, event.total, text)
            self._say(f"{self._phase}, {text}")
        self._show_words()
        if self.before is not None and (isinstance(event, Sampled) or not self._pictures.value):
            self._draw_pictures()

    def _show_words(self) -> None:
        note = parts.words_note(self._words)
        if self._notes.value != note:
            self._notes.value = note

    def _finish(self, job: Job) -> None:
        self._show_words()
        self._show_former()
        done = self.history[-1].index if self.history else 0
        total = self.history[-1].total if self.history else 0
        if self.history:
            self._draw_curve(total, now=True)
        self._draw_pictures()
        if self._trained is not None:
            self.value = self._trained
            text = f"{self._trained.steps} steps in {parts.duration(self._trained.seconds)}. {_fell(self._trained)}"
            text += self._strength()
            self._progress.value = parts.notice(text.strip(), level="success", title="Your adapter is trained")
        elif job.state == "cancelled":
            text = f"Stopped after {done} of {total} steps. Resume goes on from here, Start begins anew."
            text = text if done else "Stopped before the first step."
            self._progress.value = parts.notice(text, title="Cancelled")
        else:
            text = f"Stopped after {done} steps by an error; the message is above."
            self._progress.value = parts.notice(text, level="warning", title="Not finished")
        self._say(text, now=True)

    def _strength(self) -> str:
        """Where the adapter is handed out stronger than it was trained, why its loss is not the curve's last."""
        from fedart_nb.diffusion import PERSONAL

        if PERSONAL.emphasis == 1 or self._trained is None or self._trained.loss_after is None:
            return ""
        return (
            f" The adapter is handed out {PERSONAL.emphasis:g} times as strong as it was trained, which follows your "
            "style further; this loss is measured with that, the curve before it."
        )

    def _progress_text(self, step: Step) -> str:
        bits = [f"step {step.index} of {step.total}", f"loss {step.loss:.3f}"]
        held_out = next((s.held_out_loss for s in reversed(self.history) if s.held_out_loss is not None), None)
        if held_out is not None:
            bits.append(f"held-out loss {held_out:.3f}")
        if step.seconds > 0:
            rate = step.index / step.seconds
            bits += [f"{rate:.1f} steps a second", f"about {parts.duration((step.total - step.index) / rate)} left"]
        return " · ".join(bits)

    def _draw_curve(self, total: int, *, now: bool = False) -> None:
        if now or time.monotonic() - self._curve_at >= _CURVE_EVERY_S:
            drawn = loss_curve(list(self.history), total=total, before=self._loss_before)
            self._curve.value = replace(drawn, caption=_ABOUT_CURVE).to_html()
            self._curve_at = time.monotonic()

    def _draw_pictures(self) -> None:
        if self.before is None:
            return
        models = [(_BACKBONE, self.before), (_YOURS, self.after)]
        self._picture_card.layout.display = ""
        self._pictures.value = parts.scrolling(parts.before_and_after(self.prompts, models), "Before and after")

    def _sync(self) -> None:
        busy = self.is_busy
        mine = busy and self.job is not None and not self.job.has_ended
        with self._lock:
            for control in (self._preset, self._steps, self._rank, self._rate, self._token, self._start):
                control.disabled = busy
            self._back.disabled = busy
            self._cancel.disabled = not mine or bool(self.job and self.job.is_cancelling)
            self._resume.disabled = busy or self.resume_state is None

    def _summary(self) -> list[tuple[str, str]]:
        if self.value is not None:
            return [("trained", f"{self.value.steps} steps"), ("held-out loss", _fell(self.value) or "not measured")]
        if self.history:
            last = self.history[-1]
            return [("steps", f"{last.index} of {last.total}"), ("loss", f"{last.loss:.3f}")]
        return [("training", "not started")]

    def _static_body(self) -> str:
        return str(self._curve.value)

    def _static_own(self) -> str:
        return str(self._notes.value + self._pictures.value)


def _fell(trained: Trained) -> str:
    before, after = trained.loss_before, trained.loss_after
    if before is None or after is None:
        return ""
    percent = 100 * (before - after) / before if before else 0.0
    way = f"{percent:.0f} % lower" if after <= before else f"{-percent:.0f} % higher: fewer steps may do better"
    return f"Held-out loss {before:.3f} before, {after:.3f} after ({way})."


def _how_words_are_read(session: Session, prompts: Sequence[str]) -> tuple[str, ...]:
    """Sentences on the words of prompts and captions that the backbone reads as others or ignores."""
    from fedart_nb.diffusion.prompts import explain

    captions = [picture.caption for picture in session.art.included()] if session.art is not None else []
    return explain(session.backbone.understand(caption) for caption in (*prompts, *captions))
