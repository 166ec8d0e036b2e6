"""Phrases about one picture: one encode and one batch, each as if alone or all together, against the published forwards.

python benchmarks/phrases.py [--phrases 16] [--side 512]

Seeded Focal-T weights. The full forward is the published one: latents and phrase together, masks at full size in every layer.
The masks are compared with its own, and with those of full forwards in our arithmetic (masks made of resized features), from
which the published ones differ where a mask's logit rounds to the other side of zero.

Where all are read in one decode, in which they see each other (`refer(…, together=True)`), the published way is one full
forward for all, whose masks are compared with ours. To read each as if alone is more work, and gives another answer.

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
NOUNS = ("thing", "animal", "vehicle", "person")
PHRASES = tuple(f"the {colour} {noun} {place}" for noun in NOUNS for colour in COLOURS for place in PLACES)


def full_forward(model: XDecoder, image: Tensor, phrases: Sequence[str]) -> Tensor:
    """The masks (P, H, W) of phrases that see each other."""
    features = model.encode([image])
    texts = model.language.encode(phrases)
    words = word_tokens(texts, [range(len(phrases))])
    rows = model.decode(features, [model.decoder.grounding_queries(1), words])[-1]["grounding"]
    queries = torch.cosine_similarity(rows.semantic[0, :, None], texts.vectors, dim=-1).argmax(dim=0)
    masks = rows.masks(features.mask)[0, queries]
    return resize_masks(masks, features.padded, features.sizes[0], (image.shape[1], image.shape[2])) > 0


def one_by_one(model: XDecoder, image: Tensor, phrases: Sequence[str]) -> Tensor:
    return torch.cat([full_forward(model, image, [phrase]) for phrase in phrases])


def equal(ours: Tensor, theirs: Tensor) -> float:
    """Share of pixels, in percent."""
    return (ours == theirs).float().mean().item() * 100


@torch.inference_mode()
def main() -> None:
    parser = measure.parser(__doc__)
    parser.add_argument("--phrases", type=int, default=16, help="how many (default: 16)")
    parser.add_argument("--without-one-by-one", action="store_true", help="leave out the full forwards of single phrases")
    parser.add_argument("--side", type=int, default=512, help="of the picture, in pixels (default: 512)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    phrases, image = PHRASES[: options.phrases], measure.image(options.side, options.side)
    published, plain = measure.focal_t(published=True), measure.focal_t()
    predictor = Predictor(measure.focal_t())
    masks, joint = (predictor.refer(image, phrases, together=way).masks for way in (False, True))
    alone = measure.seconds(lambda: predictor.refer(image, phrases, together=False).masks, options.repeats, warm=True)
    together = measure.seconds(lambda: predictor.refer(image, phrases, together=True).masks, options.repeats, warm=True)
    with measure.plain_products():
        published_joint = measure.seconds(lambda: full_forward(published, image, phrases), options.repeats)
    figures: measure.Figures = {
        "published, together": {"seconds": published_joint},
        "ours, together": {
            "seconds": together,
            "ratio": published_joint / together,
            "pixels equal to published %": equal(joint, full_forward(published, image, phrases)),
        },
        "ours, each as if alone": {"seconds": alone, "ratio to together": published_joint / alone},
    }
    if not options.without_one_by_one:
        with measure.plain_products():
            theirs = measure.seconds(lambda: one_by_one(published, image, phrases), 1, warm=True)
        figures["published, one by one"] = {"seconds": theirs}
        figures["ours, each as if alone"] |= {
            "ratio": theirs / alone,
            "pixels equal to published %": equal(masks, one_by_one(published, image, phrases)),
            "to our full forwards %": equal(masks, one_by_one(plain, image, phrases)),
        }
    measure.report(figures, phrases=len(phrases), covered=masks.float().mean().item())


if __name__ == "__main__":
    main()
