"""What a relay takes at most, and how it says no."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from fedart_nb.errors import RelayError, RelayRefused

__all__ = ["PIECE_BYTES", "Limits", "Refused"]

PIECE_BYTES = 2**20  # of a large upload, in one request: what nginx lets through when nobody has told it otherwise

_MEMBERS_EVER = 512
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


def _limit(default: int, what: str) -> int:
    value: int = field(default=default, metadata={"what": what})
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one relay takes at most: whole numbers in the unit that the name says; `what` is in the metadata.

    The host of a room is bound by the room's limits alone, other members also by `member_bytes` and `member_messages`.
    """

    blob_bytes: int = _limit(512 * 2**20, "largest attachment")
    room_bytes: int = _limit(8 * 2**30, "a room's messages and attachments together")
    member_bytes: int = _limit(2 * 2**30, "what one member of a room may fill of it")
    rooms: int = _limit(64, "rooms")
    members: int = _limit(64, f"members a room, never above {_MEMBERS_EVER}")
    messages: int = _limit(100_000, "messages a room")
    member_messages: int = _limit(20_000, "messages and attachments of one member")
    requests_per_s: int = _limit(50, "requests a second of one member, in the long run; ten times that at once")
    knocks_per_minute: int = _limit(300, "requests to open or join a room from one address; as many at once")
    uploads: int = _limit(64, "uploads running at once; one member gets an eighth")
    waiting: int = _limit(1024, "requests waiting for a message at once; one member gets an eighth")
    connections: int = _limit(2048, "connections at once")
    keep_days: int = _limit(30, "days after which a room that nobody used is deleted with all that is in it")

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if type(value) is not int or value < 1:
                raise RelayError(f"Limit {name} is {value!r}; expected a whole number from 1 on.")
        if self.members > _MEMBERS_EVER:
            raise RelayError(f"A room of {self.members} members is too large; at most {_MEMBERS_EVER}.")
