"""A network of three layers and a loss of one line, for tests of the training loop on its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from xdecoder.losses.context import StepContext
from xdecoder.network import Network, NetworkConfig, RepeatedLayer
from xdecoder.types import Batch, Sample


class Task(str):
    """A stand-in for a task, which is its name."""

    compares = False


class Model(Network):
    """Its one loss is the mean over the step's images of the squared distance to the image's mean."""

    config = NetworkConfig.model_construct(name="stand-in")
    lr_multipliers: ClassVar[Mapping[str, float]] = {"backbone": 0.1, "language": 0.1}

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.backbone = nn.Linear(12, 8)
        self.language = nn.Linear(8, 8)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(self.language(self.backbone(x).tanh()).tanh()))

    def counts(self, tasks: Any, batch: Batch) -> dict[str, float]:
        return {"images": len(batch)}

    def losses(self, tasks: Any, batch: Batch, context: StepContext | None = None) -> dict[str, Tensor]:
        x = torch.stack(batch.images).flatten(1).float() / 255
        total = context.totals["images"] if context else len(batch)
        return {f"{task}/square": (self(x)[:, 0] - x.mean(1)).square().sum() / total for task in tasks}

    def predict(self, tasks: Any, batch: Batch) -> dict[str, list[Any]]:
        raise ValueError(self.cannot("predict"))

    def encode(self, images: Sequence[Tensor], seeds: Sequence[int | None] = ()) -> Tensor:
        return torch.stack(list(images))

    def repeated_layers(self) -> list[RepeatedLayer]:
        return []


def batches(start: int, size: int = 4, source: str = "set") -> Iterator[Batch]:
    """Endless, the n-th batch always the same; draws from torch's own generator as a loader's start does."""
    torch.rand(())
    while True:
        samples = []
        for number in range(start * size, (start + 1) * size):
            image = torch.randint(256, (3, 2, 2), generator=torch.Generator().manual_seed(number)).byte()
            samples.append(Sample(number, image, (2, 2)))
        yield Batch(tuple(samples), None, source)
        start += 1
