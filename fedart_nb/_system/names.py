"""Names that people type: what they may hold, how a stranger's name is shown, and which names look alike."""

from __future__ import annotations

import unicodedata

from ..errors import FedArtError

__all__ = ["MAX_CHARACTERS", "checked_name", "look_alike", "shown_name"]

MAX_CHARACTERS = 60

_JOINERS = "\u200c\u200d\ufe0e\ufe0f"  # they belong into Persian and Hindi names, and into emoji

#: Letters that look like a Latin one, by that one; Unicode TS 39 lists more, these are the ones in names.
_LIKE = {
    "a": "\u0430\u03b1",
    "b": "\u044c\u03b2",
    "c": "\u0441\u03f2",
    "d": "\u0501",
    "e": "\u0435\u03b5",
    "h": "\u043d\u04bb\u03b7",
    "l": "il\u0131\u0456\u03b9\u04c01|",
    "j": "\u0458",
    "k": "\u043a\u03ba",
    "m": "\u043c",
    "n": "\u057c",
    "o": "\u043e\u03bf\u05050",
    "p": "\u0440\u03c1",
    "q": "\u051b",
    "s": "\u0455",
    "t": "\u0442\u03c4",
    "u": "\u057d\u03c5",
    "v": "\u03bd\u0475",
    "w": "\u051d\u03c9",
    "x": "\u0445\u03c7",
    "y": "\u0443\u03b3",
}
_TO_LATIN = str.maketrans({other: latin for latin, others in _LIKE.items() for other in others})


def checked_name(name: object) -> str:
    """A name as it is kept: without spaces around it, in Unicode's composed form (NFC).

    Raises:
        FedArtError: it is no text of 1 to 60 characters, or has characters that nobody sees.

    >>> checked_name(" Mira ")
    'Mira'
    """
    kept = unicodedata.normalize("NFC", name).strip() if isinstance(name, str) else ""
    if not 1 <= len(kept) <= MAX_CHARACTERS:
        raise FedArtError(f"The name is {name!r:.200}; expected a text of 1 to {MAX_CHARACTERS} characters.")
    if hidden := _hidden_in(kept):
        raise FedArtError(
            f"The name is {name!r:.200}; its character {kept[hidden[0]]!a} cannot be seen, or turns the text "
            "around. Type the name without it."
        )
    return kept


def shown_name(name: object) -> str:
    r"""A name that a stranger sent, safe to show: what cannot be seen becomes "\ufffd", and it is cut after 60.

    >>> ascii(shown_name("Ada\u202e\n")), shown_name(7)
    ("'Ada\\ufffd\\ufffd'", '?')
    """
    if not isinstance(name, str) or not name.strip():
        return "?"
    kept = unicodedata.normalize("NFC", name[: 4 * MAX_CHARACTERS])
    hidden = set(_hidden_in(kept))
    return "".join("\ufffd" if i in hidden else c for i, c in enumerate(kept))[:MAX_CHARACTERS]


def look_alike(one: str, other: str) -> bool:
    r"""Whether people could take one name for the other: case, accents, spaces and letters of other scripts aside.

    >>> look_alike("Ada", "\u0410d\u0430 "), look_alike("Bill", "BiII"), look_alike("Ada", "Ida")
    (True, True, False)
    """
    return _skeleton(one) == _skeleton(other)


def _hidden_in(text: str) -> list[int]:
    """Places of controls, bidi overrides, zero widths, line ends and what Unicode has not assigned."""
    places = []
    for i, character in enumerate(text):
        kind = unicodedata.category(character)
        before = unicodedata.category(text[i - 1]) if i else "Ll"
        joins = character in _JOINERS and (before[0] in "SM" or before == "Lo" or text[i - 1] in _JOINERS)
        if (kind in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") or character in _JOINERS) and not joins:
            places.append(i)
    return places


def _skeleton(name: str) -> str:
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", name).casefold())
    letters = "".join(c for c in plain if unicodedata.category(c)[0] in "LNS").translate(_TO_LATIN)
    return letters.replace("rn", "m").replace("vv", "w") or plain
