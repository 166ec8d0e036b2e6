"""A sentence about what a phrase means (referring captioning).

python demo/demo_refcap.py --checkpoint FILE --images photo.jpg --texts water
"""

from __future__ import annotations

import sys

from common import Predictor, Question, main, threshold
from PIL import Image

from xdecoder.inference.drawing import draw_masks


def ask(predictor: Predictor, question: Question) -> Image.Image:
    """A sentence about what a phrase means."""
    picture = predictor.encode(question.images[0])
    masks = picture.refer(question.texts[:1], question.options.threshold).masks
    if not masks.any():
        raise ValueError(f"{question.texts[0]!r} means nothing in this picture, so there is no region to describe")
    sentence = picture.caption(region=masks[0])
    print(sentence)
    return draw_masks(picture.image, masks, [sentence])


if __name__ == "__main__":
    sys.exit(main(ask, "ref_cap.png", texts=("water",), options=threshold))
