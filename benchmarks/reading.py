"""How long readers and the doctor take with large sets: 100 000 generated annotations of 20 000 images in each format.

python benchmarks/reading.py [--against CHECKOUT] [--only instances,yolo]

With another checkout, such as one from before a change (`git archive COMMIT | tar x -C CHECKOUT`), both read the same files in
turns, each in a process of its own; what counts is processor time, of which the least of all rounds is taken.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parents[1]
HEIGHT, WIDTH, CLASSES, PER_IMAGE = 480, 640, 80, 5
NAMES = [f"class {i}" for i in range(1, CLASSES + 1)]
SETS: dict[str, dict[str, Any]] = {
    "instances": {"reader": "coco", "instances": "instances.json"},
    "run lengths": {"reader": "coco", "instances": "run_lengths.json"},
    "panoptic": {"reader": "coco", "panoptic": "panoptic.json", "panoptic_images": "images"},
    "phrases": {"reader": "coco", "phrases": "phrases.json"},
    "captions": {"reader": "coco", "captions": "captions.json"},
    "yolo": {"reader": "yolo", "labels": "labels", "classes": NAMES},
}
DOCTOR = ("instances", "run lengths", "yolo")  # the other sets would need label images of their own
WORK = """
import json, sys, time
from pathlib import Path
from datasets.check.__main__ import check
from datasets.readers import read
from datasets.spec import DatasetSpec
from xdecoder.config import parse
sets, doctor, root = json.loads(sys.argv[1]), json.loads(sys.argv[2]), Path(sys.argv[3])
found = {}
for name, fields in sets.items():
    spec = parse(DatasetSpec, {"name": "large", "images": "images", **fields})
    start = time.process_time()
    assert len(read(spec, root).records) > 0
    found[name] = time.process_time() - start
    if name in doctor:
        start = time.process_time()
        checked = check(spec, root)
        assert checked.source is not None and not checked.findings, checked.findings
        found["doctor, " + name] = time.process_time() - start
print(json.dumps(found))
"""


def generate(root: Path, annotations: int) -> None:
    """Polygons of 8 to 40 corners, the same as run lengths of boxes, sentences; all images are one file of many names."""
    rng, count = np.random.default_rng(0), max(annotations // PER_IMAGE, 1)
    for folder in ("images", "labels"):
        (root / folder).mkdir()
    names = [f"{i:06}.jpg" for i in range(1, count + 1)]
    Image.fromarray(rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(root / "images" / names[0])
    for name in names[1:]:
        os.link(root / "images" / names[0], root / "images" / name)
    rows, lines = [], [[] for _ in names]
    for number in range(1, annotations + 1):
        outline = _polygon(rng)
        image, category = (number - 1) % count, int(rng.integers(1, CLASSES + 1))
        rows.append({"id": number, "image_id": image + 1, "category_id": category, "segmentation": [outline], "area": 1000.0})
        shares = " ".join(f"{value / (WIDTH, HEIGHT)[i % 2]:.6f}" for i, value in enumerate(outline))
        lines[image].append(f"{category - 1} {shares}")
    for name, texts in zip(names, lines, strict=True):
        (root / "labels" / name).with_suffix(".txt").write_text("\n".join(texts))
    listed = [{"id": i, "file_name": name, "height": HEIGHT, "width": WIDTH} for i, name in enumerate(names, start=1)]
    kinds = [{"id": i, "name": name, "isthing": 1} for i, name in enumerate(NAMES, start=1)]
    boxes = [{**row, "segmentation": {"size": [HEIGHT, WIDTH], "counts": _box(rng)}} for row in rows]
    said = [{**row, "sentences": [{"raw": f"the one of number {row['id']}"}]} for row in rows]
    captions = [{"id": row["id"], "image_id": row["image_id"], "caption": f"a caption of number {row['id']}"} for row in rows]
    segments = [{"image_id": i, "file_name": name, "segments_info": []} for i, name in enumerate(names, start=1)]
    for row in rows:
        info = {"id": row["id"], "category_id": row["category_id"], "iscrowd": 0, "area": 1000}
        segments[row["image_id"] - 1]["segments_info"].append(info)
    files = {"instances": rows, "run_lengths": boxes, "phrases": said, "captions": captions, "panoptic": segments}
    for name, held in files.items():
        (root / f"{name}.json").write_text(json.dumps({"images": listed, "annotations": held, "categories": kinds}))


def _polygon(rng: np.random.Generator) -> list[float]:
    turns = np.sort(rng.random(int(rng.integers(8, 41)))) * 2 * np.pi
    corners = rng.random(2) * (500, 340) + 70 + 50 * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    return corners.round(2).ravel().tolist()


def _box(rng: np.random.Generator) -> list[int]:
    """Run lengths, column by column, of a box of 40 columns."""
    left, top, high = int(rng.integers(10, 590)), int(rng.integers(10, 400)), int(rng.integers(4, 60))
    runs = [left * HEIGHT + top, *([high, HEIGHT - high] * 40)[:-1]]
    return [*runs, HEIGHT * WIDTH - sum(runs)]


def seconds(checkout: Path, root: Path, names: list[str]) -> dict[str, float]:
    """Processor time that a checkout needs for each of the sets."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    sets, doctor = json.dumps({name: SETS[name] for name in names}), json.dumps(DOCTOR)
    command = [sys.executable, "-c", WORK, sets, doctor, str(root)]
    done = subprocess.run(command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    times: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="another checkout to compare with")
    parser.add_argument("--annotations", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(SETS), help="formats with commas between them (default: all)")
    options = parser.parse_args()
    checkouts = [HERE, options.against.resolve()] if options.against else [HERE]
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder), options.annotations)
        rounds: list[list[dict[str, float]]] = [[] for _ in checkouts]
        for _ in range(options.rounds):
            for checkout, times in zip(checkouts, rounds, strict=True):
                times.append(seconds(checkout, Path(folder), options.only.split(",")))
    print(f"{'seconds':24}", *(f"{path.name:>12}" for path in checkouts), "ratio" if options.against else "")
    for name in rounds[0][0]:
        best = [min(each[name] for each in times) for times in rounds]
        print(f"{name:24}", *(f"{value:12.2f}" for value in best), f"{best[0] / best[1]:.2f}" if options.against else "")


if __name__ == "__main__":
    main()
