"""The network under adapters: busy or free, and put back as it was, whatever happened while they were attached."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from .._system.cancelling import Cancelled
from ..errors import AdapterError

if TYPE_CHECKING:
    from .backbone import Backbone

__all__ = ["clean_afterwards", "refuse_if_busy"]


def refuse_if_busy(backbone: Backbone) -> None:
    """Raises AdapterError where adapters are attached that are not ours to take off."""
    if getattr(backbone.denoiser, "peft_config", None):
        raise AdapterError(
            f"{backbone.name!r} is busy: it has adapters attached already, by this piece of work or by you. "
            "Take them off first (leave the `with attached` block, or pipeline.unload_lora_weights())."
        )


@contextmanager
def clean_afterwards(backbone: Backbone) -> Iterator[None]:
    """Leave the network as it was found: all of our adapters or none, also after an error or an interrupt.

    peft's empty wrapping stays, which the next adapter uses again; after an interrupt it goes too.
    """
    with backbone.lock.undoing(partial(_strip, backbone)):
        try:
            yield
        except (Exception, GeneratorExit, Cancelled):
            _take_off(backbone)
            raise
        _take_off(backbone)


def _take_off(backbone: Backbone) -> None:
    backbone.tokens.clear()
    denoiser = backbone.denoiser
    names = list(getattr(denoiser, "peft_config", {}))
    if names:
        denoiser.delete_adapters(names)
    denoiser.requires_grad_(False)
    if denoiser.training:
        denoiser.eval()


def _strip(backbone: Backbone) -> None:
    """Take off what is there and half there. May be called again, and does nothing to a clean network."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    denoiser: Any = backbone.denoiser
    backbone.tokens.clear()
    if getattr(denoiser, "peft_config", None) or getattr(denoiser, "_hf_peft_config_loaded", False):
        for name, module in list(denoiser.named_modules()):
            if isinstance(module, BaseTunerLayer) and name:
                parent, _, last = name.rpartition(".")
                with suppress(AttributeError):  # a layer inside one that is gone already
                    setattr(denoiser.get_submodule(parent), last, module.get_base_layer())
        denoiser.__dict__.pop("peft_config", None)
        denoiser._hf_peft_config_loaded = False
    for parameter in denoiser.parameters():
        if parameter.requires_grad:
            parameter.requires_grad_(False)
        parameter.grad = None
    if denoiser.training:
        denoiser.eval()
