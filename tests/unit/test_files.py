"""Files and folders of a person: whole, private, found by names that nobody shares, held by one kernel at a time."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fedart_nb._system.files import (
    FolderKeeper,
    locked,
    private_folder,
    set_aside,
    user_path,
    write_file,
    write_private,
)
from fedart_nb._system.folder_lock import FolderLock
from fedart_nb._system.folders import UserFolders, cache_folder, unique_folder
from fedart_nb._system.migration import move_old_files, named_folder
from fedart_nb.errors import SecAggError, SessionInUse, StorageError


@pytest.fixture
def loose_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_many_threads_write_one_file_and_nobody_fails_or_reads_half_of_it(tmp_path: Path) -> None:
    path = tmp_path / "room.json"
    texts = [json.dumps({"pad": letter * 50_000}).encode() for letter in "abcd"]
    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(lambda i: write_private(path, texts[i % 4]), range(80)):
            assert path.read_bytes() in texts
    assert [p.name for p in tmp_path.iterdir()] == ["room.json"]


WRITE = """
import sys
from pathlib import Path
from fedart_nb._system.files import write_private
path, letter = Path(sys.argv[1]), sys.argv[2].encode()
print("ready", flush=True)
sys.stdin.readline()
for i in range(200):
    write_private(path, letter * 50_000 * (1 + i % 2))
