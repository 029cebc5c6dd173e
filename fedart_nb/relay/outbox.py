"""What is to be sent, in order, over a relay that may be away for a while."""

from __future__ import annotations

import threading
from collections import deque

from fedart_nb.crypto.identity import Identity
from fedart_nb.errors import FedArtError, RelayUnreachable
from fedart_nb.relay.transport import Transport
from fedart_nb.relay.wire import Envelope

__all__ = ["Outbox"]


class Outbox:
    """Keeps what a relay could not be given, and gives it later; the same envelope twice is one message to it."""

    def __init__(self, transport: Transport, identity: Identity) -> None:
        self._transport, self._identity = transport, identity
        self._waiting: deque[Envelope] = deque()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._waiting)

    def send(self, envelope: Envelope) -> None:
        """Send it behind what waits already; returns also where the relay is not reachable now."""
        self._waiting.append(envelope)
        try:
            self.flush()
        except RelayUnreachable:
            return

    def flush(self) -> None:
        """Send what waits.

        Raises:
            RelayUnreachable: nothing is lost; what is left waits for the next call.
            RelayRefused: the relay does not take one of the messages; it is dropped, the others wait.
        """
        with self._lock:
            while self._waiting:
                try:
                    self._transport.send(self._waiting[0], self._identity)
                except RelayUnreachable:
                    raise
                except FedArtError:
                    self._waiting.popleft()
                    raise
                self._waiting.popleft()
