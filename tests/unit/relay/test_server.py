"""Running a relay: ready when it says so, private unless told otherwise."""

from __future__ import annotations

import socket
import subprocess
import sys
from dataclasses import fields
from typing import TYPE_CHECKING

import httpx
import pytest

import fedart_nb.relay
from fedart_nb.errors import RelayError
from fedart_nb.relay import Limits, RelayClient, create_room, serve_in_thread
from fedart_nb.relay.__main__ import main
from fedart_nb.relay.limits import option_of
from fedart_nb.secagg import Identity

if TYPE_CHECKING:
    from pathlib import Path


def test_it_answers_as_soon_as_it_is_there_and_stops_when_told(tmp_path: Path) -> None:
    relay = serve_in_thread(tmp_path)
    assert httpx.get(f"{relay.url}/healthz", trust_env=False).json()["ok"] is True
    assert "running=True" in repr(relay)
    relay.stop()
    relay.stop()
    assert not relay.running
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{relay.url}/healthz", trust_env=False)


def test_it_listens_on_loopback_only(tmp_path: Path) -> None:
    with serve_in_thread(tmp_path) as relay:
        assert relay.url.startswith("http://127.0.0.1:")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "::"])
def test_a_public_address_is_refused_without_the_flag(
    tmp_path: Path, host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RelayError, match="--allow-public-without-tls"):
        serve_in_thread(tmp_path, host)
    assert main(["--data", str(tmp_path), "--host", host]) == 2
    assert "--tls-self-signed" in capsys.readouterr().err


def test_a_port_that_is_taken_is_said_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(RelayError, match="Choose another port"):
        serve_in_thread(tmp_path, port=taken.getsockname()[1])


def test_a_folder_in_use_is_said_so_and_the_port_is_free_again(tmp_path: Path) -> None:
    with serve_in_thread(tmp_path):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        with pytest.raises(RelayError, match="Another relay is using"):
            serve_in_thread(tmp_path, port=port)
        with socket.create_server(("127.0.0.1", port)):
            pass


def test_a_client_reaches_it_under_a_prefix(tmp_path: Path) -> None:
    with serve_in_thread(tmp_path, root_path="/user/ada/proxy/8765") as relay:
        assert relay.url.endswith("/user/ada/proxy/8765")
        host = Identity.generate()
        invite = create_room(relay.url, host)
        client = RelayClient(str(invite), host)
        assert client.receive(0, 0) == []
        client.close()


def test_the_relay_knows_no_torch_and_no_numpy() -> None:
    code = (
        "import sys, fedart_nb.relay, fedart_nb.relay.__main__\n"
        "heavy = {'torch', 'numpy', 'diffusers', 'PIL', 'matplotlib', 'ipywidgets', 'IPython'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"


def test_the_public_names_are_there() -> None:
    for name in fedart_nb.relay.__all__:
        assert getattr(fedart_nb.relay, name) is not None
    assert sorted(set(fedart_nb.relay.__all__)) == sorted(fedart_nb.relay.__all__)


def test_every_limit_is_an_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    for limit in fields(Limits):
        assert f"{option_of(limit.name)} N" in shown
    assert main(["--data", str(tmp_path), "--max-members", "513"]) == 2
    assert "at most 512" in capsys.readouterr().err
    assert main(["--data", str(tmp_path), "--keep-days", "0"]) == 2
    assert "Limit keep_days is 0" in capsys.readouterr().err
