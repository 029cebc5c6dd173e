"""The panel that says who gains: you, seen by you alone; the room, known as sums; and what your part is worth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import ipywidgets

from fedart_nb.errors import TrainingError
from fedart_nb.jobs import Job
from fedart_nb.widgets import parts
from fedart_nb.widgets.panel import Panel

if TYPE_CHECKING:
    from fedart_nb.fairness import Fairness
    from fedart_nb.session import Session

__all__ = ["FairnessPanel"]

_NOT_MEASURED = (
    "A loss says how well a model predicts noise on pictures, not whether you like what it draws. Your part is judged "
    "by yourself, on four sample artists in the others' place: not what the others would say. Taking your updates out "
    "of what was learnt is not learning without you: of ten sample artists the others miss six by the first measure, "
    "two by the second (benchmarks/fairness.py). The room's mean can rise while one artist loses; the spread and the "
    "count say that it happens, not to whom."
)


class FairnessPanel(Panel):
    """What you gain from a room, what your part is worth, and of the others the sums. `value` is a `Fairness`.

    Everything is measured in this kernel; nothing is sent.

    Example:
        >>> panel = FairnessPanel(session)
        >>> panel.measure()
        >>> panel.wait()
    """

    title = "Who gains?"
    lead = "Your own gain, which only you see; what your updates do in the shared adapter; of the others, sums alone."

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.session = session
        self._measure = self._button("Measure", self.measure, icon="balance-scale", style="primary")
        self._cancel = self._button("Cancel", self.cancel, icon="stop")
        self._progress, self._result = ipywidgets.HTML(), ipywidgets.HTML()
        self._card = parts.card(self._result, title="What was found")
        self._card.layout.display = "none"
        self._compose(
            parts.card(parts.row(self._measure, self._cancel), self._progress),
            self._card,
            ipywidgets.HTML(parts.notice(_NOT_MEASURED, title="What this does not measure")),
        )

    def measure(self) -> Job:
        """Judge backbone, shared and personal adapter, and the shared one without your updates; about a minute."""
        with self._reporting():
            if self.session.shared is None:
                raise TrainingError("There is no shared adapter yet. Take part in a round first.")
            return self._begin("fairness", self._events(), on_event=self._tell, on_end=self._end)

    def _events(self) -> Iterator[Any]:
        from fedart_nb.fairness import fairness

        yield from fairness(self.session)

    def _tell(self, event: Any) -> None:
        self._progress.value = parts.progress("measuring", None, 1, str(event))
        self._say(str(event))

    def _end(self, job: Job) -> None:
        self._progress.value = ""
        if job.error is None and job.last is not None and hasattr(job.last, "worth_to_me"):
            self.value = job.last
            self._result.value = self._draw(job.last)
            self._card.layout.display = ""
            self._say(str(job.last), now=True)

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

    def _sync(self) -> None:
        mine = self.job is not None and not self.job.has_ended
        self._measure.disabled = self.is_busy
        self._cancel.disabled = not mine

    def _summary(self) -> list[tuple[str, str]]:
        return [("found", str(self.value))] if self.value is not None else []

    def _static_body(self) -> str:
        return self._result.value + parts.notice(_NOT_MEASURED, title="What this does not measure")
