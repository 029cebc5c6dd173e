"""One round between an engine and its artists: who takes part, what is refused, and what comes out."""

from __future__ import annotations

import numpy as np
import pytest
from small_room import BACKBONE, HOST, Clock, Room, artist_id, plan_for, tensors

from fedart_nb.errors import RoundError
from fedart_nb.relay import Envelope
from fedart_nb.rounds import ArtistSide, Phase, RoundEngine, RoundPlan, Task, aggregate, pack, unpack
from fedart_nb.rounds.tensors import metadata_of

Training = tuple[Room, dict[str, Task]]


def last_reason(side: ArtistSide) -> str:
    assert side.refusals
    return side.refusals[-1]


def test_the_new_shared_adapter_is_the_old_plus_the_mean_update(training: Training) -> None:
    room, tasks = training
    for value, (me, task) in enumerate(sorted(tasks.items()), start=1):
        assert set(task.shared) == set(tensors())
        room.send(room.artists[me].submit(tensors(float(value))))
    assert room.engine.result is not None
    new = unpack(room.engine.result.shared)
    np.testing.assert_allclose(new["unet.x.lora_A.weight"], 1.0 + (1 + 2 + 3) / 3)
    assert metadata_of(room.engine.result.shared) == {"fedart": "{}"}
    assert all(side.shared == room.engine.result.shared and side.rounds_done == 1 for side in room.artists.values())


def test_the_sum_does_not_depend_on_who_was_faster() -> None:
    results = []
    for order in ("abc", "cab"):
        shared = pack(tensors(1.0))
        room = Room(Clock(), RoundEngine(plan_for(shared), shared, host=HOST, members={}, clock=Clock()))
        for letter in "abc":
            room.add(letter)
        room.open()
        for side in room.artists.values():
            room.send(side.answer(contribute=True))
        for letter in order:
            side = room.artists[artist_id(letter)]
            room.send(side.submit(tensors(0.1 * ord(letter))))
        assert room.engine.result is not None
        results.append(room.engine.result.shared)
    assert results[0] == results[1]


def test_an_artist_who_skips_is_not_waited_for(room: Room) -> None:
    sides = [room.add(letter) for letter in "abc"]
    room.open()
    for side, contribute in zip(sides, (True, True, False), strict=True):
        room.send(side.answer(contribute=contribute))
    assert room.engine.roster == (artist_id("a"), artist_id("b"))
    assert sides[2].task is None


def test_the_round_waits_for_the_minimum_of_artists(room: Room) -> None:
    side = room.add("a")
    room.open()
    room.send(side.answer(contribute=True))
    room.tick(1000)
    assert room.engine.phase is Phase.ADVERTISE


def test_the_round_starts_without_an_artist_who_never_answers(room: Room) -> None:
    sides = [room.add(letter) for letter in "abc"]
    room.open()
    for side in sides[:2]:
        room.send(side.answer(contribute=True))
    assert room.engine.phase is Phase.ADVERTISE
    room.tick(room.engine.plan.join_s + 1)
    assert room.engine.roster == (artist_id("a"), artist_id("b"))


def test_the_round_goes_on_without_an_artist_who_vanished(training: Training) -> None:
    room, tasks = training
    for me in sorted(tasks)[:2]:
        room.send(room.artists[me].submit(tensors(1.0)))
    room.tick(room.engine.plan.patience_s + 1)
    assert room.engine.result is not None
    assert room.engine.result.dropped == (artist_id("c"),)


def test_a_sign_of_life_keeps_a_slow_artist_in_the_round(training: Training) -> None:
    room, tasks = training
    for me in sorted(tasks)[:2]:
        room.send(room.artists[me].submit(tensors(1.0)))
    room.clock.now += room.engine.plan.patience_s - 1
    room.send(room.artists[artist_id("c")].progress(3, 20))
    room.tick(room.engine.plan.patience_s - 1)
    assert room.engine.phase is Phase.UPDATE
    assert room.engine.members[artist_id("c")].progress == pytest.approx(0.15)


def test_an_artist_who_comes_late_is_told_to_wait_for_the_next_round(training: Training) -> None:
    room, _ = training
    late = room.add("d")
    late.plan = room.engine.plan
    room.send(late.answer(contribute=True))
    assert "already under way" in last_reason(late)
    assert room.engine.phase is Phase.UPDATE


def test_an_update_with_nan_is_refused_and_the_round_goes_on(training: Training) -> None:
    room, tasks = training
    me = min(tasks)
    room.send(room.artists[me].submit(tensors(float("nan"))))
    assert "not finite" in last_reason(room.artists[me])
    assert room.engine.phase is Phase.UPDATE
    assert me in room.engine.waiting_for()


def test_an_update_of_the_wrong_shape_is_refused_with_both_shapes(training: Training) -> None:
    room, tasks = training
    me = min(tasks)
    wrong = {**tensors(), "unet.x.lora_A.weight": np.zeros((4, 3), np.float32)}
    room.send(room.artists[me].submit(wrong))
    assert "(4, 3)" in last_reason(room.artists[me])
    assert "(2, 3)" in last_reason(room.artists[me])


def test_an_update_with_foreign_tensors_is_refused(training: Training) -> None:
    room, tasks = training
    me = min(tasks)
    room.send(room.artists[me].submit({"y": np.zeros(2, np.float32)}))
    assert "first difference" in last_reason(room.artists[me])


