"""One round between an engine and its artists: who takes part, what is refused, and what comes out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_room import HOST, Clock, Room, artist_id, new_engine, new_side, plan_for, tensors

from fedart_nb.errors import RoundError, SecAggError
from fedart_nb.federated import (
    ArtistSide,
    MemoryKeeper,
    Phase,
    RoundEngine,
    RoundPlan,
    Task,
    aggregate,
    pack,
    unpack,
)
from fedart_nb.federated.tensors import metadata_of
from fedart_nb.relay import Envelope


def ids(letters: str) -> tuple[str, ...]:
    return tuple(sorted(artist_id(letter) for letter in letters))


Training = tuple[Room, dict[str, Task]]


def last_reason(side: ArtistSide) -> str:
    assert side.refusals
    return side.refusals[-1]


def test_the_new_shared_adapter_is_the_old_plus_the_mean_update(training: Training) -> None:
    room, tasks = training
    for value, (me, task) in enumerate(sorted(tasks.items()), start=1):
        assert set(task.shared) == set(tensors())
        room.send(room.artists[me].submit(tensors(value / 10), pictures=5))
    assert room.engine.result is not None
    new = unpack(room.engine.result.shared)
    np.testing.assert_allclose(new["unet.x.lora_A.weight"], 1.0 + (0.1 + 0.2 + 0.3 + 0.4) / 4, rtol=1e-6)
    assert room.engine.result.pictures == 20
    assert metadata_of(room.engine.result.shared) == {"fedart": "{}"}
    assert all(side.shared == room.engine.result.shared and side.rounds_done == 1 for side in room.artists.values())


def test_the_sum_does_not_depend_on_who_was_faster() -> None:
    results = []
    for order in ("abc", "cab"):
        shared = pack(tensors(1.0))
        room = Room(Clock(), new_engine(shared))
        for letter in "abc":
            room.add(letter)
        room.open()
        for side in room.artists.values():
            room.send(side.answer(contribute=True))
        for letter in order:
            side = room.artists[artist_id(letter)]
            room.send(side.submit(tensors(0.001 * ord(letter)), pictures=5))
        assert room.engine.result is not None
        results.append(room.engine.result.shared)
    assert results[0] == results[1]


def test_an_artist_who_skips_is_not_waited_for(room: Room) -> None:
    sides = [room.add(letter) for letter in "abcd"]
    room.open()
    for side, contribute in zip(sides, (True, True, False, True), strict=True):
        room.send(side.answer(contribute=contribute))
    assert room.engine.roster == ids("abd")
    assert sides[2].task is None
    assert sides[0].task is not None


def test_the_round_waits_for_the_minimum_of_artists(room: Room) -> None:
    sides = [room.add(letter) for letter in "ab"]
    room.open()
    for side in sides:
        room.send(side.answer(contribute=True))
    room.tick(1000)
    assert room.engine.phase is Phase.ADVERTISE


def test_the_round_starts_without_an_artist_who_never_answers(room: Room) -> None:
    sides = [room.add(letter) for letter in "abcd"]
    room.open()
    for side in sides[:3]:
        room.send(side.answer(contribute=True))
    assert room.engine.phase is Phase.ADVERTISE
    room.tick(room.engine.plan.join_s + 1)
    assert room.engine.roster == ids("abc")


def test_the_round_goes_on_without_an_artist_who_vanished(training: Training) -> None:
    room, tasks = training
    *here, gone = sorted(tasks)
    for me in here:
        room.send(room.artists[me].submit(tensors(0.5), pictures=5))
    room.tick(room.engine.plan.patience_s + 1)
    assert room.engine.result is not None
    assert room.engine.result.dropped == (gone,)
    np.testing.assert_allclose(unpack(room.engine.result.shared)["unet.x.lora_A.weight"], 1.5, rtol=1e-6)


def test_what_artists_hear_of_a_failed_attempt_promises_nothing_about_sums_to_come(training: Training) -> None:
    room, tasks = training
    for me in sorted(tasks)[:2]:
        room.send(room.artists[me].submit(tensors(0.5), pictures=5))
    room.tick(room.engine.plan.patience_s + 1)
    assert "the protocol has opened no update" in room.engine.reason
    assert "in further attempts tell more" in room.engine.reason
    assert "nobody's update" not in room.engine.reason


def test_with_too_few_left_the_attempt_ends_and_the_next_one_works(training: Training) -> None:
    room, tasks = training
    sent = sorted(tasks)[:2]
    for me in sent:
        room.send(room.artists[me].submit(tensors(0.5), pictures=5))
    room.tick(room.engine.plan.patience_s + 1)
    assert room.engine.phase is Phase.ABORTED
    assert "2 of 4 artists are left" in room.engine.reason
    plan = replace(room.engine.plan, attempt=2)
    room.engine = new_engine(pack(tensors(1.0), {"fedart": "{}"}), room.clock, plan=plan, because=room.engine.reason)
    for side in room.artists.values():
        room.send(side.hello())
    room.open()
    for side in room.artists.values():
        assert side.warnings[-1].startswith("Round 1 starts again: 2 of 4")
        room.send(side.answer(contribute=True))
    for side in room.artists.values():
        assert side.released(1) is (side.me in sent), "who had sent a vector trains again"
        room.send(side.submit(tensors(0.5), pictures=5))
    assert room.engine.result is not None
    assert len(room.engine.result.contributors) == 4


@pytest.mark.parametrize("kind", ["roster", "consistency", "unmask"])
def test_an_artist_who_vanishes_in_any_phase_does_not_hold_up_the_round(room: Room, kind: str) -> None:
    """One of four may vanish when the roster, the survivors or the signatures go out."""
    sides = [room.add(letter) for letter in "abcd"]
    gone = sides[3]
    feed = gone.feed

    def vanish(envelope: Envelope) -> list[Envelope]:
        if envelope.kind == kind:
            room.silent.add(gone.me)
            return []
        return feed(envelope)

    gone.feed = vanish  # type: ignore[method-assign]
    room.open()
    for side in sides:
        room.send(side.answer(contribute=True))
    if kind == "roster":
        room.tick(room.engine.plan.patience_s + 1)
    for side in sides:
        if side.task is not None:
            room.send(side.submit(tensors(0.25), pictures=5))
    room.tick(room.engine.plan.patience_s + 1)
    assert room.engine.result is not None
    np.testing.assert_allclose(unpack(room.engine.result.shared)["unet.x.lora_A.weight"], 1.25, rtol=1e-6)
    assert (gone.me in room.engine.result.contributors) is (kind != "roster")


def test_no_message_of_a_round_but_the_plan_s_adapter_and_the_result_shows_a_value(training: Training) -> None:
    room, tasks = training
    update = tensors(0.3)
    for me in sorted(tasks):
        room.send(room.artists[me].submit(update, pictures=5))
    clear = pack(update)[-64:]
    sent = [e for e in room.log if e.kind == "update"]
    assert len(sent) == 4
    words = [np.frombuffer(e.attachments["update"][33:-64], "<u4") for e in sent]
    assert all(clear not in e.attachments["update"] for e in sent)
    assert len({w.tobytes() for w in words}) == 4, "four equal updates look different"


def test_weights_travel_in_the_sum_so_that_many_pictures_can_count_more() -> None:
    shared = pack(tensors(1.0))
    room = Room(Clock(), new_engine(shared, plan=plan_for(shared, weighting="pictures")))
    sides = [room.add(letter) for letter in "abc"]
    room.open()
    for side in sides:
        room.send(side.answer(contribute=True))
    for side, value, pictures in zip(sides, (0.1, 0.2, 0.4), (10, 20, 50), strict=True):
        room.send(side.submit(tensors(value), pictures=pictures))
    assert room.engine.result is not None
    expected = 1.0 + (0.1 * 10 + 0.2 * 20 + 0.4 * 50) / 80
    np.testing.assert_allclose(unpack(room.engine.result.shared)["unet.x.lora_A.weight"], expected, rtol=1e-5)
    assert room.engine.result.pictures == 80


def test_values_beyond_the_plan_s_clip_are_cut_and_the_artist_is_told(training: Training) -> None:
    room, tasks = training
    for me in sorted(tasks):
        room.send(room.artists[me].submit(tensors(3.0), pictures=5))
        assert "6 of the update's values were larger than the plan's clip (1)" in room.artists[me].warnings[-1]
    assert room.engine.result is not None
    np.testing.assert_allclose(unpack(room.engine.result.shared)["unet.x.lora_A.weight"], 2.0, rtol=1e-6)
    assert room.engine.result.clipped == 24


def test_a_sign_of_life_keeps_a_slow_artist_in_the_round(training: Training) -> None:
    room, tasks = training
    *quick, slow = sorted(tasks)
    for me in quick:
        room.send(room.artists[me].submit(tensors(1.0), pictures=5))
    room.clock.now += room.engine.plan.patience_s - 1
    room.send(room.artists[slow].progress(3, 20))
    room.tick(room.engine.plan.patience_s - 1)
    assert room.engine.phase is Phase.UPDATE
    assert room.engine.members[slow].progress == pytest.approx(0.15)


def test_an_artist_who_comes_late_is_told_to_wait_for_the_next_round(training: Training) -> None:
    room, _ = training
    late = room.add("e")
    for envelope in room.engine.open():
        late.feed(envelope)
    room.send(late.answer(contribute=True))
    assert "already under way" in last_reason(late)
    assert room.engine.phase is Phase.UPDATE


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (tensors(float("nan")), "not finite"),
        ({**tensors(), "unet.x.lora_A.weight": np.zeros((4, 3), np.float32)}, r"\(4, 3\), expected \(2, 3\)"),
        ({"y": np.zeros(2, np.float32)}, "first difference"),
    ],
    ids=["not finite", "of the wrong shape", "with foreign tensors"],
)
def test_an_update_that_does_not_fit_is_refused_before_it_is_masked(
    training: Training, wrong: dict[str, np.ndarray], sentence: str
) -> None:
    """Nobody can look into a masked vector, so the artist's own side looks."""
    room, tasks = training
    side = room.artists[min(tasks)]
    with pytest.raises(RoundError, match=sentence):
        side.submit(wrong, pictures=5)
    room.send(side.submit(tensors(0.1), pictures=5))
    assert side.me not in room.engine.waiting_for()


