"""How many connections one member and one address may have, and how long one may say nothing: on a clock of our own."""

from __future__ import annotations

import asyncio
import itertools
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from relay_fakes import SilentSocket, StandingLoop, settled
from starlette.requests import Request
from uvicorn.server import ServerState

from fedart_nb.relay import Limits
from fedart_nb.relay.connections import Connections, GuardedProtocol
from fedart_nb.relay.limits import Refused
from fedart_nb.relay.metrics import Metrics
from fedart_nb.relay.reading import body_chunks

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

HERE, THERE = "192.0.2.1", "192.0.2.2"
HEAD = b"GET /healthz HTTP/1.1\r\nhost: relay\r\n\r\n"


@pytest.fixture
def loop() -> Iterator[StandingLoop]:
    made = StandingLoop()
    yield made
    made.close()


@pytest.fixture
def play(loop: StandingLoop) -> Callable[[Coroutine[Any, Any, None]], None]:
    return loop.run_until_complete


class Door:
    """Connections of a relay, with sockets that say nothing."""

    def __init__(self, **limits: int) -> None:
        self.connections = Connections(Limits(**limits))
        self._numbers = itertools.count(1000)

    def open(self, address: str = HERE) -> SilentSocket | None:
        """A new connection, or None where it may not stay."""
        made = SilentSocket(next(self._numbers))
        return made if self.connections.accept(made, address) else None  # type: ignore[arg-type]

    def member(self, member_id: str, address: str = HERE) -> SilentSocket:
        """A new connection on which a request of this member is being answered."""
        made = self.open(address)
        assert made is not None
        found = self.connections.find(made.fileno())
        assert found is not None
        self.connections.belongs_to(found, member_id)
        self.connections.set_idle(found, idle=False)
        return made

    def rest(self, made: SilentSocket) -> None:
        """Its request was answered."""
        found = self.connections.find(made.fileno())
        assert found is not None
        self.connections.set_idle(found, idle=True)


def test_a_member_with_as_many_connections_as_one_may_is_refused_another(play: Any) -> None:
    async def scene() -> None:
        door = Door(member_connections=2)
        for _ in range(2):
            door.member("ada")
        with pytest.raises(Refused, match="as many connections as one member may") as caught:
            door.member("ada")
        assert (caught.value.status, caught.value.retry_after_s) == (503, 2.0)

    play(scene())


def test_one_members_connections_take_no_place_of_another_member(play: Any) -> None:
    async def scene() -> None:
        door = Door(member_connections=1)
        door.member("ada")
        assert not door.member("bob").is_over

    play(scene())


def test_a_members_place_is_free_again_when_a_connection_closes(play: Any) -> None:
    async def scene() -> None:
        door = Door(member_connections=1)
        door.connections.release(door.member("ada").fileno())
        door.member("ada")

    play(scene())


def test_several_requests_of_one_member_on_one_connection_are_one_connection(play: Any) -> None:
    async def scene() -> None:
        door = Door(member_connections=1)
        found = door.connections.find(door.member("ada").fileno())
        assert found is not None
        door.connections.belongs_to(found, "ada")

    play(scene())


def test_an_address_whose_connections_are_all_at_work_gets_no_other_one(play: Any) -> None:
    async def scene() -> None:
        door = Door(address_connections=3)
        busy = [door.member(name) for name in "abc"]
        assert door.open() is None
        assert [made.is_over for made in busy] == [False] * 3

    play(scene())


def test_a_full_address_keeps_no_other_address_out(play: Any) -> None:
    async def scene() -> None:
        door = Door(address_connections=1)
        door.member("ada")
        assert door.open(THERE) is not None

    play(scene())


def test_at_a_full_address_the_connection_that_rested_longest_makes_room(play: Any) -> None:
    async def scene() -> None:
        door = Door(address_connections=3)
        first, second, third = (door.member(name) for name in "abc")
        door.rest(second)
        door.rest(first)
        assert door.open() is not None
        assert [made.is_over for made in (first, second, third)] == [False, True, False]

    play(scene())


def test_of_too_many_strangers_at_one_address_the_oldest_is_hung_up_on(play: Any) -> None:
    async def scene() -> None:
        door = Door(stranger_connections=2)
        strangers = [door.open() for _ in range(3)]
        assert [made is not None and made.is_over for made in strangers] == [True, False, False]
        assert len(door.connections) == 2

    play(scene())


def test_at_a_full_relay_the_most_crowded_address_makes_room(play: Any) -> None:
    async def scene() -> None:
        door = Door(connections=3)
        crowd = [door.open(HERE) for _ in range(2)]
        lonely = door.open(THERE)
        assert door.open("192.0.2.3") is not None
        assert [made is not None and made.is_over for made in (*crowd, lonely)] == [True, False, False]

    play(scene())


def test_a_connection_that_says_nothing_is_hung_up_on_after_the_time_for_a_head(play: Any, loop: StandingLoop) -> None:
    async def scene() -> None:
        made = Door(head_s=10).open()
        assert made is not None
        await loop.pass_by(9.9)
        assert not made.is_over
        await loop.pass_by(0.2)
        assert made.is_over

    play(scene())


