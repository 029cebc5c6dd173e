"""The accessible parts that panels are made of: pieces of escaped HTML, and a few ready-made stock controls."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any, Literal

import ipywidgets

from fedart_nb.figures import png_bytes

__all__ = [
    "Level",
    "amount",
    "badge",
    "before_and_after",
    "button",
    "card",
    "duration",
    "facts",
    "field",
    "happened",
    "heading",
    "notice",
    "picture",
    "progress",
    "row",
    "scrolling",
    "style_sheet",
    "table",
    "words_note",
]

_LOG_LINES = 60

Level = Literal["info", "success", "warning", "danger"]

#: Meaning is never carried by colour alone: each level has its sign and its word.
_SIGNS: dict[Level, tuple[str, str]] = {
    "info": ("ℹ", "Note"),
    "success": ("✓", "Done"),
    "warning": ("▲", "Take care"),
    "danger": ("⚠", "Warning"),
}


def style_sheet() -> str:
    """The panels' own style sheet as a `<style>` element; every rule begins with `.fedart-`."""
    return f"<style>{(Path(__file__).parent / 'static' / 'panel.css').read_text(encoding='utf-8')}</style>"


def heading(title: str, lead: str = "", *, level: int = 3) -> str:
    """A heading and the sentence under it."""
    under = f'<p class="fedart-lead">{escape(lead)}</p>' if lead else ""
    return f'<h{level} class="fedart-heading">{escape(title)}</h{level}>{under}'


def notice(text: str, *, level: Level = "info", title: str | None = None, role: str = "note") -> str:
    """A sentence in a coloured box, with a sign and a word that say the same as the colour.

    >>> "Take care" in notice("The disk is nearly full.", level="warning")
    True
    """
    sign, word = _SIGNS[level]
    head = escape(word if title is None else title)
    body = f"<div>{escape(text)}</div>".replace("\n", "<br>") if text else ""
    return (
        f'<div class="fedart-notice fedart-{level}" role="{role}"><span class="fedart-sign" aria-hidden="true">{sign}'
        f"</span><div><strong>{head}</strong>{body}</div></div>"
    )


def words_note(lines: Sequence[str], *, shown: int = 8) -> str:
    """How words that the backbone does not know are read: sentences of `diffusion.words.explain`, the rest folded away.

    Nothing when there are no lines.

    >>> words_note(["“kitty” is read as “cat”."]).count("<li>")
    1
    """
    if not lines:
        return ""
    items = [f"<li>{escape(line)}</li>" for line in lines]
    first, rest = (f'<ul class="fedart-list">{"".join(part)}</ul>' for part in (items[:shown], items[shown:]))
    more = f"<details><summary>{len(lines) - shown} more</summary>{rest}</details>" if len(lines) > shown else ""
    sign, _ = _SIGNS["info"]
    return (
        f'<div class="fedart-notice fedart-info" role="note"><span class="fedart-sign" aria-hidden="true">{sign}</span>'
        f"<div><strong>Words that the backbone does not know</strong>{first}"
        f"{more}</div></div>"
    )


def badge(text: str, *, level: Level = "info", sign: str = "") -> str:
    """A word in a pill, with an optional sign before it."""
    mark = f'<span aria-hidden="true">{escape(sign)}</span> ' if sign else ""
    return f'<span class="fedart-badge fedart-{level}">{mark}{escape(text)}</span>'


def progress(label: str, value: float | None, total: float, text: str = "") -> str:
    """A native `<progress>` with its label; `value=None` shows that the end is not known."""
    at = "" if value is None else f' value="{value:g}"'
    return (
        f'<div class="fedart-progress"><div class="fedart-progress-head"><span>{escape(label)}</span></div>'
        f'<progress aria-label="{escape(label)}" max="{total:g}"{at}></progress>'
        f'<div class="fedart-progress-text">{escape(text)}</div></div>'
    )


def picture(png: bytes, alt: str, *, caption: str | None = None, size_px: int | None = None) -> str:
    """A `<figure>` with one PNG; `alt` says what is on it."""
    under = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    width = f' width="{size_px}" height="{size_px}"' if size_px else ""
    data = base64.b64encode(png).decode()
    image = f'<img alt="{escape(alt)}"{width} src="data:image/png;base64,{data}">'
    return f'<figure class="fedart-picture">{image}{under}</figure>'


