"""What was spent of a picture counts wherever it was spent, and two copies that differ never make it less."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from fedart_nb._system.folders import UserFolders
from fedart_nb.crypto.hash_chain import Link, chained, read_chain, write_chain
from fedart_nb.errors import BudgetExceeded, LedgerError
from fedart_nb.privacy.accounting import Gaussian, Skellam, epsilon
from fedart_nb.privacy.client_level import ledger_places
from fedart_nb.privacy.ledger import PERSONAL, Budget, Ledger
from fedart_nb.privacy.ledger_report import statement
from fedart_nb.privacy.tally import Tally

ROUND = Gaussian(noise_multiplier=1.4, sample_rate=0.16, steps=15)
BUDGET = Budget(epsilon=8.0, delta=1e-3)


class Person:
    """One user of this computer, whose kernels are all new."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def tally(self) -> Tally:
        return Tally(UserFolders.within(self.folder))

    def ledger(self, room: str, pictures: str, *, artist: str = "ada", budget: Budget | None = BUDGET) -> Ledger:
        place = self.folder / artist / f"{room}.jsonl"
        return Ledger.open(
            place,
            artist=artist,
            room=room,
            budget=None if place.exists() else budget,
            witness=self.folder / "state" / f"{artist}-{room}.jsonl",
            tally=self.tally(),
            pictures=tuple(pictures),
        )


@pytest.fixture
def person(tmp_path: Path) -> Person:
    return Person(tmp_path)


def cost_of(rounds: int) -> float:
    return epsilon([ROUND] * rounds, delta=BUDGET.delta)


def test_a_second_room_begins_with_what_the_same_pictures_spent_in_the_first(person: Person) -> None:
    person.ledger("studio", "abc").spend(ROUND, purpose="round 1")
    second = person.ledger("hall", "abc")
    assert second.spent == pytest.approx(cost_of(1))
    assert second.left == pytest.approx(8 - cost_of(1))
    assert second.spent_here == 0
    assert second.cost(ROUND) == pytest.approx(cost_of(2))
    alone = person.ledger("elsewhere", "xyz")
    assert alone.noise_for(sample_rate=0.16, steps=15) < second.noise_for(sample_rate=0.16, steps=15)
    assert alone.spent == 0
    while second.allows(ROUND):
        second.spend(ROUND, purpose="until it is used up")
    with pytest.raises(BudgetExceeded, match="the budget is 8"):
        second.spend(ROUND, purpose="once more")
    assert cost_of(len(second.entries) + 1) == pytest.approx(second.spent)


def test_another_session_s_name_begins_there_as_well(person: Person) -> None:
    person.ledger("studio", "abc").spend(ROUND, purpose="round 1")
    assert person.ledger("studio", "cde", artist="somebody else").spent == pytest.approx(cost_of(1))


def test_each_picture_has_its_own_sum(person: Person) -> None:
    ledger = person.ledger("studio", "ab")
    ledger.spend(ROUND, purpose="round 1")
    person.ledger("studio", "bc").spend(ROUND, purpose="round 2")
    for pictures, rounds in (("a", 1), ("b", 2), ("c", 1), ("ac", 1), ("abc", 2), ("d", 0)):
        assert person.ledger("hall", pictures).spent == pytest.approx(cost_of(rounds)), pictures


def test_what_left_without_noise_is_infinite_whatever_follows(person: Person) -> None:
    person.ledger("studio", "ab", budget=Budget(None, 1e-3)).enter_unnoised(purpose="round 1", record={"left": "a sum"})
    ledger = person.ledger("studio", "ab")
    assert ledger.spent == math.inf
    assert "**Epsilon infinite spent" in statement(ledger)
    assert "| round 1 | none: nothing bounds what it tells |" in statement(ledger)
    with pytest.raises(BudgetExceeded, match="left without noise"):
        ledger.adopt(BUDGET)
    second = person.ledger("hall", "bc")
    with pytest.raises(BudgetExceeded, match=r"has left without noise \(round 1, studio"):
        second.noise_for(sample_rate=0.1, steps=1)
    assert "## The same pictures elsewhere" in statement(second)
    assert person.ledger("hall", "c").spent == 0, "a picture that was not among them"


