"""What a step's batches exchange."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.ranks import run_ranks
from trainer.distributed import ALONE, World
from trainer.global_batch import GlobalBatch, place
from xdecoder.losses.context import StepContext
from xdecoder.losses.contrastive import symmetric_contrast, word_contrast
from xdecoder.types import Batch, Sample

PAIRS, WORDS = 8, (3, 5, 2, 4, 1, 6, 2, 3)  # words of each caption


def rows(numbers: range) -> dict[str, Tensor]:
    """Pictures, captions and their words, padded to the longest of these."""
    longest = max(WORDS[n] for n in numbers)
    draws = [torch.Generator().manual_seed(n) for n in numbers]
    return {
        "images": torch.stack([torch.randn(6, generator=draw) for draw in draws]).requires_grad_(),
        "captions": torch.stack([torch.randn(6, generator=draw) for draw in draws]).requires_grad_(),
        "words": torch.stack([torch.randn(6, 6, generator=draw) for draw in draws])[:, :longest].clone().requires_grad_(),
        "present": torch.stack([torch.arange(longest) < WORDS[n] for n in numbers]),
    }


def contrast(own: dict[str, Tensor], numbers: range, context: StepContext, scale: Tensor) -> Tensor:
    every = {name: context.everyone(value) for name, value in own.items()}
    texts = context.everyones([f"caption {n % 7}" for n in numbers])  # the first and the last say the same
    same, scale = torch.tensor([[a == b for b in texts] for a in texts]), context.once(scale)
    whole = symmetric_contrast(every["images"], every["captions"], scale, same)
    return context.share(whole + word_contrast(every["images"], every["words"], every["present"], scale))


def learn(world: World, parts: int) -> list[list[Any]]:
    """[loss, gradient of the scale, gradients of each row by its number] of one process."""
    scale = torch.tensor(1.0, requires_grad=True)
    share = PAIRS // parts
    mine = [range(part * share, (part + 1) * share)[world.rank :: world.size] for part in range(parts)]
    global_batch = GlobalBatch([{"pairs": len(numbers)} for numbers in mine], [tuple(numbers) for numbers in mine], world)
    assert global_batch.totals == {"pairs": PAIRS}
    if parts > 1:
        for part, numbers in enumerate(mine):
            contrast(rows(numbers), numbers, global_batch.collecting_pass(part), scale)
    loss, gradients = 0.0, {}
    for part, numbers in enumerate(mine):
        own = rows(numbers)
        term = contrast(own, numbers, global_batch.context(part), scale)
        term.backward()
        loss += term.item()
        for i, number in enumerate(numbers):
            words = own["words"].grad[i, : WORDS[number]]  # type: ignore[index]
            gradients[number] = [own[name].grad[i].tolist() for name in ("images", "captions")] + [words.tolist()]  # type: ignore[index]
    assert scale.grad is not None
    return [loss, scale.grad.item(), gradients]


def flat(gradients: Any) -> list[float]:
    return [gradients] if isinstance(gradients, float) else [number for inner in gradients for number in flat(inner)]


@pytest.mark.parametrize(("size", "parts"), [(2, 1), (1, 2), (2, 2), (1, 4)])
def test_the_contrast_over_all_has_the_gradient_of_one_large_batch(size: int, parts: int) -> None:
    loss, scale, gradients = learn(ALONE, 1)
    found = run_ranks(lambda world: learn(world, parts), size)
    assert sum(each[0] for each in found) == pytest.approx(loss, rel=1e-6)
    assert sum(each[1] for each in found) == pytest.approx(scale, abs=1e-6)
    ours = {number: gradient for each in found for number, gradient in each[2].items()}
    assert sorted(ours) == list(range(PAIRS))
    worst = max(abs(a - b) for n in ours for a, b in zip(flat(ours[n]), flat(gradients[n]), strict=True))
    print(f"{size} processes, {parts} parts: largest difference of a gradient {worst:.1e}")
    assert worst < 1e-6
    assert max(map(abs, flat([gradients[n] for n in gradients]))) > 0.05


def test_a_sample_draws_the_same_wherever_it_comes() -> None:
    """Eight samples as one batch of eight, as two batches of four, and dealt out to two processes."""

    def placed(numbers: range, before: int, world: World) -> dict[Any, tuple[int | None, int | None, str]]:
        captions = ("one", "two", "three", "four")
        samples = tuple(Sample(n, torch.zeros(3, 1, 1).byte(), (1, 1), captions=captions) for n in numbers)
        batch = place(Batch(samples, None, "set"), before, (5, 0), 3, world).batch
        return {sample.id: (sample.seed, batch.seed, sample.captions[0]) for sample in batch.samples}

    whole = placed(range(8), 0, ALONE)
    assert placed(range(4), 0, ALONE) | placed(range(4, 8), 1, ALONE) == whole
    assert placed(range(0, 8, 2), 0, World(0, 2)) | placed(range(1, 8, 2), 0, World(1, 2)) == whole
    assert len({seed for seed, _, _ in whole.values()}) == 8
    assert len({caption for _, _, caption in whole.values()}) > 1
    assert placed(range(8, 16), 1, ALONE)[8][0] not in {seed for seed, _, _ in whole.values()}
