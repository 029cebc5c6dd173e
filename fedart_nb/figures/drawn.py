"""A drawing as a value: the picture, its alt text, and the table of numbers behind it."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from html import escape

__all__ = ["Drawn", "table_html"]


@dataclass(frozen=True)
class Drawn:
    """One drawing: an SVG text or PNG bytes, `alt` for those who do not see it, `table` with the header row first.

    An SVG draws its ink in `currentColor`, so it is legible in light and dark themes alike.

    >>> Drawn(alt="nothing yet", table=(("step", "loss"),), png=b"").to_html()[:7]
    '<figure'
    """

    alt: str
    table: tuple[tuple[str, ...], ...] = ()
    svg: str | None = field(default=None, repr=False)
    png: bytes | None = field(default=None, repr=False)
    caption: str = ""

    def to_html(self, *, summary: str = "The numbers as a table") -> str:
        """`<figure>` with the picture and its alt text, a caption, and the table folded away; every text escaped."""
        alt = escape(self.alt)
        if self.svg is not None:
            picture = f'<div class="fedart-svg" role="img" aria-label="{alt}">{self.svg}</div>'
        else:
            data = base64.b64encode(self.png or b"").decode()
            picture = f'<img alt="{alt}" src="data:image/png;base64,{data}" style="max-width:100%;border-radius:6px">'
        caption = f"<figcaption>{escape(self.caption)}</figcaption>" if self.caption else ""
        folded = ""
        if len(self.table) > 1:
            folded = f"<details><summary>{escape(summary)}</summary>{table_html(self.table)}</details>"
        return f'<figure class="fedart-figure" style="margin:0">{picture}{caption}{folded}</figure>'

    def _repr_html_(self) -> str:
        return self.to_html()


def table_html(rows: tuple[tuple[str, ...], ...], *, caption: str = "") -> str:
    """A table whose first row is its header; every cell escaped.

    >>> table_html((("a",), ("<b>",)))
    '<table><thead><tr><th scope="col">a</th></tr></thead><tbody><tr><td>&lt;b&gt;</td></tr></tbody></table>'
    """
    head, *body = rows
    columns = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in body)
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{columns}</tr></thead><tbody>{lines}</tbody></table>"
