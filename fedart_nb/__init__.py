"""Teach one diffusion model together in Jupyter, from art that never leaves its artist's kernel.

    from fedart_nb import ArtPanel, Session, TrainPanel

    session = Session("Mira")
    ArtPanel(session)

Names are loaded when they are first used, so that `import fedart_nb` costs neither torch nor ipywidgets.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedart_nb.art import ArtSet, Picture
    from fedart_nb.art.provenance import Recipe, read_recipe
    from fedart_nb.diffusion import Adapter, AdapterConfig, Backbone, PicturePrivacy, TrainConfig, sample, train
    from fedart_nb.errors import FedArtError
    from fedart_nb.host import Host
    from fedart_nb.jobs import Job
    from fedart_nb.privacy import ArtistPrivacy, Ledger
    from fedart_nb.relay import Invite
    from fedart_nb.session import Session
    from fedart_nb.widgets import (
        ArtPanel,
        ConsentPanel,
        FairnessPanel,
        HostPanel,
        InversionPanel,
        KeepsakePanel,
        LedgerPanel,
        NoisePanel,
        RelayViewPanel,
        RoomPanel,
        SessionPanel,
        StyleLeakPanel,
        StylePanel,
        TrainPanel,
    )

__version__ = "0.1.0"

__all__ = [
    "Adapter",
    "AdapterConfig",
    "ArtPanel",
    "ArtSet",
    "ArtistPrivacy",
    "Backbone",
    "ConsentPanel",
    "FairnessPanel",
    "FedArtError",
    "Host",
    "HostPanel",
    "InversionPanel",
    "Invite",
    "Job",
    "KeepsakePanel",
    "Ledger",
    "LedgerPanel",
    "NoisePanel",
    "Picture",
    "PicturePrivacy",
    "Recipe",
    "RelayViewPanel",
    "RoomPanel",
    "Session",
    "SessionPanel",
    "StyleLeakPanel",
    "StylePanel",
    "TrainConfig",
    "TrainPanel",
    "__version__",
    "read_recipe",
    "sample",
    "train",
]

_HOMES = {
    "Adapter": "diffusion",
    "AdapterConfig": "diffusion",
    "ArtPanel": "widgets",
    "ArtSet": "art",
    "ArtistPrivacy": "privacy",
    "Backbone": "diffusion",
    "FedArtError": "errors",
    "Host": "host",
    "ConsentPanel": "widgets",
    "FairnessPanel": "widgets",
    "HostPanel": "widgets",
    "Invite": "relay",
    "Job": "jobs",
    "KeepsakePanel": "widgets",
    "Ledger": "privacy",
    "LedgerPanel": "widgets",
    "InversionPanel": "widgets",
    "NoisePanel": "widgets",
    "Picture": "art",
    "PicturePrivacy": "diffusion",
    "Recipe": "art",
    "RelayViewPanel": "widgets",
    "RoomPanel": "widgets",
    "Session": "session",
    "SessionPanel": "widgets",
    "StyleLeakPanel": "widgets",
    "StylePanel": "widgets",
    "TrainConfig": "diffusion",
    "TrainPanel": "widgets",
    "read_recipe": "art",
    "sample": "diffusion",
    "train": "diffusion",
}


def __getattr__(name: str) -> object:
    """Load a public name from the room where it lives (SPEC 1)."""
    home = _HOMES.get(name)
    if home is None:
        message = f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}"
        raise AttributeError(message)
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
