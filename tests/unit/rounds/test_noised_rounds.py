"""Noise on whole artists in real rounds: as much as promised whoever drops out, nothing beside it, the same again."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from small_room import Room, artist_id, new_engine, new_side, plan_for

from fedart_nb.errors import BudgetExceeded, PrivacyError, RoundError, SecAggError
from fedart_nb.federated import (
    MemoryKeeper,
    Phase,
    RoundEngine,
    RoundPlan,
    Simulation,
    pack,
    promise_of,
    skellam_of,
    unpack,
    words_of,
)
from fedart_nb.federated import simulation as simulate
from fedart_nb.federated.noised_vector import noise_stream
from fedart_nb.privacy.distributed import SkellamSum
from fedart_nb.relay import Envelope
from fedart_nb.secagg.graph import quorum_of

SIZE, CLIP = 3000, 0.5
NOISE: dict[str, Any] = {"protection": "artist", "noise_multiplier": 1.6, "clip_norm": CLIP, "delta": 1e-3}
NAMES = ["Ada", "Ben", "Cy", "Dee", "Eli", "Flo", "Gus"]


def room(names: list[str] = NAMES, **changes: Any) -> Simulation:
    return Simulation(names, {"x": np.zeros(SIZE, np.float32)}, **{**NOISE, "min_artists": len(names), **changes})


def updates(names: list[str] = NAMES, *, norm: float = 0.4) -> dict[str, dict[str, np.ndarray]]:
    drawn = np.random.default_rng(0).normal(size=(len(names), SIZE))
    drawn *= norm / np.linalg.norm(drawn, axis=1, keepdims=True)
    return {name: {"x": row.astype(np.float32)} for name, row in zip(names, drawn, strict=True)}


def zeros(names: list[str] = NAMES) -> dict[str, dict[str, np.ndarray]]:
    return {name: {"x": np.zeros(SIZE, np.float32)} for name in names}


@pytest.mark.parametrize("gone", [{}, {"Gus": "share"}, {"Gus": "share", "Flo": "share"}, {"Gus": "unmask"}])
def test_the_opened_mean_has_the_promised_noise_by_chi_square_whoever_is_gone(gone: dict[str, str]) -> None:
    simulated = room()
    code = skellam_of(simulated.plan, SIZE, 7)
    done = simulated.round(zeros(), gone=gone)
    assert done.result is not None
    present = len(done.result.contributors)
    assert present == 7 - list(gone.values()).count("share")
    noise = present * unpack(done.result.shared)["x"].astype(float)
    chi2 = float(noise @ noise) / code.noise_std(present) ** 2
    assert abs(chi2 - SIZE) < 5 * math.sqrt(2 * SIZE)
    promised = NOISE["noise_multiplier"] * CLIP
    assert code.noise_std(present) >= promised * (1 - 1e-9)
    assert quorum_of(7) == 5
    if present == 5:
        assert code.noise_std(present) == pytest.approx(promised)


def test_the_mean_is_that_of_the_updates_clipped_as_a_whole() -> None:
    simulated = room(noise_multiplier=0.003)
    sent = updates(norm=5.0) | {"Ada": updates()["Ada"]}
    done = simulated.round(sent)
    assert done.result is not None
    clipped = [sent["Ada"]["x"], *(sent[name]["x"] * CLIP / 5.0 for name in NAMES[1:])]
    mean = np.mean(clipped, axis=0)
    got = unpack(done.result.shared)["x"]
    assert np.corrcoef(got, mean)[0, 1] > 0.97
    assert np.linalg.norm(got) == pytest.approx(np.linalg.norm(mean), rel=0.05)
    assert any("length 5 and was clipped to 0.5" in text for text in simulated.sides["Ben"].warnings)
    assert not any("clipped" in text for text in simulated.sides["Ada"].warnings)


def test_nothing_travels_beside_the_noised_update() -> None:
    simulated = room()
    done = simulated.round(updates(), pictures=77)
    assert done.result is not None
    assert (done.result.pictures, done.result.clipped, done.result.metrics) == (0, 0, {})
    told = next(envelope for envelope in done.log if envelope.kind == "result").body
    assert told["pictures"] == 0
    for envelope in done.log:
        if envelope.kind == "update":
            assert len(words_of(envelope.attachments["update"])) == 4096 + 4, "the rotated update and the check words"
            assert set(envelope.body) == {"plan_digest"}


def ready(letter: str = "a", *, keeper: MemoryKeeper | None = None, **more: Any) -> tuple[Any, Room]:
    """An artist with its task in a room of four under noise."""
    shared = pack({"x": np.zeros(SIZE, np.float32)}, {"fedart": "{}"})
    engine = new_engine(shared, plan=plan_for(shared, **NOISE))
    opened = Room(engine._clock, engine)  # type: ignore[arg-type]
    sides = [opened.add(name, **({"keeper": keeper, **more} if name == letter else {})) for name in "abcd"]
    opened.open()
    for side in sides:
        opened.send(side.answer(contribute=True))
    return opened.artists[artist_id(letter)], opened


def restarted(letter: str, opened: Room, keeper: MemoryKeeper, **more: Any) -> Any:
    """The same artist in a new kernel: it hears the room's messages again."""
    old = opened.artists[artist_id(letter)]
    side = new_side(letter, keeper=keeper, **more)
    state = json.loads(json.dumps(old.snapshot()))
    side.restore({**state, "sent": []})  # killed before it was noted that anything was sent
    for envelope in opened.log:
        if envelope.recipient in ("all", side.me):
            side.feed(envelope)
    return side


