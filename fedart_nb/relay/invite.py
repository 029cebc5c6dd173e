"""The invite link: where the relay is, which room, the secret that opens it, and whom to believe in it.

Fields after the # stay in the kernel: a browser that opens the link sends them nowhere. `cert` is there when the relay
has a certificate that nobody vouches for: then this fingerprint does.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from fedart_nb.errors import WireError
from fedart_nb.relay.address import check_url, is_loopback, plain_http_caution, shown, tidied
from fedart_nb.relay.wire import check_room

__all__ = ["Address", "Invite", "check_token", "check_url", "is_loopback", "new_token", "proof_of"]

_EXAMPLE = "fedart+http://127.0.0.1:8765/<room>#token=...&host=..."
_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,128}")
_TOKEN_LETTERS = string.ascii_letters + string.digits  # no - or _: chat programs turn them into dashes and italics
_TOKEN_LENGTH = 33
_HOST_ID = re.compile(r"[0-9a-f]{32}")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_BEGIN = re.compile(r"fedart(\+|%(25)*2b)https?(://|%(25)*3a(%(25)*2f){2})", re.IGNORECASE)
_QUOTES = "'\""
_WRAPPED = re.compile(r"=?[ \t]*\r?\n[ \t>|]*")  # a line break that a mail program put into a long line


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
        """Read an address; raises WireError for what is none. No message repeats the secret."""
        text = tidied(text)
        if _BEGIN.match(text):
            raise WireError(f"{shown(text)} is an invite link, for artists. A host needs the relay's own address.")
        url, _, fragment = _with_hash(text, "cert", "open").partition("#")
        try:
            fields = dict(parse_qsl(fragment, strict_parsing=True)) if fragment else {}
        except ValueError:
            raise WireError(
                f"What stands behind {shown(url).strip(_QUOTES)}# is damaged; expected cert=... or open=..."
            ) from None
        for strange in sorted(fields.keys() - {"cert", "open"}):
            name = repr(strange) if re.fullmatch("[a-z]{1,6}", strange) else "Something"  # it may be the secret itself
            raise WireError(f"{name} behind {shown(url).strip(_QUOTES)}# is unknown; expected cert=... or open=...")
        url = check_url(url)
        return cls(url, _check_cert(url, fields.get("cert")), fields.get("open"))


@dataclass(frozen=True)
class Invite:
    """An invitation to a room; `str(invite)` is the link to hand out, its repr hides the token.

    `url` is the relay's address (with its prefix, if it lives under one), `host_id` the id of the room's host.
    The secret stands after the `#`, so a browser that opens the link does not send it anywhere. A link for one person
    has a second secret, `once`, which never leaves the kernel: see `proof`.

    >>> link = str(Invite("http://127.0.0.1:8765", "demo", "t" * 22, "0" * 32))
    >>> Invite.parse(link).room
    'demo'
    """

    url: str
    room: str
    token: str = field(repr=False)
    host_id: str
    cert: str | None = None
    once: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", check_url(self.url))
        check_room(self.room)
        check_token(self.token)
        if self.once is not None:
            check_token(self.once)
        if not isinstance(self.host_id, str) or not _HOST_ID.fullmatch(self.host_id):
            value = repr(self.host_id) if re.fullmatch("[0-9a-f]{0,15}", str(self.host_id)) else "damaged"
            raise WireError(f"The link's host is {value}; expected an id of 32 hex digits. Copy the whole link.")
        object.__setattr__(self, "cert", _check_cert(self.url, self.cert))

    def __str__(self) -> str:
        fields = {"token": self.token, "host": self.host_id} | ({"cert": self.cert} if self.cert else {})
        fields |= {"once": self.once} if self.once else {}
        return f"fedart+{self.url}/{quote(self.room)}#{urlencode(fields)}"

    def proof(self, artist: str) -> str:
        """What shows the host that `artist` (an id) holds a link made for one person; "" for a link for many.

        It is good for that id alone: a relay that reads it can let nobody else in with it.
        """
        return proof_of(self.once, self.room, self.host_id, artist) if self.once else ""

    @property
    def caution(self) -> str:
        """A sentence for who joins, where the way to the relay can be read by others; "" where there is none."""
        return plain_http_caution(self.url)

    @classmethod
    def parse(cls, text: str) -> Invite:
        """Read an invite link, also as mail and chat programs write it: in quotes, wrapped, percent-escaped.

        Raises WireError that says what is missing, and never repeats the token.
        """
        first: WireError | None = None
        for link in _links_in(text):
            try:
                return cls._read(link)
            except WireError as error:
                first = first or error
        raise first or WireError(f"{shown(text)} is no invite link; expected {_EXAMPLE}.")

    @classmethod
    def _read(cls, link: str) -> Invite:
        name = shown(link)
        try:
            parts = urlsplit(link[len("fedart+") :])
            fields = dict(parse_qsl(parts.fragment, strict_parsing=True)) if parts.fragment else {}
        except ValueError:
            raise WireError(f"The invite link {name} is damaged; expected {_EXAMPLE}.") from None
        for field_name in ("token", "host"):
            if field_name not in fields:
                raise WireError(f"The invite link {name} has no {field_name}; it was cut short. Expected {_EXAMPLE}.")
        prefix, _, room = parts.path.rpartition("/")
        if not room:
            raise WireError(f"The invite link {name} names no room; expected {_EXAMPLE}.")
        try:
            check_room(room)
        except WireError:
            raise WireError(f"The invite link {name} names no room that there can be. Copy the whole link.") from None
        url = f"{parts.scheme}://{parts.netloc}{prefix}"
        return cls(url, room, fields["token"], fields["host"], fields.get("cert"), fields.get("once"))


def proof_of(once: str, room: str, host_id: str, artist: str) -> str:
    """HMAC-SHA256, 64 hex digits, under a one-time secret, of who comes into which room."""
    told = f"fedart-nb entry 1\n{room}\n{host_id}\n{artist}"
    return hmac.new(once.encode(), told.encode(), hashlib.sha256).hexdigest()


def new_token() -> str:
    """A room token of 196 random bits, in letters and digits alone."""
    return "".join(secrets.choice(_TOKEN_LETTERS) for _ in range(_TOKEN_LENGTH))


def check_token(token: object) -> str:
    """Return `token` when it can open a room (16 to 128 of A-Z a-z 0-9 _ -), else raise WireError."""
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise WireError("The room token must have 16 to 128 of the characters A-Z a-z 0-9 _ -; copy the whole link.")
    return token


def _check_cert(url: str, cert: str | None) -> str | None:
    if cert is None:
        return None
    cert = cert.replace(":", "").lower()  # as openssl prints it
    if not url.startswith("https://"):
        raise WireError(f"{shown(url)} has no certificate, so cert= cannot stand behind it. Copy the whole link.")
    if not _FINGERPRINT.fullmatch(cert):
        raise WireError("cert= is no fingerprint of 64 hex digits. Copy the whole link.")
    return cert


def _links_in(text: str) -> Iterator[str]:
    """What may be the invite link in a text, the likeliest first."""
    begin = _BEGIN.search(text)
    if begin is None:
        return
    text = text[begin.start() :]
    for whole in dict.fromkeys((_WRAPPED.sub("", text), text)):
        link = tidied((whole.split() or [""])[0])
        for _ in range(2):  # escaped as a whole, once or twice
            if "://" not in link or not re.search("[#?]", link):
                link = unquote(link)
        link = re.sub("^fedart%2b", "fedart+", tidied(link), flags=re.IGNORECASE)
        if _BEGIN.match(link):
            yield _with_hash(link, "token", "host", "cert")


def _with_hash(link: str, *names: str) -> str:
    """The link with its # again, where a program wrote %23 or ? for it, and with the & between its fields."""
    if "#" not in link:
        link = re.sub(rf"(%23|%2523|\?)(?=({'|'.join(names)})(=|%3D|%253D))", "#", link, count=1, flags=re.IGNORECASE)
    start, hash_, fragment = link.partition("#")
    if re.search(r"%(25)?(3D|26)", fragment, re.IGNORECASE) and "=" not in fragment:
        fragment = unquote(unquote(fragment))
    fragment = re.sub(rf"%(25)?26(?=({'|'.join(names)})(=|%3D))", "&", fragment, flags=re.IGNORECASE)
    return start + hash_ + fragment