class Wire(asyncio.Transport):
    """What a protocol writes, and whether it closed."""

    def __init__(self, made: SilentSocket) -> None:
        super().__init__({"socket": made})
        self.written, self.is_aborted = b"", False

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.is_aborted

    def close(self) -> None:
        self.is_aborted = True

    def abort(self) -> None:
        self.is_aborted = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def answers_at_once(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def answers_never(_scope: Any, _receive: Any, _send: Any) -> None:
    await asyncio.Event().wait()


class Line:
    """One connection of a relay, as the event loop serves it."""

    def __init__(self, application: Any = answers_at_once, **limits: int) -> None:
        door = Door(**limits)
        made = door.open()
        assert made is not None
        self.socket, self.wire = made, Wire(made)
        config = uvicorn.Config(
            application, lifespan="off", log_config=None, timeout_keep_alive=Limits(**limits).idle_s
        )
        config.load()
        kind = type("_Protocol", (GuardedProtocol,), {"guard": door.connections})
        self.protocol = kind(config=config, server_state=ServerState(), app_state={})
        self.protocol.connection_made(self.wire)

    async def say(self, data: bytes) -> None:
        self.protocol.data_received(data)
        await settled()

    def end(self) -> None:
        self.protocol.connection_lost(None)
        for task in self.protocol.tasks:
            task.cancel()

    @property
    def is_over(self) -> bool:
        return self.socket.is_over or self.wire.is_aborted


def test_half_a_head_must_be_whole_in_time(play: Any, loop: StandingLoop) -> None:
    async def scene() -> None:
        line = Line(head_s=10)
        await line.say(HEAD[:9])
        await loop.pass_by(9.9)
        assert not line.is_over
        await line.say(HEAD[9:12])  # more of it gives no more time
        await loop.pass_by(0.2)
        assert line.is_over

    play(scene())


def test_the_head_of_a_second_request_has_a_time_too(play: Any, loop: StandingLoop) -> None:
    async def scene() -> None:
        line = Line(head_s=10, idle_s=1000)
        await line.say(HEAD)
        assert b"200 OK" in line.wire.written
        await loop.pass_by(100)
        assert not line.is_over, "between requests it may rest"
        await line.say(HEAD[:9])
        await loop.pass_by(10.1)
        assert line.is_over

    play(scene())


def test_a_request_that_is_being_answered_has_no_time_for_a_head(play: Any, loop: StandingLoop) -> None:
    async def scene() -> None:
        line = Line(answers_never, head_s=10)
        await line.say(HEAD)
        await loop.pass_by(100)
        assert not line.is_over
        line.end()

    play(scene())


def test_a_connection_rests_between_requests_as_long_as_it_may(play: Any, loop: StandingLoop) -> None:
    async def scene() -> None:
        line = Line(idle_s=30)
        await line.say(HEAD)
        await loop.pass_by(29.9)
        assert not line.is_over
        await loop.pass_by(0.2)
        assert line.is_over

    play(scene())


def test_an_answer_that_nobody_reads_is_given_up_in_time(play: Any, loop: StandingLoop) -> None:
    async def scene() -> None:
        line = Line(answers_never, body_s=20)
        await line.say(HEAD)
        line.protocol.pause_writing()
        await loop.pass_by(19.9)
        assert not line.is_over
        await loop.pass_by(0.2)
        assert line.is_over
        line.end()

    play(scene())


def test_an_answer_that_is_read_in_time_is_not_given_up(play: Any, loop: StandingLoop) -> None:
    async def scene() -> None:
        line = Line(answers_never, body_s=20)
        await line.say(HEAD)
        for _ in range(5):
            line.protocol.pause_writing()
            await loop.pass_by(15)
            line.protocol.resume_writing()
        await loop.pass_by(100)
        assert not line.is_over
        line.end()

    play(scene())


class Body:
    """A request whose body comes as a test sends it; `read` is what the relay has of it."""

    def __init__(self, **limits: int) -> None:
        state = SimpleNamespace(mailbox=SimpleNamespace(limits=Limits(**limits)), metrics=Metrics())
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        scope = {"type": "http", "method": "PUT", "headers": [], "app": SimpleNamespace(state=state)}
        self.read = b""
        self.reading = asyncio.create_task(self._read(Request(scope, self._queue.get)))

    async def _read(self, request: Request) -> None:
        async for chunk in body_chunks(request):
            self.read += chunk

    async def send(self, data: bytes, *, more: bool = True) -> None:
        await self._queue.put({"type": "http.request", "body": data, "more_body": more})
        await settled()


def test_a_body_of_which_nothing_comes_is_refused_in_time(play: Any, loop: StandingLoop) -> None:
    async def scene() -> None:
        body = Body(body_s=20)
        await loop.pass_by(19.9)
        assert not body.reading.done()
        await loop.pass_by(0.2)
        with pytest.raises(Refused, match="slower than") as caught:
            await body.reading
        assert caught.value.status == 408

    play(scene())


def test_a_body_that_trickles_is_refused_though_something_always_comes(play: Any, loop: StandingLoop) -> None:
    async def scene() -> None:
        body = Body(body_s=20, rate_bytes=1000)
        for _ in range(19):
            await loop.pass_by(1)
            await body.send(b"x")
        assert not body.reading.done()
        for _ in range(2):
            await loop.pass_by(1)
            await body.send(b"x")
        with pytest.raises(Refused, match="slower than 1000 bytes a second"):
            await body.reading

    play(scene())


def test_a_body_that_comes_at_its_rate_may_take_as_long_as_it_is_large(play: Any, loop: StandingLoop) -> None:
    async def scene() -> None:
        body = Body(body_s=2, rate_bytes=1000)
        for _ in range(100):
            await loop.pass_by(1)
            await body.send(b"x" * 1000)
        await body.send(b"end", more=False)
        await body.reading
        assert len(body.read) == 100_003

    play(scene())
