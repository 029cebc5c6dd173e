"""Invite links: whole, readable, and quiet about their token."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedart_nb.errors import WireError
from fedart_nb.relay.invite import Invite, check_url

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