def test_the_same_update_sent_twice_counts_once(training: Training) -> None:
    room, tasks = training
    me = min(tasks)
    envelope = room.artists[me].submit(tensors(1.0), pictures=5)
    room.send(envelope)
    room.send(envelope)
    assert not room.artists[me].refusals
    for other in sorted(tasks)[1:]:
        room.send(room.artists[other].submit(tensors(1.0), pictures=5))
    assert room.engine.result is not None
    np.testing.assert_allclose(unpack(room.engine.result.shared)["unet.x.lora_A.weight"], 2.0, rtol=1e-6)


def test_a_second_different_update_is_never_masked(training: Training) -> None:
    room, tasks = training
    side = room.artists[min(tasks)]
    task = side.task
    room.send(side.submit(tensors(1.0), pictures=5))
    side.task = task
    with pytest.raises(SecAggError, match="what the masks hide"):
        side.submit(tensors(0.5), pictures=5)


def test_ten_announced_gigabytes_are_refused_without_being_fetched(training: Training) -> None:
    room, tasks = training
    me = min(tasks)
    from fedart_nb.relay.wire import AttachmentRef

    body = {"plan_digest": room.engine.plan.digest}
    ref = AttachmentRef("update", "0" * 64, 10 * 2**30)
    huge = Envelope(room="room", round=1, kind="update", sender=me, recipient="host", body=body, attachment_refs=(ref,))
    room.send(huge)
    assert "10,737,418,240" in last_reason(room.artists[me])


