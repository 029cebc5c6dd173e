"""A slider with a real label: a native range, which the stock slider is not (it has no accessible name)."""

from __future__ import annotations

from pathlib import Path

import anywidget
import traitlets

__all__ = ["Weight"]


class Weight(anywidget.AnyWidget):
    """A number, such as a weight, chosen by mouse, touch or arrow keys; tells Python at most ten times a second.

    `words` are what is said in place of some numbers.
    """

    _esm = Path(__file__).parent / "static" / "weight.js"
    _css = Path(__file__).parent / "static" / "weight.css"

    label = traitlets.Unicode("").tag(sync=True)
    value = traitlets.Float(1.0).tag(sync=True)
    max = traitlets.Float(1.5).tag(sync=True)
    step = traitlets.Float(0.05).tag(sync=True)
    marks = traitlets.List(traitlets.Float(), default_value=[0.0, 0.5, 1.0, 1.5]).tag(sync=True)
    words = traitlets.Dict(default_value={"0": "0, off", "1": "1, as trained"}).tag(sync=True)
    disabled = traitlets.Bool(default_value=False).tag(sync=True)
