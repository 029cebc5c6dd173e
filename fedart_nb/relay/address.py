"""A relay's address: read as people type it, kept in one form, and shown in messages without anything secret."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from urllib.parse import quote, urlsplit

import httpx

from fedart_nb.errors import WireError

__all__ = ["check_url", "is_loopback", "plain_http_caution", "shown", "tidied"]

_DEFAULT_PORTS = {"http": 80, "https": 443}
#: Where a link's secret part begins, however a mail program wrote it.
_SECRET_PART = re.compile(r"[#?&;%=\s]|token|open=", re.IGNORECASE)
_LONG_WORD = re.compile(r"[A-Za-z0-9_-]{16,}")
_PATH = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)*")
#: What surrounds a link in mails, chats and on slides.
_AROUND = "<>\"'`*.,;!\u00ab\u00bb\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u2039\u203a\u3002\uff0e"
_DASHES = {"\u2010": "-", "\u2011": "-", "\u2012": "-", "\u2013": "-", "\u2212": "-", "\u2014": "--", "\uff0d": "-"}
_HOME_NAMES = (".local", ".localhost", ".internal", ".lan", ".home", ".home.arpa", ".localdomain", ".test")


def check_url(url: str) -> str:
    """Return the relay's address in its one form: lower case, no default port, no final dot or slash, names in ASCII.

    Raises WireError unless it is plain http(s) of a computer that others can mean by it.

    >>> check_url("HTTPS://Relay.Example.:443/")
    'https://relay.example'
    """
    try:
        parts = urlsplit(url)
        port, host = parts.port, _host(parts.hostname or "")
        plain = parts.username is None and not (parts.query or parts.fragment or re.search(r"[\s<>\"'\\]", url))
        ok = plain and parts.scheme in _DEFAULT_PORTS and port != 0 and _is_path(parts.path)
    except (ValueError, httpx.InvalidURL):
        ok = False
    if not ok:
        raise WireError(f"{shown(url)} is no relay address; expected something like http://127.0.0.1:8765.") from None
    if _is_link_local(host):
        raise WireError(
            f"{shown(url)} is a link-local address: it means another computer in every network. Ask for the relay's "
            "name or ordinary address, something like https://192.168.1.20:8765."
        )
    where = f"[{host}]" if ":" in host else host
    if port not in (None, _DEFAULT_PORTS[parts.scheme]):
        where += f":{port}"
    return f"{parts.scheme}://{where}{parts.path.rstrip('/')}"


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine's own.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("relay.example")
    (True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def plain_http_caution(url: str) -> str:
    """A sentence for who uses this address without TLS over the internet; "" where there is nothing to say.

    >>> plain_http_caution("http://192.168.1.20:8765"), plain_http_caution("https://relay.example")
    ('', '')
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme != "http" or _is_near(host):
        return ""
    return (
        f"The relay at {shown(url)} is reached without encryption (http). Whoever is between you and it can read "
        "names, plans and the room's token, and enter the room. Ask for an https address."
    )


def shown(text: str) -> str:
    """The harmless beginning of an address or link for a message: no token, secret or password, however damaged.

    >>> shown("fedart+http://ada:pw@127.0.0.1:8765/demo%23token=SECRETsecretSECRETsecret")
    "'fedart+http://127.0.0.1:8765/demo...'"
    """
    text = text.strip()
    cut = _SECRET_PART.search(text)
    start = text[: cut.start()] if cut else text
    scheme, separator, rest = start.rpartition("://")
    place, slash, path = rest.partition("/")
    place = place.rpartition("@")[2]  # without user and password
    if not (separator and re.search("[.:]", place)):
        place = _LONG_WORD.sub("...", place)
    start = f"{_LONG_WORD.sub('...', scheme)}{separator}{place}{slash}{_LONG_WORD.sub('...', path)}"[:100]
    return repr(start if start.endswith("...") or len(start) == len(text) else f"{start}...")


def tidied(text: str) -> str:
    r"""An address or link without what mail and chat programs put around and into it.

    >>> tidied(" \u201chttps://relay.example/\u201d.")
    'https://relay.example/'
    """
    text = "".join(_DASHES.get(c, c) for c in text if unicodedata.category(c) != "Cf")  # Cf: zero-width marks
    text = text.replace("&amp;", "&").replace("\xa0", " ")
    before = ""
    while text != before:
        before, text = text, text.strip(_AROUND + " \t\r\n")
        for opening, closing in ("()", "[]", "{}"):
            if text.startswith(opening):
                text = text[1:]
            if text.endswith(closing) and text.count(closing) > text.count(opening):
                text = text[:-1]
    return text


def _host(name: str) -> str:
    """A host in lower case and ASCII, an IPv6 address in its short form; raises ValueError or InvalidURL."""
    if ":" in name:
        return str(ipaddress.IPv6Address(name))
    name = name.rstrip(".").lower()
    if not name.isascii():
        name = httpx.URL(f"http://{name}").raw_host.decode("ascii")
    if not re.fullmatch(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*", name):
        raise ValueError(name)
    return name


def _is_path(path: str) -> bool:
    path = path.rstrip("/")
    return (
        bool(_PATH.fullmatch(path))
        and quote(path, safe="/%._~!$&'()*+,;=:@-") == path
        and not re.search(r"\.\.|%(23|3f|2f|5c|0|1)", path.lower())
    )


def _is_link_local(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_link_local


def _is_near(host: str) -> bool:
    """This computer, a private network, or a name that only a local network knows."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return "." not in host or host.endswith(_HOME_NAMES)
    return not address.is_global
