"""The panel that shows what noise costs: a slider of epsilon over ready-made frames, and the same on your own art."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets

from fedart_nb._system import settings
from fedart_nb.errors import PrivacyError, TrainingError
from fedart_nb.events import SampleStep, Step
from fedart_nb.figures import gradient_norms, png_bytes, spending, watermarked
from fedart_nb.jobs import Job
from fedart_nb.privacy.ledger_report import meaning_of
from fedart_nb.widgets import parts
from fedart_nb.widgets.panel import Panel
from fedart_nb.widgets.weight import Weight

if TYPE_CHECKING:
    from fedart_nb.diffusion.noise_preview import NoiseFrame
    from fedart_nb.session import Session

__all__ = ["NoisePanel"]

_FRAMES = Path(__file__).parent / "static" / "noise"
_STEPS, _TRIES = 45, 200
_FAST_STEPS, _FAST_TRIES = 3, 2
_ATTACK_S = 60.0
_FEWEST = 3  # pictures that an attacker's line-up takes


class NoisePanel(Panel):
    """Pictures, held-out loss, gradient norms and epsilon over the steps, at each epsilon. `value` is the frame shown.

    The ready-made frames come with the package; `compute()` trains once on your own art at the slider's epsilon, in
    this kernel, and puts the frame in their place.

    Args:
        frames: a folder that `diffusion.frames.save_frames` wrote, instead of the package's own.

    Example:
        >>> panel = NoisePanel(session)
        >>> panel.show(3.0)
        >>> panel.compute()
        >>> panel.wait()
    """

    title = "What noise costs"
    lead = "Less epsilon is more noise. Move the slider, and see what is left of the art."
    holds_own = True

    def __init__(
        self,
        session: Session,
        *,
        frames: str | Path | None = None,
        prompts: Sequence[str] | None = None,
        steps: int | None = None,
    ) -> None:
        from fedart_nb.diffusion.noise_preview import load_frames

        super().__init__(session)
        self.session = session
        self._steps = steps or (_FAST_STEPS if settings.fast_mode() else _STEPS)
        self._tries = _FAST_TRIES if settings.fast_mode() else _TRIES
        self._prompts = tuple(prompts) if prompts is not None else None
        self.about, ready = load_frames(frames or _FRAMES)
        self.frames: dict[float, NoiseFrame] = {frame.epsilon: frame for frame in ready}
        self._known = sorted(self.frames)
        self.own: dict[float, NoiseFrame] = {}
        self._drawn: dict[tuple[float, bool], str] = {}
        self._build()
        self.show(8.0 if 8.0 in self.frames else max(self.frames))

    def show(self, epsilon: float) -> NoisePanel:
        """Show the frame of one epsilon (infinity: without noise)."""
        with self._reporting():
            if epsilon not in self.frames:
                known = ", ".join(_named(known) for known in sorted(self.frames))
                raise PrivacyError(f"There is no frame for epsilon {epsilon!r}; there are: {known}.")
            self._slider.value = float(self._known.index(epsilon))
            self._see()
        return self

    def compute(self) -> Job:
        """Train on your own included pictures at the slider's epsilon; nothing of it leaves, and no ledger pays."""
        with self._reporting():
            if self.session.art is None:
                raise TrainingError("There is no art to train on yet. Choose pictures first.")
            return self._begin("noise", self._events(self.epsilon), on_event=self._tell, on_end=self._end)

    @property
    def epsilon(self) -> float:
        """Where the slider stands."""
        return self._known[round(self._slider.value)]

    def _events(self, wished: float) -> Iterator[Any]:
        from fedart_nb.attack_lab.frame_scores import seen_by_others
        from fedart_nb.diffusion.noise_preview import NoiseFrame, Seen, noise_frame

        session, art = self.session, self.session.art
        assert art is not None  # noqa: S101 - compute() has looked
        held_out = session.latents("test") if art.included("test") else None
        captions = [p.caption for p in (*art.included("test"), *art.included("train")) if p.caption]
        prompts = self._prompts if self._prompts is not None else tuple(dict.fromkeys(captions))[:4]
        frame: NoiseFrame | None = None
        for event in noise_frame(
            session.backbone,
            session.latents("train"),
            wished=wished,
            prompts=prompts,
            held_out=held_out,
            steps=self._steps,
        ):
            if isinstance(event, NoiseFrame):
                frame = event
            else:
                yield event
        assert frame is not None  # noqa: S101 - the last event is one
        if len(art.included()) >= _FEWEST:
            for look in seen_by_others(session.backbone, art, frame, evaluations=self._tries, budget_s=_ATTACK_S):
                if isinstance(look, Seen):
                    frame = replace(frame, seen=look)
                else:
                    yield look
        yield frame

    def _build(self) -> None:
        options = [(f"{epsilon:g}" if math.isfinite(epsilon) else "none", _named(epsilon)) for epsilon in self._known]
        self._slider = Weight.choice("Epsilon, from much noise to none", options)
        self._slider.observe(lambda _change: self._see(), "value")
        self._compute = self._button("Compute this exactly", self.compute, icon="calculator", style="primary")
        self._cancel = self._button("Cancel", self.cancel, icon="stop")
        self._progress, self._meaning = ipywidgets.HTML(), ipywidgets.HTML()
        self._sheet = self._unsaved_html()
        self._compose(
            parts.card(self._slider, self._meaning, parts.row(self._compute, self._cancel), self._progress),
            parts.card(self._sheet),
        )

    def _see(self) -> None:
        epsilon = self.epsilon
        own = epsilon in self.own
        frame = self.own[epsilon] if own else self.frames[epsilon]
        key = (epsilon, own)
        if key not in self._drawn:
            self._drawn[key] = self._draw(frame, own=own)
        with self._lock:
            title = f"{_named(epsilon).capitalize()} means"
            self._meaning.value = parts.notice(meaning_of(epsilon, frame.delta, "picture"), title=title)
            self._sheet.value = self._drawn[key]
            self.value = frame
            self._say(str(frame), now=True)

    def _draw(self, frame: NoiseFrame, *, own: bool) -> str:
        whose = "your own art, computed here" if own else self.about
        which = _named(frame.epsilon)
        pictures = "".join(
            parts.picture(png_bytes(picture), f"“{prompt}” at {which}", caption=prompt, size_px=128)
            for prompt, picture in zip(frame.prompts, frame.pictures, strict=True)
        )
        facts = [
            ("of", whose),
            ("trained", f"{frame.steps} steps of about {frame.batch} of {frame.trained_on} pictures"),
            ("noise multiplier", f"{frame.noise_multiplier:.2f}"),
            ("delta", f"{frame.delta:.2g}"),
        ]
        if frame.loss_before is not None and frame.loss_after is not None:
            facts.append(("held-out loss", f"{frame.loss_before:.4f} before, {frame.loss_after:.4f} after"))
        spent = [(f"step {n}", cost) for n, cost in frame.spent]
        curve = spending(spent, width_in=5.6, trainings_are="tenths of the training").to_html() if spent else ""
        return (
            f'<h5>Drawn after training</h5><div class="fedart-row">{pictures}</div>'
            f"{parts.facts(facts)}{parts.notice(frame.sentence)}{_seen(frame)}"
            f"{gradient_norms(frame.norms, clip_norm=frame.clip_norm, width_in=5.6).to_html()}{curve}"
        )

    def _tell(self, event: Any) -> None:
        if isinstance(event, Step):
            self._progress.value = parts.progress("training", event.index, event.total, str(event))
        elif isinstance(event, SampleStep):
            self._progress.value = parts.progress("drawing", event.index, event.total, str(event))
        else:
            self._progress.value = ""
        self._say(str(event))

    def _end(self, job: Job) -> None:
        from fedart_nb.diffusion.noise_preview import NoiseFrame

        self._progress.value = ""
        if job.error is None and isinstance(job.last, NoiseFrame):
            self.own[job.last.epsilon] = job.last
            self._drawn.pop((job.last.epsilon, True), None)
            if self.epsilon == job.last.epsilon:
                self._see()

    def _sync(self) -> None:
        mine = self.job is not None and not self.job.has_ended
        self._compute.disabled = self.is_busy
        self._cancel.disabled = not mine

    def _summary(self) -> list[tuple[str, str]]:
        return [("shown", str(self.value))] if self.value is not None else []

    def _static_body(self) -> str:
        """The frame shown, and every ready-made one folded away, so that a page without a kernel has them all."""
        return self._folded(self.frames, own=False)

    def _static_own(self) -> str:
        return self._folded(self.own, own=True)

    def _folded(self, frames: Mapping[float, NoiseFrame], *, own: bool) -> str:
        sheets = []
        for epsilon, frame in sorted(frames.items()):
            sheet = self._drawn.setdefault((epsilon, own), self._draw(frame, own=own))
            which = f"{_named(epsilon).capitalize()}{', on your own art' if own else ''}"
            sheets.append(f"<details><summary>{which}</summary>{sheet}</details>")
            if epsilon == self.epsilon and own == (epsilon in self.own):
                sheets.insert(0, sheet)
        return "".join(sheets)


