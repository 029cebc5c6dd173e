"""A ledger for people: what was processed, where, what left the kernel, under which epsilon, and what that leaves out.

Written so that it can be put into a record of processing activities (GDPR, article 30). It is no legal advice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from fedart_nb._system.markdown import plain
from fedart_nb.privacy.accounting import NEIGHBOURS, ZEROS, Gaussian
from fedart_nb.privacy.ledger import Entry, Ledger
from fedart_nb.privacy.tally import Spending

__all__ = ["meaning_of", "statement"]

_ACCOUNTANTS = {
    "rdp": "Rényi differential privacy (Mironov 2017; right also when settings are chosen after looking at results)",
    "prv": "privacy loss distributions (Gopi et al. 2021; right where settings were fixed beforehand)",
}
_NEIGHBOURS = {
    "picture": f"{NEIGHBOURS} picture",
    "artist": ZEROS,
}
_OF_PICTURES = (
    "Pictures that are nearly the same count as several pictures: epsilon is for one of them.",
    "How many pictures there are, the batch, the steps and the clip norm count as known to everybody.",
)
_OF_ARTISTS = (
    "The noise is the sum of all artists' shares; more colluders than an entry's record says take more off.",
    "That this artist took part, when, and how large its messages are, counts as known to everybody.",
)
_LEFT_OUT = (
    "Settings tried out without noise in this kernel are not counted, as long as nothing of them leaves it.",
    "A personal adapter trained without noise is not counted while it stays in the kernel; session.export counts it.",
    "Pictures drawn with an adapter that was trained without noise tell of its pictures, and are not counted.",
    "What the same pictures spent on another computer, or before version 0.1.0, is not counted.",
    "Losses, held-out losses and gradient norms are not covered; they stay in the kernel, unless somebody shows them.",
    "The ledger is a file of the artist's own. It shows accidents; it is no proof against the artist.",
)


def statement(ledger: Ledger, *, where: str = "this computer") -> str:
    """The statement as Markdown.

    Args:
        where: where the kernel runs, in words, as `settings.kernel_location` says it.

    Example:
        >>> Path("privacy.md").write_text(statement(ledger))  # doctest: +SKIP
    """
    budget, entries = ledger.budget, ledger.entries
    spent, elsewhere = ledger.spent, ledger.elsewhere
    limit = "no limit; spending is only counted" if budget.epsilon is None else f"{budget.epsilon:g}"
    lines = [
        f"# Privacy statement: {plain(ledger.room)}",
        "",
        f"**Epsilon {_number(spent)} spent, per {budget.unit}, at delta {budget.delta:g}** (budget: {limit}).",
        "",
        meaning_of(spent, budget.delta, budget.unit),
        "",
        "| | |",
        "|---|---|",
        f"| whose data | artist `{ledger.artist}` |",
        f"| what was processed | {_processed(entries)} |",
        "| for what | training a shared adapter of an image model, by federated learning |",
        f"| where | {plain(where)} |",
        f"| what left the kernel | {_left(entries)} |",
        f"| unit of protection | one {budget.unit} |",
        f"| neighbouring data | {_NEIGHBOURS[budget.unit]} |",
        f"| delta | {budget.delta:g} |",
        f"| accountant | {budget.accountant}: {_ACCOUNTANTS[budget.accountant]} |",
        f"| entries | {len(entries)}; hash of the last line {ledger.to_json()['head'][:16]}… |",
        "",
        "## What was spent",
        "",
        "| when (UTC) | for what | noise multiplier | rate | steps | epsilon after |",
        "|---|---|---|---|---|---|",
        *(_row(entry) for entry in entries),
        "",
        "Training that was stopped, failed, repeated or withdrawn is in the list as well: nothing is refunded.",
        "",
        *(_elsewhere(ledger, elsewhere) if elsewhere else ()),
        "## What this does not cover",
        "",
        *(f"- {s}" for s in (*(_OF_PICTURES if budget.unit == "picture" else _OF_ARTISTS), *_LEFT_OUT)),
    ]
    if ledger.warnings:
        lines += ["", "## Found while reading the ledger", "", *(f"- {plain(one)}" for one in ledger.warnings)]
    return "\n".join(lines) + "\n"


def meaning_of(spent: float, delta: float, unit: str) -> str:
    """What an epsilon means, as odds: the hypothesis testing reading (Kairouz, Oh & Viswanath 1311.0776).

    >>> meaning_of(0.0, 1e-3, "picture")
    'Nothing was spent: nothing that is counted here says anything about a picture.'
    """
    if spent == 0:
        return f"Nothing was spent: nothing that is counted here says anything about a {unit}."
    if not math.isfinite(spent):
        return (
            f"Epsilon is infinite. Training without noise is among it, or noise that does not cover one {unit}: "
            f"nothing is promised about any {unit}, whatever noise comes later."
        )
    right = 1 / (1 + math.exp(-spent))
    times = 100 * (right + (1 - right) * delta)
    told = f"{times:.1f}" if times < 99 else f"{math.floor(times * 1000) / 1000:.3f}"  # never rounded up to certainty
    return (
        f"Somebody who sees everything that is counted here and knows all the rest, and guesses whether one {unit} was "
        f"used, at even odds beforehand, is right at most {told} times in 100."
    )


def _row(entry: Entry) -> str:
    part = entry.mechanism
    if isinstance(part, Gaussian) and part.noise_multiplier == 0:
        told = "none: nothing bounds what it tells | 1"
    elif isinstance(part, Gaussian):
        told = f"{part.noise_multiplier:.3g} | {part.sample_rate:.3g}"
    else:
        told = f"{math.sqrt(part.variance) / part.l2:.3g} (Skellam) | 1"
    purpose = plain(entry.purpose)
    return f"| {entry.time} | {purpose} | {told} | {part.steps} | {_number(entry.epsilon_after)} |"


def _processed(entries: Sequence[Entry]) -> str:
    counts = [entry.record["pictures"] for entry in entries if isinstance(entry.record.get("pictures"), int)]
    return f"up to {max(counts)} pictures with their captions" if counts else "nothing yet"


def _left(entries: Sequence[Entry]) -> str:
    told = dict.fromkeys(str(entry.record["left"]) for entry in entries if "left" in entry.record)
    return "; ".join(map(plain, told)) or "nothing"


def _elsewhere(ledger: Ledger, spendings: Sequence[Spending]) -> list[str]:
    """What other rooms, sessions and personal adapters spent of the same pictures."""
    about = (
        f"This room alone spent epsilon {_number(ledger.spent_here)}. The figure at the top counts these as well: "
        "other rooms, sessions and personal adapters on this computer that used some of the same pictures."
    )
    return [
        "## The same pictures elsewhere",
        "",
        about,
        "",
        "| when (UTC) | room | for what | noise |",
        "|---|---|---|---|",
        *(
            f"| {one.time} | {plain(one.room)} | {plain(one.purpose)} | "
            f"{'none' if one.is_unbounded else f'per {one.unit}'} |"
            for one in spendings
        ),
        "",
    ]


def _number(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "infinite"
