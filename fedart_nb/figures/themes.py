"""Colours, and SVG that is legible on light and dark pages alike."""

from __future__ import annotations

import hashlib
import re

__all__ = ["CURVES", "INK", "OKABE_ITO", "themed_svg"]

#: Okabe & Ito's palette: told apart by readers with any form of colour vision.
OKABE_ITO = {
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "green": "#009E73",
    "yellow": "#F0E442",
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "purple": "#CC79A7",
}
INK = "#010203"  #: stands for the page's own text colour until the SVG is written
CURVES = (OKABE_ITO["blue"], OKABE_ITO["vermillion"])  #: a dark page may set --fa-curve-1 and -2 to lighter ones


def themed_svg(svg: str) -> str:
    """Only the `<svg>` element, its ink in the page's text colour, its ids its own, and as wide as its place."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = body.replace(INK, "currentColor")
    for number, colour in enumerate(CURVES, start=1):
        body = body.replace(colour.lower(), f"var(--fa-curve-{number}, {colour.lower()})")
    used = set(re.findall(r"#([\w.-]+)", body))
    body = re.sub(r' id="([\w.-]+)"', lambda match: match[0] if match[1] in used else "", body)
    mark = hashlib.sha256(body.encode()).hexdigest()[:8]
    body = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>f{mark}-", body)
    body = re.sub(r'(<svg[^>]*?) width="[^"]*"', r'\1 width="100%"', body, count=1)
    body = re.sub(r'(<svg[^>]*?) height="[^"]*"', r'\1 aria-hidden="true" focusable="false"', body, count=1)
    return body.strip()
