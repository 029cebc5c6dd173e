"""The older recipes on the same update, to stand beside `pixels`: DLG, and Adam with cosine and total variation.

"dlg": Zhu et al. 1906.08935: L-BFGS at PyTorch's own settings (step 1, history 100, no line search) on the squared
distance, from unit noise. "cosine": Geiping et al. 2003.14053 as breaching publishes it: signed Adam at 0.1, one minus
the cosine over all tensors plus total variation, the step a tenth after 3/8, 5/8 and 7/8 of the way, values kept in
their box. They were made for pixels and 300 to 24,000 steps; here they get latents and the budget they are given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch

from ..diffusion.backbone import Backbone
from ..diffusion.exclusive import gives_way
from ..errors import AttackError
from .opened import opened, relative_distance
from .outcomes import Clock, Frame, Outcome
from .pixels import guessed_update, rows_of, variation
from .view import ServerView

__all__ = ["RECIPES", "Recipe", "baseline"]

Recipe = Literal["dlg", "cosine"]
RECIPES: tuple[Recipe, ...] = ("dlg", "cosine")
_SMOOTH = 1e-2
_BOX = 6.0  # latents lie within; pixels had their own
_EXPLAINED = 1e-3
_EVERY = 10


@gives_way
def baseline(
    view: ServerView,
    backbone: Backbone,
    *,
    recipe: Recipe = "cosine",
    evaluations: int = 350,
    budget_s: float = 120.0,
    seed: int = 0,
) -> Iterator[Frame | Outcome]:
    """Reconstruct pictures by an older recipe; needs the same knowledge as `pixels`.

    Raises:
        AttackError: an unknown recipe, or what the attack needs is not known.

    Example:
        >>> *_, outcome = baseline(view, backbone, recipe="dlg")  # doctest: +SKIP
    """
    if recipe not in RECIPES:
        raise AttackError(f"recipe is {recipe!r}; known are {', '.join(RECIPES)}.")
    clock = Clock("baseline", evaluations=evaluations, budget_s=budget_s)
    rows = rows_of(view, backbone)
    generator = torch.Generator().manual_seed(seed)
    shape = backbone.latent_shape
    x = torch.randn((rows.pictures, *shape), generator=generator).requires_grad_(True)
    eps = rows.eps if rows.eps is not None else torch.randn((len(rows), *shape), generator=generator)
    unknown = [x] if rows.eps is not None else [x, eps.requires_grad_(True)]
    best, best_x = float("inf"), x.detach().clone()
    with opened(backbone, view) as model:
        names = [n for n in model.names if not view.first_round or ".lora_B." in n]
        guess, seen = guessed_update(view, model, rows, names)

        def closure() -> torch.Tensor:
            nonlocal best, best_x
            optimiser.zero_grad(set_to_none=True)
            found = guess(x, eps)
            if recipe == "dlg":
                loss = torch.stack([(g - s).square().sum() for g, s in zip(found, seen, strict=True)]).sum()
            else:
                loss = _one_minus_cosine(found, seen) + _SMOOTH * variation(x)
            loss.backward(inputs=unknown)
            clock.done += 1
            now = float(relative_distance([f.detach() for f in found], seen)) if recipe == "dlg" else float(loss)
            if now < best:
                best, best_x = now, x.detach().clone()
            if recipe == "cosine":
                for part in unknown:
                    if part.grad is not None:
                        part.grad.sign_()
            return loss

        optimiser, some_steps = _optimiser(recipe, unknown, closure, clock)
        yield clock.frame(1.0, pictures=model.pictures(x))
        while not clock.spent:
            before = clock.done
            some_steps()
            if recipe == "dlg" and (clock.done - before <= 1 or not torch.isfinite(x).all()):
                break
            yield clock.frame(best, pictures=model.pictures(best_x))
        with torch.no_grad():
            left = float(relative_distance([g.detach() for g in _again(guess, best_x, eps)], seen))
        frame = clock.frame(left, pictures=model.pictures(best_x))
    yield Outcome(
        frame,
        left < _EXPLAINED,
        f"{left:.2g} of the update is left unexplained ({recipe}).",
        stopped=clock.spent,
    )


def _optimiser(
    recipe: Recipe, unknown: list[torch.Tensor], closure: Callable[[], torch.Tensor], clock: Clock
) -> tuple[torch.optim.Optimizer, Callable[[], None]]:
    """The recipe's optimiser, and what takes about ten evaluations' steps with it."""
    step: Any = closure
    if recipe == "dlg":
        newton = torch.optim.LBFGS(unknown, lr=1.0, max_iter=_EVERY)

        def ten() -> None:
            newton.param_groups[0]["max_eval"] = max(1, clock.of - clock.done)
            newton.step(step)

        return newton, ten
    adam = torch.optim.Adam(unknown, lr=0.1)
    schedule = torch.optim.lr_scheduler.MultiStepLR(adam, [clock.of * part // 8 for part in (3, 5, 7)], gamma=0.1)

    def ten_signed() -> None:
        for _ in range(min(_EVERY, clock.of - clock.done)):
            adam.step(step)
            schedule.step()
            with torch.no_grad():
                unknown[0].clamp_(-_BOX, _BOX)
            if clock.late:
                break

    return adam, ten_signed


def _again(guess: object, x: torch.Tensor, eps: torch.Tensor) -> Sequence[torch.Tensor]:
    with torch.enable_grad():
        found: Sequence[torch.Tensor] = guess(x, eps)  # type: ignore[operator]
    return found


def _one_minus_cosine(guess: Sequence[torch.Tensor], seen: Sequence[torch.Tensor]) -> torch.Tensor:
    product = torch.stack([(g * s).sum() for g, s in zip(guess, seen, strict=True)]).sum()
    lengths = [torch.stack([t.square().sum() for t in part]).sum().sqrt() for part in (guess, seen)]
    return 1 - product / (lengths[0] * lengths[1]).clamp_min(1e-30)
