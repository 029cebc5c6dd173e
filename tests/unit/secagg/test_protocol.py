"""Clients and server together: any order, repeats, losses and restarts end in the exact sum, or in a typed error."""

from __future__ import annotations

import random
from itertools import combinations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sums import BINDING, HOST, PHASES, Sum, identity

from fedart_nb.errors import SecAggError
from fedart_nb.secagg.client import SecAggClient
from fedart_nb.secagg.messages import Kind, Roster, bitmap, members_of, signed

ALL = range(5)


def test_with_everybody_there_the_sum_is_exact() -> None:
    room = Sum()
    np.testing.assert_array_equal(room.run(), room.total(ALL))
    assert room.server.survivors_ids == tuple(sorted(room.id(i) for i in ALL))


@pytest.mark.parametrize("phase", range(4))
@pytest.mark.parametrize("gone", ALL)
def test_one_of_five_may_vanish_before_any_message(phase: int, gone: int) -> None:
    room = Sum()
    left = [i for i in ALL if i != gone]
    here = [list(ALL)] * phase + [left] * (4 - phase)
    counted = left if phase < 2 else ALL
    np.testing.assert_array_equal(room.run(*here), room.total(counted))


@pytest.mark.parametrize("phase", range(4))
@pytest.mark.parametrize("gone", list(combinations(range(5), 2)))
def test_two_of_five_are_too_many_and_nothing_comes_out(phase: int, gone: tuple[int, int]) -> None:
    room = Sum()
    left = [i for i in ALL if i not in gone]
    with pytest.raises(SecAggError, match=r"it takes 4"):
        room.run(*([list(ALL)] * phase + [left] * (4 - phase)))


def test_different_artists_may_vanish_in_different_phases_while_enough_are_left() -> None:
    room = Sum(artists=10)
    total = room.run(range(10), range(9), range(1, 9), range(1, 8))
    np.testing.assert_array_equal(total, room.total(range(9)))


def test_with_k_neighbours_the_sum_is_exact_although_a_quarter_vanishes() -> None:
    room = Sum(artists=30, degree=14, size=20)
    rng = random.Random(3)
    left = sorted(rng.sample(range(30), 22))
    np.testing.assert_array_equal(room.run(range(30), left), room.total(left))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.randoms(use_true_random=False))
def test_any_order_with_repeats_losses_and_restarts_gives_the_exact_sum_or_an_error(rng: random.Random) -> None:
    """A post office that shuffles, repeats and loses, and kernels that are killed between any two messages."""
    artists = rng.randint(3, 7)
    room = Sum(artists=artists, size=5)
    said: dict[tuple[int, str], set[bytes]] = {}
    loss = rng.choice([0.0, 0.0, 0.05, 0.2])
    heard: dict[int, list[tuple[str, bytes]]] = {i: [] for i in range(artists)}

    def do(client: SecAggClient, number: int, step: str, data: bytes) -> bytes | None:
        match step:
            case "advertise":
                return client.advertise()
            case "share":
                return client.share(data)
            case "masked":
                client.receive(data)
                return client.mask(room.vectors[number])
            case "confirm":
                return client.confirm(data)
        return client.unmask(data)

    def tell(number: int, step: str, data: bytes) -> bytes | None:
        if rng.random() < 0.2:  # killed, and built again from its secret and its state; what it had heard comes again
            room.clients[number] = room.build(number)
            for old_step, old_data in heard[number]:
                message = do(room.clients[number], number, old_step, old_data)
                if message is not None:
                    said[number, old_step].add(message)
        heard[number].append((step, data))
        message = do(room.clients[number], number, step, data)
        if message is not None:
            said.setdefault((number, step), set()).add(message)
        return message

    out: dict[str, bytes] | bytes = b""
    there = set(range(artists))
    take = dict(zip(PHASES, ("advertise", "share", "masked", "confirm", "unmask"), strict=True))
    close = dict(zip(PHASES, ("roster", "deliveries", "survivors", "confirmed", "total"), strict=True))
    total: np.ndarray | None = None
    try:
        for phase in PHASES:
            mail = []
            for number in sorted(there):
                data = out[room.id(number)] if isinstance(out, dict) else out
                message = tell(number, phase, data)
                assert message is not None
                if rng.random() < loss:
                    there.discard(number)
                else:
                    mail += [(number, message)] * rng.randint(1, 2)
            rng.shuffle(mail)
            for number, message in mail:
                getattr(room.server, take[phase])(room.id(number), message)
            closed = getattr(room.server, close[phase])()
            if phase == "unmask":
                total = closed
            else:
                out = closed
    except SecAggError:
        assert loss > 0, "without losses nothing may fail"
    for (_, step), messages in said.items():
        assert len(messages) == 1, f"two different {step} messages were made"
    if total is not None:
        counted = [i for i in range(artists) if room.id(i) in room.server.survivors_ids]
        np.testing.assert_array_equal(total, room.total(counted))


