"""The panel that all panels are made from: error area, status line, one job, static summary, and a clean end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from html import escape
from typing import Any, ClassVar

import ipywidgets
import traitlets

from fedart_nb.errors import FedArtError
from fedart_nb.jobs import Job
from fedart_nb.widgets import parts, registry
from fedart_nb.widgets.keys import Keys
from fedart_nb.widgets.stills import Still, live_class
from fedart_nb.widgets.unsaved import Keeping, UnsavedHTML, keeping_of

__all__ = ["Panel", "close_tree"]

_KEEP = "Keep my pictures and captions in the saved notebook"
_KEEP_ABOUT = "Not ticked: a saved or exported notebook holds none of them. Sample art is kept."
_ANNOUNCE_S = 5.0  # a screen reader is told of progress no more often than this


class _Complete(type(ipywidgets.VBox)):  # type: ignore[misc]
    """Makes a panel known to the others when its constructor, and those of its subclasses, have returned."""

    def __call__(cls, *args: Any, **options: Any) -> Any:
        panel: Any = cls.__new__(cls, *args, **options)
        try:
            panel.__init__(*args, **options)
            panel._join_the_others()
        except BaseException:
            with suppress(Exception):
                panel.close()
            raise
        return panel


class Panel(ipywidgets.VBox, metaclass=_Complete):
    """One displayed object for one session; also a `VBox`, so it composes in tabs and boxes.

    Every button has a method of the same name, so everything works without a front end. `value` holds the panel's
    current answer and can be observed. Long work runs in `job`; `wait()` blocks until it is over, `cancel()` stops it.

    For those who write panels: whatever is displayed is written under the panel's lock, by the job's watcher while a
    job runs and by callbacks otherwise; controls are written by callbacks only, and `disabled` by `_sync()` only.
    """

    value = traitlets.Any(None, allow_none=True)

    title: ClassVar[str] = ""
    lead: ClassVar[str] = ""
    holds_own: ClassVar[bool] = False  # shows pictures or captions of the artist's own

    _closed = True  # until construction is over there is nothing to close

    def __init__(self, owner: Any) -> None:
        super().__init__()
        self.job: Job | None = None
        self._owner = owner
        self._lock = threading.RLock()
        self._error_area = ipywidgets.HTML()
        self._status = ipywidgets.HTML()
        self._said_at = 0.0
        self._closed = False
        self._keeping = keeping_of(owner) if self.holds_own else None
        self._keep_link: Any = None
        self._still = Still(str(self.model_id), make=self.to_html, text=self.__repr__)
        self.add_class(live_class(str(self.model_id)))
        self.observe(lambda _change: self._still.renew(), "value")
        self._cell = _cell()
        self.add_class("fedart-panel")

    def _join_the_others(self) -> None:
        """Called once, when the whole panel is built: earlier panels of a cell that is run again are closed."""
        for panel in registry.panels():
            if self._cell and panel._cell and panel._cell[0] == self._cell[0] and panel._cell[1] != self._cell[1]:
                with suppress(Exception):
                    panel.close()
        registry.register(self)
        self._sync()  # a job may have begun or ended meanwhile

    def __repr__(self) -> str:
        told = ", ".join(f"{name}: {text}" for name, text in self._summary())
        return f"{type(self).__name__}({told})"

    def cancel(self) -> None:
        """Stop the running job at its next step; what was reached so far is kept."""
        if self.job is not None:
            self.job.cancel()
        self._sync()

    def wait(self, timeout_s: float | None = None) -> Any:
        """Block until the running job is over and return the panel's value; its error, if any, is raised here.

        While a cell blocks, Cancel may not work: `await panel.job` keeps it alive, and interrupting the kernel cancels.
        """
        if self.job is not None:
            self.job.wait(timeout_s)
        return self.value

    def close(self) -> None:
        """Cancel the job, and take the panel with all its parts out of the page and out of memory."""
        if self._closed:
            return
        self._closed = True
        if self.job is not None:
            self.job.cancel()
        registry.forget(self)
        if self._keeping is not None and self._keep_link is not None:
            self._keep_link.unlink()
            self._keeping.unobserve(self._kept, "ticked")
        with self._lock:
            for child in self.children:
                close_tree(child)
        self.layout.close()
        super().close()

    def remove(self) -> None:
        """Close the panel, and leave no still of it in the notebook either."""
        self._still.clear()
        self.close()

    @property
    def keeps_own(self) -> bool:
        """Whether a saved notebook may hold the artist's own pictures and captions: the box in the panel says so."""
        return self._keeping is None or self._keeping.keeps

    def to_html(self) -> str:
        """What the panel shows now, as static HTML for pages without a kernel; own pictures only where kept."""
        own = self._static_own() if self.holds_own else ""
        if own and not self.keeps_own:
            own = parts.notice(
                "They were shown beside the running kernel, and are kept only where the box is ticked.",
                title="Own pictures and captions are not saved",
            )
        return (
            f"<section><h3>{escape(self.title)}</h3>{parts.facts(self._summary())}"
            f"{self._error_area.value}{self._static_body()}{own}</section>"
        )

    def _ipython_display_(self, **_kwargs: Any) -> None:
        bundle = super()._repr_mimebundle_()
        self._still.display((bundle[0] if isinstance(bundle, tuple) else bundle) or {})

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        if data is not None:
            data["text/plain"] = repr(self)
            data["text/html"] = self.to_html()
        return bundle

    # what a panel fills in

    def _summary(self) -> list[tuple[str, str]]:
        """Names and values for the static summary and the text representation."""
        return []

    def _static_body(self) -> str:
        """Further HTML for the static summary."""
        return ""

    def _static_own(self) -> str:
        """The part of the static summary that shows the artist's own pictures or captions (`holds_own`)."""
        return ""

    def _sync(self) -> None:
        """Enable exactly the controls that make sense now; the only place that sets `disabled`."""

    # what a panel uses

    def _compose(self, *body: Any) -> None:
        head = ipywidgets.HTML(parts.style_sheet() + parts.heading(self.title, self.lead))
        self._status.add_class("fedart-status")
        keep = (self._keep_row(self._keeping),) if self._keeping is not None else ()
        self.children = (head, self._error_area, *body, *keep, self._status, Keys())
        self._sync()

    def _unsaved_html(self) -> Any:
        """A place for HTML that may show the artist's own pictures or captions: no saved notebook holds it unasked."""
        return UnsavedHTML(self._keeping)

    def _keep_row(self, keeping: Keeping) -> Any:
        """The box that lets a saved notebook hold own pictures; one choice for all panels of a session."""
        box = ipywidgets.Checkbox(description=_KEEP, indent=False)
        box.layout.width = "auto"
        box.add_class("fedart-check")
        self._keep_link = traitlets.link((keeping, "ticked"), (box, "value"))
        keeping.observe(self._kept, "ticked")
        about = ipywidgets.HTML(f'<p class="fedart-lead">{escape(_KEEP_ABOUT)}</p>')
        row = parts.row(box, about)
        row.add_class("fedart-keep")
        return row

    def _kept(self, _change: Any) -> None:
        self._still.renew()

    @property
    def owner(self) -> Any:
        """Whose panel it is: a session or a host."""
        return self._owner

    @property
    def is_busy(self) -> bool:
        """Whether a job of this session is running, in this panel or in another one."""
        return registry.job_of(self._owner) is not None

    def sync(self) -> None:
        """Enable exactly the controls that make sense now."""
        if not self._closed:
            self._sync()

    def show_error(self, error: BaseException) -> None:
        """Show what went wrong and what to do, until the next thing is tried."""
        if not self._closed:
            self._show_error(error)

    def _begin(
        self,
        name: str,
        events: Iterable[Any],
        *,
        on_event: Callable[[Any], None] | None = None,
        on_end: Callable[[Job], None] | None = None,
    ) -> Job:
        """Start the session's one job. The watcher draws; `on_end` runs after the last event, even after a failure."""

        def told(event: Any) -> None:
            with self._lock:
                if on_event is not None and not self._closed:
                    on_event(event)

        def ended(job: Job) -> None:
            registry.forget_job(self._owner, job)
            try:
                if self._closed:
                    return
                with self._lock:
                    if on_end is not None:
                        on_end(job)
                    if job.error is not None:
                        self._show_error(job.error)
                self._still.renew()
            finally:
                registry.sync_all(self._owner)

        job = Job(events, name=name, on_event=told, on_end=ended)
        before = self.job
        try:
            registry.begin(self._owner, job)
            self._clear_error()
            self.job = job
            registry.sync_all(self._owner)
            return job.start()
        except BaseException:  # refused, or interrupted anywhere here: nothing runs, so nothing may look busy
            job.cancel()
            if self.job is job:
                self.job = before
            registry.sync_all(self._owner)
            raise

    def _say(self, text: str, *, now: bool = False) -> None:
        """Put a sentence into the status line, which screen readers announce; at most one every few seconds."""
        with self._lock:
            if now or time.monotonic() - self._said_at >= _ANNOUNCE_S:
                self._status.value = f'<div class="fedart-hidden" role="status">{escape(text)}</div>'
                self._said_at = time.monotonic()
        if now:
            self._still.renew()

    def _show_error(self, error: BaseException) -> None:
        """Show what went wrong and what to do, until the next thing is tried."""
        if isinstance(error, FedArtError):
            title, text = "That did not work", str(error)
        else:
            title = "Something unexpected went wrong"
            said = str(error).strip() or "no further words"
            text = f"{type(error).__name__}: {said}\nNothing was lost. panel.wait() shows where it happened."
        with self._lock:
            self._error_area.value = parts.notice(text, level="danger", title=title, role="alert")

    def _clear_error(self) -> None:
        with self._lock:
            if self._error_area.value:
                self._error_area.value = ""

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        """Errors of a method are shown in the error area and then raised, for people with and without a front end."""
        try:
            yield
        except Exception as error:
            self._show_error(error)
            raise

    def _button(self, text: str, action: Callable[[], Any], **options: Any) -> Any:
        """A button whose errors end in the error area."""

        def clicked() -> None:
            with suppress(Exception), self._reporting():  # the callback is the boundary; the error area has the error
                action()

        return parts.button(text, clicked, **options)


def close_tree(widget: Any) -> None:
    """Close a widget, its children, layout and style; closing only the outermost would keep the rest in memory."""
    for child in getattr(widget, "children", ()):
        close_tree(child)
    for name in ("layout", "style"):
        part = getattr(widget, name, None)
        if isinstance(part, ipywidgets.Widget):
            part.close()
    widget.close()


def _cell() -> tuple[str, int] | None:
    """The running notebook cell and its execution count, or None outside a notebook."""
    with suppress(Exception):
        from IPython import get_ipython

        shell = get_ipython()
        cell_id = shell.get_parent()["metadata"]["cellId"]
        return str(cell_id), int(shell.execution_count)
    return None
