"""`fedart demo`: a relay process, a host and three artists in separate kernels run the notebook's own cells."""

from __future__ import annotations

import argparse
import ast
import asyncio
import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import nbformat.reader
from jupyter_client.manager import AsyncKernelManager

from .._system.files import user_path
from .._system.memory import PeakMemory
from ..analysis.keepsake import STAGES, Keepsake
from ..errors import FedArtError
from ..relay.process import relay_process
from . import course
from .gallery import write_gallery

__all__ = ["ARTISTS", "NOTEBOOK", "Cell", "main", "read_cells", "table"]

NOTEBOOK = "04-rounds-together.ipynb"
ARTISTS = (("Ada", "openmoji"), ("Ben", "fluent_ink"), ("Cleo", "gameicons"))
_CELL_LIMIT_S = 600.0


@dataclass(frozen=True)
class Cell:
    """One code cell of a notebook."""

    source: str
    tags: frozenset[str]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demonstration; returns 0 when every artist has come home with a keepsake.

    Example: `main(["--out", "out"])`.
    """
    parser = argparse.ArgumentParser(prog="fedart demo", description=__doc__)
    parser.add_argument("--out", type=user_path, default=Path("out"), help="where demo.html and demo/ are written")
    parser.add_argument("--notebook", type=user_path, help=f"default: {NOTEBOOK} of the package")
    options = parser.parse_args(argv)
    cells = read_cells(options.notebook or course.notebook(NOTEBOOK))
    folder = options.out / "demo"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    started = time.monotonic()
    with PeakMemory() as memory, relay_process(folder / "relay", log=folder / "relay.log") as relay:
        _say(started, "relay", f"listens at {relay} (its log: {folder / 'relay.log'})")
        asyncio.run(_workshop(cells, relay, folder.resolve(), started))
    keepsakes = [Keepsake.load(folder / name / "keepsake") for name, _ in ARTISTS]
    wall_s = time.monotonic() - started
    print("\n" + table(keepsakes))
    print("\nHeld-out denoising loss, lower is better. Updates left masked: relay and host saw sums alone.")
    page = write_gallery(options.out / "demo.html", keepsakes)
    numbers = {"wall_s": round(wall_s, 1), "peak_gib": round(memory.peak_gib, 2)}
    (folder / "demo.json").write_text(json.dumps(numbers), encoding="utf-8")
    print(f"{wall_s:.0f} s, at most {memory.peak_gib:.1f} GiB of memory for six processes. Pictures: {page}")
    return 0


def read_cells(notebook: Path) -> list[Cell]:
    """The code cells of a notebook, in order, with their tags.

    Raises:
        FedArtError: the file is no notebook.
    """
    try:
        cells = nbformat.read(notebook, as_version=4).cells  # type: ignore[no-untyped-call]
    except (OSError, nbformat.reader.NotJSONError, nbformat.ValidationError) as error:
        raise FedArtError(f"{str(notebook)!r} cannot be read as a notebook: {error}") from error
    code = [cell for cell in cells if cell.cell_type == "code" and cell.source.strip()]
    return [Cell(cell.source.strip(), frozenset(cell.metadata.get("tags", ()))) for cell in code]


def table(keepsakes: Sequence[Keepsake]) -> str:
    """Artist, pictures, bytes sent, and the held-out loss of the four stages, as text."""
    header = ("artist", "art", "pictures", "bytes sent", *STAGES)
    rows = [
        (k.name, k.title, str(k.pictures_used), f"{k.bytes_sent:,}", *(f"{k.losses[s]:.4f}" for s in STAGES))
        for k in keepsakes
    ]
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in (header, *rows)]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


@dataclass
class _Kernel:
    """A separate ipykernel process that runs cells and tells what they print."""

    name: str
    environment: dict[str, str]
    log: Path
    started: float
    manager: AsyncKernelManager = field(default_factory=AsyncKernelManager)
    client: Any = None

    async def start(self) -> None:
        with self.log.open("wb") as log:  # what the process itself says, beside what its cells print
            await self.manager.start_kernel(env=os.environ | self.environment, stdout=log, stderr=log)
        self.client = self.manager.client()
        self.client.start_channels()
        await self.client.wait_for_ready(timeout=120)
        pid = getattr(self.manager.provisioner, "pid", "?")
        _say(self.started, self.name, f"kernel {pid} is ready")

    async def run(self, source: str, **expressions: str) -> dict[str, str]:
        """Run one cell; prints its output as it comes; returns the values of `expressions` as text."""
        reply = await self.client.execute_interactive(
            source,
            silent=False,
            store_history=False,
            allow_stdin=False,
            user_expressions=expressions,
            timeout=_CELL_LIMIT_S,
            output_hook=self._told,
        )
        content = reply["content"]
        if content["status"] != "ok":
            raise FedArtError(
                f"{self.name}: a cell failed with {content.get('ename')}: {content.get('evalue')}\n{source}"
            )
        found = content["user_expressions"].items()
        return {name: ast.literal_eval(value["data"]["text/plain"]) for name, value in found}

    def _told(self, message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream":
            for line in message["content"]["text"].splitlines():
                if line.strip():
                    _say(self.started, self.name, line.removeprefix(f"{self.name} "))

    async def stop(self) -> None:
        if self.client is not None:
            self.client.stop_channels()
        if self.manager.has_kernel:
            await self.manager.shutdown_kernel(now=True)


async def _workshop(cells: list[Cell], relay: str, folder: Path, started: float) -> None:
    invite: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    common = {"OMP_NUM_THREADS": "1", "FEDART_THREADS": "1", "FEDART_RELAY": relay, "FEDART_ARTISTS": str(len(ARTISTS))}
    common |= {"FEDART_DOOR": "open", "FEDART_CONFIRM": "anyone"}  # nobody is there who could let people in, or count

    def kernel(name: str, **more: str) -> _Kernel:
        environment = {**common, "FEDART_HOME": str(folder / name), "FEDART_NAME": name, **more}
        return _Kernel(name, environment, folder / f"{name}.log", started)

    host = kernel("Studio")
    artists = [kernel(name, FEDART_ART=art) for name, art in ARTISTS]
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_host(host, cells, invite))
            for artist in artists:
                group.create_task(_artist(artist, cells, invite, folder / artist.name / "keepsake"))
    except* FedArtError as errors:
        raise errors.exceptions[0] from None
    finally:
        await asyncio.gather(*(k.stop() for k in (host, *artists)))


async def _host(kernel: _Kernel, cells: list[Cell], invite: asyncio.Future[str]) -> None:
    await kernel.start()
    for cell in cells:
        if not cell.tags or "host" in cell.tags:
            await kernel.run(cell.source)
    found = await kernel.run("", invite="str(studio.invite)")
    _say(kernel.started, kernel.name, "the room is open, the invite goes out")
    invite.set_result(found["invite"])
    await kernel.run("async for event in studio.job.follow(every_s=3):\n    print(event)")


async def _artist(kernel: _Kernel, cells: list[Cell], invite: asyncio.Future[str], keepsake: Path) -> None:
    await kernel.start()
    for cell in cells:
        if cell.tags and "artist" not in cell.tags:
            continue
        if cell.tags and "INVITE" in cell.source:
            await kernel.run(f"INVITE = {await invite!r}")
        await kernel.run(cell.source)
    await kernel.run(f"keepsake.save({str(keepsake)!r})")


def _say(started: float, who: str, text: str) -> None:
    print(f"[{time.monotonic() - started:5.0f} s] {who:>6}: {text}", flush=True)
