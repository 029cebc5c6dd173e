"""The inversion lab: choose an attacker, run an attack on a real update, look at what comes out, and add a defence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets
import numpy as np
from numpy.typing import NDArray

from fedart_nb._system import settings
from fedart_nb.art import ArtSet
from fedart_nb.attacks import BY_TRIES, ThreatModel
from fedart_nb.errors import AttackError
from fedart_nb.events import Note
from fedart_nb.jobs import Job
from fedart_nb.widgets import inversion_views as views
from fedart_nb.widgets import parts
from fedart_nb.widgets.copyable import Copyable
from fedart_nb.widgets.panel import Panel
from fedart_nb.widgets.switchboard import Switchboard
from fedart_nb.widgets.unsaved import UnsavedHTML
from fedart_nb.widgets.weight import Weight

if TYPE_CHECKING:
    from fedart_nb.attack_lab import Defence, Level, OwnRound, Recording, Scene, Shot, Take
    from fedart_nb.session import Session

__all__ = ["InversionPanel"]

_RECORDED = Path(__file__).parent / "static" / "inversion"
_OFFERED = ("timesteps", "captions", "exact", "pixels", "prior", "baseline", "identify", "membership")
_ABSENT = {"earlier": "This panel looks at one round alone."}
_FIRST = ThreatModel("relay", "lora", frozenset({"seed", "captions", "candidates"}), first_round=True)
_TRIES = 150
_GREY = 128
_NOISES = (0.0, 0.001, 0.01, 0.1, 0.5, 1.0)


class InversionPanel(Panel):
    """Attacks on an update of one picture, or of your last round. `value` is the last `Take`, None before the first.

    Everything happens in this kernel. Reconstructions are watermarked, live in memory and in the page in front of you,
    and are in no summary, export or file.

    Args:
        art: the pictures to choose from; the session's by default, else sample art.
        picture: which one to begin with; seed: of the step that is attacked.
        tries, budget_s: what the fields begin with; the recording's number of tries by default.
        recording: a folder that `inversion.save` wrote, instead of the package's own.
        short: only what one attack needs, cards 1 and 2.

    Example:
        >>> panel = InversionPanel(session)
        >>> panel.run()
        >>> panel.wait().last.alt
        'reconstruction, SSIM 0.98'
    """

    title = "The inversion lab"
    lead = "What does an update give away? Choose who attacks, run it on a real update, then put up a defence."

    def __init__(
        self,
        session: Session,
        *,
        art: ArtSet | None = None,
        picture: int = 0,
        seed: int | None = None,
        tries: int | None = None,
        budget_s: float | None = None,
        recording: str | Path | None = None,
        short: bool = False,
    ) -> None:
        from fedart_nb.attack_lab import Pausing, load
        from fedart_nb.attack_lab.scene import SEED

        super().__init__(session)
        self.session, self._short = session, short
        self.art = art or session.art or ArtSet.sample("openmoji", limit=30)
        self.seed = SEED if seed is None else seed
        self.shots: list[Shot] = []
        self.takes: dict[str, Take] = {}
        self.multiples: dict[str, Take] = {}
        self.recording: Recording | None = None
        folder = Path(recording) if recording is not None else _RECORDED
        if (folder / "takes.json").exists():
            self.recording = load(folder)
            self.takes |= {take.key: take for take in self.recording.takes}
        self.levels: tuple[Level, ...] = self.recording.levels if self.recording else ()
        self._packaged = recording is None
        self._scenes: dict[tuple[int, int], Scene] = {}
        self._baselines: dict[str, dict[str, float]] = {}
        self._drawn: dict[int, str] = {}
        self._pausing = Pausing()
        self.round: OwnRound | None = None
        self._build(picture, tries, budget_s)

    # the buttons' methods

    @property
    def scene(self) -> Scene:
        """What is attacked: the picture chosen, and the others of its set."""
        from fedart_nb.attack_lab import scene_of

        key = (self._picture.value, self._steps.value)
        if key not in self._scenes:
            self._scenes = {key: scene_of(
                self.session.backbone, self.art, picture=key[0], seed=self.seed, local_steps=key[1]
            )}  # fmt: skip
        return self._scenes[key]

    @property
    def defence(self) -> Defence:
        """What the switches put up."""
        from fedart_nb.attack_lab import Defence

        artists = self._artists.value if self.board.threat.sees == "sum" else 1
        return Defence(self._secret.value, artists, self._noise.value)

    def run(self, attack: str | None = None) -> Job:
        """Run the chosen attack now, from its first try; returns the running job."""
        with self._reporting():
            attack = attack or self.board.attack
            if not attack:
                raise AttackError("No attack is possible with these switches; the list says why. Change one.")
            if why := self.board.why_not(attack):
                raise AttackError(f"{attack} cannot be tried here. {why}")
            if attack != self.board.attack:
                self.board.set(self.board.threat, attack)
            return self._begin("the attack", self._events(attack), on_event=self._show, on_end=self._end)

    def replay(self) -> InversionPanel:
        """Show what this attack gave before, recorded with the package or run in this kernel; at once."""
        with self._reporting():
            take = self._known()
            if take is None:
                raise AttackError("This has not been run here yet, and is not among the recordings. Press Run.")
            with self._lock:
                self._clear_error()
                self.shots = list(take.shots)
            self._taken(take)
        return self

    @property
    def can_replay(self) -> bool:
        """Whether `replay` has something to show for the present settings."""
        return bool(self.takes) and self._known() is not None

    @property
    def verdict(self) -> str:
        """What the scorer says of the last take, as a sentence made from its figures; "" before the first."""
        from fedart_nb.attack_lab.runs import verdict

        if self.value is None:
            return ""
        baselines = self._baselines_of(self.scene)
        return verdict(self.value.last, best_baseline=max(baselines.values(), default=0.0))[1]

    def pause(self) -> InversionPanel:
        """Stand still after the present frame, or go on; the time budget stands still too."""
        (self._pausing.resume if self._pausing.paused else self._pausing.pause)()
        self._say("Paused" if self._pausing.paused else "Going on", now=True)
        self._sync()
        return self

    def cancel(self) -> None:
        """Stop at the next frame; what was reached is kept."""
        self._pausing.stop()
        super().cancel()

    def scrub(self, index: int) -> InversionPanel:
        """Show the frame at this place of the trajectory; 0 is the first."""
        with self._reporting():
            if not 0 <= index < len(self.shots):
                raise AttackError(f"There is no frame {index}; there are {len(self.shots)}, counted from 0.")
            self._scrub.value = float(index)
            self._see()
        return self

    def look_at(self, noise_multiplier: float) -> InversionPanel:
        """Move the noise slider; all three views follow."""
        with self._reporting():
            known = [level.noise_multiplier for level in self.levels]
            if noise_multiplier not in known:
                raise AttackError(f"There is no frame at noise {noise_multiplier!r}; there are {known}.")
            self._slider.value = float(known.index(noise_multiplier))
        return self

    def compare(self) -> Job:
        """Run the same picture and seed under each of the five defences, the time budget for each."""
        with self._reporting():
            return self._begin("five defences", self._comparing(), on_event=self._show, on_end=self._end)

    def attack_round(self) -> Job:
        """Attack this kernel's update in the last round: as the relay holds it, as the sum gave it, in the clear."""
        with self._reporting():
            if not getattr(self.session, "can_look_back", False):
                raise AttackError("No round has ended with an update of this kernel in it. Take part in one first.")
            return self._begin("your own round", self._own_round(), on_event=self._show, on_end=self._end)

    def audit(self) -> dict[str, Any]:
        """The audit card of the last take: JSON values, no picture."""
        if self.value is None:
            raise AttackError("Nothing was run yet. Press Run, then export.")
        scene = self.scene
        return views.audit_card(
            self.value,
            scene_key=scene.key,
            seed=scene.seed,
            local_steps=scene.local_steps,
            backbone=scene.backbone.sha256,
            candidates=scene.candidates,
        )

    def cell(self) -> str:
        """A cell that runs the last take again without this panel."""
        if self.value is None:
            raise AttackError("Nothing was run yet. Press Run, then export.")
        take, scene = self.value, self.scene
        threat, knows = take.threat, ", ".join(map(repr, sorted(take.threat.knows)))
        own = self.art is self.session.art
        art = "session.art" if own else f"ArtSet.sample({self.art.name!r}, limit={len(self.art)})"
        where = f"picture={self._picture.value}, seed={scene.seed}, local_steps={scene.local_steps}"
        how = f"evaluations={take.evaluations}, budget_s={self._budget.value:g}"
        model = f"{threat.who!r}, {threat.sees!r}, frozenset({{{knows}}}), first_round={threat.first_round}"
        return "\n".join(
            (
                "from fedart_nb import ArtSet, Backbone",
                "from fedart_nb.attacks import ThreatModel",
                "from fedart_nb.attack_lab import Defence, scene_of, take_of",
                f"scene = scene_of(Backbone.embedded(), {art}, {where})",
                f"threat = ThreatModel({model})",
                f"for shot in take_of(scene, threat, {take.defence!r}, {take.attack!r}, {how}):",
                "    print(shot)",
            )
        )

    # construction

    def _build(self, picture: int, tries: int | None, budget_s: float | None) -> None:
        self.board = Switchboard(_FIRST, attack="pixels", offered=_OFFERED, absent=_ABSENT, on_change=self._switched)
        sample = bool(getattr(self.art, "is_sample", False))
        names = [
            (f"{i}. {p.caption or p.name}" if sample else f"Picture {i}", i - 1)
            for i, p in enumerate(self.art.included(), start=1)
        ]
        self._picture = parts.field(
            ipywidgets.Dropdown(description="Picture that is trained on", options=names, value=picture), grow=True
        )
        self._steps = parts.field(
            ipywidgets.Dropdown(description="Local steps of an update", options=[1, 10, 40], value=1)
        )
        self._artists = parts.field(ipywidgets.Dropdown(description="Artists in a sum", options=[2, 3, 5, 10], value=3))
        self._noise = parts.field(
            ipywidgets.Dropdown(
                description="Noise", options=[(f"{s:g}" if s else "none", s) for s in _NOISES], value=0.0
            )
        )
        self._secret = ipywidgets.Checkbox(description="The seed is secret", value=False, indent=False)
        self._secret.add_class("fedart-check")
        self._secret.layout.width = "auto"
        recorded = self.recording.takes[0].evaluations if self.recording and self.recording.takes else _TRIES
        seconds = budget_s or (20 if settings.fast_mode() else 90)
        self._tries = parts.field(
            ipywidgets.BoundedIntText(description="Tries at most", value=tries or recorded, min=5, max=100_000)
        )
        self._budget = parts.field(
            ipywidgets.BoundedFloatText(description="Seconds at most", value=seconds, min=1, max=7200)
        )
        for control in (self._picture, self._steps, self._artists, self._noise, self._secret, self._tries):
            control.observe(lambda _change: self._switched(), "value")
        self._run = self._button("Run", self.run, icon="play", style="primary")
        self._replay = self._button("Replay", self.replay, icon="history")
        self._pause = self._button("Pause", self.pause, icon="pause")
        self._cancel = self._button("Cancel", self.cancel, icon="stop", style="danger")
        self._progress, self._verdict = ipywidgets.HTML(), ipywidgets.HTML()
        self._view = UnsavedHTML()
        self._scrub = Weight(label="Frame", value=0.0, max=1.0, step=1.0, marks=[], words={})
        self._scrub.observe(lambda _change: self._see(), "value")
        self._scrubbing = ipywidgets.VBox([self._scrub])
        self._scrubbing.layout.display = "none"
        self._lab = parts.card(
            parts.row(self._picture, self._steps, self._artists),
            parts.row(self._noise, self._secret, self._tries, self._budget),
            parts.row(self._run, self._replay, self._pause, self._cancel),
            self._progress,
            self._scrubbing,
            self._view,
            self._verdict,
            title="2. Run it",
        )
        further = self._further()
        who = parts.card(self.board, title="1. Who attacks, and with what?")
        self._compose(who, self._lab, *(() if self._short else further))
        self._switched()
        if self.levels:
            self._level()
        self._draw_multiples()

    def _further(self) -> list[Any]:
        words = {str(i): f"{x.noise_multiplier:g}" if x.noise_multiplier else "none" for i, x in enumerate(self.levels)}
        most = float(max(1, len(self.levels) - 1))
        self._slider = Weight(label="Noise", value=0.0, max=most, step=1.0, marks=[], words=words)
        self._slider.observe(lambda _change: self._level(), "value")
        self._linked = UnsavedHTML()
        of = f"Ready-made, of {self.recording.about}." if self.recording else ""
        noise = parts.card(self._slider, self._linked, title="3. More noise, less to see", lead=of)
        noise.layout.display = "" if self.levels else "none"
        self._all_five = self._button("Run all five on this picture", self.compare, icon="th")
        self._tiles = UnsavedHTML()
        same = "The same picture and the same seed; only the defence differs."
        tiles = parts.card(parts.row(self._all_five), self._tiles, title="4. Five defences, side by side", lead=same)
        self._own = self._button("Attack my last round", self.attack_round, icon="crosshairs")
        self._round = ipywidgets.HTML()
        own = parts.card(
            parts.row(self._own),
            self._round,
            title="5. Your own update, as it was really sent",
            lead="After a round of yours: one masked share, the sum, and for comparison the update in the clear.",
        )
        self._code = Copyable(label="A cell that repeats the last attack", text="")
        self._json = Copyable(label="Audit card, JSON", text="")
        export = parts.card(self._code, self._json, title="6. Keep the facts, not the pictures")
        return [noise, tiles, own, export]

    # the work, in the job's thread

    def _events(self, attack: str) -> Iterator[Any]:
        from fedart_nb.attack_lab import Pausing, Shot, take_of

        self._pausing = Pausing()
        with self._lock:
            self.shots = []
        threat, scene, steps = self.board.threat, self.scene, self._steps.value
        if (threat.sees in ("steps", "sum", "adapter") and steps > 1) or not threat.first_round:
            yield Note("Training what is to be attacked")
        for event in take_of(
            scene,
            threat,
            self.defence,
            attack,
            evaluations=self._tries.value,
            budget_s=self._budget.value,
            pausing=self._pausing,
        ):
            if isinstance(event, Shot):
                with self._lock:
                    self.shots.append(event)
            else:
                self.takes[event.key] = event
            yield event
        self._baselines_of(scene, prior=True)

    def _comparing(self) -> Iterator[Any]:
        from fedart_nb.attack_lab import Pausing, Take, take_of

        self._pausing = Pausing()
        with self._lock:
            self.multiples = {}
        for name, threat, defence in self._five():
            yield Note(f"Attacking with this defence: {name}")
            for event in take_of(
                self.scene,
                threat,
                defence,
                "pixels",
                evaluations=self._tries.value,
                budget_s=self._budget.value,
                pausing=self._pausing,
            ):
                if isinstance(event, Take):
                    with self._lock:
                        self.multiples[name] = event
                    self.takes[event.key] = event
                yield event

    def _own_round(self) -> Iterator[Any]:
        from fedart_nb.attack_lab import OwnRound, Pausing, own_round

        self._pausing = Pausing()
        with self._lock:
            self.round = None
        for event in own_round(self.session, budget_s=self._budget.value, pausing=self._pausing):
            if isinstance(event, OwnRound):
                with self._lock:
                    self.round = event
            yield event

    def _five(self) -> list[tuple[str, ThreatModel, Defence]]:
        from fedart_nb.attack_lab import Defence

        knows = frozenset({"seed", "captions"})
        alone = ThreatModel("relay", "lora", knows, first_round=True)
        summed = ThreatModel("relay", "sum", knows, first_round=True)
        return [
            ("none", alone, Defence()),
            ("secret seed", alone, Defence(secret_seed=True)),
            ("sum of 3 artists", summed, Defence(artists=3)),
            ("noise 0.1", alone, Defence(noise_multiplier=0.1)),
            ("both: sum of 3, noise 0.1", summed, Defence(artists=3, noise_multiplier=0.1)),
        ]

    def _baselines_of(self, scene: Scene, *, prior: bool = False) -> dict[str, float]:
        """SSIM of guesses without any update; the prior-only sample takes a second and is drawn in the job."""
        from fedart_nb.attacks import Frame
        from fedart_nb.attacks.scoring import baselines, score

        kept = self._baselines.get(scene.key, {})
        if not kept or (prior and "prior-only sample" not in kept):
            truth = scene.truth
            scores = baselines(truth, backbone=scene.backbone if prior else None, public=scene.others)
            if truth.pictures is not None:
                grey = np.full_like(truth.pictures, _GREY)
                scores["plain grey square"] = score(Frame("grey", 0, 0, np.nan, 0.0, pictures=grey), truth)
            self._baselines[scene.key] = kept = {name: float(np.mean(score.ssim)) for name, score in scores.items()}
        return kept

    # what is shown, under the panel's lock

    def _show(self, event: Any) -> None:
        if isinstance(event, Note):
            self._progress.value = parts.progress(str(event), None, 1, "")
            self._say(str(event), now=True)
            return
        if self.shots and self.job is not None and self.job.name == "the attack":
            shot = self.shots[-1]
            self._progress.value = parts.progress(
                shot.frame.attack, shot.frame.evaluations, shot.frame.of, f"{parts.duration(shot.frame.seconds)}"
            )
            self._view.value = self._html(shot)
            self._say(str(shot))
        else:
            self._progress.value = parts.progress("attacking", None, 1, str(event)[:160])
            self._draw_multiples()

    def _end(self, job: Job) -> None:
        self._progress.value = ""
        if job.name == "the attack" and self.shots:
            known = self._known()
            if known is not None and job.state == "done":
                self._taken(known)
            else:
                self._trajectory()
                self._verdict.value = parts.notice(
                    f"Stopped after {self.shots[-1].frame.evaluations} tries; what was reached is kept.",
                    title="Stopped",
                )
        self._draw_multiples()
        if self.round is not None:
            self._round.value = views.round_html(self.round)

    def _taken(self, take: Take) -> None:
        with self._lock:
            self.value = take
            self._trajectory()
            self._verdict.value = views.verdict_html(take.last, self._baselines_of(self.scene)) + (
                parts.notice(
                    "Recorded with the package, of the same scene, weights and settings. Run does it again here."
                )
                if take.recorded
                else ""
            )
            self._code.text, self._json.text = self.cell(), json.dumps(self.audit())
            self._say(f"{take.attack}: {take.last.alt}", now=True)
        self._sync()

    def _trajectory(self) -> None:
        last = len(self.shots) - 1
        self._scrubbing.layout.display = "" if last > 0 else "none"
        words = {str(i): f"{i + 1}, after {shot.frame.evaluations} tries" for i, shot in enumerate(self.shots)}
        with self._scrub.hold_sync():
            self._scrub.max, self._scrub.words, self._scrub.value = float(max(1, last)), words, float(last)
        self._view.value = self._html(self.shots[last])

    def _see(self) -> None:
        with self._lock:
            if 0 <= self._scrub.value < len(self.shots):
                self._view.value = self._html(self.shots[int(self._scrub.value)])

    def _html(self, shot: Shot) -> str:
        scene = self.scene
        truth = scene.truth.pictures if scene.truth.pictures is not None else scene.picture
        return views.shot_html(shot, truth[0], self._baselines_of(scene), scene.lineup)

    def _level(self) -> None:
        if not self.levels or self.recording is None:
            return
        index = int(self._slider.value)
        if index not in self._drawn:
            truth, lineup, place = self._recorded()
            if not hasattr(self, "_corridor"):
                self._corridor = views.corridor(self.levels, numbers=truth.size)
            self._drawn[index] = views.level_html(self.levels[index], truth, lineup, place, self._corridor)
        with self._lock:
            self._linked.value = self._drawn[index]
            self._say(str(self.levels[index]), now=True)

    def _recorded(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8], int]:
        """Picture, line-up and place of the recording's scene."""
        recording = self.recording
        if recording is None:
            raise AttackError("There is no recording.")
        return recording.truth, recording.lineup, recording.place

    def _draw_multiples(self) -> None:
        html = self._side_by_side(dict(self.multiples)) if self.multiples else self._side_by_side_recorded()
        with self._lock:
            if self._tiles.value != html:
                self._tiles.value = html

    def _side_by_side(self, takes: dict[str, Take]) -> str:
        tiles = "".join(views.tile_html(name, takes.get(name)) for name, _, _ in self._five())
        return f'<div class="fedart-multiples">{tiles}</div>'

    def _side_by_side_recorded(self) -> str:
        if self.recording is None:
            return self._side_by_side({})
        kept = {str(take.defence): take for take in self.recording.takes if take.attack == "pixels"}
        takes = {name: kept[str(defence)] for name, _, defence in self._five() if str(defence) in kept}
        return f"{self._side_by_side(takes)}<p>Recorded, of {escape(self.recording.about)}.</p>"

    def _switched(self) -> None:
        self._sync()

    def _known(self) -> Take | None:
        from fedart_nb.attack_lab.runs import key_of

        attack = self.board.attack
        if not attack or self.board.why_not(attack):
            return None
        return self.takes.get(key_of(self.scene, self.board.threat, self.defence, attack, self._tries.value))

    def _sync(self) -> None:
        if not hasattr(self, "_round"):
            return
        busy = self.is_busy
        mine = busy and self.job is not None and not self.job.has_ended
        attacking = mine and self.job is not None and self.job.name in ("the attack", "five defences")
        self.board.sleep(busy)
        for control in (
            self._picture,
            self._steps,
            self._artists,
            self._noise,
            self._secret,
            self._budget,
        ):
            control.disabled = busy
        self._tries.disabled = busy or self.board.attack not in BY_TRIES
        self._run.disabled = busy or not self.board.attack
        self._replay.disabled = busy or not self.can_replay
        self._pause.disabled = not attacking
        self._pause.description = "Go on" if attacking and self._pausing.paused else "Pause"
        self._pause.icon = "play" if attacking and self._pausing.paused else "pause"
        self._cancel.disabled = not mine
        self._scrub.disabled = attacking and not self._pausing.paused
        self._all_five.disabled = busy
        self._own.disabled = busy or not getattr(self.session, "can_look_back", False)

    def _summary(self) -> list[tuple[str, str]]:
        threat = self.board.threat
        told = [
            ("attacker", f"{threat.who}, sees {threat.sees}, knows {', '.join(sorted(threat.knows)) or 'nothing more'}")
        ]
        if self.value is not None:
            told.append(("result", f"{self.value.attack}: {self.value.last.score}"))
        return told

    def _static_body(self) -> str:
        """Words, and what was recorded of sample art: other reconstructions stay in the page in front of the artist."""
        packaged = self.recording is not None and self._packaged and not self._short
        recorded = self._side_by_side_recorded() if packaged else ""
        return f"{self._verdict.value}{recorded}"
