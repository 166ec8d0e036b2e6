"""Which picture fits a text, and where.

python demo/demo_retrieval.py --checkpoint FILE --picture a.jpg b.jpg --texts "pizza on the plate"
"""

from __future__ import annotations

import sys

from common import Predictor, Question, main
from PIL import Image


def ask(predictor: Predictor, question: Question) -> Image.Image:
    """Find the picture that fits the first text best, and in it what the text means."""
    text = question.texts[0]
    cosines = [predictor.match(picture, [text]).item() for picture in question.pictures]
    for number, cosine in enumerate(cosines):
        print(f"picture {number}: {cosine:.3f}")
    best = question.pictures[cosines.index(max(cosines))]
    return predictor.refer(best, [text]).draw()


if __name__ == "__main__":
    sys.exit(main(ask, "region_retrieval.png", texts=("pizza on the plate",)))
