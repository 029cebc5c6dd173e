"""Invite links: whole, readable, and quiet about their token."""

from __future__ import annotations

import traceback
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedart_nb.errors import WireError
from fedart_nb.relay.invite import Address, Invite, check_url, new_token

HOST_ID = "0123456789abcdef" * 2
TOKEN = "secret-token-0123456789"


@settings(deadline=None, max_examples=50)
@given(
    url=st.sampled_from(
        ["http://127.0.0.1:8765", "https://hub.example", "https://hub.example/user/a/proxy/8765", "http://[::1]:9"]
    ),
    room=st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
    token=st.from_regex(r"[A-Za-z0-9_-]{16,128}", fullmatch=True),
)
def test_a_link_reads_back_as_its_invite(url: str, room: str, token: str) -> None:
    invite = Invite(url, room, token, HOST_ID)
    assert Invite.parse(str(invite)) == invite
    assert Invite.parse(f"  <{invite}>\n") == invite


def test_the_link_has_the_documented_form() -> None:
    link = str(Invite("http://127.0.0.1:8765/", "demo", TOKEN, HOST_ID))
    assert link == f"fedart+http://127.0.0.1:8765/demo#token={TOKEN}&host={HOST_ID}"


def test_repr_hides_the_token() -> None:
    assert TOKEN not in repr(Invite("http://127.0.0.1:8765", "demo", TOKEN, HOST_ID))


