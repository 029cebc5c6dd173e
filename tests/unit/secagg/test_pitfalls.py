"""Nineteen ways in which secure aggregation went wrong elsewhere: the attack works on a weakened variant, not on ours.

 1 masks from a generator not made for secrets         flwr, declearn, Dordis, OpenFL, FedML
 2 the key folded into a short seed                    flwr 1.42 (28 to 32 bits), OpenFL
 3 one random number for all coordinates               OpenFL 1.9
 4 the server rebuilds every secret during setup       OpenFL 1.9
 5 secrets that can be guessed (seeded by rank)        FedML 2024
 6 shares pass the server in the clear                 FedML 0.9.6
 7 one secret for the group                            APPFL
 8 masks used twice                                    MicroSecAgg (broken in 2410.09676)
 9 a server that lies about who dropped out            flwr `_unmask`
10 different models for different artists              Pasquini et al. 2111.07380
11 keys without signatures                             flwr, OpenFL, Fed-BioMed
12 two artists                                         flwr, Fed-BioMed
13 a sum that wraps in silence                         flwr, Fed-BioMed at ten nodes
14 numbers about an artist beside the masked vector    flwr
15 two sums that differ by one artist                  all
16 coordinates that one artist alone can change        2508.04285
17 "aggregated, therefore private"                     Ngo et al. 2403.17775
18 too few shares combine to garbage                   a prototype of ours
19 an artist who sends poison                          all
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import weak
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from sums import BINDING, HOST, Sum, identity

import fedart_nb.secagg
from fedart_nb.errors import RoundError, SecAggError
from fedart_nb.federated import Simulation, unpack
from fedart_nb.secagg import keys as keys_module
from fedart_nb.secagg import masks, messages, shamir
from fedart_nb.secagg.client import BOX_BYTES, SecAggClient
from fedart_nb.secagg.encoding import Field, FixedPoint
from fedart_nb.secagg.keys import RoundKeys
from fedart_nb.secagg.messages import Kind, Roster, bitmap, signed
from fedart_nb.secagg.server import SecAggServer

KEY = bytes(range(1, 33))
ADA, BEN = 0, 1


def hidden(prg: weak.Prg, words: np.ndarray) -> np.ndarray:
    return words + prg(KEY, len(words))


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.astype(np.float64), b.astype(np.float64))[0, 1])


@pytest.fixture
def words() -> np.ndarray:
    """An encoded update whose first 700 values are known to be zero (a layer that was not trained)."""
    code = FixedPoint([Field("x", 3000, 1.0)], 8)
    values = np.random.default_rng(0).normal(0, 0.1, 3000)
    values[:700] = 0.0
    return code.encode({"x": values}).words


@pytest.mark.parametrize(("prg", "broken"), [(weak.mersenne, True), (masks.expand, False)], ids=["weak", "ours"])
def test_pitfall_01_a_mask_is_not_predicted_from_its_beginning(prg: weak.Prg, broken: bool, words: np.ndarray) -> None:
    seen = hidden(prg, words)
    known = seen[:624] - words[:624]
    found = seen[624:3000] - weak.predict_mersenne(known, 3000 - 624)
    assert np.array_equal(found, words[624:3000]) is broken


@pytest.mark.parametrize(("prg", "broken"), [(weak.folded, True), (masks.expand, False)], ids=["weak", "ours"])
def test_pitfall_02_no_search_over_short_seeds_finds_the_mask(prg: weak.Prg, broken: bool, words: np.ndarray) -> None:
    seen = hidden(prg, words)
    seed = weak.brute_force(seen[:4] - words[:4])
    assert (seed is not None) is broken
    if seed is not None:
        assert np.array_equal(seen - masks.expand(weak.guess_key(seed), len(seen)), words)


@pytest.mark.parametrize(("prg", "broken"), [(weak.scalar, True), (masks.expand, False)], ids=["weak", "ours"])
def test_pitfall_03_differences_between_coordinates_are_hidden(prg: weak.Prg, broken: bool, words: np.ndarray) -> None:
    seen = hidden(prg, words)
    differences = (seen - seen[0]).astype(np.int32)
    truth = (words - words[0]).astype(np.int32)
    assert np.array_equal(differences, truth) is broken
    if not broken:
        assert abs(correlation(differences, truth)) < 0.1


def steal_from_setup(room: Sum) -> np.ndarray | None:
    """What a server that reads the shares in the setup messages learns of Ada's vector."""
    roster = room.advertise()
    sent = [client.share(roster) for client in room.clients]
    for i, message in enumerate(sent):
        room.server.share(room.id(i), message)
    known = room.server._known()
    me = known.position(room.id(ADA))
    boxes = [sent[ADA][33:-64][-4 * BOX_BYTES :][i * BOX_BYTES : (i + 1) * BOX_BYTES] for i in range(4)]
    holders = [h + 1 for h in known.neighbours[me]]
    pick = slice(0, known.threshold)
    try:
        b, s = (shamir.combine_many([[box[at : at + 33] for box in boxes[pick]]], holders[pick])[0] for at in (0, 33))
        private = X25519PrivateKey.from_private_bytes(s)
    except SecAggError:
        return None
    deliveries = room.server.deliveries()
    room.clients[ADA].receive(deliveries[room.id(ADA)])
    masked = room.clients[ADA].mask(room.vectors[ADA])
    vector = np.frombuffer(masked[33:-64], "<u4").copy()
    expander = masks.Expander()
    expander.add(vector, keys_module.mask_key_of_private(b, known.context), sign=-1)
    for other in known.neighbours[me]:
        key = keys_module.pair_mask_key(private, known.entries[me].mask, known.entries[other].mask, known.context)
        expander.add(vector, key, sign=-1 if me < other else 1)
    return vector


