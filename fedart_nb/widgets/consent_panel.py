"""The panel of consent: what was agreed to, what each picture has influenced, and the two ways out."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets

from fedart_nb._system.files import private_folder, user_path, write_file, write_private
from fedart_nb._system.folders import unique_folder
from fedart_nb.consent.receipt_report import sentence_of
from fedart_nb.errors import FedArtError
from fedart_nb.widgets import parts
from fedart_nb.widgets.panel import Panel
from fedart_nb.widgets.unsaved import UnsavedHTML

if TYPE_CHECKING:
    from fedart_nb.session import Session

__all__ = ["ConsentPanel"]

_WITHDRAWN = (
    "You have left and withdrawn: you are in no further round. The host is asked whether the room goes back to before "
    "your first round; they may say no, and this kernel does not hear their answer. The relay was told to delete "
    "what you uploaded. Copies that somebody kept are as they were."
)


class ConsentPanel(Panel):
    """What one artist agreed to, in the room that the session is in. `value` is the number of receipts.

    Withdrawing takes two steps: `withdraw()` says what will happen, `withdraw(sure=True)` does it.

    Example:
        >>> panel = ConsentPanel(session)
        >>> panel.stand()  # agree to every round of this room
        >>> panel.rethink()  # but not to the one that is running
        >>> panel.save("my-records")
        >>> print(panel.withdraw())
        You took part in 2 finished rounds, from round 1 on. ...
    """

    title = "Consent"
    lead = "What you agreed to, what came of it, and how to take it back. Every choice is a signed receipt."

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.session = session
        self.saved: tuple[Path, ...] = ()
        self._build()
        self.look()

    def look(self) -> ConsentPanel:
        """Read the receipts again."""
        with self._reporting():
            receipts = self.session.consent.receipts
            with self._lock:
                self._clear_error()
                self.value = len(receipts)
            self._show()
        return self

    def stand(self) -> ConsentPanel:
        """Agree to every round of this room, as long as its terms stay as they are."""
        with self._reporting():
            self.session.consent.stand()
            self.look()
        return self

    def ask_again(self) -> ConsentPanel:
        """Be asked before each round from now on."""
        with self._reporting():
            self.session.consent.ask_again()
            self.look()
        return self

    def rethink(self) -> str:
        """Skip the running round after all; returns, and shows, what that still changes."""
        with self._reporting():
            told = self.session.consent.change("skip")
            self.look()
            self._told.value = parts.notice(told, title="You changed your mind")
            self._say(told, now=True)
        return told

    def withdraw(self, *, sure: bool = False) -> str:
        """Say what withdrawing would do, and with `sure` do it: leave the room, which then trains without you."""
        with self._reporting():
            told = self.cost()
            if sure:
                self.session.leave(withdraw=True)
                told = _WITHDRAWN
            with self._lock:
                self._asked = not sure
                self._cost.value = parts.notice(told, level="warning", title="Withdrawing")
                self._say(told, now=True)
            self.look()
        return told

    def keep(self) -> ConsentPanel:
        """Do not withdraw."""
        with self._lock:
            self._asked, self._cost.value = False, ""
            self._sync()
        return self

    def cost(self) -> str:
        """What withdrawing from this room would do now, as sentences."""
        rounds = self.session.consent.rounds_with(self.session.consent.room)
        if not rounds:
            return (
                "No sum of this room holds an update of yours, so nothing is trained again: you leave, and the relay "
                "deletes what you uploaded."
            )
        again = self.session.consent.rounds_since(self.session.consent.room, rounds[0])
        many = f"{len(rounds)} finished round{'s' if len(rounds) > 1 else ''}"
        return (
            f"You took part in {many}, from round {rounds[0]} on. If you withdraw, you are in no further round. The "
            f"host is then asked whether the room goes back to before round {rounds[0]}, and may say no. If it does, "
            f"the others are asked to train {again} round{'s' if again > 1 else ''} again, each in their kernel: about "
            "as long as the first time, and it costs those who train with noise that much epsilon again. What is "
            "made then has seen nothing of yours. Two things it cannot do: take back copies of the former shared "
            "adapters, and hide that somebody left. Who holds the former sums and the new ones can compare them."
        )

    def save(self, folder: str | Path | None = None) -> tuple[Path, Path]:
        """Write all receipts as Markdown and JSON; the session's folder by default."""
        with self._reporting():
            consent = self.session.consent
            if not consent.receipts:
                raise FedArtError("There are no receipts to save yet. Agree to a round, or skip one, first.")
            target = user_path(folder) if folder is not None else self.session.folder / "consent"
            write = write_file if folder is not None else write_private  # what is handed on is its owner's choice
            if folder is None:
                private_folder(target)
            name = unique_folder(self.session.name)
            text, data = target / f"consent-{name}.md", target / f"consent-{name}.json"
            pictures = [picture.id for picture in self._pictures()]
            write(text, consent.statement(pictures, name=self.session.name).encode())
            write(data, json.dumps(consent.to_json(pictures), indent=1).encode())
            with self._lock:
                self.saved = (text, data)
                self._where.value = parts.notice(f"{text}\n{data}", level="success", title="Saved")
                self._say("The receipts are saved.", now=True)
        return text, data

    # --- how it looks ---

    def _build(self) -> None:
        self._asked = False
        self._state, self._told, self._receipts = ipywidgets.HTML(), ipywidgets.HTML(), ipywidgets.HTML()
        self._influence, self._cost, self._where = UnsavedHTML(), ipywidgets.HTML(), ipywidgets.HTML()
        self._stand = self._button("Agree to every round", self.stand, icon="check", style="primary")
        self._ask = self._button("Ask me before each round", self.ask_again, icon="question")
        self._rethink = self._button("Skip this round after all", self.rethink, icon="undo")
        self._picture = ipywidgets.Dropdown(description="Picture", options=[("(none loaded)", "")])
        self._picture.observe(lambda _change: self._show_influence(), "value")
        self._read = self._button("Read again", self.look, icon="refresh")
        self._save = self._button("Save the receipts", self.save, icon="download")
        self._withdraw = self._button("Withdraw me", self.withdraw, icon="sign-out")
        self._sure = self._button("Yes, withdraw me", lambda: self.withdraw(sure=True), icon="sign-out", style="danger")
        self._keep = self._button("No, stay", self.keep, icon="times")
        self._compose(
            parts.card(self._state, parts.row(self._stand, self._ask, self._rethink), self._told, title="Your word"),
            parts.card(parts.field(self._picture), self._influence, title="What a picture has influenced"),
            parts.card(self._receipts, parts.row(self._read, self._save), self._where, title="Receipts"),
            parts.card(
                self._cost, parts.row(self._withdraw, self._sure, self._keep), title="Leave, and be trained without"
            ),
        )

    def _pictures(self) -> tuple[Any, ...]:
        """Those that rounds train on; none where no art is loaded yet."""
        return tuple(self.session.art.included("train")) if self.session.art is not None else ()

    def _show(self) -> None:
        consent = self.session.consent
        with self._lock:
            if not consent.room:
                self._state.value = parts.notice("Join a room first; there is nothing to agree to yet.")
            elif consent.standing:
                self._state.value = parts.notice(
                    "Every round of this room is contributed to, as long as its terms stay as they are. A round that "
                    "runs can still be skipped.",
                    title="Standing consent",
                )
            else:
                self._state.value = parts.notice(
                    "Nothing leaves this kernel unless you are asked, and say yes.",
                    level="success",
                    title="You are asked",
                )
            rows = [
                (str(one.body["time"]).replace("T", " ").rstrip("Z"), escape(sentence_of(one.body)))
                for one in reversed(consent.receipts)
                if one.kind in ("choice", "outcome")
            ]
            table = parts.table(("when (UTC)", "what"), rows, caption=f"{len(rows)} receipts, newest first", safe=True)
            sound = "Every receipt is signed, and names the hash of the one before it: none was changed or taken out."
            self._receipts.value = f"{parts.scrolling(table, 'receipts')}<p>{sound}</p>" if rows else "<p>None yet.</p>"
            pictures = self._pictures()
            sample = bool(getattr(self.session.art, "is_sample", False))
            named = [(one.caption if sample else f"Picture {i}", one.id) for i, one in enumerate(pictures, start=1)]
            self._picture.options = named or [("(none loaded)", "")]
            self._show_influence()
        self._sync()
        self._still.renew()

    def _show_influence(self) -> None:
        picture = self._picture.value
        if not picture:
            self._influence.value = "<p>Load your art to see what each picture is in.</p>"
            return
        told = self.session.consent.influence(picture)
        caption = next((one.caption for one in self._pictures() if one.id == picture), "")
        sentences = "".join(f"<p>{escape(sentence)}</p>" for sentence in told.sentences)
        self._influence.value = f"<p><strong>{escape(caption[:200])}</strong></p>{sentences}"

    def _sync(self) -> None:
        consent = self.session.consent
        inside = bool(consent.room) and (self.session.side is None or not self.session.side.left)
        self._stand.disabled = not inside or consent.standing
        self._ask.disabled = not inside or not consent.standing
        self._rethink.disabled = consent.leaving is None
        self._withdraw.disabled = not inside or self._asked
        self._sure.layout.display = self._keep.layout.display = None if self._asked else "none"
        self._save.disabled = not self.value

    def _summary(self) -> list[tuple[str, str]]:
        consent = self.session.consent
        return [
            ("room", consent.room or "none"),
            ("your word", "every round" if consent.standing else "asked before each round"),
            ("receipts", str(self.value or 0)),
        ]

    def _static_body(self) -> str:
        return str(self._state.value) + str(self._receipts.value)