@pytest.mark.parametrize(
    ("link", "message"),
    [
        ("", "no invite link"),
        ("http://127.0.0.1:8765/demo", "no invite link"),
        ("fedart+ftp://127.0.0.1/demo", "no invite link"),
        ("fedart+http://127.0.0.1:8765/demo", "has no token"),
        (f"fedart+http://127.0.0.1:8765/demo#token={TOKEN}", "has no host"),
        (f"fedart+http://127.0.0.1:8765/#token={TOKEN}&host={HOST_ID}", "names no room"),
        (f"fedart+http://127.0.0.1:8765/demo#token={TOKEN}&host=abc", "host is 'abc'"),
        (f"fedart+http://127.0.0.1:8765/demo#token=short&host={HOST_ID}", "16 to 128"),
        (f"fedart+http://127.0.0.1:99999/demo#token={TOKEN}&host={HOST_ID}", "no relay address"),
        (f"fedart+http://user:pw@127.0.0.1/demo#token={TOKEN}&host={HOST_ID}", "no relay address"),
        (f"fedart+http://127.0.0.1:8765/demo#token={TOKEN}&host", "damaged"),
    ],
)
def test_a_damaged_link_is_explained_without_its_token(link: str, message: str) -> None:
    with pytest.raises(WireError, match=message) as caught:
        Invite.parse(link)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("url", ["127.0.0.1:8765", "ftp://x", "http://", "http://x/?a=1", "http://x/#a", "http://a b"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(WireError, match="no relay address"):
        check_url(url)


INVITE = Invite("http://127.0.0.1:8765", "demo", TOKEN, HOST_ID)
LINK = str(INVITE)


@pytest.mark.parametrize(
    "text",
    [
        LINK.replace("#", "%23"),
        LINK.replace("#", "?"),
        quote(LINK, safe=""),
        quote(quote(LINK, safe=""), safe=""),
        LINK.replace("&", "&amp;"),
        LINK.replace("&", "%26").replace("=", "%3D"),
        LINK.replace("fedart+http", "FedArt+Http"),
        LINK.replace("+", "%2B"),
        f"Come in: {LINK}.",
        f"\u201c{LINK}\u201d",
        f"({LINK}),",
        f"`{LINK}`",
        f"<{LINK}>",
        f"[the room]({LINK})",
        f"{LINK}\nSee you tomorrow!",
        LINK.replace("#", "#\n"),
        f"> {LINK[:50]}\n> {LINK[50:]}",
        f"{LINK[:50]}=\r\n{LINK[50:]}",
        LINK.replace("-", "\u2011"),
        f"\u200b{LINK}\ufeff",
        f"https://safelinks.example/?url={quote(LINK, safe='')}&data=05&reserved=0",
    ],
)
def test_a_link_is_read_as_mail_and_chat_programs_write_it(text: str) -> None:
    assert Invite.parse(text) == INVITE


@pytest.mark.parametrize(
    "text",
    [
        TOKEN,
        f"#token={TOKEN}&host={HOST_ID}",
        f"http://127.0.0.1:8765/demo%23token={TOKEN}",
        f"fedart+http://127.0.0.1:8765/demo%23token%3D{TOKEN}",
        f"fedart+http://127.0.0.1:8765/demo/{TOKEN}#token=x",
        f"fedart+http://127.0.0.1:8765/demo#{TOKEN}",
        f"fedart+http://127.0.0.1:8765/demo#token={TOKEN}&host={HOST_ID}{TOKEN}",
        f"fedart+http://127.0.0.1:8765/demo#token={TOKEN}!&host={HOST_ID}",
        f"fedart+http://127.0.0.1:8765/demo#host={TOKEN}&token={TOKEN}",
        f"fedart+http://127.0.0.1:8765/demo#token={TOKEN}&host={HOST_ID}&cert={TOKEN}",
        f"fedart+https://127.0.0.1:8765/demo#token={TOKEN}&host={HOST_ID}&cert={TOKEN}",
        f"fedart+http://ada:{TOKEN}@127.0.0.1:8765/demo#token={TOKEN}&host={HOST_ID}",
        f"fedart+http://{TOKEN}/",
        f"fedart+http://[::1/demo#token={TOKEN}&host={HOST_ID}",
        f"fedart+http://\u2100x/demo#token={TOKEN}&host={HOST_ID}",
        f"fedart+http://127.0.0.1:8765/demo;token={TOKEN}",
        f"fedart+http://127.0.0.1:8765/demo token {TOKEN}",
        f"{TOKEN}@fedart+http://127.0.0.1:8765",
    ],
)
@pytest.mark.parametrize("parse", [Invite.parse, Address.parse, check_url])
def test_no_message_and_no_traceback_shows_the_token(parse: object, text: str) -> None:
    with pytest.raises(WireError) as caught:
        parse(text)  # type: ignore[operator]
    assert TOKEN not in "".join(traceback.format_exception_only(caught.value))
    assert caught.value.__suppress_context__ or caught.value.__context__ is None, "an error inside may quote it"


def test_a_relays_secret_is_in_no_message() -> None:
    for text in (
        "http://127.0.0.1:8765%23open=open-sesame-1",
        "http://127.0.0.1:8765#opne=open-sesame-1",
        "http://127.0.0.1:8765#open-sesame-1",
        "http://127.0.0.1:8765/?open=open-sesame-1#open",
    ):
        with pytest.raises(WireError) as caught:
            Address.parse(text.replace("127.0.0.1:8765", "127.0.0.1:87650"))
        assert "sesame" not in str(caught.value)


def test_a_host_who_gives_an_invite_for_an_address_is_told_so() -> None:
    with pytest.raises(WireError, match="is an invite link, for artists"):
        Address.parse(LINK)


def test_tokens_survive_what_chat_programs_do_to_dashes() -> None:
    assert all(new_token().isalnum() and len(new_token()) == 33 for _ in range(100))


@pytest.mark.parametrize(
    ("typed", "address"),
    [
        ("Http://127.0.0.1:8765", "http://127.0.0.1:8765"),
        ("HTTPS://Relay.EXAMPLE/User/Ada/", "https://relay.example/User/Ada"),
        ("https://relay.example.", "https://relay.example"),
        ("https://relay.example:443/", "https://relay.example"),
        ("http://relay.example:80", "http://relay.example"),
        ("http://relay.example:443", "http://relay.example:443"),
        ("http://relay.example:", "http://relay.example"),
        ("http://[0:0:0:0:0:0:0:1]:9", "http://[::1]:9"),
        ("http://[2001:DB8::1]", "http://[2001:db8::1]"),
        ("https://b\u00fccher.example:8765", "https://xn--bcher-kva.example:8765"),
        ("https://hub.example/user/a%20b/proxy/8765", "https://hub.example/user/a%20b/proxy/8765"),
    ],
)
def test_an_address_has_one_form_however_it_was_typed(typed: str, address: str) -> None:
    assert check_url(typed) == address
    invite = Invite(typed, "demo", TOKEN, HOST_ID)
    assert Invite.parse(str(invite)) == invite
    assert Address.parse(f" <{typed}> ").url == address


@pytest.mark.parametrize(
    "url",
    [
        "http://x:99999",
        "http://x:0",
        "http://x:-1",
        "http://x..y",
        "http://[::1",
        "http://a@b",
        "http://x/../y",
        "http:/x",
    ],
)
def test_what_looks_like_an_address_and_is_none_is_refused(url: str) -> None:
    with pytest.raises(WireError, match="no relay address"):
        check_url(url)


@pytest.mark.parametrize("url", ["http://169.254.169.254", "https://[fe80::1]:8765", "http://[::ffff:169.254.1.1]"])
def test_a_link_local_address_is_refused_with_a_word(url: str) -> None:
    with pytest.raises(WireError, match="link-local"):
        check_url(url)
    with pytest.raises(WireError, match="link-local"):
        Invite.parse(f"fedart+{url}/demo#token={TOKEN}&host={HOST_ID}")


@pytest.mark.parametrize(
    ("url", "cautioned"),
    [
        ("http://relay.example", True),
        ("http://8.8.8.8:8765", True),
        ("http://[2606:4700::1]", True),
        ("https://relay.example", False),
        ("http://127.0.0.1:8765", False),
        ("http://192.168.1.20:8765", False),
        ("http://10.0.0.1", False),
        ("http://teacher:8765", False),
        ("http://teacher.local:8765", False),
    ],
)
def test_who_goes_over_the_internet_in_the_clear_is_told(url: str, cautioned: bool) -> None:
    assert ("without encryption" in Invite(url, "demo", TOKEN, HOST_ID).caution) is cautioned
