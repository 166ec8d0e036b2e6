"""Semantic segmentation with any vocabulary.

python demo/demo_semseg.py --checkpoint FILE --images photo.jpg --texts zebra grass sky
"""

from __future__ import annotations

import sys

from common import Predictor, Question, main
from PIL import Image


def ask(predictor: Predictor, question: Question) -> Image.Image:
    """Semantic segmentation with any vocabulary."""
    return predictor.segment(question.images[0], question.texts).draw()


if __name__ == "__main__":
    sys.exit(main(ask, "sem.png", texts=("zebra", "antelope", "giraffe", "ostrich", "sky", "water", "grass", "sand", "tree")))
