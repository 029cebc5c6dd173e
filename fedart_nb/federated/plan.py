"""What a round is: agreed by everybody before anything is trained, and bound to every message by its digest."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from .._system.arguments import plain_fields
from ..crypto.canonical_json import canonical_json
from ..errors import RoundError
from ..secagg.encoding import BITS
from ..secagg.graph import COMPLETE_UP_TO, quorum_of
from ..secagg.messages import MIN_ARTISTS
from .gains import FEWEST, GAIN_METRICS
from .strategies import refusal

__all__ = [
    "DOORS",
    "LOSS_CAP",
    "MAX_WEIGHT_PICTURES",
    "METRICS",
    "PHASES",
    "PROTECTIONS",
    "SCHEDULES",
    "WEIGHTINGS",
    "RoundPlan",
]

#: Every round goes through these in order.
PHASES = ("advertise", "share", "update", "consistency", "unmask")

SCHEDULES = ("constant", "cosine")
#: Who gets in: whom the host admits by name (or by an invite made for one person), or whoever has the link.
DOORS = ("lobby", "open")
WEIGHTINGS = ("equal", "pictures", "loss")
#: What noise a round adds by itself: none, or so much to the sum that no single artist shows (`rounds.noised`).
PROTECTIONS = ("none", "artist")
MAX_WEIGHT_PICTURES = 100  #: more pictures do not weigh more
LOSS_CAP = 4.0  #: a larger loss does not weigh more

#: Numbers about training that a plan may ask for, and the largest one that counts. They travel in the masked vector:
#: everybody learns their mean over the artists, nobody a single one.
METRICS: Mapping[str, float] = {"loss_before": 10.0, "loss_after": 10.0, **GAIN_METRICS}

_WHOLE = (
    "number",
    "total",
    "attempt",
    "local_steps",
    "batch",
    "rank",
    "bits",
    "min_artists",
    "degree",
    "survivors",
    "rewound",
    "max_attempts",
    "max_rollbacks",
    "max_round_rollbacks",
)
_LIMITS: Mapping[str, tuple[float, float]] = {
    "number": (1, 10_000),
    "total": (1, 10_000),
    "attempt": (1, 1_000),
    "local_steps": (1, 100_000),
    "batch": (1, 1024),
    "learning_rate": (1e-8, 1.0),
    "rank": (1, 128),
    "alpha": (1e-6, 1024),
    "clip": (1e-6, 1e3),
    "min_artists": (MIN_ARTISTS, 512),
    "join_s": (0, 86_400),
    "patience_s": (1, 86_400),
    "degree": (0, 510),
    "noise_multiplier": (0, 1e4),
    "clip_norm": (0, 1e3),
    "survivors": (0, 512),
    "delta": (0, 0.1),
    "server_rate": (1e-6, 100.0),
    "q": (0, 5.0),
    "rewound": (0, 8),
    "max_attempts": (1, 8),
    "max_rollbacks": (0, 8),
    "max_round_rollbacks": (0, 8),
}

#: Entries that plans of the first version do not have, with what they mean there.
_LATER: Mapping[str, Any] = {
    "q": 0.0,
    "server": "average",
    "server_rate": 1.0,
    "bits": 32,
    "schedule": "constant",
    "rewound": 0,
    "door": "open",
    "max_attempts": 3,
    "max_rollbacks": 3,
    "max_round_rollbacks": 2,
}

#: Entries in which the plans of one room differ from round to round.
_PASSING = ("number", "attempt", "shared_sha256", "rewound")


@dataclass(frozen=True)
class RoundPlan:
    """One round's agreement.

    Attributes:
        room, number, total: which room, and which round (from 1) of how many.
        attempt: counts from 1 the tries of this round; every try has fresh keys.
        host_key: the host's Ed25519 public key, 64 hex digits; its hash is the host's id in the invite.
        backbone_sha256: the frozen backbone that everybody must hold.
        shared_sha256: SHA-256 of the bytes of the shared adapter that the round starts from.
        rank, alpha, targets: shape of that adapter.
        local_steps, batch, learning_rate: what each artist's kernel does with it.
        schedule: of the learning rate over the rounds: "constant", or "cosine" from it to a tenth of it (`round_rate`).
        rule: how the sum becomes the next shared adapter.
        weighting: "equal" (an artist with 20 drawings counts as one artist), "pictures" (by their number, up to
            `MAX_WEIGHT_PICTURES`), or "loss" (by the q-th power of the loss that the artist begins the round with, up
            to `LOSS_CAP`: q-FFL, Li et al. 1905.10497). Weights travel inside the masked vector, and the sum is divided
            by their sum: q-FedAvg's direction at the length of an average, because its own step takes a Lipschitz
            constant that Adam does not give.
        q: for weights by loss: the larger, the more those count whom the shared adapter serves worst.
        server: the host's optimiser (`rules.server`); server_rate: its rate.
        bits: of each value in the masked vector: 32, or 16 for half the bytes, with values rounded to
            2 * `clip` / floor(65535 / artists).
        clip: no value of an update is larger than this; larger ones are clipped, and the artist is told.
        protocol: how the sum is formed; "secagg" is the only one: see `fedart_nb.secagg`.
        min_artists: fewer contributors than this, and the round waits; never below three.
        join_s: how long the room waits for answers before it starts without the silent.
        patience_s: an artist that has shown no sign of life for so long counts as dropped.
        metrics: names from `METRICS` whose means over all artists the room learns; none unless the host asks.
        degree: neighbours in the graph of masks; 0, everybody, in every real room (`secagg.graph`).
        protection: "artist": every artist clips the whole update to `clip_norm` and adds a share of Skellam noise
            inside the secure sum; weights are equal, and nothing else is in the vector. "none": the next four are 0.
        noise_multiplier: the noise's standard deviation in the smallest sum that is opened, in clip norms.
        survivors: how many artists a sum must hold, or nobody signs it: the noise is sized for these. 0: as many as the
            secure sum needs anyway (`quorum_of`).
        delta: with which the plan's epsilon is told; artists' own ledgers have their own.
        rewound: how many times the room went back to an earlier round because an artist withdrew (`rounds.rewinding`).
        door: "lobby": the host admits artists, by name or by an invite made for one person; "open": whoever has the
            link is in, so that one person may be all the others (`admission`).
        max_attempts: how many masked updates of one round may leave an artist's kernel, in all its attempts together; a
            rollback adds one. max_rollbacks: how many times the room may go back; max_round_rollbacks: how many times
            one round may be trained again for it. Artists' kernels refuse more, whatever anybody answers.
        nonce: sets this room's plans apart from those of any other room, also one of the same name and settings.
    """

    room: str
    number: int
    total: int
    backbone_sha256: str
    shared_sha256: str
    host_key: str
    attempt: int = 1
    rank: int = 4
    alpha: float = 4.0
    targets: str = ""
    local_steps: int = 20
    batch: int = 8
    learning_rate: float = 3e-3
    schedule: str = "constant"
    rule: str = "fedavg"
    weighting: str = "equal"
    q: float = 0.0
    server: str = "average"
    server_rate: float = 1.0
    clip: float = 1.0
    bits: int = 32
    protocol: str = "secagg"
    min_artists: int = 3
    join_s: float = 30.0
    patience_s: float = 60.0
    metrics: tuple[str, ...] = ()
    degree: int = 0
    protection: str = "none"
    noise_multiplier: float = 0.0
    clip_norm: float = 0.0
    survivors: int = 0
    delta: float = 0.0
    rewound: int = 0
    door: str = "open"
    max_attempts: int = 3
    max_rollbacks: int = 3
    max_round_rollbacks: int = 2
    nonce: str = ""

    def __post_init__(self) -> None:
        plain_fields(self)
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
                raise RoundError(f"The plan's {name} is {value!r}; expected a number from {low:g} to {high:g}.")
            if name in _WHOLE and type(value) is not int:
                raise RoundError(f"The plan's {name} is {value!r}; expected a whole number.")
        if self.protocol != "secagg":
            raise RoundError(
                f"The plan wants the protocol {self.protocol!r}; this version speaks 'secagg' alone, in which nobody "
                "sees a single update. Take no part, or update both sides."
            )
        if self.weighting not in WEIGHTINGS:
            raise RoundError(f"The plan's weighting is {self.weighting!r}; known are {', '.join(WEIGHTINGS)}.")
        if (self.weighting == "loss") != (self.q > 0):
            raise RoundError(
                f"The plan's weighting is {self.weighting!r} and its q {self.q:g}; expected q above 0 exactly for "
                "weights by loss."
            )
        noise = "artist" if self.protection == "artist" else ""
        if reason := refusal(self.rule, server=self.server, weighting=self.weighting, noise=noise):
            raise RoundError(reason)
        if strange := set(self.metrics) - METRICS.keys():
            raise RoundError(f"The plan asks for the metric {min(strange)!r}; known are {', '.join(METRICS)}.")
        if tuple(sorted(set(self.metrics))) != self.metrics:
            raise RoundError(f"The plan's metrics are {self.metrics!r}; expected each once, by name.")
        if self.min_artists < FEWEST and "gain_squared" in self.metrics:
            raise RoundError(
                f"The plan asks {self.min_artists} artists for the spread of their gains; expected {FEWEST} or more. "
                "Of so few, one who knows their own gain could work out the others'. Ask for 'gain' alone."
            )
        if self.degree and (self.degree % 2 or not self.degree < self.min_artists > COMPLETE_UP_TO):
            raise RoundError(
                f"The plan's degree is {self.degree!r} with at least {self.min_artists} artists; expected 0, or an "
                f"even number below them in a simulated room of more than {COMPLETE_UP_TO}."
            )
        if not re.fullmatch("[0-9a-f]{64}", self.host_key):
            raise RoundError(f"The plan's host_key is {self.host_key!r}; expected 64 hex digits.")
        self._check_protection()
        self._check_training()

    def _check_training(self) -> None:
        if self.rewound > self.max_rollbacks:
            raise RoundError(
                f"The plan goes back for the {self.rewound}. time; its max_rollbacks allows {self.max_rollbacks}."
            )
        if self.door not in DOORS:
            raise RoundError(f"The plan's door is {self.door!r}; known are {', '.join(DOORS)}.")
        if self.bits not in BITS or (self.bits != BITS[0] and self.protection == "artist"):
            raise RoundError(
                f"The plan's bits are {self.bits!r}; expected 32 or 16, and 32 with noise on whole artists, which has "
                "its own encoding."
            )
        if self.schedule not in SCHEDULES:
            raise RoundError(f"The plan's schedule is {self.schedule!r}; known are {', '.join(SCHEDULES)}.")

    def _check_protection(self) -> None:
        of_noise = {name: getattr(self, name) for name in ("noise_multiplier", "clip_norm", "survivors", "delta")}
        if self.protection not in PROTECTIONS:
            raise RoundError(f"The plan's protection is {self.protection!r}; known are {', '.join(PROTECTIONS)}.")
        if self.protection == "none":
            if given := [name for name, value in of_noise.items() if value]:
                raise RoundError(
                    f"The plan's {given[0]} is {of_noise[given[0]]!r}, but its protection is 'none': no noise would be "
                    "added. Set protection to 'artist', or leave it out."
                )
            return
        if missing := [name for name in ("noise_multiplier", "clip_norm", "delta") if not of_noise[name]]:
            raise RoundError(f"The plan's {missing[0]} is 0; noise on whole artists needs a number above 0.")
        if self.delta * self.min_artists >= 1:
            raise RoundError(
                f"The plan's delta is {self.delta:g}, too large for {self.min_artists} artists: it allows giving "
                f"one of them away. Take less than 1/{self.min_artists}."
            )
        if self.weighting != "equal":
            raise RoundError(
                f"The plan's weighting is {self.weighting!r} and its protection 'artist': weights would be summed "
                "beside the update, and no noise covers them. Take equal weights."
            )
        if self.metrics:
            raise RoundError(
                f"The plan asks for {self.metrics[0]!r} and its protection is 'artist': no noise covers metrics. "
                "Leave them out."
            )
        least = quorum_of(self.min_artists, self.degree)
        if self.survivors and not least <= self.survivors <= self.min_artists:
            raise RoundError(
                f"The plan's survivors are {self.survivors}; expected 0, or from {least}, without whom no sum of "
                f"{self.min_artists} artists is opened, to {self.min_artists}."
            )

    @property
    def round_rate(self) -> float:
        """The learning rate of this round's first local steps.

        >>> plan = RoundPlan("r", 21, 21, "", "", "0" * 64, learning_rate=0.02, schedule="cosine")
        >>> round(plan.round_rate, 4), RoundPlan(**{**plan.to_body(), "number": 1, "metrics": ()}).round_rate
        (0.0021, 0.02)
        """
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * (self.number - 1) / self.total)))

    @property
    def digest(self) -> str:
        """SHA-256 of the plan's canonical JSON: two kernels hold the same plan exactly when this agrees."""
        return hashlib.sha256(canonical_json(self.to_body())).hexdigest()

    @property
    def terms(self) -> str:
        """SHA-256 of what is the same in all of a room's plans: what a standing consent is given to."""
        body = {name: value for name, value in self.to_body().items() if name not in _PASSING}
        return hashlib.sha256(canonical_json(body)).hexdigest()

    @property
    def place(self) -> tuple[int, int, int]:
        """Where it stands in the room: plans follow each other in this order."""
        return self.rewound, self.number, self.attempt

    def binding(self, shared: bytes) -> bytes:
        """32 bytes that the round's keys hang on: this plan, and the shared adapter that is really held."""
        return hashlib.sha256(bytes.fromhex(self.digest) + hashlib.sha256(shared).digest()).digest()

    def to_body(self) -> dict[str, Any]:
        """As JSON values; what came later is left out at its default, so old plans keep their digest."""
        body = asdict(self)
        return {name: value for name, value in body.items() if value != _LATER.get(name)}

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> RoundPlan:
        """Read a plan from a message; raises RoundError naming what is missing, unknown or of the wrong kind."""
        known = {f.name: f for f in fields(cls)}
        if strange := sorted(body.keys() - known.keys()):
            raise RoundError(f"The plan has the unknown entry {strange[0]!r}; update to the host's version.")
        body = {**_LATER, **body}
        for name, item in known.items():
            if name not in body:
                raise RoundError(f"The plan lacks {name!r}; the host's version is too old for this kernel.")
            if item.type == "str" and not isinstance(body[name], str):
                raise RoundError(f"The plan's {name} is {body[name]!r}; expected a text.")
        metrics = body["metrics"]
        if not isinstance(metrics, list | tuple) or not all(isinstance(name, str) for name in metrics):
            raise RoundError(f"The plan's metrics are {metrics!r}; expected a list of names.")
        return cls(**{**body, "metrics": tuple(metrics)})
