"""Differential privacy: what noisy training costs, how to plan it, how to clip and noise, and a ledger that remembers.

Two units. "picture": each step of training in one kernel clips every picture's gradient and adds noise, so that
whatever leaves the kernel says next to nothing about any single picture. "artist": an artist's whole update is clipped,
and the noise of all artists together, added in integers inside the secure sum, hides that somebody took part at all.

    accounting   epsilon of noisy steps                (RDP, and PRV through Opacus)
    planning     from a wish to a noise multiplier     (and how many times the signal the noise is)
    clipping     bounds one picture's or artist's part
    noise        Gaussian noise from AES-256 in counter mode, keyed by the operating system
    distributed  rotation, rounding and Skellam noise  (integers modulo 2^32)
    promise      what a room's noise is worth, and what groups of colluders take off
    ledger       what was spent, before it is spent; statement: the same for people
    audit        a lower bound on epsilon from canaries

What a promise of epsilon leaves out is written in each ledger's statement.
"""

from __future__ import annotations

from fedart_nb.privacy.accounting import ACCOUNTANTS, Gaussian, Mechanism, Skellam, epsilon
from fedart_nb.privacy.audit import Audit, audit, epsilon_lower_bound
from fedart_nb.privacy.client_level import ArtistPrivacy
from fedart_nb.privacy.clipping import clip_factors, clip_update
from fedart_nb.privacy.distributed import SkellamSum, solve_skellam
from fedart_nb.privacy.guarantee import ArtistPromise, Group
from fedart_nb.privacy.ledger import Budget, Entry, Ledger
from fedart_nb.privacy.ledger_report import statement
from fedart_nb.privacy.planning import Plan, default_delta, plan, solve_noise

__all__ = [
    "ACCOUNTANTS",
    "ArtistPrivacy",
    "ArtistPromise",
    "Audit",
    "Budget",
    "Entry",
    "Gaussian",
    "Group",
    "Ledger",
    "Mechanism",
    "Plan",
    "Skellam",
    "SkellamSum",
    "audit",
    "clip_factors",
    "clip_update",
    "default_delta",
    "epsilon",
    "epsilon_lower_bound",
    "plan",
    "solve_noise",
    "solve_skellam",
    "statement",
]
