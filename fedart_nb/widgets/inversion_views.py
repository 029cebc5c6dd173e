"""What the inversion lab shows, as escaped HTML: shots, line-ups, small multiples, the corridor, the audit card."""

from __future__ import annotations

import importlib.metadata
import math
import platform
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedart_nb.attack_lab.own_round import OwnRound
from fedart_nb.attack_lab.preflight import Finding
from fedart_nb.attack_lab.runs import Shot, Take, verdict
from fedart_nb.attack_lab.sweep import DELTA, Level, curve
from fedart_nb.attacks.bounds import LIMITS, identification_bound, mu_of
from fedart_nb.figures import corridor_at, png_bytes, risk_corridor, watermarked
from fedart_nb.figures.drawn import Drawn
from fedart_nb.privacy.accounting import Gaussian, epsilon
from fedart_nb.widgets import parts

__all__ = [
    "audit_card",
    "corridor",
    "level_html",
    "lineup_html",
    "round_html",
    "shot_html",
    "tile_html",
    "verdict_html",
]

_SIZE = 168
_SMALL = 74
_ABOUT_SSIM = (
    "SSIM compares light, contrast and structure in small windows. It cannot tell whether a picture is recognised: on "
    "flat drawings even a plain grey square scores, and a smooth blur can score above a sketch that anybody knows. "
    "So hold it against the values without any update, and look at the picture."
)
_RARE = 0.05  # of random orders place so many of the artist's own in front


def shot_html(shot: Shot, truth: NDArray[np.uint8], baselines: Mapping[str, float], lineup: NDArray[np.uint8]) -> str:
    """The truth beside the guess, and what the attacker and what the scorer know of it."""
    frame, shown = shot.frame, []
    if frame.pictures is not None:
        shown.append(
            parts.picture(png_bytes(truth), "the picture that was trained on", caption="trained on", size_px=_SIZE)
        )
        for picture in frame.pictures[:6]:
            marked = png_bytes(watermarked(picture))
            shown.append(parts.picture(marked, shot.alt, caption=f"after {frame.evaluations} tries", size_px=_SIZE))
    facts = [("tries", f"{frame.evaluations} of {frame.of}"), ("time", parts.duration(frame.seconds))]
    if not math.isnan(frame.residual):
        facts.append(("not explained (what the attacker sees)", f"{frame.residual:.2g} of the update"))
    if str(shot.score) != "Nothing was guessed.":
        facts.append(("how near (what only the scorer sees)", str(shot.score)))
    if shot.score.ssim:
        facts += [(f"SSIM without any update: {name}", f"{value:.2f}") for name, value in baselines.items()]
    if frame.captions:
        facts.append(("reads", ", ".join(frame.captions[:6])))
    if frame.timesteps:
        facts.append(("timesteps", ", ".join(f"{t:.1f}" for t in frame.timesteps[:16])))
    pictures = f'<div class="fedart-row">{"".join(shown)}</div>' if shown else ""
    beneath = f'<p class="fedart-lead">{escape(_ABOUT_SSIM)}</p>' if shot.score.ssim else ""
    ranked = ""
    if frame.ranking and frame.attack in ("identify", "membership"):
        ranked = lineup_html(lineup, frame.ranking, shot.score.rank)
    return f"{pictures}{ranked}{parts.facts(facts)}{beneath}"


def lineup_html(lineup: NDArray[np.uint8], ranking: Sequence[tuple[int, float]], rank: int, *, most: int = 12) -> str:
    """Candidates, the most suspicious first, the right one named in words."""
    tiles = []
    for place, (index, value) in enumerate(ranking[:most], start=1):
        right = place == rank
        said = f"place {place}, score {value:.2f}" + (", the right one" if right else "")
        caption = f"{place}. {'✓ the right one' if right else f'{value:.2f}'}"
        mark = " fedart-right" if right else ""
        tile = parts.picture(
            png_bytes(lineup[index]), f"candidate {index + 1}: {said}", caption=caption, size_px=_SMALL
        )
        tiles.append(f'<div class="fedart-candidate{mark}">{tile}</div>')
    left = f"<p>{len(ranking) - most} more behind.</p>" if len(ranking) > most else ""
    below = f" The right one is in place {rank}." if rank > most else ""
    return f'<div class="fedart-lineup">{"".join(tiles)}</div>{left}{below}'


def verdict_html(shot: Shot, baselines: Mapping[str, float]) -> str:
    """What the scorer says of the end of a take."""
    found, sentence = verdict(shot, best_baseline=max(baselines.values(), default=0.0))
    return parts.notice(sentence, level="warning" if found else "info", title="Recovered" if found else "Not recovered")


def tile_html(title: str, take: Take | None) -> str:
    """One of the small multiples; an empty place while it has not been run."""
    if take is None or take.last.frame.pictures is None:
        empty = '<div class="fedart-blank">not run yet</div>'
        return f'<figure class="fedart-picture">{empty}<figcaption>{escape(title)}</figcaption></figure>'
    picture = png_bytes(watermarked(take.last.frame.pictures[0]))
    ssim = max(take.last.score.ssim, default=math.nan)
    said = f"{title}: SSIM {ssim:.2f} after {take.last.frame.evaluations} tries"
    return parts.picture(picture, f"{title}: {take.last.alt}", caption=said, size_px=_SIZE)


def corridor(levels: Sequence[Level], *, numbers: int) -> Drawn:
    """The risk corridor with measured dots; `level_html` puts the line in."""
    candidates = len(levels[0].ranking) if levels else 12
    known = [level for level in levels if math.isfinite(level.epsilon)]
    return risk_corridor(
        curve(candidates, numbers=numbers),
        candidates=candidates,
        identified=[(level.epsilon, level.picked) for level in known],
        rebuilt=[(level.epsilon, level.shot.score.psnr_db[0]) for level in known if level.shot.score.psnr_db],
        limits=f"{LIMITS} One step; dots are measured on this scene.",
        delta=DELTA,
    )


