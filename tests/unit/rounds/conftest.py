"""Fixtures of the round tests."""

from __future__ import annotations

import pytest
from small_room import HOST, Clock, Room, plan_for, tensors

from fedart_nb.rounds import Member, RoundEngine, Task, pack


@pytest.fixture
def room() -> Room:
    shared = pack(tensors(1.0), {"fedart": "{}"})
    clock = Clock()
    members: dict[str, Member] = {}
    return Room(clock, RoundEngine(plan_for(shared), shared, host=HOST, members=members, clock=clock))


@pytest.fixture
def training(room: Room) -> tuple[Room, dict[str, Task]]:
    """A room whose three artists have said yes and hold their task."""
    sides = [room.add(letter) for letter in "abc"]
    room.open()
    for side in sides:
        room.send(side.answer(contribute=True))
    return room, {side.me: side.task for side in sides if side.task}
