"""Who may ask how often, and how many may wait or upload at once: checked before anything is read or kept for them."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator

from starlette.requests import Request

from fedart_nb.relay.limits import Limits, Refused

__all__ = ["Buckets", "Gate", "household"]

_KEYS = 10_000  # members or addresses remembered at once: some MiB
_BURST_S = 4  # seconds' worth of requests that a member may make at once
_ROOM_BURST_S = 3
_BUSY_S = 2.0
_WAIT_S = 0.5
_TURNS = 2


class Buckets:
    """A token bucket for each key. Who has not asked for the longest time is forgotten first, and then has a full one.

    >>> buckets = Buckets(per_s=0.5, burst=1, clock=lambda: 0.0)
    >>> buckets.wait_s("ada"), buckets.wait_s("ada")
    (0.0, 2.0)
    """

    def __init__(self, *, per_s: float, burst: int, clock: Callable[[], float]) -> None:
        self._per_s, self._burst, self._clock = per_s, float(burst), clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # key → tokens, when

    def wait_s(self, key: str) -> float:
        """Take a token and return 0, or return after how many seconds there will be one."""
        now = self._clock()
        level, at = self._levels.pop(key, (self._burst, now))
        level = min(self._burst, level + max(0.0, now - at) * self._per_s)
        allowed = level >= 1.0
        self._levels[key] = (level - 1.0 if allowed else level, now)
        if len(self._levels) > _KEYS:
            self._levels.popitem(last=False)
        return 0.0 if allowed else (1.0 - level) / self._per_s


class Gate:
    """One relay's rates and places. Used from the event loop only.

    `trusted_proxies` is how many proxies of your own stand before the relay: X-Forwarded-For is believed so far and no
    further. 0 believes nothing but the connection.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float], *, trusted_proxies: int = 0) -> None:
        self._trusted_proxies = trusted_proxies
        self._knocks = Buckets(per_s=limits.knocks_per_minute / 60, burst=limits.knocks_per_minute, clock=clock)
        self._requests = Buckets(per_s=limits.requests_per_s, burst=_BURST_S * limits.requests_per_s, clock=clock)
        per_s = limits.room_requests_per_s
        self._rooms = Buckets(per_s=per_s, burst=_ROOM_BURST_S * per_s, clock=clock)
        self._clock = clock
        self._turns: dict[str, tuple[asyncio.Semaphore, int]] = {}  # room → and how many are in it or wait
        self._told_to_wait: OrderedDict[str, float] = OrderedDict()  # member → until when
        self._places = {name: _Places(name, limits) for name in ("waiting", "uploads")}

    def knock(self, request: Request) -> None:
        """A request from somebody who need not be a member of anything."""
        wait_s = self._knocks.wait_s(self.peer(request))
        if wait_s:
            raise Refused(
                429, "Too many requests from your address.", "Wait.", retry_after_s=wait_s, reason="rate_address"
            )

    def admit(self, member_id: str, room: str = "") -> None:
        """A signed request of this member, in a room."""
        wait_s = self._requests.wait_s(member_id)
        if wait_s:
            self._tell_to_wait(member_id)
            raise Refused(429, "You ask too often.", "Wait.", retry_after_s=wait_s, reason="rate_member")
        wait_s = self._rooms.wait_s(room) if room else 0.0
        if wait_s:
            self._tell_to_wait(member_id)
            raise Refused(429, "Your room asks too often.", "Wait.", retry_after_s=wait_s, reason="rate_room")

    def require_place(self, name: str, claimed_id: str) -> None:
        """Refuse, before a signature is checked, who says that they are a member who has all places that one may."""
        self._places[name].require(claimed_id)

    def require_waited(self, claimed_id: str) -> None:
        """Refuse, before a signature is checked, who was just told to wait.

        That costs the relay next to nothing. Only what was truly signed makes somebody wait, so nobody can keep another
        one out.
        """
        if self._clock() < self._told_to_wait.get(claimed_id, 0.0):
            raise Refused(429, "You were asked to wait.", "Wait.", retry_after_s=_BUSY_S, reason="rate_member")

    def _tell_to_wait(self, member_id: str) -> None:
        self._told_to_wait.pop(member_id, None)
        self._told_to_wait[member_id] = self._clock() + _WAIT_S
        if len(self._told_to_wait) > _KEYS:
            self._told_to_wait.popitem(last=False)

    @contextlib.contextmanager
    def place(self, name: str, member_id: str, room: str = "", address: str = "") -> Iterator[None]:
        """Hold one of the places "waiting" or "uploads" for the length of the block: of the member's, the room's, the
        address's and the relay's.
        """
        places = self._places[name]
        keys = places.take(member_id, room, address)
        try:
            yield
        finally:
            places.give_back(keys)

    @contextlib.asynccontextmanager
    async def turn(self, room: str) -> AsyncIterator[None]:
        """Work on a request of this room: few of one room at once, so that a busy one does not hold up others."""
        turns, users = self._turns.get(room, (asyncio.Semaphore(_TURNS), 0))
        self._turns[room] = (turns, users + 1)
        try:
            async with turns:
                yield
        finally:
            users = self._turns[room][1] - 1
            if users:
                self._turns[room] = (turns, users)
            else:
                del self._turns[room]

    def taken(self, name: str) -> int:
        """How many of the places are taken."""
        return self._places[name].total

    def peer(self, request: Request) -> str:
        """The address that a request comes from; of IPv6 the network of one household (/64)."""
        hops = [hop.strip() for hop in ",".join(request.headers.getlist("x-forwarded-for")).split(",") if hop.strip()]
        hops.append(request.client.host if request.client else "")
        return household(hops[max(0, len(hops) - 1 - self._trusted_proxies)][:64])


class _Places:
    """How many places of one kind each member, room and address holds."""

    def __init__(self, name: str, limits: Limits) -> None:
        self.total = 0
        self._name = name
        self._limits = {kind: getattr(limits, f"{kind}_{name}") for kind in ("member", "room", "address")}
        self._limit: int = getattr(limits, name)
        self._taken: Counter[tuple[str, str]] = Counter()

    def take(self, member_id: str, room: str, address: str) -> list[tuple[str, str]]:
        keys = self.require(member_id, room, address)
        self.total += 1
        self._taken.update(keys)
        return keys

    def require(self, member_id: str, room: str = "", address: str = "") -> list[tuple[str, str]]:
        keys = [(kind, key) for kind, key in (("member", member_id), ("room", room), ("address", address)) if key]
        full = next((kind for kind, key in keys if self._taken[kind, key] >= self._limits[kind]), None)
        if self.total >= self._limit:
            full = "relay"
        if full is not None:
            whose = {"member": "You have", "room": "Your room has", "address": "Your address has"}.get(full)
            error = "The relay is busy." if whose is None else f"The relay is busy. {whose} all places that it may."
            raise Refused(503, error, "Wait.", retry_after_s=_BUSY_S, reason=f"places_{self._name}")
        return keys

    def give_back(self, keys: list[tuple[str, str]]) -> None:
        self.total -= 1
        for key in keys:
            self._taken[key] -= 1
            if not self._taken[key]:
                del self._taken[key]


def household(address: str) -> str:
    """An address as it is counted: IPv4 as it is, of IPv6 the network of one household (/64).

    >>> household("192.0.2.7"), household("2001:db8::1"), household("::ffff:192.0.2.7")
    ('192.0.2.7', '2001:db8::/64', '192.0.2.7')
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))
