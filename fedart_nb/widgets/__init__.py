"""Panels for JupyterLab: each is one displayed object that also works without a front end."""

from fedart_nb.widgets.art_panel import ArtPanel
from fedart_nb.widgets.consent_panel import ConsentPanel
from fedart_nb.widgets.fairness_panel import FairnessPanel
from fedart_nb.widgets.host_panel import HostPanel
from fedart_nb.widgets.inversion_panel import InversionPanel
from fedart_nb.widgets.keepsake_panel import KeepsakePanel
from fedart_nb.widgets.ledger_panel import LedgerPanel
from fedart_nb.widgets.noise_panel import NoisePanel
from fedart_nb.widgets.panel import Panel
from fedart_nb.widgets.questions import Guess, Prediction, SelfCheck
from fedart_nb.widgets.relay_view_panel import RelayViewPanel
from fedart_nb.widgets.room_panel import RoomPanel
from fedart_nb.widgets.session_panel import SessionPanel
from fedart_nb.widgets.style_leak_panel import StyleLeakPanel
from fedart_nb.widgets.style_panel import StylePanel
from fedart_nb.widgets.train_panel import TrainPanel

__all__ = [
    "ArtPanel",
    "ConsentPanel",
    "FairnessPanel",
    "Guess",
    "HostPanel",
    "InversionPanel",
    "KeepsakePanel",
    "LedgerPanel",
    "NoisePanel",
    "Panel",
    "Prediction",
    "RelayViewPanel",
    "RoomPanel",
    "SelfCheck",
    "SessionPanel",
    "StyleLeakPanel",
    "StylePanel",
    "TrainPanel",
]
