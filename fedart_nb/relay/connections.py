"""Who holds how many connections, and for how long without saying anything: counted from the first packet on.

A connection is a stranger's until a request on it was let in as a member's. Strangers have few places for each address;
the oldest silent one is hung up on when a new one comes, so that a flood of them never keeps out a kernel, which speaks
at once; those whose request is being answered have as many places of their own. Everything happens on the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from fedart_nb.relay.admission_control import household
from fedart_nb.relay.limits import Limits, Refused

__all__ = ["Connection", "Connections", "GuardedListener", "GuardedProtocol"]

_BACKLOG = 1024
_IN_A_ROW = 16  # far fewer than strangers' places: who speaks at once is heard before as many others have come
_WRITE_HIGH, _WRITE_LOW = 2**18, 2**14


@dataclass(eq=False)
class Connection:
    """One accepted connection: whence, whose, and whether a request of it is being answered."""

    socket: socket.socket = field(repr=False)
    address: str
    member_id: str = ""
    idle: bool = True
    deadline: asyncio.TimerHandle | None = field(default=None, repr=False)

    def hang_up(self) -> None:
        """End it; whoever reads from it sees that it is over."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)


class Connections:
    """The connections of one relay. `per_address` is False behind a proxy of one's own, which has one address."""

    def __init__(self, limits: Limits, *, most: int | None = None, per_address: bool = True) -> None:
        self.limits = limits
        self._most = min(limits.connections, most or limits.connections)
        self._per_address = per_address
        self._all: dict[int, Connection] = {}
        self._by_address: Counter[str] = Counter()
        self._by_member: Counter[str] = Counter()
        self._strangers: dict[str, OrderedDict[int, Connection]] = {}
        self._asking: dict[str, OrderedDict[int, Connection]] = {}  # strangers whose request is being answered
        self._resting: dict[str, OrderedDict[int, Connection]] = {}
        self.hung_up = 0

    def __len__(self) -> int:
        return len(self._all)

    def find(self, fileno: int) -> Connection | None:
        """The connection of an open socket."""
        return self._all.get(fileno)

    def accept(self, accepted: socket.socket, address: str) -> bool:
        """Count a new connection, hanging up on another one if need be; False: it is to be closed at once."""
        address = household(address)
        limits = self.limits
        strangers = self._strangers.setdefault(address, OrderedDict())
        most_strangers = limits.stranger_connections if self._per_address else self._most
        if len(strangers) >= most_strangers:
            self._hang_up(next(iter(strangers.values())))
        if self._per_address and self._by_address[address] >= limits.address_connections and not self._room_at(address):
            return False
        if len(self._all) >= self._most:
            crowded = max(self._by_address, key=self._by_address.__getitem__)
            if not (self._room_at(crowded) or self._room_at(address)):
                return False
        made = Connection(accepted, address)
        self._all[accepted.fileno()] = made
        self._by_address[address] += 1
        self._strangers.setdefault(address, OrderedDict())[accepted.fileno()] = made
        self.wait_for(made, limits.head_s)
        return True

    def release(self, fileno: int) -> None:
        """A connection's socket is being closed."""
        connection = self._all.pop(fileno, None)
        if connection is None:
            return
        self.wait_for(connection, None)
        _less(self._by_address, connection.address)
        if connection.member_id:
            _less(self._by_member, connection.member_id)
        for kept in (self._strangers, self._asking, self._resting):
            at = kept.get(connection.address)
            if at is not None:
                at.pop(fileno, None)
                if not at:
                    del kept[connection.address]

    def belongs_to(self, connection: Connection, member_id: str) -> None:
        """A request of this member was let in on it; raises Refused when the member has too many connections."""
        if connection.member_id == member_id:
            return
        if self._by_member[member_id] >= self.limits.member_connections:
            error = "You have as many connections as one member may."
            raise Refused(503, error, "Close some.", retry_after_s=2.0, reason="places")
        if connection.member_id:
            _less(self._by_member, connection.member_id)
        connection.member_id = member_id
        self._by_member[member_id] += 1
        for kept in (self._strangers, self._asking):
            if (at := kept.get(connection.address)) is not None:
                at.pop(connection.socket.fileno(), None)

    def set_idle(self, connection: Connection, *, idle: bool) -> None:
        """Whether it rests between requests: then it may be hung up on when there are too many."""
        connection.idle = idle
        fileno = connection.socket.fileno()
        if not connection.member_id:
            to, fro = (self._strangers, self._asking) if idle else (self._asking, self._strangers)
            if (before := fro.get(connection.address)) is not None:
                before.pop(fileno, None)
            at = to.setdefault(connection.address, OrderedDict())
            at[fileno] = connection
            if self._per_address and len(at) > self.limits.stranger_connections:
                self._hang_up(next(iter(at.values())))
            return
        resting = self._resting.setdefault(connection.address, OrderedDict())
        resting.pop(fileno, None)
        if idle:
            resting[fileno] = connection

    def wait_for(self, connection: Connection, seconds: float | None) -> None:
        """Hang up unless this is called again within so many seconds; None: there is time."""
        if connection.deadline is not None:
            connection.deadline.cancel()
        connection.deadline = None
        if seconds is not None:
            loop = asyncio.get_running_loop()
            connection.deadline = loop.call_later(seconds, self._hang_up, connection)

    def _room_at(self, address: str) -> bool:
        """Hang up on the oldest connection of an address that says nothing, if there is one."""
        for kept in (self._strangers, self._resting):
            if at := kept.get(address):
                self._hang_up(next(iter(at.values())))
                return True
        return False

    def _hang_up(self, connection: Connection) -> None:
        self.hung_up += 1
        fileno = connection.socket.fileno()
        connection.hang_up()
        self.release(fileno)  # its place is free at once; the socket closes when the loop comes to it