def before_and_after(
    prompts: Sequence[str], models: Sequence[tuple[str, Sequence[Any] | None]], *, size_px: int = 168
) -> str:
    """One column a prompt, one row a model: `models` are (title, pictures uint8 (h, w, 3), or None while they wait)."""
    head = "".join(f'<th scope="col">{escape(prompt)}</th>' for prompt in prompts)
    lines = []
    for title, pictures in models:
        cells = []
        for i, prompt in enumerate(prompts):
            if pictures is None or i >= len(pictures):
                cells.append('<td><div class="fedart-blank">not drawn yet</div></td>')
            else:
                alt = f"“{prompt}”, drawn by: {title}"
                cells.append(f"<td>{picture(png_bytes(pictures[i]), alt, size_px=size_px)}</td>")
        lines.append(f'<tr><th scope="row">{escape(title)}</th>{"".join(cells)}</tr>')
    return (
        f'<table class="fedart-compare" style="min-width:{110 + 84 * len(prompts)}px;'
        f'max-width:{110 + (size_px + 14) * len(prompts)}px">'
        "<caption>The same prompts and the same noise, drawn by each</caption>"
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    )


def happened(lines: Sequence[str]) -> str:
    """The newest of a panel's log lines, folded away; nothing when there are none."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines[-_LOG_LINES:])
    return f'<details><summary>What happened</summary><ul class="fedart-list">{items}</ul></details>' if items else ""


def scrolling(html: str, label: str) -> str:
    """HTML that may be wider than the page: it scrolls by itself, by keyboard too, which is why it has a label."""
    return f'<div class="fedart-scroll" role="region" aria-label="{escape(label)}" tabindex="0">{html}</div>'


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """A list of names and values."""
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in pairs)
    return f'<dl class="fedart-facts">{items}</dl>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str, safe: bool = False) -> str:
    """A table with a caption; `safe=True` says that the cells are HTML made by the parts of this module."""
    clean: Callable[[str], str] = str if safe else escape
    columns = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    lines = "".join("<tr>" + "".join(f"<td>{clean(cell)}</td>" for cell in line) + "</tr>" for line in rows)
    return (
        f'<table class="fedart-table"><caption>{escape(caption)}</caption>'
        f"<thead><tr>{columns}</tr></thead><tbody>{lines}</tbody></table>"
    )


def amount(size_bytes: float) -> str:
    """A number of bytes for people.

    >>> amount(32_768), amount(512), amount(3.5 * 2**20)
    ('32.0 KiB', '512 bytes', '3.5 MiB')
    """
    if size_bytes < 1024:
        return f"{size_bytes:.0f} bytes"
    unit = next((power for power in (1, 2) if size_bytes < 1024 ** (power + 1)), 3)
    return f"{size_bytes / 1024**unit:.1f} {('KiB', 'MiB', 'GiB')[unit - 1]}"


def duration(seconds: float) -> str:
    """A time span for people.

    >>> duration(7.2), duration(95), duration(7300)
    ('7 s', '1 min 35 s', '2 h 1 min')
    """
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def button(text: str, action: Callable[[], Any], *, icon: str = "", style: str = "", tooltip: str = "") -> Any:
    """A stock button that calls `action` without arguments."""
    control = ipywidgets.Button(description=text, icon=icon, button_style=style, tooltip=tooltip or text)
    control.add_class("fedart-button")
    control.on_click(lambda _button: action())
    return control


def field(control: Any, *, grow: bool = False) -> Any:
    """A stock control with its label on top."""
    control.style.description_width = "auto"
    control.layout.width = "auto"
    control.add_class("fedart-field")
    if grow:
        control.add_class("fedart-grow")
    return control


def row(*children: Any) -> Any:
    """Controls beside each other; they wrap on a narrow page."""
    box = ipywidgets.HBox(children)
    box.add_class("fedart-row")
    return box


def card(*children: Any, title: str = "", lead: str = "") -> Any:
    """A part of a panel with its own heading."""
    head = [ipywidgets.HTML(heading(title, lead, level=4))] if title else []
    box = ipywidgets.VBox([*head, *children])
    box.add_class("fedart-card")
    return box
