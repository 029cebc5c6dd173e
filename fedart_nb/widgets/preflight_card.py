"""The moment before an update leaves: it is attacked here first, and the artist sends it, strengthens it, or skips."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets
import numpy as np

from fedart_nb.errors import FedArtError, RoundError
from fedart_nb.events import Found, Waiting
from fedart_nb.figures import png_bytes
from fedart_nb.widgets import parts
from fedart_nb.widgets.unsaved import UnsavedHTML

if TYPE_CHECKING:
    from fedart_nb.attack_lab import Finding, Shot
    from fedart_nb.session import Decision, Session

__all__ = ["PreflightCard"]

_LOOK_S = 0.25
_SMALL = 74
_MOST = 12


class PreflightCard(ipywidgets.VBox):
    """A card of RoomPanel; `look` is what `Session.rounds(preflight=...)` takes.

    `finding` is what came out of the last update looked at; the three buttons have methods of the same name.

    Args:
        asks: whether a person is there to decide; without one the update is sent when it has been looked at.
        on_change: called when the card opens, closes or has news.
    """

    def __init__(self, session: Session, *, asks: Callable[[], bool], on_change: Callable[[], None]) -> None:
        self.session = session
        self.finding: Finding | None = None
        self.waiting = False
        self._asks, self._on_change = asks, on_change
        self._decision: Decision | None = None
        self._decided = threading.Event()
        self._lock = threading.RLock()
        self._text, self._found = ipywidgets.HTML(), UnsavedHTML()
        self._budget = parts.field(
            ipywidgets.BoundedFloatText(description="Seconds for the attacks", value=30.0, min=1, max=3600)
        )
        self._epsilon = parts.field(
            ipywidgets.BoundedFloatText(description="Most epsilon for a picture", value=8.0, min=0.1, max=1000)
        )
        self._sending = parts.button("Send it", self.send_it, icon="paper-plane", style="primary")
        self._stronger = parts.button("Train it again with noise", self.strengthen, icon="shield")
        self._skip = parts.button("Do not send: skip", self.skip, icon="forward")
        super().__init__(
            [
                ipywidgets.HTML(parts.heading("Before it leaves", level=4)),
                self._text,
                self._found,
                parts.row(self._sending, self._skip, self._stronger, self._epsilon),
            ]
        )
        self.add_class("fedart-card")
        self.add_class("fedart-raised")
        self.layout.display = "none"

    @property
    def budget(self) -> Any:
        """The field for seconds, to be shown where rounds are agreed to."""
        return self._budget

    def send_it(self) -> None:
        """Mask the update and send it."""
        self._decide("send")

    def skip(self) -> None:
        """Send nothing in this round."""
        self._decide("skip")

    def strengthen(self) -> None:
        """Throw the update away, train it again with noise (or twice the noise), pay, and look at it again."""
        self._decide(self._privacy())

    def look(self, plan: Any, view: Any) -> Generator[Any, None, Decision]:
        """Attack an update, show what came out, and wait for a decision; what `Session.rounds` calls."""
        from fedart_nb.attack_lab import Finding, Pausing, look

        self._open(plan)
        epsilon, delta = self._cost()
        pausing = Pausing()
        self._pausing = pausing
        try:
            shot: Any = None
            for event in look(
                self.session, view, budget_s=self._budget.value, epsilon=epsilon, delta=delta, pausing=pausing
            ):
                if isinstance(event, Finding):
                    with self._lock:
                        self.finding = event
                    break
                shot = event
                self._tell(f"Attacking it here: {event.frame.attack}, {event.frame.evaluations} of {event.frame.of}")
                yield event
                if self._decision is not None:
                    break
            self._show(shot)
            if self.finding is not None:
                yield Found(self.finding.sentences)
            if not self._asks() and self._decision is None:
                self._decision = "send"
            while self._decision is None:
                yield Waiting("Your update is ready, and waits for you: send it, strengthen it, or skip.")
                self._decided.wait(_LOOK_S)
            decision = self._decision
            if self.finding is not None:
                named = decision if isinstance(decision, str) else "trained again with noise"
                text = f"Looked at before it left, in round {plan.number}: {self.finding} Decision: {named}."
                self.session.note(text, self.finding.record | {"round": plan.number, "decision": named})
            return decision
        finally:
            self._close()

    def _decide(self, decision: Decision) -> None:
        if not self.waiting:
            raise RoundError("No update waits to be sent. This card opens when one is trained.")
        self._decision = decision
        self._pausing.stop()
        self._decided.set()

    def _privacy(self) -> Any:
        """No noise yet: the epsilon in the field. Else the same budget and twice the noise."""
        from fedart_nb.diffusion import PicturePrivacy

        held = self.session.privacy
        if not isinstance(held, PicturePrivacy):
            return PicturePrivacy(epsilon=self._epsilon.value)
        last = self.session.ledger().entries[-1].mechanism
        return replace(held, noise_multiplier=2 * float(getattr(last, "noise_multiplier", 1.0)))

    def _cost(self) -> tuple[float, float]:
        from fedart_nb.diffusion import PicturePrivacy

        if not isinstance(getattr(self.session, "privacy", None), PicturePrivacy):
            return math.inf, 0.0
        with suppress(FedArtError):
            ledger = self.session.ledger()
            return ledger.spent, ledger.budget.delta
        return math.inf, 0.0

    def _open(self, plan: Any) -> None:
        from fedart_nb.diffusion import PicturePrivacy

        with self._lock:
            self._decision, self.finding, self.waiting = None, None, True
            self._decided.clear()
            noised = isinstance(getattr(self.session, "privacy", None), PicturePrivacy)
            self._stronger.description = "Train it again, twice the noise" if noised else "Train it again with noise"
            self._epsilon.layout.display = "none" if noised else ""
            self._stronger.disabled = plan.protection == "artist"
            self._found.value = ""
            self._tell(f"Round {plan.number}: your update is trained. Nothing of it has left.")
            self.layout.display = ""
        self._on_change()

    def _close(self) -> None:
        with self._lock:
            self.waiting = False
            self.layout.display = "none"
        self._on_change()

    def _tell(self, text: str) -> None:
        with self._lock:
            self._text.value = f"<p>{escape(text)}</p>"

    def _show(self, shot: Shot | None) -> None:
        finding = self.finding
        if finding is None:
            return
        items = "".join(f"<li>{escape(sentence)}</li>" for sentence in finding.sentences)
        refused = "".join(
            f"<li><strong>{escape(name)}:</strong> not tried. {escape(why)}</li>"
            for name, why in finding.not_tried.items()
        )
        tiles = self._lineup(shot) if shot is not None and shot.frame.attack == "identify" else ""
        given = (
            "What leaves is masked: relay and host see random numbers and a sum. These attacks were given more: your "
            "update in the clear, as it would lie open if all others worked together."
        )
        with self._lock:
            self._tell(f"Attacked here for {parts.duration(finding.seconds)}. Nothing has left yet.")
            self._found.value = (
                f'<ul class="fedart-list">{items}{refused}</ul>{tiles}{parts.notice(given, title="What this means")}'
            )
        self._on_change()

    def _lineup(self, shot: Shot) -> str:
        """The candidates in the attacker's order; the artist's own are named in words."""
        candidates, own = self._candidates
        tiles = []
        for place, (index, _score) in enumerate(shot.frame.ranking[:_MOST], start=1):
            mine = index in own
            alt = f"place {place}: {'your picture' if mine else 'a picture that was not trained on'}"
            tile = parts.picture(
                png_bytes(candidates[index]), alt, caption=f"{place}. {'✓ yours' if mine else 'not'}", size_px=_SMALL
            )
            tiles.append(f'<div class="fedart-candidate{" fedart-right" if mine else ""}">{tile}</div>')
        return f'<div class="fedart-lineup">{"".join(tiles)}</div>' if tiles else ""

    @property
    def _candidates(self) -> tuple[Any, frozenset[int]]:
        finding = self.finding
        if finding is None or finding.lineup is None:
            return np.zeros((0, 1, 1, 3), np.uint8), frozenset()
        return finding.lineup, frozenset(finding.places)
