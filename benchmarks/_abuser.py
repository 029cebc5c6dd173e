"""A stranger in a process of its own, who does one thing to a relay until its standard input ends, or time is up.

python benchmarks/_abuser.py idle_sockets --relay URL

Prints {"ready": true} when the abuse is under way, and counts at the end. It talks to a loopback address alone, from
the address that the honest room comes from too: nothing tells the two apart but what they sign and how they behave.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

from fedart_nb.crypto.canonical_json import canonical_json
from fedart_nb.relay import Envelope, Limits, Mailbox
from fedart_nb.relay.signing import signature_headers
from fedart_nb.relay.wire import sha256_hex
from fedart_nb.secagg import Identity

TOKEN = "strangers-token-0123456789"  # noqa: S105 - of the stranger's own room
IDENTITIES, SOCKETS, UPLOADS, ROOMS, MESSAGES, POLLS, STORED_BYTES = 8, 2100, 64, 64, 57_000, 1024, 512 * 2**20
_PAUSE_S = 0.05  # before somebody who was refused tries again; far less than a relay asks for
_POLL_PAUSE_S = 2.0  # with 1,024 at once, what a relay asks for: some 500 requests a second
_MOST_S = 240.0
_BLOB_BYTES = 2**20


class Stranger:
    """Eight identities in a room of their own, and what they have been answered."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.hostname != "127.0.0.1" or parts.port is None:
            raise ValueError(f"{url} is not on this computer.")
        self.url, self.host, self.port = url, parts.hostname, parts.port
        self.people = [Identity.generate() for _ in range(IDENTITIES)]
        self.room = f"strangers-{random.SystemRandom().randrange(10**9)}"
        self.answers: Counter[str] = Counter()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self.host, self.port)

    async def ask(
        self,
        wire: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        who: Identity,
        method: str,
        target: str,
        body: bytes,
    ) -> int:
        """One signed request on an open connection; returns the status."""
        reader, writer = wire
        writer.write(self.head(who, method, target, hashlib.sha256(body).hexdigest(), len(body)) + body)
        return await self.status(reader)

    async def status(self, reader: asyncio.StreamReader) -> int:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        await reader.readexactly(length)
        status = int(head[9:12])
        self.answers[str(status)] += 1
        return status

    def head(self, who: Identity, method: str, target: str, sha256: str, length: int) -> bytes:
        signed = signature_headers(who, method, target, sha256, time.time(), relay=self.url)
        lines = [f"{method} {target} HTTP/1.1", "host: relay", *(f"{name}: {value}" for name, value in signed.items())]
        return "\r\n".join([*lines, f"content-length: {length}", "", ""]).encode()

    async def enter(self) -> None:
        """Open the room with the first identity, and bring in the others."""
        wire = await self.connect()
        opening = {"room": self.room, "token_sha256": sha256_hex(TOKEN.encode())}
        await self.ask(wire, self.people[0], "POST", "/v1/rooms", canonical_json(opening))
        for who in self.people:
            await self.ask(wire, who, "POST", f"/v1/rooms/{self.room}/join", canonical_json({"token": TOKEN}))
        wire[1].close()


