"""Pictures in the order in which they fit a text.

python demo/demo_retrieval.py --checkpoint FILE --images a.jpg b.jpg c.jpg --texts "pizza on the plate"
"""

from __future__ import annotations

import sys

from common import Predictor, Question, main
from PIL import Image

from xdecoder.inference.drawing import grid

TILE = (360, 270)


def ask(predictor: Predictor, question: Question) -> Image.Image:
    """A contact sheet of the pictures, the one that fits the first text best in front."""
    ranking = predictor.retrieve(question.images, question.texts[0])
    for number in ranking.order:
        print(f"picture {number}: {ranking.scores[number]:.3f}")
    tiles = [question.images[number].copy() for number in ranking.order]
    for tile in tiles:
        tile.thumbnail(TILE)
    captions = [f"picture {number}: {ranking.scores[number]:.3f}" for number in ranking.order]
    return grid(tiles, captions, columns=min(4, len(tiles)))


if __name__ == "__main__":
    sys.exit(main(ask, "retrieval.png", texts=("pizza on the plate",)))
