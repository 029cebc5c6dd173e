"""Signed HTTP requests to one relay, tried again (with jitter) while the relay cannot be reached."""

from __future__ import annotations

import email.utils
import hashlib
import random
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import httpx

from fedart_nb.crypto.canonical_json import canonical_json
from fedart_nb.crypto.identity import Identity
from fedart_nb.errors import RelayClosed, RelayError, RelayRefused, RelayUnreachable, TooLarge, WireError
from fedart_nb.relay.address import check_url, is_loopback
from fedart_nb.relay.signing import WINDOW_S, signature_headers
from fedart_nb.relay.tls import not_trusted, pinned_context, raise_if_not_trusted
from fedart_nb.relay.unreachable import hint, raise_if_elsewhere, require_name
from fedart_nb.relay.wire import parse_json, sha256_hex

__all__ = ["Connection", "OnWait", "read_answer"]

OnWait = Callable[[str], None]

_ANSWER_LIMIT_BYTES = 64 * 2**20
_CHUNK_BYTES = 2**18
_RETRY_LIMIT_S = 60
_PATIENCE_S = 120.0  # with a relay that has answered before
_FIRST_S = 8.0  # with an address that nobody has answered at yet: it may be wrong
_CONNECT_S = 5.0
_SENTENCE_LIMIT = 1000
_Take = Callable[[httpx.Response], Any]


