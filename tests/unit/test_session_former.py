"""Training again loses nothing: the former adapter is kept and comes back; failed training replaces nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fedart_nb.diffusion import TrainConfig
from fedart_nb.errors import BackboneError, TrainingError
from fedart_nb.events import Sampled, Trained
from fedart_nb.session import Session
from fedart_nb.widgets import TrainPanel

SHORT = TrainConfig(steps=1, batch=2, validate_every=0)
Open = Callable[..., Session]


def train(session: Session, config: TrainConfig = SHORT) -> str:
    *_, last = session.train_personal(config)
    assert isinstance(last, Trained)
    return last.adapter.digest


def test_the_adapter_that_training_replaces_is_kept_and_comes_back(open_session: Open) -> None:
    session = open_session()
    assert session.former_adapters == ()
    with pytest.raises(TrainingError, match="no former adapter"):
        session.take_former_back()
    first, second = train(session), train(session)
    assert [adapter.digest for adapter in session.former_adapters] == [first]
    assert session.take_former_back().digest == first
    assert session.personal is not None
    assert session.personal.digest == first
    session.close()
    again = open_session()
    assert again.personal is not None
    assert again.personal.digest == first
    assert again.take_former_back().digest == second


def test_of_many_former_adapters_the_last_five_stay(open_session: Open) -> None:
    session = open_session()
    digests = [train(session) for _ in range(8)]
    assert [adapter.digest for adapter in session.former_adapters] == digests[2:7]


def test_training_that_goes_out_of_control_keeps_the_good_adapter_and_is_not_resumed(open_session: Open) -> None:
    session = open_session()
    good = train(session)
    wild = TrainConfig(
        steps=30, batch=2, learning_rate=1.0, warmup=0, max_grad_norm=None, validate_every=0, emphasis=3.0
    )
    session.shared = None
    assert session.art is not None
    latents = session.latents("train")
    latents.latents.mul_(1e6)
    with pytest.raises(TrainingError, match="What you had before is kept"):
        train(session, wild)
    assert session.personal is not None
    assert session.personal.digest == good
    assert session.former_adapters == ()
    assert session.resumable is None


def test_the_panel_goes_back_to_the_former_adapter(open_session: Open) -> None:
    session = open_session()
    first = train(session)
    panel = TrainPanel(session, prompts=[], steps=1)
    assert "Training again keeps" in panel.children[2].children[-1].children[0].value
    panel.start()
    panel.wait(60)
    assert session.personal is not None
    assert session.personal.digest != first
    panel.take_back()
    assert session.personal.digest == first


def test_one_prompt_is_one_picture(open_session: Open) -> None:
    session = open_session()
    *_, drawn = session.pictures("a red fox", seeds=1, steps=1)  # type: ignore[arg-type]
    assert isinstance(drawn, Sampled)
    assert drawn.prompts == ("a red fox",)
    assert TrainPanel(session, prompts="a red fox", steps=1).prompts == ("a red fox",)
    for wrong in ({"prompts": [1]}, {"prompts": ["cat"], "steps": 0}, {"prompts": ["cat"], "guidance": np.nan}):
        with pytest.raises(BackboneError):
            list(session.pictures(**wrong))


def test_numpy_numbers_lose_no_training(open_session: Open) -> None:
    session = open_session()
    seed = np.random.default_rng(0).integers(99)
    config = TrainConfig(steps=np.int64(2), batch=2, validate_every=1, seed=seed, caption_dropout=np.float32(0.1))
    assert train(session, config)
