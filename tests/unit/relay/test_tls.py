"""The relay's certificate: known by its fingerprint, or not at all."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest
from relay_fakes import ARTIST, HOST

from fedart_nb.errors import RelayError, WireError
from fedart_nb.relay import Address, Certificate, Envelope, Invite, RelayClient, create_room
from fedart_nb.relay.__main__ import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OTHER_PIN = "0" * 64


def test_a_room_behind_a_self_signed_certificate(tmp_path: Path, serve: Callable[..., Any]) -> None:
    certificate = Certificate.self_signed(tmp_path, "127.0.0.1")
    relay = serve(tmp_path, tls=certificate)
    assert relay.url.startswith("https://127.0.0.1:")
    assert relay.url.endswith(f"#cert={certificate.pin}")
    invite = create_room(relay.url, HOST)
    assert Invite.parse(str(invite)) == invite
    assert invite.cert == certificate.pin
    host, artist = RelayClient(str(invite), HOST), RelayClient(str(invite), ARTIST)
    blob = bytes(3_000_000)
    update = Envelope(
        room=invite.room, round=1, kind="update", sender=ARTIST.id, recipient="host", attachments={"u": blob}
    )
    artist.send(update, ARTIST)
    (delivered,) = host.receive(0, 5)
    assert host.fetch(delivered.envelope, 4_000_000) == update
    host.close()
    artist.close()


def test_another_certificate_than_the_invites_is_refused_at_once(tmp_path: Path, serve: Callable[..., Any]) -> None:
    relay = serve(tmp_path, tls=Certificate.self_signed(tmp_path, "127.0.0.1"))
    invite = create_room(relay.url, HOST)
    wrong = Invite(invite.url, invite.room, invite.token, HOST.id, OTHER_PIN)
    client = RelayClient(wrong, ARTIST)
    with pytest.raises(RelayError, match=r"the link names 0000000000000000\.\.\. Somebody may stand between"):
        client.join()
    client.close()


def test_a_certificate_that_changes_in_between_is_refused_at_once(tmp_path: Path, serve: Callable[..., Any]) -> None:
    relay = serve(tmp_path / "relay", tls=Certificate.self_signed(tmp_path / "one", "127.0.0.1"))
    invite = create_room(relay.url, HOST)
    client = RelayClient(invite, ARTIST, patience_s=60)
    client.join()
    relay.stop()
    port = int(invite.url.rpartition(":")[2])
    serve(tmp_path / "relay", port=port, tls=Certificate.self_signed(tmp_path / "two", "127.0.0.1"))
    with pytest.raises(RelayError, match="Somebody may stand between you and the relay"):
        client.receive(0, 0)
    client.close()


def test_a_certificate_that_nobody_vouches_for_is_refused_without_its_fingerprint(
    tmp_path: Path, serve: Callable[..., Any]
) -> None:
    relay = serve(tmp_path, tls=Certificate.self_signed(tmp_path, "127.0.0.1"))
    with pytest.raises(RelayError, match=r"does not trust .* copy all of it"):
        create_room(relay.url.partition("#")[0], HOST)


def test_a_fingerprint_is_waited_for_while_the_relay_is_away(tmp_path: Path, serve: Callable[..., Any]) -> None:
    certificate = Certificate.self_signed(tmp_path, "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]

    def start(sentence: str) -> None:
        if sentence and not started:
            started.append(serve(tmp_path, port=port, tls=certificate))

    started: list[Any] = []
    url = f"https://127.0.0.1:{port}#cert={certificate.pin}"
    create_room(url, HOST, on_wait=start, backoff_s=(0.01, 0.05))
    assert started


def test_the_folder_keeps_its_certificate_and_its_key_to_itself(tmp_path: Path) -> None:
    first, second = (Certificate.self_signed(tmp_path / "relay", "192.0.2.7") for _ in range(2))
    assert first == second
    assert first.key.stat().st_mode & 0o077 == 0


def test_files_that_do_not_fit_together_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = (Certificate.self_signed(tmp_path / name, "127.0.0.1") for name in ("one", "two"))
    assert Certificate(one.certificate, one.key).pin is None, "whoever brings a certificate hands out no fingerprint"
    with pytest.raises(RelayError, match="no certificate and key that fit together"):
        Certificate(one.certificate, two.key)
    data = ["--data", str(tmp_path / "relay")]
    assert main([*data, "--tls-cert", str(one.certificate)]) == 2
    assert "give both" in capsys.readouterr().err
    assert main([*data, "--tls-cert", str(tmp_path / "none"), "--tls-key", str(one.key)]) == 2
    assert "fit together" in capsys.readouterr().err
    assert main([*data, "--tls-self-signed", "--tls-key", str(one.key)]) == 2
    assert "leave --tls-cert" in capsys.readouterr().err


def test_an_address_says_what_a_host_must_know() -> None:
    address = Address.parse(f" https://relay.example/#cert={OTHER_PIN}&open=open+sesame\n")
    assert address == Address("https://relay.example", OTHER_PIN, "open sesame")
    assert "sesame" not in repr(address)
    with_colons = ":".join(["AB"] * 32)
    assert Address.parse(f"https://relay.example#cert={with_colons}").cert == "ab" * 32
    assert Address.parse("http://127.0.0.1:8765") == Address("http://127.0.0.1:8765")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("https://relay.example#cert=abc", "64 hex digits"),
        (f"http://relay.example#cert={OTHER_PIN}", "has no certificate"),
        ("https://relay.example#token=t", "'token' behind https://relay.example# is unknown"),
        ("https://relay.example#open", "is damaged"),
        ("relay.example", "no relay address"),
    ],
)
def test_an_address_that_is_none_is_explained(text: str, message: str) -> None:
    with pytest.raises(WireError, match=message):
        Address.parse(text)


@pytest.mark.parametrize("secret", ["", "short"])
def test_a_secret_that_is_none_is_said_so(
    tmp_path: Path, secret: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RELAY_SECRET", secret)
    assert main(["--data", str(tmp_path), "--open-rooms-with", "RELAY_SECRET"]) == 2
    assert "8 characters or more" in capsys.readouterr().err