UPDATE = {"x": np.linspace(-0.01, 0.01, SIZE, dtype=np.float32)}


def test_a_restarted_kernel_says_the_same_noised_words_and_pays_once_more_for_the_same() -> None:
    keeper, paid = MemoryKeeper(), []
    pay = lambda plan, code, digest: paid.append((plan.digest, code, digest))  # noqa: E731
    side, opened = ready(keeper=keeper, pay=pay)
    first = side.submit(UPDATE, pictures=3)
    again = restarted("a", opened, keeper, pay=pay).submit(UPDATE, pictures=9)
    assert again.attachments["update"] == first.attachments["update"]
    assert paid[0] == paid[1], "the ledger knows that it is the same"
    assert isinstance(paid[0][1], SkellamSum)
    assert (paid[0][1].artists, paid[0][1].survivors) == (4, 3)


def test_another_update_in_the_same_attempt_is_refused_after_a_restart() -> None:
    keeper = MemoryKeeper()
    side, opened = ready(keeper=keeper)
    side.submit(UPDATE, pictures=3)
    with pytest.raises(SecAggError, match="second time"):
        restarted("a", opened, keeper).submit({"x": UPDATE["x"] * 2}, pictures=3)


def test_two_updates_under_one_secret_have_unrelated_noise_and_one_update_the_same() -> None:
    code = skellam_of(room().plan, SIZE, 7)
    a, b = UPDATE["x"].astype(float), UPDATE["x"].astype(float) * 1.001
    secret, context = bytes(range(32)), bytes(32)
    one, same, other = (code.encode(x, random=noise_stream(secret, context, x)) for x in (a, a, b))
    assert (one == same).all()
    difference = code.decode(one - other)
    assert difference.std() == pytest.approx(math.sqrt(2) * code.noise_std(1), rel=0.1)
    later = code.encode(a, random=noise_stream(bytes(reversed(secret)), context, a))
    assert code.decode(one - later).std() == pytest.approx(math.sqrt(2) * code.noise_std(1), rel=0.1)


def test_what_the_ledger_does_not_pay_for_is_not_masked() -> None:
    def broke(plan: RoundPlan, code: SkellamSum, digest: str) -> None:
        raise BudgetExceeded("Nothing is left.")

    keeper = MemoryKeeper()
    side, opened = ready(keeper=keeper, pay=broke)
    with pytest.raises(BudgetExceeded):
        side.submit(UPDATE, pictures=3)
    assert "words" not in keeper.state(side.plan.digest)
    assert side.task is not None
    assert not [e for e in opened.log if e.kind == "update" and e.sender == side.me]


def test_a_plan_with_less_noise_than_wanted_is_not_contributed_to() -> None:
    shared = pack({"x": np.zeros(SIZE, np.float32)}, {"fedart": "{}"})
    opened = Room(None, new_engine(shared, plan=plan_for(shared, **NOISE)))  # type: ignore[arg-type]
    wary = opened.add("a", least_noise=2.0)
    content = opened.add("b", least_noise=1.6)
    opened.open()
    assert "1.6 clip norms, you want at least 2" in wary.objection()
    with pytest.raises(RoundError, match="Nothing was sent"):
        wary.answer(contribute=True)
    assert wary.answer(contribute=False).body == {"plan_digest": wary.plan.digest, "contribute": False}
    assert content.objection() == ""
    assert content.answer(contribute=True).body["contribute"] is True


def test_a_plan_without_noise_is_not_contributed_to_by_who_wants_some() -> None:
    shared = pack({"x": np.zeros(SIZE, np.float32)}, {"fedart": "{}"})
    opened = Room(None, new_engine(shared))  # type: ignore[arg-type]
    wary = opened.add("a", least_noise=0.5)
    opened.open()
    with pytest.raises(RoundError, match="0 clip norms"):
        wary.answer(contribute=True)


