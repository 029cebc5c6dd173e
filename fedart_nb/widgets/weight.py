"""A slider with a real label: a native range, which the stock slider is not (it has no accessible name)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import anywidget
import traitlets

__all__ = ["Weight"]


class Weight(anywidget.AnyWidget):
    """A number, such as a weight, chosen by mouse, touch or arrow keys; tells Python at most ten times a second.

    `words` are what is said in place of some numbers, `names` what stands at some marks.
    """

    _esm = Path(__file__).parent / "static" / "weight.js"
    _css = Path(__file__).parent / "static" / "weight.css"

    label = traitlets.Unicode("").tag(sync=True)
    value = traitlets.Float(1.0).tag(sync=True)
    max = traitlets.Float(1.5).tag(sync=True)
    step = traitlets.Float(0.05).tag(sync=True)
    marks = traitlets.List(traitlets.Float(), default_value=[0.0, 0.5, 1.0, 1.5]).tag(sync=True)
    names = traitlets.Dict(default_value={}).tag(sync=True)
    words = traitlets.Dict(default_value={"0": "0, off", "1": "1, as trained"}).tag(sync=True)
    disabled = traitlets.Bool(default_value=False).tag(sync=True)

    @classmethod
    def choice(cls, label: str, options: Sequence[tuple[str, str]], *, value: int = 0) -> Weight:
        """A slider over a row of things, each with its mark and its words; `value` is its place in the row."""
        places = range(len(options))
        return cls(
            label=label,
            value=float(value),
            max=float(max(1, len(options) - 1)),
            step=1.0,
            marks=[float(i) for i in places if options[i][0]],
            names={str(i): options[i][0] for i in places},
            words={str(i): options[i][1] for i in places},
        )
