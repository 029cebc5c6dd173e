"""Envelopes: what may be in them, and that nothing else gets through."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedart_nb.crypto.canonical_json import canonical_json
from fedart_nb.crypto.identity import Identity
from fedart_nb.errors import TooLarge, WireError
from fedart_nb.relay.wire import HEADER_LIMIT_BYTES, KINDS, AttachmentRef, Envelope, sha256_hex

ME, OTHER = Identity.generate(), Identity.generate()
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
ENVELOPES = st.builds(
    Envelope,
    room=st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
    round=st.integers(0, 2**31 - 1),
    kind=st.sampled_from(KINDS),
    sender=st.just(ME.id),
    recipient=st.sampled_from(["host", "all", OTHER.id]),
    body=st.dictionaries(TEXT, VALUES, max_size=4),
    attachments=st.dictionaries(
        st.from_regex(r"[a-z0-9]{1,8}\.safetensors", fullmatch=True), st.binary(max_size=64), max_size=3
    ),
)


def envelope(**fields: Any) -> Envelope:
    given: dict[str, Any] = {"room": "room", "round": 1, "kind": "note", "sender": ME.id, "recipient": "all", **fields}
    return Envelope(**given)


@settings(deadline=None, max_examples=60)
@given(ENVELOPES)
def test_what_is_sealed_opens_as_the_same_envelope(sent: Envelope) -> None:
    opened = Envelope.opened(sent.sealed(ME))
    assert opened.with_attachments(sent.attachments) == sent
    assert opened.attachment_refs == sent.attachment_refs
    assert opened.sealed(ME) == sent.sealed(ME)


@settings(deadline=None, max_examples=60)
@given(ENVELOPES, st.data())
def test_a_changed_byte_anywhere_is_noticed(sent: Envelope, data: st.DataObject) -> None:
    sealed = bytearray(sent.sealed(ME))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(WireError):
        Envelope.opened(bytes(sealed))


def test_every_single_bit_of_an_envelope_is_protected() -> None:
    sealed = envelope(body={"steps": 20, "x": [0.5, None, True]}, attachments={"u": b"1"}).sealed(ME)
    for position in range(len(sealed)):
        for bit in range(8):
            changed = bytearray(sealed)
            changed[position] ^= 1 << bit
            with pytest.raises(WireError):
                Envelope.opened(bytes(changed))


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=200) | VALUES.map(canonical_json))
def test_anything_else_is_a_wire_error_and_nothing_worse(data: bytes) -> None:
    with pytest.raises(WireError):
        Envelope.opened(data)


def test_an_envelope_cut_short_or_with_more_behind_it_is_refused() -> None:
    sealed = envelope().sealed(ME)
    for data in (sealed[:-1], sealed + b" ", b" " + sealed, b""):
        with pytest.raises(WireError):
            Envelope.opened(data)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"version": 2}, "version 2 arrived"),
        ({"version": True}, "version True"),
        ({"room": "a room"}, "'a room' is no room name"),
        ({"round": -1}, "round is -1"),
        ({"round": 1.0}, r"round is 1\.0"),
        ({"kind": "attack"}, "'attack'; known are hello"),
        ({"sender": "me"}, "sender is 'me'"),
        ({"recipient": "everybody"}, "'everybody'"),
        ({"body": [1]}, r"body is \[1\]"),
        ({"body": {"loss": float("nan")}}, r"body\['loss'\] is nan"),
        ({"body": {"a": [float("-inf")]}}, r"body\['a'\]\[0\] is -inf"),
        ({"body": {1: 2}}, "the key 1"),
        ({"body": {"n": 2**70}}, "71 bits"),
        ({"body": {"x": b"bytes"}}, "of type bytes"),
        ({"body": {"x": {1, 2}}}, "of type set"),
        ({"attachments": {"../x": b""}}, r"named '\.\./x'"),
        ({"attachments": {"x": "text"}}, "of type str"),
        ({"attachments": {f"a{i}": b"" for i in range(33)}}, "33 attachments"),
        ({"attachment_refs": (AttachmentRef("x", "0" * 63, 1),)}, "64 hex digits"),
        ({"attachment_refs": (AttachmentRef("x", "0" * 64, -1),)}, "size -1"),
        ({"attachment_refs": (AttachmentRef("x", "0" * 64, 1), AttachmentRef("x", "1" * 64, 1))}, "each name once"),
    ],
)
def test_a_value_that_does_not_fit_is_shown(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(WireError, match=message):
        envelope(**fields)


def test_a_body_nested_without_end_is_refused() -> None:
    body: dict[str, Any] = {}
    for _ in range(2000):
        body = {"a": body}
    with pytest.raises(WireError, match="deeper than 8"):
        envelope(body=body)
    with pytest.raises(WireError):
        Envelope.opened(b"[" * 60_000)


def test_a_body_with_too_many_values_is_refused() -> None:
    with pytest.raises(TooLarge, match="4096 values"):
        envelope(body={"values": list(range(5000))})


def test_a_header_above_64_kib_is_refused_on_both_sides() -> None:
    with pytest.raises(TooLarge, match="into an attachment"):
        envelope(body={"text": "x" * HEADER_LIMIT_BYTES}).sealed(ME)
    with pytest.raises(TooLarge, match="the limit is 65536"):
        Envelope.opened(b"x" * (HEADER_LIMIT_BYTES + 1), limit_bytes=10**9)
    with pytest.raises(TooLarge, match="the limit is 100"):
        Envelope.opened(envelope().sealed(ME), 100)


def test_nobody_seals_for_somebody_else() -> None:
    with pytest.raises(WireError, match="belongs to"):
        envelope().sealed(OTHER)


def test_a_sender_that_is_not_the_key_inside_is_refused() -> None:
    header = json.loads(envelope().sealed(ME))
    header["sender"] = OTHER.id
    with pytest.raises(WireError, match="key inside belongs to"):
        Envelope.opened(canonical_json(header))


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_is_not_finite_is_refused_when_it_arrives(constant: str) -> None:
    data = envelope(body={"x": 17.25}).sealed(ME).replace(b"17.25", constant.encode())
    with pytest.raises(WireError, match="finite"):
        Envelope.opened(data)


def test_a_field_too_few_or_too_many_is_refused() -> None:
    header = json.loads(envelope().sealed(ME))
    with pytest.raises(WireError, match="these bytes have"):
        Envelope.opened(canonical_json({**header, "more": 1}))
    del header["round"]
    with pytest.raises(WireError, match="these bytes have"):
        Envelope.opened(canonical_json(header))


def test_attachments_are_bound_by_checksum() -> None:
    sent = envelope(attachments={"update": b"true bytes"})
    opened = Envelope.opened(sent.sealed(ME))
    assert opened.attachments == {}
    assert opened.attachment_refs == (AttachmentRef("update", sha256_hex(b"true bytes"), 10),)
    with pytest.raises(WireError, match="not those that the envelope lists"):
        opened.with_attachments({"update": b"fake bytes"})
    with pytest.raises(WireError, match=r"lists the attachments \['update'\]"):
        opened.with_attachments({})


def test_attachments_bytes_are_not_in_the_sealed_header() -> None:
    assert b"true bytes" not in envelope(attachments={"update": b"true bytes"}).sealed(ME)


def test_an_envelope_keeps_its_own_copy_of_the_body() -> None:
    body = {"steps": [1]}
    sent = envelope(body=body)
    body["steps"].append(2)
    assert sent.body == {"steps": [1]}
