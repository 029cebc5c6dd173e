"""A host that keeps what it knows to itself, artists that send nonsense, and crashes at the worst moment."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from small_room import HOST, Clock, Room, key_of, new_engine, new_side, plan_for, tensors

from fedart_nb.errors import RoundError, SecAggError
from fedart_nb.federated import ArtistSide, Phase, Simulation, Task, pack, unpack
from fedart_nb.relay import Envelope

Training = tuple[Room, dict[str, Task]]
NAMES = ["Ada", "Ben", "Cy", "Dee", "Eli"]


def test_an_update_that_left_counts_as_known_although_its_artist_was_told_nothing_more(training: Training) -> None:
    """The host opens the sum with the others' shares, tells Ada that the attempt failed, and asks for it again."""
    room, tasks = training
    ada, *others = sorted(tasks)
    room.send(room.artists[ada].submit(tensors(0.5), pictures=5))
    room.silent.add(ada)
    for me in others:
        room.send(room.artists[me].submit(tensors(0.1), pictures=5))
    room.tick(room.engine.plan.patience_s + 1)
    assert room.engine.result is not None, "the sum with Ada's update is known"
    assert ada in room.engine.result.contributors
    room.silent.clear()
    again = new_engine(pack(tensors(1.0), {"fedart": "{}"}), plan=replace(room.engine.plan, attempt=2))
    room.artists[ada].feed(again.open()[0])
    assert room.artists[ada].released(1), "so Ada's next vector must hold another update"


def test_an_update_that_never_left_may_be_sent_in_the_next_attempt(training: Training) -> None:
    room, tasks = training
    side = room.artists[min(tasks)]
    again = new_engine(pack(tensors(1.0), {"fedart": "{}"}), plan=replace(room.engine.plan, attempt=2))
    side.feed(again.open()[0])
    assert not side.released(1)


def test_a_sum_whose_result_was_withheld_is_remembered_for_the_warning(training: Training) -> None:
    room, tasks = training
    side = room.artists[min(tasks)]
    feed = side.feed

    def without_result(envelope: Envelope) -> list[Envelope]:
        return [] if envelope.kind == "result" else feed(envelope)

    side.feed = without_result  # type: ignore[method-assign]
    for me in sorted(tasks):
        room.send(room.artists[me].submit(tensors(0.1), pictures=5))
    again = new_engine(pack(tensors(1.0), {"fedart": "{}"}), plan=replace(room.engine.plan, attempt=2))
    feed(again.open()[0])
    assert side.snapshot()["last_sum"] == sorted(tasks)


def test_a_plan_with_a_sparse_graph_is_refused_in_a_real_room() -> None:
    shared = pack(tensors(1.0))
    plan = plan_for(shared, min_artists=100, degree=20)
    side = new_side("a")
    with pytest.raises(RoundError, match="joins everybody with 20 artists alone, which is for simulations"):
        side.feed(new_engine(shared, plan=plan).open()[0])
    assert not side.needs_answer()


@pytest.mark.parametrize(("artists", "degree"), [(64, 20), (100, 21), (100, 100), (100, 20.0)])
def test_a_plan_has_a_sparse_graph_for_many_artists_only(artists: int, degree: float) -> None:
    with pytest.raises(RoundError, match="degree is"):
        plan_for(b"", min_artists=artists, degree=degree)


def test_a_roster_below_the_plan_s_minimum_is_refused_by_every_artist() -> None:
    shared = pack(tensors(1.0))
    room = Room(Clock(), new_engine(shared, plan=plan_for(shared, min_artists=5)))
    sides = [room.add(letter) for letter in "abcd"]
    room.open()
    for side in sides:
        room.send(side.answer(contribute=True))
    (roster,) = room.engine._start()
    for side in sides:
        with pytest.raises(SecAggError, match="The roster has 4 artists, agreed were at least 5"):
            side.feed(roster)
        assert side.artists == ()


def test_a_relay_that_repeats_an_old_result_does_not_bring_an_old_adapter_back() -> None:
    room = Simulation(NAMES, {"x": np.zeros(8, np.float32)})
    update = {name: {"x": np.full(8, 0.1, np.float32)} for name in NAMES}
    first = room.round(update)
    room.round(update)
    ada = room.sides["Ada"]
    newest = ada.shared
    (old,) = [e for e in first.log if e.kind == "result"]
    ada.feed(old)
    assert ada.shared == newest
    assert ada.rounds_done == 2


