"""Phrases about one picture, each read as if alone: one encode and one batch, against one full forward per phrase.

python benchmarks/phrases.py [--phrases 16] [--side 512]

Seeded Focal-T weights. The full forward is the published one: latents and phrase together, masks at full size in every layer.
The masks are compared with its own, and with those of full forwards in our arithmetic (masks made of resized features), from
which the published ones differ where a mask's logit rounds to the other side of zero.

The published code itself took 26.7 s for 16 phrases one by one (AMD Zen 5, 2 threads), where ours took 2.62 s. All in one
decode, in which phrases see each other (ours: `tasks.referring.together`), took it 2.3 s, and 4.4 s for 64, where ours took 6.8
s for each as if alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import measure
import torch
from torch import Tensor

from xdecoder.inference.predictor import Predictor
from xdecoder.model import XDecoder
from xdecoder.postprocessing import resize_masks
from xdecoder.tasks.referring import word_tokens

COLOURS, PLACES = ("red", "small blue", "bright", "largest"), ("on the left", "behind the table", "in front", "that is cut off")
PHRASES = tuple(f"the {colour} thing {place}" for colour in COLOURS for place in PLACES)


def full_forward(model: XDecoder, image: Tensor, phrase: str) -> Tensor:
    features = model.encode([image])
    texts = model.language.encode([phrase])
    rows = model.decode(features, [model.decoder.grounding_queries(1), word_tokens(texts, [[0]])])[-1]["grounding"]
    assert rows is not None
    query = torch.cosine_similarity(rows.semantic[0], texts.vectors, dim=-1).argmax()
    mask = rows.masks(features.mask)[0, query]
    return resize_masks(mask[None], features.padded, features.sizes[0], (image.shape[1], image.shape[2]))[0] > 0


def one_by_one(model: XDecoder, image: Tensor, phrases: Sequence[str]) -> Tensor:
    return torch.stack([full_forward(model, image, phrase) for phrase in phrases])


def equal(ours: Tensor, theirs: Tensor) -> float:
    """Share of pixels, in percent."""
    return (ours == theirs).float().mean().item() * 100


@torch.inference_mode()
def main() -> None:
    parser = measure.parser(__doc__)
    parser.add_argument("--phrases", type=int, default=16, help="how many (default: 16)")
    parser.add_argument("--side", type=int, default=512, help="of the picture, in pixels (default: 512)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    phrases, image = PHRASES[: options.phrases], measure.image(options.side, options.side)
    published, plain = measure.focal_t(published=True), measure.focal_t()
    predictor = Predictor(measure.focal_t())
    masks = predictor.refer(image, phrases).masks
    agreement = equal(masks, one_by_one(published, image, phrases))
    ours = measure.seconds(lambda: predictor.refer(image, phrases).masks, options.repeats)
    with measure.plain_products():
        theirs = measure.seconds(lambda: one_by_one(published, image, phrases), 1, warm=True)
    figures: measure.Figures = {
        "full forwards": {"seconds": theirs},
        "one batch": {
            "seconds": ours,
            "ratio": theirs / ours,
            "pixels equal to published %": agreement,
            "to our full forwards %": equal(masks, one_by_one(plain, image, phrases)),
        },
    }
    measure.report(figures, phrases=len(phrases), covered=masks.float().mean().item())


if __name__ == "__main__":
    main()
