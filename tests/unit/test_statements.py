"""Statements are Markdown that holds names and sentences of strangers: rendered, all of them stay plain text."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import mistune
import pytest
from leavings import LEAVING

from fedart_nb._system.folders import UserFolders
from fedart_nb.consent import Consent
from fedart_nb.crypto.identity import Identity
from fedart_nb.privacy.accounting import Gaussian
from fedart_nb.privacy.ledger import Budget, Ledger
from fedart_nb.privacy.ledger_report import statement
from fedart_nb.privacy.tally import Tally

HOSTILE = {
    "link": "[look](https://evil.example)",
    "address": "https://evil.example/x www.evil.example a@evil.example",
    "picture": "![x](https://evil.example/p.png)",
    "tag": "<img src=x onerror=alert(1)><script>alert(1)</script>",
    "automatic link": "<https://evil.example>",
    "emphasis": "*big* **huge** _low_ ~~gone~~ `code`",
    "heading": "x\n# Signed by everybody\n",
    "cell": "a | b | c",
    "escape": "\\[look](https://evil.example)\\",
    "entity": "&lt;script&gt;",
    "reference": "[look]\n\n[look]: https://evil.example\n",
}


def rendered(markdown: str) -> str:
    """As GitHub's flavour, with every plug-in that makes links or markup, and tags let through."""
    render = mistune.create_markdown(escape=False, plugins=["table", "url", "strikethrough", "footnotes", "task_lists"])
    page = render(markdown)
    assert isinstance(page, str)
    return page


def shape(page: str) -> list[str]:
    """The page's tags, in order: the same for every text that stays text."""
    return re.findall(r"</?\w+[^<>]*>", page)


def receipts(folder: Path, text: str) -> str:
    consent = Consent(folder, Identity.generate(), clock=lambda: 1_800_000_000.0)
    consent.room = text
    leaving = replace(LEAVING, room=text, found=(text,))
    consent.choose("contribute", "looked", leaving=leaving)
    consent.stayed(leaving, text)
    return consent.statement([text], name=text)


def spendings(folder: Path, text: str) -> str:
    """Of one room, with what another room spent of the same picture, and a warning."""
    for place in ("there", "here"):
        ledger = Ledger.open(
            folder / f"{place}.jsonl",
            artist="ada",
            room=f"{text} {place}",
            budget=Budget(8.0, 1e-3),
            tally=Tally(UserFolders.within(folder)),
            pictures=("a",),
        )
        ledger.spend(Gaussian(1.4, 0.16, 15), purpose=text, record={"pictures": 5, "left": text})
    ledger.warnings.append(text)
    assert ledger.elsewhere
    return statement(ledger, where=text)


@pytest.mark.parametrize("told", [receipts, spendings])
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_name_or_sentence_in_a_statement_becomes_markup(tmp_path: Path, told, text: str) -> None:
    harmless = rendered(told(tmp_path / "harmless", "x"))
    page = rendered(told(tmp_path / "hostile", text))
    assert shape(page) == shape(harmless)
    assert text.split(maxsplit=1)[0].replace("|", "/") in unescape(page), "it is there to be read"
