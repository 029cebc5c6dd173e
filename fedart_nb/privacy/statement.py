"""A ledger for people: what was processed, where, what left the kernel, under which epsilon, and what that leaves out.

Written so that it can be put into a record of processing activities (GDPR, article 30). It is no legal advice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from fedart_nb.privacy.accounting import NEIGHBOURS, ZEROS, Gaussian
from fedart_nb.privacy.ledger import Entry, Ledger

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
    "Settings that were tried out on the same pictures without noise, or in another room, are not in this ledger.",
    "Losses, held-out losses and gradient norms are not covered; they stay in the kernel, unless somebody shows them.",
    "Pictures drawn with an adapter that was trained without noise are not covered, nor is that adapter.",
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
    spent = entries[-1].epsilon_after if entries else 0.0
    limit = "no limit; spending is only counted" if budget.epsilon is None else f"{budget.epsilon:g}"
    lines = [
        f"# Privacy statement: {ledger.room}",
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
        f"| where | {where} |",
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
        "## What this does not cover",
        "",
        *(f"- {s}" for s in (*(_OF_PICTURES if budget.unit == "picture" else _OF_ARTISTS), *_LEFT_OUT)),
    ]
    if ledger.warnings:
        lines += ["", "## Found while reading the ledger", "", *(f"- {sentence}" for sentence in ledger.warnings)]
    return "\n".join(lines) + "\n"


def meaning_of(spent: float, delta: float, unit: str) -> str:
    """What an epsilon means, as odds: the hypothesis testing reading (Kairouz, Oh & Viswanath 1311.0776).

    >>> meaning_of(0.0, 1e-3, "picture")
    'Nothing was spent: nothing that left says anything about a picture.'
    """
    if spent == 0:
        return f"Nothing was spent: nothing that left says anything about a {unit}."
    if not math.isfinite(spent):
        return f"Training without noise is among it: nothing is promised about any {unit}."
    right = 1 / (1 + math.exp(-spent))
    times = 100 * (right + (1 - right) * delta)
    told = f"{times:.1f}" if times < 99 else f"{math.floor(times * 1000) / 1000:.3f}"  # never rounded up to certainty
    return (
        f"Somebody who sees everything that left and knows all the rest, and guesses whether one {unit} was used, at "
        f"even odds beforehand, is right at most {told} times in 100."
    )


def _row(entry: Entry) -> str:
    part = entry.mechanism
    if isinstance(part, Gaussian):
        told = f"{part.noise_multiplier:.3g} | {part.sample_rate:.3g}"
    else:
        told = f"{math.sqrt(part.variance) / part.l2:.3g} (Skellam) | 1"
    purpose = entry.purpose.replace("|", "/").replace("\n", " ")
    return f"| {entry.time} | {purpose} | {told} | {part.steps} | {_number(entry.epsilon_after)} |"


def _processed(entries: Sequence[Entry]) -> str:
    counts = [entry.record["pictures"] for entry in entries if isinstance(entry.record.get("pictures"), int)]
    return f"up to {max(counts)} pictures with their captions" if counts else "nothing yet"


def _left(entries: Sequence[Entry]) -> str:
    told = dict.fromkeys(str(entry.record["left"]) for entry in entries if "left" in entry.record)
    return "; ".join(text.replace("|", "/") for text in told) or "nothing"


def _number(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "infinite"
