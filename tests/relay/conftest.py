"""Starts real relays for the tests of this folder, and leaves none behind."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DEADLINE_S = 20.0


@dataclass
class Relay:
    process: subprocess.Popen[str]
    url: str
    pid: int
    errors: Path

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.process.wait(DEADLINE_S)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Relay]]:
    started: list[Relay] = []

    def run(
        *options: str, port: int | None = 0, flags: tuple[str, ...] = (), environment: dict[str, str] | None = None
    ) -> Relay:
        errors = tmp_path / f"stderr-{len(started)}"
        command = [*flags, "-m", "fedart_nb.relay", "--data", str(tmp_path / "data"), *options]
        if port is not None:
            command += ["--port", str(port)]
        with errors.open("w") as log:
            process = subprocess.Popen(
                [sys.executable, *command],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | (environment or {}),
            )
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], DEADLINE_S)
        line = process.stdout.readline() if readable else ""
        assert line, f"the relay did not start: {errors.read_text()}"
        ready = json.loads(line)
        relay = Relay(process, ready["url"], ready["pid"], errors)
        started.append(relay)
        return relay

    yield run
    for relay in started:
        if relay.process.poll() is None:
            relay.kill()
        if relay.process.stdout:
            relay.process.stdout.close()