class Connection:
    """Asks one relay as one identity.

    A request that gets no answer, a 5xx, or an answer that says when to come back is signed anew and repeated until
    `patience_s` seconds have passed; any other answer is final. Unless `patience_s` is given, that is two minutes, but
    only eight seconds for an address at which no relay has answered yet. `on_wait` is told in a sentence why nothing
    happens, and "" when it goes on; it may raise to give up. `cert` is the SHA-256 of the certificate that the relay
    must have; without it, https needs one that this computer trusts. What is in `hidden` stands in no message, whatever
    the relay answers.
    """

    def __init__(
        self,
        url: str,
        identity: Identity,
        *,
        cert: str | None = None,
        patience_s: float | None = None,
        timeout_s: float = 30.0,
        on_wait: OnWait | None = None,
        clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
        backoff_s: tuple[float, float] = (0.2, 5.0),
        hidden: tuple[str, ...] = (),
    ) -> None:
        self.url = check_url(url)
        self.identity = identity
        self.closed = threading.Event()
        self._cert = cert
        self._patience_s = _PATIENCE_S if patience_s is None else patience_s
        self._first_s: float | None = _FIRST_S if patience_s is None else None  # None: not, or not any more
        self._reached = False
        self._hidden = hidden
        self._timeout_s = timeout_s
        self._on_wait = on_wait or (lambda _: None)
        self._clock = clock
        self._clock_offset_s = 0.0
        self._rng = rng or random.Random()  # noqa: S311 - jitter only, nothing secret
        self._backoff_s = backoff_s
        self._lock = threading.Lock()
        self._http = (
            None if cert else self._client(ssl.create_default_context() if self.url.startswith("https") else True)
        )

    def ask(
        self, method: str, target: str, *, body: bytes | memoryview = b"", sha256: str | None = None, wait_s: float = 0
    ) -> Any:
        """Make one request and return the JSON that came back.

        `wait_s` is how long the relay may take its time before it answers. `sha256` is the body's, if it is known.
        """

        def take(response: httpx.Response) -> Any:
            return parse_json(read_answer(response, _ANSWER_LIMIT_BYTES))

        return self.request(method, target, take, sha256 or hashlib.sha256(body).hexdigest(), body or None, wait_s)

    def ask_json(self, method: str, target: str, value: dict[str, Any]) -> dict[str, Any]:
        """`ask` with a JSON object as body and answer."""
        answer = self.ask(method, target, body=canonical_json(value))
        if not isinstance(answer, dict):
            raise WireError(f"The relay at {self.url} answered {type(answer).__name__}; expected a JSON object.")
        return answer

    def request(
        self,
        method: str,
        target: str,
        take: _Take,
        body_sha256: str,
        body: bytes | memoryview | None = None,
        wait_s: float = 0.0,
        *,
        taken: tuple[int, ...] = (),
        more_headers: Callable[[], dict[str, str]] = dict,
        signed: bool = True,
    ) -> Any:
        """Ask until there is an answer, and return what `take` makes of it.

        Statuses below 300 and those in `taken` are answers, others are refusals. `more_headers` is asked each time.
        What is not `signed` says nothing of who asks.
        """

        def headers() -> dict[str, str]:
            now = self._clock() + self._clock_offset_s
            own = signature_headers(self.identity, method, target, body_sha256, now, relay=self.url) if signed else {}
            return own | more_headers()

        started = time.monotonic()
        delay_s, longest_s = self._backoff_s
        waited = clock_was_set = False
        if self._first_s is not None and self._looks_up_names():
            require_name(self.url, self._first_s)
        while True:
            if self.closed.is_set():
                raise RelayClosed(f"The connection to the relay at {self.url} was closed.")
            refusal, pause_s = None, delay_s * self._rng.uniform(0.5, 1.0)
            try:
                with self._send(method, target, body, wait_s, headers(), started) as response:
                    status = response.status_code
                    raise_if_elsewhere(response, self.url, target)
                    if status == 401 and not clock_was_set and self._adopt_clock(response):
                        clock_was_set = True
                        continue
                    later_s = _retry_after_s(response)
                    if status < 300 or status in taken:
                        answer = take(response)
                        self._first_s, self._reached = None, True
                        if waited:
                            self._on_wait("")
                        return answer
                    if later_s is None and status < 500:
                        raise self._refusal(response)
                    reason, advice = f"it answers {status}", ""
                    if later_s is not None:
                        refusal, pause_s = self._refusal(response), later_s * self._rng.uniform(1.0, 1.25)
            except httpx.TransportError as error:
                raise_if_not_trusted(error, self.url, self._cert)
                reason, advice = type(error).__name__, "" if self._reached else hint(error, self.url)
            except RuntimeError as error:  # httpx: the client was closed by another thread
                if self.closed.is_set():
                    continue
                raise RelayUnreachable(str(error)) from error
            self._pause(started, pause_s, reason, refusal, advice)
            waited = True
            delay_s = min(2 * delay_s, longest_s)

    def close(self) -> None:
        """End waiting and let go of connections."""
        self.closed.set()
        with self._lock:
            if self._http is not None:
                self._http.close()

    # --- inside ------------------------------------------------------------------------------------------------

    def _pause(
        self, started: float, pause_s: float, reason: str, refusal: RelayRefused | None, advice: str = ""
    ) -> None:
        """Say why, and wait; raises when patience is over. `refusal` is the relay's own sentence, if it had one."""
        limit_s = self._patience_s if refusal or self._first_s is None else self._first_s
        left_s = started + limit_s - time.monotonic()
        if left_s <= 0 or (self._first_s is not None and not refusal and left_s < pause_s):
            raise refusal or RelayUnreachable(
                f"The relay at {self.url} did not answer for {limit_s:g} s ({reason}). {advice}{' ' if advice else ''}"
                "Is it running, and is the address right?"
            )
        if refusal is None:
            self._on_wait(f"The relay at {self.url} is not reachable ({reason}); trying again.")
        else:
            self._on_wait(f"The relay at {self.url} asks to wait {pause_s:.0f} s. {refusal}")
        self.closed.wait(min(left_s, pause_s))

    def _send(
        self,
        method: str,
        target: str,
        body: bytes | memoryview | None,
        wait_s: float,
        headers: dict[str, str],
        started: float,
    ) -> Any:
        if body is not None:
            headers["content-length"] = str(len(body))
        return self._trusted().stream(
            method,
            self.url + target,
            headers=headers,
            content=None if body is None else _pieces(body),
            timeout=self._timeout(wait_s, started),
        )

    def _timeout(self, wait_s: float, started: float) -> httpx.Timeout:
        """How long each step of a request may take; an address that may be wrong gets what is left of its seconds."""
        if self._first_s is not None:
            left_s = max(0.5, started + self._first_s - time.monotonic())
            return httpx.Timeout(left_s, connect=min(_CONNECT_S, left_s), read=left_s + wait_s)
        connect_s = min(_CONNECT_S, self._timeout_s)
        return httpx.Timeout(self._timeout_s, connect=connect_s, read=self._timeout_s + wait_s)

    def _looks_up_names(self) -> bool:
        """Whether this computer looks the relay's name up itself: an address needs nothing, a proxy does it."""
        host = urlsplit(self.url).hostname or ""
        return not (is_loopback(host) or re.fullmatch(r"[0-9.]+|.*:.*", host) or getproxies())

    def _refusal(self, response: httpx.Response) -> RelayRefused:
        try:
            answer = parse_json(read_answer(response, 65536))
            sentence = " ".join(str(answer[part]) for part in ("error", "do"))
            sentence = "".join(c if c.isprintable() else "?" for c in sentence[:_SENTENCE_LIMIT])
        except (WireError, KeyError, TypeError):
            status = response.status_code
            sentence = f"The relay answered {status} without a reason; is the address that of a fedart relay?"
        for secret in self._hidden:
            sentence = sentence.replace(secret, "...")
        return RelayRefused(sentence, status=response.status_code)

    def _trusted(self) -> httpx.Client:
        """The client; with a fingerprint, only once the relay has shown the certificate that has it.

        Whoever answers is first asked for nothing but its health, which tells it nothing of us; from then on OpenSSL
        itself lets no other certificate pass.
        """
        if self._http is None:
            anyone = ssl.create_default_context()
            anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
            limit = self._timeout(0.0, time.monotonic())
            with (
                self._client(anyone) as stranger,
                stranger.stream("GET", f"{self.url}/healthz", timeout=limit) as response,
            ):
                shown: bytes = response.extensions["network_stream"].get_extra_info("ssl_object").getpeercert(True)
            if sha256_hex(shown) != self._cert:
                raise RelayError(not_trusted(self.url, sha256_hex(shown), self._cert))
            trusted = self._client(pinned_context(shown))
            with self._lock:
                if self._http is None:  # no other thread was quicker
                    self._http = trusted
                if self.closed.is_set():
                    self._http.close()
        return self._http

    def _client(self, verify: ssl.SSLContext | bool) -> httpx.Client:
        return httpx.Client(
            headers={"accept-encoding": "identity"},  # sizes on the wire are the sizes announced
            timeout=self._timeout_s,
            trust_env=not is_loopback(
                urlsplit(self.url).hostname or ""
            ),  # an office proxy knows nothing of this machine
            follow_redirects=False,
            verify=verify,
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


def _retry_after_s(response: httpx.Response) -> float | None:
    """When to come back, if the answer says so: not sooner than that, and not in hours."""
    value = response.headers.get("retry-after", "")
    known = response.status_code in (429, 503) and re.fullmatch("[0-9]{1,6}", value)
    return float(min(max(int(value), 1), _RETRY_LIMIT_S)) if known else None


def read_answer(response: httpx.Response, limit_bytes: int) -> bytes:
    """The whole answer; raises TooLarge as soon as it is known to be longer."""
    chunks: list[bytes] = []
    size = 0
    for chunk in response.iter_raw():
        size += len(chunk)
        if size > limit_bytes:
            raise TooLarge(f"The relay's answer has more than {limit_bytes} bytes; the rest was not read.")
        chunks.append(chunk)
    return b"".join(chunks)


def _pieces(body: bytes | memoryview) -> Iterator[bytes]:
    view = memoryview(body)
    for start in range(0, len(view), _CHUNK_BYTES):
        yield bytes(view[start : start + _CHUNK_BYTES])
