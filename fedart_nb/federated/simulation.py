"""A whole round inside one process: the same engine, artists and secure sum as in a room, and nothing in between.

For lessons, tests and soaks. What is between them can be replaced: `tamper` plays a relay, or a host, that cheats.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from ..crypto.identity import Identity
from ..errors import FedArtError
from ..relay.wire import Envelope
from .plan import RoundPlan
from .round_client import ArtistSide
from .round_server import Member, Phase, RoundEngine, RoundResult
from .strategies import aggregation_error
from .tensors import Tensors, pack, unpack

__all__ = ["Simulated", "Simulation", "Tamper"]

_BACKBONE = "b" * 64

#: What reaches an artist in place of an envelope of the host; None: nothing does. The host's identity is given away,
#: so that what is put in its place may be signed like the original.
Tamper = Callable[[Envelope, str, Identity], Envelope | None]


@dataclass(frozen=True)
class Simulated:
    """What came of a simulated round.

    Attributes:
        result: None when the round did not end.
        log: every envelope that was sent, in order; all that a relay could have seen.
        noticed: (artist's name, sentence) for everything that an artist refused.
        reason: why the attempt was aborted, or "".
    """

    result: RoundResult | None
    log: tuple[Envelope, ...] = field(repr=False)
    noticed: tuple[tuple[str, str], ...]
    reason: str


class Simulation:
    """A room of artists who contribute given updates, round after round; whoever is named is in, and takes every list.

    `sides[name].pins = Pins()` lets one of them confirm others first, as every `Session` does.

    Args:
        names: the artists; at least three.
        shared: the shared adapter's tensors at the start.
        changes: entries of the plan that differ from its defaults. With more than 64 artists, `degree` may give each
            of them that many neighbours in place of all others: see `secagg.graph.risks` for how many it takes.

    >>> room = Simulation(["Ada", "Ben", "Cy"], {"x": np.zeros(4, np.float32)})
    >>> updates = {name: {"x": np.full(4, value, np.float32)} for name, value in zip(room.names, (0.1, 0.2, 0.3))}
    >>> done = room.round(updates)
    >>> done.result.contributors == tuple(sorted(room.sides[name].me for name in room.names))
    True
    """

    def __init__(self, names: list[str], shared: Tensors, *, rounds: int = 100, **changes: object) -> None:
        self.names = tuple(names)
        self.host = Identity.generate()
        self.shared = pack(shared)
        self._now = 0.0
        settings: dict[str, object] = {"room": "simulation", "number": 1, "total": rounds, "backbone_sha256": _BACKBONE}
        settings |= {"shared_sha256": _sha256(self.shared), "host_key": self.host.public_key.hex()}
        settings["min_artists"] = len(names)
        self.plan = RoundPlan(**(settings | changes))  # type: ignore[arg-type]
        self.members: dict[str, Member] = {}
        self.state = b""
        self.missed: dict[str, list[Envelope]] = {name: [] for name in names}
        self.sides = {
            name: ArtistSide(
                room=self.plan.room,
                host=self.host.id,
                identity=Identity.generate(),
                name=name,
                backbone_sha256=self.plan.backbone_sha256,
                simulated=True,
            )
            for name in names
        }

    def round(
        self,
        updates: Mapping[str, Tensors],
        *,
        gone: Mapping[str, str] | None = None,
        tamper: Tamper | None = None,
        pictures: int = 20,
        metrics: Mapping[str, Mapping[str, float]] | None = None,
    ) -> Simulated:
        """Run one attempt of the next round to its end, or until nothing more can happen.

        Args:
            updates: by name, each looked up when it is sent; those without one are there but never send.
            gone: name to the kind of the host's envelope ("roster", "share", "consistency", "unmask") that the artist
                does not live to see.
            tamper: replaces what artists hear.
            metrics: by name, what the plan's `metrics` ask for.
        """
        engine = RoundEngine(
            self.plan,
            self.shared,
            host=self.host,
            members=self.members,
            clock=lambda: self._now,
            state=self.state,
        )
        post = _Post(self, engine, updates, dict(gone or {}), tamper, pictures, metrics or {})
        for name, side in self.sides.items():
            for envelope in self.missed[name]:  # who comes back hears first what the relay kept
                side.feed(envelope)
            self.missed[name].clear()
            post.to_host(side.hello())
        post.from_host(engine.open())
        for _ in Phase:
            if engine.phase in (Phase.DONE, Phase.ABORTED):
                break
            self._now += 2 * max(self.plan.patience_s, self.plan.join_s)
            post.from_host(engine.tick())
        if engine.result is not None:
            self.shared, self.state = engine.result.shared, engine.result.state
            self.plan = replace(self.plan, number=self.plan.number + 1, attempt=1, shared_sha256=_sha256(self.shared))
        else:
            self.plan = replace(self.plan, attempt=self.plan.attempt + 1)
        return Simulated(engine.result, tuple(post.log), tuple(post.noticed), engine.reason)

    def aggregation_error(self, updates: Mapping[str, Tensors]) -> float:
        """How far the mean of A times the mean of B would be from the mean product, as a share of what the round moves.

        Only a simulation can know: it takes every artist's own update. See `rules.fedavg`.
        """
        return aggregation_error(unpack(self.shared), list(updates.values()))


class _Post:
    """Carries envelopes until none is left."""

    def __init__(
        self,
        room: Simulation,
        engine: RoundEngine,
        updates: Mapping[str, Tensors],
        gone: dict[str, str],
        tamper: Tamper | None,
        pictures: int,
        metrics: Mapping[str, Mapping[str, float]],
    ) -> None:
        self.room, self.engine, self.updates, self.gone = room, engine, updates, gone
        self.tamper, self.pictures, self.metrics = tamper, pictures, metrics
        self.log: list[Envelope] = []
        self.noticed: list[tuple[str, str]] = []
        self._away: set[str] = set()
        self._waiting: deque[tuple[str | None, Envelope]] = deque()

    def to_host(self, envelope: Envelope) -> None:
        self._waiting.append((None, envelope))
        self._carry()

    def from_host(self, envelopes: list[Envelope]) -> None:
        self._address(envelopes)
        self._carry()

    def _address(self, envelopes: list[Envelope]) -> None:
        for envelope in envelopes:
            self.log.append(envelope)
            for name, side in self.room.sides.items():
                if envelope.recipient in ("all", side.me):
                    self._waiting.append((name, envelope))

    def _carry(self) -> None:
        while self._waiting:
            name, envelope = self._waiting.popleft()
            if name is not None:
                self._hear(name, envelope)
                continue
            self.log.append(envelope)
            if self.engine.phase not in (Phase.DONE, Phase.ABORTED):
                self._address(self.engine.feed(envelope))

    def _hear(self, name: str, envelope: Envelope) -> None:
        side = self.room.sides[name]
        if self.gone.get(name) == envelope.kind:
            self._away.add(name)
        if name in self._away:
            self.room.missed[name].append(envelope)
            return
        heard = self.tamper(envelope, name, self.room.host) if self.tamper else envelope
        if heard is None:
            return
        try:
            answers = side.feed(heard)
            if side.needs_answer():
                answers = [*answers, side.answer(contribute=True)]
            if side.task is not None and name in self.updates:
                told = self.metrics.get(name)
                answers = [*answers, side.submit(self.updates[name], pictures=self.pictures, metrics=told)]
        except FedArtError as error:
            self.noticed.append((name, str(error)))
            return
        self._waiting.extend((None, answer) for answer in answers)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
