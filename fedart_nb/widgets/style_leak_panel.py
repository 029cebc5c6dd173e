"""The panel that shows how much of an artist's hand an update gives away: in the clear, in sums, and with noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets

from fedart_nb import settings
from fedart_nb.errors import TrainingError
from fedart_nb.figures import linkage_bars
from fedart_nb.jobs import Job
from fedart_nb.widgets import parts
from fedart_nb.widgets.panel import Panel

if TYPE_CHECKING:
    from fedart_nb.session import Session
    from fedart_nb.styleleak import StyleLeak

__all__ = ["StyleLeakPanel"]

_NOT_MEASURED = (
    "One attack with one kind of knowledge is measured here: works of yours that somebody already has, one round, "
    "strangers beside you whose hands are unlike yours. It does not say what a better attack would find, nor what your "
    "presence in many rounds adds up to; it does not measure whether somebody could draw in your manner with the "
    "shared model, and a low figure is no proof that they cannot. Secure aggregation hides which update was yours, not "
    "that a hand like yours was in the sum; only noise, and more artists like you, bound that."
)


class StyleLeakPanel(Panel):
    """Could a stranger who knows your published works tell that you took part? `value` is the last `StyleLeak`.

    Everything is trained in this kernel, on your included pictures and on sample artists; nothing is sent.

    Args:
        company: sample artists who fill the room.
        epsilon: of the noise to compare with.

    Example:
        >>> panel = StyleLeakPanel(session)
        >>> panel.measure()
        >>> panel.wait()
    """

    title = "How much of your hand shows"
    lead = "An attacker who has some works of yours looks at an update, and at sums, and says whether you took part."

    def __init__(
        self,
        session: Session,
        *,
        company: Sequence[str] | None = None,
        epsilon: float = 8.0,
        steps: int | None = None,
    ) -> None:
        super().__init__(session)
        self.session = session
        self._company = tuple(company) if company is not None else None
        self._steps = steps or (2 if settings.fast_mode() else 10)
        self._done, self._total = 0, 1
        options = [("1, strong", 1.0), ("3", 3.0), ("8, weak", 8.0)]
        if epsilon not in [value for _, value in options]:
            options.append((f"{epsilon:g}", epsilon))
        self._epsilon = parts.field(
            ipywidgets.Dropdown(description="Epsilon of the noise", options=options, value=epsilon)
        )
        self._measure = self._button("Measure on my art", self.measure, icon="search", style="primary")
        self._cancel = self._button("Cancel", self.cancel, icon="stop")
        self._progress, self._result = ipywidgets.HTML(), ipywidgets.HTML()
        self._card = parts.card(self._result, title="What was found")
        self._card.layout.display = "none"
        self._compose(
            parts.card(parts.row(self._epsilon, self._measure, self._cancel), self._progress),
            self._card,
            ipywidgets.HTML(parts.notice(_NOT_MEASURED, title="What this does not measure")),
        )

    def measure(self) -> Job:
        """Train the updates of shadow federations, about two minutes, and show how surely you are found in them."""
        with self._reporting():
            if self.session.art is None:
                raise TrainingError("There is no art to look for yet. Choose pictures first.")
            self._done = 0
            return self._begin("style leak", self._events(), on_event=self._tell, on_end=self._end)

    def _events(self) -> Iterator[Any]:
        from fedart_nb.styleleak import COMPANY, style_leak

        company = self._company or COMPANY
        self._total = 3 * len(company) + 2
        yield from style_leak(
            self.session,
            company=company,
            epsilon=float(self._epsilon.value),
            steps=self._steps,
            repeats=1 if settings.fast_mode() else 2,
        )

    def _tell(self, event: Any) -> None:
        self._done += 1
        self._progress.value = parts.progress("measuring", min(self._done, self._total), self._total, str(event))
        self._say(str(event))

    def _end(self, job: Job) -> None:
        self._progress.value = ""
        if job.error is None and job.last is not None and hasattr(job.last, "curves"):
            self.value = job.last
            self._result.value = self._draw(job.last)
            self._card.layout.display = ""
            self._say(str(job.last), now=True)

    def _draw(self, leak: StyleLeak) -> str:
        facts = [
            ("your pictures", f"{leak.pictures}, in two halves that take your part in turns"),
            ("published works", f"{leak.published}, none of them trained on"),
            ("beside you", ", ".join(leak.company)),
            ("shadow federations", f"{leak.cohorts} with you and {leak.cohorts} without, {leak.steps} local steps"),
        ]
        return (
            f"{linkage_bars(leak.curves, epsilon=leak.epsilon, width_in=5.6).to_html()}{parts.notice(str(leak))}"
            f"{parts.facts(facts)}"
        )

    def _sync(self) -> None:
        mine = self.job is not None and not self.job.has_ended
        self._measure.disabled = self._epsilon.disabled = self.is_busy
        self._cancel.disabled = not mine

    def _summary(self) -> list[tuple[str, str]]:
        return [("found", str(self.value))] if self.value is not None else []

    def _static_body(self) -> str:
        return self._result.value + parts.notice(_NOT_MEASURED, title="What this does not measure")
