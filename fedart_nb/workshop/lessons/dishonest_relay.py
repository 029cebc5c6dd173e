"""Be the relay, and cheat: each trick runs a real round of five artists in this process, and tells who noticed what.

The player is relay and host in one, so whatever is changed is signed again like the original. That is the strongest
position there is; a relay alone cannot even sign. Two tricks break no message at all, because nothing is wrong but who
the others are: one person under four names, and a list that is another one after its words were compared. Against them
Ada's kernel asks her before it masks anything.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from fedart_nb.crypto.identity import Identity
from fedart_nb.crypto.safety_number import SafetyNumber
from fedart_nb.errors import RoundError
from fedart_nb.federated.roster import Pins, RosterShown
from fedart_nb.federated.simulation import Simulation, Tamper
from fedart_nb.federated.tensors import pack, unpack
from fedart_nb.relay.wire import Envelope, sha256_hex
from fedart_nb.secagg.keys import RoundKeys
from fedart_nb.secagg.messages import Entry, Kind, Roster, bitmap, signed

__all__ = ["NAMES", "TRICKS", "Played", "Trick", "invented", "play"]

NAMES = ("Ada", "Ben", "Cy", "Dee", "Eli")
_VICTIM, _OTHER = NAMES[:2]
_SIZE = 400


@dataclass(frozen=True)
class Trick:
    """One way to cheat.

    Attributes:
        title: what the player does.
        aim: what it would be good for.
        round: in which round it is tried.
        make: builds what replaces the envelopes of that round.
        confirmed: whom Ada has confirmed before it: "everybody", whose words she compared, or "nobody" yet.
        alone: whether all the others are the player under other names.
    """

    title: str
    aim: str
    round: int
    make: Callable[[Simulation], Tamper]
    confirmed: Literal["everybody", "nobody"] = "everybody"
    alone: bool = False


@dataclass(frozen=True)
class Played:
    """What came of a trick.

    Attributes:
        noticed: (artist, sentence): what artists refused, and in which words.
        finished: whether the round still came to a result, and with how many updates.
        words: safety numbers by artist, where the trick is one that they show; {} otherwise.
        asked: the list of artists that Ada is asked about, before anything of hers is masked; None: she is not.
        left: whether anything of Ada's update left her kernel in that round.
        read: how much what the player works out resembles Ada's update (cosine), had she said yes to the list; None
            where nothing is worked out.
    """

    trick: Trick
    noticed: tuple[tuple[str, str], ...]
    finished: bool
    contributors: int
    words: Mapping[str, str]
    asked: RosterShown | None = field(default=None, repr=False)
    left: bool = True
    read: float | None = None

    @property
    def caught(self) -> bool:
        """Whether anybody could know: by a refused message, by a question, or by words that differ."""
        return bool(self.noticed) or self.asked is not None or len(set(self.words.values())) > 1


def play(name: str, *, seed: int = 0) -> Played:
    """Run the trick called `name` (a key of `TRICKS`) against artists who know nothing of it.

    >>> played = play("another model")
    >>> played.caught, played.noticed[0][1][:34]
    (True, 'The keys in the roster under the i')
    """
    if name not in TRICKS:
        raise RoundError(f"There is no trick {name!r}; known are {', '.join(TRICKS)}.")
    trick = TRICKS[name]
    rng = np.random.default_rng(seed)
    room = Simulation(list(NAMES), {"x": rng.normal(0, 0.05, _SIZE).astype(np.float32)}, min_artists=3)
    victim = room.sides[_VICTIM]
    known = {side.me: artist for artist, side in room.sides.items()}
    victim.pins = Pins().with_compared(known) if trick.confirmed == "everybody" else Pins()

    def updates() -> dict[str, dict[str, np.ndarray]]:
        return {artist: {"x": rng.normal(0, 0.05, _SIZE).astype(np.float32)} for artist in NAMES}

    for _ in range(trick.round - 1):
        room.round(updates())
    read = _read_alone(updates()) if trick.alone else None
    done = room.round(updates(), tamper=trick.make(room))
    asked = victim.roster if victim.roster is not None and victim.roster.unconfirmed else None
    left = any(one.kind == "update" and one.sender == victim.me for one in done.log)
    noticed = list(done.noticed)
    if trick is TRICKS["another result"]:
        noticed += room.round(updates()).noticed  # it shows when the next round begins
    words = {}
    if trick is TRICKS["invented artists"]:
        for artist in (_VICTIM, _OTHER):
            side = room.sides[artist]
            words[artist] = str(SafetyNumber.of(side.room, side.host, side.artists))
    contributors = len(done.result.contributors) if done.result else 0
    seen = tuple(dict.fromkeys(noticed))
    return Played(trick, seen, done.result is not None, contributors, words, asked, left, read)


def _read_alone(updates: Mapping[str, Mapping[str, np.ndarray]]) -> float:
    """Had Ada said yes: the public mean, less the other updates, which are the player's. The cosine with hers."""
    room = Simulation(list(NAMES), {"x": np.zeros(_SIZE, np.float32)}, min_artists=3)
    done = room.round(updates)
    mean = unpack(done.result.shared)["x"] if done.result else np.zeros(_SIZE)
    mine = sum(update["x"] for name, update in updates.items() if name != _VICTIM)
    guess, hers = len(NAMES) * mean - mine, updates[_VICTIM]["x"]
    return float(guess @ hers / np.linalg.norm(guess) / np.linalg.norm(hers))