"""


def test_two_kernels_write_one_file_and_neither_fails_nor_reads_half_of_it(tmp_path: Path) -> None:
    path = tmp_path / "room.json"
    write_private(path, b"a" * 50_000)
    kernels = [
        subprocess.Popen(
            [sys.executable, "-c", WRITE, str(path), letter], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for letter in "ab"
    ]
    try:
        for kernel in kernels:
            assert kernel.stdout is not None
            assert kernel.stdout.readline() == "ready\n"
        for kernel in kernels:
            assert kernel.stdin is not None
            kernel.stdin.write("go\n")
            kernel.stdin.flush()
        whole = [letter * size for letter in (b"a", b"b") for size in (50_000, 100_000)]
        while any(kernel.poll() is None for kernel in kernels):
            assert path.read_bytes() in whole
        assert [kernel.returncode for kernel in kernels] == [0, 0]
    finally:
        for kernel in kernels:
            kernel.kill()
            kernel.communicate()
    assert [p.name for p in tmp_path.iterdir()] == ["room.json"]


def test_files_and_folders_are_private_whatever_the_umask(tmp_path: Path, loose_umask: None) -> None:
    folder = private_folder(tmp_path / "a" / "b")
    write_private(folder / "key", b"secret")
    assert [mode(folder.parent), mode(folder), mode(folder / "key")] == [0o700, 0o700, 0o600]
    write_file(folder / "handed-on" / "adapter", b"for others")
    assert mode(folder / "handed-on" / "adapter") == 0o666, "what is handed on is its owner's choice"


def test_a_full_disk_leaves_the_old_file_and_no_half_of_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "room.json"
    write_private(path, b"old")

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"room\.json.*No space left on device.*MiB are free"):
        write_private(path, b"new")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("room.json", b"old")]


def test_a_file_in_a_folder_s_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "rounds").write_bytes(b"")
    with pytest.raises(StorageError, match="rounds"):
        private_folder(tmp_path / "rounds")


def test_what_is_set_aside_never_replaces_what_was_set_aside_before(tmp_path: Path) -> None:
    for content in (b"one", b"two"):
        (tmp_path / "room.json").write_bytes(content)
        set_aside(tmp_path / "room.json")
    found = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert found == {"room.json.damaged-1": b"one", "room.json.damaged-2": b"two"}


NAMES = [
    *("Ada Lovelace", "Ada_Lovelace", "ada lovelace", "Ada!", "Ada?", "Ada.", "Ada", "ADA", "ada"),
    *(
        "🎨",
        "🐱",
        "🎨🐱",
        "...",
        "CON",
        "nul",
        "com1.txt",
        "x" * 59 + "a",
        "x" * 59 + "b",
        "..",
        "../Ada",
        "Straße",
        "STRASSE",
    ),
]


def test_different_names_are_different_folders_on_every_file_system(tmp_path: Path) -> None:
    folders = [unique_folder(name) for name in NAMES]
    assert len({folder.casefold() for folder in folders}) == len(NAMES)
    reserved = {"con", "nul", "prn", "aux", "com1", "lpt1"}
    for folder in folders:
        assert folder.partition(".")[0].lower() not in reserved
        assert not set(folder) & set('<>:"/\\|?*. ')
        assert len(folder.encode()) < 200
        private_folder(tmp_path / folder)


def test_one_name_in_two_unicode_forms_is_one_folder() -> None:
    assert unique_folder("Amélie") == unique_folder(unicodedata.normalize("NFD", "Amélie"))
    assert unique_folder(" Ada ") == unique_folder("Ada")


def test_the_older_folder_of_a_name_goes_to_who_comes_first_and_to_nobody_else(tmp_path: Path) -> None:
    (tmp_path / "Ada_Lovelace").mkdir()
    (tmp_path / "Ada_Lovelace" / "identity.key").write_bytes(b"old")
    first, told = named_folder(tmp_path, "Ada Lovelace")
    assert (first / "identity.key").read_bytes() == b"old"
    assert "Ada_Lovelace" in told
    second, told = named_folder(tmp_path, "Ada_Lovelace")
    assert (second.exists(), told) == (False, "")
    assert named_folder(tmp_path, "Ada Lovelace") == (first, "")


@pytest.fixture
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder without FEDART_HOME, as a user has it."""
    for name in ("FEDART_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_keys_and_ledgers_lie_under_two_roots_and_neither_is_a_cache(person: Path) -> None:
    folders = UserFolders.of_user()
    assert folders.data != folders.state
    for root in (folders.data, folders.state):
        assert root.is_relative_to(person)
        assert not root.is_relative_to(cache_folder())
        assert ".cache" not in root.parts


def test_what_an_older_version_kept_in_the_cache_moves_once_with_a_sentence(person: Path) -> None:
    old = person / ".cache" / "fedart_nb"
    for name in ("sessions/Ada/identity.key", "ledgers/ada-studio.jsonl", "hosts/Studio/room.json", "jupyter/settings"):
        (old / name).parent.mkdir(parents=True)
        (old / name).write_text(name)
    told = move_old_files()
    folders = UserFolders.of_user()
    assert (folders.data / "sessions/Ada/identity.key").read_text() == "sessions/Ada/identity.key"
    assert (folders.data / "hosts/Studio/room.json").exists()
    assert (folders.state / "ledgers/ada-studio.jsonl").exists()
    assert str(old) in told
    assert [p.name for p in old.iterdir()] == ["jupyter"], "a real cache stays"
    assert move_old_files() == ""


def test_a_move_that_a_crash_cut_short_goes_on_and_overwrites_nothing(person: Path) -> None:
    old, new = person / ".cache" / "fedart_nb" / "sessions", UserFolders.of_user().data / "sessions"
    for folder, text in ((old / "Ada", "old"), (old / "Ben", "old"), (new / "Ada", "new")):
        folder.mkdir(parents=True)
        (folder / "identity.key").write_text(text)
    told = move_old_files()
    assert [(new / name / "identity.key").read_text() for name in ("Ada", "Ben")] == ["new", "old"]
    assert (old / "Ada" / "identity.key").read_text() == "old"
    assert "in both places" in told


def test_tilde_is_the_home_folder(person: Path) -> None:
    assert user_path("~/art") == person / "art"


HOLD = """
import sys
from pathlib import Path
from fedart_nb._system.folder_lock import FolderLock
lock = FolderLock(Path(sys.argv[1]), title="The session of 'Ada'")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other_kernel(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "Ada")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_kernel_on_one_folder_is_told_who_has_it(tmp_path: Path, other_kernel: subprocess.Popen[str]) -> None:
    with pytest.raises(SessionInUse, match=rf"'Ada' is open in another kernel \(process {other_kernel.pid} on this"):
        FolderLock(tmp_path / "Ada", title="The session of 'Ada'")


def test_the_lock_of_a_killed_kernel_keeps_nobody_out(tmp_path: Path, other_kernel: subprocess.Popen[str]) -> None:
    other_kernel.kill()
    other_kernel.wait()
    assert (tmp_path / "Ada" / "in-use.json").exists(), "it had no time to clean up"
    assert FolderLock(tmp_path / "Ada", title="Ada").is_newest


def test_in_one_kernel_the_newest_holder_counts_and_the_folder_is_free_when_all_are_closed(tmp_path: Path) -> None:
    first = FolderLock(tmp_path, title="Ada")
    second = FolderLock(tmp_path / "." / "", title="Ada")
    assert (first.is_newest, second.is_newest) == (False, True)
    first.close()
    ask = [sys.executable, "-c", HOLD, str(tmp_path)]
    assert "SessionInUse" in subprocess.run(ask, capture_output=True, text=True, check=False, input="").stderr
    second.close()
    assert subprocess.run(ask, capture_output=True, text=True, check=False, input="").returncode == 0
    assert not second.is_newest


def test_a_lock_makes_its_folder(tmp_path: Path) -> None:
    with locked(tmp_path / "new" / "lock"):
        assert mode(tmp_path / "new") == 0o700


@pytest.mark.parametrize("damage", [b"", b"\0" * 7, b"\0" * 32, b"x" * 33])
def test_a_damaged_secret_is_kept_and_made_anew_only_where_nothing_was_said_under_it(
    tmp_path: Path, damage: bytes
) -> None:
    keeper, digest = FolderKeeper(tmp_path), "d" * 64
    secret = keeper.secret(digest)
    (path,) = tmp_path.glob("*.secret")
    path.write_bytes(damage)
    assert keeper.secret(digest) not in (secret, damage)
    assert path.with_name(path.name + ".damaged-1").read_bytes() == damage
    keeper.remember(digest, {"roster": "hash"})
    path.write_bytes(damage)
    with pytest.raises(SecAggError, match="the next one does not"):
        keeper.secret(digest)


@pytest.mark.parametrize("damage", [b"", b"\0\0\0", b"[]", b'{"roster": 3}', b"[" * 100_000])
def test_where_it_is_not_known_what_was_said_nothing_more_is_said(tmp_path: Path, damage: bytes) -> None:
    keeper, digest = FolderKeeper(tmp_path), "d" * 64
    keeper.remember(digest, {"roster": "hash"})
    (path,) = tmp_path.glob("*.json")
    path.write_bytes(damage)
    with pytest.raises(SecAggError, match=r"\.json.* is damaged"):
        keeper.remember(digest, {"roster": "another hash"})
    assert path.read_bytes() == damage
