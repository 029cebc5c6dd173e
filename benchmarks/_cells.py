"""Cells of a long run: each computed once and kept in a file as it is done, so that a run that was stopped goes on."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["Cells"]


class Cells:
    """The cells in `folder/cells.jsonl`, by name."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.values: dict[str, Any] = {}
        self._path = folder / "cells.jsonl"
        for line in self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else ():
            cell = json.loads(line)
            self.values[cell["cell"]] = cell["value"]

    def get(self, name: str, compute: Callable[[], Any]) -> Any:
        """The value of a cell, from the file where it was computed before."""
        if name not in self.values:
            began = time.process_time()
            self.keep(name, compute(), round(time.process_time() - began, 1))
        return self.values[name]

    def keep(self, name: str, value: Any, seconds: float) -> None:
        """Write a cell down, with the CPU seconds that it took."""
        self.values[name] = value
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"cell": name, "value": value, "seconds": seconds}) + "\n")
        print(f"{name}: {seconds} s", file=sys.stderr, flush=True)
