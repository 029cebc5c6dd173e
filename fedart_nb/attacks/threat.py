"""The switchboard: who attacks, what they see, what they know, and so which attacks there are, and why not the others.

Pure Python: panels grey out what is impossible and show the sentence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

from ..errors import AttackError

__all__ = ["ATTACKS", "BY_TRIES", "KNOWS", "SEES", "WHO", "ThreatModel"]

#: Who attacks.
WHO = MappingProxyType(
    {
        "artist": "another artist of the room",
        "relay": "a relay or host that is curious but follows the rules",
        "foul": "a relay or host that breaks the rules",
    }
)
#: What the attacker holds of the training.
SEES = MappingProxyType(
    {
        "gradient": "the gradient of the whole denoiser, one step",
        "lora": "the gradient of an adapter, A and B, one step",
        "lora_b": "the gradient of B alone",
        "steps": "one artist's update after local steps",
        "sum": "the sum of several artists' updates",
        "masked": "one masked share of a secure sum",
        "adapter": "the finished adapter alone",
    }
)
#: What the attacker knows besides.
KNOWS = MappingProxyType(
    {
        "seed": "the artist's random seed",
        "timesteps": "the timesteps",
        "captions": "the captions",
        "caption_list": "a list of captions that may have been used",
        "candidates": "pictures that may have been used",
        "earlier": "updates of an earlier round, with names",
    }
)
#: Attacks by name, and what they are after.
ATTACKS = MappingProxyType(
    {
        "timesteps": "the noise levels of the step",
        "captions": "the captions",
        "exact": "the pictures themselves, exactly, by linear algebra",
        "pixels": "the pictures themselves, by matching gradients",
        "prior": "the pictures, polished by the public model",
        "baseline": "the pictures, by the older recipes (DLG; Adam, cosine and total variation)",
        "identify": "which of many candidates was trained on",
        "membership": "whether one given picture was trained on",
        "linkage": "which updates of two rounds come from one artist",
        "extraction": "near copies of training pictures among the adapter's own samples",
        "imprint": "exact noisy inputs, by a layer planted in the model",
        "forked": "one artist's update out of a sum, by giving the others another adapter",
    }
)
#: Attacks whose budget is a number of tries.
BY_TRIES = ("pixels", "prior", "baseline")

_MASKED = "One masked share is uniformly random numbers: it says nothing at all without the others' keys."
_NO_GRADIENT = "A finished adapter is no update: there is no gradient in it to compare with."
_NEEDS_FOUL = "It needs a relay or host that changes what it sends out; this one follows the rules."


@dataclass(frozen=True)
class ThreatModel:
    """One setting of the switchboard.

    Attributes:
        who: a key of `WHO`; sees: of `SEES`; knows: keys of `KNOWS`.
        first_round: the shared adapter's B is zero, so that A's gradient is zero.
        time_layers: the time embedding's layers are trained as well.
        checks: artists refuse changed adapters and models (the product's own do).

    Raises:
        AttackError: an unknown word.

    Example:
        >>> ThreatModel("relay", "lora", frozenset({"caption_list"}), first_round=True).why_not("captions")[:30]
        'In the first round B is zero, '
        >>> "identify" in ThreatModel("artist", "sum", frozenset({"candidates"})).possible
        True
    """

    who: str = "relay"
    sees: str = "steps"
    knows: frozenset[str] = frozenset()
    first_round: bool = False
    time_layers: bool = False
    checks: bool = True

    def __post_init__(self) -> None:
        for name, known in (("who", WHO), ("sees", SEES)):
            if getattr(self, name) not in known:
                raise AttackError(f"{name} is {getattr(self, name)!r}; known are {', '.join(known)}.")
        if strange := sorted(self.knows - KNOWS.keys()):
            raise AttackError(f"{strange[0]!r} is nothing to know here; known are {', '.join(KNOWS)}.")

    @property
    def contradiction(self) -> str:
        """Why this attacker cannot see this at all; "" where it can."""
        if self.who == "artist" and self.sees not in ("sum", "adapter"):
            return "Another artist is sent the new shared adapter alone: the sum of everybody's updates, never one."
        if self.sees == "gradient" and self.first_round:
            return "The whole denoiser is trained here, so there is no B that could be zero."
        return ""

    @property
    def in_the_product(self) -> str:
        """Whether this program's own rounds would ever show that to this attacker."""
        if self.sees == "masked" and self.who != "artist":
            return "This is all that a relay holds of one artist in this program's rounds."
        if self.sees in ("sum", "adapter"):
            return "Everybody in a room of this program sees this."
        if self.sees == "steps":
            return "This program never sends one artist's update in the clear; other federated systems do."
        return "This program sends no single step's gradient; textbook federated SGD does."

    @property
    def possible(self) -> tuple[str, ...]:
        """Attacks that can be tried."""
        return tuple(name for name in ATTACKS if not self.why_not(name))

    def why_not(self, attack: str) -> str:
        """Why an attack cannot be tried in this setting, as a sentence; "" where it can."""
        if attack not in ATTACKS:
            raise AttackError(f"There is no attack {attack!r}; known are {', '.join(ATTACKS)}.")
        return self.contradiction or _RULES[attack](self)

    @property
    def seed_refused(self) -> str:
        """What to say beside the seed switch."""
        return (
            "In this program the seed comes from the operating system and is never told. "
            "With it the same attack needs far fewer tries."
        )


def _timesteps(m: ThreatModel) -> str:
    if m.sees == "masked":
        return _MASKED
    if m.sees == "adapter":
        return _NO_GRADIENT
    if m.sees == "gradient":
        return ""
    if not m.time_layers:
        return "The adapter does not touch the time embedding's layers, the only ones whose gradient spans timesteps."
    if m.first_round or m.sees == "lora_b":
        return "Timesteps show in A's gradient, which is zero in the first round and is not sent with B alone."
    if m.sees in ("steps", "sum"):
        return "Over many steps there are more timesteps than the layer's rank can hold apart."
    return ""


def _captions(m: ThreatModel) -> str:
    if m.sees == "masked":
        return _MASKED
    if m.sees == "adapter":
        return _NO_GRADIENT
    if m.sees == "lora_b":
        return "Captions show in A's gradient; with A frozen (FFA-LoRA) it is never computed nor sent."
    if m.first_round and m.sees == "lora":
        return "In the first round B is zero, so A's gradient is exactly zero: nothing of the caption is in it."
    return ""


def _pixels(m: ThreatModel) -> str:
    if m.sees == "masked":
        return _MASKED
    if m.sees == "adapter":
        return _NO_GRADIENT
    if not m.knows & {"seed", "timesteps"} and m.sees != "gradient":
        return "The timesteps must come from somewhere: from the seed, or read from the time embedding's layers."
    if not m.knows & {"captions", "caption_list"}:
        return "The captions must be known first: run the caption attack, and give what it finds."
    return ""


def _exact(m: ThreatModel) -> str:
    if m.sees not in ("gradient", "masked", "adapter"):
        return "An adapter's gradients have its rank, far below the number of patches: they come mixed, beyond undoing."
    return _pixels(m)


def _identify(m: ThreatModel) -> str:
    if m.sees == "masked":
        return _MASKED
    if m.sees == "adapter":
        return _NO_GRADIENT + " Use the membership attack, which compares losses."
    if "candidates" not in m.knows:
        return "Choose pictures that may have been used; this attack says which of them was."
    return ""


def _membership(m: ThreatModel) -> str:
    if m.sees == "masked":
        return _MASKED
    if "candidates" not in m.knows:
        return "Choose the pictures to ask about."
    return ""


def _linkage(m: ThreatModel) -> str:
    if m.sees == "masked":
        return _MASKED
    if m.sees in ("sum", "adapter"):
        return "A sum has no single artist's update in it that could be matched with an earlier one."
    if "earlier" not in m.knows:
        return "There is no earlier round to match with."
    return ""


def _extraction(m: ThreatModel) -> str:
    if m.sees == "masked":
        return _MASKED
    if m.sees in ("gradient", "lora", "lora_b"):
        return "One step's gradient draws nothing; it takes a trained adapter."
    if not m.knows & {"captions", "caption_list"}:
        return "It draws with the training captions: give captions that may have been used."
    return ""


def _imprint(m: ThreatModel) -> str:
    if m.who != "foul":
        return _NEEDS_FOUL
    if m.checks:
        return "The artist's kernel compares the backbone's hash with its own and refuses a model with a planted layer."
    if m.sees in ("masked", "adapter"):
        return _MASKED if m.sees == "masked" else _NO_GRADIENT
    if m.sees not in {"sum", "gradient"}:
        return "The planted layer's own gradient is needed; an adapter's update does not contain it."
    return ""


def _forked(m: ThreatModel) -> str:
    if m.who != "foul":
        return _NEEDS_FOUL
    if m.checks:
        return (
            "The artist's kernel refuses an adapter that is not the plan's or not the last result, and zeros in A; "
            "masks are bound to the adapter's hash, so a sum over different adapters does not open."
        )
    if m.sees != "sum":
        return "It singles one artist out of a sum; there is no sum here."
    return ""


_RULES: dict[str, Callable[[ThreatModel], str]] = {
    "timesteps": _timesteps,
    "captions": _captions,
    "exact": _exact,
    "pixels": _pixels,
    "prior": _pixels,
    "baseline": _pixels,
    "identify": _identify,
    "membership": _membership,
    "linkage": _linkage,
    "extraction": _extraction,
    "imprint": _imprint,
    "forked": _forked,
}
