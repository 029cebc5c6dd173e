"""Inputs that nobody should ever send, for everything that reads bytes of others: random, and valid ones gone wrong.

A reader may answer with a value or with an error of the package (FedArtError); whatever else it raises is a fault.
Valid messages are changed in three ways: some of their bytes; some value in their JSON; or inside, and signed again by
their true sender, so that the change gets past the signature.
"""

from __future__ import annotations

import json
import random
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fedart_nb.crypto.canonical_json import canonical_json
from fedart_nb.errors import FedArtError
from fedart_nb.federated import RoundPlan, pack, unpack
from fedart_nb.federated.tensors import metadata_of
from fedart_nb.relay import Address, Envelope, Invite
from fedart_nb.relay.client import _messages
from fedart_nb.relay.transport import open_messages
from fedart_nb.relay.wire import parse_json
from fedart_nb.secagg import Identity
from fedart_nb.secagg.client import SecAggClient
from fedart_nb.secagg.messages import Entry, Kind, Roster, members_of, opened, signed, split_fixed
from fedart_nb.secagg.server import SecAggServer

__all__ = ["Found", "changed_bytes", "changed_json", "fuzz_readers"]

_SIGNED_FOR = b"fedart-envelope-v1\n"
_NESTED: Any = []
for _ in range(40):
    _NESTED = [_NESTED]
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 2**31, 2**53 + 1, 2**63, -(2**63) - 1, 10**400, 1e308, -0.0, 5e-324),
    *(float("nan"), float("inf"), "", " ", "\x00", "\ud800", "\u202e", "0" * 32, "f" * 64, "a" * 5000, "__proto__"),
    *([], {}, [[]], {"": 0}, {"a": {"b": None}}, _NESTED, [0] * 5000),
)
_ODD_BYTES = (b"", b"\x00", b"\xff" * 8, b"\x80", b"{", b"]", b'"', b"\\ud800", b"1e999", b"-0", b"NaN", b"9" * 5000)
_DEEP = (b"[" * 20_000, b'{"a":' * 20_000, b"[" * 5000 + b"]" * 5000)
_ODD_KEYS = (bytes(32), b"\x01" + bytes(31), b"\xff" * 32, ((1 << 255) - 19).to_bytes(32, "little"))


def changed_bytes(rng: random.Random, data: bytes) -> bytes:
    """`data` after one to four accidents."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at, end = (rng.randint(0, len(out)) for _ in range(2))
        what = rng.randrange(7)
        if what == 0 and out:
            out[at % len(out)] ^= 1 << rng.randrange(8)
        elif what == 1 and out:
            out[at % len(out)] = rng.randrange(256)
        elif what == 2:
            out[at:at] = rng.choice(_ODD_BYTES)
        elif what == 3:
            del out[min(at, end) : min(max(at, end), min(at, end) + 64)]
        elif what == 4:
            del out[at:]
        elif what == 5:
            out[at:at] = out[min(at, end) : min(at, end) + 64]
        else:
            out[at:at] = rng.randbytes(rng.randint(1, 64))
    return bytes(out)


def changed_json(rng: random.Random, value: Any) -> Any:
    """A copy of a JSON value in which something was replaced, removed or added."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.15:
        return rng.choice(ODD_VALUES)
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    key = rng.choice(list(copy)) if isinstance(copy, dict) else rng.randrange(len(copy))
    what = rng.random()
    if what < 0.1:
        del copy[key]
    elif what < 0.2 and isinstance(copy, dict):
        copy[rng.choice(("", "extra", "\x00", "version", "a" * 200))] = rng.choice(ODD_VALUES)
    elif what < 0.2:
        copy.append(rng.choice(ODD_VALUES))
    else:
        copy[key] = changed_json(rng, copy[key])
    return copy


@dataclass
class Found:
    """What a run read: how many inputs, how many were taken, and faults as tracebacks with their input."""

    inputs: int = 0
    taken: int = 0
    wall_s: float = 0.0
    faults: dict[str, str] = field(default_factory=dict)


