"""Pictures a second of the segmentation stream (large-scale jitter to 1024 pixels), beside plain Pillow and NumPy.

python benchmarks/loader_lsj.py [--images 80] [--workers 2] [--root ../shared/data]

Both make the same samples of the same pictures with the same views in one run, and are checked to agree. Time is the
processor's own, so that the figures are per core and hold on a busy machine; only what the loader delivers with its worker
processes is by the clock. Without real pictures under the root, some are generated.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the rooms beside this one are not installed

import cv2
import numpy as np
import torch
from PIL import Image

from datasets import loader
from datasets.catalog import find
from datasets.dataset import ImageDataset
from datasets.loader import train_loader
from datasets.readers.coco import CocoSpec
from datasets.records import Record
from datasets.spec import DatasetSpec
from datasets.streams import StreamConfig
from datasets.transforms import LargeScaleJitter, View
from xdecoder.config import parse
from xdecoder.files import write_json

JITTER = LargeScaleJitter()
STAGES = ("decode", "resize", "rest")
SEED = 0


class Stopwatch:
    """Processor seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.process_time()
        yield
        self.seconds[stage] += time.process_time() - start

    def around(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*given: Any, **named: Any) -> Any:
            with self(stage):
                return function(*given, **named)

        return timed


def plain(record: Record, rng: np.random.Generator, watch: Stopwatch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A training sample as one writes it first: picture (3, 1024, 1024), masks (N, 1024, 1024), labels (N,)."""
    assert isinstance(record.image, Path) and record.id_map is not None and record.regions is not None
    with watch("decode"):
        pixels = np.asarray(Image.open(record.image).convert("RGB"))
        colours = np.asarray(Image.open(record.id_map).convert("RGB"))
    view = JITTER.view((pixels.shape[0], pixels.shape[1]), rng)
    with watch("resize"):
        size = view.resized[::-1]
        pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
        colours = np.asarray(Image.fromarray(colours).resize(size, Image.Resampling.NEAREST))
        if view.mirrored:
            pixels, colours = pixels[:, ::-1], colours[:, ::-1]
        (top, left), (height, width) = view.corner, view.size
        pixels, colours = (array[top : top + height, left : left + width] for array in (pixels, colours))
        beside = ((0, height - pixels.shape[0]), (0, width - pixels.shape[1]), (0, 0))
        pixels, colours = np.pad(pixels, beside, constant_values=128), np.pad(colours, beside)
    ids = colours[..., 0] + 256 * colours[..., 1].astype(np.int32) + 65536 * colours[..., 2].astype(np.int32)
    found = [(ids == region.id, region.label) for region in record.regions if not region.crowd]
    kept = [(mask, label) for mask, label in found if mask.any()]
    masks = np.stack([mask for mask, _ in kept]) if kept else np.zeros((0, height, width), dtype=bool)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)), masks, np.array([label for _, label in kept], dtype=np.int64)


def measure(dataset: ImageDataset, count: int) -> dict[str, dict[str, float]]:
    """Processor milliseconds a picture by stage, of plain code and of ours, picture by picture in turn."""
    watches = {"Pillow + NumPy": Stopwatch(), "ours": Stopwatch()}
    ours, total = watches["ours"], dict.fromkeys(watches, 0.0)
    with ours_timed(ours):
        for number in range(-3, count):  # the first few warm up
            index = number % len(dataset)
            if number == 0:
                total = dict.fromkeys(total, 0.0)
                for watch in watches.values():
                    watch.seconds.clear()
            start = time.process_time()
            rng = np.random.default_rng((SEED, number + 3, index))
            expected = plain(dataset.records[index], rng, watches["Pillow + NumPy"])
            middle = time.process_time()
            sample = dataset[index, number + 3]
            end = time.process_time()
            total["Pillow + NumPy"] += middle - start
            total["ours"] += end - middle
            check(sample, *expected)
    figures = {}
    for name, watch in watches.items():
        stages = {stage: watch.seconds[stage] / count * 1e3 for stage in ("decode", "resize")}
        figures[name] = stages | {"rest": total[name] / count * 1e3 - sum(stages.values()), "all": total[name] / count * 1e3}
    return figures


@contextmanager
def ours_timed(watch: Stopwatch) -> Iterator[None]:
    """While it lasts, the loader's reading and resizing are timed."""
    places: list[tuple[Any, str, str]] = [
        (loader, "read_image", "decode"),
        (loader, "read_regions", "decode"),
        (View, "image", "resize"),
        (View, "maps", "resize"),
    ]
    before = [getattr(owner, name) for owner, name, _ in places]
    try:
        for (owner, name, stage), function in zip(places, before, strict=True):
            setattr(owner, name, watch.around(stage, function))
        yield
    finally:
        for (owner, name, _), function in zip(places, before, strict=True):
            setattr(owner, name, function)


def check(sample: Any, pixels: np.ndarray, masks: np.ndarray, labels: np.ndarray) -> None:
    """Whether two samples are the same but for rounding.

    Labels may differ where a pixel's centre falls on the very border of two of the original's: Pillow's sum of floating-point
    steps ends up on either side.
    """
    ours = (sample.segments.masks.numpy() * (sample.segments.labels.numpy()[:, None, None] + 1)).sum(axis=0)
    assert float((ours != (masks * (labels[:, None, None] + 1)).sum(axis=0)).mean()) < 0.01
    assert int(np.abs(sample.image.numpy().astype(np.int16) - pixels).max()) <= 2


def clocked(root: Path, spec: DatasetSpec, workers: int, batches: int = 12) -> float:
    """Pictures a second by the clock that the loader delivers with worker processes, after its start."""
    stream = parse(
        StreamConfig,
        {
            "dataset": spec.model_dump(),
            "tasks": ["segmentation"],
            "batch_size": 4,
            "transform": JITTER.model_dump(),
        },
    )
    found = train_loader(stream, root, workers=workers)
    for _ in islice(found, 2 * workers + 1):
        pass
    start = time.monotonic()
    images = sum(len(batch) for batch in islice(found, batches))
    return images / (time.monotonic() - start)


def generate(root: Path, count: int = 40, regions: int = 11) -> DatasetSpec:
    """Pictures of COCO's size with as many regions as COCO's have."""
    rng = np.random.default_rng(SEED)
    images, annotations = [], []
    for folder in ("images", "maps"):
        (root / folder).mkdir()
    rows, columns = np.mgrid[:480, :640]
    for number in range(count):
        centres = rng.uniform((0, 0), (480, 640), (regions, 2))
        nearest = np.stack([np.hypot(rows - y, columns - x) for y, x in centres]).argmin(axis=0) + 1
        noise = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((640, 480), Image.Resampling.BICUBIC).save(root / f"images/{number}.jpg", quality=92)
        colours = np.stack([nearest, nearest * 7 % 256, 0 * nearest], axis=-1).astype(np.uint8)
        Image.fromarray(colours).save(root / f"maps/{number}.png")
        images.append({"id": number, "file_name": f"{number}.jpg", "height": 480, "width": 640})
        infos = [{"id": int(i + 256 * (i * 7 % 256)), "category_id": int(i)} for i in range(1, regions + 1)]
        annotations.append({"image_id": number, "file_name": f"{number}.png", "segments_info": infos})
    categories = [{"id": i, "name": f"class {i}", "isthing": 1} for i in range(1, regions + 1)]
    write_json(root / "panoptic.json", {"images": images, "annotations": annotations, "categories": categories})
    return CocoSpec(name="generated", images="images", panoptic="panoptic.json", panoptic_images="maps")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=80, help="how many are measured")
    parser.add_argument("--workers", type=int, default=2, help="worker processes of the last row; 0 leaves it out")
    parser.add_argument("--root", type=Path, default=ROOT.parent / "shared/data", help="holds coco_panoptic")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as made:
        real = (arguments.root / "coco_panoptic").is_dir()
        root, spec = (arguments.root, find("coco_kit_train")) if real else (Path(made), generate(Path(made)))
        dataset = ImageDataset(spec, root, JITTER, ["segmentation"], training=True, seed=SEED)
        figures = measure(dataset, arguments.images)
        clock = clocked(root, spec, arguments.workers) if arguments.workers else None
    print(f"{spec.name}: {arguments.images} pictures, milliseconds of one core for each\n")
    print(f"{'':16}" + "".join(f"{name:>11}" for name in (*STAGES, "all", "pictures/s")))
    for name, times in figures.items():
        print(f"{name:16}" + "".join(f"{times[stage]:11.1f}" for stage in (*STAGES, "all")) + f"{1e3 / times['all']:11.1f}")
    ratio = figures["Pillow + NumPy"]["all"] / figures["ours"]["all"]
    print(f"\n{ratio:.2f} times as fast")
    if clock:
        print(f"{arguments.workers} workers deliver {clock:.1f} pictures/s by the clock")
    result = {"set": spec.name, "milliseconds": figures, "ratio": ratio, "workers": arguments.workers, "clocked": clock}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
