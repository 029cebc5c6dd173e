"""Drawings made without pyplot: each is a picture, its alt text and its table of numbers."""

from fedart_nb.figures.curves import loss_curve, smoothed
from fedart_nb.figures.drawn import Drawn, table_html
from fedart_nb.figures.linkage import linkage_bars
from fedart_nb.figures.privacy import gradient_norms, spending
from fedart_nb.figures.relay import relay_view
from fedart_nb.figures.risk import corridor_at, risk_corridor
from fedart_nb.figures.sheets import contact_sheet, png_bytes
from fedart_nb.figures.themes import OKABE_ITO
from fedart_nb.figures.watermark import watermarked

__all__ = [
    "OKABE_ITO",
    "Drawn",
    "contact_sheet",
    "corridor_at",
    "gradient_norms",
    "linkage_bars",
    "loss_curve",
    "png_bytes",
    "relay_view",
    "risk_corridor",
    "smoothed",
    "spending",
    "table_html",
    "watermarked",
]