def test_a_sum_with_impossible_weights_ends_the_attempt_and_not_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """One dishonest artist takes the others' weights away: what is divided by zero is no adapter."""
    from fedart_nb.federated import round_client as module

    honest = module.encode
    sent: list[str] = []

    def dishonest(*args: Any, out: np.ndarray, **more: Any) -> int:
        clipped = honest(*args, out=out, **more)
        if not sent:
            out[8] = (2**32 - int(out[8]) // 2) % 2**32  # the weight: 1 becomes -2
        sent.append("")
        return clipped

    monkeypatch.setattr(module, "encode", dishonest)
    room = Simulation(NAMES[:3], {"x": np.zeros(8, np.float32)})
    done = room.round({name: {"x": np.full(8, 0.1, np.float32)} for name in NAMES})
    assert done.result is None
    assert "The weights of 3 artists add up to" in done.reason


@pytest.mark.parametrize("pictures", [0, -5, 2.5, True])
def test_an_update_of_no_picture_is_not_masked(training: Training, pictures: object) -> None:
    room, tasks = training
    with pytest.raises(RoundError, match="expected a whole number from 1 on"):
        room.artists[min(tasks)].submit(tensors(0.1), pictures=pictures)  # type: ignore[arg-type]


def test_a_relay_that_repeats_an_old_plan_does_not_end_the_running_attempt(training: Training) -> None:
    room, tasks = training
    shared = pack(tensors(1.0), {"fedart": "{}"})
    side = room.artists[min(tasks)]
    first = room.engine.open()[0]
    second = new_engine(shared, plan=replace(room.engine.plan, attempt=2))
    side.feed(second.open()[0])
    side.answer(contribute=True)
    assert side.feed(first) == []
    assert side.plan == second.plan
    late = new_side("a")
    late.feed(second.open()[0])
    assert late.feed(first) == [], "also where the old one was never heard before"
    assert late.plan == second.plan


def test_a_host_that_asks_for_a_finished_round_again_is_refused_whatever_adapter_it_shows(training: Training) -> None:
    room, tasks = training
    for me in sorted(tasks):
        room.send(room.artists[me].submit(tensors(0.1), pictures=5))
    side = room.artists[min(tasks)]
    other = pack(tensors(0.0))
    for shared in (other, side.shared):
        again = new_engine(shared, plan=plan_for(shared, attempt=2))
        with pytest.raises(RoundError, match="asks for round 1 again, which is over"):
            side.feed(again.open()[0])
    assert not side.needs_answer()


# --- metrics ---


def test_of_training_metrics_the_room_learns_the_mean_and_nobody_a_single_one() -> None:
    wanted = ("loss_after", "loss_before")
    room = Simulation(NAMES, {"x": np.zeros(8, np.float32)}, metrics=wanted)
    losses = {name: {"loss_before": 0.5 + i / 10, "loss_after": 0.4 - i / 100} for i, name in enumerate(NAMES)}
    done = room.round({name: {"x": np.full(8, 0.1, np.float32)} for name in NAMES}, metrics=losses)
    assert done.result is not None
    assert done.result.metrics["loss_before"] == pytest.approx(0.7, abs=1e-6)
    assert done.result.metrics["loss_after"] == pytest.approx(0.38, abs=1e-6)
    assert room.sides["Ada"].metrics == done.result.metrics
    said = [str(e.body) for e in done.log if e.sender != room.host.id]
    assert not [text for text in said if "loss" in text]


def test_a_plan_asks_for_no_metric_by_itself_and_an_artist_who_lacks_one_is_told(training: Training) -> None:
    assert plan_for(b"").metrics == ()
    shared = pack(tensors(1.0))
    room = Room(Clock(), new_engine(shared, plan=plan_for(shared, metrics=("loss_after",))))
    sides = [room.add(letter) for letter in "abc"]
    room.open()
    for side in sides:
        room.send(side.answer(contribute=True))
    with pytest.raises(RoundError, match="The plan asks for 'loss_after'"):
        sides[0].submit(tensors(0.1), pictures=5, metrics={"loss_after": math.nan})
    for side in sides:
        room.send(side.submit(tensors(0.1), pictures=5, metrics={"loss_after": 0.25}))
    assert room.engine.result is not None
    assert room.engine.result.metrics == {"loss_after": pytest.approx(0.25, abs=1e-6)}


@pytest.mark.parametrize("metrics", [("weight",), ("loss_before", "loss_after"), ("loss_after", "loss_after")])
def test_a_plan_with_unknown_or_unordered_metrics_is_refused(metrics: tuple[str, ...]) -> None:
    with pytest.raises(RoundError, match="metric"):
        plan_for(b"", metrics=metrics)


def test_counts_in_a_sum_are_exact_also_beside_many_values() -> None:
    names = [f"A{i}" for i in range(9)]
    room = Simulation(names, {"x": np.zeros(300_000, np.float32)}, clip=0.5)
    done = room.round({name: {"x": np.full(300_000, 0.7, np.float32)} for name in names}, pictures=99_991)
    assert done.result is not None
    assert (done.result.pictures, done.result.clipped) == (9 * 99_991, 9 * 300_000)


# --- time and crashes ---


def test_the_host_knows_when_silence_will_decide_something(training: Training) -> None:
    room, tasks = training
    patience_s = room.engine.plan.patience_s
    assert room.engine.patient_s() == patience_s
    room.clock.now += 7
    *here, gone = sorted(tasks)
    for me in here:
        room.send(room.artists[me].submit(tensors(0.1), pictures=5))
    assert room.engine.patient_s() == patience_s - 7
    room.send(room.artists[gone].progress(1, 2))
    assert room.engine.patient_s() == patience_s
    assert new_engine(pack(tensors(1.0))).patient_s() == math.inf, "nobody is there yet"


def test_a_restarted_host_keeps_the_dealers_that_it_had_announced_although_late_shares_are_in_the_log(
    room: Room,
) -> None:
    """It finds in its inbox what it had said to all, or to itself; not what it had sent to single artists."""
    sides = [room.add(letter) for letter in "abcd"]
    late = sides[3]
    feed = late.feed
    kept: list[Envelope] = []

    def slow(envelope: Envelope) -> list[Envelope]:
        answers = feed(envelope)
        if envelope.kind == "roster":
            kept.extend(answers)
            return []
        return answers

    late.feed = slow  # type: ignore[method-assign]
    room.open()
    for side in sides:
        room.send(side.answer(contribute=True))
    room.tick(room.engine.plan.patience_s + 1)
    assert room.engine.phase is Phase.UPDATE
    first = next(i for i, e in enumerate(room.log) if "dealers" in e.body)
    room.log[first:first] = kept  # it had reached the relay, but not yet the host
    said = [e for e in room.log if e.sender == HOST and e.recipient in ("all", "host")]
    room.engine = new_engine(pack(tensors(1.0), {"fedart": "{}"}), room.clock, said=said)
    for envelope in list(room.log):
        if envelope.sender != HOST:
            room._out(room.engine.feed(envelope))
    for side in sides[:3]:
        room.send(side.submit(tensors(0.25), pictures=5))
    assert room.engine.result is not None, room.engine.reason
    np.testing.assert_allclose(unpack(room.engine.result.shared)["unet.x.lora_A.weight"], 1.25, rtol=1e-6)
    assert late.me not in room.engine.result.contributors


def test_an_artist_whose_room_is_opened_anew_under_the_same_name_takes_part_again() -> None:
    """Plans of two rooms differ by their nonce, else an artist would take the second room for the first one."""
    shared = pack(tensors(1.0))
    one, other = (plan_for(shared, nonce=nonce) for nonce in ("1", "2"))
    assert one.digest != other.digest
    side = ArtistSide(room="room", host=HOST, identity=key_of("a"), name="A", backbone_sha256="b" * 64)
    side.feed(new_engine(shared, plan=one).open()[0])
    side.leave()
    side.feed(new_engine(shared, plan=one).open()[0])
    assert not side.needs_answer()
    side.feed(new_engine(shared, plan=other).open()[0])
    assert side.needs_answer()
