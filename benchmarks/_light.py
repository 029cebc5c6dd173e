"""An artist and a host as processes that train nothing: the rounds themselves, to be timed or killed, without pictures.

python benchmarks/_light.py host --folder F --relay URL --artists 4 --size 1000      prints the invite, then events
python benchmarks/_light.py artist --folder F --invite LINK --name Ada               prints what it does

`--at KIND:before` or `KIND:after` kills the process with SIGKILL right before or after it sends such a message;
`KIND:tell` says that it will send one now, `KIND:hold` also waits for a line on its standard input (`Process.go`).
`--noise Z` has the host's plan noise whole artists. `--wait 1` lets a host wait, after the invite, for such a line.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from fedart_nb._system.files import FolderKeeper, write_private
from fedart_nb.errors import FedArtError
from fedart_nb.federated import ArtistSide, pack, unpack
from fedart_nb.relay import Envelope, RelayClient, Transport
from fedart_nb.relay.wire import sha256_hex
from fedart_nb.secagg import Identity

__all__ = ["BACKBONE", "Process", "memory_mib", "shared_adapter", "value_of"]

BACKBONE = "b" * 64
NOISE: dict[str, Any] = {"clip_norm": 1.0, "delta": 1e-3}
_LIMIT_BYTES = 2**30


class Marked:
    """A transport that ends its own process with SIGKILL, or stops for a moment, around one kind of message."""

    def __init__(self, inner: Transport, at: str) -> None:
        self._inner = inner
        self._kind, _, self._when = at.partition(":")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def send(self, envelope: Envelope, identity: Identity) -> int:
        due = envelope.kind == self._kind
        if due and self._when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        if due and self._when in ("tell", "hold"):
            say(about=envelope.kind)
        if due and self._when == "hold":
            sys.stdin.readline()
        seq = self._inner.send(envelope, identity)
        if due and self._when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return seq


class Process:
    """A light artist or host; its events are collected by a thread, `wait_for` waits for one."""

    def __init__(self, role: str, folder: Path, **settings: Any) -> None:
        options = [text for key, value in settings.items() for text in (f"--{key.replace('_', '-')}", str(value))]
        command = [sys.executable, __file__, role, "--folder", str(folder), *options]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
        self.events: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, limit_s: float = 120.0, **expected: Any) -> dict[str, Any]:
        """The first event with these entries; raises TimeoutError when none comes, or the process ends without."""

        def found() -> dict[str, Any] | None:
            return next((e for e in self.events if all(e.get(k) == v for k, v in expected.items())), None)

        with self._news:
            self._news.wait_for(lambda: found() or not self._reader.is_alive(), limit_s)
            event = found()
        if event is None:
            raise TimeoutError(f"no {expected} among {self.events[-5:]}")
        return event

    def wait_for_key(self, key: str, limit_s: float = 120.0) -> dict[str, Any]:
        """The first event that has an entry `key`."""
        with self._news:
            self._news.wait_for(lambda: any(key in e for e in self.events) or not self._reader.is_alive(), limit_s)
            found = [event for event in self.events if key in event]
        if not found:
            raise TimeoutError(f"no {key!r} among {self.events[-5:]}")
        return found[0]

    def go(self) -> None:
        """Let a process that waits go on."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def ended(self, limit_s: float = 120.0) -> None:
        """Wait until the process has ended by itself."""
        self._process.wait(limit_s)
        self._reader.join()

    def kill(self) -> None:
        """SIGKILL, by its own id."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self.close()

    def close(self) -> None:
        """Wait until the process has ended, for at most a minute; then kill it."""
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            with self._news:
                self.events.append(json.loads(line))
                self._news.notify_all()
        with self._news:
            self._news.notify_all()


def shared_adapter(size: int) -> bytes:
    """An adapter of `size` numbers: A is a one, B is zeros."""
    ours = {"config": {"rank": 1, "alpha": 1.0, "targets": "x"}, "backbone_sha256": BACKBONE}
    tensors = {
        "unet.x.lora_A.weight": np.ones((1, 1), np.float32),
        "unet.x.lora_B.weight": np.zeros((size - 1, 1), "f4"),
    }
    return pack(tensors, {"fedart": json.dumps(ours)})


def value_of(artist: str) -> float:
    """The number that an artist's update is made of: below 0.25, another for every id."""
    return int(artist[:4], 16) / 2**18


def memory_mib(pid: int | None = None) -> dict[str, float]:
    """Memory that a process holds (`now_mib`), and the most that it held so far (`peak_mib`); Linux only."""
    lines = Path(f"/proc/{pid or 'self'}/status").read_text().splitlines()
    held = dict(line.split(":", 1) for line in lines if line.startswith("Vm"))
    return {name: int(held[key].split()[0]) / 1024 for name, key in (("now_mib", "VmRSS"), ("peak_mib", "VmHWM"))}