# --- the tricks ---


def _resigned(envelope: Envelope, kind: Kind, context: bytes, body: bytes, host: Identity, **lists: Any) -> Envelope:
    data = base64.b64encode(signed(host, kind, context, body)).decode()
    return replace(envelope, body=envelope.body | {"data": data} | lists)


def _message(envelope: Envelope) -> bytes:
    return base64.b64decode(envelope.body["data"])


def _roster(room: Simulation, envelope: Envelope) -> Roster:
    return Roster.read(room.host.public_key, room.plan.binding(room.shared), _message(envelope))


def _nothing(_room: Simulation) -> Tamper:
    return lambda envelope, _name, _host: envelope


def _swapped_keys(room: Simulation) -> Tamper:
    mine = RoundKeys(bytes(range(32)), bytes(32))

    def tamper(envelope: Envelope, name: str, host: Identity) -> Envelope:
        if envelope.kind != "roster" or name != _VICTIM:
            return envelope
        roster = _roster(room, envelope)
        entries = [
            replace(e, box=mine.box_public, mask=mine.mask_public) if e.id == room.sides[_OTHER].me else e
            for e in roster.entries
        ]
        forged = b"".join(e.identity + e.box + e.mask + e.signature for e in entries)
        return _resigned(envelope, Kind.ROSTER, roster.binding, bytes(2) + forged, host)

    return tamper


def invented(room: Simulation, victim: str) -> Tamper:
    """In the list that `victim` is shown, everybody else is a puppet of the host's, with keys that are good."""

    def tamper(envelope: Envelope, name: str, host: Identity) -> Envelope:
        if envelope.kind != "roster" or name != victim:
            return envelope
        roster = _roster(room, envelope)
        entries = [e for e in roster.entries if e.id == room.sides[victim].me]
        for number in range(len(roster.entries) - 1):
            puppet, keys = Identity.generate(), RoundKeys(bytes([number]) * 32, roster.binding)
            body = puppet.public_key + keys.box_public + keys.mask_public
            entries.append(Entry.read(roster.binding, signed(puppet, Kind.ADVERTISE, roster.binding, body)))
        forged = Roster.of(roster.binding, entries)
        data = base64.b64encode(forged.message(host)).decode()
        others = [artist for artist in room.names if artist != victim]  # puppets have the names of those they replace
        puppets = [artist for artist in forged.index if artist != room.sides[victim].me]
        names = {room.sides[victim].me: victim, **dict(zip(puppets, others, strict=False))}
        return replace(envelope, body=envelope.body | {"artists": sorted(forged.index), "names": names, "data": data})

    return tamper


def _invented_artists(room: Simulation) -> Tamper:
    return invented(room, _VICTIM)


def _other_plan(room: Simulation, envelope: Envelope, shared: bytes | None = None, **changes: Any) -> Envelope:
    plan = replace(room.plan, **changes)
    if shared is not None:
        plan = replace(plan, shared_sha256=sha256_hex(shared))
    body = envelope.body | {"plan": plan.to_body(), "plan_digest": plan.digest}
    attachments = {"shared": shared} if shared is not None else envelope.attachments
    return replace(envelope, body=body, attachments=attachments, attachment_refs=())


def _another_model(room: Simulation) -> Tamper:
    chosen = pack({"x": np.full(_SIZE, 0.5, np.float32)})

    def tamper(envelope: Envelope, name: str, host: Identity) -> Envelope:
        if envelope.kind == "plan" and name == _VICTIM:
            return _other_plan(room, envelope, chosen)
        if envelope.kind == "roster" and name != _VICTIM:  # the victim's keys must stand in everybody's roster
            victim = room.sides[_VICTIM]
            theirs = replace(room.plan, shared_sha256=sha256_hex(chosen)).binding(chosen)
            roster = _roster(room, envelope)
            keys = RoundKeys(b"v" * 32, theirs)  # what the victim sent: keys that it signed for its own plan
            body = victim.identity.public_key + keys.box_public + keys.mask_public
            entry = Entry.read(theirs, signed(victim.identity, Kind.ADVERTISE, theirs, body))
            entries = sorted([*roster.entries, entry], key=lambda e: e.id)
            forged = b"".join(e.identity + e.box + e.mask + e.signature for e in entries)
            artists = sorted([*envelope.body["artists"], victim.me])
            return _resigned(envelope, Kind.ROSTER, roster.binding, bytes(2) + forged, host, artists=artists)
        return envelope

    return tamper


