"""Panoptic segmentation with any vocabulary.

python demo/demo_panoseg.py --checkpoint FILE --images photo.jpg --texts "car,traffic light" sky,street

The first text lists what is counted one by one, the second what is one region each.
"""

from __future__ import annotations

import sys

from common import Predictor, Question, main
from PIL import Image

THINGS = "car,person,traffic light,truck,motorcycle"
STUFF = "building,sky,street,tree,rock,sidewalk"


def ask(predictor: Predictor, question: Question) -> Image.Image:
    """Panoptic segmentation with any vocabulary."""
    things, stuff = ([name.strip() for name in names.split(",") if name.strip()] for names in (*question.texts, "")[:2])
    return predictor.panoptic(question.images[0], things, stuff).draw()


if __name__ == "__main__":
    sys.exit(main(ask, "pano.png", texts=(THINGS, STUFF)))
