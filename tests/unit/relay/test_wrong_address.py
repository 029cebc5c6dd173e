"""A relay's address that is wrong: said within seconds, with what to check, and without anything secret."""

from __future__ import annotations

import socket
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from relay_fakes import ARTIST, HOST, TOKEN, LyingRelay

from fedart_nb.crypto.canonical_json import canonical_json
from fedart_nb.errors import RelayError, RelayRefused, RelayUnreachable
from fedart_nb.relay import Invite, RelayClient, create_room, serve_in_thread
from fedart_nb.relay.client import require_relay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LIMIT_S = 10.0


@pytest.fixture
def liar() -> Iterator[LyingRelay]:
    relay = LyingRelay()
    yield relay
    relay.stop()


def a_closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def ask(way: str, url: str) -> None:
    if way == "create_room":
        create_room(url, HOST)
    elif way == "require_relay":
        require_relay(url, HOST)
    else:
        RelayClient(Invite(url, "room", TOKEN, HOST.id), ARTIST).join()


@pytest.mark.parametrize("way", ["create_room", "join", "require_relay"])
def test_where_nothing_listens_it_is_said_within_ten_seconds(way: str) -> None:
    started = time.monotonic()
    with pytest.raises(RelayUnreachable, match=r"no relay listens at port .*Is it running") as caught:
        ask(way, f"http://127.0.0.1:{a_closed_port()}")
    assert time.monotonic() - started < LIMIT_S
    assert TOKEN not in str(caught.value)


def test_what_takes_connections_and_says_nothing_is_given_up_within_ten_seconds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(RelayUnreachable, match="does not answer as a relay does"):
            ask("join", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert time.monotonic() - started < LIMIT_S


def test_a_name_that_nobody_knows_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(RelayUnreachable, match="look for a typo"):
        ask("join", "https://rely.example")


def test_a_name_that_is_looked_up_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    end = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: end.wait())
    started = time.monotonic()
    with pytest.raises(RelayUnreachable, match="was not looked up within"):
        ask("join", "https://relay.example")
    assert time.monotonic() - started < LIMIT_S
    end.set()


def test_what_speaks_another_language_is_said_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def speak() -> None:
            while True:
                try:
                    accepted, _ = server.accept()
                except OSError:
                    return
                accepted.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
                accepted.close()

        threading.Thread(target=speak, daemon=True).start()
        with pytest.raises(RelayUnreachable, match="does not speak http"):
            ask("join", f"http://127.0.0.1:{server.getsockname()[1]}")
        server.shutdown(socket.SHUT_RDWR)


def test_patience_that_was_asked_for_is_kept() -> None:
    heard: list[str] = []
    client = RelayClient(
        Invite(f"http://127.0.0.1:{a_closed_port()}", "room", TOKEN, HOST.id),
        ARTIST,
        patience_s=0.3,
        on_wait=heard.append,
        backoff_s=(0.01, 0.02),
    )
    with pytest.raises(RelayUnreachable, match=r"did not answer for 0\.3 s"):
        client.join()
    assert len(heard) > 3


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
@pytest.mark.parametrize("way", ["create_room", "join", "require_relay"])
def test_a_redirect_is_named_and_not_followed(liar: LyingRelay, status: int, way: str) -> None:
    for verb in ("rooms", "join", "healthz"):
        liar.says(verb, (status, b""))
    target = {"create_room": "/v1/rooms", "join": "/v1/rooms/room/join", "require_relay": "/healthz"}[way]
    liar.headers = {"Location": f"https://relay.example:444/hub{target}?next={TOKEN}"}
    with pytest.raises(
        RelayError, match=rf"redirects to .*status {status}.*use the address 'https://relay.example:444/hub'"
    ) as caught:
        ask(way, liar.url)
    assert TOKEN not in str(caught.value)


def test_a_redirect_to_a_log_in_page_or_to_nowhere_is_said_so(liar: LyingRelay) -> None:
    liar.says("join", (302, b""))
    with pytest.raises(RelayError, match="without saying where to"):
        ask("join", liar.url)
    liar.headers = {"Location": "/hub/login?next=%2Fv1"}
    with pytest.raises(RelayError, match=r"redirects to '/hub/login'.*log-in page"):
        ask("join", liar.url)


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "TEXT/HTML", "text/plain", "application/xhtml+xml"])
def test_a_web_page_in_the_place_of_a_relay_is_said_so(liar: LyingRelay, kind: str) -> None:
    liar.says("join", (200, b"<html>Welcome to the hotel's network"))
    liar.headers = {"Content-Type": kind}
    with pytest.raises(RelayError, match="log-in page of a network"):
        ask("join", liar.url)


def test_a_web_page_does_not_pass_for_an_attachment_that_is_there(liar: LyingRelay) -> None:
    from fedart_nb.relay import Envelope

    liar.says("join", {"room": "room", "host_id": HOST.id, "blob_limit_bytes": 1000})
    client = RelayClient(Invite(liar.url, "room", TOKEN, HOST.id), ARTIST)
    client.join()
    liar.says("blobs", (200, b""))
    liar.headers = {"Content-Type": "text/html"}
    fields: dict[str, Any] = {"room": "room", "round": 1, "kind": "note", "sender": ARTIST.id, "recipient": "all"}
    with pytest.raises(RelayError, match="text/html"):
        client.send(Envelope(attachments={"u": b"bytes"}, **fields), ARTIST)
    client.close()


def test_a_relay_that_repeats_the_token_in_its_refusal_does_not_bring_it_into_the_message(liar: LyingRelay) -> None:
    liar.says("join", (400, canonical_json({"error": f"You sent {TOKEN}\u001b[2J.", "do": "x" * 60_000})))
    with pytest.raises(RelayRefused, match="You sent ") as caught:
        ask("join", liar.url)
    assert TOKEN not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 2000


def test_an_address_without_a_relay_or_without_its_secret_is_known_before_anything_long(
    tmp_path: Path, liar: LyingRelay, serve: Callable[..., Any]
) -> None:
    secret = serve(tmp_path, opening_secret="open sesame")
    with pytest.raises(RelayError, match="FEDART_OPENING_SECRET"):
        require_relay(secret.url, HOST)
    assert require_relay(secret.url, HOST, opening_secret="open sesame").opening_secret == "open sesame"
    assert require_relay(f"{secret.url}#open=open+sesame", HOST).url == secret.url


def test_who_goes_over_the_internet_in_the_clear_hears_a_word(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="without encryption"):
        RelayClient(Invite("http://relay.example", "room", TOKEN, HOST.id), ARTIST).close()
    with serve_in_thread(tmp_path) as relay, warnings.catch_warnings():
        warnings.simplefilter("error")
        RelayClient(create_room(relay.url, HOST), ARTIST).close()
