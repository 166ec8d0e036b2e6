"""Referring image editing: what a phrase means is painted anew by a diffusion model.

python demo/demo_refedit.py --checkpoint FILE --images photo.jpg --texts "the left cup" "a vase of tulips"

The first text says what is to go, the second what shall be there. It needs `pip install 'xdecoder[edit]'`; the in-painting
network is fetched from the Hugging Face Hub once, as safetensors, unless --inpainter names a folder.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np
from common import Predictor, Question, main
from PIL import Image, ImageFilter
from scipy import ndimage

INPAINTER = "stable-diffusion-v1-5/stable-diffusion-inpainting"
SIDE = 512  # the longer side at which the picture is painted, as these networks learnt
GROWTH = 0.012  # the mask is grown by this share of the longer side: the rim of the old thing must go too


def ask(predictor: Predictor, question: Question) -> Image.Image:
    """What the first text means is painted anew, as the second text says."""
    if len(question.texts) != 2:
        raise ValueError(f"--texts: expected two, what is to go and what shall be there, not {len(question.texts)}")
    phrase, wish = question.texts
    found = predictor.refer(question.images[0], [phrase])
    if not found.masks.any():
        raise ValueError(f"{phrase!r} means nothing in this picture, so nothing can be painted over")
    pipeline = load_inpainter(question.options.inpainter, str(predictor.model.device))
    return repaint(pipeline, found.image, found.masks[0].numpy(), wish)


def load_inpainter(source: str, device: str = "cpu") -> Any:
    """A diffusers in-painting pipeline from a folder or the Hub; weights come as safetensors only."""
    try:
        from diffusers import AutoPipelineForInpainting
    except ImportError:
        raise ValueError("editing needs the package diffusers: pip install 'xdecoder[edit]'") from None
    return AutoPipelineForInpainting.from_pretrained(source, use_safetensors=True).to(device)


def repaint(pipeline: Any, picture: Image.Image, mask: np.ndarray, prompt: str, **settings: Any) -> Image.Image:
    """The picture with what lies inside the mask painted as the prompt says; the rest keeps every pixel.

    Args:
        pipeline: called as diffusers' in-painting pipelines are.
        mask: (H, W) bool at the picture's size.
        settings: handed to the pipeline, such as num_inference_steps.
    """
    grown = ndimage.binary_dilation(mask, iterations=max(1, round(GROWTH * max(picture.size))))
    cover = Image.fromarray(grown.astype(np.uint8) * 255)
    scale = SIDE / max(picture.size)
    width, height = (max(round(side * scale / 64), 1) * 64 for side in picture.size)
    painted = pipeline(
        prompt=prompt,
        image=picture.resize((width, height)),
        mask_image=cover.resize((width, height)),
        height=height,
        width=width,
        **settings,
    ).images[0]
    painted = painted.convert("RGB").resize(picture.size, Image.Resampling.LANCZOS)
    # The seam is soft inwards only, so that nothing outside the mask changes.
    soft = np.minimum(np.asarray(cover.filter(ImageFilter.GaussianBlur(2))), np.asarray(cover))
    return Image.composite(painted, picture, Image.fromarray(soft))


def options(parser: argparse.ArgumentParser) -> None:
    name = "a folder or a name on the Hub (default: %(default)s)"
    parser.add_argument("--inpainter", default=INPAINTER, metavar="NAME", help=name)


if __name__ == "__main__":
    sys.exit(main(ask, "edit.png", texts=("the left cup", "a vase of tulips"), options=options))
