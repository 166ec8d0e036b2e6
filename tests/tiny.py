"""A network, a batch and task settings small enough for tests; the architecture is the real one."""

from __future__ import annotations

import torch

from xdecoder.config import parse
from xdecoder.model import XDecoder, XDecoderConfig
from xdecoder.seem.network import Seem, SeemConfig
from xdecoder.seem.tables import VERSIONS
from xdecoder.tasks import TasksConfig
from xdecoder.types import Batch, Phrases, Sample, Segments, Vocabulary

VOCABULARY = Vocabulary(("cat", "dog", "sky-other-merged"), (True, True, False))


def tiny_config() -> XDecoderConfig:
    return parse(
        XDecoderConfig,
        {
            "backbone": {
                "name": "focal",
                "width": 16,
                "depths": [1, 1, 1, 1],
                "levels": 2,
                "layer_scale": 1.0,
                "drop_path": 0.0,
            },
            "pixel_decoder": {"name": "fpn", "width": 32, "layers": 1, "heads": 4, "hidden": 64},
            "decoder": {
                "queries": 9,
                "layers": 4,
                "width": 32,
                "heads": 4,
                "hidden": 64,
                "joint_width": 32,
                "caption_length": 24,
            },
            "language": {"merges": 500, "context_length": 24, "width": 32, "heads": 4, "layers": 1, "output_width": 32},
            "image_size": 64,
            "caption_image_size": 64,
        },
    )


def tiny_model(seed: int = 0) -> XDecoder:
    torch.manual_seed(seed)
    return XDecoder(tiny_config()).eval()


def tiny_seem(version: str = "v1", seed: int = 0) -> Seem:
    """The same as a SEEM: no captions, no image token, but strokes."""
    settings = tiny_config().model_dump(exclude={"name", "answers", "caption_image_size", "strokes", "decoder"})
    decoder = tiny_config().decoder.model_dump(exclude={"attention", "caption_length", "image_token"})
    differs = VERSIONS[version]
    decoder |= differs["decoder"]
    strokes = {"points": 40, "memory": 6, **differs["strokes"]}
    torch.manual_seed(seed)
    return Seem(parse(SeemConfig, {"name": "seem", **settings, "decoder": decoder, "strokes": strokes})).eval()


def tiny_tasks() -> TasksConfig:
    masks = {"points": 64, "matching": {"points": 64}}
    return parse(TasksConfig, {"segmentation": masks, "referring": masks, "captioning": {"max_length": 5}})


def tiny_batch() -> Batch:
    """Two pictures of different sizes, with regions, phrases and captions; the second has one region and one phrase."""
    generator = torch.Generator().manual_seed(0)
    first, second = torch.zeros(3, 64, 96, dtype=torch.bool), torch.zeros(1, 48, 64, dtype=torch.bool)
    first[0, 5:30, 5:40], first[1, 30:60, 50:90] = True, True
    first[2] = ~(first[0] | first[1])
    second[0, 10:40, 10:40] = True
    return Batch(
        samples=(
            Sample(
                "first",
                _noise(generator, 64, 96),
                (64, 96),
                Segments(first, torch.tensor([0, 1, 2]), torch.zeros(3, dtype=torch.bool)),
                Phrases(("the cat on the left", "a dog", "a dog"), first[[0, 1, 1]]),
                ("a cat and a dog under the sky",),
            ),
            Sample(
                "second",
                _noise(generator, 48, 64),
                (48, 64),
                Segments(second, torch.tensor([1]), torch.zeros(1, dtype=torch.bool)),
                Phrases(("the only dog",), second),
                ("a dog", "one dog in the middle"),
            ),
        ),
        vocabulary=VOCABULARY,
        source="tiny",
    )


def _noise(generator: torch.Generator, height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)
