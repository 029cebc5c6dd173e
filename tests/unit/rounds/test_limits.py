"""One sum a round: what a host gains from more of them, and that an artist's kernel gives it none unasked."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from small_room import HOST, Clock, Room, key_of, new_engine, new_side, plan_for, tensors

from fedart_nb.errors import RoundError
from fedart_nb.federated import ArtistSide, RoundPlan, Task, pack, unpack
from fedart_nb.federated.client_memory import Masked
from fedart_nb.federated.disclosures import limits_of
from fedart_nb.federated.withdrawal import withdrawal
from fedart_nb.relay import Envelope
from fedart_nb.secagg import Identity

Training = tuple[Room, dict[str, Task]]
SHARED = pack(tensors(1.0), {"fedart": "{}"})
SIZE = 400


def finish(room: Room) -> None:
    """Everybody who has a task sends an update."""
    for side in list(room.artists.values()):
        if side.task is not None:
            room.send(side.submit({k: np.full_like(v, 0.1) for k, v in side.task.shared.items()}, pictures=5))


def plan_message(plan: RoundPlan, shared: bytes, **body: Any) -> Envelope:
    told = {"plan": plan.to_body(), "plan_digest": plan.digest, **body}
    return Envelope(
        room="room",
        round=plan.number,
        kind="plan",
        sender=HOST,
        recipient="all",
        body=told,
        attachments={"shared": shared},
    )


def after_restart(side: ArtistSide, letter: str = "a") -> ArtistSide:
    """A new kernel on the same folder: a relay that withholds what was said before tells it nothing."""
    fresh = new_side(letter)
    fresh.restore(json.loads(json.dumps(side.snapshot())))
    return fresh


def begun(plan: RoundPlan, shared: bytes, sides: list[ArtistSide]) -> Room:
    """One attempt with these artists, until everybody who said yes has a task."""
    room = Room(Clock(), new_engine(shared, plan=plan))
    for side in sides:
        room.artists[side.me] = side
        room.send(side.hello())
    room.open()
    return room


# --- several attempts at one round ---


def attack(victim_says: Any, **changes: Any) -> tuple[float, float, int]:
    """Open eight sums of round 1, each other one without Ada; what their difference tells of her update.

    Returns the cosine of the difference with Ada's mean update, that of one plain sum with it, and how many sums of the
    eight hold her.
    """
    rng = np.random.default_rng(0)
    start = {"x": np.zeros(SIZE, np.float32)}
    shared = pack(start)
    hers, theirs = rng.normal(0, 0.01, SIZE), rng.normal(0, 0.01, SIZE)
    ada, *others = [new_side(letter) for letter in "abcde"]
    sums: dict[bool, list[np.ndarray]] = {True: [], False: []}
    plan = plan_for(shared, **changes)
    for attempt in range(1, 9):
        plan = replace(plan, attempt=attempt)
        present = attempt % 2 == 1
        room = begun(plan, shared, [*([ada] if present else []), *others])
        for side in others:  # they play with the host: their kernels refuse nothing
            side.history.masked.clear()
            room.send(side.answer(contribute=True))
        if present:
            room.send(ada.answer(contribute=victim_says(ada)))
            if not ada.artists or ada.plan is None or ada.task is None:
                room.tick(plan.join_s + 1)
        for side in (ada, *others):
            if side.task is not None and side.task.plan == plan:
                towards = hers if side is ada else theirs
                update = {"x": (towards + rng.normal(0, 0.01, SIZE)).astype(np.float32)}
                room.send(side.submit(update, pictures=5))
        if room.engine.result is not None:
            mean = unpack(room.engine.result.shared)["x"]
            holds = ada.me in room.engine.result.contributors
            sums[holds].append(len(room.engine.result.contributors) * mean)
            for side in (ada, *others):  # the host tells nobody, and calls it a failure
                side.history.rounds_done, side.history.pin = 0, ""
                side.history.results.clear()
    if not sums[True] or not sums[False]:
        return 0.0, cosine(sums[True][0], hers) if sums[True] else 0.0, len(sums[True])
    difference = np.mean(sums[True], axis=0) - np.mean(sums[False], axis=0)
    return cosine(difference, hers), cosine(sums[True][0], hers), len(sums[True])


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_eight_sums_with_and_without_an_artist_tell_more_of_her_than_one_and_her_kernel_gives_one() -> None:
    difference, plain, holding = attack(lambda side: not side.objection(), max_attempts=8)
    assert holding == 4
    assert difference > plain + 0.1, "the attack: a host that may open all of them reads her in their difference"
    _, _, unasked = attack(lambda side: side.further() is None, max_attempts=8)
    assert unasked == 1, "nobody answers the question: nothing of her is masked a second time"


def test_an_artist_who_says_yes_each_time_gives_no_more_than_the_plan_says() -> None:
    _, _, holding = attack(lambda side: not side.objection(), max_attempts=2)
    assert holding == 2


def test_after_a_masked_update_has_left_a_further_attempt_is_a_question_with_its_cap(training: Training) -> None:
    room, tasks = training
    side = room.artists[key_of("a").id]
    assert side.further() is None
    room.silent = set(tasks)
    room.send(side.submit({k: np.zeros_like(v) for k, v in tasks[side.me].shared.items()}, pictures=5))
    room.silent.clear()
    side.feed(plan_message(replace(room.engine.plan, attempt=2), SHARED))
    question = side.further()
    assert question is not None
    assert (question.kind, question.number) == ("attempt", 1)
    assert "has left once already" in str(question)
    assert "At most 3 of yours leave" in str(question)
    assert after_restart(side).plan is None
    again = after_restart(side)
    again.feed(plan_message(replace(room.engine.plan, attempt=3), SHARED))
    assert again.further() is not None, "a restart forgets nothing of it"


def test_at_the_cap_the_side_itself_refuses_whatever_was_answered(training: Training) -> None:
    room, _ = training
    plan = replace(room.engine.plan, max_attempts=1)
    side = new_side("a")
    room = begun(plan, SHARED, [side, *(new_side(letter) for letter in "bcd")])
    for one in list(room.artists.values()):
        room.send(one.answer(contribute=True))
    finish(room)
    side.history.rounds_done, side.history.pin = 0, ""
    side.feed(plan_message(replace(plan, attempt=2), SHARED))
    with pytest.raises(RoundError, match="has left 1 times, the most that the plan allows"):
        side.answer(contribute=True)


def test_an_update_that_never_left_needs_no_question(training: Training) -> None:
    room, _ = training
    side = room.artists[key_of("a").id]
    side.feed(plan_message(replace(room.engine.plan, attempt=2), SHARED))
    assert side.needs_answer()
    assert side.further() is None


# --- withdrawals ---


def test_the_word_of_somebody_who_was_in_no_roster_takes_no_room_back(training: Training) -> None:
    room, _ = training
    finish(room)
    side, plan = room.artists[key_of("a").id], room.engine.plan
    back = replace(plan, rewound=1)
    forged = withdrawal("room", HOST, Identity.generate())
    with pytest.raises(RoundError, match="never saw that artist in a roster"):
        side.feed(plan_message(back, SHARED, withdrawn=[forged]))
    with pytest.raises(RoundError, match="never saw that artist in a roster"):
        after_restart(side).feed(plan_message(back, SHARED, withdrawn=[forged]))
    assert (side.rewound, side.rounds_done) == (0, 1)


def test_one_who_took_part_once_can_be_withdrawn_once(training: Training) -> None:
    room, _ = training
    finish(room)
    side, plan = room.artists[key_of("a").id], room.engine.plan
    words = [withdrawal("room", HOST, key_of("d")) for _ in range(2)]
    side.feed(plan_message(replace(plan, rewound=1), SHARED, withdrawn=words[:1]))
    assert side.rewound == 1
    question = side.further()
    assert question is not None
    assert question.kind == "rollback"
    with pytest.raises(RoundError, match="took part 1 times"):
        side.feed(plan_message(replace(plan, rewound=2), SHARED, withdrawn=words))


def test_a_kernel_that_never_sent_anything_follows_a_room_that_went_back_before_it_came(training: Training) -> None:
    room, _ = training
    finish(room)
    late = new_side("f")
    word = withdrawal("room", HOST, key_of("d"))
    late.feed(plan_message(replace(room.engine.plan, rewound=1), SHARED, withdrawn=[word]))
    assert late.needs_answer()


def test_a_plan_that_goes_back_more_often_than_it_says_is_none() -> None:
    with pytest.raises(RoundError, match="max_rollbacks allows 3"):
        plan_for(SHARED, rewound=4)


# --- what survives a restart ---


def test_a_restarted_kernel_that_is_told_nothing_does_not_train_a_finished_round_again(training: Training) -> None:
    room, _ = training
    finish(room)
    fresh = after_restart(room.artists[key_of("a").id])
    assert fresh.rounds_done == 1
    with pytest.raises(RoundError, match="asks for round 1 again, which is over"):
        fresh.feed(plan_message(replace(room.engine.plan, attempt=2), SHARED))
    assert not fresh.needs_answer()


def test_a_restarted_kernel_keeps_to_the_adapter_of_the_last_result(training: Training) -> None:
    room, _ = training
    finish(room)
    assert room.engine.result is not None
    fresh = after_restart(room.artists[key_of("a").id])
    other = pack({name: value + 1 for name, value in unpack(SHARED).items()})
    with pytest.raises(RoundError, match="another shared adapter than the last result's"):
        fresh.feed(plan_message(plan_for(other, number=2), other))
    honest = room.engine.result.shared
    fresh.feed(plan_message(plan_for(honest, number=2), honest))
    assert fresh.needs_answer()


def test_the_first_round_s_adapter_is_pinned_over_its_attempts(training: Training) -> None:
    room, _ = training
    side = room.artists[key_of("a").id]
    other = pack({name: value + 1 for name, value in unpack(SHARED).items()})
    with pytest.raises(RoundError, match="another shared adapter"):
        side.feed(plan_message(plan_for(other, attempt=2), other))


# --- which plans and results are heard ---


def test_a_round_beyond_the_total_is_refused() -> None:
    side = new_side("a")
    with pytest.raises(RoundError, match="round 3 of 2"):
        side.feed(plan_message(plan_for(SHARED, number=3), SHARED))
    assert not side.needs_answer()


def result_of(digest: str | None, shared: bytes, number: int = 1) -> Envelope:
    body = {} if digest is None else {"plan_digest": digest}
    return Envelope(
        room="room",
        round=number,
        kind="result",
        sender=HOST,
        recipient="all",
        body=body,
        attachments={"shared": shared},
    )


def test_a_second_result_moves_no_pin(training: Training) -> None:
    room, _ = training
    finish(room)
    side = room.artists[key_of("a").id]
    pin, other = side.history.pin, pack({name: value + 1 for name, value in unpack(SHARED).items()})
    with pytest.raises(RoundError, match="names no plan"):
        side.feed(result_of(None, other))
    side.feed(result_of(room.engine.plan.digest, other))
    side.feed(result_of("0" * 64, other))
    assert side.history.pin == pin
    assert side.shared != other


def test_a_result_of_another_attempt_than_the_running_one_is_not_taken(training: Training) -> None:
    room, _ = training
    side = room.artists[key_of("a").id]
    first = room.engine.plan
    side.feed(plan_message(replace(first, attempt=2), SHARED))
    other = pack({name: value + 1 for name, value in unpack(SHARED).items()})
    side.feed(result_of(first.digest, other))
    assert side.rounds_done == 0
    with pytest.raises(RoundError, match="round 2's; its plan is round 1's"):
        side.feed(result_of(replace(first, attempt=2).digest, other, number=2))


def test_a_plan_s_caps_are_small_numbers_and_are_told() -> None:
    for name in ("max_attempts", "max_rollbacks", "max_round_rollbacks"):
        with pytest.raises(RoundError, match=f"{name} is 9"):
            plan_for(SHARED, **{name: 9})


# --- a room that is opened anew ---


def test_an_artist_whose_update_left_before_is_asked_once_when_the_room_is_opened_anew(training: Training) -> None:
    room, _ = training
    finish(room)
    side = after_restart(room.artists[key_of("a").id])
    anew = replace(room.engine.plan, nonce="another opening")
    side.feed(plan_message(anew, SHARED))
    question = side.further()
    assert question is not None
    assert (question.kind, question.number) == ("reopening", 1)
    assert "1 masked update of yours has left in this room already" in str(question)
    side.answer(contribute=True)
    side.feed(plan_message(replace(anew, attempt=2), SHARED))
    assert side.needs_answer()
    assert side.further() is None, "the artist said yes to this opening"
    again = after_restart(side)
    again.feed(plan_message(replace(anew, attempt=3), SHARED))
    assert again.further() is None, "also after a restart"


def test_a_no_to_a_room_opened_anew_is_no_yes_to_its_next_round(training: Training) -> None:
    room, _ = training
    finish(room)
    side = room.artists[key_of("a").id]
    anew = replace(room.engine.plan, nonce="another opening")
    side.feed(plan_message(anew, SHARED))
    side.answer(contribute=False)
    side.feed(plan_message(replace(anew, number=2), SHARED))
    question = side.further()
    assert question is not None
    assert (question.kind, question.number) == ("reopening", 2)


def test_a_room_opened_anew_before_anything_left_is_no_question(training: Training) -> None:
    room, _ = training
    side = room.artists[key_of("a").id]
    side.feed(plan_message(replace(room.engine.plan, nonce="another opening"), SHARED))
    assert side.needs_answer()
    assert side.further() is None


def test_the_sixty_fifth_opening_of_a_room_is_refused_also_after_a_restart() -> None:
    side = new_side("a")
    for number in range(64):
        side.feed(plan_message(plan_for(SHARED, nonce=str(number)), SHARED))
        assert side.needs_answer()
        side.answer(contribute=False)
    for one in (side, after_restart(side)):
        with pytest.raises(RoundError, match="opened this room 64 times, the most that this kernel follows"):
            one.feed(plan_message(plan_for(SHARED, nonce="64"), SHARED))
    side.feed(plan_message(plan_for(SHARED, nonce="63", attempt=2), SHARED))
    assert side.needs_answer(), "the openings that are known go on"


# --- the artist's own cap on rollbacks of one round ---


def test_a_round_trained_again_as_often_as_the_plan_allows_is_masked_no_further(training: Training) -> None:
    room, _ = training
    side, plan = room.artists[key_of("a").id], replace(room.engine.plan, max_round_rollbacks=1)
    words = [withdrawal("room", HOST, key_of(letter)) for letter in "dc"]
    finish(room)
    for turn in (1, 2):
        back = replace(plan, rewound=turn)
        side.feed(plan_message(back, SHARED, withdrawn=words[:turn]))
        assert side.rewound == turn
        if turn == 1:
            assert side.objection() == ""
            side.history.masked[back.digest] = Masked(turn, 1, back.shared_sha256)  # it took part, and the sum was told
    with pytest.raises(RoundError, match=r"Round 1 was trained 3 times .* allows 1 rollbacks of one round"):
        side.answer(contribute=True)


# --- what an artist is told of the caps ---


def test_an_artist_is_told_the_caps_of_the_plan_before_deciding() -> None:
    told = limits_of(plan_for(SHARED, max_attempts=2, max_rollbacks=3, max_round_rollbacks=1))
    assert "at most 2 leave for one round" in told
    assert "goes back to an earlier round at most 3 times, to the same one at most 1 times" in told


def test_no_more_rollbacks_of_one_round_are_told_than_there_are_rollbacks() -> None:
    told = limits_of(plan_for(SHARED, max_rollbacks=1, max_round_rollbacks=2))
    assert "at most 1 times, to the same one at most 1 times" in told


def test_of_a_room_that_never_goes_back_that_is_told() -> None:
    assert limits_of(plan_for(SHARED, max_rollbacks=0)).endswith("The room never goes back to an earlier round.")