async def for_ever(work: Callable[[], Awaitable[None]]) -> None:
    """Do it again whatever comes of it."""
    while True:
        with contextlib.suppress(OSError, EOFError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            await work()
        await asyncio.sleep(_PAUSE_S)


async def idle_sockets(stranger: Stranger, ready: Callable[[], None]) -> None:
    """2,100 connections that say nothing, or half a request line; each is opened again when it is hung up on."""
    gate = asyncio.Semaphore(25)  # at most 500 new ones a second: what the stranger's own work may take of the cores

    async def hold(number: int) -> None:
        async with gate:
            reader, writer = await stranger.connect()
            stranger.answers["opened"] += 1
            if number % 2:
                writer.write(b"GET /v1/rooms/room/inb")
            await asyncio.sleep(_PAUSE_S)
        try:
            await reader.read()
        finally:
            writer.close()

    tasks = [asyncio.create_task(for_ever(lambda n=n: hold(n))) for n in range(SOCKETS)]  # type: ignore[misc]
    while stranger.answers["opened"] < SOCKETS:  # noqa: ASYNC110 - a counter, not an event
        await asyncio.sleep(0.05)
    ready()
    await asyncio.gather(*tasks)


async def trickling_uploads(stranger: Stranger, ready: Callable[[], None]) -> None:
    """64 uploads of eight identities, a byte every 15 seconds each."""
    await stranger.enter()

    async def upload(number: int) -> None:
        reader, writer = await stranger.connect()
        sha256 = sha256_hex(number.to_bytes(4, "big"))
        target = f"/v1/rooms/{stranger.room}/blobs/{sha256}"
        writer.write(stranger.head(stranger.people[number % IDENTITIES], "PUT", target, sha256, 10**6) + b"x")
        answer = asyncio.create_task(stranger.status(reader))
        while not (await asyncio.wait([answer], timeout=15.0))[0]:
            writer.write(b"x")
        writer.close()
        await answer

    tasks = [asyncio.create_task(for_ever(lambda n=n: upload(n))) for n in range(UPLOADS)]  # type: ignore[misc]
    await asyncio.sleep(1.0)
    ready()
    await asyncio.gather(*tasks)


async def rooms(stranger: Stranger, ready: Callable[[], None]) -> None:
    """64 rooms, each with a host of its own; again and again those that were refused."""

    async def open_one(number: int) -> None:
        wire = await stranger.connect()
        fields = {"room": f"{stranger.room}-{number}", "token_sha256": sha256_hex(TOKEN.encode())}
        host = Identity.generate()
        while await stranger.ask(wire, host, "POST", "/v1/rooms", canonical_json(fields)) != 201:  # noqa: ASYNC110
            await asyncio.sleep(1.0)
        await asyncio.sleep(_MOST_S)

    tasks = [asyncio.create_task(for_ever(lambda n=n: open_one(n))) for n in range(ROOMS)]  # type: ignore[misc]
    await asyncio.sleep(1.0)
    ready()
    await asyncio.gather(*tasks)


async def self_messages(stranger: Stranger, ready: Callable[[], None]) -> None:
    """57,000 messages to oneself lie there already (`stored`); eight identities go on as fast as they are let."""
    await stranger.enter()
    number = 0

    async def post(who: Identity) -> None:
        nonlocal number
        wire = await stranger.connect()
        while True:
            number += 1
            fields = {"room": stranger.room, "round": 1, "kind": "note", "sender": who.id, "recipient": who.id}
            message = Envelope(body={"n": number, "at": time.time()}, **fields).sealed(who)  # type: ignore[arg-type]
            if await stranger.ask(wire, who, "POST", f"/v1/rooms/{stranger.room}/outbox", message) != 200:
                await asyncio.sleep(_PAUSE_S)
                return

    tasks = [asyncio.create_task(for_ever(lambda who=who: post(who))) for who in stranger.people]  # type: ignore[misc]
    await asyncio.sleep(1.0)
    ready()
    await asyncio.gather(*tasks)


async def long_polls(stranger: Stranger, ready: Callable[[], None]) -> None:
    """1,024 requests of eight identities that wait for a message, asked again when they are refused."""
    await stranger.enter()
    target = f"/v1/rooms/{stranger.room}/inbox?after=0&wait=25"

    async def poll(who: Identity) -> None:
        try:
            wire = await stranger.connect()
            while True:
                if await stranger.ask(wire, who, "GET", target, b"") != 200:
                    await asyncio.sleep(_POLL_PAUSE_S)
        finally:
            await asyncio.sleep(_POLL_PAUSE_S)

    tasks = [
        asyncio.create_task(for_ever(lambda n=n: poll(stranger.people[n % IDENTITIES])))  # type: ignore[misc]
        for n in range(POLLS)
    ]
    await asyncio.sleep(2.0)
    ready()
    await asyncio.gather(*tasks)


async def stored_bytes(stranger: Stranger, ready: Callable[[], None]) -> None:
    """512 MiB of attachments, as fast as they are taken, a MiB each; and on, when that is refused."""
    await stranger.enter()
    block = os.urandom(_BLOB_BYTES)
    count = STORED_BYTES // _BLOB_BYTES
    numbers = iter(range(10**9))

    async def upload(who: Identity) -> None:
        data = block[:-8] + next(numbers).to_bytes(8, "big")
        sha256 = hashlib.sha256(data).hexdigest()
        reader, writer = await stranger.connect()
        target = f"/v1/rooms/{stranger.room}/blobs/{sha256}"
        writer.write(stranger.head(who, "PUT", target, sha256, len(data)) + data)
        status = await stranger.status(reader)
        writer.close()
        if status != 201 or stranger.answers["201"] > count:
            await asyncio.sleep(0.5)

    tasks = [asyncio.create_task(for_ever(lambda who=who: upload(who))) for who in stranger.people]  # type: ignore[misc]
    await asyncio.sleep(1.0)
    ready()
    await asyncio.gather(*tasks)


def store_messages(folder: Path, count: int) -> None:
    """Put messages of strangers to themselves into a relay's folder, before the relay runs."""
    host, people = Identity.generate(), [Identity.generate() for _ in range(IDENTITIES)]
    with Mailbox(folder, Limits(messages=10**6)) as box:
        box.create_room("stored", sha256_hex(TOKEN.encode()), host.public_key)
        for who in people:
            box.join("stored", TOKEN, who.public_key)
        for number in range(count):
            who = people[number % IDENTITIES]
            fields = {"room": "stored", "round": 1, "kind": "note", "sender": who.id, "recipient": who.id}
            box.post("stored", who.id, Envelope(body={"n": number}, **fields).sealed(who))  # type: ignore[arg-type]


KINDS = {
    work.__name__: work for work in (idle_sockets, trickling_uploads, rooms, self_messages, long_polls, stored_bytes)
}


async def run(kind: str, url: str) -> Counter[str]:
    stranger = Stranger(url)
    task = asyncio.create_task(KINDS[kind](stranger, lambda: print(json.dumps({"ready": True}), flush=True)))
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await asyncio.wait([task, ended], timeout=_MOST_S, return_when=asyncio.FIRST_COMPLETED)
    return stranger.answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("--relay", required=True)
    chosen = parser.parse_args()
    loop = asyncio.new_event_loop()
    answers = loop.run_until_complete(run(chosen.kind, chosen.relay))
    print(json.dumps({"answers": dict(answers)}), flush=True)
    os._exit(0)  # thousands of connections are not closed one by one


if __name__ == "__main__":
    main()