def _another_backbone(room: Simulation) -> Tamper:
    def tamper(envelope: Envelope, name: str, _host: Identity) -> Envelope:
        if envelope.kind != "plan" or name != _VICTIM:
            return envelope
        return _other_plan(room, envelope, backbone_sha256="0" * 64)

    return tamper


def _zeroed_adapter(room: Simulation) -> Tamper:
    zeros = pack({name: np.zeros_like(array) for name, array in unpack(room.shared).items()})

    def tamper(envelope: Envelope, name: str, _host: Identity) -> Envelope:
        return _other_plan(room, envelope, zeros) if envelope.kind == "plan" and name == _VICTIM else envelope

    return tamper


def _lie_about_survivors(room: Simulation) -> Tamper:
    def tamper(envelope: Envelope, name: str, host: Identity) -> Envelope:
        if envelope.kind != "consistency" or name != _VICTIM:
            return envelope
        return _without_other(room, envelope, host)

    return tamper


def _ask_again(room: Simulation) -> Tamper:
    first: list[Envelope] = []

    def tamper(envelope: Envelope, name: str, host: Identity) -> Envelope:
        if name != _VICTIM:
            return envelope
        if envelope.kind == "consistency":
            first.append(envelope)
        if envelope.kind == "result" and first:  # the sum is out; now the victim is asked about another set
            return _without_other(room, first[0], host)
        return envelope

    return tamper


def _without_other(room: Simulation, envelope: Envelope, host: Identity) -> Envelope:
    ids = sorted(side.me for side in room.sides.values())
    left = [i for i in envelope.body["survivors"] if i != room.sides[_OTHER].me]
    context = _message(envelope)[1:33]
    body = bitmap([ids.index(i) for i in left], len(ids))
    return _resigned(envelope, Kind.SURVIVORS, context, body, host, survivors=left)


def _another_result(_room: Simulation) -> Tamper:
    other = pack({"x": np.full(_SIZE, 0.25, np.float32)})

    def tamper(envelope: Envelope, name: str, _host: Identity) -> Envelope:
        if envelope.kind != "result" or name != _VICTIM:
            return envelope
        return replace(envelope, attachments={"shared": other}, attachment_refs=())

    return tamper


TRICKS: Mapping[str, Trick] = {
    "swapped keys": Trick(
        "Show Ada other keys of Ben's than Ben's",
        "You would hold the key of the mask that Ada shares with Ben, and read what she seals for him.",
        1,
        _swapped_keys,
    ),
    "another model": Trick(
        "Give Ada another shared adapter than the others",
        "Hers could be built so that only her update has values where you look (Pasquini et al. 2022, 2111.07380).",
        1,
        _another_model,
    ),
    "another backbone": Trick(
        "Tell Ada that the room trains another backbone",
        "Gradients of a model of your choice tell more about the pictures behind them.",
        1,
        _another_backbone,
    ),
    "zeroed adapter": Trick(
        "Give Ada a shared adapter of zeros in the second round",
        "Her update would stand out from the others', who started from the last result.",
        2,
        _zeroed_adapter,
    ),
    "lie about survivors": Trick(
        "Tell Ada that Ben has dropped out, and the others that he has not",
        "Shares of both kinds for Ben: together they take all of his masks off.",
        1,
        _lie_about_survivors,
    ),
    "ask again": Trick(
        "When the sum is out, ask Ada for her shares once more, as if Ben had dropped out",
        "The other kind of Ben's shares, after the first kind was released for the sum.",
        1,
        _ask_again,
    ),
    "another result": Trick(
        "Send Ada another result than the others",
        "The next round would start from an adapter that only she has.",
        1,
        _another_result,
    ),
    "invented artists": Trick(
        "Show Ada a room in which everybody else is invented by you",
        "You know all the others' updates, because they are yours: what is left of the sum is hers.",
        1,
        _invented_artists,
        confirmed="nobody",
    ),
    "four names": Trick(
        "Come in four times, as Ben, Cy, Dee and Eli, before Ada does",
        "Relay and host are honest, and so is every message. You take your own four updates off the public sum.",
        1,
        _nothing,
        confirmed="nobody",
        alone=True,
    ),
    "another list": Trick(
        "When everybody has compared the words, show Ada other artists in the next round",
        "Round one was honest, and its words were the same for all. Nobody reads them aloud twice.",
        2,
        _invented_artists,
    ),
}
