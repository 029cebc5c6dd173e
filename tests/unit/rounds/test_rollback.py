"""A host is asked before its room goes back, is told what that costs the others, and no room goes back for ever."""

from __future__ import annotations

import json

import pytest
from small_room import HOST, key_of, plan_for

from fedart_nb.consent import Question
from fedart_nb.errors import RoundError
from fedart_nb.federated import RoundPlan, promise_of
from fedart_nb.federated.rollback import Withdrawals
from fedart_nb.federated.withdrawal import withdrawal


def word(letter: str) -> dict[str, str]:
    return withdrawal("room", HOST, key_of(letter))


def hear(known: Withdrawals, letter: str, plan: RoundPlan) -> str:
    return known.hear(word(letter), sender=key_of(letter).id, plan=plan, host=HOST)


def in_sums(**first: int) -> Withdrawals:
    return Withdrawals(first={key_of(letter).id: number for letter, number in first.items()})


def asked(known: Withdrawals, plan: RoundPlan) -> Question | None:
    return known.question(plan, {key_of(x).id: x.upper() for x in "abcd"}.__getitem__, None)


def test_the_question_says_what_going_back_costs_the_others() -> None:
    known, plan = in_sums(a=2, b=1), plan_for(b"", number=4, total=6)
    assert asked(known, plan) is None
    assert hear(known, "a", plan) == "waits"
    question = asked(known, plan)
    assert question is not None
    assert question.title == "A withdraws. Go back to before round 2?"
    assert "A is in no further round, whatever you answer." in question.sentences
    assert "2 finished rounds (2 to 3)" in str(question)
    assert "nothing is refunded" in str(question)
    assert "gone back 0 of at most 3 times" in str(question)


def test_with_noise_on_whole_artists_the_question_says_the_epsilon_before_and_after() -> None:
    noise = {"protection": "artist", "noise_multiplier": 2.0, "clip_norm": 0.3, "delta": 1e-3}
    plan = plan_for(b"", number=3, total=4, **noise)
    known = in_sums(a=1)
    hear(known, "a", plan)
    promise = promise_of(plan, 896)
    assert promise is not None
    question = known.question(plan, lambda _artist: "Ada", promise)
    before, after = promise.against(0).epsilon, type(promise)(promise.code, 6, promise.delta).against(0).epsilon
    assert after > before
    assert f"epsilon {before:.2f} over all rounds becomes {after:.2f}" in str(question)


def test_who_joins_contributes_and_withdraws_again_and_again_takes_the_room_back_twice_at_most() -> None:
    known, plan = Withdrawals(), plan_for(b"", number=2, total=2)
    outcomes = []
    for _ in range(6):
        known.first[key_of("d").id] = 1  # contributed to round 1, once more
        outcomes.append(hear(known, "d", plan))
        if known.waiting:
            assert known.follow(plan) == 1
    assert outcomes == ["waits", "waits", *["capped"] * 4], "max_round_rollbacks is 2"


def test_a_room_goes_back_no_more_often_than_its_plan_says_whoever_withdraws() -> None:
    known = Withdrawals()
    outcomes = []
    for number, letter in enumerate("abcde", start=1):
        plan = plan_for(b"", number=number + 1, total=9, max_round_rollbacks=8)
        known.first[key_of(letter).id] = number
        outcomes.append(hear(known, letter, plan))
        if known.waiting:
            known.follow(plan)
    assert outcomes == ["waits"] * 3 + ["capped"] * 2


def test_one_word_is_heard_once_and_one_without_a_sum_takes_nothing_out() -> None:
    known, plan = in_sums(a=1), plan_for(b"", number=2)
    mine = word("a")
    assert known.hear(mine, sender=key_of("a").id, plan=plan, host=HOST) == "waits"
    assert known.hear(mine, sender=key_of("a").id, plan=plan, host=HOST) == "known"
    assert hear(known, "b", plan) == "nothing"
    with pytest.raises(RoundError, match="another artist"):
        known.hear(word("a"), sender=key_of("b").id, plan=plan, host=HOST)


def test_a_host_that_stays_has_answered_and_is_not_asked_again() -> None:
    known, plan = in_sums(a=1), plan_for(b"", number=3)
    hear(known, "a", plan)
    known.stay()
    assert asked(known, plan) is None
    assert known.followed == []
    assert hear(known, "a", plan) == "nothing", "until they contribute again"


def test_a_restarted_host_knows_what_waits_and_how_often_the_room_went_back() -> None:
    known, plan = in_sums(a=1, b=1), plan_for(b"", number=2)
    hear(known, "a", plan)
    known.follow(plan)
    known.first[key_of("b").id] = 1
    hear(known, "b", plan)
    again = Withdrawals.from_json(json.loads(json.dumps(known.to_json())))
    assert again == known
    assert again.repeated == {1: 1}
