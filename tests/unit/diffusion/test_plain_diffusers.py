"""The README's lines for plain diffusers run as they stand, in a process that cannot import this package."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from fedart_nb.diffusion import Backbone, initial_adapter

ROOT = Path(__file__).parents[3]
WITHOUT_THE_PACKAGE = "import sys\nsys.modules['fedart_nb'] = None\n"
CHECK = "\nassert picture.size == (128, 128), picture.size\n"


def readme_lines() -> str:
    """The block of code in the README that begins with diffusers."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (block,) = [block for block in blocks if block.startswith("from diffusers import StableDiffusionPipeline")]
    return block


def test_the_embedded_folder_and_an_adapter_load_and_draw_with_the_readme_s_lines(tmp_path: Path) -> None:
    backbone = Backbone.embedded()
    adapter = initial_adapter(backbone, seed=0)
    rng = np.random.default_rng(0)
    moved = {
        name: rng.normal(0, 0.02, value.shape).astype(np.float32) if "lora_B" in name else value
        for name, value in adapter.tensors.items()
    }
    replace(adapter, tensors=moved).save(tmp_path / "my-adapter")
    (tmp_path / "embedded").symlink_to(ROOT / "fedart_nb" / "diffusion" / "embedded")
    code = WITHOUT_THE_PACKAGE + readme_lines().replace("num_inference_steps=20", "num_inference_steps=2") + CHECK
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
