"""Referring image editing: what a phrase means is painted anew by a diffusion model.

python demo/demo_refedit.py --checkpoint FILE --images photo.jpg --texts "the left cup" "a vase of tulips"

The first text says what is to go, the second what shall be there. It needs `pip install '.[edit]'`; the in-painting
network is fetched from the Hugging Face Hub once, as safetensors, unless --inpainter names a folder. `xdecoder edit` takes
whole instructions.
"""

from __future__ import annotations

import argparse
import sys

from common import Predictor, Question, main
from PIL import Image

from xdecoder import editing

INPAINTER = "stable-diffusion-v1-5/stable-diffusion-inpainting"


def ask(predictor: Predictor, question: Question) -> Image.Image:
    """What the first text means is painted anew, as the second text says."""
    if len(question.texts) != 2:
        raise ValueError(f"--texts: expected two, what is to go and what shall be there, not {len(question.texts)}")
    phrase, wish = question.texts
    inpainter = editing.load_inpainter(question.options.inpainter, str(predictor.model.device))
    anywhere = editing.EditConfig(cosine=-1)  # whoever runs this has looked at the picture
    step = editing.Step(operation="replace", target=phrase, prompt=wish)
    return predictor.encode(question.images[0]).edit([step], inpainter, anywhere).image


def options(parser: argparse.ArgumentParser) -> None:
    name = "a folder or a name on the Hub (default: %(default)s)"
    parser.add_argument("--inpainter", default=INPAINTER, metavar="NAME", help=name)


if __name__ == "__main__":
    sys.exit(main(ask, "edit.png", texts=("the left cup", "a vase of tulips"), options=options))
