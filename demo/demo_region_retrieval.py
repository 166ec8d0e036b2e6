"""The picture that fits a text best, and in it the region that the text means.

python demo/demo_region_retrieval.py --checkpoint FILE --images a.jpg b.jpg --texts "pizza on the plate"
"""

from __future__ import annotations

import sys

from common import Predictor, Question, main
from PIL import Image


def ask(predictor: Predictor, question: Question) -> Image.Image:
    """The picture that fits the first text best, and in it the region that the text means."""
    found = predictor.find(question.images, question.texts[0])
    print(f"picture {found.index}: {found.score:.3f}")
    return found.region.draw()


if __name__ == "__main__":
    sys.exit(main(ask, "region_retrieval.png", texts=("pizza on the plate",)))
