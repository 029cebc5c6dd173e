"""The panel that says who gains: you, seen by you alone; the room, known as sums; and what your part is worth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fedart_nb.errors import TrainingError
from fedart_nb.jobs import Job
from fedart_nb.widgets import parts
from fedart_nb.widgets.measuring_panel import MeasuringPanel

if TYPE_CHECKING:
    from fedart_nb.analysis.fairness import Fairness

__all__ = ["FairnessPanel"]

_NOT_MEASURED = (
    "A loss says how well a model predicts noise on pictures, not whether you like what it draws. Your part is judged "
    "by yourself, on four sample artists in the others' place: not what the others would say. Taking your updates out "
    "of what was learnt is not learning without you: of ten sample artists the others miss six by the first measure, "
    "two by the second (benchmarks/fairness.py). The room's mean can rise while one artist loses; the spread and the "
    "count say that it happens, not to whom."
)


class FairnessPanel(MeasuringPanel):
    """What you gain from a room, what your part is worth, and of the others the sums. `value` is a `Fairness`.

    Everything is measured in this kernel; nothing is sent.

    Example:
        >>> panel = FairnessPanel(session)
        >>> panel.measure()
        >>> panel.wait()
    """

    title = "Who gains?"
    lead = "Your own gain, which only you see; what your updates do in the shared adapter; of the others, sums alone."

    not_measured = _NOT_MEASURED
    job_name = "fairness"
    button = ("Measure", "balance-scale")

    def measure(self) -> Job:
        """Judge backbone, shared and personal adapter, and the shared one without your updates; about a minute."""
        with self._reporting():
            if self.session.shared is None:
                raise TrainingError("There is no shared adapter yet. Take part in a round first.")
            return self._run()

    def _events(self) -> Iterator[Any]:
        from fedart_nb.analysis.fairness import fairness

        yield from fairness(self.session)

    def _draw(self, found: Fairness) -> str:
        def told(value: float | None) -> str:
            return "not known" if value is None else f"{value:.4f}"

        bare, shared, without = found.public
        rows = [
            ("backbone alone", told(found.bare), told(bare)),
            ("with the shared adapter", told(found.shared), told(shared)),
            ("with the shared adapter less your updates", told(found.without), told(without)),
            ("with your personal adapter on top", told(found.personal) if found.personal else "none yet", "not judged"),
        ]
        head = ("drawn", "your held-out pictures", "other hands")
        table = parts.table(head, rows, caption="Loss, lower is better; seen in this kernel alone")
        return table + parts.notice("\n".join(found.sentences), title="In words")
