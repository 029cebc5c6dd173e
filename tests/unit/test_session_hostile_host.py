"""A host that sends adapters built to end a kernel's rounds is refused in a sentence, and the rounds go on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fedart_nb.crypto.identity import identity_id
from fedart_nb.diffusion import initial_adapter
from fedart_nb.events import Note
from fedart_nb.federated import RoundPlan, metadata_of, pack, unpack
from fedart_nb.relay import Envelope, MemoryRelay
from fedart_nb.secagg import Identity
from fedart_nb.session import Session


def plan_of(session: Session, host: Identity, room: str, shared: bytes, **changes: Any) -> RoundPlan:
    settings: dict[str, Any] = {"room": room, "number": 1, "total": 3, "nonce": "5" * 32, **changes}
    return RoundPlan(
        backbone_sha256=session.backbone.sha256,
        shared_sha256=hashlib.sha256(shared).hexdigest(),
        host_key=host.public_key.hex(),
        **settings,
    )


def said(kind: str, plan: RoundPlan, shared: bytes) -> Envelope:
    """A message as an honest host makes it, of a shared adapter that may be anything."""
    body = {"plan": plan.to_body()} if kind == "plan" else {"contributors": 3, "total": plan.total}
    return Envelope(
        room=plan.room,
        round=plan.number,
        kind=kind,
        sender=identity_id(bytes.fromhex(plan.host_key)),
        recipient="all",
        body={**body, "plan_digest": plan.digest},
        attachments={"shared": shared},
    )


def hostile(shared: bytes) -> list[tuple[str, bytes]]:
    """What each is refused for, and the bytes."""
    tensors, about = unpack(shared), metadata_of(shared)
    name = next(name for name in tensors if name.endswith(".lora_A.weight"))
    dimensions = json.dumps({name: {"dtype": "F32", "shape": [1] * 70, "data_offsets": [0, 4]}}).encode()
    endless = json.dumps({name: {"dtype": "F32", "shape": [0, 2**47, 2**47], "data_offsets": [0, 0]}}).encode()
    nested = b'{"__metadata__":{"fedart":' + b"[" * 50_000 + b"]" * 50_000 + b"}}"
    return [
        ("has 70 dimensions", len(dimensions).to_bytes(8, "little") + dimensions + bytes(4)),
        ("has a side of", len(endless).to_bytes(8, "little") + endless),
        ("no safetensors (it is nested deeper", len(nested).to_bytes(8, "little") + nested),
        ("has the shape ()", pack({**tensors, name: np.zeros((), np.float32)}, about)),
        ("is (4, 999); this backbone needs", pack({**tensors, name: np.ones((4, 999), np.float32)}, about)),
        ("not finite", pack({**tensors, name: np.full_like(tensors[name], np.nan)}, about)),
        ("has no such module", pack({n.replace("to_q", "to_nowhere"): v for n, v in tensors.items()}, about)),
        ("what they say of themselves is damaged", pack(tensors, {**about, "fedart": "[" * 50_000})),
        ("Unexpected tensor 'unet.x'", pack({"unet.x": np.ones((2, 2), np.float32)}, about)),
        ("the header is cut short", b""),
    ]


def moved(data: bytes) -> bytes:
    """What an honest result could be: the same names and shapes, other values."""
    return pack({n: v + np.float32(0.01) for n, v in unpack(data).items()}, metadata_of(data))


@pytest.mark.parametrize("kind", ["plan", "result"])
def test_hostile_adapters_are_refused_for_their_tensors_and_the_rounds_go_on_to_an_honest_one(
    open_session: Callable[..., Session], kind: str
) -> None:
    host = Identity.generate()
    session = open_session()
    with MemoryRelay(host) as relay:
        to_room = relay.connect(host)
        session.join(transport=relay.connect(session.identity))
        start = initial_adapter(session.backbone).to_bytes()
        honest = plan_of(session, host, relay.room, start)
        sent = hostile(start)
        if kind == "result":
            to_room.send(said("plan", honest, start), host)
        for _, shared in sent:
            plan = plan_of(session, host, relay.room, shared) if kind == "plan" else honest
            to_room.send(said(kind, plan, shared), host)
        last = moved(start)
        plan = plan_of(session, host, relay.room, last) if kind == "plan" else honest
        to_room.send(said(kind, plan, last), host)
        to_room.send(Envelope(room=relay.room, round=1, kind="close", sender=host.id, recipient="all", body={}), host)
        events = list(session.rounds())
    errors = [event.text for event in events if isinstance(event, Note) and event.level == "error"]
    assert [why for (why, _), error in zip(sent, errors, strict=True) if why not in error] == []
    assert session.side is not None
    assert session.side.shared == last, "the honest message after them is taken"
    assert session.side.closed, "and so is the close"
