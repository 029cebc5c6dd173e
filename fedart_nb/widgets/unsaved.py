"""What the page shows and a saved notebook does not hold: own pictures, captions, and links that let people in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary, WeakSet, ref

import anywidget
import traitlets

__all__ = ["Keeping", "UnsavedHTML", "UnsavedText", "keeping_of"]

_STATIC = Path(__file__).parent / "static"


class Keeping(traitlets.HasTraits):
    """Whether saved notebooks may hold the pictures and captions of one session; all of its panels share it.

    `ticked` is the artist's choice. Sample art is kept without it: everybody has it.
    """

    ticked = traitlets.Bool(default_value=False)

    def __init__(self, session: Any) -> None:
        super().__init__()
        self._session: Callable[[], Any]
        try:
            self._session = ref(session)
        except TypeError:  # a stand-in that knows no weak references
            self._session = lambda: session
        self._shown: WeakSet[UnsavedHTML] = WeakSet()
        self.observe(lambda _change: self.renew(), "ticked")

    @property
    def keeps(self) -> bool:
        """Whether pictures and captions go into saved notebooks now."""
        session = self._session()
        art = getattr(session, "art", None)
        if art is None:  # an adapter of an earlier kernel may draw in the artist's own style
            return self.ticked or getattr(session, "personal", None) is None
        return self.ticked or bool(getattr(art, "is_sample", False))

    def watch(self, shown: UnsavedHTML) -> None:
        """Tell this place when the choice changes."""
        self._shown.add(shown)

    def renew(self) -> None:
        """Bring what is saved up to date, after a tick or with other art."""
        for shown in tuple(self._shown):
            shown.renew()


_kept: WeakKeyDictionary[Any, Keeping] = WeakKeyDictionary()


def keeping_of(session: Any) -> Keeping:
    """The one `Keeping` of a session."""
    try:
        return _kept.setdefault(session, Keeping(session))
    except TypeError:  # a stand-in cannot be a key, and shares its choice with no other panel
        return Keeping(session)


class UnsavedHTML(anywidget.AnyWidget):
    """A drop-in for `ipywidgets.HTML` whose `value` travels as a message and is in no widget state.

    `saved` is the part of the state that a notebook may keep: empty unless `keeping` says that the value may be kept.

    >>> shown = UnsavedHTML(value="<p>secret</p>")
    >>> shown.value, "secret" in str(shown.get_state())
    ('<p>secret</p>', False)
    """

    _esm = _STATIC / "unsaved.js"

    value = traitlets.Unicode("")
    saved = traitlets.Unicode("").tag(sync=True)

    def __init__(self, keeping: Keeping | None = None, *, value: str = "") -> None:
        super().__init__()
        self._keeping = keeping
        if keeping is not None:
            keeping.watch(self)
        self.on_msg(lambda _widget, content, _buffers: self._tell() if content.get("kind") == "ask" else None)
        self.observe(lambda _change: self._changed(), "value")
        self.value = value

    def renew(self) -> None:
        """Save the value, or take it out of what is saved, as the artist has chosen."""
        self.saved = self.value if self._keeping is not None and self._keeping.keeps else ""

    def _changed(self) -> None:
        self._tell()
        self.renew()

    def _tell(self) -> None:
        self.send({"kind": "html", "html": self.value})


class UnsavedText(anywidget.AnyWidget):
    """A labelled text field for an invite link: `text` goes both ways as a message and is in no widget state."""

    _esm = _STATIC / "unsaved_text.js"

    text = traitlets.Unicode("")
    label = traitlets.Unicode("").tag(sync=True)
    placeholder = traitlets.Unicode("").tag(sync=True)
    disabled = traitlets.Bool(default_value=False).tag(sync=True)

    def __init__(self, *, text: str = "", **traits: Any) -> None:
        super().__init__(**traits)
        self._typing = False
        self.on_msg(lambda _widget, content, _buffers: self.take(content))
        self.observe(lambda _change: self._tell(), "text")
        self.text = text

    @property
    def value(self) -> str:
        """The same as `text`: what a stock text field calls it."""
        return str(self.text)

    @value.setter
    def value(self, text: str) -> None:
        self.text = text

    def take(self, content: dict[str, Any]) -> None:
        """One message of the browser: it asks for the text, or has another one."""
        if content.get("kind") == "ask":
            self._tell()
        elif content.get("kind") == "text":
            self._typing = True
            try:
                self.text = str(content.get("text", ""))[:4096]
            finally:
                self._typing = False

    def _tell(self) -> None:
        if not self._typing:
            self.send({"kind": "text", "text": self.text})
