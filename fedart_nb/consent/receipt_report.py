"""The statement: all receipts of an artist as a text that one can keep, send, and read without this program."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedart_nb._system.markdown import plain

from .influence import Influence
from .receipts import Receipt, room_name

__all__ = ["sentence_of", "statement"]

_HOW = {
    "asked": "when asked",
    "standing": "by a standing consent",
    "again": "for the same round, tried once more",
    "changed": "of their own accord",
    "looked": "after a look at the trained update",
    "unasked": "because the standing consent did not cover it, and nobody was there to be asked",
}
_CHOSEN = {
    "contribute": "agreed to contribute",
    "skip": "chose to send nothing",
    "leave": "left the room",
    "withdraw": "left the room and asked it to forget what was sent",
    "stand": "gave a standing consent to every round of the room",
    "ask": "wants to be asked before each round",
}


def statement(receipts: Sequence[Receipt], *, influences: Iterable[Influence] = (), name: str = "") -> str:
    """Markdown, one line for each receipt, then what each of `influences` says."""
    head = receipts[0].body if receipts else {}
    lines = [
        f"# What {plain(name) or 'this artist'} agreed to",
        "",
        f"Artist {head.get('artist', '(nothing was written down yet)')}.",
        "Every line is signed and holds the hash of the one before it.",
        "",
    ]
    lines += [
        f"- {one.body['time']} {plain(sentence_of(one.body))}" for one in receipts if one.kind in ("choice", "outcome")
    ]
    told = [f"- {plain(one.picture or one.mark)}: {plain(str(one))}" for one in influences]
    if told:
        lines += ["", "## What each picture has influenced", "", *told]
    if receipts:
        lines += ["", f"{len(receipts)} lines; the last one's hash is {receipts[-1].hash}."]
    return "\n".join(lines) + "\n"


def sentence_of(body: Mapping[str, Any]) -> str:
    """One receipt as a sentence."""
    room = room_name(body["room"])
    place = f"Round {body['round']} of {room}" if body.get("round") else f"Room {room}"
    if body["kind"] == "choice":
        text = f"{place}: {_CHOSEN[body['choice']]}, {_HOW[body['how']]}."
        if leaving := body.get("leaving"):
            text += (
                f" Shown: {leaving['size_bytes']:,} bytes, {leaving['pictures']} pictures, {_epsilon(leaving)}; "
                f"{' '.join(leaving['found']) or 'no attack was tried.'}"
            )
        return text
    outcome = body["outcome"]
    if outcome == "rewound":
        return f"{place}: the room went back to before this round. {body.get('why', '')}".strip()
    text = f"{place}: {outcome}"
    if body.get("size_bytes"):
        text += f", {body['size_bytes']:,} bytes, {_epsilon(body)}"
    if body.get("shared"):
        text += f"; {body['contributors']} updates made the shared adapter {body['shared'][:16]}…"
    return f"{text}. {body.get('why', '')}".strip()


def _epsilon(told: Mapping[str, Any]) -> str:
    after = told.get("epsilon_after")
    if after is None and told.get("unit"):
        return f"noise, and epsilon infinite per {told['unit']} all the same"
    return "no noise" if after is None else f"epsilon {after:.2f} per {told['unit']} in all"
