"""A few thousand of the inputs of `benchmarks/relay_fuzz.py`: nothing but refusals comes out."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Relay

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def test_only_errors_of_the_package_come_out_of_what_reads_bytes(load: Callable[[str], ModuleType]) -> None:
    found = load("_fuzz_wire").fuzz_readers(12_000, seed=7)
    assert found.faults == {}
    assert 0.02 < found.taken / found.inputs < 0.5, "some inputs are still valid, most are not"


def test_a_reader_with_a_fault_is_found(load: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    fuzz = load("_fuzz_wire")
    monkeypatch.setattr(fuzz, "parse_json", lambda data: 1 // 0)
    (name,) = fuzz.fuzz_readers(60, seed=7).faults
    assert name.startswith("parse_json: ZeroDivisionError")


@pytest.mark.process
@pytest.mark.skipif(sys.platform == "win32", reason="starts a relay as the other process tests do")
def test_the_relay_refuses_what_is_wrong_and_lives_on(
    load: Callable[[str], ModuleType], start: Callable[..., Relay]
) -> None:
    fuzz = load("_fuzz_http")
    relay = start(*fuzz.RELAY_OPTIONS)
    answers = fuzz.fuzz_relay(relay.url, 2_000, seed=7)
    assert answers.faults == []
    assert {200, 201, 400, 401, 403, 404, 405, 409, 413} <= set(answers.statuses)
    assert httpx.get(f"{relay.url}/healthz", trust_env=False).json()["ok"] is True
    assert "Traceback" not in relay.errors.read_text()
