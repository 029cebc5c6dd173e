"""The same plan, updates and people give the same bits, whatever carries the messages and whoever is faster."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from fedart_nb.federated import ArtistSide, Member, Phase, RoundEngine, RoundPlan, Simulation, pack
from fedart_nb.relay import Envelope, MemoryRelay, RelayClient, Transport, create_room, serve_in_thread
from fedart_nb.secagg import Identity

HOST, *PEOPLE = (Identity.generate() for _ in range(6))
ROOM, SIZE, BACKBONE = "same-bits", 4099, "b" * 64
SHARED = pack({"x": np.linspace(-1, 1, SIZE, dtype=np.float32)}, {"fedart": "{}"})
Connect = Callable[[Identity], Transport]


def update_of(number: int) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(number).normal(0, 0.05, SIZE).astype(np.float32)}


@pytest.fixture(params=["memory", "http"])
def connect(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Connect]:
    opened: list[Transport] = []

    def remember(transport: Transport) -> Transport:
        opened.append(transport)
        return transport

    if request.param == "memory":
        with MemoryRelay(HOST, room=ROOM) as relay:
            yield lambda identity: remember(relay.connect(identity))
    else:
        with serve_in_thread(tmp_path) as running:
            invite = create_room(running.url, HOST, room=ROOM)
            yield lambda identity: remember(RelayClient(invite, identity))
            for transport in opened:
                transport.close()


def artist(transport: Transport, identity: Identity, number: int) -> None:
    """One artist's kernel, until the result is there."""
    side = ArtistSide(room=ROOM, host=HOST.id, identity=identity, name=f"A{number}", backbone_sha256=BACKBONE)
    transport.send(side.hello(), identity)
    cursor = 0
    while not side.rounds_done:
        for seq, envelope in transport.receive(cursor, 10):
            for answer in side.feed(transport.fetch(envelope, 10**6)):
                transport.send(answer, identity)
            cursor = seq
        if side.needs_answer():
            transport.send(side.answer(contribute=True), identity)
        if side.task is not None:
            transport.send(side.submit(update_of(number), pictures=10 + number), identity)


def hosted(connect: Connect, plan: RoundPlan) -> tuple[bytes, bytes]:
    """Run one round; returns the result and the sum's words."""
    transport = connect(HOST)
    members: dict[str, Member] = {}
    engine = RoundEngine(plan, SHARED, host=HOST, members=members, clock=lambda: 0.0)
    words: list[bytes] = []
    total = engine._sum.total

    def remember() -> np.ndarray:
        summed = total()
        words.append(summed.tobytes())
        return summed

    engine._sum.total = remember  # type: ignore[method-assign]

    def send(envelopes: list[Envelope]) -> None:
        for envelope in envelopes:
            transport.send(envelope, HOST)

    threads = [threading.Thread(target=artist, args=(connect(me), me, i), daemon=True) for i, me in enumerate(PEOPLE)]
    for thread in threads:
        thread.start()
    send(engine.open())
    cursor = 0
    while engine.phase is not Phase.DONE:
        assert engine.phase is not Phase.ABORTED, engine.reason
        for seq, envelope in transport.receive(cursor, 10):
            if envelope.sender != HOST.id and engine.phase is not Phase.DONE:
                send(engine.feed(transport.fetch(envelope, 10**6)))
            cursor = seq
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert engine.result is not None
    return engine.result.shared, words[0]


def test_a_sum_is_the_same_to_the_bit_in_memory_and_over_http(connect: Connect) -> None:
    """Both are compared with the sum in the clear of the same whole numbers, so that they equal each other."""
    from fedart_nb.federated.vector import encode, layout

    plan = RoundPlan(
        room=ROOM,
        number=1,
        total=1,
        backbone_sha256=BACKBONE,
        shared_sha256=hashlib.sha256(SHARED).hexdigest(),
        host_key=HOST.public_key.hex(),
        weighting="pictures",
        min_artists=len(PEOPLE),
    )
    shared = {"x": np.linspace(-1, 1, SIZE, dtype=np.float32)}
    code = layout(plan, shared, len(PEOPLE))
    clear = np.zeros(code.size, np.uint32)
    for number in range(len(PEOPLE)):
        words = np.empty(code.size, np.uint32)
        encode(code, plan, update_of(number), pictures=10 + number, metrics={}, out=words)
        clear += words
    result, summed = hosted(connect, plan)
    assert summed == clear.tobytes()
    assert hashlib.sha256(result).hexdigest() == expected_result(plan, code, shared, clear)


def expected_result(plan: RoundPlan, code: object, shared: dict[str, np.ndarray], words: np.ndarray) -> str:
    from fedart_nb.federated.strategies import aggregate
    from fedart_nb.federated.vector import open_sum

    summed = open_sum(code, shared, words, len(PEOPLE))  # type: ignore[arg-type]
    tensors = aggregate(plan.rule, shared, summed.update, summed.weight)
    return hashlib.sha256(pack(tensors, {"fedart": "{}"})).hexdigest()


def test_two_simulations_with_other_keys_give_the_same_bits() -> None:
    names = [f"A{i}" for i in range(5)]
    results = []
    for _ in range(2):
        room = Simulation(names, {"x": np.linspace(-1, 1, SIZE, dtype=np.float32)})
        done = room.round({name: update_of(i) for i, name in enumerate(names)})
        assert done.result is not None
        results.append(done.result.shared)
    assert results[0] == results[1]