def flips(data: bytes) -> list[bytes]:
    """Every byte changed, one at a time; every length but the right one, near it."""
    changed = [data[:i] + bytes([data[i] ^ mask]) + data[i + 1 :] for i in range(len(data)) for mask in (1, 0x80)]
    return [*changed, data[:-1], data + b"\0", b"", data[: len(data) // 2], data + data]


@pytest.mark.parametrize("kind", Kind)
def test_whichever_byte_of_a_message_differs_it_is_refused_and_the_round_goes_on_with_the_right_one(kind: Kind) -> None:
    room = Sum(artists=3, size=3)
    ada, server, me = room.clients[0], room.server, room.id(0)

    def refused(due: Kind, message: bytes, take: object) -> None:
        if due is not kind:
            return
        for wrong in flips(message):
            with pytest.raises(SecAggError):
                take(wrong)  # type: ignore[operator]

    for i in range(3):
        message = room.clients[i].advertise()
        if i == 0:
            refused(Kind.ADVERTISE, message, lambda m: server.advertise(me, m))
        server.advertise(room.id(i), message)
    roster = server.roster()
    refused(Kind.ROSTER, roster, ada.share)
    for i in range(3):
        message = room.clients[i].share(roster)
        if i == 0:
            refused(Kind.SHARE, message, lambda m: server.share(me, m))
        server.share(room.id(i), message)
    deliveries = server.deliveries()
    refused(Kind.DELIVERY, deliveries[me], ada.receive)
    for i in range(3):
        room.clients[i].receive(deliveries[room.id(i)])
        message = room.clients[i].mask(room.vectors[i])
        if i == 0:
            refused(Kind.MASKED, message, lambda m: server.masked(me, m))
        server.masked(room.id(i), message)
    survivors = server.survivors()
    refused(Kind.SURVIVORS, survivors, ada.confirm)
    for i in range(3):
        message = room.clients[i].confirm(survivors)
        if i == 0:
            refused(Kind.CONFIRM, message, lambda m: server.confirm(me, m))
        server.confirm(room.id(i), message)
    confirmed = server.confirmed()
    refused(Kind.CONFIRMED, confirmed, ada.unmask)
    for i in range(3):
        message = room.clients[i].unmask(confirmed)
        if i == 0:
            refused(Kind.UNMASK, message, lambda m: server.unmask(me, m))
        server.unmask(room.id(i), message)
    np.testing.assert_array_equal(server.total(), room.total(range(3)))


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_bytes_from_nowhere_are_refused_by_everybody(data: bytes) -> None:
    room = Sum(artists=3, size=3)
    with pytest.raises(SecAggError):
        room.server.advertise(room.id(0), data)
    with pytest.raises(SecAggError):
        room.clients[0].share(data)
    with pytest.raises(SecAggError):
        Roster.read(HOST.public_key, BINDING, data)


def test_a_member_who_reveals_a_wrong_share_is_named_and_the_sum_comes_out_without_it() -> None:
    room = Sum()
    confirmed = room.confirm(room.masked(room.share(room.advertise())))
    liar, context = room.clients[2], room.server._known().context
    genuine = liar.unmask(confirmed)
    forged = bytearray(genuine[33:-64])
    forged[5] ^= 1
    with pytest.raises(SecAggError, match=f"{room.id(2)[:8]} released shares of .* not dealt to it"):
        room.server.unmask(room.id(2), signed(identity(2), Kind.UNMASK, context, bytes(forged)))
    for i in (0, 1, 3, 4):
        room.server.unmask(room.id(i), room.clients[i].unmask(confirmed))
    np.testing.assert_array_equal(room.server.total(), room.total(ALL))


def test_a_message_for_another_artist_is_not_taken() -> None:
    room = Sum()
    with pytest.raises(SecAggError, match="sent the keys of"):
        room.server.advertise(room.id(1), room.clients[0].advertise())
    roster = room.advertise()
    with pytest.raises(SecAggError, match="signature"):
        room.server.share(room.id(1), room.clients[0].share(roster))


def test_messages_out_of_turn_are_refused_with_the_phase() -> None:
    room = Sum()
    roster = room.advertise()
    with pytest.raises(SecAggError, match="No roster"):
        room.clients[0].receive(b"")
    room.share(roster)
    with pytest.raises(SecAggError, match="advertise came during masked"):
        room.server.advertise(identity(9).id, room.clients[0].advertise())
    with pytest.raises(SecAggError, match="before the others' shares"):
        room.clients[0].mask(room.vectors[0])
    with pytest.raises(SecAggError, match="Asked to unmask before"):
        room.clients[0].unmask(b"")


def test_the_state_that_is_kept_holds_hashes_alone() -> None:
    room = Sum()
    room.run()
    state = room.states[0]
    assert set(state) == {"binding", "roster", "dealers", "words", "survivors", "unmask"}
    keys = room.clients[0]._keys
    context = room.server._known().context
    for secret in (bytes([1]) * 32, keys.mask_secret(), keys.private_seed(context)):
        assert secret.hex()[:16] not in str(state) + repr(room.clients[0]) + repr(room.server)
    assert all(len(value) == 64 for value in state.values())


def test_the_previous_binding_s_secret_is_not_used_for_another_plan() -> None:
    room = Sum()
    room.advertise()
    with pytest.raises(SecAggError, match="second time for the step 'binding'"):
        SecAggClient(identity(0), HOST.public_key, b"z" * 32, bytes([1]) * 32, state=room.states[0])


@given(st.sets(st.integers(0, 40)), st.integers(41, 90))
def test_a_set_of_places_survives_the_wire(places: set[int], size: int) -> None:
    assert members_of(bitmap(places, size), size) == tuple(sorted(places))


def test_a_set_with_places_beyond_the_roster_is_refused() -> None:
    with pytest.raises(SecAggError, match="does not fit a roster of 5"):
        members_of(bytes([0b0010_0000]), 5)
