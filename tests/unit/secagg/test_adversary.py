"""A host that plays foul in ways that are no other project's pitfall, and an artist that wants to stop everybody."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from sums import BINDING, HOST, Sum, identity

from fedart_nb._system.files import FolderKeeper
from fedart_nb.crypto import safety_number as safety
from fedart_nb.errors import SecAggError
from fedart_nb.secagg import keys as keys_module
from fedart_nb.secagg import masks, shamir
from fedart_nb.secagg.client import SecAggClient
from fedart_nb.secagg.graph import risks, threshold_of
from fedart_nb.secagg.messages import Entry, Kind, Roster, signed

ADA = 0


@pytest.mark.parametrize("agreed", [2, 0], ids=["weak", "ours"])
def test_a_host_cannot_choose_so_sparse_a_graph_that_two_colluders_open_an_update(agreed: int) -> None:
    """Ten artists, two neighbours each: a threshold of two. On the complete graph it takes seven."""
    room = Sum(artists=10)
    room.server = type(room.server)(HOST, BINDING, room.size, degree=2)
    room.clients = [room.build(i, degree=agreed) for i in range(10)]
    for i, client in enumerate(room.clients):
        room.server.advertise(room.id(i), client.advertise())
    sparse = room.server.roster()
    if agreed == 0:
        with pytest.raises(SecAggError, match="The roster gives everybody 2 neighbours, agreed were all"):
            room.clients[ADA].share(sparse)
        return
    deliveries = room.share(sparse)
    room.clients[ADA].receive(deliveries[room.id(ADA)])
    stolen = np.frombuffer(room.clients[ADA].mask(room.vectors[ADA])[33:-64], "<u4").copy()
    known = room.server._known()
    me = known.position(room.id(ADA))
    colluders = [i for i in range(10) if known.position(room.id(i)) in known.neighbours[me]]
    held = {}
    for i in colluders:
        room.clients[i].receive(deliveries[room.id(i)])
        held[known.position(room.id(i)) + 1] = room.clients[i]._held[me]
    b, s = (shamir.combine({x: box[at] for x, box in held.items()}, threshold=2) for at in (slice(33), slice(33, 66)))
    expander = masks.Expander()
    expander.add(stolen, keys_module.mask_key_of_private(b, known.context), sign=-1)
    private = X25519PrivateKey.from_private_bytes(s)
    for other in known.neighbours[me]:
        key = keys_module.pair_mask_key(private, known.entries[me].mask, known.entries[other].mask, known.context)
        expander.add(stolen, key, sign=-1 if me < other else 1)
    np.testing.assert_array_equal(stolen, room.vectors[ADA], "both neighbours collude: the update lies open")


def test_a_roster_of_fewer_artists_than_agreed_is_refused() -> None:
    room = Sum(artists=4)
    ada = room.build(ADA, at_least=5)
    with pytest.raises(SecAggError, match="The roster has 4 artists, agreed were at least 5"):
        ada.share(room.advertise())


@pytest.mark.parametrize("place", ["box", "mask"])
def test_a_key_that_nobody_can_use_is_refused_at_the_door_so_that_it_stops_nobody_else(place: str) -> None:
    room = Sum()
    mallory = identity(30)
    good = {"box": X25519PrivateKey.generate().public_key().public_bytes_raw(), "mask": b"m" * 32, place: bytes(32)}
    message = signed(mallory, Kind.ADVERTISE, BINDING, mallory.public_key + good["box"] + good["mask"])
    assert Entry.read(BINDING, message).id == mallory.id, "signed as it should be"
    with pytest.raises(SecAggError, match="no usable X25519 public key"):
        room.server.advertise(mallory.id, message)
    np.testing.assert_array_equal(room.run(), room.total(range(5)))


def test_two_kernels_on_one_folder_never_say_two_things(tmp_path: Path) -> None:
    """A notebook opened twice: both kernels know the same secret, and neither what the other one does."""
    room = Sum()
    keeper = FolderKeeper(tmp_path)

    def kernel() -> SecAggClient:
        return SecAggClient(
            identity(ADA),
            HOST.public_key,
            BINDING,
            keeper.secret("d" * 64),
            state=keeper.state("d" * 64),
            remember=lambda state: keeper.remember("d" * 64, state),
        )

    room.clients[ADA] = kernel()
    second = kernel()
    roster = room.advertise()
    deliveries = room.share(roster)
    assert second.share(roster) == room.clients[ADA].share(roster)
    for client in (room.clients[ADA], second):
        client.receive(deliveries[room.id(ADA)])
    first = room.clients[ADA].mask(room.vectors[0])
    with pytest.raises(SecAggError, match=r"Another kernel on .* has already said something else in the step 'words'"):
        second.mask(room.vectors[1])
    assert kernel().advertise()
    assert room.clients[ADA].mask(room.vectors[0]) == first


def test_what_two_kernels_remember_is_kept_together(tmp_path: Path) -> None:
    keeper = FolderKeeper(tmp_path)
    keeper.remember("d" * 64, {"binding": "1", "words": "2"})
    keeper.remember("d" * 64, {"binding": "1", "roster": "3"})
    assert keeper.state("d" * 64) == {"binding": "1", "words": "2", "roster": "3"}
    assert json.loads((tmp_path / f"{'d' * 32}.json").read_text()) == keeper.state("d" * 64)


def test_a_vector_that_is_written_into_the_message_gives_the_same_message_in_one_vector_s_memory() -> None:
    room = Sum(size=2**20)
    deliveries = room.share(room.advertise())
    ada = room.clients[ADA]
    ada.receive(deliveries[room.id(ADA)])
    message = ada.mask(room.vectors[0])
    tracemalloc.start()
    again = ada.mask_written(len(room.vectors[0]), lambda body: np.copyto(body, room.vectors[0]))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert again == message
    assert peak < 1.3 * len(message)


def test_the_chances_of_a_sparse_graph_are_those_of_counting_all_cases() -> None:
    """Six artists of degree two: all sets of who is gone, or colludes, counted one by one."""
    from itertools import combinations

    n, degree = 6, 2
    failing = opened = 0
    cases = list(combinations(range(n), 3))
    for chosen in cases:
        for artist in range(n):
            near = {(artist - 1) % n, (artist + 1) % n}
            holders = (near | {artist}) - set(chosen)
            failing += len(holders) < threshold_of(n, degree)
            opened += artist not in chosen and len(near & set(chosen)) >= threshold_of(n, degree)
    failed, _ = risks(n, degree, gone=3, colluders=0)
    assert failed == min(1.0, failing / len(cases))
    _, seen = risks(n, degree, gone=0, colluders=3)
    assert seen == pytest.approx(min(1.0, 6 * opened / len(cases) / 3)), "of the three honest ones, each as likely"


def test_the_safety_number_s_hash_is_slow_because_who_plays_host_may_try_keys_until_two_views_agree() -> None:
    """Six words are 66 bits; two views that agree are found after about 2^33 keys each (a birthday)."""
    import hashlib

    number = safety.SafetyNumber.of("studio", "a" * 32, ["b" * 32, "c" * 32])
    said = "\n".join(["studio", "a" * 32, "b" * 32, "c" * 32]).encode()
    slow = hashlib.scrypt(said, salt=b"fedart-safety-number-v2\n", n=2**15, r=8, p=1, maxmem=2**26, dklen=32)
    assert number.digest == slow, "scrypt (RFC 7914): 32 MiB and a tenth of a second for every try"


def test_a_roster_s_degree_is_part_of_what_everybody_signs() -> None:
    room = Sum(artists=8)
    roster = Roster.read(HOST.public_key, BINDING, room.advertise())
    assert Roster.of(BINDING, roster.entries, 2).context != roster.context
