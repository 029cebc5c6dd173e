"""A session's folder opens whatever is wrong in it: the damaged file is named and kept, the rest is read."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fedart_nb.consent import Consent
from fedart_nb.diffusion import Adapter, AdapterConfig, TrainConfig, TrainState
from fedart_nb.errors import SessionInUse, StorageError
from fedart_nb.federated import metadata_of, pack
from fedart_nb.session.store import SessionStore

pytestmark = [pytest.mark.usefixtures("home"), pytest.mark.filterwarnings("ignore::UserWarning")]

NAME = "unet.conv_in.lora_B.weight"
ADAPTER = Adapter(
    {f"conv_in.lora_{factor}.weight": np.ones((4, 4), np.float32) for factor in "AB"}, AdapterConfig(), "0" * 64
)
UPDATE = "rounds/update-1-0123456789abcdef.safetensors"
DAMAGE = {
    "empty": lambda data: b"",
    "zeros after a power cut": lambda data: b"\0" * len(data),
    "cut short": lambda data: data[: len(data) // 2],
    "another type": lambda data: b'["a list"]',
    "deep": lambda data: b"[" * 200_000,
    "binary": lambda data: bytes(range(256)) * 4,
}


def filled(folder: Path) -> SessionStore:
    """A session in the middle of a round, with everything that there can be."""
    store = SessionStore("Ada", folder)
    store.save_adapter("personal", ADAPTER)
    store.save_adapter("shared", ADAPTER)
    moments = {"state": {}, "param_groups": []}
    store.save_training(TrainState(ADAPTER, TrainConfig(steps=2), 1, moments, torch.Generator().get_state(), 0.5, 1.0))
    store.save_room({"room": "studio", "host": "h" * 32, "side": {"sent": []}, "bytes_sent": 7, "invite": "https://x"})
    store.save_without_me(pack({NAME: np.ones((4, 4), np.float32)}, {"shared": ADAPTER.digest}))
    store.keeper().secret("d" * 64)
    about = {"pictures": "2", "metrics": '{"loss_after": 0.5}', "trained_on": "a b"}
    (folder / UPDATE).write_bytes(pack({NAME: np.ones((4, 4), np.float32)}, about))
    consent = store.consent()
    consent.room = "studio"
    consent.stand()
    consent.mark("a")
    return store


def everything(store: SessionStore) -> dict[str, object]:
    """What a session reads of its folder, by the file it lies in."""
    consent = store.consent()
    consent.room = "studio"
    update = store.update(store.folder / UPDATE)
    return {
        "identity.key": store.identity.id,
        "personal/pytorch_lora_weights.safetensors": store.adapter("personal"),
        "shared/pytorch_lora_weights.safetensors": store.adapter("shared"),
        "personal.state": store.training(),
        "room.json": store.room(),
        "without-me.safetensors": metadata_of(store.without_me(ADAPTER.digest)).get("reason", "whole"),
        UPDATE: None if update is None else update[1]["trained_on"],
        "consent.jsonl": consent.receipts,
        "consent.key": consent.mark("a"),
    }


def reopened(store: SessionStore) -> SessionStore:
    store.close()
    return SessionStore("Ada", store.folder)


FILES = [
    *("identity.key", "personal/pytorch_lora_weights.safetensors", "shared/pytorch_lora_weights.safetensors"),
    *("personal.state", "room.json", "without-me.safetensors", UPDATE, "consent.jsonl", "consent.key"),
]


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", FILES)
def test_one_damaged_file_is_named_and_kept_and_the_rest_is_read(tmp_path: Path, name: str, damage: str) -> None:
    store = filled(tmp_path)
    before = everything(store)
    spoiled = DAMAGE[damage]((tmp_path / name).read_bytes())
    (tmp_path / name).write_bytes(spoiled)
    store = reopened(store)
    after = everything(store)
    assert (tmp_path / f"{name}.damaged-1").read_bytes() == spoiled
    assert Path(name).name in " ".join(store.warnings)
    assert after[name] != before[name]
    lost = {name}
    if name == "identity.key":
        lost |= {"consent.jsonl", "room.json", UPDATE}
        assert (tmp_path / "consent.jsonl.former-1").exists()
        assert (tmp_path / "rounds.former-1").exists()
        assert store.room()["side"] == {}
        assert store.room()["invite"] == "https://x", "the way back to the room is known"
    for other, value in before.items():
        if other not in lost:
            same = after[other].digest if isinstance(value, Adapter) else after[other]  # type: ignore[union-attr]
            if not isinstance(value, TrainState):
                assert same == (value.digest if isinstance(value, Adapter) else value), other
    again = reopened(store)
    assert everything(again).keys() == before.keys()
    assert again.warnings == [], "told once"


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_owner_s_file_only_is_written_anew(tmp_path: Path, damage: str) -> None:
    filled(tmp_path).close()
    path = tmp_path / "session.json"
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with SessionClosing(SessionStore("Ada", tmp_path)) as store:
        assert "session.json" in store.warnings[0]
    with pytest.raises(SessionInUse, match="the session of 'Ada'"):
        SessionStore("Ben", tmp_path)


class SessionClosing:
    """Closes a store at the end of a block."""

    def __init__(self, store: SessionStore) -> None:
        self.store = store

    def __enter__(self) -> SessionStore:
        return self.store

    def __exit__(self, *_: object) -> None:
        self.store.close()


def test_a_standing_consent_before_the_damage_ends_with_it(tmp_path: Path) -> None:
    store = filled(tmp_path)
    with (tmp_path / "consent.jsonl").open("ab") as file:
        file.write(b"\0" * 40)
    consent = reopened(store).consent()
    consent.room = "studio"
    assert not consent.standing, "whether it was taken back in what is unreadable, nobody knows"
    assert [r.body.get("choice") for r in consent.receipts if r.kind == "choice"] == ["stand", "ask"]


def test_receipts_that_are_signed_but_say_too_little_are_a_fault_of_the_file(tmp_path: Path) -> None:
    from fedart_nb.consent.receipts import check, signed

    store = SessionStore("Ada", tmp_path)
    me = store.identity
    first = signed(
        {"kind": "opened", "format": 1, "artist": me.id, "key": me.public_key.hex(), "time": "now"}, None, me
    )
    for body in ({"kind": "choice", "room": "studio"}, {"kind": "outcome"}, {"kind": "pictures", "set": "x"}, {}):
        fault = check([first.to_json(), signed(body, first, me).to_json()])
        assert fault is not None
        assert "says too little" in fault.why
    assert isinstance(store.consent(), Consent)


def test_an_unfinished_write_and_others_rights_are_cleaned_up_and_other_files_left_alone(tmp_path: Path) -> None:
    store = filled(tmp_path)
    (tmp_path / "rounds" / ".update-1.safetensors.0011223344556677.tmp").write_bytes(b"half an update in the clear")
    (tmp_path / "mine.tmp").write_bytes(b"a file of the user's own")
    for path in (tmp_path / "personal.state", tmp_path / "personal" / Adapter.FILE_NAME, tmp_path / "identity.key"):
        path.chmod(0o644)
    for path in (tmp_path / "personal", tmp_path / "rounds", tmp_path):
        path.chmod(0o755)
    reopened(store)
    assert not list((tmp_path / "rounds").glob("*.tmp"))
    assert (tmp_path / "mine.tmp").exists()
    (tmp_path / "mine.tmp").unlink()
    for path in [tmp_path, *tmp_path.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_everything_personal_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        filled(tmp_path / "sessions" / "ada")
    finally:
        os.umask(before)
    private = [path for path in (tmp_path / "sessions").rglob("*") if not path.name.startswith("update-")]
    for path in private:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_withdrawing_deletes_the_update_in_the_clear_and_every_secret(tmp_path: Path) -> None:
    store = filled(tmp_path)
    store.keeper().secret("e" * 64)
    (tmp_path / f"{UPDATE}.damaged-1").write_bytes(b"half of it in the clear")
    told = store.withdraw()
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert not [name for name in left if "update-" in name or ".secret" in name or "without-me" in name]
    assert "(5 files)" in told
    assert store.adapter("personal") is not None


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """A disk without room, from the moment when it is called."""

    def fill() -> None:
        def full(_handle: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)

    yield fill
    monkeypatch.undo()


def test_a_full_disk_loses_nothing_at_any_write(
    tmp_path: Path, full_disk: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    state = store.training()
    assert state is not None
    other = replace(ADAPTER, backbone_sha256="1" * 64)
    consent = store.consent()
    consent.room = "studio"
    full_disk()
    for write in (
        lambda: store.save_adapter("personal", other),
        lambda: store.save_training(state),
        lambda: store.save_room({"room": "other"}),
        lambda: store.save_without_me(b"x"),
        lambda: store.note("studio", "text", {}),
        lambda: store.keeper().secret("e" * 64),
        lambda: store.keeper().remember("e" * 64, {"roster": "x"}),
        consent.ask_again,
    ):
        with pytest.raises(StorageError, match="No space left on device"):
            write()
    store.save_training(state, or_tell=True)
    assert "The training goes on" in store.warnings[-1]
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert {path: data for path, data in after.items() if path.suffix != ".lock" and path.name != "lock"} == {
        path: data for path, data in before.items() if path.suffix != ".lock" and path.name != "lock"
    }


def test_an_adapter_s_folder_without_its_file_is_no_adapter(tmp_path: Path) -> None:
    store = SessionStore("Ada", tmp_path)
    (tmp_path / "personal").mkdir()
    assert store.adapter("personal") is None
    assert store.warnings == []


def test_a_throw_away_session_keeps_nothing_and_counts_by_itself() -> None:
    first, second = SessionStore("Ada", throwaway=True), SessionStore("Ada", throwaway=True)
    assert first.identity.id != second.identity.id
    assert first.folders != second.folders
    folder = first.folder
    first.close()
    assert not folder.exists()


def test_another_kernel_on_the_session_is_refused_until_it_is_closed(tmp_path: Path) -> None:
    store = filled(tmp_path)
    code = "import sys; from fedart_nb.session.store import SessionStore; SessionStore('Ada', sys.argv[1])"
    ask = [sys.executable, "-c", code, str(tmp_path)]
    refused = subprocess.run(ask, capture_output=True, text=True, check=False)
    assert f"The session of 'Ada' is open in another kernel (process {os.getpid()} on this computer" in refused.stderr
    store.close()
    assert subprocess.run(ask, capture_output=True, text=True, check=False).returncode == 0


def test_different_names_have_different_identities_and_forms_of_one_name_the_same() -> None:
    pairs = [("Ada!", "Ada?"), ("Ann B", "Ann_B"), ("🎨", "🐱"), ("ada", "Ada"), ("x" * 59 + "a", "x" * 59 + "b")]
    for one, other in pairs:
        assert SessionStore(one).identity != SessionStore(other).identity
    assert SessionStore("Ame\u0301lie").identity == SessionStore("Am\u00e9lie").identity
