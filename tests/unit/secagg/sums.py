"""A secure sum without a room: clients, a server, and the messages between them, step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from fedart_nb.crypto.identity import Identity
from fedart_nb.secagg.client import SecAggClient
from fedart_nb.secagg.server import SecAggServer

__all__ = ["BINDING", "HOST", "PHASES", "Sum", "identity"]

BINDING = bytes(range(32))
HOST = Identity.generate()
PHASES = ("advertise", "share", "masked", "confirm", "unmask")
_PEOPLE = [Identity.generate() for _ in range(40)]


def identity(number: int) -> Identity:
    return _PEOPLE[number]


@dataclass
class Sum:
    """`artists` clients with vectors of `size` words; `run` goes through all phases, with some artists gone."""

    artists: int = 5
    size: int = 50
    degree: int = 0
    client: Callable[..., SecAggClient] = SecAggClient
    binding: Callable[[int], bytes] = lambda _: BINDING
    vectors: list[np.ndarray] = field(default_factory=list)
    states: dict[int, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(7)
        self.vectors = self.vectors or [rng.integers(0, 2**26, self.size, dtype=np.uint32) for _ in range(self.artists)]
        self.server = SecAggServer(HOST, BINDING, self.size, degree=self.degree)
        self.clients = [self.build(i) for i in range(self.artists)]

    def build(self, number: int, **more: object) -> SecAggClient:
        """The client of an artist, from its secret and what it had remembered: as after a restart."""
        return self.client(
            identity(number),
            HOST.public_key,
            self.binding(number),
            bytes([number + 1]) * 32,
            state=self.states.get(number),
            remember=lambda state: self.states.__setitem__(number, dict(state)),
            **{"degree": self.degree, **more},
        )

    def id(self, number: int) -> str:
        return identity(number).id

    def total(self, numbers: Iterable[int]) -> np.ndarray:
        return np.sum([self.vectors[i] for i in numbers], axis=0, dtype=np.uint32)

    def advertise(self) -> bytes:
        for i, client in enumerate(self.clients):
            self.server.advertise(self.id(i), client.advertise())
        return self.server.roster()

    def share(self, roster: bytes, here: Iterable[int] | None = None) -> dict[str, bytes]:
        for i in self._all(here):
            self.server.share(self.id(i), self.clients[i].share(roster))
        return self.server.deliveries()

    def masked(self, deliveries: dict[str, bytes], here: Iterable[int] | None = None) -> bytes:
        for i in self._all(here):
            self.clients[i].receive(deliveries[self.id(i)])
            self.server.masked(self.id(i), self.clients[i].mask(self.vectors[i]))
        return self.server.survivors()

    def confirm(self, survivors: bytes, here: Iterable[int] | None = None) -> bytes:
        for i in self._all(here):
            self.server.confirm(self.id(i), self.clients[i].confirm(survivors))
        return self.server.confirmed()

    def unmask(self, confirmed: bytes, here: Iterable[int] | None = None) -> np.ndarray:
        for i in self._all(here):
            self.server.unmask(self.id(i), self.clients[i].unmask(confirmed))
        return self.server.total()

    def run(self, *here: Iterable[int]) -> np.ndarray:
        """`here`: who is there when sharing, masking, confirming and unmasking; the last one given holds on."""
        who = [list(self._all(h)) for h in here] or [list(range(self.artists))]
        who += [who[-1]] * (4 - len(who))
        deliveries = self.share(self.advertise(), who[0])
        return self.unmask(self.confirm(self.masked(deliveries, who[1]), who[2]), who[3])

    def _all(self, here: Iterable[int] | None) -> Iterable[int]:
        return range(self.artists) if here is None else here
