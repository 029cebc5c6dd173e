"""Victims, and one cell of `attacks.py` each: every function trains as an artist would, attacks, and scores."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from _personal import evenly
from numpy.typing import NDArray

from fedart_nb.art import ArtSet
from fedart_nb.attacks import Frame, Knowledge, Outcome, ServerView, load
from fedart_nb.attacks.identify import Features, features_of, scores_of
from fedart_nb.attacks.opened import opened
from fedart_nb.attacks.participation import auc
from fedart_nb.attacks.pixels import rows_of
from fedart_nb.attacks.scoring import Truth, baselines, ceiling, score
from fedart_nb.attacks.victim import full_gradient_view, gradient_view, sgd_view, update_view
from fedart_nb.diffusion import Adapter, Backbone, LatentSet, TrainConfig, initial_adapter, train
from fedart_nb.diffusion.latents import latents_of
from fedart_nb.federated import Simulation, unpack, words_of

__all__ = ["Lab"]

_DONE = 1e-6  # of the update left unexplained: nothing more to be seen
_SGD_RATE = 0.1


@dataclass
class Lab:
    """Five artists' pictures, the public shared adapters, and what is done to them. Attacks get `ServerView`s alone."""

    backbone: Backbone
    artists: tuple[str, ...]
    everybody: tuple[str, ...]
    limit: int | None = None
    art: dict[str, ArtSet] = field(init=False)

    def __post_init__(self) -> None:
        self.art = {name: ArtSet.sample(name, limit=self.limit) for name in self.everybody}

    # --- what is trained on ---

    def shown(self, name: str, split: str = "train", most: int = 10_000) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
        """Pictures and captions of an artist, evenly spaced."""
        chosen = evenly(self.art[name].included(split), most)
        return self.art[name].pixels(chosen), tuple(p.caption for p in chosen)

    def one(self, name: str) -> tuple[NDArray[np.uint8], str]:
        """The artist's picture that is attacked, and its caption."""
        chosen = self.art[name].included("train")
        picture = chosen[len(chosen) // 3]
        return self.art[name].pixels([picture]), picture.caption

    def latents(self, pictures: NDArray[np.uint8], captions: Sequence[str]) -> LatentSet:
        return latents_of(self.backbone, pictures, list(captions), [str(i) for i in range(len(captions))])

    @cached_property
    def fresh(self) -> Adapter:
        """The shared adapter of the first round: B = 0."""
        return initial_adapter(self.backbone, seed=1)

    @cached_property
    def used(self) -> Adapter:
        """The shared adapter of a later round, on everybody's held-out pictures."""
        parts = [self.shown(name, "test", 4) for name in self.everybody]
        data = self.latents(np.concatenate([p for p, _ in parts]), [c for _, each in parts for c in each])
        config = TrainConfig(steps=8, batch=8, seed=2, validate_every=0)
        *_, last = train(self.backbone, data, config=config, start=self.fresh)
        return last.adapter

    @cached_property
    def caption_list(self) -> tuple[str, ...]:
        """All artists' captions, in an order drawn once."""
        known = sorted({p.caption for art in self.art.values() for p in art.included()})
        return tuple(known[i] for i in np.random.default_rng(0).permutation(len(known)))

    # --- pixels ---

    def view(self, name: str, kind: str, seed: int, *, steps: int = 1) -> ServerView:
        """One step (or `steps` of them) on the artist's picture; everything known but the picture."""
        pictures, caption = self.one(name)
        data = self.latents(pictures, [caption])
        rate = _SGD_RATE if kind == "sgd" else 3e-3
        config = TrainConfig(
            steps=steps, batch=1, seed=seed, caption_dropout=0.0, learning_rate=rate, warmup=0, validate_every=0
        )
        if kind == "full":
            view = full_gradient_view(self.backbone, data, config=config)
        elif kind == "sgd":
            view = sgd_view(self.backbone, data, config=config, start=self.fresh)
        elif kind == "adam":
            view = update_view(self.backbone, data, config=config, start=self.fresh)
        else:
            view = gradient_view(self.backbone, data, config=config, start=self.fresh)
        return view.knowing(seed=seed, captions=(caption,))

    def rebuilt(
        self, names: Sequence[str], view: ServerView, evaluations: int, *, attack: str = "pixels", **options: Any
    ) -> dict[str, Any]:
        """Run an attack that rebuilds pictures, and score its end."""
        pictures = np.concatenate([self.one(name)[0] for name in names])
        last = None
        for event in load(attack)(view, self.backbone, evaluations=evaluations, budget_s=math.inf, **options):
            last = event.frame if isinstance(event, Outcome) else event
            if last.residual < _DONE:
                break
        assert last is not None
        scored = score(last, Truth(ceiling(self.backbone, pictures)))
        return {
            "ssim": list(scored.ssim),
            "psnr_db": list(scored.psnr_db),
            "residual": last.residual,
            "evaluations": last.evaluations,
            "cpu_s": last.cpu_seconds,
            "t": self.times(view),
        }

    def times(self, view: ServerView) -> list[float]:
        """The rows' timesteps, as shares of the schedule."""
        top = float(self.backbone.process.stratified_t(2, 0.0)[1]) * 2
        return [round(float(t) / top, 3) for t in rows_of(view, self.backbone).t]

    def secret(self, view: ServerView) -> ServerView:
        """The same without the seed; the timesteps are what the timestep attack reads, or told."""
        told = tuple(float(t) for t in rows_of(view, self.backbone).t)
        if view.full:
            *_, outcome = load("timesteps")(view, self.backbone)
            assert isinstance(outcome, Outcome)
            told = outcome.frame.timesteps
        return view.knowing(seed=None, timesteps=told)

    def sum_of(self, views: Sequence[ServerView]) -> ServerView:
        """A sum of full gradients, as a secure sum leaves it; seeds and captions of all are known."""
        first = views[0]
        summed: ServerView = ServerView.of_sum([v.tensors for v in views], first.shared, first.backbone_sha256)
        seeds = tuple(v.knows.seed for v in views)
        captions = tuple(c for v in views for c in v.knows.captions or ())
        facts = {"pictures": 1, "caption_dropout": 0.0}
        told = ServerView(summed.update, b"", first.backbone_sha256, artists=len(views), **facts)  # type: ignore[arg-type]
        return told.knowing(seed=seeds, captions=captions)

    def guessed(self, name: str) -> dict[str, list[float]]:
        """SSIM of the three guesses that need no update."""
        pictures, caption = self.one(name)
        truth = Truth(ceiling(self.backbone, pictures), (caption,))
        public, _ = self.shown(name, "test")
        found = baselines(truth, backbone=self.backbone, public=public)
        return {label: [one.ssim[0], one.psnr_db[0]] for label, one in found.items()}

    # --- words and numbers ---

    def timesteps(self, batch: int, seed: int) -> float:
        """Share of a batch's timesteps read exactly, from the whole denoiser's gradient."""
        each = math.ceil(batch / len(self.artists))
        parts = [self.shown(name, most=each) for name in self.artists]
        captions = [c for _, part in parts for c in part][:batch]
        data = self.latents(np.concatenate([p for p, _ in parts])[:batch], captions)
        config = TrainConfig(batch=batch, seed=seed, caption_dropout=0.0)
        view = full_gradient_view(self.backbone, data, config=config)
        told = rows_of(view.knowing(seed=seed, captions=tuple(captions)), self.backbone)
        *_, outcome = load("timesteps")(view, self.backbone)
        found = score(outcome, Truth(timesteps=tuple(float(t) for t in told.t)))
        return 0.0 if math.isnan(found.timesteps) else found.timesteps

    def caption(self, name: str, seed: int, *, steps: int, first_round: bool, listed: int) -> dict[str, Any]:
        """Whether the caption is first of a list; `steps` 0: one step's gradient. And the dA that was seen."""
        pictures, caption = self.one(name)
        data = self.latents(pictures, [caption])
        config = TrainConfig(steps=max(1, steps), batch=1, seed=seed, caption_dropout=0.0)
        start = self.fresh if first_round else self.used
        make = update_view if steps else gradient_view
        view = make(self.backbone, data, config=config, start=start)
        others = [c for c in self.caption_list if c != caption][: listed - 1]
        others.insert(seed % listed, caption)
        *_, outcome = load("captions")(view.knowing(caption_list=tuple(others)), self.backbone, budget_s=math.inf)
        assert isinstance(outcome, Outcome)
        seen = max(float(np.abs(v).max()) for n, v in view.tensors.items() if ".lora_A." in n)
        first = outcome.frame.captions[:1]
        return {"hit": first == (caption,), "guessed": bool(first), "largest_dA": seen, "of": len(others)}

    # --- which picture, whose picture ---

    def candidates(self, name: str, most: int) -> ServerView:
        """A view without an update that knows an artist's pictures; features are computed for it once."""
        pictures, captions = self.shown(name, most=most)
        return self._knowing(pictures, captions)

    def _knowing(self, pictures: NDArray[np.uint8], captions: tuple[str, ...]) -> ServerView:
        nothing = {f"{self.used.part}.{k}": np.zeros_like(v) for k, v in self.used.tensors.items()}
        knows = Knowledge(candidates=pictures, candidate_captions=captions)
        return ServerView.of(nothing, self.used.to_bytes(), self.backbone.sha256, kind="steps", knows=knows)

    def features(self, view: ServerView, draws: int) -> Features:
        *_, found = features_of(view, self.backbone, draws=draws)
        assert isinstance(found, Features)
        return found

    def likeness(self, view: ServerView, features: Features, updates: Sequence[Mapping[str, Any]]) -> NDArray[Any]:
        """Every candidate's score under every update, (updates, candidates)."""
        with opened(self.backbone, view) as model:
            flats = [torch.cat([torch.from_numpy(np.asarray(u[n])).reshape(-1) for n in model.names]) for u in updates]
        return np.stack([scores_of(view, features, one.float()).numpy() for one in flats])

    def identified(self, name: str, most: int, steps: Sequence[int], seeds: int, draws: int) -> dict[str, list[int]]:
        """Places (from 1) of the picture trained on, by local steps; another picture for every seed."""
        view = self.candidates(name, most)
        features = self.features(view, draws)
        pictures, captions = self.shown(name, most=most)
        places: dict[str, list[int]] = {str(k): [] for k in steps}
        for seed in range(seeds):
            at = int(np.random.default_rng([seed, len(captions)]).integers(len(captions)))
            data = self.latents(pictures[at : at + 1], captions[at : at + 1])
            for k in steps:
                config = TrainConfig(steps=k, batch=1, seed=None, validate_every=0)
                update = update_view(self.backbone, data, config=config, start=self.used).tensors
                scores = self.likeness(view, features, [update])[0]
                places[str(k)].append(int((scores > scores[at]).sum()) + 1)
        return places

    def summed(self, seed: int, *, sizes: Sequence[int], steps: int, each: int, draws: int) -> dict[str, Any]:
        """Updates of all artists: whose a picture was, from masked shares and in the clear; that it took part."""
        order = [self.everybody[i] for i in np.random.default_rng(seed).permutation(len(self.everybody))]
        inside = {name: self.shown(name, most=each) for name in order}
        outside = {name: self.shown(name, "test", each) for name in order}
        updates = {}
        for name in order:
            config = TrainConfig(steps=steps, batch=8, seed=None, validate_every=0)
            data = self.latents(*inside[name])
            updates[name] = update_view(self.backbone, data, config=config, start=self.used).tensors
        everything = [inside[name] for name in order] + [outside[name] for name in order]
        view = self._knowing(np.concatenate([p for p, _ in everything]), tuple(c for _, cs in everything for c in cs))
        features = self.features(view, draws)
        out: dict[str, Any] = {}
        for n in sizes:
            who = order[:n]
            members = np.repeat(np.arange(n), each)  # whose each of the first n * each pictures is
            total, shares = self._round({name: updates[name] for name in who})
            scores = self.likeness(view, features, [total])[0]
            held_out = np.concatenate([len(order) * each + np.arange(each) + i * each for i in range(n)])
            out[str(n)] = {"took_part_auc": auc(scores[: n * each], scores[held_out]), "pictures": n * each}
            clear = self.likeness(view, features, [updates[name] for name in who])[:, : n * each]
            out[str(n)]["attributed_clear"] = float((clear.argmax(0) == members).mean())
            if shares:
                masked = self.likeness(view, features, shares)[:, : n * each]
                out[str(n)]["attributed"] = float((masked.argmax(0) == members).mean())
        return out

    def _round(self, updates: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
        """The sum that a room opens, and every artist's masked share; two artists are no room, and added up."""
        names = list(updates)
        if len(names) < 3:
            return {key: np.sum([u[key] for u in updates.values()], axis=0) for key in updates[names[0]]}, []
        before = unpack(self.used.to_bytes())
        room = Simulation(names, before, rule="fedavg")
        done = room.round(updates)
        assert done.result is not None, done.reason
        after = unpack(done.result.shared)
        sent = {e.sender: words_of(e.attachments["update"]) for e in done.log if e.kind == "update"}
        shares = [
            ServerView.of_share(sent[room.sides[name].me], self.used.to_bytes(), self.backbone.sha256).tensors
            for name in names
        ]
        return {key: (after[key] - before[key]) * len(names) for key in before}, shares

    def noised(self, name: str, seed: int, most: int, sigmas: Sequence[float], trials: int) -> dict[str, float]:
        """How often the right one of N is picked from one clipped, noised gradient, everything else known.

        Only the noise along the candidates' N directions bears on the choice, so it is drawn there: directions D of
        length 1, scores D d_i + sigma D z, where D z is Gaussian with covariance D D^T.
        """
        pictures, captions = self.shown(name, most=most)
        view = self.view(name, "lora", seed)
        rows = rows_of(view, self.backbone)
        assert rows.eps is not None
        latents, told = self.backbone.encode(pictures), self.backbone.embed(captions)
        with opened(self.backbone, view) as model:
            found = torch.cat(list(model.by_picture(latents, told, rows.eps, rows.t))).double()
        found = found / found.norm(dim=1, keepdim=True)
        gram = (found @ found.T).numpy()
        values, vectors = np.linalg.eigh(gram)
        root = vectors * np.sqrt(np.maximum(values, 0))
        rng, out = np.random.default_rng(seed), {}
        for sigma in sigmas:
            noise = rng.standard_normal((trials, len(gram), len(gram))) @ root.T  # trials for each candidate
            out[f"{sigma:g}"] = float(((gram[None] + sigma * noise).argmax(2) == np.arange(len(gram))).mean())
        return out

    def members(self, name: str, *, trained: int, others: int, steps: int, draws: int) -> dict[str, list[float]]:
        """AUC and TPR at 1 % FPR by method, of pictures trained on against others of the same artist."""
        pictures, captions = self.shown(name)
        order = np.random.default_rng(len(captions)).permutation(len(captions))
        own, rest = order[:trained], order[trained : trained + others]
        data = self.latents(pictures[own], [captions[i] for i in own])
        config = TrainConfig(steps=steps, batch=8, seed=None, validate_every=0)
        view = update_view(self.backbone, data, config=config, start=self.used)
        both = [*own, *rest]
        spread = [*rest[:10]]  # the attack wants ten to compare with; the scorer compares with all
        knows = Knowledge(
            candidates=pictures[both],
            candidate_captions=tuple(captions[i] for i in both),
            public=pictures[spread],
            public_captions=tuple(captions[i] for i in spread),
        )
        view = view.knowing(**vars(knows))
        out = {}
        for method in ("one_query", "loss", "gradient"):
            frames: Iterator[Frame | Outcome] = load("membership")(
                view, self.backbone, method=method, draws=draws, budget_s=math.inf
            )
            *_, outcome = frames
            assert isinstance(outcome, Outcome)
            scores = np.empty(len(both))
            for i, value in outcome.frame.ranking:
                scores[i] = value
            inside, outside = scores[: len(own)], scores[len(own) :]
            out[method] = [auc(inside, outside), float((inside > np.quantile(outside, 0.99)).mean())]
        return out
