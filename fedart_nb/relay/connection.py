"""Signed HTTP requests to one relay, tried again (with jitter) while the relay cannot be reached."""

from __future__ import annotations

import email.utils
import hashlib
import ipaddress
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn
from urllib.parse import urlsplit

import httpx

from fedart_nb.errors import RelayRefused, RelayUnreachable, TooLarge, WireError
from fedart_nb.relay.invite import check_url
from fedart_nb.relay.signing import EMPTY_SHA256, WINDOW_S, signature_headers
from fedart_nb.relay.wire import AttachmentRef, canonical_json, parse_json, sha256_hex
from fedart_nb.secagg.identity import Identity

__all__ = ["Connection", "OnWait"]

OnWait = Callable[[str], None]

_ANSWER_LIMIT_BYTES = 64 * 2**20
_CHUNK_BYTES = 2**20
_Taken = Callable[[httpx.Response], Any]


class Connection:
    """Asks one relay as one identity.

    A request that gets no answer, or a 5xx, is signed anew and repeated until `patience_s` seconds have passed; any
    other answer is final. `on_wait` is told in a sentence why nothing happens, and "" when it goes on; it may raise to
    give up.
    """

    def __init__(
        self,
        url: str,
        identity: Identity,
        *,
        patience_s: float = 120.0,
        timeout_s: float = 30.0,
        on_wait: OnWait | None = None,
        clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
        backoff_s: tuple[float, float] = (0.2, 5.0),
    ) -> None:
        self.url = check_url(url)
        self.identity = identity
        self.closed = threading.Event()
        self._patience_s = patience_s
        self._timeout_s = timeout_s
        self._on_wait = on_wait or (lambda _: None)
        self._clock = clock
        self._clock_offset_s = 0.0
        self._rng = rng or random.Random()  # noqa: S311 - jitter only, nothing secret
        self._backoff_s = backoff_s
        self._http = httpx.Client(
            headers={"accept-encoding": "identity"},  # sizes on the wire are the sizes announced
            timeout=timeout_s,
            trust_env=not _is_loopback(self.url),  # an office proxy knows nothing of this machine
            follow_redirects=False,
        )

    def ask(self, method: str, target: str, *, body: bytes = b"", wait_s: float = 0.0) -> Any:
        """Make one request and return the JSON that came back (None for HEAD).

        `wait_s` is how long the relay may take its time before it answers.
        """

        def take(response: httpx.Response) -> Any:
            data = _read(response, _ANSWER_LIMIT_BYTES)
            return parse_json(data) if method != "HEAD" else None

        return self._repeat(method, target, take, sha256_hex(body), body or None, wait_s)

    def ask_json(self, method: str, target: str, value: dict[str, Any]) -> dict[str, Any]:
        """`ask` with a JSON object as body and answer."""
        answer = self.ask(method, target, body=canonical_json(value))
        if not isinstance(answer, dict):
            raise WireError(f"The relay at {self.url} answered {type(answer).__name__}; expected a JSON object.")
        return answer

    def upload(self, target: str, ref: AttachmentRef, data: bytes) -> None:
        """PUT `data` in pieces."""
        self._repeat("PUT", target, lambda response: _read(response, _ANSWER_LIMIT_BYTES), ref.sha256, data, 0.0)

    def download(self, target: str, ref: AttachmentRef) -> bytes:
        """GET the blob that `ref` describes; neither more nor other bytes are taken."""

        def take(response: httpx.Response) -> bytes:
            announced = response.headers.get("content-length")
            if announced != str(ref.size_bytes):
                raise WireError(f"Attachment {ref.name!r} has {ref.size_bytes} bytes; the relay announces {announced}.")
            data = _read(response, ref.size_bytes)
            if hashlib.sha256(data).hexdigest() != ref.sha256:
                raise WireError(
                    f"The bytes of attachment {ref.name!r} do not have the checksum that its sender signed."
                )
            return data

        data: bytes = self._repeat("GET", target, take, EMPTY_SHA256, None, 0.0)
        return data

    def close(self) -> None:
        """End waiting and let go of connections."""
        self.closed.set()
        self._http.close()

    def _repeat(
        self, method: str, target: str, take: _Taken, body_sha256: str, body: bytes | None, wait_s: float
    ) -> Any:
        deadline = time.monotonic() + self._patience_s
        delay_s, longest_s = self._backoff_s
        waited = clock_was_set = False
        while True:
            if self.closed.is_set():
                raise RelayUnreachable(f"The connection to the relay at {self.url} was closed.")
            try:
                with self._send(method, target, body_sha256, body, wait_s) as response:
                    if response.status_code == 401 and not clock_was_set and self._adopt_clock(response):
                        clock_was_set = True
                        continue
                    if response.status_code < 500:
                        if response.status_code >= 300:
                            _refuse(response)
                        answer = take(response)
                        if waited:
                            self._on_wait("")
                        return answer
                    reason = f"it answers {response.status_code}"
            except httpx.TransportError as error:
                reason = type(error).__name__
            except RuntimeError as error:  # httpx: the client was closed by another thread
                if self.closed.is_set():
                    continue
                raise RelayUnreachable(str(error)) from error
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise RelayUnreachable(
                    f"The relay at {self.url} did not answer for {self._patience_s:g} s ({reason}). "
                    "Is it running, and is the address right?"
                )
            pause_s = min(left_s, delay_s * self._rng.uniform(0.5, 1.0))
            self._on_wait(f"The relay at {self.url} is not reachable ({reason}); trying again.")
            waited = True
            self.closed.wait(pause_s)
            delay_s = min(2 * delay_s, longest_s)

    def _send(self, method: str, target: str, body_sha256: str, body: bytes | None, wait_s: float) -> Any:
        now = self._clock() + self._clock_offset_s
        headers = signature_headers(self.identity, method, target, body_sha256, now)
        if body is not None:
            headers["content-length"] = str(len(body))
        return self._http.stream(
            method,
            self.url + target,
            headers=headers,
            content=None if body is None else _pieces(body),
            timeout=httpx.Timeout(self._timeout_s, read=self._timeout_s + wait_s),
        )

    def _adopt_clock(self, response: httpx.Response) -> bool:
        """When this computer's clock is wrong, sign by the relay's; True if that may help."""
        date = email.utils.parsedate_tz(response.headers.get("date", ""))
        if date is None:
            return False
        offset_s = email.utils.mktime_tz(date) - self._clock()
        if abs(offset_s - self._clock_offset_s) < WINDOW_S / 2:
            return False
        self._clock_offset_s = offset_s
        return True


def _refuse(response: httpx.Response) -> NoReturn:
    try:
        answer = parse_json(_read(response, 65536))
        sentence = f"{answer['error']} {answer['do']}"
    except (WireError, KeyError, TypeError):
        sentence = f"The relay answered {response.status_code} without a reason; is the address that of a fedart relay?"
    raise RelayRefused(sentence, status=response.status_code)


def _read(response: httpx.Response, limit_bytes: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    for chunk in response.iter_raw():
        size += len(chunk)
        if size > limit_bytes:
            raise TooLarge(f"The relay's answer has more than {limit_bytes} bytes; the rest was not read.")
        chunks.append(chunk)
    return b"".join(chunks)


def _pieces(body: bytes) -> Iterator[bytes]:
    view = memoryview(body)
    for start in range(0, len(view), _CHUNK_BYTES):
        yield bytes(view[start : start + _CHUNK_BYTES])


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
