"""Segmentation of what phrases mean.

python demo/demo_refseg.py --checkpoint FILE --images photo.jpg --texts "the left peach"
"""

from __future__ import annotations

import sys

from common import Predictor, Question, main
from PIL import Image


def ask(predictor: Predictor, question: Question) -> Image.Image:
    """Segmentation of what phrases mean."""
    return predictor.refer(question.images[0], question.texts).draw()


if __name__ == "__main__":
    sys.exit(main(ask, "refseg.png", texts=("The larger watermelon.", "White tea pot.", "Flower bunch.")))
