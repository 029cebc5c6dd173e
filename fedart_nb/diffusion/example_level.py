"""A wish for picture-level privacy, and what it takes: a ledger for the room, and noise for the rounds to come."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .._system.arguments import plain_fields
from ..errors import BudgetExceeded, LedgerError, PrivacyError
from ..privacy.accounting import Accountant, Gaussian
from ..privacy.client_level import ledger_places
from ..privacy.ledger import Budget, Ledger
from ..privacy.planning import default_delta
from .dp_sgd import CLIP_NORM, Factors, PrivateTraining

__all__ = ["Payment", "PicturePrivacy"]

#: More noise than so many clip norms is not solved for: it would spend the last of a budget on nothing.
_MOST_NOISE = 100.0


@dataclass(frozen=True)
class PicturePrivacy:
    """What an artist wants of privacy in one room: at most `epsilon` for each picture, over all rounds.

    Attributes:
        epsilon: the budget; None promises nothing, only keeps count, and needs a `noise_multiplier`.
        delta: `default_delta` of the number of pictures unless given.
        noise_multiplier: solved so that the budget lasts for all rounds, unless given.
        clip_norm, draws, factors, passes: as in `PrivateTraining`; two passes for backbones of Stable Diffusion's size.
        learning_rate: instead of the round's plan's, if given. Noised gradients want a larger one: 2e-2 learnt best.
        accountant: "rdp" (right also when cells are run again) or "prv".

    Example:
        >>> session.privacy = PicturePrivacy(epsilon=8.0)
        >>> for event in session.rounds():
        ...     print(event)
    """

    epsilon: float | None = 8.0
    delta: float | None = None
    noise_multiplier: float | None = None
    clip_norm: float = CLIP_NORM
    draws: int = 1
    factors: Factors = "B"
    learning_rate: float | None = None
    accountant: Accountant = "rdp"
    passes: Literal[1, 2] = 1

    def __post_init__(self) -> None:
        plain_fields(self)
        self.budget(1)
        if self.epsilon is None and self.noise_multiplier is None:
            raise PrivacyError("epsilon is None, so nothing says how much noise there is. Give a noise_multiplier too.")
        self._training(self.noise_multiplier or 0.0)

    def budget(self, pictures: int) -> Budget:
        """The budget with which a ledger is begun."""
        delta = default_delta(pictures) if self.delta is None else self.delta
        if pictures > 1 and isinstance(delta, (int, float)) and delta >= 1 / pictures:
            raise PrivacyError(
                f"delta is {delta:g}, too large for {pictures} pictures: it allows giving one of them away. Take less "
                f"than 1/{pictures}, or leave it out: {default_delta(pictures):g} suits."
            )
        return Budget(self.epsilon, delta, "picture", self.accountant)

    def open_ledger(self, folder: Path, home: Path, *, artist: str, room: str, pictures: int) -> Ledger:
        """The ledger of this artist in this room, begun if there is none.

        Args:
            folder: the session's; home: where the second copy lies, out of its reach.

        Raises:
            LedgerError: it was begun for another epsilon, delta or accountant, or cannot be trusted.
        """
        wished = self.budget(pictures)
        path, witness = ledger_places(folder, home, artist=artist, room=room)
        begun = path.exists() or witness.exists()
        budget = None if begun else wished
        ledger = Ledger.open(path, artist=artist, room=room, budget=budget, witness=witness)
        if ledger.budget.epsilon is None or not begun:
            return ledger  # it only kept count until now: see `agreed`
        return self.agreed(ledger, pictures=pictures)

    def agreed(self, ledger: Ledger, *, pictures: int) -> Ledger:
        """The ledger, if its budget is this wish's; one that only kept count takes this wish's limit.

        Raises:
            BudgetExceeded: something has left without noise, so no limit can be kept.
            LedgerError: it was begun for another epsilon, delta or accountant.
        """
        if ledger.budget.epsilon is None and ledger.budget.unit == "picture":
            if self.epsilon is not None:
                ledger.adopt(self.budget(pictures))
            return ledger
        held = ledger.budget
        wanted = (self.epsilon, held.delta if self.delta is None else self.delta, self.accountant)
        if (held.epsilon, held.delta, held.accountant) != wanted or held.unit != "picture":
            raise LedgerError(
                f"This room's ledger has epsilon {held.epsilon} per {held.unit} at delta {held.delta:g} by "
                f"{held.accountant}; asked for was {_limit(self.epsilon)} at delta {wanted[1]:g} by {self.accountant}. "
                "Ask for the same, or call change_budget(epsilon, why=...) on the ledger: it stays visible."
            )
        return ledger

    def payment(
        self, ledger: Ledger, *, pictures: int, batch: int, steps: int, rounds_left: int = 1, name: str = "training"
    ) -> Payment:
        """Noise such that what is left of the budget lasts for `rounds_left` rounds of `steps`, and the first's price.

        Raises:
            BudgetExceeded: nothing is left, or so little that noise would drown everything.
        """
        sigma = self.noise_multiplier
        if sigma is None:
            sigma = ledger.noise_for(sample_rate=min(1.0, batch / pictures), steps=steps * max(1, rounds_left))
            if sigma > _MOST_NOISE:
                raise BudgetExceeded(
                    f"Epsilon {ledger.spent:.3g} of {_limit(ledger.budget.epsilon)} is spent. What is left would take "
                    f"noise of {sigma:.0f} clip norms, and nothing can be learnt under it. Nothing was trained; take "
                    "part no more, or call change_budget."
                )
        private = self._training(sigma)
        return Payment(private, ledger, private.mechanism(pictures=pictures, batch=batch, steps=steps), name)

    def _training(self, sigma: float) -> PrivateTraining:
        return PrivateTraining(
            sigma, clip_norm=self.clip_norm, draws=self.draws, factors=self.factors, passes=self.passes
        )


@dataclass(frozen=True)
class Payment:
    """One training's noise, its price, and the ledger that is to pay; nothing is spent by making it."""

    private: PrivateTraining
    ledger: Ledger
    mechanism: Gaussian
    name: str

    @property
    def refusal(self) -> str:
        """Why the ledger will not pay, or ""."""
        if self.ledger.allows(self.mechanism):
            return ""
        budget = self.ledger.budget
        told = f"It would bring epsilon to {self.ledger.cost(self.mechanism):.3g}; your budget is "
        return f"{told}{_limit(budget.epsilon)}. {self.ledger.why_unbounded}".strip()

    def __str__(self) -> str:
        budget = self.ledger.budget
        return (
            f"{self.name.capitalize()}: noise multiplier {self.private.noise_multiplier:.3g}; epsilon "
            f"{self.ledger.cost(self.mechanism):.2f} of {_limit(budget.epsilon)} afterwards, per {budget.unit} "
            f"at delta {budget.delta:g}."
        )


def _limit(epsilon: float | None) -> str:
    return "no limit" if epsilon is None else f"{epsilon:g}"