def update_of(room: Room, me: str) -> Envelope:
    """An update of the right size; whose contents are what it says is another matter."""
    body, junk = {"plan_digest": room.engine.plan.digest}, bytes(room.engine.limit_bytes)
    fields = {"room": "room", "round": 1, "kind": "update", "sender": me, "recipient": "host"}
    return Envelope(**fields, body=body, attachments={"update": junk})  # type: ignore[arg-type]


def test_an_update_is_not_fetched_before_shares_were_handed_out(room: Room) -> None:
    sides = [room.add(letter) for letter in "abcd"]
    room.open()
    room.silent.add(sides[3].me)
    for side in sides:
        room.send(side.answer(contribute=True))
    early = update_of(room, sides[0].me)
    assert room.engine.phase is Phase.SHARE
    assert sides[0].me in room.engine.roster
    assert not room.engine.wants(early)
    room.tick(room.engine.plan.patience_s + 1)
    assert room.engine.phase is Phase.UPDATE
    assert room.engine.wants(early), "the same message, at its time"


def test_an_update_is_not_fetched_when_it_is_fixed_whose_vectors_count(training: Training) -> None:
    room, tasks = training
    *here, slow = sorted(tasks)
    late = update_of(room, slow)
    assert room.engine.wants(late)
    room.silent.update(here)
    for me in here:
        room.send(room.artists[me].submit(tensors(0.5), pictures=5))
    room.tick(room.engine.plan.patience_s + 1)
    assert room.engine.phase is Phase.CONSISTENCY
    assert slow in room.engine.roster
    assert not room.engine.wants(late)


