"""Every file of one artist's session: private, written whole, one kernel at a time; a damaged one is set aside by name.

session.json             whose folder it is         identity.key       the signing key
room.json                the room it is in          consent.jsonl      receipts, with consent.key
personal/ shared/        the two adapters           personal.state     unfinished training
former/                  personal adapters that training replaced, the last five
rounds/                  secrets, what was said, the update that waits     ledgers/   what was spent
notes.jsonl              looks at updates           without-me.safetensors   one's own share of the shared adapter
"""

from __future__ import annotations

import json
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from .._system.files import (
    FolderKeeper,
    make_private,
    private_folder,
    read_json,
    set_aside,
    user_path,
    write_private,
)
from .._system.folder_lock import FolderLock
from .._system.folders import UserFolders, same_name, unique_folder
from .._system.migration import move_old_files, named_folder
from ..consent import Consent
from ..crypto.identity import Identity
from ..crypto.identity_file import identity_in
from ..diffusion import Adapter, TrainState
from ..errors import FedArtError, SessionInUse, StorageError, TrainingError
from ..federated import metadata_of, pack, unpack

__all__ = ["SessionStore"]

#: What reading a damaged file may end in.
_DAMAGE = (
    FedArtError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    RecursionError,
    MemoryError,
)
#: What belongs to an identity, and means nothing to a new one.
_OF_IDENTITY = ("consent.jsonl", "ledgers", "rounds")
#: So many personal adapters that training replaced are kept.
_FORMER = 5
_WITHOUT_ME = "without-me.safetensors"
_FILES = ("identity.key", "room.json", "consent.jsonl", "consent.key", "personal.state", "notes.jsonl", _WITHOUT_ME)
_FOLDERS = ("personal", "former", "shared", "rounds", "rooms", "rosters", "ledgers", "privacy", "consent")

_ROOM_LOST = (
    "The session does not know any more what it did in that room: join with the invite link again, and compare the "
    "words again."
)

_T = TypeVar("_T")
_Kind = Literal["personal", "shared"]


