"""A host that sends adapters built to end a kernel's rounds is refused in a sentence, and the rounds go on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fedart_nb.diffusion import initial_adapter
from fedart_nb.events import Note
from fedart_nb.federated import RoundPlan, metadata_of, pack, unpack
from fedart_nb.relay import Envelope, MemoryRelay
from fedart_nb.secagg import Identity
from fedart_nb.session import Session

Change = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]


def plan_of(session: Session, host: Identity, room: str, shared: bytes) -> RoundPlan:
    return RoundPlan(
        room=room,
        number=1,
        total=3,
        backbone_sha256=session.backbone.sha256,
        shared_sha256=hashlib.sha256(shared).hexdigest(),
        host_key=host.public_key.hex(),
        nonce="5" * 32,
    )


def hostile(shared: bytes) -> list[bytes]:
    tensors, about = unpack(shared), metadata_of(shared)
    name = next(name for name in tensors if name.endswith(".lora_A.weight"))
    dimensions = json.dumps({name: {"dtype": "F32", "shape": [1] * 70, "data_offsets": [0, 4]}}).encode()
    endless = json.dumps({name: {"dtype": "F32", "shape": [0, 2**47, 2**47], "data_offsets": [0, 0]}}).encode()
    nested = b'{"__metadata__":{"fedart":' + b"[" * 50_000 + b"]" * 50_000 + b"}}"
    return [
        len(dimensions).to_bytes(8, "little") + dimensions + bytes(4),
        len(endless).to_bytes(8, "little") + endless,
        len(nested).to_bytes(8, "little") + nested,
        pack({**tensors, name: np.zeros((), np.float32)}, about),
        pack({**tensors, name: np.ones((4, 999), np.float32)}, about),
        pack({**tensors, name: np.full_like(tensors[name], np.nan)}, about),
        pack({n.replace("to_q", "to_nowhere"): v for n, v in tensors.items()}, about),
        pack(tensors, {**about, "fedart": "[" * 50_000}),
        pack({"unet.x": np.ones((2, 2), np.float32)}, about),
        b"",
    ]


@pytest.mark.parametrize("kind", ["plan", "result"])
def test_rounds_outlive_hostile_adapters(open_session: Callable[..., Session], kind: str) -> None:
    host = Identity.generate()
    session = open_session()
    with MemoryRelay(host) as relay:
        to_room = relay.connect(host)
        session.join(transport=relay.connect(session.identity))
        start = initial_adapter(session.backbone).to_bytes()
        sent = hostile(start)
        for number, shared in enumerate(sent):
            plan = plan_of(session, host, relay.room, shared)
            body: dict[str, Any] = {"plan": plan.to_body()} if kind == "plan" else {"contributors": 3, "of": number}
            attachments = {"shared": shared}
            message = Envelope(
                room=relay.room, round=1, kind=kind, sender=host.id, recipient="all", body=body, attachments=attachments
            )
            to_room.send(message, host)
        to_room.send(Envelope(room=relay.room, round=1, kind="close", sender=host.id, recipient="all", body={}), host)
        events = list(session.rounds())
    errors = [event.text for event in events if isinstance(event, Note) and event.level == "error"]
    assert len(errors) == len(sent)
    assert session.shared is None
    assert session.side is not None
    assert session.side.shared is None
