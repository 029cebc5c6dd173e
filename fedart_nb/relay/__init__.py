"""The relay: how sealed envelopes get from one kernel to another, and what lies between sees.

`RelayClient` and `MemoryRelay().connect(...)` are the two transports; `fedart_nb.relay.app.app(...)` is the ASGI app.
"""

from __future__ import annotations

from fedart_nb.relay.client import RelayClient, create_room
from fedart_nb.relay.invite import Address, Invite
from fedart_nb.relay.limits import Limits, Refused
from fedart_nb.relay.mailbox import Mailbox
from fedart_nb.relay.memory import MemoryRelay, MemoryTransport
from fedart_nb.relay.outbox import Outbox
from fedart_nb.relay.server import RunningRelay, serve_in_thread
from fedart_nb.relay.tls import Certificate
from fedart_nb.relay.transport import Delivered, Transport
from fedart_nb.relay.wire import HEADER_LIMIT_BYTES, KINDS, AttachmentRef, Envelope

__all__ = [
    "HEADER_LIMIT_BYTES",
    "KINDS",
    "Address",
    "AttachmentRef",
    "Certificate",
    "Delivered",
    "Envelope",
    "Invite",
    "Limits",
    "Mailbox",
    "MemoryRelay",
    "MemoryTransport",
    "Outbox",
    "Refused",
    "RelayClient",
    "RunningRelay",
    "Transport",
    "create_room",
    "serve_in_thread",
]