class SessionStore:
    """The folder of one session, open in this kernel alone.

    Args:
        name: whose session; another name's folder is refused.
        folder: where; in the user's data folder, by the name, unless given. `~` is the home folder.
        throwaway: put all of it, with ledgers and the tally, into a temporary folder that goes with the session.

    Attributes:
        folders: the user's folders, or those of a throw-away session: ledgers and the tally lie there too.
        warnings: sentences about what was found damaged, moved or set aside; also told by `warnings.warn`.

    Raises:
        SessionInUse: another kernel has the folder open, or it is another name's.
        StorageError: the folder cannot be made or written to.
    """

    def __init__(self, name: str, folder: str | Path | None = None, *, throwaway: bool = False) -> None:
        self.warnings: list[str] = []
        self._temporary = tempfile.TemporaryDirectory(prefix="fedart-session-") if throwaway else None
        if self._temporary is not None:
            self.folders = UserFolders.within(Path(self._temporary.name))
        else:
            self.folders = UserFolders.of_user()
            self._tell(move_old_files())
        self.folder = user_path(folder) if folder else self._folder_of(name)
        private_folder(self.folder)
        self._lock = FolderLock(self.folder, title=f"The session of {name!r}")
        try:
            self._check_owner(name)
            self._clean()
            self.identity = self._read_identity()
        except BaseException:
            self._lock.close()
            raise

    @property
    def is_newest(self) -> bool:
        """Whether no other session of this kernel has opened the folder since."""
        return self._lock.is_newest

    def close(self) -> None:
        """Let another kernel open the folder; a throw-away session is deleted."""
        self._lock.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    def consent(self) -> Consent:
        """The book of consent; receipts that are not whole are set aside, and those before the damage stay."""
        consent = Consent(self.folder, self.identity)
        self._tell(consent.mend())
        return consent

    def keeper(self) -> FolderKeeper:
        """What a round must not lose."""
        return FolderKeeper(self.folder / "rounds")

    # --- adapters and training ---

    def adapter(self, kind: _Kind) -> Adapter | None:
        """The saved adapter; None where there is none, or only a damaged one."""
        path = self.folder / kind / Adapter.FILE_NAME
        return self._read(path, lambda: Adapter.from_bytes(path.read_bytes()), f"There is no {kind} adapter now.")

    def save_adapter(self, kind: _Kind, adapter: Adapter) -> None:
        """Save it for this user alone; when that fails, the former one is whole."""
        folder = private_folder(self.folder / kind)
        write_private(folder / Adapter.FILE_NAME, adapter.to_bytes())

    def former_adapters(self) -> list[Adapter]:
        """The personal adapters that training replaced, the newest last; damaged ones are set aside."""
        found = []
        for path in sorted((self.folder / "former").glob("*.safetensors")):
            read = self._read(path, partial(_adapter_in, path), "There is one less to go back to.")
            found += [read] if read is not None else []
        return found

    def keep_former(self, adapter: Adapter) -> None:
        """Keep a personal adapter that is about to be replaced; of those kept before, the newest few stay."""
        folder = private_folder(self.folder / "former")
        kept = sorted(folder.glob("*.safetensors"))
        number = int(kept[-1].name.partition("-")[0]) + 1 if kept else 1
        write_private(folder / f"{number:06}-{adapter.digest[:12]}.safetensors", adapter.to_bytes())
        for path in kept[: max(0, len(kept) + 1 - _FORMER)]:
            path.unlink(missing_ok=True)

    def forget_former(self, adapter: Adapter) -> None:
        """An adapter is in use again."""
        for path in (self.folder / "former").glob(f"*-{adapter.digest[:12]}.safetensors"):
            path.unlink(missing_ok=True)

    def save_trained_on(self, adapter: Adapter, pictures: Sequence[str], *, noised: bool) -> None:
        """Remember which pictures (`Picture.sha256`) a personal adapter learnt from, and whether with noise."""
        known = list(self._trainings().items())[-_FORMER:]
        about = {**dict(known), adapter.digest: {"pictures": list(pictures), "noised": noised}}
        write_private(self.folder / "personal" / "trained-on.json", json.dumps(about).encode())

    def trained_on(self, adapter: Adapter) -> tuple[list[str], bool] | None:
        """That again; None where it is not known of this adapter."""
        about = self._trainings().get(adapter.digest)
        return (about["pictures"], about["noised"]) if about else None

    def _trainings(self) -> dict[str, dict[str, Any]]:
        path = self.folder / "personal" / "trained-on.json"

        def read() -> dict[str, dict[str, Any]]:
            data: Any = read_json(path)
            for about in data.values():
                if not all(isinstance(one, str) for one in about["pictures"]) or not isinstance(about["noised"], bool):
                    raise TypeError
            return dict(data)

        return self._read(path, read, "Which pictures the personal adapter learnt from is not known any more.") or {}

    def training(self) -> TrainState | None:
        """The last saved state of an unfinished training."""
        path = self.folder / "personal.state"
        return self._read(path, lambda: TrainState.load(path), "The unfinished training cannot be resumed.")

    def save_training(self, state: TrainState, *, or_tell: bool = False) -> None:
        """Save it; `or_tell` only warns where the disk is full, so that training goes on."""
        try:
            state.save(self.folder / "personal.state")
        except StorageError as error:
            if not or_tell:
                raise
            self._tell(f"The training goes on, and cannot be resumed if the kernel ends: {error}")

    def forget_training(self) -> None:
        """Training is over."""
        (self.folder / "personal.state").unlink(missing_ok=True)

    # --- the room ---

    def room(self, room: str = "") -> dict[str, Any]:
        """What was saved of a room: "room", "host", "side", "bytes_sent", perhaps "invite"; {} where nothing is known.

        `room`: by the name that ledgers give it, also one that was left for another; the newest one by default.
        """
        for path in (self.folder / "room.json", self._kept_room(room))[: 2 if room else 1]:
            data = self._read(path, lambda path=path: _room_in(path), _ROOM_LOST)  # type: ignore[misc]
            if data is not None and room in ("", _room_of(data)):
                return data
        return {}

    def room_is_damaged(self, room: str) -> None:
        """What was saved of a room cannot be used: set it aside."""
        newest = self.folder / "room.json"
        path = newest if newest.exists() and _room_of(_room_in(newest)) == room else self._kept_room(room)
        self._set_aside(path, _ROOM_LOST)

    def keep_room(self) -> None:
        """The room is left, perhaps for another one: who comes back to it has not forgotten its rounds."""
        if kept := self.room():
            target = self._kept_room(_room_of(kept))
            private_folder(target.parent)
            (self.folder / "room.json").replace(target)

    def _kept_room(self, room: str) -> Path:
        return self.folder / "rooms" / f"{unique_folder(room)}.json"

    def save_room(self, data: Mapping[str, Any]) -> None:
        """Save it."""
        write_private(self.folder / "room.json", json.dumps(dict(data)).encode())

    def has_update(self, number: int) -> bool:
        """Whether an update of a round lies here, from this kernel or one before."""
        return any((self.folder / "rounds").glob(f"update-{number}-*.safetensors"))

    def forget_updates(self, *, number: int | None = None) -> int:
        """Delete the updates of a round that is over, of all rounds by default; returns how many there were."""
        gone = list((self.folder / "rounds").glob("update-*" if number is None else f"update-{number}-*"))
        for path in gone:
            path.unlink(missing_ok=True)
        return len(gone)

    def withdraw(self) -> str:
        """Delete what this session sent, as far as it lies here in the clear; returns that as a sentence."""
        gone = self.forget_updates()
        for path in [*(self.folder / "rounds").glob("*.secret*"), *self.folder.glob(f"{_WITHOUT_ME}*")]:
            path.unlink(missing_ok=True)
            gone += 1
        return (
            "Deleted on this computer: your updates in the clear, their losses, the ids of the pictures they were "
            f"trained on, and the secrets of every try ({gone} file{'s' * (gone != 1)}). Your pictures, adapters, "
            "receipts and ledgers stay: what was spent is not paid back."
        )

    # --- updates ---

    def update(self, path: Path) -> tuple[dict[str, NDArray[np.float32]], dict[str, str]] | None:
        """An update that waits, with what is known of it; None where it is damaged or gone."""

        def read() -> tuple[dict[str, NDArray[np.float32]], dict[str, str]]:
            data = path.read_bytes()
            about = metadata_of(data)
            if int(about["pictures"]) < 0 or not isinstance(json.loads(about["metrics"]), dict):
                raise ValueError
            return dict(unpack(data)), about

        return self._read(path, read, "The round's update is trained again.")

    def without_me(self, shared: str) -> bytes:
        """What takes this artist's own share out of the shared adapter of that digest; b"" where nothing is known."""
        path = self.folder / _WITHOUT_ME
        if not path.exists():
            return b""

        def read() -> bytes:
            data = path.read_bytes()
            metadata_of(data)
            unpack(data)
            return data

        data = self._read(path, read, "What the others taught cannot be told from what you taught any more.")
        if data is None:
            data = pack({}, {"shared": shared, "reason": "the file that remembers your own rounds was damaged"})
            self.save_without_me(data)
        return data

    def save_without_me(self, data: bytes) -> None:
        """Save it."""
        write_private(self.folder / _WITHOUT_ME, data)

    def note(self, room: str, text: str, record: Mapping[str, Any]) -> None:
        """Add a line to `notes.jsonl`."""
        notes = self.folder / "notes.jsonl"
        kept = notes.read_bytes() if notes.exists() else b""
        line = json.dumps({"room": room, "time": int(time.time()), "text": text, "record": dict(record)})
        write_private(notes, kept + b"\n" * bool(kept and not kept.endswith(b"\n")) + line.encode() + b"\n")

    # --- opening ---

    def _folder_of(self, name: str) -> Path:
        folder, renamed = named_folder(self.folders.data / "sessions", name)
        self._tell(renamed)
        return folder

    def _check_owner(self, name: str) -> None:
        path = self.folder / "session.json"

        def read() -> str:
            data = read_json(path)
            if not isinstance(data, dict) or not isinstance(data["name"], str):
                raise TypeError
            return data["name"]

        owner = self._read(path, read, "It only says whose session it is, and is written anew.")
        if owner is not None and same_name(owner) != same_name(name):
            raise SessionInUse(
                f"{str(self.folder)!r} is the session of {owner!r}, and you asked for {name!r}: they would share one "
                f"key. Open it as {owner!r}, or give {name!r} another folder."
            )
        if owner is None:
            write_private(path, json.dumps({"format": 1, "name": same_name(name)}).encode())

    def _clean(self) -> None:
        """Remove what interrupted writes left behind, and others' rights; of files that are ours alone."""
        for path in [self.folder, *(self.folder / name for name in _FOLDERS)]:
            for left in [*path.glob(".*.tmp"), *(path.glob("*.tmp") if path != self.folder else ())]:
                left.unlink(missing_ok=True)
        for name in ("room.json.tmp", "consent.jsonl.tmp", "personal.tmp"):  # of an older version
            (self.folder / name).unlink(missing_ok=True)
        make_private([self.folder / name for name in (*_FILES, *_FOLDERS)])

    def _read_identity(self) -> Identity:
        room: dict[str, Any] = {}
        identity, told = identity_in(self.folder, _OF_IDENTITY)
        if told:
            room = self.room()
        if room:
            self.save_room({**room, "side": {}})  # the way back to the room is known, what was done there is not
        self._tell(told)
        return identity

    def _read(self, path: Path, read: Callable[[], _T], lost: str) -> _T | None:
        """What `read` gives; None where there is no such file, or a damaged one, which is set aside."""
        if not path.exists():
            return None
        try:
            return read()
        except PermissionError as error:
            self._tell(f"{str(path)!r} cannot be read: {error.strerror}. {lost}")
        except TrainingError as error:
            if isinstance(error.__cause__, PermissionError):
                self._tell(f"{str(path)!r} cannot be read: {error.__cause__.strerror}. {lost}")
            else:
                self._set_aside(path, lost)
        except (*_DAMAGE, OSError):
            self._set_aside(path, lost)
        return None

    def _set_aside(self, path: Path, lost: str) -> None:
        damaged = set_aside(path)
        self._tell(f"{path.name} in {str(path.parent)!r} is damaged, and is kept as {damaged.name}. {lost}")

    def _tell(self, sentence: str) -> None:
        if sentence and sentence not in self.warnings:
            self.warnings.append(sentence)
            warnings.warn(sentence, UserWarning, stacklevel=4)


def _adapter_in(path: Path) -> Adapter:
    return Adapter.from_bytes(path.read_bytes())


def _room_in(path: Path) -> dict[str, Any]:
    data = read_json(path)
    if not isinstance(data, dict) or not isinstance(data["side"], dict):
        raise TypeError("a room is an object with a side")
    if not all(isinstance(data.get(key, ""), str) for key in ("room", "host", "invite")):
        raise TypeError("a room, a host and an invite are texts")
    if "" in (data["room"], data["host"]) or type(data.get("bytes_sent", 0)) is not int:
        raise TypeError("a room has a name and a host")
    return data


def _room_of(kept: Mapping[str, Any]) -> str:
    return f"{kept['room']}-{kept['host'][:16]}"
