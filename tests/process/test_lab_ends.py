"""`fedart lab` takes its relay and JupyterLab with it when its terminal is closed or it is killed."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]


def listens(url: str) -> bool:
    parts = urlsplit(url)
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((parts.hostname, parts.port)) == 0


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="signals of POSIX")
@pytest.mark.parametrize("number", ["SIGTERM", "SIGHUP"])
def test_nothing_is_left_listening(number: str, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    unhindered = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL); "  # though the tests run under nohup
    start = unhindered + "import sys; from fedart_nb.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", start, "lab", "--no-browser", f"--port={port}", str(tmp_path / "work")]
    environment = os.environ | {"FEDART_HOME": str(tmp_path / "home")}
    with (
        (tmp_path / "log").open("w+") as log,
        subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log) as lab,
    ):
        try:
            relay, jupyter = "", f"http://127.0.0.1:{port}"
            until = time.monotonic() + 60
            while not (relay and listens(relay) and listens(jupyter)):
                assert time.monotonic() < until, (tmp_path / "log").read_text()
                assert lab.poll() is None, (tmp_path / "log").read_text()
                found = re.search(r"relay listens at (\S+)", (tmp_path / "log").read_text())
                relay = found[1] if found else ""
                time.sleep(0.2)
            lab.send_signal(getattr(signal, number))
            assert lab.wait(30) == 128 + getattr(signal, number)
        finally:
            lab.kill()
    until = time.monotonic() + 20
    while listens(relay) or listens(jupyter):
        assert time.monotonic() < until, "something still listens"
        time.sleep(0.2)
