"""An artist without pictures, pins or a session: says yes to everything and sends one number everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fedart_nb.crypto.identity import Identity
from fedart_nb.federated import ArtistSide, rule_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from threading import Event

    from fedart_nb.relay import Invite, Transport

__all__ = ["Light"]


class Light:
    """Enters a room; `live` follows its rounds until `over` is set or the room is closed."""

    def __init__(
        self,
        name: str,
        connect: Callable[[Identity], Transport],
        backbone: str,
        *,
        value: float = 0.0,
        link: Invite | None = None,
    ) -> None:
        self.identity = Identity.generate()
        self.transport = connect(self.identity)
        self.side = ArtistSide(
            room=self.transport.room,
            host=self.transport.host_id,
            identity=self.identity,
            name=name,
            backbone_sha256=backbone,
            proof=link.proof(self.identity.id) if link else "",
        )
        self.value, self.cursor = value, 0
        self.hello()

    @property
    def id(self) -> str:
        return self.identity.id

    def hello(self) -> None:
        self.send(self.side.hello())

    def live(self, over: Event) -> Iterator[str]:
        while not self.side.closed and not over.is_set():
            yield from self.hear(0.1)

    def hear(self, wait_s: float = 0.0) -> Iterator[str]:
        for seq, message in self.transport.receive(self.cursor, wait_s):
            self.cursor = seq
            for answer in self.side.feed(self.transport.fetch(message, 10**8)):
                self.send(answer)
            yield message.kind
        if self.side.needs_answer():
            self.send(self.side.answer(contribute=True))
        if (task := self.side.task) is not None:
            trained = rule_of(task.plan.rule).trained(task.plan.number, task.shared)
            update = {k: np.full_like(v, self.value * (k in trained)) for k, v in task.shared.items()}
            self.send(self.side.submit(update, pictures=5))

    def send(self, envelope: Any) -> None:
        self.transport.send(envelope, self.identity)
