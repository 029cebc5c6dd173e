"""What the panels say about masked updates, and the safety number that people compare."""

from __future__ import annotations

from html import escape

from fedart_nb.crypto.safety_number import SafetyNumber
from fedart_nb.privacy.guarantee import ArtistPromise
from fedart_nb.widgets import parts

__all__ = ["MASKED_UPDATES", "masked_updates", "promise_notice", "safety_card"]

_NOISED = "Noise hides whole artists"

MASKED_UPDATES = "Updates leave masked: nobody sees yours by itself"


def masked_updates(*, why: bool = True) -> str:
    """The sentence that stands wherever an update may leave: what masks hide, and what they do not."""
    text = (
        "Relay and host see the sum of all artists' updates alone, if the others in it are people: you are shown who "
        "they are before anything is masked. What that sum itself gives away, masks do not hide: only noise bounds it."
    )
    return parts.notice(text if why else "", level="info", title=MASKED_UPDATES)


def promise_notice(promise: ArtistPromise | None) -> str:
    """What the noise on whole artists is worth, and a table of what groups take off; "" without noise."""
    if promise is None:
        return ""
    rows = [(str(group.colluders), f"{group.noise_multiplier:.2f}", f"{group.epsilon:.2f}") for group in promise.groups]
    caption = f"Epsilon per artist, at delta {promise.delta:g}, by how many colluders put together what they know"
    table = parts.table(("colluders", "noise left, in clip norms", "epsilon"), rows, caption=caption)
    loud = promise.noise_to_signal > 2
    return parts.notice(promise.sentence, level="warning" if loud else "info", title=_NOISED) + table


def safety_card(number: SafetyNumber | None) -> str:
    """A safety number as words and picture, with what to do with it; "" before there is one."""
    if number is None:
        return ""
    return (
        f'<div class="fedart-safety">{number.svg()}<div><strong>Safety number</strong>'
        f'<div class="fedart-safety-words">{escape(str(number))}</div>'
        f"<div><strong>{number.artists} artists: are you {number.artists} people?</strong> Count yourselves, then read "
        "the words aloud to each other. The same words: relay and host show all of you the same ids in this round. "
        "Whether each id is a person, only counting tells. Other words: somebody is being deceived; leave the room."
        "</div></div></div>"
    )
