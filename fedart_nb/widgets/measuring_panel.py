"""What panels share that measure something in this kernel: a button, what was found, and what that does not measure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import ipywidgets

from fedart_nb.jobs import Job
from fedart_nb.widgets import parts
from fedart_nb.widgets.panel import Panel

if TYPE_CHECKING:
    from fedart_nb.session import Session

__all__ = ["MeasuringPanel"]


class MeasuringPanel(Panel):
    """Measures, and shows what was found; `value` is the last finding, whose text is its sentence.

    A subclass says what is measured (`_events`, whose last event is the finding), how it is drawn, and what it is not.

    Args:
        session: whose art and adapters are measured.
        controls: settings beside the button.
    """

    not_measured: ClassVar[str] = ""
    job_name: ClassVar[str] = "measuring"
    button: ClassVar[tuple[str, str]] = ("Measure", "search")  # its text and icon

    def __init__(self, session: Session, *controls: Any) -> None:
        super().__init__(session)
        self.session = session
        self._controls = controls
        text, icon = self.button
        self._measure = self._button(text, self.measure, icon=icon, style="primary")
        self._cancel = self._button("Cancel", self.cancel, icon="stop")
        self._progress, self._result = ipywidgets.HTML(), ipywidgets.HTML()
        self._card = parts.card(self._result, title="What was found")
        self._card.layout.display = "none"
        self._compose(
            parts.card(parts.row(*controls, self._measure, self._cancel), self._progress),
            self._card,
            ipywidgets.HTML(self._caveat),
        )

    def measure(self) -> Job:
        """Measure; returns the running job."""
        raise NotImplementedError

    def _events(self) -> Iterator[Any]:
        """The work, in the job's thread; the last event is the finding."""
        raise NotImplementedError

    def _draw(self, found: Any) -> str:
        """The finding as HTML."""
        raise NotImplementedError

    def _run(self) -> Job:
        return self._begin(self.job_name, self._events(), on_event=self._tell, on_end=self._end)

    def _tell(self, event: Any) -> None:
        self._progress.value = parts.progress("measuring", None, 1, str(event))
        self._say(str(event))

    def _end(self, job: Job) -> None:
        self._progress.value = ""
        if job.state == "done":
            self.value = job.result
            self._result.value = self._draw(job.result)
            self._card.layout.display = ""
            self._say(str(job.result), now=True)

    def _sync(self) -> None:
        mine = self.job is not None and not self.job.has_ended
        for control in (self._measure, *self._controls):
            control.disabled = self.is_busy
        self._cancel.disabled = not mine

    def _summary(self) -> list[tuple[str, str]]:
        return [("found", str(self.value))] if self.value is not None else []

    @property
    def _caveat(self) -> str:
        return parts.notice(self.not_measured, title="What this does not measure")

    def _static_body(self) -> str:
        return self._result.value + self._caveat
