"""What a relay takes at most, and how it says no."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from fedart_nb.errors import RelayError, RelayRefused

__all__ = ["Limits", "Refused"]

_MEMBERS_EVER = 512


class Refused(RelayRefused):
    """A refusal in two sentences: `error` is what was wrong, `do` what helps; `status` is the HTTP status."""

    def __init__(self, status: int, error: str, do: str) -> None:
        super().__init__(f"{error} {do}", status=status)
        self.error = error
        self.do = do


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one relay takes at most; sizes in bytes, `messages` and `members` per room (members: never above 512)."""

    blob_bytes: int = 512 * 2**20
    room_bytes: int = 8 * 2**30
    rooms: int = 64
    members: int = 64
    messages: int = 100_000

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if type(value) is not int or value < 1:
                raise RelayError(f"Limit {name} is {value!r}; expected a whole number from 1 on.")
        if self.members > _MEMBERS_EVER:
            raise RelayError(f"A room of {self.members} members is too large; at most {_MEMBERS_EVER}.")
