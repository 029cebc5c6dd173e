"""The ledger never counts less than was spent: re-run cells, restarts, copies, old backups, two kernels at once."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fedart_nb.errors import BudgetExceeded, LedgerError, PrivacyError
from fedart_nb.privacy.accounting import Gaussian, Skellam, epsilon
from fedart_nb.privacy.ledger import Budget, Ledger
from fedart_nb.privacy.ledger_report import meaning_of, statement

ROUND = Gaussian(noise_multiplier=1.4, sample_rate=0.16, steps=15)
BUDGET = Budget(epsilon=8.0, delta=1e-3)

Open = Callable[..., Ledger]


@pytest.fixture
def open_ledger(tmp_path: Path) -> Open:
    """The same ledger again at every call, as in a kernel that was restarted."""

    def open_(folder: str = "session", **changes) -> Ledger:
        asked = {"artist": "ada", "room": "studio", "budget": BUDGET, "clock": lambda: 0.0}
        return Ledger.open(
            tmp_path / folder / "ledger.jsonl", **{"witness": tmp_path / "home/ada.jsonl"} | asked | changes
        )

    return open_


def cost_of(rounds: int) -> float:
    return epsilon([ROUND] * rounds, delta=BUDGET.delta)


def test_spending_adds_up_over_restarts_of_the_kernel(open_ledger: Open) -> None:
    assert open_ledger().spent == 0.0
    for number in (1, 2, 3):
        entry = open_ledger().spend(ROUND, purpose=f"round {number}", record={"pictures": 50})
        assert entry.epsilon_after == pytest.approx(cost_of(number))
    ledger = open_ledger(budget=None)
    assert ledger.spent == pytest.approx(cost_of(3))
    assert [entry.purpose for entry in ledger.entries] == ["round 1", "round 2", "round 3"]
    assert [entry.epsilon_after for entry in ledger.entries] == pytest.approx([cost_of(1), cost_of(2), cost_of(3)])
    assert ledger.left == pytest.approx(8 - cost_of(3))
    assert not ledger.warnings


def test_a_training_beyond_the_budget_is_refused_and_costs_nothing(open_ledger: Open) -> None:
    ledger = open_ledger()
    paid = 0
    while ledger.allows(ROUND):
        ledger.spend(ROUND, purpose="the same cell again")
        paid += 1
    with pytest.raises(BudgetExceeded, match="the budget is 8 per picture") as refused:
        ledger.spend(ROUND, purpose="the same cell again")
    assert "Nothing was trained" in str(refused.value)
    assert 0 < paid < 1000
    assert len(open_ledger().entries) == paid
    assert cost_of(paid) <= 8 < cost_of(paid + 1)
    assert not ledger.allows(ROUND)
    assert ledger.allows(Gaussian(1e4, 0.16, 1))


def test_training_without_noise_is_beyond_every_budget(open_ledger: Open) -> None:
    with pytest.raises(BudgetExceeded, match="to inf"):
        open_ledger().spend(Gaussian(0.0), purpose="without noise")


def test_a_ledger_without_a_limit_counts_all_the_same(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "l", artist="ada", room="hall", budget=Budget(None, 1e-3))
    ledger.spend(Gaussian(0.0), purpose="without noise")
    assert ledger.spent == math.inf
    assert ledger.left == math.inf
    assert ledger.to_json()["spent"] is None
    assert "nothing is promised" in statement(ledger)
    with pytest.raises(PrivacyError, match="no limit"):
        ledger.noise_for(sample_rate=0.1, steps=1)


def test_the_noise_that_is_solved_for_uses_the_budget_up_and_not_more(open_ledger: Open) -> None:
    ledger = open_ledger()
    ledger.spend(ROUND, purpose="round 1")
    sigma = ledger.noise_for(sample_rate=0.16, steps=45)
    ledger.spend(Gaussian(sigma, 0.16, 45), purpose="rounds 2 to 4")
    assert 7.99 < ledger.spent <= 8
    ledger.change_budget(ledger.spent, why="nothing more")
    with pytest.raises(BudgetExceeded, match="Nothing was trained"):
        ledger.noise_for(sample_rate=0.16, steps=45)


def test_a_folder_put_back_to_an_older_state_counts_what_happened_since(open_ledger: Open, tmp_path: Path) -> None:
    ledger = open_ledger()
    ledger.spend(ROUND, purpose="round 1")
    shutil.copytree(tmp_path / "session", tmp_path / "backup")
    ledger.spend(ROUND, purpose="round 2")
    shutil.rmtree(tmp_path / "session")
    shutil.copytree(tmp_path / "backup", tmp_path / "session")
    again = open_ledger()
    assert again.spent == pytest.approx(cost_of(2))
    assert "restored backup" in again.warnings[0]
    assert "restored backup" in statement(again)


@pytest.mark.parametrize("gone", ["session/ledger.jsonl", "home/ada.jsonl"])
def test_a_deleted_file_is_made_again_from_the_other_one(open_ledger: Open, tmp_path: Path, gone: str) -> None:
    open_ledger().spend(ROUND, purpose="round 1")
    (tmp_path / gone).unlink()
    assert open_ledger().spent == pytest.approx(cost_of(1))
    assert (tmp_path / gone).exists()


def test_a_copied_session_folder_counts_together_with_the_first_one(open_ledger: Open, tmp_path: Path) -> None:
    first = open_ledger()
    first.spend(ROUND, purpose="round 1")
    shutil.copytree(tmp_path / "session", tmp_path / "copy")
    first.spend(ROUND, purpose="round 2, here")
    copy = open_ledger("copy")
    copy.spend(ROUND, purpose="round 2, in the copy")
    assert copy.spent == first.spent == pytest.approx(cost_of(3))


def test_two_copies_that_parted_without_seeing_each_other_both_count(open_ledger: Open, tmp_path: Path) -> None:
    open_ledger().spend(ROUND, purpose="round 1")
    shutil.copytree(tmp_path / "session", tmp_path / "copy")
    shutil.copytree(tmp_path / "home", tmp_path / "home before")
    open_ledger().spend(ROUND, purpose="round 2, here")
    shutil.rmtree(tmp_path / "home")
    shutil.copytree(tmp_path / "home before", tmp_path / "home")  # as if on another computer
    open_ledger("copy").spend(ROUND, purpose="round 2, there")
    assert open_ledger().spent == pytest.approx(cost_of(3))
    assert open_ledger("copy").spent == pytest.approx(cost_of(3))
    assert open_ledger().spent == pytest.approx(cost_of(3)), "and none of it twice"


@pytest.mark.parametrize("change", ["cheaper", "line out", "torn", "nonsense", "empty"])
@pytest.mark.parametrize("which", ["session/ledger.jsonl", "home/ada.jsonl"])
def test_a_changed_file_is_noticed_and_the_whole_copy_counts(
    open_ledger: Open, tmp_path: Path, change: str, which: str
) -> None:
    ledger = open_ledger()
    for _ in range(3):
        ledger.spend(ROUND, purpose="round")
    spoil(tmp_path / which, change)
    again = open_ledger()
    assert again.spent == pytest.approx(cost_of(3))
    assert "The other copy is whole" in again.warnings[0]
    assert open_ledger().warnings == [], "put right"


@pytest.mark.parametrize("change", ["cheaper", "line out", "torn", "nonsense", "empty"])
def test_with_both_copies_changed_nothing_is_trained(open_ledger: Open, tmp_path: Path, change: str) -> None:
    ledger = open_ledger()
    for _ in range(3):
        ledger.spend(ROUND, purpose="round")
    for which in ("session/ledger.jsonl", "home/ada.jsonl"):
        spoil(tmp_path / which, change)
    with pytest.raises(LedgerError, match="nothing is trained"):
        ledger.spend(ROUND, purpose="round")
    with pytest.raises(LedgerError, match="No whole copy is left"):
        open_ledger()


def spoil(path: Path, change: str) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    if change == "cheaper":
        lines[2] = lines[2].replace(b'"noise_multiplier":1.4', b'"noise_multiplier":9.9')
    elif change == "line out":
        del lines[2]
    elif change == "torn":
        lines[-1] = lines[-1][:-9]
    elif change == "nonsense":
        lines.append(b"[]\n")
    else:
        lines = []
    path.write_bytes(b"".join(lines))


def test_a_damaged_copy_that_knows_more_than_the_whole_one_still_counts(open_ledger: Open, tmp_path: Path) -> None:
    ledger = open_ledger()
    ledger.spend(ROUND, purpose="round 1")
    old = (tmp_path / "session/ledger.jsonl").read_bytes()
    ledger.spend(ROUND, purpose="round 2")
    (tmp_path / "session/ledger.jsonl").write_bytes(old)
    spoil(tmp_path / "home/ada.jsonl", "nonsense")
    assert open_ledger().spent == pytest.approx(cost_of(2))


def test_what_no_file_can_tell_is_told_by_an_export_that_was_kept(open_ledger: Open, tmp_path: Path) -> None:
    ledger = open_ledger()
    ledger.spend(ROUND, purpose="round 1")
    kept = json.loads(json.dumps(ledger.to_json()))
    ledger.spend(ROUND, purpose="round 2")
    ledger.verify_export(kept)
    shutil.rmtree(tmp_path / "session")
    shutil.rmtree(tmp_path / "home")
    again = open_ledger()
    assert again.spent == 0.0, "not detectable by the files alone, and documented"
    with pytest.raises(LedgerError, match="was put back or begun anew"):
        again.verify_export(kept)


def test_a_ledger_deleted_under_a_running_kernel_is_not_begun_anew_by_it(open_ledger: Open, tmp_path: Path) -> None:
    ledger = open_ledger()
    (tmp_path / "session/ledger.jsonl").unlink()
    (tmp_path / "home/ada.jsonl").unlink()
    with pytest.raises(LedgerError, match="are gone"):
        ledger.spend(ROUND, purpose="round 1")


def test_clocks_change_nothing_but_the_times_that_people_read(open_ledger: Open) -> None:
    open_ledger(clock=lambda: 2e9).spend(ROUND, purpose="in the future")
    open_ledger(clock=lambda: 1.0).spend(ROUND, purpose="long ago")
    ledger = open_ledger()
    assert ledger.spent == pytest.approx(cost_of(2))
    assert [entry.time[:4] for entry in ledger.entries] == ["2033", "1970"]


def test_two_kernels_at_once_cannot_spend_the_same_budget_twice(open_ledger: Open, tmp_path: Path) -> None:
    open_ledger()
    code = f"""
