"""A workshop of real processes: a relay, and kernels that run cells as a notebook does; each can be killed."""

from __future__ import annotations

import json
import os
import select
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from queue import Empty
from typing import Any
from urllib.parse import urlsplit

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

__all__ = ["DEADLINE_S", "Kernel", "Relay", "Workshop"]

DEADLINE_S = 150.0

_START = """
import threading
from pathlib import Path
from fedart_nb import ArtSet, Backbone, Host, Session
from fedart_nb.events import Step, UpdateSent
backbone = Backbone.embedded()
print("kernel is ready")
"""


class Relay:
    """`python -m fedart_nb.relay`; `start` after a `kill` takes the same port and folder again."""

    def __init__(self, folder: Path) -> None:
        self.data, self.errors = folder / "data", folder / "stderr"
        folder.mkdir(parents=True)
        self._port = 0
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "fedart_nb.relay", "--data", str(self.data), "--port", str(self._port)]
        with self.errors.open("a") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], DEADLINE_S)
        line = self.process.stdout.readline() if readable else ""
        assert line, f"the relay did not start: {self.errors.read_text()}"
        self.url = json.loads(line)["url"]
        self._port = urlsplit(self.url).port or 0

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(DEADLINE_S)

    def stored(self, room: str, kind: str) -> list[tuple[int, str]]:
        """(round, sender) of every message of a kind in a room, read from the relay's own file."""
        database = sqlite3.connect(f"file:{self.data / 'relay.sqlite3'}?mode=ro", uri=True)
        try:
            rows = database.execute(
                "SELECT round, sender FROM messages WHERE room = ? AND kind = ? ORDER BY seq", (room, kind)
            )
            return [(int(number), str(sender)) for number, sender in rows]
        finally:
            database.close()

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()
        if self.process.stdout:
            self.process.stdout.close()


class Kernel:
    """One ipykernel process. `run` starts a cell; `expect` reads its output until a text is there."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._manager = KernelManager(kernel_name="python3")
        self._manager.start_kernel(
            cwd=str(home), env={**os.environ, "OMP_NUM_THREADS": "1", "FEDART_THREADS": "1", "FEDART_HOME": str(home)}
        )
        self._client: BlockingKernelClient = self._manager.client()
        self._client.start_channels()
        self._cell = ""
        self.output = ""
        self.ended = False

    def ready(self) -> None:
        """Import the package and load the backbone; returns at once, `expect("kernel is ready")` waits."""
        self._client.wait_for_ready(timeout=DEADLINE_S)
        self.run(_START)

    @property
    def pid(self) -> int:
        return int(self._manager.provisioner.pid)  # type: ignore[union-attr]

    def run(self, cell: str) -> None:
        self._cell, self.output, self.ended = self._client.execute(cell), "", False

    def expect(self, text: str) -> str:
        """Read until `text` is in the running cell's output; returns that output."""
        deadline = time.monotonic() + DEADLINE_S
        while text not in self.output:
            assert not self.ended, f"the cell ended without {text!r}:\n{self.output}"
            self._read(deadline, text)
        return self.output

    def finish(self) -> str:
        """Read until the running cell has ended, which must be without an error; returns its output."""
        deadline = time.monotonic() + DEADLINE_S
        while not self.ended:
            self._read(deadline, "its end")
        return self.output

    def ask(self, cell: str) -> str:
        """Run a cell to its end and return what it printed."""
        self.run(cell)
        return self.finish().strip()

    def kill(self) -> None:
        """`kill -9`, then wait until the process is gone."""
        os.kill(self.pid, signal.SIGKILL)
        self._close()

    def close(self) -> None:
        if self._manager.has_kernel:
            self._close()

    def _close(self) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)

    def _read(self, deadline: float, awaited: str) -> None:
        left_s = deadline - time.monotonic()
        assert left_s > 0, f"no {awaited!r} within {DEADLINE_S:g} s:\n{self.output}"
        assert self._manager.is_alive(), f"the kernel died before {awaited!r}:\n{self.output}"
        try:
            message: dict[str, Any] = self._client.get_iopub_msg(timeout=min(left_s, 1.0))
        except Empty:
            return
        if message["parent_header"].get("msg_id") != self._cell:
            return
        content = message["content"]
        if message["msg_type"] == "stream":
            self.output += content["text"]
        elif message["msg_type"] == "error":
            raise AssertionError("\n".join([self.output, *content["traceback"]]))
        elif message["msg_type"] == "status" and content["execution_state"] == "idle":
            self.ended = True


class Workshop:
    """A relay, the host's kernel and three artists' kernels. A killed kernel is started anew by `kernel(name)`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.relay = Relay(folder / "relay")
        self._kernels: dict[str, Kernel] = {}

    def kernel(self, name: str) -> Kernel:
        if name not in self._kernels:
            self.start(name)
            self._kernels[name].expect("kernel is ready")
        return self._kernels[name]

    def start(self, *names: str) -> None:
        """Start kernels side by side; `kernel(name)` waits for one."""
        for name in names:
            home = self.folder / "homes" / name
            home.mkdir(parents=True, exist_ok=True)
            self._kernels[name] = Kernel(home)
        for name in names:
            self._kernels[name].ready()

    def kill(self, name: str) -> None:
        """`kill -9` a kernel in the middle of whatever it does."""
        self._kernels.pop(name).kill()

    def stop_what_still_runs(self) -> None:
        """After a test that failed: the next one gets fresh kernels in place of those whose cells have not ended."""
        for name in [name for name, kernel in self._kernels.items() if not kernel.ended]:
            self.kill(name)

    def close(self) -> None:
        for kernel in self._kernels.values():
            kernel.close()
        self.relay.close()
