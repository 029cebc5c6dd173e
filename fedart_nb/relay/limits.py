"""What a relay takes at most, and how it says no."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields

from fedart_nb.errors import RelayError, RelayRefused

__all__ = ["PIECE_BYTES", "Limits", "Refused", "option_of"]

PIECE_BYTES = 2**20  # of a large upload, in one request: what nginx lets through when nobody has told it otherwise

_MEMBERS_EVER = 512
_LARGEST = 2**53
_REASONS = {
    400: "malformed",
    401: "signature",
    403: "forbidden",
    404: "unknown",
    408: "slow",
    409: "conflict",
    413: "size",
    429: "full",
    503: "busy",
}


class Refused(RelayRefused):
    """A refusal in two sentences: `error` is what was wrong, `do` what helps; `status` is the HTTP status.

    `retry_after_s`, when given, says that the same request will be taken later. `reason` is one word for statistics.
    """

    def __init__(
        self, status: int, error: str, do: str, *, retry_after_s: float | None = None, reason: str | None = None
    ) -> None:
        super().__init__(f"{error} {do}", status=status)
        self.error = error
        self.do = do
        self.retry_after_s = retry_after_s
        self.reason = reason or _REASONS.get(status, "other")


def _limit(default: int, what: str, *, option: str = "max") -> int:
    value: int = field(default=default, metadata={"what": what, "option": option})
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one relay takes at most: whole numbers in the unit that the name says; `what` is in the metadata.

    The host of a room is bound by the room's limits alone, other members also by `member_bytes` and `member_messages`.
    An address is one IPv4 address or one IPv6 network of a household (/64). A class of 30 people behind one address
    fits the defaults several times over: each of them has one connection that waits for messages and one that sends.
    """

    blob_bytes: int = _limit(512 * 2**20, "largest attachment")
    room_bytes: int = _limit(8 * 2**30, "a room's messages and attachments together")
    member_bytes: int = _limit(2 * 2**30, "what one member of a room may fill of it")
    total_bytes: int = _limit(64 * 2**30, "all rooms' messages and attachments together")
    free_bytes: int = _limit(512 * 2**20, "bytes of the disk that stay free", option="min")
    rooms: int = _limit(256, "rooms")
    identity_rooms: int = _limit(8, "rooms of one host")
    address_rooms: int = _limit(16, "rooms opened from one address")
    members: int = _limit(64, f"members a room, never above {_MEMBERS_EVER}")
    messages: int = _limit(100_000, "messages a room")
    member_messages: int = _limit(20_000, "messages and attachments of one member")
    requests_per_s: int = _limit(50, "requests a second of one member, in the long run; four times that at once")
    room_requests_per_s: int = _limit(120, "requests a second in one room, in the long run; three times that at once")
    knocks_per_minute: int = _limit(300, "requests to open or join a room from one address; as many at once")
    uploads: int = _limit(256, "uploads running at once")
    room_uploads: int = _limit(64, "of these, in one room")
    address_uploads: int = _limit(128, "of these, from one address")
    member_uploads: int = _limit(8, "of these, of one member")
    waiting: int = _limit(1024, "requests waiting for a message at once")
    room_waiting: int = _limit(512, "of these, in one room")
    address_waiting: int = _limit(512, "of these, from one address")
    member_waiting: int = _limit(8, "of these, of one member")
    connections: int = _limit(2048, "connections at once")
    address_connections: int = _limit(768, "of these, from one address")
    member_connections: int = _limit(32, "of these, of one member")
    stranger_connections: int = _limit(128, "of these, from one address whose members have not shown themselves")
    head_s: int = _limit(10, "seconds in which a connection's first request, and every request's head, must be there")
    idle_s: int = _limit(30, "seconds that a connection may rest between requests")
    body_s: int = _limit(20, "seconds that a body may take beyond what its rate allows")
    rate_bytes: int = _limit(
        8 * 2**10, "bytes a second at which bodies must come and answers must be read", option="min"
    )
    log_lines_per_s: int = _limit(50, "lines a second in the log, in the long run; ten times that at once")
    keep_days: int = _limit(30, "days after which a room that nobody used is deleted with all in it", option="")
    keep_empty_minutes: int = _limit(60, "minutes after which a room in which nobody but its host was is", option="")

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if type(value) is not int or not 1 <= value <= _LARGEST:
                raise RelayError(f"Limit {name} is {value!r}; expected a whole number from 1 on, at most {_LARGEST}.")
        if self.members > _MEMBERS_EVER:
            raise RelayError(f"A room of {self.members} members is too large; at most {_MEMBERS_EVER}.")


def option_of(name: str) -> str:
    """The command line's option for a limit.

    >>> option_of("rooms"), option_of("free_bytes"), option_of("keep_days")
    ('--max-rooms', '--min-free-bytes', '--keep-days')
    """
    kind = next(limit.metadata["option"] for limit in fields(Limits) if limit.name == name)
    return f"--{kind + '-' if kind else ''}{name.replace('_', '-')}"