def say(**event: Any) -> None:
    print(json.dumps(event | {"at": time.time()}), flush=True)


def artist(chosen: argparse.Namespace) -> None:
    """Take part until the room is closed; a state file makes the next process go on as the same artist."""
    chosen.folder.mkdir(parents=True, exist_ok=True)
    identity = Identity.load_or_create(chosen.folder / "identity.key")
    client = RelayClient(chosen.invite, identity, backoff_s=(0.05, 0.5))
    transport: Any = Marked(client, chosen.at) if chosen.at else client
    side = ArtistSide(
        room=client.room,
        host=client.host_id,
        identity=identity,
        name=chosen.name,
        backbone_sha256=BACKBONE,
        keeper=FolderKeeper(chosen.folder / "rounds"),
    )
    state, kept = chosen.folder / "side.json", chosen.folder / "update.safetensors"
    if state.exists():
        side.restore(json.loads(state.read_text()))

    def save() -> None:
        write_private(state, json.dumps(side.snapshot()).encode())

    def send(envelope: Envelope) -> None:
        transport.send(envelope, identity)
        say(sent=envelope.kind)

    send(side.hello())
    say(ready=True, **memory_mib())
    cursor = 0
    while not side.closed:
        for seq, message in transport.receive(cursor, 5):
            envelope = transport.fetch(message, _LIMIT_BYTES) if message.sender == side.host else message
            try:
                for answer in side.feed(envelope):
                    send(answer)
            except FedArtError as error:
                say(error=str(error))
            cursor = seq
            if envelope.kind == "result":
                result = sha256_hex(envelope.attachments["shared"])
                say(result=result, contributors=side.contributors, **memory_mib())
        if side.needs_answer():
            send(side.answer(contribute=True))
        if side.task is not None:
            train(side, kept, chosen, send)
        save()


def train(side: ArtistSide, kept: Path, chosen: argparse.Namespace, send: Any) -> None:
    """Sleep as long as training would take, with signs of life; then an update that the test can recognise."""
    task = side.task
    if task is None:
        return
    say(training=True)
    until = time.monotonic() + chosen.train_s
    while (left_s := until - time.monotonic()) > 0:
        time.sleep(min(left_s, 0.5))
        send(side.progress(int(10 * (1 - max(0.0, left_s) / max(chosen.train_s, 1e-9))), 10))
    if not kept.exists():
        write_private(kept, pack({n: np.full_like(a, value_of(side.me)) for n, a in task.shared.items()}))
    say(trained=True, **memory_mib())
    try:
        send(side.submit(unpack(kept.read_bytes()), pictures=10))
    except FedArtError as error:
        side.task = None
        say(error=str(error))


def host(chosen: argparse.Namespace) -> None:
    """Host rounds over an adapter of `--size` numbers; without `--relay`, go on after a kill."""
    from fedart_nb.federated import RoundPlan
    from fedart_nb.host import host as module

    studio = module.Host("Studio", folder=chosen.folder)
    if chosen.relay:
        shared = shared_adapter(chosen.size)
        studio.invite = module.create_room(chosen.relay, studio.identity)
        studio._connect(RelayClient(studio.invite, studio.identity))
        studio._shared = shared
        studio.plan = RoundPlan(
            room=studio.invite.room,
            number=1,
            total=chosen.rounds,
            backbone_sha256=BACKBONE,
            shared_sha256=sha256_hex(shared),
            host_key=studio.identity.public_key.hex(),
            min_artists=chosen.artists,
            join_s=3600,
            patience_s=chosen.patience_s,
            door="open",
            **({"protection": "artist", "noise_multiplier": chosen.noise, **NOISE} if chosen.noise else {}),
        )
        studio._save()
    if chosen.at:
        studio._connect(Marked(studio.transport, chosen.at))  # type: ignore[arg-type]
    say(invite=str(studio.invite), **memory_mib())
    if chosen.wait:
        sys.stdin.readline()
        say(begun=True)
    for event in studio.rounds():
        say(event=type(event).__name__, text=str(event))
    say(over=True, **memory_mib())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("role", choices=("artist", "host"))
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--at", default="")
    parser.add_argument("--invite", default="")
    parser.add_argument("--name", default="Ada")
    parser.add_argument("--train-s", type=float, default=0.0)
    parser.add_argument("--relay", default="")
    parser.add_argument("--artists", type=int, default=4)
    parser.add_argument("--size", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--noise", type=float, default=0.0)
    parser.add_argument("--patience-s", type=float, default=5.0)
    parser.add_argument("--wait", type=int, default=0)
    chosen = parser.parse_args()
    {"artist": artist, "host": host}[chosen.role](chosen)


if __name__ == "__main__":
    sys.exit(main())
