"""Instance segmentation with any vocabulary.

python demo/demo_instseg.py --checkpoint FILE --images photo.jpg --texts owl
"""

from __future__ import annotations

import sys

from common import Predictor, Question, main
from PIL import Image


def ask(predictor: Predictor, question: Question) -> Image.Image:
    """Instance segmentation with any vocabulary."""
    return predictor.instances(question.images[0], question.texts).draw()


if __name__ == "__main__":
    sys.exit(main(ask, "inst.png", texts=("owl",)))