import sys
from fedart_nb.errors import BudgetExceeded
from fedart_nb.privacy.accounting import Gaussian
from fedart_nb.privacy.ledger import Ledger
ledger = Ledger.open({str(tmp_path / "session/ledger.jsonl")!r}, artist="ada", room="studio",
                     witness={str(tmp_path / "home/ada.jsonl")!r})
paid = 0
try:
    while True:
        ledger.spend(Gaussian(1.4, 0.16, 15), purpose=sys.argv[1])
        paid += 1
except BudgetExceeded:
    print(paid)
"""
    kernels = [
        subprocess.Popen([sys.executable, "-c", code, name], stdout=subprocess.PIPE, text=True) for name in ("a", "b")
    ]
    paid = [int(kernel.communicate(timeout=60)[0]) for kernel in kernels]
    ledger = open_ledger()
    assert len(ledger.entries) == sum(paid)
    assert ledger.spent <= 8 < cost_of(sum(paid) + 1)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"artist": "ben"}, "the ledger of 'ada' in 'studio'"),
        ({"room": "hall"}, "not exchanged"),
        ({"budget": Budget(20.0, 1e-3)}, "Use the ledger's own"),
        ({"budget": Budget(8.0, 1e-2)}, "delta 0.001"),
        ({"budget": Budget(8.0, 1e-3, "artist")}, "per picture"),
    ],
)
def test_another_artist_s_room_s_or_budget_s_ledger_is_refused(open_ledger: Open, asked: dict, said: str) -> None:
    open_ledger()
    with pytest.raises(LedgerError, match=said):
        open_ledger(**asked)


def test_a_raised_budget_stays_visible_with_its_reason(open_ledger: Open) -> None:
    ledger = open_ledger()
    ledger.change_budget(20.0, why="the room agreed on it")
    again = open_ledger(budget=None)
    assert again.budget.epsilon == 20.0
    assert "the room agreed on it" in json.dumps(again.to_json())
    with pytest.raises(PrivacyError, match="epsilon is -1"):
        again.change_budget(-1.0, why="")


def test_a_ledger_that_is_not_there_asks_for_a_budget(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="give a budget"):
        Ledger.open(tmp_path / "l", artist="ada", room="studio")


@pytest.mark.parametrize(
    "impossible", [{"epsilon": 0.0}, {"delta": 0.0}, {"delta": 1.0}, {"unit": "pixel"}, {"accountant": "gdp"}]
)
def test_an_impossible_budget_is_refused(impossible: dict) -> None:
    with pytest.raises(PrivacyError, match=next(iter(impossible))):
        Budget(**{"epsilon": 8.0, "delta": 1e-3} | impossible)


def test_the_statement_says_what_where_and_under_which_epsilon(open_ledger: Open) -> None:
    ledger = open_ledger()
    record = {"pictures": 50, "left": "a masked update of 75,264 numbers"}
    ledger.spend(ROUND, purpose="round 1", record=record)
    text = statement(ledger, where="a shared machine")
    for said in (
        "per picture, at delta 0.001",
        "up to 50 pictures with their captions",
        "a masked update of 75,264 numbers",
        "a shared machine",
        "add or remove one picture",
        "rdp: Rényi",
        "nothing is refunded",
        f"{cost_of(1):.2f} spent",
    ):
        assert said in text


def test_odds_of_a_guess_grow_with_epsilon() -> None:
    assert "52.5 times in 100" in meaning_of(0.1, 1e-9, "picture")
    assert "88.1 times in 100" in meaning_of(2.0, 1e-9, "picture")


def test_what_is_said_again_bit_by_bit_is_paid_for_once_and_another_thing_under_its_name_is_refused(
    open_ledger: Open,
) -> None:
    noised = Skellam(variance=400.0, l2=20.0, l1=80.0)
    first = open_ledger().spend(noised, purpose="round 1", once=("plan", "words"))
    again = open_ledger().spend(noised, purpose="round 1", once=("plan", "words"))
    assert again == first
    assert len(open_ledger().entries) == 1
    copied = open_ledger("copy", budget=None)
    with pytest.raises(LedgerError, match="Round 1 was already paid for, with something else"):
        copied.spend(noised, purpose="round 1", once=("plan", "other words"))
    with pytest.raises(LedgerError, match="already paid for"):
        open_ledger().spend(Skellam(variance=500.0, l2=20.0, l1=80.0), purpose="round 1", once=("plan", "words"))
    open_ledger().spend(noised, purpose="round 1", once=("second attempt", "words"))
    assert len(open_ledger().entries) == 2


def test_an_artists_ledger_names_its_neighbours_and_what_colluders_do(open_ledger: Open) -> None:
    ledger = open_ledger(budget=Budget(epsilon=8.0, delta=1e-3, unit="artist"))
    ledger.spend(Skellam(variance=400.0, l2=20.0, l1=80.0), purpose="round 1", record={"pictures": 5})
    told = statement(ledger)
    assert ledger.to_json()["neighbours"].startswith("one artist's update replaced by zeros")
    assert "| round 1 | 1 (Skellam) | 1 | 1 |" in told
    assert "replaced by zeros" in told
    assert "more colluders" in told
    assert "Pictures that are nearly the same" not in told