def test_a_ledger_that_only_kept_count_takes_its_first_limit_and_shows_it(person: Person) -> None:
    ledger = person.ledger("studio", "ab", budget=Budget(None, 1e-3))
    ledger.spend(ROUND, purpose="round 1")
    ledger.adopt(Budget(8.0, 1e-4))
    again = person.ledger("studio", "ab")
    assert again.budget == Budget(8.0, 1e-4)
    assert again.spent == pytest.approx(epsilon([ROUND], delta=1e-4))
    with pytest.raises(LedgerError, match="epsilon 8"):
        again.adopt(Budget(50.0, 1e-3))


def test_noise_of_whole_artists_counts_for_pictures_at_twice_its_sensitivity(person: Person) -> None:
    noised = Skellam(variance=400.0, l2=20.0, l1=80.0)
    artist = person.ledger("studio", "ab", budget=Budget(None, 1e-3, "artist"))
    artist.spend(noised, purpose="round 1")
    twice = epsilon([Skellam(variance=400.0, l2=40.0, l1=160.0)], delta=1e-3)
    assert person.ledger("hall", "b").spent == pytest.approx(twice)
    assert artist.spent == pytest.approx(epsilon([noised], delta=1e-3))


def test_noise_on_single_pictures_bounds_nothing_of_a_whole_artist_unless_it_stays(person: Person) -> None:
    person.ledger(PERSONAL, "ab").spend(ROUND, purpose="personal adapter")
    artist = Budget(8.0, 1e-3, "artist")
    assert person.ledger("hall", "ab", budget=artist).spent == 0, "it stays in the kernel"
    assert person.ledger("yard", "ab").spent == pytest.approx(cost_of(1)), "and counts for pictures all the same"
    person.ledger("studio", "ab").spend(ROUND, purpose="round 1")
    assert person.ledger("hall", "ab", budget=artist).spent == math.inf


