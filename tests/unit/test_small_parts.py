"""Files, events and settings: the ground that everything stands on."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from fedart_nb._system import settings
from fedart_nb._system.files import folder_name, write_private
from fedart_nb.events import Note, RoundClosed, RoundOpened, Step, Trained, UpdateSent


def test_a_private_file_is_whole_readable_by_its_owner_only_and_replaced_in_one_go(tmp_path: Path) -> None:
    path = tmp_path / "room.json"
    write_private(path, b"one")
    write_private(path, b"two")
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["room.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "room.json"
    write_private(path, b"old")
    with pytest.raises(TypeError):
        write_private(path, "not bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize(("name", "folder"), [("Ada", "Ada"), ("../etc", "___etc"), ("名前 x", "名前_x")])
def test_a_name_becomes_a_harmless_folder(name: str, folder: str) -> None:
    assert folder_name(name) == folder


def test_events_read_as_sentences() -> None:
    assert str(Step(1, 20, 0.5, 0.25, 1.0)) == "step 1 of 20: loss 0.5000, held-out 0.2500"
    assert str(Trained(None, 3, 0.5, 0.4, 2.0)) == "trained 3 steps in 2 s: held-out loss 0.5000 before, 0.4000 after"
    assert str(Trained(None, 3, None, None, 2.0)) == "trained 3 steps in 2 s"
    assert str(RoundOpened(1, 2, ("Ada", "Ben"))) == "round 1 of 2 is open with Ada, Ben"
    assert str(UpdateSent(1, 676048, 0.5)) == "round 1: update sent, 676,048 bytes, norm 0.50"
    assert "from 3 artists" in str(RoundClosed(1, 2, 3))
    assert str(Note("Try again.", "error")) == "ERROR: Try again."


def test_thread_limits_come_from_the_environment_before_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPU_LIMIT", "1.5")
    monkeypatch.delenv("FEDART_THREADS", raising=False)
    assert settings.cpu_limit() == 1
    monkeypatch.setenv("FEDART_THREADS", "3")
    assert settings.cpu_limit() == 3


def test_on_binder_the_kernel_is_said_to_be_somebody_elses_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDART_BINDER", "1")
    where, foreign = settings.kernel_location()
    assert foreign
    assert "sample art" in where


def test_bfloat16_is_used_where_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDART_BF16", "1")
    assert settings.fast_bfloat16()
    monkeypatch.setenv("FEDART_BF16", "0")
    assert not settings.fast_bfloat16()


@pytest.mark.parametrize(("flags", "fast"), [("fpu avx512_bf16", True), ("fpu amx_bf16", True), ("avx2", False)])
def test_bfloat16_is_used_where_the_processor_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, flags: str, fast: bool
) -> None:
    monkeypatch.delenv("FEDART_BF16", raising=False)
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: f"processor : 0\nflags : {flags}\n")
    assert settings.fast_bfloat16() is fast
