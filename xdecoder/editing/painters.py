"""What is put in place of a region: fills and filters that need no weights, and a diffusion network that does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Mask = NDArray[np.bool_]  # (H, W)

SIDE = 512  # the longer side at which a diffusion network paints, as such networks learnt
FILL_RADIUS = 5  # pixels that OpenCV's fill looks at
BLUR = 0.02  # radius, as a share of the longer side
SEAM = 2.0  # pixels over which old and new mix, inside the mask


class Inpainter(Protocol):
    """Paints what a prompt says where a mask is true; the rest of what it returns is not used."""

    def __call__(self, image: Image.Image, mask: Mask, prompt: str) -> Image.Image: ...


class DiffusionInpainter:
    """A diffusers in-painting pipeline.

    Args:
        pipeline: called as diffusers' in-painting pipelines are.
        settings: handed to the pipeline, such as num_inference_steps.
    """

    def __init__(self, pipeline: Any, **settings: Any) -> None:
        self.pipeline, self.settings = pipeline, settings

    def __call__(self, image: Image.Image, mask: Mask, prompt: str) -> Image.Image:
        scale = SIDE / max(image.size)
        width, height = (max(round(side * scale / 64), 1) * 64 for side in image.size)
        painted = self.pipeline(
            prompt=prompt,
            image=image.resize((width, height)),
            mask_image=Image.fromarray(mask.astype(np.uint8) * 255).resize((width, height)),
            height=height,
            width=width,
            **self.settings,
        ).images[0]
        return painted.convert("RGB").resize(image.size, Image.Resampling.LANCZOS)


def load_inpainter(source: str, device: str = "cpu", **settings: Any) -> DiffusionInpainter:
    """An in-painting network from a folder or the Hugging Face Hub; weights come as safetensors only.

    Raises:
        ValueError: where diffusers is not installed, or the source holds no such network.
    """
    try:
        from diffusers import AutoPipelineForInpainting
    except ImportError:
        raise ValueError("painting something new needs the package diffusers: pip install '.[edit]'") from None
    try:
        pipeline = AutoPipelineForInpainting.from_pretrained(source, use_safetensors=True).to(device)
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if Path(source).exists():
            raise ValueError(f"{source}: holds no in-painting network of diffusers' form with safetensors ({reason})") from None
        told = f"{source}: no such folder, and the Hugging Face Hub gave no in-painting network of this name ({reason})"
        raise ValueError(f"{told}; download one where there is a network, and name its folder with --inpainter") from None
    return DiffusionInpainter(pipeline, **settings)


def fill(image: Image.Image, mask: Mask) -> Image.Image:
    """The region filled from what surrounds it (Telea, J. Graphics Tools 2004)."""
    try:
        import cv2
    except ImportError:
        raise ValueError("filling a region needs the package OpenCV: pip install '.[edit]'") from None
    return Image.fromarray(cv2.inpaint(np.asarray(image), mask.astype(np.uint8), FILL_RADIUS, cv2.INPAINT_TELEA))


def blur(image: Image.Image, mask: Mask) -> Image.Image:
    """The picture out of focus."""
    return image.filter(ImageFilter.GaussianBlur(max(2.0, BLUR * max(image.size))))


def grey(image: Image.Image, mask: Mask) -> Image.Image:
    """The picture without colours."""
    return image.convert("L").convert("RGB")


def white(image: Image.Image, mask: Mask) -> Image.Image:
    """Nothing."""
    return Image.new("RGB", image.size, "white")


def recolour(image: Image.Image, mask: Mask, colour: tuple[int, int, int]) -> Image.Image:
    """The region in another colour, with the light and shade that it has."""
    light = np.asarray(image.convert("L"), np.float32)
    shade = light / max(float(light[mask].mean()), 1.0) if mask.any() else light
    return Image.fromarray(np.clip(shade[..., None] * np.asarray(colour, np.float32), 0, 255).astype(np.uint8))


def grown(mask: Mask, share: float) -> Mask:
    """The mask and what lies within `share` of the picture's longer side around it."""
    reach = max(1, round(share * max(mask.shape)))
    from scipy import ndimage

    return np.asarray(ndimage.binary_dilation(mask, iterations=reach))


def compose(image: Image.Image, painted: Image.Image, mask: Mask, seam: float = SEAM) -> Image.Image:
    """What is painted inside the mask, the picture outside; the seam is soft inwards only."""
    inside = Image.fromarray(mask.astype(np.uint8) * 255)
    soft = np.minimum(np.asarray(inside.filter(ImageFilter.GaussianBlur(seam))), np.asarray(inside)) if seam else inside
    return Image.composite(painted, image, Image.fromarray(np.asarray(soft)))


Painter = Callable[[Image.Image, Mask], Image.Image]
