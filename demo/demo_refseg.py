"""Segmentation of what phrases mean.

python demo/demo_refseg.py --checkpoint FILE --images photo.jpg --texts "the left peach"
"""

from __future__ import annotations

import sys

from common import Predictor, Question, main, threshold
from PIL import Image


def ask(predictor: Predictor, question: Question) -> Image.Image:
    """Segmentation of what phrases mean."""
    found = predictor.refer(question.images[0], question.texts, question.options.threshold)
    for phrase in found.absent:
        print(f"not there: {phrase}")
    return found.draw()


if __name__ == "__main__":
    sys.exit(main(ask, "refseg.png", texts=("The larger watermelon.", "White tea pot.", "Flower bunch."), options=threshold))