class _Room:
    """Valid messages of every kind, to be changed."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.host, *self.artists = (Identity.generate() for _ in range(5))
        self.binding = rng.randbytes(32)
        self.server = SecAggServer(self.host, self.binding, 10)
        self.secrets = [rng.randbytes(32) for _ in self.artists]
        self.clients = [
            SecAggClient(artist, self.host.public_key, self.binding, secret)
            for artist, secret in zip(self.artists, self.secrets, strict=True)
        ]
        self.advertised = self.each("advertise", [client.advertise() for client in self.clients])
        self.roster = self.server.roster()
        self.shared = self.each("share", [client.share(self.roster) for client in self.clients])
        deliveries = self.server.deliveries()
        self.delivery = deliveries[self.artists[0].id]
        for artist, client in zip(self.artists, self.clients, strict=True):
            client.receive(deliveries[artist.id])
        self.masked = self.each("masked", [client.mask(np.arange(10, dtype=np.uint32)) for client in self.clients])
        self.survivors = self.server.survivors()
        self.confirms = self.each("confirm", [client.confirm(self.survivors) for client in self.clients])
        self.confirmed = self.server.confirmed()
        self.unmasks = self.each("unmask", [client.unmask(self.confirmed) for client in self.clients])
        self.context = Roster.read(self.host.public_key, self.binding, self.roster).context
        self.plan = RoundPlan(
            room="room",
            number=1,
            total=2,
            backbone_sha256="b" * 64,
            shared_sha256="c" * 64,
            host_key=self.host.public_key.hex(),
        ).to_body()
        self.tensors = pack({"a": np.ones((2, 3), np.float32), "b": np.ones(1, np.float32)}, {"fedart": "{}"})
        self.envelope = Envelope(
            room="room",
            round=1,
            kind="update",
            sender=self.artists[0].id,
            recipient="host",
            body={"plan": self.plan, "step": 3, "name": "Ada"},
            attachments={"u": b"bytes", "v": b""},
        )
        self.sealed = self.envelope.sealed(self.artists[0])
        self.invite = Invite("https://relay.example/prefix", "room", "t" * 32, self.host.id, "a" * 64)

    def each(self, step: str, messages: list[bytes]) -> list[bytes]:
        for artist, message in zip(self.artists, messages, strict=True):
            getattr(self.server, step)(artist.id, message)
        return messages

    # --- inputs ---

    def spoilt(self, message: bytes) -> bytes:
        """Random bytes, endless nesting, or a message with accidents."""
        chance = self.rng.random()
        if chance < 0.02:
            return self.rng.choice(_DEEP)
        return self.rng.randbytes(self.rng.randint(0, 300)) if chance < 0.1 else changed_bytes(self.rng, message)

    def signed_again(self, signer: Identity, message: bytes) -> bytes:
        """A secagg message whose body was changed by its own sender."""
        if self.rng.random() < 0.3:
            return self.spoilt(message)
        kind = Kind(message[0]) if self.rng.random() < 0.9 else self.rng.choice(list(Kind))
        body = message[33:-64]
        body = self.rng.choice((changed_bytes(self.rng, body), self.rng.randbytes(len(body)), body[: len(body) // 2]))
        return signed(signer, kind, message[1:33], body)

    def envelope_bytes(self) -> bytes:
        how = self.rng.random()
        if how < 0.3:
            return self.spoilt(self.sealed)
        header = changed_json(self.rng, json.loads(self.sealed))
        if how < 0.6 or not isinstance(header, dict):
            return json.dumps(header, separators=(",", ":"), sort_keys=True).encode()
        header.pop("signature", None)
        try:
            header["signature"] = self.artists[0].sign(_SIGNED_FOR + canonical_json(header)).hex()
            return canonical_json(header)
        except FedArtError:
            return json.dumps(header).encode()

    def text(self, whole: str) -> str:
        return changed_bytes(self.rng, whole.encode()).decode(errors="replace")

    def safetensors(self) -> bytes:
        if self.rng.random() < 0.5:
            return self.spoilt(self.tensors)
        size = int.from_bytes(self.tensors[:8], "little")
        header = json.dumps(changed_json(self.rng, json.loads(self.tensors[8 : 8 + size]))).encode()
        if self.rng.random() < 0.05:
            header = self.rng.choice(_DEEP)
        return len(header).to_bytes(8, "little") + header + self.tensors[8 + size :]

    def dishonest_roster(self) -> bytes:
        """A roster in which one artist signed keys that are none, or another's."""
        second = self.artists[1]
        keys = [self.rng.choice((*_ODD_KEYS, self.advertised[0][65:97], self.rng.randbytes(32))) for _ in range(2)]
        message = signed(second, Kind.ADVERTISE, self.binding, second.public_key + b"".join(keys))
        entries = [Entry.read(self.binding, m) for m in (self.advertised[0], message, *self.advertised[2:])]
        return Roster.of(self.binding, entries, self.rng.choice((0, 0, 1, 2, 5, 65535))).message(self.host)

    # --- readers ---

    def readers(self) -> dict[str, Callable[[], Any]]:
        rng, host, first = self.rng, self.host, self.artists[0]
        client, server = self.clients[0], self.server
        secret = self.secrets[0]

        def artists_message(step: str, messages: list[bytes]) -> None:
            fresh = SecAggServer.__new__(SecAggServer)  # as if this phase were running and nobody had been heard
            fresh.__dict__.update(server.__dict__, phase=step, _heard={}, _dealt=dict(server._dealt), _shares={})
            fresh._sum = server._sum.copy()
            getattr(fresh, step)(first.id, self.signed_again(first, messages[0]))

        return {
            "Envelope.opened": lambda: Envelope.opened(self.envelope_bytes()),
            "open_messages": lambda: open_messages(
                [(1, self.envelope_bytes())], room="room", member_id=first.id, host_id=host.id
            ),
            "parse_json": lambda: parse_json(self.spoilt(self.sealed)),
            "inbox": lambda: _messages(
                changed_json(rng, {"messages": [{"seq": 1, "envelope": "{}"}, {"seq": 2, "envelope": "x"}]}), 0
            ),
            "Invite.parse": lambda: Invite.parse(self.text(str(self.invite))),
            "Address.parse": lambda: Address.parse(self.text("https://relay.example/a#cert=" + "a" * 64 + "&open=s")),
            "RoundPlan.from_body": lambda: RoundPlan.from_body(changed_plan(rng, self.plan)).binding(b""),
            "unpack": lambda: unpack(self.safetensors()),
            "metadata_of": lambda: metadata_of(self.safetensors()),
            "opened": lambda: opened(host.public_key, Kind.ROSTER, self.binding, self.spoilt(self.roster)),
            "members_of": lambda: members_of(rng.randbytes(rng.randint(0, 4)), rng.randint(0, 40)),
            "split_fixed": lambda: split_fixed(rng.randbytes(rng.randint(0, 200)), 64),
            "Entry.read": lambda: Entry.read(self.binding, self.signed_again(first, self.advertised[0])),
            "Roster.read": lambda: Roster.read(host.public_key, self.binding, self.signed_again(host, self.roster)),
            "client.share": lambda: client.share(self.signed_again(host, self.roster)),
            "client.share, odd keys": lambda: SecAggClient(first, host.public_key, self.binding, secret).share(
                self.dishonest_roster()
            ),
            "client.receive": lambda: client.receive(self.signed_again(host, self.delivery)),
            "client.confirm": lambda: client.confirm(self.signed_again(host, self.survivors)),
            "client.unmask": lambda: client.unmask(self.signed_again(host, self.confirmed)),
            "server.advertise": lambda: artists_message("advertise", self.advertised),
            "server.share": lambda: artists_message("share", self.shared),
            "server.masked": lambda: artists_message("masked", self.masked),
            "server.confirm": lambda: artists_message("confirm", self.confirms),
            "server.unmask": lambda: artists_message("unmask", self.unmasks),
        }


def changed_plan(rng: random.Random, plan: dict[str, Any]) -> dict[str, Any]:
    """A plan's body as `Envelope` hands it on: always a dictionary."""
    body = changed_json(rng, plan)
    return body if isinstance(body, dict) else {**plan, rng.choice(list(plan)): body}


def fuzz_readers(inputs: int, *, seed: int = 0) -> Found:
    """Give every reader its part of `inputs`; nothing is raised, faults are in the result."""
    rng = random.Random(seed)
    readers = list(_Room(rng).readers().items())
    found = Found()
    started = time.perf_counter()
    for n in range(inputs):
        name, read = readers[n % len(readers)]
        found.inputs += 1
        try:
            read()
            found.taken += 1
        except FedArtError:
            pass
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            where = traceback.extract_tb(error.__traceback__)[-1]
            found.faults.setdefault(
                f"{name}: {type(error).__name__} at {where.filename.rpartition('/')[2]}:{where.lineno}",
                "".join(traceback.format_exception(error))[-2000:],
            )
    found.wall_s = time.perf_counter() - started
    return found
