"""Identities: keys that sign, stay private and survive."""

from __future__ import annotations

import copy
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from fedart_nb.crypto.identity import Identity, identity_id, verify
from fedart_nb.errors import WireError

if TYPE_CHECKING:
    from pathlib import Path


def test_the_id_is_the_hash_of_the_public_key() -> None:
    me = Identity.generate()
    assert me.id == hashlib.sha256(me.public_key).hexdigest()[:32] == identity_id(me.public_key)


def test_a_signature_fits_only_its_key_and_message() -> None:
    me, other = Identity.generate(), Identity.generate()
    signature = me.sign(b"message")
    assert verify(me.public_key, signature, b"message")
    assert not verify(me.public_key, signature, b"massage")
    assert not verify(other.public_key, signature, b"message")
    assert not verify(b"short", signature, b"message")
    assert not verify(me.public_key, b"short", b"message")


def test_it_comes_back_from_its_file_which_only_the_owner_may_read(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "identity.pem"
    me = Identity.load_or_create(path)
    assert Identity.load_or_create(path) == me
    assert [entry.name for entry in path.parent.iterdir()] == ["identity.pem"]
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o600
        path.chmod(0o644)
        Identity.load_or_create(path)
        assert path.stat().st_mode & 0o777 == 0o600


def test_many_at_once_end_with_one_identity(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: Identity.load_or_create(tmp_path / "identity.pem").id, range(16)))
    assert len(set(made)) == 1


def test_a_damaged_file_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "identity.pem"
    path.write_bytes(b"not a key")
    with pytest.raises(WireError, match=r"identity\.pem is not an Ed25519 private key"):
        Identity.load_or_create(path)
    assert path.read_bytes() == b"not a key"


def test_the_private_key_does_not_leave_by_repr_or_copy() -> None:
    me = Identity.generate()
    assert repr(me) == f"Identity(id={me.id!r})"
    with pytest.raises(TypeError, match="cannot be copied"):
        copy.deepcopy(me)
