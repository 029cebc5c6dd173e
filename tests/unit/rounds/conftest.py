"""Fixtures of the round tests."""

from __future__ import annotations

import pytest
from small_room import Clock, Room, new_engine, tensors

from fedart_nb.federated import Task, pack


@pytest.fixture
def room() -> Room:
    shared = pack(tensors(1.0), {"fedart": "{}"})
    clock = Clock()
    return Room(clock, new_engine(shared, clock))


@pytest.fixture
def training(room: Room) -> tuple[Room, dict[str, Task]]:
    """A room whose four artists have said yes, have exchanged shares and hold their task."""
    sides = [room.add(letter) for letter in "abcd"]
    room.open()
    for side in sides:
        room.send(side.answer(contribute=True))
    return room, {side.me: side.task for side in sides if side.task}