def test_an_update_for_another_plan_is_refused(training: Training) -> None:
    room, tasks = training
    me = min(tasks)
    envelope = room.artists[me].submit(tensors(1.0), pictures=5)
    body = {"plan_digest": "0" * 64}
    stale = Envelope(
        room="room", round=1, kind="update", sender=me, recipient="host", body=body, attachments=envelope.attachments
    )
    room.send(stale)
    assert "another plan" in last_reason(room.artists[me])


def test_a_plan_for_another_backbone_is_refused_by_the_artist(room: Room) -> None:
    side = new_side("a", backbone_sha256="c" * 64)
    with pytest.raises(RoundError, match="this kernel holds"):
        side.feed(room.engine.open()[0])
    assert side.plan is None
    assert not side.needs_answer()


def test_a_host_that_swaps_the_shared_adapter_between_rounds_is_refused(training: Training) -> None:
    room, tasks = training
    for me in sorted(tasks):
        room.send(room.artists[me].submit(tensors(1.0), pictures=5))
    forked = pack(tensors(0.0))
    engine = new_engine(forked, plan=plan_for(forked, number=2))
    with pytest.raises(RoundError, match="single you out"):
        room.artists[artist_id("a")].feed(engine.open()[0])


def test_messages_that_do_not_come_from_the_host_are_ignored(training: Training) -> None:
    room, _ = training
    side = room.artists[artist_id("a")]
    forged = Envelope(room="room", round=1, kind="close", sender=artist_id("b"), recipient="all")
    side.feed(forged)
    assert not side.closed


@pytest.mark.parametrize("sent", [False, True], ids=["before", "after"])
def test_an_artist_restarted_before_or_after_sending_finishes_the_round(sent: bool) -> None:
    shared = pack(tensors(1.0))
    room = Room(Clock(), new_engine(shared))
    keeper = MemoryKeeper()
    sides = [room.add("a", keeper=keeper), *(room.add(letter) for letter in "bc")]
    room.open()
    for side in sides:
        room.send(side.answer(contribute=True))
    if sent:
        room.send(sides[0].submit(tensors(0.1), pictures=5))
    fresh = new_side("a", keeper=keeper)
    fresh.restore(sides[0].snapshot())
    room.artists[fresh.me] = fresh
    said = [e for e in room.log if e.sender == fresh.me]
    for envelope in list(room.log):
        if envelope.sender == HOST and envelope.recipient in ("all", fresh.me):
            assert all(answer in said for answer in fresh.feed(envelope)), "the same is said again"
    assert not fresh.needs_answer()
    assert (fresh.task is None) is sent
    for side in (fresh, *sides[1:]):
        if side.task is not None:
            room.send(side.submit(tensors(0.1), pictures=5))
    assert room.engine.result is not None
    assert len(room.engine.result.contributors) == 3


def test_secrets_are_forgotten_when_the_round_is_over_and_the_round_is_not_answered_again(training: Training) -> None:
    room, tasks = training
    for me in sorted(tasks):
        room.send(room.artists[me].submit(tensors(0.1), pictures=5))
    side = room.artists[min(tasks)]
    fresh = new_side("a")
    fresh.restore(side.snapshot())
    for envelope in list(room.log):
        if envelope.sender == HOST and envelope.recipient in ("all", side.me):
            assert fresh.feed(envelope) == []
    assert not fresh.needs_answer()
    assert fresh.rounds_done == 1


