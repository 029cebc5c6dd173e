"""What an artist takes home from a workshop: the numbers of the rounds and the pictures, in one folder."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .._system.files import user_path
from ..diffusion import Adapter, anchor_of, denoising_loss, draw
from ..errors import ArtError
from ..session import Session

if TYPE_CHECKING:
    from ..diffusion import LatentSet

__all__ = ["STAGES", "Keepsake"]

#: The four stages that are compared, in order.
STAGES = ("backbone", "own adapter alone", "shared", "shared + personal")


@dataclass(frozen=True)
class Keepsake:
    """One artist's result: held-out losses and pictures of the four stages, drawn from the same prompts and seeds.

    `losses` maps a stage to the denoising loss on this artist's held-out pictures (lower is better), or is empty when
    nothing was held out. `pictures` maps a stage to uint8 (n, height, width, 3). Making it runs in the artist's kernel.
    """

    name: str
    title: str
    pictures_used: int
    bytes_sent: int
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    losses: Mapping[str, float]
    pictures: Mapping[str, NDArray[np.uint8]] = field(repr=False)

    @classmethod
    def of(
        cls, session: Session, prompts: Sequence[str], *, alone: Adapter | None = None, seed: int = 1, steps: int = 20
    ) -> Keepsake:
        """Measure and draw every stage that the session has adapters for; `alone` is one trained without the room."""
        backbone, seeds = session.backbone, tuple(seed + i for i in range(len(prompts)))
        stages: dict[str, list[tuple[Adapter, float]]] = {STAGES[0]: []}
        if alone is not None:
            stages[STAGES[1]] = [(alone, 1.0)]
        if session.shared is not None:
            stages[STAGES[2]] = session.adapters(personal=0)
            if session.personal is not None and session.personal is not alone:
                stages[STAGES[3]] = session.adapters()
        held_out: LatentSet | None = session.latents("test") if session.art and session.art.included("test") else None
        losses = {s: denoising_loss(backbone, held_out, a) for s, a in stages.items()} if held_out else {}
        anchor = anchor_of(backbone)
        pictures = {
            s: draw(backbone, prompts, seeds=seeds, adapters=a, steps=steps, anchor=anchor) for s, a in stages.items()
        }
        used = len(session.art.included("train")) if session.art else 0
        title = session.art.name if session.art else ""
        return cls(session.name, title, used, session.bytes_sent, tuple(prompts), seeds, losses, pictures)

    def to_html(self) -> str:
        """A table of pictures: one row a stage, one column a prompt; every picture has its alt text."""
        from html import escape

        head = "".join(f'<th scope="col">{escape(prompt)}</th>' for prompt in self.prompts)
        rows = []
        for stage, pictures in self.pictures.items():
            loss = f"<br><small>held-out loss {self.losses[stage]:.4f}</small>" if stage in self.losses else ""
            cells = "".join(
                f'<td><img src="{_data_url(p)}" width="128" height="128" '
                f'alt="{escape(f"{prompt}, {stage}, {self.name}")}"></td>'
                for p, prompt in zip(pictures, self.prompts, strict=True)
            )
            rows.append(f'<tr><th scope="row">{escape(stage)}{loss}</th>{cells}</tr>')
        caption = escape(f"{self.name}: {self.pictures_used} pictures of {self.title}, {self.bytes_sent:,} bytes sent")
        return f"<table><caption>{caption}</caption><tr><td></td>{head}</tr>{''.join(rows)}</table>"

    def _repr_html_(self) -> str:
        """The numbers alone: a cell's output is saved with the notebook. `KeepsakePanel` shows the pictures."""
        from html import escape

        cells = ((escape(stage), f"{loss:.4f}") for stage, loss in self.losses.items())
        rows = "".join(f'<tr><th scope="row">{stage}</th><td>{loss}</td></tr>' for stage, loss in cells)
        caption = escape(f"{self.name}: held-out loss of each stage, {self.bytes_sent:,} bytes sent")
        hint = "<p><code>KeepsakePanel(session, keepsake)</code> shows the pictures, <code>save</code> writes them.</p>"
        return f"<table><caption>{caption}</caption>{rows}</table>{hint}"

    def save(self, folder: str | Path) -> Path:
        """Write `keepsake.json` and the pictures as PNG files; returns the folder."""
        folder = user_path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for stage, pictures in self.pictures.items():
            for index, picture in enumerate(pictures):
                Image.fromarray(picture).save(folder / f"{stage.replace(' ', '-')}-{index}.png")
        numbers = {
            "name": self.name,
            "title": self.title,
            "pictures_used": self.pictures_used,
            "bytes_sent": self.bytes_sent,
            "prompts": self.prompts,
            "seeds": self.seeds,
            "losses": dict(self.losses),
            "stages": list(self.pictures),
        }
        (folder / "keepsake.json").write_text(json.dumps(numbers, indent=1), encoding="utf-8")
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Keepsake:
        """Read what `save` wrote.

        Raises:
            ArtError: a file is missing, damaged, or names pictures outside the folder.
        """
        folder = user_path(folder)
        try:
            numbers = json.loads((folder / "keepsake.json").read_text(encoding="utf-8"))
            pictures = {}
            for stage in numbers.pop("stages"):
                names = [f"{stage.replace(' ', '-')}-{i}.png" for i in range(len(numbers["prompts"]))]
                if any(Path(name).name != name for name in names):
                    raise ValueError(f"{stage!r} is no name of a stage")
                pictures[stage] = np.stack([np.asarray(Image.open(folder / n).convert("RGB")) for n in names])
            numbers["prompts"], numbers["seeds"] = tuple(numbers["prompts"]), tuple(numbers["seeds"])
            return cls(pictures=pictures, **numbers)
        except (OSError, SyntaxError, LookupError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise ArtError(
                f"The keepsake in {str(folder)!r} cannot be read ({error}). Copy the whole folder again."
            ) from error


def _data_url(picture: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