def level_html(level: Level, truth: NDArray[np.uint8], lineup: NDArray[np.uint8], place: int, drawn: Drawn) -> str:
    """The three linked views of one amount of noise."""
    frame = level.shot.frame
    rank = next((i for i, (index, _) in enumerate(level.ranking, start=1) if index == place), 0)
    rebuilt = "".join(
        parts.picture(
            png_bytes(watermarked(picture)), level.shot.alt, caption=f"rebuilt: {level.shot.score}", size_px=_SIZE
        )
        for picture in (frame.pictures if frame.pictures is not None else ())[:1]
    )
    shown = parts.picture(png_bytes(truth), "the picture that was trained on", caption="trained on", size_px=_SIZE)
    finite = math.isfinite(level.epsilon)
    promise = f"epsilon {level.epsilon:.3g} at delta {DELTA:g} for this one step" if finite else "no noise: no bound"
    told = [
        ("promise", promise),
        ("picked out, measured", f"{level.picked:.0%} of {level.trials} draws of noise"),
        ("nobody can do better than", f"{level.bound:.0%}"),
    ]
    views = (
        f'<div class="fedart-linked"><div><h5>Rebuilt</h5><div class="fedart-row">{shown}{rebuilt}</div></div>'
        f"<div><h5>Picked out of {len(level.ranking)}</h5>{lineup_html(lineup, level.ranking, rank, most=8)}"
        "</div></div>"
    )
    return f"{views}{parts.facts(told)}<h5>The risk corridor</h5>{corridor_at(drawn, level.epsilon).to_html()}"


def round_html(told: OwnRound) -> str:
    """A table: what an attacker holds, and what came out of it."""
    rows = []
    for what, finding in told.findings:
        captions = f"{finding.captions} of {finding.captions_of}" if finding.captions_of else "not tried"
        chance = finding.captions_of**2 / finding.listed if finding.listed else 0.0
        by_chance = finding.own**2 / finding.candidates if finding.candidates else 0.0
        rows.append(
            (
                what,
                f"{captions} (by chance {chance:.1f})" if finding.captions_of else captions,
                f"{finding.on_top} of {finding.own} in the first {finding.own} of {finding.candidates} (by chance "
                f"{by_chance:.1f})" if finding.first else "not within this budget",
            )
        )  # fmt: skip
    caption = (
        f"Round {told.number}, {told.contributors} updates in the sum. What is not found here is not safe for that."
    )
    head = ("the attacker holds", "your captions read", "your pictures picked out")
    said = "\n".join(f"{what[:1].upper()}{what[1:]}: {_against_chance(finding)}" for what, finding in told.findings)
    never = "Whatever stands above: masks hide whose an update is, and only noise bounds what a sum gives away."
    return parts.table(head, rows, caption=caption) + parts.notice(f"{said}\n{never}", title="What the figures say")


def _against_chance(finding: Finding) -> str:
    """Whether the pictures were picked out more often than by chance (one-sided hypergeometric test), in words."""
    n, own, hits = finding.candidates, finding.own, finding.on_top
    if not finding.first or not n:
        return "not attacked to the end within this budget, which says nothing."
    ways = sum(math.comb(own, k) * math.comb(n - own, own - k) for k in range(hits, own + 1))
    p = ways / math.comb(n, own)
    found = f"{hits} of your {own} pictures in front, {own * own / n:.1f} by chance"
    if p < _RARE:
        return f"{found}. That is no accident (it comes about in {p:.1%} of random orders): your pictures show."
    return f"{found}. No more than chance gives: not picked out by this attack, which is not evidence of safety."


def audit_card(
    take: Take, *, scene_key: str, seed: int, local_steps: int, backbone: str, candidates: int
) -> dict[str, Any]:
    """What was tried and what came of it, as JSON values: enough to repeat it, and no picture."""
    sigma = take.defence.noise_multiplier
    shot = take.last
    found, sentence = verdict(shot)
    mu = mu_of(sigma)
    score = shot.score
    return {
        "threat_model": {
            "who": take.threat.who,
            "sees": take.threat.sees,
            "knows": sorted(take.threat.knows),
            "first_round": take.threat.first_round,
        },
        "defence": str(take.defence),
        "attack": take.attack,
        "scene": scene_key,
        "backbone": backbone,
        "seed": seed,
        "local_steps": local_steps if take.threat.sees in ("steps", "sum", "adapter") else 1,
        "noise_multiplier": sigma,
        "epsilon_one_step": round(epsilon([Gaussian(sigma)], delta=DELTA), 4) if sigma else None,
        "delta": DELTA,
        "mu": mu if math.isfinite(mu) else None,
        "identification_bound": round(identification_bound(mu, candidates), 4),
        "candidates": candidates,
        "measured": {
            "ssim": [round(v, 4) for v in score.ssim],
            "psnr_db": [round(v, 2) for v in score.psnr_db],
            "captions": None if math.isnan(score.captions) else score.captions,
            "timesteps": None if math.isnan(score.timesteps) else score.timesteps,
            "rank": score.rank or None,
            "runs": 1,
        },
        "verdict": sentence,
        "recovered": found,
        "tries": shot.frame.evaluations,
        "seconds": round(shot.frame.seconds, 1),
        "recorded": take.recorded,
        "versions": {name: importlib.metadata.version(name) for name in ("fedart-nb", "torch", "diffusers")}
        | {"python": platform.python_version()},
    }
