"""The switchboard: who attacks, what they see and know, and which attacks that leaves, the others with reasons."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from html import escape

import ipywidgets

from fedart_nb.attacks import ATTACKS, KNOWS, SEES, WHO, ThreatModel
from fedart_nb.errors import AttackError
from fedart_nb.widgets import parts

__all__ = ["Switchboard"]

_MARK = "✓ "


class Switchboard(ipywidgets.VBox):
    """Stock buttons only; what is chosen begins with a tick, what is impossible is greyed and says why.

    `threat` is the setting, `attack` the attack chosen ("" while none is possible).

    Args:
        offered: the attacks that can be run here; the others say that they are elsewhere.
        absent: pieces of knowledge that this place has not got, with the reason.
        on_change: called after every change.
    """

    def __init__(
        self,
        threat: ThreatModel,
        *,
        attack: str,
        offered: Iterable[str],
        absent: Mapping[str, str] | None = None,
        on_change: Callable[[], None],
    ) -> None:
        self._on_change = on_change
        self._offered, self._absent = frozenset(offered), dict(absent or {})
        self._who, self._sees, self._knows = threat.who, threat.sees, set(threat.knows)
        self._first, self.attack = threat.first_round, attack
        self._buttons: dict[tuple[str, str], ipywidgets.Button] = {}
        self._reasons: dict[str, ipywidgets.HTML] = {}
        columns = [
            self._column("who", "Who attacks?", WHO),
            self._column("sees", "What do they see?", SEES),
            self._column("knows", "What do they know?", KNOWS),
        ]
        columns[1].children = (
            *columns[1].children,
            self._toggle("first", "round", "it is the first round (B is zero)"),
        )
        board = ipywidgets.HBox(columns)
        board.add_class("fedart-board")
        self._note = ipywidgets.HTML()
        rows = [self._row(name, text) for name, text in ATTACKS.items()]
        attacks = ipywidgets.VBox([ipywidgets.HTML("<strong>What can be tried</strong>"), *rows])
        attacks.add_class("fedart-attacks")
        super().__init__([board, self._note, attacks])
        self.add_class("fedart-stack")
        self._busy = False
        self._draw()

    @property
    def threat(self) -> ThreatModel:
        """The setting."""
        first = self._first and self._sees != "gradient"  # there is no B then
        return ThreatModel(self._who, self._sees, frozenset(self._knows), first_round=first)

    def set(self, threat: ThreatModel, attack: str | None = None) -> None:
        """Put the switches so."""
        self._who, self._sees, self._knows = threat.who, threat.sees, set(threat.knows)
        self._first = threat.first_round
        if attack is not None:
            self.attack = attack
        self._changed()

    def why_not(self, attack: str) -> str:
        """Why an attack cannot be run here with these switches; "" where it can."""
        why = self.threat.why_not(attack)
        return why or ("" if attack in self._offered else "Not in this panel; the library has it (fedart_nb.attacks).")

    def sleep(self, busy: bool) -> None:
        """Grey everything while an attack runs."""
        if busy != self._busy:
            self._busy = busy
            self._draw()

    def _column(self, group: str, title: str, options: Mapping[str, str]) -> ipywidgets.VBox:
        box = ipywidgets.VBox(
            [
                ipywidgets.HTML(f"<strong>{escape(title)}</strong>"),
                *(self._toggle(group, name, text) for name, text in options.items()),
            ]
        )
        box.add_class("fedart-column")
        return box

    def _toggle(self, group: str, name: str, text: str) -> ipywidgets.Button:
        button = parts.button(text, partial(self._press, group, name))
        button.add_class("fedart-switch")
        self._buttons[group, name] = button
        return button

    def _row(self, name: str, text: str) -> ipywidgets.HBox:
        reason = ipywidgets.HTML()
        self._reasons[name] = reason
        row = ipywidgets.HBox([self._toggle("attack", name, f"{name}: {text}"), reason])
        row.add_class("fedart-attack")
        return row

    def _press(self, group: str, name: str) -> None:
        if group == "who":
            self._who = name
        elif group == "sees":
            self._sees = name
        elif group == "knows":
            self._knows ^= {name}
        elif group == "first":
            self._first = not self._first
        else:
            self.attack = name
        self._changed()

    def _changed(self) -> None:
        self._draw()
        self._on_change()

    def _draw(self) -> None:
        threat = self.threat
        possible = [name for name in ATTACKS if not self.why_not(name)]
        if self.attack not in possible:
            self.attack = possible[0] if possible else ""
        notes = []
        for (group, name), button in self._buttons.items():
            chosen, why = self._state(group, name)
            text = self._text(group, name)
            button.description = f"{_MARK}{text}" if chosen else text
            (button.add_class if chosen else button.remove_class)("fedart-raised")
            button.disabled = self._busy or bool(why)
            if group == "attack":
                self._reasons[name].value = f"<span>{escape(why)}</span>" if why else ""
            elif why:
                notes.append(f"<li><strong>{escape(text)}:</strong> {escape(why)}</li>")
        items = f'<ul class="fedart-list">{"".join(notes)}</ul>'
        greyed = f"<details><summary>Why some switches are grey</summary>{items}</details>" if notes else ""
        self._note.value = f"<p>{escape(threat.in_the_product)}</p>{greyed}"

    def _state(self, group: str, name: str) -> tuple[bool, str]:
        if group == "who":
            return name == self._who, ""
        if group == "sees":
            why = ThreatModel(self._who, name, first_round=self._first and name != "gradient").contradiction
            return name == self._sees, why
        if group == "knows":
            return name in self._knows, self._absent.get(name, "")
        if group == "first":
            why = "The whole denoiser is trained: there is no B." if self._sees == "gradient" else ""
            return self._first and not why, why
        if name not in ATTACKS:
            raise AttackError(f"There is no attack {name!r}.")
        return name == self.attack, self.why_not(name)

    def _text(self, group: str, name: str) -> str:
        if group == "attack":
            return f"{name}: {ATTACKS[name]}"
        if group == "first":
            return "it is the first round (B is zero)"
        return {"who": WHO, "sees": SEES, "knows": KNOWS}[group][name]