def test_a_sum_of_fewer_artists_than_the_noise_is_sized_for_is_not_opened() -> None:
    simulated = room(survivors=6)
    assert skellam_of(simulated.plan, SIZE, 7).survivors == 6
    done = simulated.round(zeros(), gone={"Gus": "share", "Flo": "share"})
    assert done.result is None
    assert "noise is sized for 6" in done.reason
    assert "nobody's update" not in done.reason
    assert "in further attempts tell more than one of them" in done.reason
    assert not [e for e in done.log if e.kind in ("consistency", "unmask", "result")]
    assert len(simulated.round(zeros()).result.contributors) == 7  # type: ignore[union-attr]


class Greedy(RoundEngine):
    """A host that goes on with fewer artists than the plan says."""

    def _count(self) -> list[Envelope]:
        survivors = self._counted()
        data = self._sum.survivors(survivors)
        self._go_to(Phase.CONSISTENCY)
        return [self._said("consistency", survivors, data)]


def test_artists_do_not_sign_for_a_host_that_would_open_a_smaller_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate, "RoundEngine", Greedy)
    done = room(survivors=6).round(zeros(), gone={"Gus": "share", "Flo": "share"})
    assert done.result is None
    assert any("it takes 6 to hide each" in text for _, text in done.noticed)
    assert not [e for e in done.log if e.kind == "unmask" and e.recipient == "host"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"protection": "picture"}, "protection is 'picture'; known are none, artist"),
        ({"protection": "none"}, "protection is 'none': no noise would be added"),
        ({"noise_multiplier": 0.0}, "noise_multiplier is 0"),
        ({"noise_multiplier": -1.0}, "noise_multiplier is -1"),
        ({"noise_multiplier": "much"}, "noise_multiplier is 'much'"),
        ({"clip_norm": 0.0}, "clip_norm is 0"),
        ({"delta": 0.0}, "delta is 0"),
        ({"delta": 0.5}, "delta is 0.5"),
        ({"weighting": "pictures"}, "Take equal weights"),
        ({"metrics": ("loss_after",)}, "no noise covers metrics"),
        ({"survivors": 2}, "survivors are 2; expected 0, or from 3"),
        ({"survivors": 4}, "survivors are 4; expected 0, or from 3, without whom no sum of 3"),
        ({"survivors": 2.5}, "expected a whole number"),
    ],
)
def test_impossible_plans_are_refused_with_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RoundError, match=sentence):
        plan_for(b"", **{**NOISE, **changes})


def test_a_plan_with_noise_survives_the_wire_and_noise_changes_its_digest() -> None:
    plan = plan_for(b"", **NOISE)
    assert RoundPlan.from_body(json.loads(json.dumps(plan.to_body()))) == plan
    assert replace(plan, noise_multiplier=1.5).digest != plan.digest


def test_the_promise_says_how_loud_the_noise_is_and_what_groups_take_off() -> None:
    plan = plan_for(b"", min_artists=10, **NOISE)
    promise = promise_of(plan, 896)
    assert promise is not None
    groups = promise.groups
    assert [group.colluders for group in groups] == [0, 1, 3, 6]
    assert [group.noise_multiplier for group in groups] == pytest.approx(
        [1.6 * math.sqrt((7 - k) / 7) for k in (0, 1, 3, 6)]
    )
    costs = [group.epsilon for group in groups]
    assert costs == sorted(costs)
    assert costs[0] < costs[-1]
    assert promise.noise_to_signal == pytest.approx(1.6 * math.sqrt(896 * 10 / 7) / 10, rel=0.01)
    for part in (
        "At 10 artists this noise is 5.7 times your signal",
        "a smaller core is the sensible choice",
        f"epsilon at {costs[0]:.2f} per artist over 2 rounds, at delta 0.001",
        f"3 who put theirs together leave noise 1.21 of 1.60: epsilon {costs[2]:.2f}",
        "Against 7 nothing is promised",
    ):
        assert part in str(promise)
    with pytest.raises(PrivacyError, match="up to 6"):
        promise.against(7)
    assert promise_of(plan_for(b""), 896) is None


def test_a_room_of_a_hundred_artists_with_few_neighbours_each_has_the_promised_noise() -> None:
    names = [f"artist {i}" for i in range(100)]
    simulated = room(names, degree=20, survivors=90)
    code = skellam_of(simulated.plan, SIZE, 100)
    assert code.survivors == 90
    done = simulated.round(zeros(names), gone=dict.fromkeys(names[:5], "share"))
    assert done.result is not None
    noise = 95 * unpack(done.result.shared)["x"].astype(float)
    assert abs(float(noise @ noise) / code.noise_std(95) ** 2 - SIZE) < 5 * math.sqrt(2 * SIZE)