def test_the_same_update_sent_twice_counts_once(training: Training) -> None:
    room, tasks = training
    me = min(tasks)
    envelope = room.artists[me].submit(tensors(1.0))
    room.send(envelope)
    room.send(envelope)
    assert not room.artists[me].refusals
    for other in sorted(tasks)[1:]:
        room.send(room.artists[other].submit(tensors(1.0)))
    assert room.engine.result is not None
    np.testing.assert_allclose(unpack(room.engine.result.shared)["unet.x.lora_A.weight"], 2.0)


def test_a_second_different_update_is_refused_and_the_first_counts(training: Training) -> None:
    room, tasks = training
    me = min(tasks)
    first = room.artists[me].submit(tensors(1.0))
    room.send(first)
    second = Envelope(
        room="room",
        round=1,
        kind="update",
        sender=me,
        recipient="host",
        body=first.body,
        attachments={"update": pack(tensors(5.0))},
    )
    room.send(second)
    assert "first one counts" in last_reason(room.artists[me])


def test_ten_announced_gigabytes_are_refused_without_being_fetched(training: Training) -> None:
    room, tasks = training
    me = min(tasks)
    from fedart_nb.relay.wire import AttachmentRef

    body = {"plan_digest": room.engine.plan.digest}
    ref = AttachmentRef("update", "0" * 64, 10 * 2**30)
    huge = Envelope(room="room", round=1, kind="update", sender=me, recipient="host", body=body, attachment_refs=(ref,))
    room.send(huge)
    assert "10,737,418,240" in last_reason(room.artists[me])


def test_an_update_for_another_plan_is_refused(training: Training) -> None:
    room, tasks = training
    me = min(tasks)
    envelope = room.artists[me].submit(tensors(1.0))
    body = {"plan_digest": "0" * 64}
    stale = Envelope(
        room="room", round=1, kind="update", sender=me, recipient="host", body=body, attachments=envelope.attachments
    )
    room.send(stale)
    assert "another plan" in last_reason(room.artists[me])


def test_a_plan_for_another_backbone_is_refused_by_the_artist(room: Room) -> None:
    side = ArtistSide(room="room", host=HOST, me=artist_id("a"), name="A", backbone_sha256="c" * 64)
    with pytest.raises(RoundError, match="this kernel holds"):
        side.feed(room.engine.open()[0])
    assert side.plan is None
    assert not side.needs_answer()


def test_a_host_that_swaps_the_shared_adapter_between_rounds_is_refused(training: Training) -> None:
    room, tasks = training
    for me in sorted(tasks):
        room.send(room.artists[me].submit(tensors(1.0)))
    forked = pack(tensors(0.0))
    engine = RoundEngine(plan_for(forked, number=2), forked, host=HOST, members={}, clock=Clock())
    with pytest.raises(RoundError, match="single you out"):
        room.artists[artist_id("a")].feed(engine.open()[0])


def test_messages_that_do_not_come_from_the_host_are_ignored(training: Training) -> None:
    room, _ = training
    side = room.artists[artist_id("a")]
    forged = Envelope(room="room", round=1, kind="close", sender=artist_id("b"), recipient="all")
    side.feed(forged)
    assert not side.closed


def test_an_artist_restarted_before_sending_trains_again_and_one_restarted_after_does_not(training: Training) -> None:
    room, tasks = training
    before, after = sorted(tasks)[:2]
    room.send(room.artists[after].submit(tensors(1.0)))
    for me, expects_task in ((before, True), (after, False)):
        fresh = ArtistSide(room="room", host=HOST, me=me, name="again", backbone_sha256=BACKBONE)
        fresh.restore(room.artists[me].snapshot())
        for envelope in room.log:
            if envelope.sender == HOST and envelope.recipient in ("all", me):
                fresh.feed(envelope)
        assert (fresh.task is not None) is expects_task
        assert not fresh.needs_answer()


def test_a_restarted_host_reads_the_log_and_comes_to_the_same_result(training: Training) -> None:
    room, tasks = training
    for value, me in enumerate(sorted(tasks)):
        room.send(room.artists[me].submit(tensors(float(value))))
    assert room.engine.result is not None
    shared = pack(tensors(1.0), {"fedart": "{}"})
    again = RoundEngine(room.engine.plan, shared, host=HOST, members={}, clock=Clock())
    for envelope in room.log:
        if envelope.sender == HOST:
            again.recall(envelope)
        elif again.phase is not Phase.DONE:
            again.feed(envelope)
    assert again.result is not None
    assert again.result.shared == room.engine.result.shared


def test_a_restarted_host_keeps_the_roster_that_it_had_announced(room: Room) -> None:
    sides = [room.add(letter) for letter in "abc"]
    room.open()
    for side in sides[:2]:
        room.send(side.answer(contribute=True))
    room.tick(room.engine.plan.join_s + 1)
    room.send(sides[2].answer(contribute=True))
    shared = pack(tensors(1.0), {"fedart": "{}"})
    again = RoundEngine(room.engine.plan, shared, host=HOST, members={}, clock=Clock())
    for envelope in room.log:
        if envelope.sender == HOST:
            again.recall(envelope)
        else:
            again.feed(envelope)
    assert again.roster == (artist_id("a"), artist_id("b"))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"local_steps": 0}, "local_steps is 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"min_artists": "three"}, "min_artists is 'three'"),
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
