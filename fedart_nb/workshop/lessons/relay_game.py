"""The panel in which the reader plays the relay and the host, cheats, and sees who notices."""

from __future__ import annotations

from html import escape
from typing import Any

import ipywidgets

from fedart_nb.widgets import parts
from fedart_nb.widgets.panel import Panel
from fedart_nb.widgets.roster_card import roster_table
from fedart_nb.workshop.lessons.dishonest_relay import NAMES, TRICKS, Played, play

__all__ = ["RelayGamePanel"]


class RelayGamePanel(Panel):
    """Choose a trick, predict who notices, and play it on a real round of five artists in this kernel.

    `value` is the last `Played`; `panel.play("another model")` does what the button does.

    Example:
        >>> panel = RelayGamePanel()
        >>> panel.play("zeroed adapter").value.caught
        True
    """

    title = "Be the relay, and cheat"
    lead = (
        f"You are relay and host in one. {', '.join(NAMES[:-1])} and {NAMES[-1]} run a real round, here in this kernel."
    )

    def __init__(self) -> None:
        super().__init__(self)
        self._tried: dict[str, Played] = {}
        choices = [(trick.title, name) for name, trick in TRICKS.items()]
        self._trick = parts.field(ipywidgets.Dropdown(description="What do you do?", options=choices), grow=True)
        self._trick.observe(lambda _change: self._chosen(), "value")
        self._aim, self._outcome, self._table = ipywidgets.HTML(), ipywidgets.HTML(), ipywidgets.HTML()
        start = self._button("Play", lambda: self.play(self._trick.value), icon="play", style="primary")
        self._compose(
            parts.card(parts.row(self._trick, start), self._aim, title="Your trick"),
            parts.card(self._outcome, self._table, title="What came of it"),
        )
        self._chosen()
        self._outcome.value = "<p>Before you press Play: who will notice, and by what?</p>"

    def play(self, name: str) -> RelayGamePanel:
        """Run one trick; its name is a key of `lessons.TRICKS`."""
        with self._reporting():
            played = play(name)
            with self._lock:
                self._clear_error()
                self._trick.value = name
                self._tried[name] = played
                self.value = played
                self._outcome.value = self._told(played)
                self._draw()
                self._say("Noticed" if played.caught else "Nobody noticed", now=True)
        return self

    def _chosen(self) -> None:
        trick = TRICKS[self._trick.value]
        self._aim.value = f"<p><strong>What it would be good for:</strong> {escape(trick.aim)}</p>"

    def _told(self, played: Played) -> str:
        if played.asked is not None and not played.words:
            return self._told_of_people(played)
        if played.words:
            rows = [[artist, words] for artist, words in played.words.items()]
            text = (
                "No message is wrong: every key is signed by its owner, and you own all but one. Only the safety "
                "numbers differ. Ada's kernel asks her before it masks anything; if she says yes without counting or "
                "comparing, you win."
            )
            box = parts.notice(text, level="warning", title="Only people can notice this")
            words = parts.table(("artist", "safety number"), rows, caption="The words that two people would read out")
            return box + words + (roster_table(played.asked) if played.asked is not None else "")
        first: dict[str, str] = {}
        for artist, sentence in played.noticed:
            first.setdefault(artist, sentence)
        said = "".join(f"<p><strong>{escape(a)}’s kernel says:</strong> {escape(s)}</p>" for a, s in first.items())
        ended = (
            f"The round went on with {played.contributors} updates."
            if played.finished
            else "The round came to no result."
        )
        return parts.notice(ended, level="success", title=f"Noticed by {', '.join(first)}") + said

    def _told_of_people(self, played: Played) -> str:
        """What Ada is asked, and what a yes would have cost her."""
        roster = played.asked
        assert roster is not None  # noqa: S101 - it is told of questions alone
        kept = "Nothing of hers has left." if not played.left else "Her update has left."
        read = ""
        if played.read is not None:
            read = f" Had she said yes, you would have read her update to a cosine of {played.read:.4f}."
        level: parts.Level = "warning" if played.left else "success"
        box = parts.notice(f"{roster.warning} {kept}{read}", level=level, title="Ada is asked")
        return box + roster_table(roster)

    def _draw(self) -> None:
        rows = [
            (TRICKS[name].title, self._who(played), "yes" if played.finished else "no")
            for name, played in self._tried.items()
        ]
        caption = f"{len(rows)} of {len(TRICKS)} tricks played"
        self._table.value = parts.table(("trick", "noticed by", "the round ended with a result"), rows, caption=caption)

    def _who(self, played: Played) -> str:
        if played.words:
            return "people who compare words"
        if played.asked is not None:
            return "Ada, who is asked and counts"
        return ", ".join(dict.fromkeys(artist for artist, _ in played.noticed)) or "nobody"

    def _summary(self) -> list[tuple[str, Any]]:
        return [("tricks played", f"{len(self._tried)} of {len(TRICKS)}")]

    def _static_body(self) -> str:
        return str(self._outcome.value + self._table.value)
