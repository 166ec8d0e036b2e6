"""What training, evaluation, predictor, checkpoints and export may know of a network.

Three networks live in the house, and others may come from outside. Whoever trains, measures, asks or exports speaks to this
class and never asks which network it holds; what a network cannot do it says in one sentence.
"""

from __future__ import annotations

import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import ModelWrapValidatorHandler, SerializeAsAny, model_validator
from torch import Tensor, nn

from xdecoder.config import Config
from xdecoder.decoder.attention import TokenGroup
from xdecoder.language.encoder import Texts
from xdecoder.losses.context import StepContext
from xdecoder.plugins import find
from xdecoder.postprocessing import Evidence
from xdecoder.protocol import Protocol
from xdecoder.regions import Proposals
from xdecoder.types import Batch

NETWORKS = {
    "xdecoder": "xdecoder.model:XDecoderConfig",
    "seem": "xdecoder.seem.network:SeemConfig",
    "sed": "xdecoder.sed.model:SedConfig",
}
"""Where the settings of each network are. Those from elsewhere are found by their import path, or as an entry point."""


class NetworkConfig(Config):
    """Settings of a network.

    A mapping becomes the class that its key `name` names: one of `NETWORKS` (without a name X-Decoder's), an entry point of the
    group `xdecoder.networks`, or an import path, `package.module:Name`.
    """

    name: str
    """Which network it is."""
    image_size: int = 512
    """Shorter side of the images that this network segments best; the predictor resizes to it."""

    @classmethod
    def member(cls, settings: Any) -> type[Config]:
        """The class that a mapping is for; raises ValueError if its `name` is unknown."""
        if cls is not NetworkConfig or not isinstance(settings, Mapping):
            return cls
        name = settings.get("name", "xdecoder")
        if not isinstance(name, str):
            raise ValueError(f"a network's 'name' is one of {', '.join(NETWORKS)}, or package.module:Name")
        return find(name, NetworkConfig, NETWORKS, "xdecoder.networks", "network")

    @model_validator(mode="wrap")
    @classmethod
    def _as_member(cls, settings: Any, validate: ModelWrapValidatorHandler[NetworkConfig]) -> Any:
        member = cls.member(settings)
        return validate(settings) if member is cls else member.model_validate(settings)

    def build(self) -> Network:
        """The network, with initial weights."""
        raise NotImplementedError

    def empty(self) -> Network:
        """A network of these settings whose weights are about to be read from a file."""
        return self.build()


AnyNetwork = SerializeAsAny[NetworkConfig]
"""The type of a setting that may be any network's."""


@dataclass(frozen=True)
class Prompt:
    """Tokens for the decoder; a task's own kind adds the texts that its loss compares with."""

    groups: tuple[TokenGroup, ...] = ()


TextReader = Callable[[Sequence[str]], Texts]
"""Encodes texts for one batch; tasks that read the same captions share the work."""


class Task(typing.Protocol):
    """One way of asking a network; one file each.

    What a loss reaches in the network must not depend on the data, so that processes that train together agree on it.
    """

    name: str
    compares: bool
    """Whether the loss compares samples with one another, and so asks for `StepContext.everyone`."""
    asks: bool
    """Whether its prediction decodes tokens of its own, beside the latent queries."""

    def counts(self, model: Any, batch: Batch) -> dict[str, float]:
        """How many there are of each thing that the loss is a mean over; the step's sums are in `StepContext.totals`."""
        ...

    def prompt(self, model: Any, features: Any, batch: Batch, texts: TextReader) -> Prompt:
        """Which token groups the task brings; it may look at the encoded images."""
        ...

    def loss(
        self, model: Any, features: Any, layers: Sequence[Any], prompt: Any, batch: Batch, context: StepContext
    ) -> dict[str, Tensor]:
        """Weighted terms; `layers` runs from the last layer backwards. A term is a scalar, or (L,) over layers."""
        ...

    def predict(self, model: Any, features: Any, batch: Batch) -> list[Any]:
        """One result per image."""
        ...


@dataclass(frozen=True)
class RepeatedLayer:
    """One of the layers of which a network has many: it can be sharded, or computed again in the backward, by itself."""

    module: nn.Module
    methods: tuple[str, ...] = ("forward",)
    """What is called of it in a forward."""
    once: bool = True
    """Whether each of these runs once a forward."""


