"""A greedy caption: word by word with caches, against recomputing texts and the whole decoder for each word, as published.

python benchmarks/captioning.py [--steps 50]

Seeded Focal-T weights, pictures of 224 and 512 pixels that are encoded already. The published way fills 77 places, computes
masks at full size in every layer, and word logits of all places. The published code itself took 11.5 s for
50 words at 224 pixels (AMD Zen 5, 2 threads), where ours took 0.97 s.
"""

from __future__ import annotations

from dataclasses import replace

import measure
import torch
from torch import Tensor

from xdecoder.decoder.generation import GenerationConfig, generate
from xdecoder.model import Encoded, XDecoder
from xdecoder.tasks.captioning import caption_tokens

PLACES = 77


def as_published(model: XDecoder, features: Encoded, steps: int) -> Tensor:
    language = model.language
    ids = torch.full((1, PLACES), language.tokenizer.start)
    for step in range(steps):
        layers = model.decode(features, [caption_tokens(model, language.encode_ids(ids))])
        layers[-1].object_and_image.masks(features.mask)
        caption = layers[-1]["caption"].word
        assert caption is not None
        words = (caption @ language.token_embedding.weight.T).argmax(dim=-1)
        ids[:, step + 1] = words[:, step]
    return ids[:, : steps + 1]


def with_caches(model: XDecoder, features: Encoded, steps: int) -> Tensor:
    return generate(
        model,
        replace(features),  # nothing that was computed before
        GenerationConfig(max_length=steps),
    )


@torch.inference_mode()
def main() -> None:
    parser = measure.parser(__doc__)
    parser.add_argument("--steps", type=int, default=50, help="words (default: 50)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = measure.focal_t(published=True)
    model.decoder.caption_position.weight *= 50  # else seeded weights say one word over and over
    for block in (*model.language.blocks, *model.decoder.layers):
        for name, parameter in block.named_parameters():
            parameter *= 3 if "in_proj" in name else 1
    figures = {}
    for side in (224, 512):
        features = model.encode([measure.image(side, side)])
        encoding = measure.seconds(lambda side=side: model.encode([measure.image(side, side)]), options.repeats)
        fast = with_caches(model, features, options.steps)
        ours = measure.seconds(lambda features=features: with_caches(model, features, options.steps), options.repeats)
        with measure.plain_products():
            slow = as_published(model, features, options.steps)
            theirs = measure.seconds(lambda features=features: as_published(model, features, options.steps), 1, warm=True)
        figures[f"{side} px"] = {
            "published s": theirs,
            "ours s": ours,
            "ratio": theirs / ours,
            "encoding s": encoding,
            "ratio with encoding": (theirs + encoding) / (ours + encoding),
            "tokens": f"{'identical' if torch.equal(slow, fast) else 'different'}, {len(set(fast[0].tolist()))} distinct",
        }
    measure.report(figures, steps=options.steps)


if __name__ == "__main__":
    main()