def _seen(frame: NoiseFrame) -> str:
    """What a judge and an attacker make of the frame."""
    seen = frame.seen
    if seen is None:
        return ""
    alt = f"reconstruction, SSIM {seen.similarity:.2f}"
    rebuilt = parts.picture(png_bytes(watermarked(seen.rebuilt)), alt, caption=alt, size_px=128)
    facts = [("style", f"{seen.right} of {seen.judged} pictures judged to be the artist's, among {seen.artists}")]
    told = [
        *(facts if seen.judged else []),
        ("an attacker", "who got one step with a single picture in the clear, and knows its seed and caption"),
        ("rebuilds it", f"with SSIM {seen.similarity:.2f}; a guess without the update reaches {seen.guess:.2f}"),
        ("picks it", f"out of {seen.candidates} in {_share(seen.picked)} of tries"),
        ("nobody can beat", _share(seen.bound)),
    ]
    return f'<h5>What others make of it</h5><div class="fedart-row">{rebuilt}{parts.facts(told)}</div>'


def _share(value: float) -> str:
    """A share that is never rounded to certainty."""
    if 0 < value < 1:
        value = min(max(value, 0.01), 0.99)
    return f"{value:.0%}"


def _named(epsilon: float) -> str:
    return f"epsilon {epsilon:g}" if math.isfinite(epsilon) else "no noise"
