"""A sentence about a picture.

python demo/demo_captioning.py --checkpoint FILE --images photo.jpg
"""

from __future__ import annotations

import sys

from common import Predictor, Question, main


def ask(predictor: Predictor, question: Question) -> str:
    """A sentence about a picture."""
    return predictor.caption(question.images[0])


if __name__ == "__main__":
    sys.exit(main(ask, "captioning.png"))