def again(room: Room) -> RoundEngine:
    """The host, restarted: it reads what it had said, then what the others had said, with a clock of its own."""
    shared = pack(tensors(1.0), {"fedart": "{}"})
    said = [e for e in room.log if e.sender == HOST]
    engine = new_engine(shared, Clock(), said=said)
    for envelope in list(room.log):
        if envelope.sender != HOST and engine.phase is not Phase.DONE:
            engine.feed(envelope)
    return engine


def test_a_restarted_host_reads_the_log_and_comes_to_the_same_result(training: Training) -> None:
    room, tasks = training
    for value, me in enumerate(sorted(tasks)):
        room.send(room.artists[me].submit(tensors(value / 10), pictures=5))
    assert room.engine.result is not None
    result = again(room).result
    assert result is not None
    assert result.shared == room.engine.result.shared


def test_a_restarted_host_keeps_the_roster_that_it_had_announced(room: Room) -> None:
    sides = [room.add(letter) for letter in "abcd"]
    room.open()
    for side in sides[:3]:
        room.send(side.answer(contribute=True))
    room.tick(room.engine.plan.join_s + 1)
    room.send(sides[3].answer(contribute=True))
    assert again(room).roster == ids("abc")


def test_a_restarted_host_keeps_the_survivors_that_it_had_announced_although_a_late_vector_is_in_the_log(
    training: Training,
) -> None:
    room, tasks = training
    *here, late = sorted(tasks)
    envelope = room.artists[late].submit(tensors(0.9), pictures=5)
    room.silent.add(late)
    for me in here:
        room.send(room.artists[me].submit(tensors(0.1), pictures=5))
    room.tick(room.engine.plan.patience_s + 1)
    assert room.engine.result is not None
    first = next(i for i, e in enumerate(room.log) if e.kind == "consistency" and e.sender == HOST)
    room.log.insert(first, envelope)  # it had reached the relay, but not yet the host
    result = again(room).result
    assert result is not None
    assert result.shared == room.engine.result.shared


def test_a_result_of_another_sum_than_the_one_that_was_signed_is_refused(training: Training) -> None:
    room, tasks = training
    liar = room.artists[min(tasks)]
    seen: list[Envelope] = []
    feed = liar.feed

    def listen(envelope: Envelope) -> list[Envelope]:
        if envelope.kind == "result":
            seen.append(envelope)
            return []
        return feed(envelope)

    liar.feed = listen  # type: ignore[method-assign]
    for me in sorted(tasks):
        room.send(room.artists[me].submit(tensors(0.1), pictures=5))
    forged = replace(seen[0], body={**seen[0].body, "transcript": "0" * 64})
    with pytest.raises(RoundError, match="another sum than the one that you signed"):
        feed(forged)
    assert liar.rounds_done == 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"local_steps": 0}, "local_steps is 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"min_artists": "three"}, "min_artists is 'three'"),
        ({"min_artists": 2}, "min_artists is 2; expected a number from 3"),
        ({"protocol": "clear"}, "speaks 'secagg' alone"),
        ({"weighting": "fame"}, "known are equal, pictures"),
        ({"host_key": "abc"}, "expected 64 hex digits"),
    ],
)
def test_a_plan_with_impossible_numbers_is_refused_with_the_number(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(RoundError, match=sentence):
        plan_for(b"", **change)


def test_a_plan_survives_the_wire_and_keeps_its_digest() -> None:
    plan = plan_for(b"x")
    assert RoundPlan.from_body(plan.to_body()).digest == plan.digest


def test_a_plan_with_an_unknown_entry_is_refused() -> None:
    with pytest.raises(RoundError, match="surprise"):
        RoundPlan.from_body({**plan_for(b"x").to_body(), "surprise": 1})


def test_an_unknown_rule_is_refused_with_those_known() -> None:
    with pytest.raises(RoundError, match="fedavg"):
        aggregate("median", tensors(), tensors(), 1)


def test_an_attachment_that_is_nested_without_end_is_refused_with_a_sentence() -> None:
    header = b"[" * 100_000
    with pytest.raises(RoundError, match="no safetensors"):
        metadata_of(len(header).to_bytes(8, "little") + header)
