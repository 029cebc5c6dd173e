"""The caption, out of A's gradient in cross-attention: from a list of candidates, or word by word.

K and V of cross-attention read the caption's token embeddings e_i, so every row of dA = B^T G lies in their span,
whatever the picture, noise, timestep and optimiser state do (they change the weights in the combination alone). Token
embeddings are public. So a caption is the one whose tokens span the rows best; without a list, words are appended one
after the other, because a causal encoder's embedding of a position depends on what stands before it alone (DAGER,
2405.15586, did this for language models). AdamW bends the rows a little, not enough. While B is zero there is nothing:
dA is exactly zero, rank 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import torch

from ..diffusion.backbone import Backbone
from ..errors import AttackError
from .outcomes import Clock, Frame, Outcome
from .view import ServerView

__all__ = ["captions", "row_space"]

_READS_TEXT = re.compile(r".*attn2\.to_[kv]\.(lora_A\.weight|weight)")
_NOISE = 1e-4  # of the largest singular value
_CHUNK = 512


def row_space(view: ServerView, *, cut: float = _NOISE, most: int | None = None) -> torch.Tensor:
    """Directions that the update's text layers span, orthonormal rows (rank, width) with float64 values; rank 0: none.

    Layers are brought to one length first, so that none drowns the others.

    Raises:
        AttackError: the update has no such layers.
    """
    rows = [torch.from_numpy(v.copy()).double() for n, v in view.tensors.items() if _READS_TEXT.fullmatch(n)]
    if not rows:
        raise AttackError("The update has no cross-attention layer that reads text (attn2.to_k, attn2.to_v).")
    rows = [r / r.norm() for r in rows if float(r.norm()) > 0]
    if not rows:
        return torch.zeros((0, 0), dtype=torch.float64)
    _, sizes, right = torch.linalg.svd(torch.cat(rows), full_matrices=False)
    rank = int((sizes > cut * sizes[0]).sum())
    space: torch.Tensor = right[: min(rank, most) if most else rank]
    return space


def captions(
    view: ServerView,
    backbone: Backbone,
    *,
    count: int = 1,
    spell: bool = False,
    longest: int = 12,
    cut: float | None = None,
    evaluations: int | None = None,
    budget_s: float = 60.0,
) -> Iterator[Frame | Outcome]:
    """Read `count` captions from the list in `view.knows`, or spell one out.

    Args:
        spell: word by word over the tokenizer's whole vocabulary, without a list; for one caption.
        longest: words at most.
        cut: singular values below so many times the largest are taken for noise; chosen by what was seen by default.

    Raises:
        AttackError: no list (and not to be spelt), or no layer that reads text.

    Example:
        >>> *_, outcome = captions(view.knowing(caption_list=("a fox", "a cat")), backbone)  # doctest: +SKIP
        >>> outcome.frame.captions[0]  # doctest: +SKIP
        'a fox'
    """
    known = view.knows.caption_list
    if not spell and not known:
        raise AttackError("There is no list of captions. Give Knowledge(caption_list=...), or spell=True.")
    total = len(known) if not spell else longest
    clock = Clock("captions", evaluations=min(total, evaluations or total), budget_s=budget_s)
    space = row_space(view, cut=cut if cut is not None else (_NOISE if view.kind == "gradient" else 0.02))
    if not len(space):
        yield Outcome(clock.frame(), False, "A's gradient is exactly zero (rank 0), as it is while B is zero.")
        return
    if spell:
        yield from _spelt(view, backbone, space, longest, clock)
        return
    scores: list[torch.Tensor] = []
    for start in range(0, clock.of, _CHUNK):
        part = known[start : start + _CHUNK]
        tokens = backbone.embed(part).embeddings.double()
        scores.append(_misfit(space, tokens, one=count == 1))
        clock.done += len(part)
        found = torch.cat(scores).argsort()[:count]
        yield clock.frame(float(torch.cat(scores).min()), captions=tuple(known[int(i)] for i in found))
        if clock.late:
            break
    misfits = torch.cat(scores)
    order = misfits.argsort()
    ranking = tuple((int(i), -float(misfits[i])) for i in order)
    frame = clock.frame(
        float(misfits[order[0]]),
        captions=tuple(known[int(i)] for i in order[:count]),
        ranking=ranking,
        ranks="captions",
    )
    gap = float(misfits[order[count]] - misfits[order[count - 1]]) if len(order) > count else 0.0
    clear = gap > 3 * float(misfits[order[count:]].std()) / max(1, len(order) - count) ** 0.5 and gap > 0
    why = f"the next caption on the list fits worse by {gap:.2g} (rank {len(space)})."
    yield Outcome(frame, clear, why, stopped=clock.done < len(known))


def _misfit(space: torch.Tensor, tokens: torch.Tensor, *, one: bool) -> torch.Tensor:
    """How badly each caption's tokens (n, length, width) explain the rows, (n,).

    One caption: the share of the row space outside the tokens' span. Several share the row space: then the share of
    the tokens (but the first, which all captions have) outside the row space.
    """
    if one:
        basis = torch.linalg.qr(tokens.mT).Q  # (n, width, length)
        inside = (space @ basis).square().sum((1, 2))
        missed: torch.Tensor = 1 - inside / len(space)
        return missed
    tail = tokens[:, 1:]
    left = tail - (tail @ space.T) @ space
    outside: torch.Tensor = (left.square().sum(2) / tail.square().sum(2)).mean(1)
    return outside


@torch.no_grad()
def _spelt(
    view: ServerView, backbone: Backbone, space: torch.Tensor, longest: int, clock: Clock
) -> Iterator[Frame | Outcome]:
    """Word after word, that one whose embedding at its position lies in the row space best."""
    del view
    pipe = backbone.pipeline
    tokenizer, encoder = pipe.tokenizer, pipe.text_encoder
    length = int(getattr(tokenizer, "model_max_length", 77))
    first = tokenizer([""], padding="max_length", max_length=length, truncation=True).input_ids[0]
    begins = first[:1] if first[0] in (tokenizer.bos_token_id, getattr(encoder.config, "bos_token_id", None)) else []
    ends = {i for i in (tokenizer.eos_token_id, tokenizer.pad_token_id, encoder.config.eos_token_id) if i is not None}
    vocabulary = [i for i in sorted(tokenizer.get_vocab().values()) if i not in begins]
    ids: list[int] = list(begins)
    worst = 0.0
    while len(ids) < min(length, longest + len(begins)) and not clock.spent:
        misfit = torch.cat(
            [
                _last_outside(encoder, [[*ids, v] for v in vocabulary[i : i + _CHUNK]], space)
                for i in range(0, len(vocabulary), _CHUNK)
            ]
        )
        chosen = vocabulary[int(misfit.argmin())]
        clock.done += 1
        if chosen in ends:
            break
        worst = max(worst, float(misfit.min()))
        ids.append(chosen)
        yield clock.frame(worst, captions=(_text(tokenizer, ids[len(begins) :]),))
    frame = clock.frame(worst, captions=(_text(tokenizer, ids[len(begins) :]),))
    why = f"the worst of its words lies {worst:.2g} outside the rows' span (rank {len(space)})."
    yield Outcome(frame, len(ids) > len(begins) and worst < 0.05, why, stopped=clock.spent)


def _last_outside(encoder: object, ids: Sequence[Sequence[int]], space: torch.Tensor) -> torch.Tensor:
    out = encoder(torch.tensor(ids))[0][:, -1].double()  # type: ignore[operator]
    left = out - (out @ space.T) @ space
    misfit: torch.Tensor = left.square().sum(1) / out.square().sum(1)
    return misfit


def _text(tokenizer: object, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=True)).strip()  # type: ignore[attr-defined]
