"""The panel that shows what an artist takes home: losses and pictures of the four stages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedart_nb.widgets import parts
from fedart_nb.widgets.panel import Panel

if TYPE_CHECKING:
    from fedart_nb.analysis.keepsake import Keepsake
    from fedart_nb.session import Session

__all__ = ["KeepsakePanel"]


class KeepsakePanel(Panel):
    """Shows a `Keepsake`; a saved notebook keeps the numbers, and the pictures where the box is ticked.

    Example:
        >>> KeepsakePanel(session, Keepsake.of(session, ["cat", "tree"]))  # doctest: +SKIP
    """

    title = "What you take home"
    lead = "The same prompts and the same noise, drawn by each stage; the loss is on your own held-out pictures."
    holds_own = True

    def __init__(self, session: Session, keepsake: Keepsake) -> None:
        super().__init__(session)
        self.session, self.keepsake = session, keepsake
        self._shown = self._unsaved_html()
        self._shown.value = parts.scrolling(keepsake.to_html(), "Pictures of each stage")
        self._compose(parts.card(self._shown))
        self.value = keepsake

    def _summary(self) -> list[tuple[str, str]]:
        losses = [(f"held-out loss, {stage}", f"{loss:.4f}") for stage, loss in self.keepsake.losses.items()]
        return [("artist", self.keepsake.name), ("bytes sent", f"{self.keepsake.bytes_sent:,}"), *losses]

    def _static_own(self) -> str:
        return str(self._shown.value)
