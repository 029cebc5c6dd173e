"""The panel that shows how much of an artist's hand an update gives away: in the clear, in sums, and with noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets

from fedart_nb._system import settings
from fedart_nb.errors import TrainingError
from fedart_nb.figures import linkage_bars
from fedart_nb.jobs import Job
from fedart_nb.widgets import parts
from fedart_nb.widgets.measuring_panel import MeasuringPanel

if TYPE_CHECKING:
    from fedart_nb.analysis.style_leakage import StyleLeak
    from fedart_nb.session import Session

__all__ = ["StyleLeakPanel"]

_NOT_MEASURED = (
    "One attack with one kind of knowledge is measured here: works of yours that somebody already has, one round, "
    "strangers beside you whose hands are unlike yours. It does not say what a better attack would find, nor what your "
    "presence in many rounds adds up to; it does not measure whether somebody could draw in your manner with the "
    "shared model, and a low figure is no proof that they cannot. Secure aggregation hides which update was yours, not "
    "that a hand like yours was in the sum; only noise, and more artists like you, bound that."
)


class StyleLeakPanel(MeasuringPanel):
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

    not_measured = _NOT_MEASURED
    job_name = "style leak"
    button = ("Measure on my art", "search")

    def __init__(
        self,
        session: Session,
        *,
        company: Sequence[str] | None = None,
        epsilon: float = 8.0,
        steps: int | None = None,
    ) -> None:
        options = [("1, strong", 1.0), ("3", 3.0), ("8, weak", 8.0)]
        if epsilon not in [value for _, value in options]:
            options.append((f"{epsilon:g}", epsilon))
        self._epsilon = parts.field(
            ipywidgets.Dropdown(description="Epsilon of the noise", options=options, value=epsilon)
        )
        super().__init__(session, self._epsilon)
        self._company = tuple(company) if company is not None else None
        self._steps = steps or (2 if settings.fast_mode() else 10)
        self._done, self._total = 0, 1

    def measure(self) -> Job:
        """Train the updates of shadow federations, about two minutes, and show how surely you are found in them."""
        with self._reporting():
            if self.session.art is None:
                raise TrainingError("There is no art to look for yet. Choose pictures first.")
            self._done = 0
            return self._run()

    def _events(self) -> Iterator[Any]:
        from fedart_nb.analysis.style_leakage import COMPANY, style_leak

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
