"""Starts the relay as a process of its own and stops it at the end of a `with` block."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedart_nb.errors import RelayUnreachable

__all__ = ["relay_process"]


@contextmanager
def relay_process(folder: Path, *, log: Path | None = None) -> Iterator[str]:
    """A relay on a free loopback port that keeps its data in `folder`; yields its address and stops it at the end.

    Its structured log goes to the file `log`, or to this process's stderr.
    Raises RelayUnreachable when the relay ends before it has said where it listens.

    Example:
        with relay_process(Path("out/relay")) as url: ...

    """
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "fedart_nb.relay", "--host", "127.0.0.1", "--port", "0", "--data", str(folder)]
    stderr = log.open("wb") if log is not None else None
    # A session of its own: Ctrl-C in the terminal asks JupyterLab first, and must not take the relay away meanwhile.
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, start_new_session=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                message = f"The relay ended with status {process.wait()} before it listened; its own message is above."
                raise RelayUnreachable(message)
            yield str(json.loads(line)["url"])
        finally:
            process.terminate()
            if stderr is not None:
                stderr.close()