@pytest.mark.parametrize("broken", [True, False], ids=["weak", "ours"])
def test_pitfall_04_and_06_who_carries_the_shares_cannot_rebuild_a_secret(
    broken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if broken:
        monkeypatch.setattr(RoundKeys, "seal", weak.clear_seal)
        monkeypatch.setattr(RoundKeys, "open", lambda _keys, _theirs, _context, box: box[:-16])
    room = Sum()
    stolen = steal_from_setup(room)
    assert (stolen is not None and np.array_equal(stolen, room.vectors[ADA])) is broken


def test_pitfall_05_secrets_come_from_the_operating_system_and_from_nothing_that_can_be_guessed(tmp_path: Any) -> None:
    from fedart_nb._system.files import FolderKeeper

    def by_rank(rank: int) -> bytes:  # FedML: the secret key is seeded by the client's number
        return rank.to_bytes(32, "big")

    guesses = {RoundKeys(by_rank(rank), BINDING).mask_public for rank in range(100)}
    assert RoundKeys(by_rank(3), BINDING).mask_public in guesses, "the attack works on keys by rank"
    ours = [FolderKeeper(tmp_path / str(i)).secret("a" * 64) for i in range(20)]
    assert len(set(ours)) == 20
    assert not guesses & {RoundKeys(secret, BINDING).mask_public for secret in ours}


@pytest.mark.parametrize("broken", [True, False], ids=["weak", "ours"])
def test_pitfall_07_a_member_cannot_take_another_member_s_masks_off(
    broken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if broken:
        monkeypatch.setattr(RoundKeys, "pair_mask_key", weak.group_key)
    room = Sum()
    room.masked(room.share(room.advertise()))
    known = room.server._known()
    ada, cy = known.entries[known.position(room.id(0))], known.entries[known.position(room.id(2))]
    between_ada_and_cy = room.clients[0]._keys.pair_mask_key(cy.mask, known.context)
    what_ben_can_make = {
        room.clients[BEN]._keys.pair_mask_key(e.mask, known.context) for e in known.entries if e.id != room.id(BEN)
    }
    assert (between_ada_and_cy in what_ben_can_make) is broken
    assert ada.mask != cy.mask


@pytest.mark.parametrize(("client", "broken"), [(weak.Forgetful, True), (SecAggClient, False)], ids=["weak", "ours"])
def test_pitfall_08_two_vectors_never_hide_behind_the_same_masks(client: type[SecAggClient], broken: bool) -> None:
    room = Sum(client=client)
    deliveries = room.share(room.advertise())
    ada = room.clients[ADA]
    ada.receive(deliveries[room.id(ADA)])
    first = np.frombuffer(ada.mask(room.vectors[0])[33:-64], "<u4")
    if not broken:
        for again in (ada, room.build(ADA)):  # the same kernel, or one that was killed and restarted
            if again.roster is None:
                again.share(room.server._known().message(HOST))
                again.receive(deliveries[room.id(ADA)])
            with pytest.raises(SecAggError, match="what the masks hide"):
                again.mask(room.vectors[1])
        return
    second = np.frombuffer(ada.mask(room.vectors[1])[33:-64], "<u4")
    assert np.array_equal(second - first, room.vectors[1] - room.vectors[0]), "the difference of both lies open"


@pytest.mark.parametrize(("client", "broken"), [(weak.Forgetful, True), (SecAggClient, False)], ids=["weak", "ours"])
def test_pitfall_09_a_server_that_lies_about_survivors_does_not_get_both_kinds_of_shares(
    client: type[SecAggClient], broken: bool
) -> None:
    """The server has Ada's vector. It tells everybody first that it counts, then that she has dropped out."""
    room = Sum(client=client)
    confirmed = room.confirm(room.masked(room.share(room.advertise())))
    helpers = (1, 2, 3, 4)
    honest = {i: room.clients[i].unmask(confirmed)[33:-64] for i in helpers}
    known = room.server._known()
    me = known.position(room.id(ADA))
    without = [i for i in range(5) if i != me]
    lie = signed(HOST, Kind.SURVIVORS, known.context, bitmap(without, 5))
    if not broken:
        for i in helpers:
            with pytest.raises(SecAggError, match="second time"):
                room.clients[i].confirm(lie)
        return
    signatures = {known.position(room.id(i)): room.clients[i].confirm(lie)[-64:] for i in helpers}
    body = bitmap(without, 5) + b"".join(signatures[i] for i in sorted(signatures))
    second = signed(HOST, Kind.CONFIRMED, known.context, body)
    dishonest = {i: room.clients[i].unmask(second)[33:-64] for i in helpers}
    at = slice(33 * me, 33 * me + 33)
    holders = {known.position(room.id(i)) + 1: i for i in helpers}
    b = shamir.combine({x: honest[i][at] for x, i in holders.items()}, threshold=known.threshold)
    s = shamir.combine({x: dishonest[i][at] for x, i in holders.items()}, threshold=known.threshold)
    assert b == room.clients[ADA]._keys.private_seed(known.context)
    assert s == room.clients[ADA]._keys.mask_secret(), "both kinds: all of Ada's masks come off"


def test_pitfall_09_two_halves_that_are_told_different_things_release_nothing() -> None:
    room = Sum()
    survivors = room.masked(room.share(room.advertise()))
    known = room.server._known()
    ben = known.position(room.id(BEN))
    lie = signed(HOST, Kind.SURVIVORS, known.context, bitmap([i for i in range(5) if i != ben], 5))
    told = {0: lie, 1: survivors, 2: survivors, 3: survivors, 4: lie}
    signatures = {known.position(room.id(i)): room.clients[i].confirm(m)[-64:] for i, m in told.items()}
    body = bitmap(range(5), 5) + b"".join(signatures[i] for i in sorted(signatures))
    mixed = signed(HOST, Kind.CONFIRMED, known.context, body)
    for client in room.clients:
        with pytest.raises(SecAggError, match="Nothing was released"):
            client.unmask(mixed)


@pytest.mark.parametrize("broken", [True, False], ids=["weak", "ours"])
def test_pitfall_10_with_different_models_for_different_artists_the_masks_do_not_cancel(broken: bool) -> None:
    """Pasquini et al.: the others get a model on which their updates are zero, so the sum is Ada's update."""

    def view(number: int) -> bytes:
        return BINDING if broken or number == ADA else b"\x66" * 32

    room = Sum(binding=view)
    room.vectors = [room.vectors[0], *[np.zeros_like(room.vectors[0])] * 4]
    if broken:
        assert np.array_equal(room.run(), room.vectors[ADA]), "one view for all keys: the sum shows Ada's update"
        return
    room.server.advertise(room.id(ADA), room.clients[ADA].advertise())
    with pytest.raises(SecAggError, match="another plan, shared adapter or roster"):
        room.server.advertise(room.id(BEN), room.clients[BEN].advertise())
    ada = RoundKeys(b"a" * 32, BINDING)
    ben_here, ben_there = RoundKeys(b"b" * 32, BINDING), RoundKeys(b"b" * 32, view(BEN))
    assert ada.pair_mask_key(ben_here.mask_public, b"c" * 32) != ben_there.pair_mask_key(ada.mask_public, b"d" * 32)


@pytest.mark.parametrize("broken", [True, False], ids=["weak", "ours"])
def test_pitfall_11_a_relay_cannot_put_its_own_keys_in_an_artist_s_place(
    broken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if broken:
        monkeypatch.setattr(messages, "verify", lambda *_: True)
    room = Sum()
    roster = Roster.read(HOST.public_key, BINDING, room.advertise())
    mine = RoundKeys(b"m" * 32, BINDING)
    ben = roster.position(room.id(BEN))
    forged = [
        e.identity + (mine.box_public + mine.mask_public if i == ben else e.box + e.mask) + e.signature
        for i, e in enumerate(roster.entries)
    ]
    message = signed(HOST, Kind.ROSTER, BINDING, bytes(2) + b"".join(forged))
    if not broken:
        with pytest.raises(SecAggError, match="Somebody replaced them"):
            room.clients[ADA].share(message)
        return
    room.clients[ADA].share(message)
    context = room.clients[ADA].roster.context  # type: ignore[union-attr]
    ada = room.clients[ADA]._keys
    assert mine.pair_mask_key(ada.mask_public, context) == ada.pair_mask_key(mine.mask_public, context), (
        "man in the middle"
    )


def test_pitfall_12_two_artists_are_refused_because_each_would_learn_the_other_s_update() -> None:
    room = Sum(artists=3)
    sum_of_two = room.total([0, 1])
    assert np.array_equal(sum_of_two - room.vectors[0], room.vectors[1]), "the attack needs no skill"
    for i in range(2):
        room.server.advertise(room.id(i), room.clients[i].advertise())
    with pytest.raises(SecAggError, match="at least 3"):
        room.server.roster()
    entries = [messages.Entry.read(BINDING, client.advertise()) for client in room.clients[:2]]
    two = bytes(2) + b"".join(e.identity + e.box + e.mask + e.signature for e in sorted(entries, key=lambda e: e.id))
    with pytest.raises(SecAggError, match="at least 3"):
        room.clients[0].share(signed(HOST, Kind.ROSTER, BINDING, two))
    with pytest.raises(RoundError, match="from 3"):
        Simulation(["Ada", "Ben"], {"x": np.zeros(2, np.float32)})


def test_pitfall_12_a_small_room_is_warned_of() -> None:
    small, large = Sum(artists=4), Sum(artists=5)
    for room in (small, large):
        room.share(room.advertise())
    assert "hides among 3 others" in small.clients[0].warnings[0]
    assert large.clients[0].warnings == []


def test_pitfall_13_a_sum_cannot_wrap_because_the_number_of_artists_is_in_the_encoding() -> None:
    values, artists = np.full(4, 0.9), 10
    weak_sum = weak.wrapping_encode(values, 1.0) * np.uint32(artists)
    weak_mean = weak_sum.astype(np.float64) / (2**31 - 1) * 2 / artists - 1.0
    assert (np.abs(weak_mean - 0.9) > 0.3).all(), "ten artists with 31 bits each: silently wrong"
    code = FixedPoint([Field("x", 4, 1.0)], artists)
    total = sum((code.encode({"x": values}).words for _ in range(artists)), np.zeros(code.size, np.uint32))
    np.testing.assert_allclose(code.decode(total, count=artists)["x"] / artists, 0.9, atol=1e-8)
    with pytest.raises(SecAggError, match="made for 1 to 10"):
        code.decode(total, count=11)


def test_pitfall_14_nothing_about_an_artist_travels_beside_the_masked_vector() -> None:
    room = Simulation(["Ada", "Ben", "Cy"], {"x": np.zeros(8, np.float32)})
    done = room.round({name: {"x": np.full(8, 0.1, np.float32)} for name in room.names}, pictures=7919)
    said = [json.dumps(e.body) for e in done.log if e.sender != room.host.id]
    assert said
    assert not [text for text in said if "7919" in text or "loss" in text or "weight" in text]
    assert done.result is not None
    assert done.result.pictures == 3 * 7919, "the sum is known, as it was meant to be"


def test_pitfall_15_two_sums_that_differ_by_one_artist_are_warned_of_before_anything_is_released() -> None:
    first = Sum()
    everybody = first.run()
    second = Sum(vectors=first.vectors)
    previous = frozenset(second.id(i) for i in range(5))
    second.clients = [second.build(i, previous=previous) for i in range(5)]
    without_eli = second.run(range(5), range(4))
    assert np.array_equal(everybody - without_eli, first.vectors[4]), (
        "the same updates twice: the attack works on any sum"
    )
    assert "same artists as the last one but one" in second.clients[0].warnings[-1]


def test_pitfall_16_no_part_of_the_vector_belongs_to_one_artist_alone() -> None:
    """Where only Ada's update has values, the sum is hers. So all train the same dense factors, and no token."""
    sparse = [np.zeros(6, np.uint32) for _ in range(3)]
    sparse[0][2] = 41
    room = Sum(artists=3, size=6, vectors=sparse)
    assert room.run()[2] == 41, "the honest limit of every sum"
    from fedart_nb.diffusion import Backbone, initial_adapter

    names = initial_adapter(Backbone.embedded(device="cpu"), seed=0).tensors
    assert names
    assert all(".lora_A." in name or ".lora_B." in name for name in names), "no embedding of anybody's word is trained"


def test_pitfall_17_the_documentation_says_what_a_sum_still_gives_away() -> None:
    text = " ".join((fedart_nb.secagg.__doc__ or "").split())
    assert "privacy of what the sum itself says" in text
    assert "Only noise bounds that" in text


def test_pitfall_18_too_few_shares_are_refused_and_a_rebuilt_secret_is_checked() -> None:
    shares = shamir.split(KEY, [1, 2, 3, 4, 5], 4, seed=b"s" * 32)
    few = {x: shares[x] for x in (1, 2, 3)}
    assert weak.careless_combine(few) != int.from_bytes(KEY, "big"), "garbage, and nobody is told"
    with pytest.raises(SecAggError, match="Fewer combine to garbage"):
        shamir.combine(few, threshold=4)
    room = Sum()
    confirmed = room.confirm(room.masked(room.share(room.advertise())))
    for i in range(3):
        room.server.unmask(room.id(i), room.clients[i].unmask(confirmed))
    with pytest.raises(SecAggError, match="3 shares of a secret are in; it takes 4"):
        room.server.total()


def test_pitfall_18_a_dealer_whose_shares_fit_no_secret_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    room = Sum()
    roster = room.advertise()
    true_split = shamir.split

    def wrong_split(secret: bytes, holders: Any, threshold: int, seed: bytes) -> dict[int, bytes]:
        return true_split(bytes(32), holders, threshold, seed)

    deliveries_from = []
    for i, client in enumerate(room.clients):
        monkeypatch.setattr("fedart_nb.secagg.client.split", wrong_split if i == BEN else true_split)
        deliveries_from.append(client.share(roster))
        room.server.share(room.id(i), deliveries_from[-1])
    monkeypatch.setattr("fedart_nb.secagg.client.split", true_split)
    with pytest.raises(SecAggError, match=f"{room.id(BEN)[:8]} had dealt shares of something else"):
        room.unmask(room.confirm(room.masked(room.server.deliveries())))


def test_pitfall_19_a_malicious_artist_can_shift_the_sum_and_the_documentation_says_so() -> None:
    room = Simulation(["Ada", "Ben", "Mallory"], {"x": np.zeros(4, np.float32)}, clip=1.0)
    honest = {name: {"x": np.zeros(4, np.float32)} for name in ("Ada", "Ben")}
    done = room.round({**honest, "Mallory": {"x": np.full(4, 50.0, np.float32)}})
    assert done.result is not None
    np.testing.assert_allclose(unpack(done.result.shared)["x"], 1 / 3, rtol=1e-6)
    assert done.result.clipped == 4, "honest code clips, so it may shift the mean by clip / n; dishonest code by more"
    raw = Sum(artists=3, size=2)
    raw.vectors[2] = np.array([2**31, 2**32 - 1], np.uint32)
    np.testing.assert_array_equal(raw.run(), raw.total(range(3)))
    text = " ".join((fedart_nb.secagg.__doc__ or "").split())
    assert "A malicious artist can send any vector" in text


def test_a_secret_of_another_room_s_identity_is_of_no_use() -> None:
    """Pitfall 11 from the other side: a member of one round cannot speak for another one."""
    room = Sum()
    stranger = SecAggClient(identity(20), HOST.public_key, BINDING, b"z" * 32)
    roster = room.advertise()
    with pytest.raises(SecAggError, match="not in this round's roster"):
        stranger.share(roster)
    assert isinstance(room.server, SecAggServer)
