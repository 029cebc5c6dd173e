"""The panel "What the relay saw": your update, the relay's bytes of it, and what colluders could compute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets

from fedart_nb.figures import relay_view
from fedart_nb.widgets import parts
from fedart_nb.widgets.panel import Panel
from fedart_nb.widgets.weight import Weight

if TYPE_CHECKING:
    from fedart_nb.federated import RelayView, Sight
    from fedart_nb.session import Session

__all__ = ["RelayViewPanel"]

_UPDATE = "Your update (known here only)"


class RelayViewPanel(Panel):
    """A finished round as the relay saw it; the relay's copy of your bytes is fetched from the relay itself.

    `value` is the `Sight` that the slider shows. `others` are sessions of this kernel that were in the round too (a
    rehearsal): with them, what colluders compute is computed here; without them it is estimated, and it says so.

    Example:
        >>> panel = RelayViewPanel(session)
        >>> panel.look()
        >>> panel.collude(2)
    """

    title = "What the relay saw"
    lead = "The last finished round: your update, the bytes that the relay holds of it, and the mean that came out."

    def __init__(self, session: Session, *, others: Sequence[Session] = ()) -> None:
        super().__init__(session)
        self.session, self.others = session, tuple(others)
        self.view: RelayView | None = None
        self._drawn: dict[tuple[int, bool], str] = {}
        self._build()
        if getattr(session, "can_look_back", False):
            self.look()

    def look(self) -> RelayViewPanel:
        """Fetch the relay's copy of your last masked update and show it beside the true one."""
        with self._reporting():
            view = self.session.relay_view(self.others)
            with self._lock:
                self._clear_error()
                self.view = view
                self._drawn = {}
                columns: list[tuple[str, str, Any]] = [
                    (_UPDATE, "value", view.update),
                    ("What the relay holds of it", "word", view.held),
                    (f"The mean of all {view.contributors}", "value", view.mean),
                ]
                drawn = relay_view(columns, [1.0, view.relay_correlation(), view.sum_correlation()])
                self._figure.value = drawn.to_html()
                self._facts.value = parts.facts(self._known(view))
                with self._slider.hold_sync():
                    self._slider.max = float(view.contributors - 1)
                    self._slider.marks = [float(mark) for mark in range(view.contributors)]
                    self._slider.value = 0.0
                self._body.layout.display = ""
                self._see()
        return self

    def collude(self, colluders: int, *, foul: bool | None = None) -> RelayViewPanel:
        """Let so many other artists help the relay; `foul`: relay and host lie as well."""
        with self._reporting():
            if self.view is not None:
                self.view.sight(colluders, foul=bool(foul))  # its error names the range
            if foul is not None:
                self._foul.value = foul
            self._slider.value = float(colluders)
        return self

    def _build(self) -> None:
        look = self._button("Look at the last round", self.look, icon="eye", style="primary")
        self._figure, self._facts = ipywidgets.HTML(), ipywidgets.HTML()
        self._slider = Weight(
            label="Artists who collude with the relay", value=0.0, max=1.0, step=1.0, words={"0": "none"}
        )
        self._foul = ipywidgets.Checkbox(
            value=False, description="Relay and host also lie to the artists", indent=False
        )
        self._foul.layout.width = "auto"
        self._foul.add_class("fedart-check")
        for control in (self._slider, self._foul):
            control.observe(lambda _change: self._see(), "value")
        self._sentence, self._seen = ipywidgets.HTML(), ipywidgets.HTML()
        self._body = ipywidgets.VBox(
            [
                parts.card(self._figure, self._facts, title="Side by side"),
                parts.card(self._slider, self._foul, self._sentence, self._seen, title="If artists help the relay"),
            ]
        )
        self._body.add_class("fedart-stack")
        self._body.layout.display = "none"
        self._compose(parts.row(look), self._body)

    def _see(self) -> None:
        view = self.view
        if view is None:
            return
        colluders, foul = round(self._slider.value), bool(self._foul.value)
        sight = view.sight(min(colluders, view.contributors - 1), foul=foul)
        level: parts.Level = "danger" if sight.exposed else ("warning" if sight.honest == 2 else "info")
        title = "Your update lies open" if sight.exposed else f"Hidden among {sight.honest}, yours included"
        key = (sight.colluders, foul)
        if key not in self._drawn:
            self._drawn[key] = self._draw(view, sight)
        with self._lock:
            self._sentence.value = parts.notice(sight.sentence, level=level, title=title)
            self._seen.value = self._drawn[key]
            self.value = sight
            self._say(f"{sight.colluders} colluders: {title}", now=True)

    def _draw(self, view: RelayView, sight: Sight) -> str:
        if sight.values is None:
            return parts.facts([("correlation with your update, expected", f"{sight.correlation:.2f}")])
        title = "What they hold: your update" if sight.exposed else f"What they can compute: the mean of {sight.honest}"
        columns = [(_UPDATE, "value", view.update), (title, "value", sight.values)]
        return relay_view(columns, [1.0, sight.correlation], width_in=5.6).to_html()

    def _known(self, view: RelayView) -> list[tuple[str, str]]:
        bound = 2 / len(view.update) ** 0.5
        noise = f"yes: clipped, your own share has a standard deviation of {view.noise_std:.2g} on each number"
        return [
            ("noise before masking", noise if view.noise_std else "none"),
            ("round", str(view.number)),
            (
                "the relay's correlation with your update",
                f"{view.relay_correlation():+.4f} (chance: within ±{bound:.4f})",
            ),
            ("the sum's correlation with it", f"{view.sum_correlation():+.3f}"),
            (
                "colluders who break it",
                f"{view.breaks_at()} of {view.contributors - 1} others, {view.breaks_at(foul=True)} if all lie",
            ),
            ("the relay also knows", "your id and chosen name, sizes, and when you sent"),
        ]

    def _summary(self) -> list[tuple[str, str]]:
        return self._known(self.view) if self.view is not None else [("round", "none looked at yet")]

    def _static_body(self) -> str:
        return str(self._figure.value + self._sentence.value)
