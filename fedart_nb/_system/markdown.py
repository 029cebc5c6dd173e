"""Text of strangers inside Markdown: it stays text, on its line, in its cell."""

from __future__ import annotations

import re

__all__ = ["plain"]

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>&~@]|:(?=//)|(?<=www)\.)")
_GAPS = re.compile(r"[\s\x00-\x1f\x7f\u2028\u2029]+")


def plain(text: str) -> str:
    r"""The text, escaped so that no renderer takes any of it for a link, a tag, emphasis or the end of a cell.

    >>> print(plain("Ada <b>[x](https://y)| "))
    Ada \<b\>\[x\](https\://y)/
    """
    return _SPECIAL.sub(r"\\\1", _GAPS.sub(" ", text).replace("|", "/")).strip()