class Network(nn.Module, ABC):
    """Images and texts in, losses or results out."""

    config: NetworkConfig
    lr_multipliers: ClassVar[Mapping[str, float]] = {}
    """Factors of the learning rate by module pattern, where the experiment names none."""

    tasks: ClassVar[tuple[str, ...] | None] = None
    """Names of the tasks that it can be asked; None = any that speaks to a decoder of token groups."""

    fewest_classes: ClassVar[int] = 1
    """Fewest classes that an exported graph takes."""

    protocol: Protocol = Protocol()
    """How it is to be asked; goes into its checkpoint."""

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def counts(self, tasks: Sequence[Task], batch: Batch) -> dict[str, float]:
        """What the tasks' losses are means over, such as "segmentation/masks", in one batch whose captions are drawn."""
        return {}

    @abstractmethod
    def losses(self, tasks: Sequence[Task], batch: Batch, context: StepContext | None = None) -> dict[str, Tensor]:
        """Weighted scalar terms of all tasks on one batch; their sum is the loss.

        They are named like "referring/dice/layer0", where layer 0 is the last one.

        Args:
            context: the other batches of the step, to which these terms are added; None if there are none.
        """

    def predict(self, tasks: Sequence[Task], batch: Batch) -> dict[str, list[Any]]:
        """Results by task name, in the order of the batch's samples; every image is encoded, and decoded, once."""
        for task in tasks:
            self.require(task.name)
        features = self.encode(batch.images)
        return {task.name: task.predict(self, features, batch) for task in tasks}

    @abstractmethod
    def encode(self, images: Sequence[Tensor], seeds: Sequence[int | None] = ()) -> Any:
        """What can be seen on images, for `evidence` and the tasks; opaque to others but for its `of(i)`, which is image i's.

        Args:
            images: RGB images (3, h, w) with values 0…255; they may differ in size.
            seeds: in training, of what is drawn for each image.
        """

    def evidence(self, features: Any, prompts: Sequence[str], settings: Any, image: int = 0) -> Evidence:
        """How likely each query (or pixel) of an encoded image is of each class, and its mask.

        Args:
            features: what `encode` gave.
            prompts: what the text encoder reads for each class.
            settings: a `SegmentationConfig`: how the network is to be asked.
            image: which of the encoded images.
        """
        raise ValueError(self.cannot("segment"))

    def proposals(self, features: Any, image: int = 0) -> Proposals:
        """The regions that are seen in an encoded image, before anybody names them.

        Raises:
            ValueError: if networks of this kind find regions only by their names.
        """
        raise ValueError(self.cannot("find regions without their names"))

    def likelihoods(self, vectors: Tensor, prompts: Sequence[str], settings: Any) -> Tensor:
        """How likely each class is, for vectors (N, D) of regions: (N, K), rows that sum to one; there is no background.

        Args:
            settings: as for `evidence`.

        Raises:
            ValueError: if networks of this kind have no vectors of regions.
        """
        raise ValueError(self.cannot("name regions"))

    def repeated_layers(self) -> list[RepeatedLayer]:
        """What is sharded and recomputed one at a time."""
        return []

    def keep_texts(self, folder: Path) -> None:
        """Where the network may keep what it works out of texts, so that it need not be worked out again."""

    def for_inference(self, dtype: torch.dtype = torch.float32, compile: bool = False) -> None:
        """Get ready to be asked: weights that read images in `dtype`; `compile` lets torch make encoding faster."""
        self.eval().to(dtype)
        if compile:
            self.compile_encoder(dynamic=True)

    def compile_encoder(self, dynamic: bool | None = None) -> None:
        """Compile what reads images; `dynamic` for any size of image."""
        raise ValueError(self.cannot("be compiled"))

    def graph(self, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        """What is exported: images and class texts to class probabilities and mask logits, before any threshold.

        Args:
            images: (B, 3, H, W) float RGB, 0…255; H and W are multiples of 32.
            texts: (K + 1, D) class texts, that of the background last; see `class_texts`.

        Returns:
            One answer per query: probabilities (B, Q, K + 1) and mask logits (B, Q, H/4, W/4).

        Raises:
            ValueError: if networks of this kind cannot be exported.
        """
        raise ValueError(self.cannot("be exported"))

    def class_texts(self, prompts: Sequence[str], settings: Any) -> Tensor:
        """Texts of K classes and the background, (K + 1, D), as `graph` reads them; `settings` as for `evidence`.

        Raises:
            ValueError: if networks of this kind cannot be exported.
        """
        raise ValueError(self.cannot("be exported"))

    def cannot(self, what: str) -> str:
        """One sentence for what this network does not do."""
        return f"this network ({self.config.name}) cannot {what}"

    def require(self, task: str) -> None:
        """Raises ValueError, in one sentence, if the network cannot be asked what a task of this name asks."""
        if self.tasks is not None and task not in self.tasks:
            raise ValueError(f"{self.cannot(f'do {task}')}; it does {', '.join(self.tasks)}")


def check_finite(outputs: Tensor, images: Sequence[object] = (), what: str = "the decoder's output") -> None:
    """Refuse to go on from outputs (B, …) that are infinite or not a number: maps and texts made of them would not show it.

    Args:
        images: what each of the B is called in the message; () = they have no names.
        what: the output's.

    Raises:
        ValueError: naming the first such image.
    """
    finite = outputs.flatten(1).isfinite().all(dim=1).tolist()
    if not all(finite):
        whose = f"image {images[finite.index(False)]}: " if images else ""
        raise ValueError(
            f"{whose}{what} is not finite (NaN or infinite); the network's weights, or computing in 16 bits, are at fault"
        )


def check_evidence(found: Evidence, images: Sequence[object] = ()) -> None:
    """`check_finite` for what is known of one image's classes; raises ValueError as it does."""
    for what, values in (("a class's probability", found.probabilities), ("a mask", found.masks)):
        check_finite(values[None], images, what)