def test_a_crash_between_the_two_files_counts_once_and_not_nought(
    person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = person.ledger("studio", "ab")
    monkeypatch.setattr("fedart_nb.crypto.mirrored_chain.write_chain", stop_after(2))
    with pytest.raises(KeyboardInterrupt):
        ledger.spend(ROUND, purpose="round 1")
    monkeypatch.undo()
    again = person.ledger("studio", "ab")
    assert again.spent == pytest.approx(cost_of(1))
    assert again.entries == ()


def stop_after(writes: int) -> object:
    done = []

    def write(path: Path, links: list[Link]) -> None:
        if len(done) == writes:
            raise KeyboardInterrupt
        done.append(path)
        write_chain(path, links)

    return write


def test_kernels_at_once_in_two_rooms_cannot_spend_one_picture_s_budget_twice(person: Person) -> None:
    for room in ("studio", "hall"):
        person.ledger(room, "ab")
    code = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from test_tally import Person, ROUND
from fedart_nb.errors import BudgetExceeded
ledger, paid = Person(Path(sys.argv[2])).ledger(sys.argv[3], "ab"), 0
try:
    while True:
        ledger.spend(ROUND, purpose="round")
        paid += 1
except BudgetExceeded:
    print(paid)
"""
    ask = [sys.executable, "-c", code, str(Path(__file__).parent), str(person.folder)]
    kernels = [subprocess.Popen([*ask, room], stdout=subprocess.PIPE, text=True) for room in ("studio", "hall")]
    paid = sum(int(kernel.communicate(timeout=100)[0]) for kernel in kernels)
    assert cost_of(paid) <= 8 < cost_of(paid + 1)
    assert person.ledger("third", "a").spent == pytest.approx(cost_of(paid))


# --- one id, two bodies ---


def rewrite(path: Path, change: dict, *, kind: str = "spent") -> None:
    """Change every line of a kind and compute all hashes anew, as somebody does who knows how."""
    bodies = [link.body | change if link.body["kind"] == kind else link.body for link in read_chain(path)]
    write_chain(path, chained(bodies))


CHEAP = {"mechanism": {"kind": "Gaussian", "noise_multiplier": 99.0, "sample_rate": 0.16, "steps": 15}}
CHANGES = {
    "cheaper": (CHEAP, "spent"),
    "made a note": ({"kind": "note", "text": "nothing"}, "spent"),
    "a larger budget": ({"epsilon": 800.0}, "opened"),
    "a larger delta": ({"delta": 0.4}, "opened"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("which", ["ada/studio.jsonl", "state/ada-studio.jsonl"])
def test_one_copy_written_anew_with_right_hashes_is_noticed_and_the_larger_spending_counts(
    person: Person, which: str, change: str
) -> None:
    ledger = person.ledger("studio", "")
    for number in (1, 2):
        ledger.spend(ROUND, purpose=f"round {number}")
    good = (person.folder / "ada/studio.jsonl").read_bytes()
    new, kind = CHANGES[change]
    rewrite(person.folder / which, new, kind=kind)
    tampered = (person.folder / which).read_bytes()
    again = person.ledger("studio", "")
    assert (again.spent, again.budget) == (pytest.approx(cost_of(2)), BUDGET)
    assert "somebody changed one of them. The larger spending counts" in again.warnings[0]
    assert "The larger spending counts" in statement(again)
    assert (person.folder / f"{which}.damaged-1").read_bytes() == tampered
    assert (person.folder / "ada/studio.jsonl").read_bytes() == good
    assert (person.folder / "state/ada-studio.jsonl").read_bytes() == good
    assert person.ledger("studio", "").warnings == [], "put right"


@pytest.mark.parametrize("which", ["data/tally.jsonl", "state/tally.jsonl"])
def test_one_copy_of_the_tally_written_anew_is_noticed(person: Person, which: str) -> None:
    person.ledger("studio", "ab").spend(ROUND, purpose="round 1")
    rewrite(person.folder / which, CHEAP)
    second = person.ledger("hall", "ab")
    assert second.spent == pytest.approx(cost_of(1))
    assert "the tally of your pictures" in second.warnings[0]


@pytest.mark.parametrize("damage", [b"", b"\0" * 50, b"[" * 100_000, b'{"body": []}\n'])
@pytest.mark.parametrize("which", ["data/tally.jsonl", "state/tally.jsonl"])
def test_one_damaged_copy_of_the_tally_is_set_aside_and_the_other_counts(
    person: Person, which: str, damage: bytes
) -> None:
    person.ledger("studio", "ab").spend(ROUND, purpose="round 1")
    (person.folder / which).write_bytes(damage)
    assert person.ledger("hall", "ab").spent == pytest.approx(cost_of(1))
    assert (person.folder / f"{which}.damaged-1").read_bytes() == damage
    person.ledger("hall", "ab").spend(ROUND, purpose="round 1")
    assert person.ledger("yard", "a").spent == pytest.approx(cost_of(2))


def test_an_export_whose_lines_say_something_else_now_is_found(person: Person) -> None:
    ledger = person.ledger("studio", "")
    ledger.spend(ROUND, purpose="round 1")
    kept = json.loads(json.dumps(ledger.to_json()))
    for which in ("ada/studio.jsonl", "state/ada-studio.jsonl"):
        rewrite(person.folder / which, CHEAP)
    with pytest.raises(LedgerError, match="say something else"):
        person.ledger("studio", "").verify_export(kept)


def test_pictures_are_in_no_export(person: Person) -> None:
    ledger = person.ledger("studio", ("p1cture-hash",))  # type: ignore[arg-type]
    ledger.spend(ROUND, purpose="round 1")
    person.ledger("hall", ("p1cture-hash",)).spend(ROUND, purpose="round 1")  # type: ignore[arg-type]
    assert "p1cture-hash" not in json.dumps(ledger.to_json()) + statement(ledger)


# --- lines with right hashes that say too little ---

HEAD = {"kind": "opened", "format": 1, "id": "i", "artist": "ada", "room": "studio", "unit": "picture", "delta": 1e-3}
HEAD |= {"neighbours": "", "accountant": "rdp", "epsilon": 8.0, "time": "now"}


@pytest.mark.parametrize("gone", ["artist", "room", "unit", "delta", "accountant", "epsilon", "time", "id"])
def test_a_head_without_something_is_the_ledger_s_own_error_that_names_the_file(tmp_path: Path, gone: str) -> None:
    write_chain(tmp_path / "studio.jsonl", chained([{k: v for k, v in HEAD.items() if k != gone}]))
    with pytest.raises(LedgerError, match=r"Line 1 of studio\.jsonl is no line of a ledger"):
        Ledger.open(tmp_path / "studio.jsonl", artist="ada", room="studio")


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "spent", "id": "a", "time": "now"},
        {"kind": "spent", "id": "a", "time": "now", "purpose": "x", "mechanism": {"kind": "Gaussian"}},
        {"kind": "spent", "id": "a", "time": "now", "purpose": "x", "mechanism": "Gaussian"},
        {"kind": "spent", "id": "a", "time": "now", "purpose": "x", **CHEAP, "once": 5},
        {"kind": "spent", "id": "a", "time": "now", "purpose": "x", **CHEAP, "record": []},
        {"kind": "budget", "id": "a", "time": "now", "epsilon": "8", "why": ""},
        {"kind": "note", "id": "a", "time": "now"},
        {"kind": "refund", "id": "a", "time": "now"},
        {"kind": "note", "id": "i", "time": "now", "text": "an id that is there already"},
        {"kind": "opened", "id": "a", "time": "now"},
        {},
    ],
)
def test_a_line_that_says_too_little_is_the_ledger_s_own_error(tmp_path: Path, body: dict) -> None:
    write_chain(tmp_path / "studio.jsonl", chained([HEAD, body]))
    with pytest.raises(LedgerError, match=r"Line 2 of studio\.jsonl is no line of a ledger"):
        Ledger.open(tmp_path / "studio.jsonl", artist="ada", room="studio")


def test_deeply_nested_lines_are_an_error_and_no_crash(tmp_path: Path) -> None:
    (tmp_path / "studio.jsonl").write_bytes(b'{"body":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001 + b"\n")
    with pytest.raises(LedgerError, match=r"Line 1 of studio\.jsonl"):
        Ledger.open(tmp_path / "studio.jsonl", artist="ada", room="studio")


# --- names of rooms ---


def test_rooms_with_long_or_odd_names_have_ledgers_of_their_own(tmp_path: Path) -> None:
    rooms = ["r" * 59 + "a", "r" * 59 + "b", "r" * 70, "Studio", "studio", "a b", "a_b", "a/b", "studio-0123456789ab"]
    places = [
        str(p).casefold() for room in rooms for p in ledger_places(tmp_path, tmp_path, artist="x" * 32, room=room)
    ]
    assert len(set(places)) == 2 * len(rooms)
    assert all(Path(place).parent == tmp_path / "ledgers" for place in places)


def test_the_ledger_of_a_long_name_from_before_is_found_again(tmp_path: Path) -> None:
    room, other = "R" * 70 + "-one", "R" * 70 + "-two"
    old = tmp_path / "ledgers" / f"{'R' * 60}.jsonl"
    write_chain(old, chained([HEAD | {"room": room}]))
    assert not ledger_places(tmp_path, tmp_path / "s", artist="ada", room=other)[0].exists()
    path, _ = ledger_places(tmp_path, tmp_path / "s", artist="ada", room=room)
    assert path.exists()
    assert not old.exists()


def test_what_is_said_again_after_a_restart_counts_once_in_the_tally_too(person: Person) -> None:
    noised = Skellam(variance=400.0, l2=20.0, l1=80.0)
    for _ in range(2):
        ledger = person.ledger("studio", "ab", budget=Budget(None, 1e-3, "artist"))
        ledger.spend(noised, purpose="round 1", once=("plan", "words"))
        person.ledger("hall", "ab", budget=Budget(None, 1e-3)).enter_unnoised(purpose="round 1", once=("plan", "words"))
    assert [one.room for one in person.tally().spendings] == ["studio", "hall"]
