"""Why a relay cannot be reached, and what to check, in words for who typed its address."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from urllib.parse import urlsplit

import httpx

from fedart_nb.errors import RelayError, RelayUnreachable
from fedart_nb.relay.address import is_loopback, shown

__all__ = ["hint", "raise_if_elsewhere", "require_name"]

_JSON_OR_BYTES = ("application/json", "application/octet-stream")


def hint(error: Exception, url: str) -> str:
    """What to check after a connection failed; "" where the error says nothing in particular."""
    host, port = urlsplit(url).hostname or "", urlsplit(url).port or (443 if url.startswith("https") else 80)
    causes = list(_causes(error))
    if any(isinstance(cause, socket.gaierror) for cause in causes) or "Name or service" in str(error):
        return f"No computer of the name {host!r} is known here: look for a typo, and whether you are online."
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        here = " Every computer is 127.0.0.1 to itself: for a relay on another one, ask for its name."
        return f"{host} answers, but no relay listens at port {port}.{here if is_loopback(host) else ''}"
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return f"What listens there does not speak https: try http://, or ask for the address. Port {port} was used."
    if isinstance(error, httpx.ConnectTimeout):
        return f"Nothing at {host}:{port} answers: another network, a firewall, a VPN, or a computer that is asleep?"
    if isinstance(error, httpx.ReadTimeout):
        return f"Something at {host}:{port} takes connections and does not answer as a relay does: is the port right?"
    if isinstance(error, httpx.RemoteProtocolError | httpx.ReadError):
        return f"What listens at {host}:{port} does not speak http: try https://, or another port."
    return ""


def raise_if_elsewhere(response: httpx.Response, url: str, target: str) -> None:
    """Raise RelayError for a redirect, and for a web page where a relay's answer was expected."""
    status = response.status_code
    if 300 <= status < 400:
        location = response.headers.get("location", "")
        where = _printable(location.partition("?")[0].partition("#")[0])[:200]
        path = target.partition("?")[0]
        base = where.removesuffix(path).rstrip("/") if where.endswith(path) else ""
        if base and base != url:
            advice = f"If that is the relay, use the address {base!r}."
        else:
            advice = "That may be the log-in page of a network or a hub: open the address in a browser first."
        to = f"redirects to {where!r}" if where else "redirects without saying where to"
        raise RelayError(f"The address {shown(url)} {to} (status {status}). {advice} Nothing was sent there.")
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if status < 300 and kind and kind not in _JSON_OR_BYTES:
        raise RelayError(
            f"The address {shown(url)} answers with {_printable(kind)[:60]!r}, not as a fedart relay does. A web page "
            "there may be the log-in page of a network or a hub: open the address in a browser first, and look for "
            "a typo."
        )


def require_name(url: str, limit_s: float) -> None:
    """Look the relay's name up, within `limit_s` seconds; raises RelayUnreachable (a system takes half a minute)."""
    host = urlsplit(url).hostname or ""
    failed: list[OSError] = []
    thread = threading.Thread(target=_look_up, args=(host, failed), daemon=True)
    thread.start()
    thread.join(limit_s)
    if thread.is_alive():
        raise RelayUnreachable(
            f"The relay at {url} cannot be found: the name {host!r} was not looked up within {limit_s:.0f} s. "
            "Are you online, and is the address right?"
        )


def _look_up(host: str, failed: list[OSError]) -> None:
    try:
        socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:  # the request that follows says the same in its own words
        failed.append(error)


def _causes(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _printable(text: str) -> str:
    return re.sub(r"[^\x20-\x7e]", "?", text)
