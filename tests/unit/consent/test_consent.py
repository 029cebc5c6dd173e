"""Consent is off unless given, written down before anything follows, and shows where somebody tampered with it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from leavings import LEAVING

from fedart_nb.consent import Consent, Fault, Leaving, check
from fedart_nb.crypto.identity import Identity
from fedart_nb.errors import ConsentError

PICTURES = ("0123456789abcdef", "fedcba9876543210")


@pytest.fixture
def me() -> Identity:
    return Identity.generate()


@pytest.fixture
def consent(tmp_path: Path, me: Identity) -> Consent:
    consent = Consent(tmp_path, me, clock=lambda: 1_800_000_000.0)
    consent.room = "studio"
    return consent


def a_round(consent: Consent, number: int, *, counted: bool | None = True, pictures: Any = PICTURES) -> Leaving:
    leaving = replace(LEAVING, number=number, plan=f"p{number}")
    consent.choose("contribute", "asked", leaving=leaving, pictures=pictures)
    consent.left(leaving, pictures=pictures, size_bytes=4_097)
    consent.closed("studio", number, leaving.plan, counted=counted, shared=f"{number:064d}", contributors=3)
    return leaving


def lines_of(consent: Consent) -> list[dict[str, Any]]:
    return [json.loads(line) for line in consent.path.read_text(encoding="utf-8").splitlines()]


def write(consent: Consent, lines: list[dict[str, Any]]) -> None:
    consent.path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def test_nothing_is_agreed_to_before_somebody_says_so(consent: Consent) -> None:
    assert not consent.standing
    assert not consent.covers("t")
    assert consent.receipts == ()
    with consent.sending(LEAVING) as may_leave:
        assert not may_leave


def test_a_standing_consent_is_given_taken_back_and_ended_by_leaving(consent: Consent) -> None:
    consent.stand()
    assert consent.covers("t")
    consent.ask_again()
    assert not consent.covers("t")
    consent.stand()
    consent.depart("leave")
    assert not consent.standing


def test_a_standing_consent_is_for_one_room(consent: Consent) -> None:
    consent.stand()
    consent.room = "another"
    assert not consent.standing


def test_a_standing_consent_covers_the_terms_that_it_was_used_for_and_no_others(consent: Consent) -> None:
    consent.stand()
    consent.choose("contribute", "standing", leaving=LEAVING)
    assert consent.covers("t")
    assert not consent.covers("less noise")
    consent.ask_again()
    consent.stand()
    assert consent.covers("less noise"), "given anew, it is given for what comes next"


def test_choosing_without_a_room_says_what_to_do(tmp_path: Path, me: Identity) -> None:
    with pytest.raises(ConsentError, match=r"session\.join"):
        Consent(tmp_path, me).stand()


def test_skipping_before_the_update_leaves_keeps_it_here(consent: Consent) -> None:
    consent.choose("contribute", "standing", leaving=LEAVING)
    with consent.sending(LEAVING) as may_leave:
        assert may_leave
    assert consent.change("skip") == "Round 1: nothing of it has left, and nothing will."
    with consent.sending(LEAVING) as may_leave:
        assert not may_leave
    assert consent.change("contribute") == "Round 1: you contribute after all."
    with consent.sending(LEAVING) as may_leave:
        assert may_leave


def test_a_skip_holds_in_further_attempts_of_the_round_and_not_after_a_rewind(consent: Consent) -> None:
    consent.choose("skip", "asked", leaving=LEAVING)
    assert consent.skips("studio", 1)
    assert not consent.skips("studio", 1, turn=1)
    assert not consent.skips("studio", 2)


def test_after_the_update_left_it_is_said_that_a_sum_cannot_be_called_back(consent: Consent) -> None:
    consent.choose("contribute", "asked", leaving=LEAVING)
    consent.left(LEAVING, pictures=PICTURES, size_bytes=4_097)
    before = len(consent.receipts)
    assert "cannot be called back" in consent.change("skip")
    assert "withdraw=True" in consent.change("skip")
    assert len(consent.receipts) == before, "a choice that has no effect is none"


def test_changing_ones_mind_without_a_round_is_refused(consent: Consent) -> None:
    with pytest.raises(ConsentError, match="No round that you agreed to is running"):
        consent.change("skip")
    a_round(consent, 1)
    with pytest.raises(ConsentError, match="No round"):
        consent.change("skip")
    with pytest.raises(ConsentError, match="'leave'"):
        consent.change("leave")


def test_receipts_tell_what_was_shown_sent_and_counted(consent: Consent) -> None:
    leaving = replace(
        LEAVING, unit="picture", epsilon_before=1.0, epsilon_after=2.5, delta=1e-3, budget=8.0, found=("Nothing read.",)
    )
    consent.choose("contribute", "looked", leaving=leaving, pictures=PICTURES)
    consent.left(leaving, pictures=PICTURES, size_bytes=4_097)
    consent.left(leaving, pictures=PICTURES, size_bytes=4_097)  # a restarted kernel sends the same again
    consent.closed("studio", 1, "p1", counted=True, shared="a" * 64, contributors=3)
    consent.closed("studio", 1, "p1", counted=None, shared="a" * 64, contributors=3)  # and hears the result again
    kinds = [(one.kind, one.body.get("choice") or one.body.get("outcome")) for one in consent.receipts]
    assert kinds == [
        ("opened", None),
        ("pictures", None),
        ("choice", "contribute"),
        ("outcome", "sent"),
        ("outcome", "in the sum"),
    ]
    choice, sent = consent.receipts[2].body, consent.receipts[3].body
    assert choice["leaving"]["found"] == ["Nothing read."]
    assert (sent["size_bytes"], sent["epsilon"], sent["epsilon_after"]) == (4_097, 1.5, 2.5)
    assert (choice["time"], choice["plan"]) == ("2027-01-15T08:00:00Z", "p1")
    assert Leaving.from_json(choice["leaving"]) == leaving


def test_what_was_not_counted_is_not_said_to_be_in_the_sum(consent: Consent) -> None:
    a_round(consent, 1, counted=False)
    a_round(consent, 2, counted=None)
    consent.choose("skip", "asked", leaving=replace(LEAVING, number=3, plan="p3"))
    consent.closed("studio", 3, "p3", counted=None, shared="c" * 64, contributors=3)
    outcomes = [one.body["outcome"] for one in consent.receipts if one.kind == "outcome" and "shared" in one.body]
    assert outcomes == ["not in the sum", "perhaps in the sum", "not in the sum"]


def test_receipts_name_pictures_by_marks_that_nobody_else_can_work_out(consent: Consent, tmp_path: Path) -> None:
    a_round(consent, 1)
    text = consent.path.read_text(encoding="utf-8")
    assert not any(picture in text for picture in PICTURES)
    assert consent.mark(PICTURES[0]) in text
    stranger = Consent(tmp_path / "stranger", Identity.generate())
    assert stranger.mark(PICTURES[0]) != consent.mark(PICTURES[0])


def test_a_reopened_session_knows_its_receipts_and_its_marks(consent: Consent, tmp_path: Path, me: Identity) -> None:
    consent.stand()
    a_round(consent, 1)
    again = Consent(tmp_path, me)
    again.room = "studio"
    assert again.receipts == consent.receipts
    assert again.standing
    assert again.mark(PICTURES[0]) == consent.mark(PICTURES[0])
    assert again.shown("p1") == replace(LEAVING, plan="p1")
    assert again.shown("p9") is None


def test_a_whole_chain_has_no_fault_and_two_kernels_on_one_folder_keep_it_whole(
    consent: Consent, tmp_path: Path, me: Identity
) -> None:
    other = Consent(tmp_path, me)
    other.room = "studio"
    for number in range(1, 4):
        a_round(consent if number % 2 else other, number)
    assert consent.check() is None
    assert len(consent.receipts) == 2 + 3 * 3


@pytest.mark.parametrize(
    ("tamper", "line", "why"),
    [
        (lambda lines: lines[2]["body"].update(choice="skip"), 3, "hash does not fit"),
        (lambda lines: lines.pop(3), 4, "taken out, put in or moved"),
        (lambda lines: lines.insert(3, lines[2]), 4, "taken out, put in or moved"),
        (lambda lines: lines[4].update(signature="00" * 64), 5, "not signed by the artist"),
        (lambda lines: lines.__setitem__(1, {"body": {}}), 2, "no receipt"),
        (lambda lines: lines[0]["body"].update(key="00"), 1, "no public key"),
        (lambda lines: lines.clear(), 1, "missing"),
    ],
)
def test_whoever_tampers_is_found_at_the_line(consent: Consent, tamper: Any, line: int, why: str) -> None:
    a_round(consent, 1)
    lines = lines_of(consent)
    assert len(lines) == 5
    tamper(lines)
    write(consent, lines)
    fault = consent.check()
    assert isinstance(fault, Fault)
    assert fault.line == line
    assert why in fault.why
    if lines:
        with pytest.raises(ConsentError, match=f"Line {line}: .*Nothing is sent"):
            consent.receipts  # noqa: B018 - reading is what fails


def test_somebody_elses_chain_is_not_taken_for_mine(consent: Consent, tmp_path: Path) -> None:
    a_round(consent, 1)
    stranger = Consent(tmp_path, Identity.generate())
    assert "belongs to" in str(stranger.check())
    with pytest.raises(ConsentError, match="belongs to"):
        stranger.stand()


def test_a_cut_end_shows_against_an_earlier_export_alone(consent: Consent) -> None:
    a_round(consent, 1)
    exported = json.loads(json.dumps(consent.to_json(PICTURES)))
    assert check(exported["receipts"], artist=exported["artist"]) is None
    assert consent.check(exported) is None
    write(consent, lines_of(consent)[:-1])
    assert consent.check() is None
    assert "1 lines of the earlier export are missing" in str(consent.check(exported))


def test_influence_follows_a_picture_into_later_rounds(consent: Consent) -> None:
    first, second = PICTURES
    a_round(consent, 1, pictures=[second])
    a_round(consent, 2)
    a_round(consent, 3, counted=False)
    consent.choose("skip", "asked", leaving=replace(LEAVING, number=4, plan="p4"))
    consent.closed("studio", 4, "p4", counted=None, shared="4" * 64, contributors=3)
    found = consent.influence(first)
    assert found.rounds == (("studio", 2), ("studio", 3))
    assert [(one.round, one.how) for one in found.adapters] == [(2, "direct"), (3, "later"), (4, "later")]
    assert [(one.round, one.how) for one in consent.influence(second).adapters][:2] == [(1, "direct"), (2, "direct")]
    assert "in the sum of round 2 of studio" in str(found)
    assert "rounds 3 and 4 of studio were trained on from there" in str(found)


def test_a_picture_that_never_left_has_influenced_nothing(consent: Consent) -> None:
    a_round(consent, 1, pictures=[PICTURES[0]])
    found = consent.influence(PICTURES[1])
    assert found.rounds == found.adapters == ()
    assert str(found) == "No update that was trained on this picture has left this kernel."


def test_a_rewound_room_ends_an_influence_and_says_that_copies_stay(consent: Consent) -> None:
    a_round(consent, 1, pictures=[PICTURES[1]])
    a_round(consent, 2)
    consent.depart("withdraw")
    consent.rewound("studio", 2, why="You withdrew.", plan="p2'")
    consent.closed("studio", 2, "p2'", counted=None, shared="f" * 64, contributors=3)
    found = consent.influence(PICTURES[0])
    assert found.adapters == ()
    assert [one.round for one in found.undone] == [2]
    assert "copies that somebody kept are as they were" in str(found)
    stays = consent.influence(PICTURES[1])
    assert [one.round for one in stays.adapters] == [1, 2], "round 1 was before"


def test_after_a_withdrawal_nothing_is_said_to_stand_and_nothing_to_be_undone_for_certain(consent: Consent) -> None:
    a_round(consent, 1)
    a_round(consent, 2)
    consent.depart("withdraw")
    found = consent.influence(PICTURES[0])
    assert found.adapters == found.undone == ()
    assert [one.round for one in found.withdrawn] == [1, 2]
    assert "You withdrew, and the room was asked to go back" in str(found)
    assert "rounds 1 and 2 of studio" in str(found)


def test_the_statement_reads_without_this_program(consent: Consent) -> None:
    consent.stand()
    a_round(consent, 1)
    text = consent.statement(PICTURES, name="Ada")
    assert "# What Ada agreed to" in text
    assert "Room studio: gave a standing consent to every round of the room, of their own accord." in text
    assert "Round 1 of studio: agreed to contribute, when asked. Shown: 4,097 bytes, 2 pictures, no noise" in text
    assert "Round 1 of studio: sent, 4,097 bytes, no noise." in text
    assert f"- {PICTURES[0]}: Updates trained on it were sent in round 1 of studio." in text
    assert consent.receipts[-1].hash in text


def test_what_leaves_is_told_in_sentences() -> None:
    text = str(LEAVING)
    assert "4,097 bytes" in text
    assert "2 of your pictures" in text
    assert "nothing bounds what a sum of such updates tells" in text
    priced = replace(LEAVING, unit="picture", epsilon_before=0.0, epsilon_after=1.25, delta=1e-3, budget=8.0)
    assert "from 0.00 to 1.25 of 8 per picture, at delta 0.001" in str(priced)
    assert "Nobody has attacked it yet" in str(replace(LEAVING, ready=True))
    assert "trains this round anew" in str(replace(LEAVING, turn=1))


def test_keys_stay_out_of_receipts_and_reprs(consent: Consent, tmp_path: Path) -> None:
    a_round(consent, 1)
    secret = (tmp_path / "consent.key").read_bytes()
    assert secret.hex() not in consent.path.read_text(encoding="utf-8")
    assert "0123" not in repr(consent)
    assert (tmp_path / "consent.key").stat().st_mode & 0o077 == 0
