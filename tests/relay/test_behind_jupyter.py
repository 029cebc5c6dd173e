"""The relay behind a real Jupyter server with jupyter-server-proxy, under a prefix, with blobs of several pieces."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import socket
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import httpx
import pytest

from fedart_nb.relay import Envelope, RelayClient, create_room
from fedart_nb.relay.jupyter import server
from fedart_nb.secagg import Identity

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(importlib.util.find_spec("jupyter_server_proxy") is None, reason="needs jupyter-server-proxy"),
]

HOST, ARTIST = Identity.generate(), Identity.generate()


def test_the_entry_point_is_the_one_that_is_tested() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    entries = tomllib.loads(text)["project"]["entry-points"]["jupyter_serverproxy_servers"]
    assert entries == {"fedart-relay": "fedart_nb.relay.jupyter:server"}


def test_a_room_behind_jupyter_server_proxy(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    settings = {
        "ServerApp": {
            "ip": "127.0.0.1",
            "port": port,
            "open_browser": False,
            "allow_root": True,
            "base_url": "/user/ada/",
            "root_dir": str(tmp_path),
            "jpserver_extensions": {"jupyter_server_proxy": True},
        },
        "IdentityProvider": {"token": ""},
        "ServerProxy": {"servers": {"fedart-relay": server()}},
    }
    (tmp_path / "jupyter_server_config.json").write_text(json.dumps(settings))
    environment = {
        "JUPYTER_CONFIG_DIR": str(tmp_path),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
        "FEDART_HOME": str(tmp_path / "home"),
    }
    command = [sys.executable, "-m", "jupyter_server"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, env=os.environ | environment, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}/user/ada/fedart-relay"
        waited: list[str] = []
        invite = create_room(url, HOST, on_wait=waited.append, patience_s=60)
        assert httpx.get(f"{url}/healthz", trust_env=False).json()["ok"] is True
        host, artist = RelayClient(str(invite), HOST), RelayClient(str(invite), ARTIST)
        blob = random.Random(0).randbytes(5_000_000)
        fields: dict[str, Any] = {"kind": "update", "sender": ARTIST.id, "recipient": "host"}
        envelope = Envelope(room=invite.room, round=1, attachments={"u": blob}, **fields)
        assert artist.send(envelope, ARTIST) == 1
        (delivered,) = host.receive(0, 20)
        assert host.fetch(delivered.envelope, 6_000_000) == envelope
        assert host.receive(1, 0.5) == [], "long-polls pass"
        artist.close()
        host.close()
    except Exception as error:
        error.add_note((tmp_path / "log").read_text()[-3000:])
        raise
    finally:
        process.terminate()
        process.wait(30)
