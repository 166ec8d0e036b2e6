"""A click after the first on an encoded picture: only what changes is decoded, against every token group as published.

python benchmarks/interactive.py [--side 512] [--sam]

Seeded SEEM Focal-T weights, version v1. As published, object queries are decoded along with those of the marked object, every
layer projects the picture anew, and masks are made at full size. Then five objects of ten clicks each against one object, and
with --sam the mask decoder of SAM-B in transformers, with weights of its own making, beside them.
"""

from __future__ import annotations

from collections.abc import Callable

import measure
import torch
import torch.nn.functional as F
from torch import Tensor

from xdecoder.encoded import Encoded
from xdecoder.seem.draws import SeededDraws
from xdecoder.seem.network import Seem, SeemConfig
from xdecoder.types import StrokeMaps


def focal_t(published: bool = False) -> Seem:
    torch.manual_seed(0)
    return Seem(SeemConfig(published_quirks=published)).eval().requires_grad_(False)


def clicks(side: int, objects: int, number: int) -> StrokeMaps:
    """So many marks of 3 x 3 pixels on each object, spread over the picture."""
    generator = torch.Generator().manual_seed(0)
    marked = torch.zeros(objects, side, side, dtype=torch.bool)
    for i in range(objects):
        for row, column in torch.randint(1, side - 1, (number, 2), generator=generator).tolist():
            marked[i, row - 1 : row + 2, column - 1 : column + 2] = True
    return StrokeMaps(marked, torch.zeros_like(marked))


def as_published(model: Seem, encoded: Encoded, strokes: StrokeMaps, previous: Tensor) -> Tensor:
    marked = model.strokes.mark(encoded, [strokes], [previous], SeededDraws())
    *_, last = model.decoder(encoded.mask, encoded.maps, marked.groups)
    return model.strokes.chosen(encoded, marked, last)[0]


def click(model: Seem, encoded: Encoded, strokes: StrokeMaps, previous: Tensor) -> Tensor:
    return model.strokes.segment(encoded, [strokes], [previous], SeededDraws())[0]


def sam_decoder() -> Callable[[], Tensor]:
    """One click on an encoded picture of 1024 x 1024 pixels, by the mask decoder of SAM-B."""
    from transformers import SamConfig, SamModel

    torch.manual_seed(0)
    model = SamModel(SamConfig(vision_config={"num_hidden_layers": 1, "global_attn_indexes": []})).eval()
    picture, points = torch.randn(1, 256, 64, 64), torch.tensor([[[[300.0, 400.0]]]])
    labels = torch.ones(1, 1, 1, dtype=torch.int64)
    return lambda: model(image_embeddings=picture, input_points=points, input_labels=labels).pred_masks


@torch.inference_mode()
def main() -> None:
    parser = measure.parser(__doc__)
    parser.add_argument("--side", type=int, default=512, help="of the picture, in pixels (default: 512)")
    parser.add_argument("--sam", action="store_true", help="measure SAM's mask decoder too (needs transformers)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model, published = focal_t(), focal_t(published=True)
    image = measure.image(options.side, options.side)
    start = measure.seconds(lambda: model.encode([image]), 1, warm=True)
    encoded = model.encode([image])
    one, five = clicks(options.side, 1, 10), clicks(options.side, 5, 10)
    before = {len(marks): model.strokes.segment(encoded, [marks], None, SeededDraws())[0] for marks in (one, five)}
    ours = measure.seconds(lambda: click(model, encoded, one, before[1]), options.repeats)
    theirs = measure.seconds(lambda: as_published(published, encoded, one, before[1]), options.repeats)
    several = measure.seconds(lambda: click(model, encoded, five, before[5]), options.repeats)
    masks = [
        F.interpolate(logits[None], size=(options.side, options.side), mode="bilinear") > 0
        for logits in (click(model, encoded, one, before[1]), as_published(published, encoded, one, before[1]))
    ]
    figures: measure.Figures = {
        "encode": {"seconds": start},
        "as published": {"seconds": theirs},
        "a click": {
            "seconds": ours,
            "times as fast": theirs / ours,
            "equal pixels %": (masks[0] == masks[1]).float().mean().item() * 100,
        },
        "five objects": {"seconds": several, "of one": several / ours},
    }
    if options.sam:
        figures["SAM-B's mask decoder, 1024"] = {"seconds": measure.seconds(sam_decoder(), options.repeats)}
    measure.report(figures, side=options.side)


if __name__ == "__main__":
    main()
