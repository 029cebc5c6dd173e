"""Foul hosts succeed against artists with their checks off, and are refused, with a sentence, by the normal ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedart_nb.art import ArtSet
from fedart_nb.attacks import Outcome, ThreatModel, load
from fedart_nb.attacks.malicious import detect, planted, zeroed
from fedart_nb.attacks.pixels import rows_of
from fedart_nb.attacks.victim import full_gradient_view, update_view
from fedart_nb.attacks.view import ServerView
from fedart_nb.diffusion import Backbone, LatentSet, TrainConfig, initial_adapter
from fedart_nb.diffusion.latents import latents_of
from fedart_nb.errors import AttackError
from fedart_nb.federated.simulation import Simulation

ARTISTS = ("openmoji", "lorelei", "rollandin")


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone.embedded(device="cpu")


def art(name: str, split: str = "train", most: int = 4) -> tuple[np.ndarray, tuple[str, ...]]:
    own = ArtSet.sample(name)
    chosen = own.included(split)[:most]
    return own.pixels(chosen), tuple(p.caption for p in chosen)


def latents(backbone: Backbone, pictures: np.ndarray, captions: tuple[str, ...]) -> LatentSet:
    return latents_of(backbone, pictures, list(captions), [str(i) for i in range(len(captions))])


def test_a_planted_layer_reads_inputs_out_of_a_sum_of_three_artists(backbone: Backbone):
    honest = backbone.sha256
    views, inputs = [], []
    with planted(backbone, art("gameicons", "test", 8)[0]):
        assert backbone.sha256 != honest  # which is what a plan names, and an artist compares with
        assert "same way" in detect(backbone)[0]
        for seed, name in enumerate(ARTISTS):
            pictures, captions = art(name)
            data = latents(backbone, pictures, captions)
            view = full_gradient_view(backbone, data, config=TrainConfig(batch=4, seed=seed, caption_dropout=0.0))
            rows = rows_of(view.knowing(seed=seed, captions=captions), backbone)
            clean = backbone.encode(pictures)[rows.picture]
            assert rows.eps is not None
            inputs.append(backbone.process.add_noise(clean, rows.eps, rows.t))
            views.append(view.tensors)
    assert backbone.sha256 == honest
    assert detect(backbone) == ()
    summed = ServerView.of_sum(views, b"", honest, batch=4, malicious="imprint")
    *_, outcome = load("imprint")(summed, backbone)
    assert isinstance(outcome, Outcome)
    found, true = torch.from_numpy(outcome.frame.latents), torch.cat(inputs)
    away = (true[:, None] - found[None]).square().flatten(2).mean(2).amin(1)
    psnr = 10 * torch.log10(true.square().flatten(1).mean(1) / away)
    assert int((psnr > 40).sum()) >= 8  # of 12; two in one bin are lost
    assert outcome.frame.pictures is not None


def test_without_a_planted_layer_there_is_nothing_to_read(backbone: Backbone):
    pictures, captions = art("openmoji", most=1)
    view = full_gradient_view(backbone, latents(backbone, pictures, captions), config=TrainConfig(batch=1, seed=0))
    with pytest.raises(AttackError, match="no layer was planted"):
        next(load("imprint")(view, backbone))


def test_zeros_leave_the_victim_alone_in_the_sum(backbone: Backbone):
    start = initial_adapter(backbone, seed=1)
    config = TrainConfig(steps=12, batch=1, seed=5, caption_dropout=0.0)
    victim, captions = art("openmoji", most=1)
    views = [update_view(backbone, latents(backbone, victim, captions), config=config, start=start)]
    for name in ARTISTS[1:]:
        pictures, told = art(name)
        views.append(update_view(backbone, latents(backbone, pictures, told), config=config, start=zeroed(start)))
        assert not any(value.any() for value in views[-1].tensors.values())
    candidates, words = art("openmoji", most=8)
    summed = ServerView.of_sum(
        [view.tensors for view in views], start.to_bytes(), backbone.sha256, kind="steps", local_steps=12, pictures=1
    )
    told = summed.knowing(candidates=candidates, candidate_captions=words)
    with pytest.raises(AttackError, match="same adapter"):
        next(load("forked")(told, backbone))
    foul = ServerView.of_sum(
        [view.tensors for view in views],
        start.to_bytes(),
        backbone.sha256,
        kind="steps",
        local_steps=12,
        pictures=1,
        malicious="forked",
    ).knowing(candidates=candidates, candidate_captions=words)
    *_, outcome = load("forked")(foul, backbone)
    assert outcome.frame.attack == "forked"
    assert outcome.frame.ranking[0][0] == 0


def test_the_normal_artist_refuses_zeros_and_a_planted_backbone(backbone: Backbone):
    start = initial_adapter(backbone, seed=1)
    room = Simulation(list("abc"), zeroed(start).tensors)
    done = room.round({name: dict(start.tensors) for name in "abc"})
    assert done.result is None
    assert "is zero" in done.noticed[0][1]
    with planted(backbone, art("gameicons", "test", 2)[0], bins=8):
        foul = backbone.sha256
    other = Simulation(list("abc"), dict(start.tensors), backbone_sha256=foul)
    for side in other.sides.values():
        side.backbone_sha256 = backbone.sha256
    done = other.round({name: dict(start.tensors) for name in "abc"})
    assert done.result is None
    assert "this kernel holds" in done.noticed[0][1]


def test_the_switchboard_offers_them_to_a_foul_host_with_checks_off_alone():
    for attack, sees in (("imprint", "sum"), ("forked", "sum")):
        assert "follows the rules" in ThreatModel("relay", sees).why_not(attack)
        assert "refuses" in ThreatModel("foul", sees).why_not(attack)
        assert ThreatModel("foul", sees, checks=False).why_not(attack) == ""