class _Accepted(socket.socket):
    """A connection that says when it is closed, whoever closes it: also one that never finished its TLS handshake."""

    connections: Connections | None = None

    def close(self) -> None:
        if self.connections is not None and self.fileno() >= 0:
            self.connections.release(self.fileno())
        super().close()


class GuardedListener(socket.socket):
    """A listening socket whose connections are counted before anything else is done for them."""

    connections: Connections | None = None
    _in_a_row = 0

    def listen(self, backlog: int = _BACKLOG) -> None:
        """Let that many connections wait for `accept`, or more."""
        super().listen(max(backlog, _BACKLOG))

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection that may stay; raises ConnectionAbortedError for one that may not.

        asyncio calls this in a row until it raises. After a few, BlockingIOError lets it close what was hung up on; it
        comes back by itself. Where the process has no file descriptors left it is told so once, and waits a second.
        """
        self._in_a_row += 1
        if self._in_a_row > _IN_A_ROW:
            self._in_a_row = 0
            raise BlockingIOError
        try:
            descriptor, address = self._accept()  # type: ignore[attr-defined]  # as socket.accept does
        except OSError as error:
            self._in_a_row = _IN_A_ROW if error.errno in (errno.EMFILE, errno.ENFILE) else 0
            raise
        accepted = _Accepted(self.family, self.type, self.proto, fileno=descriptor)
        if self.connections is not None:
            if not self.connections.accept(accepted, str(address[0])):
                accepted.close()
                raise ConnectionAbortedError("The relay has as many connections as it may.")
            accepted.connections = self.connections
        return accepted, address


class GuardedProtocol(H11Protocol):
    """uvicorn's protocol with deadlines: for every request's head, and for answers that nobody reads.

    The app finds it as `request.state.protocol`.
    """

    guard: Connections
    connection: Connection | None = None
    _stalled: asyncio.TimerHandle | None = None

    def __init__(self, **settings: Any) -> None:
        settings["app_state"] = {**settings["app_state"], "protocol": self}
        super().__init__(**settings)

    def belongs_to(self, member_id: str) -> None:
        """The request that runs was let in as this member's; raises Refused when it has too many connections."""
        if self.connection is not None:
            self.guard.belongs_to(self.connection, member_id)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # noqa: D102
        super().connection_made(transport)
        transport.set_write_buffer_limits(_WRITE_HIGH, _WRITE_LOW)
        found = transport.get_extra_info("socket")
        self.connection = self.guard.find(found.fileno()) if found is not None else None

    def data_received(self, data: bytes) -> None:  # noqa: D102
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:  # noqa: D102
        super().on_response_complete()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102
        self._cancel_stalled()
        if self.connection is not None:
            self.guard.wait_for(self.connection, None)
        super().connection_lost(exc)

    def pause_writing(self) -> None:  # noqa: D102
        super().pause_writing()
        self._cancel_stalled()
        self._stalled = self.loop.call_later(self.guard.limits.body_s, self.transport.abort)

    def resume_writing(self) -> None:  # noqa: D102
        self._cancel_stalled()
        super().resume_writing()

    def _cancel_stalled(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _look(self) -> None:
        """Set the deadline of the connection, as it stands."""
        connection = self.connection
        if connection is None or self.transport.is_closing():
            return
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering:
            self.guard.wait_for(connection, None)
            self.guard.set_idle(connection, idle=False)
            return
        if not connection.idle:
            self.guard.set_idle(connection, idle=True)
        half = self.conn.their_state is not h11.IDLE or bool(self.conn.trailing_data[0])
        if half and connection.deadline is None:  # half a head, or a body that nobody waits for any more
            self.guard.wait_for(connection, self.guard.limits.head_s)


def _less(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]
