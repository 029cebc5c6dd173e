"""Every error that this package raises on purpose; one type per remedy.

    FedArtError
    ├── ArtError            a folder or picture cannot be used           → choose other files, or fix the one named
    ├── BackboneError       a diffusion pipeline cannot be used          → another folder or hub id
    │   ├── BackboneBusy    other work has it, and rests             → end that work
    │   └── BackboneTaken   other work took it while this one rested → start this work again
    ├── AdapterError        adapter and backbone do not fit              → train or load one made for this backbone
    ├── TrainingError       training cannot start or went wrong          → change the setting named
    ├── WireError           bytes that arrived are not what was promised → update both sides, or send again
    │   └── TooLarge        more bytes than the limit                    → send less, or raise the limit named
    ├── RelayError          the relay refused or cannot be reached       → check address, room and token
    │   ├── RelayUnreachable  no answer                                  → start the relay, or wait
    │   └── RelayRefused      an answer that says no                     → do what it says
    ├── RoundError          a message does not fit the running round     → nothing is lost; the round goes on
    ├── SecAggError         somebody breaks the secure sum's rules       → take no further part in this attempt
    ├── PrivacyError        a promise of privacy that cannot be kept     → another epsilon, noise or number of steps
    │   ├── BudgetExceeded    training would cost more than is left      → more noise, fewer steps, a larger budget
    │   └── LedgerError       a ledger is damaged or was changed         → what the message says; nothing is trained
    ├── ConsentError        a choice that cannot be made, or receipts that are not whole → what the message says
    ├── StorageError        a file cannot be written or read             → make room on the disk, or mend its rights
    │   └── SessionInUse      another kernel has the session open        → close it there, or take another name
    ├── AttackError         an attack cannot be set up like this         → another view, or other knowledge
    ├── MeasureError        pictures or features cannot be measured      → give what the message expects
    └── MissingExtra        an optional library is not installed         → the pip line in the message

Messages show the value that was given, say what was expected, and what to do.
"""

from __future__ import annotations

__all__ = [
    "AdapterError",
    "ArtError",
    "AttackError",
    "BackboneBusy",
    "BackboneError",
    "BackboneTaken",
    "BudgetExceeded",
    "ConsentError",
    "FedArtError",
    "LedgerError",
    "MeasureError",
    "MissingExtra",
    "PrivacyError",
    "RelayClosed",
    "RelayError",
    "RelayRefused",
    "RelayUnreachable",
    "RoundError",
    "SecAggError",
    "SessionInUse",
    "StorageError",
    "TooLarge",
    "TrainingError",
    "WireError",
]


class FedArtError(Exception):
    """Root of the tree: catch it to catch everything that this package raises on purpose."""


class ArtError(FedArtError):
    """A folder or picture cannot be used."""


class BackboneError(FedArtError):
    """A diffusion pipeline cannot be loaded or is of an unknown family."""


class BackboneBusy(BackboneError):
    """Something else in this kernel uses the backbone and does not go on."""


class BackboneTaken(BackboneError):
    """Other work took the backbone while this one was paused."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"This work ({what}) was paused, and other work used the backbone meanwhile. Nothing that was saved is "
            "lost; start it again."
        )


class AdapterError(FedArtError):
    """An adapter does not fit the backbone or is damaged."""


class TrainingError(FedArtError):
    """Training cannot start with these settings, or its loss is no longer a number."""


class WireError(FedArtError):
    """Bytes that arrived do not follow the wire format, or fail their checksum or signature."""


class TooLarge(WireError):
    """More bytes than the limit allows; nothing was allocated."""


class RelayError(FedArtError):
    """The relay refused a request or cannot be reached."""


class RelayUnreachable(RelayError):
    """No answer from the relay within the retries allowed."""


class RelayClosed(RelayUnreachable):
    """This side closed its connection to the relay; trying again does not help."""


class RelayRefused(RelayError):
    """The relay answered no; `status` holds the HTTP status code."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class RoundError(FedArtError):
    """A message does not fit the running round; it was refused and the round goes on."""


class SecAggError(FedArtError):
    """A message of the secure sum is damaged, forged, of another round, or breaks a rule that keeps updates hidden."""


class PrivacyError(FedArtError):
    """Noise, clipping, sampling or epsilon that no promise of privacy can be made with."""


class BudgetExceeded(PrivacyError):
    """The ledger's budget does not reach for this training; nothing was trained and nothing was spent."""


class LedgerError(PrivacyError):
    """A privacy ledger is damaged, was changed by hand, or belongs to another artist, room or unit."""


class ConsentError(FedArtError):
    """A choice that cannot be made now, or receipts of consent that are damaged; nothing was sent."""


class StorageError(FedArtError, OSError):
    """A file or folder cannot be written, made or read; what was there before is untouched."""


class SessionInUse(StorageError):
    """Another kernel has this session's folder open, or it is the session of another name."""


class AttackError(FedArtError):
    """An attack lacks something that it needs, or was given what contradicts itself."""


class MeasureError(FedArtError):
    """A measure was given pictures, features or labels that it cannot compare."""


class MissingExtra(FedArtError):
    """An optional library is missing; the message holds the exact `pip install` line."""
