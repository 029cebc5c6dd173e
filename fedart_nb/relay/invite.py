"""The invite link: where the relay is, which room, the secret that opens it, and whom to believe in it.

Fields after the # stay in the kernel: a browser that opens the link sends them nowhere. `cert` is there when the relay
has a certificate that nobody vouches for: then this fingerprint does.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from fedart_nb.errors import WireError
from fedart_nb.relay.wire import check_id, check_room

__all__ = ["Address", "Invite", "check_token", "check_url", "is_loopback", "new_token"]

_EXAMPLE = "fedart+http://127.0.0.1:8765/<room>#token=...&host=..."
_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,128}")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Address:
    """What a host is told of a relay: https://relay.example#cert=...&open=...; both fields may be missing.

    `cert` is the SHA-256 of the relay's certificate, 64 hex digits; `opening_secret` lets one open rooms.

    >>> Address.parse("https://relay.example/#open=sesame")
    Address(url='https://relay.example', cert=None)
    """

    url: str
    cert: str | None = None
    opening_secret: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read an address; raises WireError for what is none."""
        url, _, fragment = text.strip().partition("#")
        try:
            fields = dict(parse_qsl(fragment, strict_parsing=True)) if fragment else {}
        except ValueError as error:
            raise WireError(f"What stands behind {url[:120]}# is damaged; expected cert=... or open=...") from error
        if strange := sorted(fields.keys() - {"cert", "open"}):
            raise WireError(f"{strange[0][:40]!r} behind {url[:120]}# is unknown; expected cert=... or open=...")
        return cls(check_url(url), _check_cert(url, fields.get("cert")), fields.get("open"))


@dataclass(frozen=True)
class Invite:
    """An invitation to a room; `str(invite)` is the link to hand out, its repr hides the token.

    `url` is the relay's address (with its prefix, if it lives under one), `host_id` the id of the room's host.
    The secret stands after the `#`, so a browser that opens the link does not send it anywhere.

    >>> link = str(Invite("http://127.0.0.1:8765", "demo", "t" * 22, "0" * 32))
    >>> Invite.parse(link).room
    'demo'
    """

    url: str
    room: str
    token: str = field(repr=False)
    host_id: str
    cert: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", check_url(self.url))
        check_room(self.room)
        check_token(self.token)
        check_id(self.host_id, "host")
        object.__setattr__(self, "cert", _check_cert(self.url, self.cert))

    def __str__(self) -> str:
        fields = {"token": self.token, "host": self.host_id} | ({"cert": self.cert} if self.cert else {})
        return f"fedart+{self.url}/{quote(self.room)}#{urlencode(fields)}"

    @classmethod
    def parse(cls, text: str) -> Invite:
        """Read an invite link; raises WireError that says what is missing (and never repeats the token)."""
        link = text.strip().strip("<>\"'").strip()
        shown = link.partition("#")[0][:120]
        if not re.match(r"fedart\+https?://", link):
            raise WireError(f"{shown!r} is no invite link; expected {_EXAMPLE}.")
        try:
            parts = urlsplit(link.removeprefix("fedart+"))
            fields = dict(parse_qsl(parts.fragment, strict_parsing=True)) if parts.fragment else {}
        except ValueError as error:
            raise WireError(f"The invite link {shown!r} is damaged; expected {_EXAMPLE}.") from error
        for name in ("token", "host"):
            if name not in fields:
                raise WireError(f"The invite link {shown!r} has no {name}; it was cut short. Expected {_EXAMPLE}.")
        prefix, _, room = parts.path.rpartition("/")
        if not room:
            raise WireError(f"The invite link {shown!r} names no room; expected {_EXAMPLE}.")
        url = f"{parts.scheme}://{parts.netloc}{prefix}"
        return cls(url, room, fields["token"], fields["host"], fields.get("cert"))


def new_token() -> str:
    """A room token of 192 random bits."""
    return secrets.token_urlsafe(24)


def check_token(token: object) -> str:
    """Return `token` when it can open a room (16 to 128 of A-Z a-z 0-9 _ -), else raise WireError."""
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise WireError("The room token must have 16 to 128 of the characters A-Z a-z 0-9 _ -; copy the whole link.")
    return token


def check_url(url: str) -> str:
    """Return the relay's address without a final slash; raises WireError unless it is plain http(s)."""
    try:
        parts = urlsplit(url)
        wrong = (
            parts.scheme not in ("http", "https") or not parts.hostname or (parts.port is not None and parts.port < 1)
        )
    except ValueError:
        wrong = True
    if wrong or parts.query or parts.fragment or parts.username is not None or re.search(r"[\s<>\"'\\]", url):
        raise WireError(f"{url[:120]!r} is no relay address; expected something like http://127.0.0.1:8765.")
    return url.rstrip("/")


def _check_cert(url: str, cert: str | None) -> str | None:
    if cert is None:
        return None
    cert = cert.replace(":", "").lower()  # as openssl prints it
    if not url.startswith("https://"):
        raise WireError(f"{url[:120]!r} has no certificate, so cert= cannot stand behind it. Copy the whole link.")
    if not _FINGERPRINT.fullmatch(cert):
        raise WireError(f"cert is {cert[:80]!r}; expected a fingerprint of 64 hex digits. Copy the whole link.")
    return cert


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine's own.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("relay.example")
    (True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
