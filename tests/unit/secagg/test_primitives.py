"""Known answers: each primitive, as this package calls it, gives what its standard says."""

from __future__ import annotations

import copy
import random
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from fedart_nb.crypto.identity import Identity, verify
from fedart_nb.errors import SecAggError
from fedart_nb.secagg import shamir
from fedart_nb.secagg.graph import neighbours, quorum_of, threshold_of
from fedart_nb.secagg.keys import RoundKeys, agree, derive, pair_mask_key
from fedart_nb.secagg.masks import Expander, expand

HEX = bytes.fromhex


def test_ed25519_is_that_of_rfc_8032_section_7_1_test_2() -> None:
    secret = HEX("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    signer = Identity(Ed25519PrivateKey.from_private_bytes(secret))
    assert signer.public_key == HEX("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    signature = HEX(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert signer.sign(b"\x72") == signature
    assert verify(signer.public_key, signature, b"\x72")
    assert not verify(signer.public_key, signature, b"\x73")


def test_x25519_is_that_of_rfc_7748_section_5_2() -> None:
    scalar = HEX("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4")
    point = HEX("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c")
    shared = agree(X25519PrivateKey.from_private_bytes(scalar), point)
    assert shared == HEX("c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552")


def test_a_point_of_small_order_is_no_public_key() -> None:
    with pytest.raises(SecAggError, match="no usable X25519"):
        agree(X25519PrivateKey.generate(), bytes(32))


def test_hkdf_is_that_of_rfc_5869_test_1() -> None:
    okm = derive(b"\x0b" * 22, HEX("000102030405060708090a0b0c"), HEX("f0f1f2f3f4f5f6f7f8f9"))
    assert okm == HEX("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf")


def test_chacha20_poly1305_is_that_of_rfc_8439_section_2_8_2() -> None:
    text = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
    text += b"sunscreen would be it."
    key, nonce = bytes(range(0x80, 0xA0)), HEX("070000004041424344454647")
    box = ChaCha20Poly1305(key).encrypt(nonce, text, HEX("50515253c0c1c2c3c4c5c6c7"))
    assert box[-16:] == HEX("1ae10b594f09e26a7e902ecbd0600691")


def test_aes_256_ctr_is_that_of_nist_sp_800_38a_f_5_5() -> None:
    key = HEX("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    stream = Cipher(algorithms.AES256(key), modes.CTR(HEX("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"))).encryptor()
    assert stream.update(HEX("6bc1bee22e409f96e93d7e117393172a")) == HEX("601ec313775789a5b7a7f504bbf3d228")


def test_a_mask_is_the_key_stream_of_aes_256_ctr_from_block_zero_across_block_borders() -> None:
    key, size = bytes(range(32)), 2**17 + 13
    stream = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor().update(bytes(4 * size))
    np.testing.assert_array_equal(expand(key, size), np.frombuffer(stream, "<u4"))


def test_masks_look_uniform_and_two_keys_give_unrelated_ones() -> None:
    size = 2**18
    masks = [expand(bytes([i]) * 32, size) for i in range(2)]
    counts = np.bincount(masks[0].view(np.uint8), minlength=256)
    chi_square = ((counts - 4 * size / 256) ** 2 / (4 * size / 256)).sum()
    assert 170 < chi_square < 360, "255 degrees of freedom: beyond 5 standard deviations it is no random stream"
    r = np.corrcoef(masks[0].astype(np.float64), masks[1].astype(np.float64))[0, 1]
    assert abs(r) < 5 / np.sqrt(size)
    assert masks[0].max() > 2**32 - 2**17, "the topmost values occur"


def test_adding_and_subtracting_a_mask_leaves_the_vector_and_takes_no_second_one() -> None:
    words = np.arange(2**20, dtype=np.uint32)
    expander = Expander()
    tracemalloc.start()
    expander.add(words, b"k" * 32)
    assert not np.array_equal(words[:8], np.arange(8))
    expander.add(words, b"k" * 32, sign=-1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(words, np.arange(2**20, dtype=np.uint32))
    assert peak < words.nbytes / 4


@pytest.mark.parametrize("words", [np.zeros(3, np.int64), np.zeros((2, 2), np.uint32)])
def test_what_is_no_vector_of_words_is_not_masked(words: np.ndarray) -> None:
    with pytest.raises(SecAggError, match="uint32"):
        Expander().add(words, bytes(32))


# --- keys ---


def test_two_artists_come_to_the_same_mask_key_and_another_context_gives_another_one() -> None:
    a, b = (RoundKeys(bytes([i]) * 32, bytes(32)) for i in (1, 2))
    assert a.pair_mask_key(b.mask_public, b"c" * 32) == b.pair_mask_key(a.mask_public, b"c" * 32)
    assert a.pair_mask_key(b.mask_public, b"c" * 32) != a.pair_mask_key(b.mask_public, b"d" * 32)
    private = X25519PrivateKey.from_private_bytes(a.mask_secret())
    assert pair_mask_key(private, a.mask_public, b.mask_public, b"c" * 32) == b.pair_mask_key(a.mask_public, b"c" * 32)


def test_another_plan_gives_other_keys_from_the_same_secret() -> None:
    one, other = (RoundKeys(b"s" * 32, bytes([i]) * 32) for i in (1, 2))
    assert len({one.box_public, one.mask_public, other.box_public, other.mask_public}) == 4


def test_a_sealed_share_opens_for_its_recipient_in_its_round_and_for_nobody_else() -> None:
    a, b, c = (RoundKeys(bytes([i]) * 32, bytes(32)) for i in (1, 2, 3))
    box = a.seal(b.box_public, b"x" * 32, b"share")
    assert b.open(a.box_public, b"x" * 32, box) == b"share"
    for opens in (
        lambda: c.open(a.box_public, b"x" * 32, box),
        lambda: b.open(c.box_public, b"x" * 32, box),
        lambda: b.open(a.box_public, b"y" * 32, box),
        lambda: a.open(b.box_public, b"x" * 32, box),
    ):
        with pytest.raises(SecAggError, match="does not open"):
            opens()


def test_keys_show_no_secret_and_are_not_copied() -> None:
    keys = RoundKeys(b"s" * 32, bytes(32))
    assert keys.mask_secret().hex()[:8] not in repr(keys)
    assert (b"s" * 4).hex() not in repr(keys)
    with pytest.raises(TypeError, match="secrets"):
        copy.copy(keys)


# --- Shamir ---


def naive(shares: dict[int, bytes]) -> int:
    """Lagrange interpolation at zero with exact fractions, reduced modulo the prime at the end."""
    total = Fraction(0)
    for x, share in shares.items():
        term = Fraction(int.from_bytes(share, "big"))
        for other in shares:
            if other != x:
                term *= Fraction(-other, x - other)
        total += term
    return total.numerator * pow(total.denominator, -1, shamir.PRIME) % shamir.PRIME


@given(st.binary(min_size=32, max_size=32), st.integers(1, 9), st.integers(0, 6), st.randoms(use_true_random=False))
def test_any_threshold_of_shares_gives_the_secret_as_a_second_implementation_does(
    secret: bytes, threshold: int, spare: int, rng: random.Random
) -> None:
    holders = rng.sample(range(1, 100), threshold + spare)
    shares = shamir.split(secret, holders, threshold, seed=rng.randbytes(32))
    chosen = dict(rng.sample(sorted(shares.items()), threshold))
    assert shamir.combine(chosen, threshold=threshold) == secret
    assert naive(chosen) == int.from_bytes(secret, "big")


def test_a_split_is_the_same_again_from_the_same_seed_and_fixed_for_good() -> None:
    shares = shamir.split(bytes(range(32)), [1, 2, 3], 2, seed=b"\x07" * 32)
    assert shares == shamir.split(bytes(range(32)), [1, 2, 3], 2, seed=b"\x07" * 32)
    slope = (int.from_bytes(shares[2], "big") - int.from_bytes(shares[1], "big")) % shamir.PRIME
    stream = Cipher(algorithms.AES256(b"\x07" * 32), modes.CTR(bytes(16))).encryptor().update(bytes(48))
    assert slope == int.from_bytes(stream, "big") % shamir.PRIME


def test_one_share_too_few_is_refused_and_would_have_said_nothing() -> None:
    secrets = [bytes(32), b"\xff" * 32]
    for secret in secrets:
        shares = shamir.split(secret, [1, 2, 3], 3, seed=b"q" * 32)
        with pytest.raises(SecAggError, match="2 shares; this secret needs 3"):
            shamir.combine({1: shares[1], 2: shares[2]}, threshold=3)
        wrong = (
            shamir.combine_many([[shares[1], shares[2]]], [1, 2])[0]
            if naive({1: shares[1], 2: shares[2]}) < 2**256
            else b""
        )
        assert wrong != secret


@pytest.mark.parametrize("share", [bytes(32), b"\xff" * 33, bytes(34)])
def test_what_is_no_share_is_refused(share: bytes) -> None:
    with pytest.raises(SecAggError, match="outside the field"):
        shamir.combine({1: share, 2: bytes(33)}, threshold=2)


@pytest.mark.parametrize(("holders", "threshold"), [([1, 1, 2], 2), ([0, 1], 2), ([1, 2], 3), ([1, 2], 0)])
def test_an_impossible_split_is_refused(holders: list[int], threshold: int) -> None:
    with pytest.raises(SecAggError):
        shamir.split(bytes(32), holders, threshold, seed=bytes(32))


# --- graph ---


def test_the_threshold_is_two_thirds_and_one() -> None:
    assert [threshold_of(n) for n in (3, 4, 5, 10, 30, 64)] == [3, 3, 4, 7, 21, 43]
    assert [quorum_of(n) for n in (3, 10)] == [3, 7]


def test_the_complete_graph_joins_everybody_and_the_sparse_one_is_symmetric_of_its_degree() -> None:
    assert neighbours(4, 0, bytes(32))[1] == (0, 2, 3)
    sparse = neighbours(100, 12, b"g" * 32)
    assert {len(near) for near in sparse} == {12}
    assert all(i in sparse[j] for i, near in enumerate(sparse) for j in near)
    assert sparse != neighbours(100, 12, b"h" * 32)


@pytest.mark.parametrize("degree", [3, 10, 1])
def test_a_degree_that_is_odd_or_too_large_is_refused(degree: int) -> None:
    with pytest.raises(SecAggError, match="even number below 10"):
        neighbours(10, degree, bytes(32))
