"""Following objects through a film: frames a second, and whether memory stays flat.

python benchmarks/tracking.py [--frames 300] [--objects 2]

A SEEM of Focal-T's size with seeded weights (or with --tiny a small one) looks at every frame of a generated film of 640x360
pixels; the film is written again with the objects drawn, and masks are kept as run lengths. Memory is this process's, read
after each tenth of the film: the last half must not need more than the first.
"""

from __future__ import annotations

import tempfile
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import psutil
import torch
from measure import parser
from PIL import Image

from xdecoder.config import parse
from xdecoder.inference import drawing, tracking, video
from xdecoder.inference.predictor import Predictor
from xdecoder.seem.network import Seem, SeemConfig

SIZE = (640, 360)


def generate(path: Path, frames: int) -> None:
    """A square that moves over noise."""
    rng = np.random.default_rng(0)
    ground = rng.integers(80, 140, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    with video.writer(path, SIZE, Fraction(25)) as write:
        for number in range(frames):
            pixels, left = ground.copy(), 20 + number * 480 // frames
            pixels[100:220, left : left + 100] = (200, 30, 30)
            write(Image.fromarray(pixels))


def network(tiny: bool) -> Seem:
    torch.manual_seed(0)
    if not tiny:
        return Seem(SeemConfig(name="seem"))
    backbone = {"name": "focal", "width": 16, "depths": [1, 1, 1, 1], "levels": 2}
    pixels = {"name": "fpn", "width": 32, "layers": 1, "heads": 4, "hidden": 64}
    decoder = {"queries": 9, "layers": 3, "width": 32, "heads": 4, "hidden": 64, "joint_width": 32}
    language = {"merges": 500, "context_length": 24, "width": 32, "heads": 4, "layers": 1, "output_width": 32}
    small = {"name": "seem", "backbone": backbone, "pixel_decoder": pixels, "decoder": decoder, "language": language}
    return Seem(parse(SeemConfig, {**small, "image_size": 128}))


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--frames", type=int, default=300)
    options.add_argument("--objects", type=int, default=2)
    options.add_argument("--tiny", action="store_true", help="a small network, for what the film itself costs")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    process, held = psutil.Process(), []
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "film.mp4", Path(folder) / "tracked.mp4"
        generate(path, given.frames)
        film, predictor = video.open_film(path), Predictor(network(given.tiny))
        masks = torch.zeros(given.objects, SIZE[1], SIZE[0], dtype=torch.bool)
        masks[:, 120:200, 40:100] = True
        example = tracking.example_of(predictor, predictor.encode(film.frame(0)), masks)
        told = {"width": SIZE[0], "height": SIZE[1], "objects": given.objects}
        kept, names = tracking.kept_masks(Path(folder) / "masks.jsonl", told), tracking.names_of(given.objects)
        start, tenth = time.perf_counter(), max(given.frames // 10, 1)
        with video.writer(out, SIZE, film.rate) as write:
            for number, (image, found) in enumerate(tracking.track(predictor, film, example, given.objects, kept), start=1):
                write(drawing.draw_masks(image, found.masks, names).resize(SIZE))
                if number % tenth == 0:
                    held.append(process.memory_info().rss / 2**20)
                    print(
                        f"{number} frames: {number / (time.perf_counter() - start):.1f} frames/s, {held[-1]:.0f} MiB",
                        flush=True,
                    )
        seconds = time.perf_counter() - start
    half = len(held) // 2
    print(
        f"{given.frames / seconds:.2f} frames/s; most memory in the first half {max(held[:half]):.0f} MiB, "
        f"in the second {max(held[half:]):.0f} MiB"
    )


if __name__ == "__main__":
    main()
