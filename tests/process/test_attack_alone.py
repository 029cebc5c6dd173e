"""The attacker's process is given what was sent, and no more: it never holds the picture that it finds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fedart_nb.attacks.outcomes import Frame
from fedart_nb.attacks.scoring import Truth, ceiling, score
from fedart_nb.attacks.victim import full_gradient_view
from fedart_nb.diffusion import Backbone, TrainConfig
from fedart_nb.diffusion.latents import latents_of

pytestmark = pytest.mark.process

CAPTION = "a house"
ATTACKER = """
import json, os, sys
opened = []
def watch(event, given):
    if event == "open" and isinstance(given[0], (str, bytes)):
        opened.append(os.fsdecode(given[0]))
sys.addaudithook(watch)
import numpy as np
from fedart_nb.attacks.exact import exact
from fedart_nb.attacks.view import ServerView
from fedart_nb.diffusion import Backbone
backbone = Backbone.embedded(device="cpu")
with open("sent.safetensors", "rb") as file:
    sent = file.read()
view = ServerView(sent, b"", backbone.sha256, caption_dropout=0.0).knowing(captions=(sys.argv[1],))
*_, outcome = exact(view, backbone, evaluations=400)
np.save("guess.npy", outcome.frame.pictures)
print(json.dumps({"recovered": outcome.recovered, "opened": opened}))
"""


def drawn() -> np.ndarray:
    """A picture that is in no package and no file: (1, 128, 128, 3)."""
    sheet = Image.new("RGB", (128, 128), "#f4e7c5")
    pen = ImageDraw.Draw(sheet)
    pen.polygon([(20, 66), (64, 24), (108, 66)], fill="#a03030", outline="black", width=3)
    pen.rectangle([30, 66, 98, 112], fill="#4878a0", outline="black", width=3)
    pen.rectangle([56, 82, 74, 112], fill="#302018")
    return np.array(sheet)[None]


def test_the_picture_is_rebuilt_by_a_process_that_had_the_bytes_alone(tmp_path: Path):
    backbone, picture = Backbone.embedded(device="cpu"), drawn()
    config = TrainConfig(batch=1, seed=11, caption_dropout=0.0)
    view = full_gradient_view(backbone, latents_of(backbone, picture, [CAPTION], ["0"]), config=config)
    (tmp_path / "sent.safetensors").write_bytes(view.update)
    told = subprocess.run(
        [sys.executable, "-c", ATTACKER, CAPTION], cwd=tmp_path, capture_output=True, text=True, timeout=150, check=True
    )
    said = json.loads(told.stdout.splitlines()[-1])
    assert said["recovered"]
    assert [name for name in said["opened"] if name.endswith((".png", ".jpg", ".npy", ".parquet"))] == ["guess.npy"]
    guess = np.load(tmp_path / "guess.npy", allow_pickle=False)
    frame = Frame("exact", 1, 1, 0.0, 0.0, pictures=guess)
    assert score(frame, Truth(ceiling(backbone, picture))).ssim[0] > 0.95
