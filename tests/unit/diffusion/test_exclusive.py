"""One piece of work at a time on a backbone: paused work gives way, torn-down work holds nothing, waiting can end."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch

from fedart_nb.diffusion import (
    Adapter,
    AdapterConfig,
    Backbone,
    LatentSet,
    TrainConfig,
    attached,
    denoising_loss,
    draw,
    exclusive,
    initial_adapter,
    sample,
    train,
)
from fedart_nb.diffusion.adapters import detached
from fedart_nb.diffusion.exclusive import Exclusive, gives_way
from fedart_nb.errors import AdapterError, BackboneBusy, BackboneTaken
from fedart_nb.events import Sampled, Step, Trained
from fedart_nb.jobs import Job

CONFIG = TrainConfig(steps=6, batch=2, seed=3, validate_every=0)


def names(backbone: Backbone) -> list[str]:
    """The parameters of a network, without what peft leaves around them."""
    return sorted(name.replace(".base_layer", "") for name, _ in backbone.denoiser.named_parameters())


def is_clean(backbone: Backbone) -> bool:
    denoiser = backbone.denoiser
    return (
        not any("lora" in name for name in names(backbone))
        and not getattr(denoiser, "peft_config", None)
        and not any(parameter.requires_grad for parameter in denoiser.parameters())
        and not denoiser.training
        and not backbone.tokens
        and torch.is_grad_enabled()
    )


def trained(backbone: Backbone, data: LatentSet) -> Adapter:
    *_, last = train(backbone, data, config=CONFIG)
    assert isinstance(last, Trained)
    return last.adapter


def in_thread(action: Callable[[], Any]) -> Any:
    box: list[Any] = []

    def run() -> None:
        try:
            box.append(action())
        except BaseException as error:  # noqa: BLE001 - handed to the test
            box.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(60)
    assert box, "it waits for ever"
    if isinstance(box[0], BaseException):
        raise box[0]
    return box[0]


def test_a_paused_training_gives_way_and_goes_on_bit_by_bit(backbone: Backbone, data: LatentSet) -> None:
    start = initial_adapter(backbone, seed=1)
    straight = [event for event in train(backbone, data, config=CONFIG, start=start) if isinstance(event, Trained)]
    events = train(backbone, data, config=CONFIG, start=start)
    seen: list[Any] = []
    for event in events:
        seen.append(event)
        draw(backbone, ["cat"], seeds=[1], steps=1)
        denoising_loss(backbone, data)
    assert [event.index for event in seen if isinstance(event, Step)] == list(range(1, 7))
    assert seen[-1].adapter.digest == straight[0].adapter.digest
    assert is_clean(backbone)


def test_two_trainings_in_one_cell_take_turns(backbone: Backbone, data: LatentSet) -> None:
    start = initial_adapter(backbone, seed=1)
    alone = trained(backbone, data)
    one, other = (train(backbone, data, config=CONFIG) for _ in range(2))
    pairs = list(zip(one, other, strict=True))
    assert pairs[-1][0].adapter.digest == pairs[-1][1].adapter.digest == alone.digest
    assert start.digest != alone.digest
    assert is_clean(backbone)


def test_a_paused_drawing_gives_way_and_ends_with_the_same_pixels(backbone: Backbone, data: LatentSet) -> None:
    adapters = [(trained(backbone, data), 1.0)]
    plain = draw(backbone, ["cat"], seeds=[1], steps=4, adapters=adapters)
    drawn = None
    for event in sample(backbone, ["cat"], seeds=[1], steps=4, adapters=adapters):
        if isinstance(event, Sampled):
            drawn = event.pictures
        else:
            list(train(backbone, data, config=TrainConfig(steps=1, batch=2)))
    np.testing.assert_array_equal(drawn, plain)


def test_a_paused_training_does_not_hang_another_thread(
    backbone: Backbone, data: LatentSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exclusive, "_REST_S", 0.05)
    events = train(backbone, data, config=CONFIG)
    next(events)
    assert in_thread(lambda: trained(backbone, data)).size
    assert isinstance(list(events)[-1], Trained)


def test_a_training_that_is_dropped_or_kept_in_a_traceback_holds_nothing(backbone: Backbone, data: LatentSet) -> None:
    events = train(backbone, data, config=CONFIG)
    next(events)
    del events
    gc.collect()
    assert not backbone.lock.is_held
    kept = None
    try:
        for _ in train(backbone, data, config=CONFIG):
            raise ZeroDivisionError
    except ZeroDivisionError as error:
        kept = error  # as sys.last_value in a notebook: its frames hold the loop's generator
    assert trained(backbone, data).size
    assert kept is not None
    assert is_clean(backbone)


def test_a_training_begun_in_one_thread_may_end_in_another(backbone: Backbone, data: LatentSet) -> None:
    events = train(backbone, data, config=CONFIG)
    next(events)
    assert isinstance(in_thread(lambda: list(events))[-1], Trained)
    assert not backbone.lock.is_held
    assert in_thread(lambda: trained(backbone, data)).size


def test_work_that_cannot_go_on_says_so_to_who_resumes_it(backbone: Backbone) -> None:
    @gives_way
    def attack() -> Iterator[int]:
        with attached(backbone, [(initial_adapter_once, 1.0)]):
            yield 1
            yield 2

    initial_adapter_once = initial_adapter(backbone)
    events = attack()
    assert next(events) == 1
    with attached(backbone, []):
        pass
    with pytest.raises(BackboneTaken, match="attack"):
        next(events)
    assert is_clean(backbone)


def test_a_generator_of_somebody_else_s_that_rests_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exclusive, "_REST_S", 0.05)
    lock = Exclusive()

    def foreign() -> Iterator[int]:
        with lock:
            yield 1

    events = foreign()
    next(events)
    with pytest.raises(BackboneBusy, match="close"), lock:
        pass
    events.close()  # type: ignore[attr-defined]
    with lock:
        assert lock.is_held
    assert not lock.is_held


def test_work_that_goes_on_is_waited_for_and_waiting_can_be_cancelled() -> None:
    lock, go_on, held = Exclusive(), threading.Event(), threading.Event()

    def busy() -> None:
        with lock:
            held.set()
            assert go_on.wait(60)

    def waiting() -> Iterator[str]:
        yield "waits"
        with lock:
            yield "has it"

    worker = threading.Thread(target=busy)
    worker.start()
    assert held.wait(20)
    job = Job(waiting(), name="waiting").start()
    job.cancel()
    job.wait(20)
    assert job.state == "cancelled"
    other = Job(waiting(), name="waiting").start()
    go_on.set()
    worker.join(20)
    assert other.wait(20) == "has it"
    assert not lock.is_held


def test_context_managers_made_of_others_hold_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    lock, looked = Exclusive(), threading.Semaphore(0)
    monkeypatch.setattr(exclusive, "_LOOK_S", 0.001)
    monkeypatch.setattr(exclusive, "checkpoint", looked.release)

    @contextmanager
    def inner() -> Iterator[None]:
        with lock:
            yield

    @contextmanager
    def outer() -> Iterator[None]:
        with inner():
            yield

    def other() -> str:
        with lock:
            return "had it"

    with outer():
        begun = threading.Thread(target=other, daemon=True)
        begun.start()
        for _ in range(50):  # it would have taken a lock that looks forsaken by now
            assert looked.acquire(timeout=20)
        assert begun.is_alive()
        with lock:
            assert lock.is_held
    begun.join(20)
    assert not begun.is_alive()


class Interrupter:
    """Raises KeyboardInterrupt at the n-th line that is run in some files, as a kernel interrupt may anywhere."""

    def __init__(self, at: int, folders: tuple[str, ...]) -> None:
        self.left, self._folders = at, folders

    def __call__(self, frame: FrameType, event: str, _arg: Any) -> Any:
        if not any(folder in frame.f_code.co_filename for folder in self._folders):
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return self


FOLDERS = ("fedart_nb/diffusion/", "peft/tuners/", "diffusers/loaders/", "contextlib.py")


def interrupted(action: Callable[[], Any], at: int) -> bool:
    """Run something and interrupt it at its n-th line; False where it has fewer."""
    tracer = Interrupter(at, FOLDERS)
    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        action()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return tracer.left <= 0


@pytest.fixture
def small(saved: Callable[[str], Path]) -> Backbone:
    return Backbone.from_pretrained(saved("flow"), device="cpu")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", range(2))
def test_an_interrupt_anywhere_leaves_a_backbone_that_trains(small: Backbone, pixels: np.ndarray, part: int) -> None:
    from fedart_nb.diffusion.latents import latents_of

    data = latents_of(small, pixels, ["cat"] * 6, [str(i) for i in range(6)])
    config = AdapterConfig(rank=2, alpha=2.0, targets=r".*attn2\.to_q|mid_block\.attentions\.0\.proj_in")
    start = initial_adapter(small, config)
    clean, one = names(small), TrainConfig(steps=1, batch=1, seed=1, validate_every=0)

    def use() -> None:
        list(train(small, data, config=one, start=start))
        initial_adapter(small, config)
        with attached(small, [(start, 1.0)]), detached(small):
            pass

    total = Interrupter(10**9, FOLDERS)
    sys.settrace(total)
    try:
        use()
    finally:
        sys.settrace(None)
    lines = 10**9 - total.left
    expected = [event for event in train(small, data, config=one, start=start) if isinstance(event, Trained)]
    places = [*np.random.default_rng(part).integers(1, lines, 14).tolist(), lines - part, part + 1]
    for at in places:
        interrupted(use, int(at))
        (again,) = [event for event in train(small, data, config=one, start=start) if isinstance(event, Trained)]
        assert again.adapter.digest == expected[0].adapter.digest, f"line {at} of {lines}"
        assert is_clean(small), f"line {at} of {lines}"
        assert names(small) == clean
        assert not small.lock.is_held


def test_an_adapter_that_cannot_be_attached_leaves_nothing_behind(
    small: Backbone, data: LatentSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = names(small)
    good, calls = initial_adapter(small), []

    def fails(*_args: Any, **_options: Any) -> None:
        calls.append(1)
        raise TypeError("out of paint")

    from peft.tuners.lora import layer

    monkeypatch.setattr(layer.LoraLayer, "update_layer", fails)
    with pytest.raises((AdapterError, TypeError), match="out of paint"), attached(small, [(good, 1.0)]):
        pass
    with suppress(AdapterError, TypeError):
        initial_adapter(small, AdapterConfig(rank=3))
    monkeypatch.undo()
    assert calls
    assert names(small) == clean
    assert is_clean(small)
    with attached(small, [(good, 1.0), (good, 0.5)]) as both:
        assert len(both) == 2
    assert is_clean(small)


def test_one_adapter_that_does_not_fit_keeps_all_of_them_off(small: Backbone) -> None:
    good = initial_adapter(small)
    foreign = Adapter(good.tensors, good.config, "0" * 64)
    for pair in ([(good, 1.0), (foreign, 1.0)], [(good, float("nan"))], [(good, True)]):
        with pytest.raises(AdapterError), attached(small, pair):  # type: ignore[arg-type]
            pass
        assert is_clean(small)
