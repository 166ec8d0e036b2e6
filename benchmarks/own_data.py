"""From photographs to a report, beside `yolo segment train`: the same pictures, as many steps, one command each.

python benchmarks/own_data.py --coco FOLDER [--yolo COMMAND] [--images 58] [--classes 8] [--epochs 4] [--batch 4] [--size 256]

FOLDER holds a COCO set (annotations/instances_*.json and pictures). Its commonest classes are written in YOLO's format, which
both read; every fifth picture is measured on. Both learn from nothing. YOLO's command may come from another environment
(pip install ultralytics). Seconds of the clock, and of the processor with all child processes, which other work on the machine
changes less.
"""

from __future__ import annotations

import json
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measure
import yaml

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Photographs:
    """A part of a COCO set: its commonest classes, and pictures that have some of them."""

    images: list[dict[str, Any]]
    rows: dict[int, list[dict[str, Any]]]  # outlines by picture
    names: dict[int, str]  # by COCO's number of the class, in YOLO's order

    @classmethod
    def read(cls, coco: Path, images: int, classes: int) -> Photographs:
        """The first so many."""
        content = json.loads(next((coco / "annotations").glob("instances_*.json")).read_text(encoding="utf-8"))
        rows = [row for row in content["annotations"] if isinstance(row["segmentation"], list)]
        seen = Counter(category for _, category in {(row["image_id"], row["category_id"]) for row in rows})
        called = {row["id"]: row["name"] for row in content["categories"]}
        names = {number: called[number] for number, _ in seen.most_common(classes)}
        outlined: dict[int, list[dict[str, Any]]] = {}
        for row in rows:
            if row["category_id"] in names:
                outlined.setdefault(row["image_id"], []).append(row)
        return cls([image for image in content["images"] if image["id"] in outlined][:images], outlined, names)

    def write(self, coco: Path, folder: Path) -> int:
        """Write them as YOLO's data, every fifth to be measured on; how many are learnt from."""
        for number, image in enumerate(self.images):
            split = "train" if number % 5 else "val"
            source = next(coco.rglob(image["file_name"]))
            for kind in ("images", "labels"):
                (folder / kind / split).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / "images" / split / source.name)
            (folder / "labels" / split / f"{source.stem}.txt").write_text("".join(self._lines(image)), encoding="utf-8")
        about = {"path": str(folder), "train": "images/train", "val": "images/val", "names": list(self.names.values())}
        (folder / "data.yaml").write_text(yaml.safe_dump(about), encoding="utf-8")
        return sum(number % 5 > 0 for number in range(len(self.images)))

    def _lines(self, image: dict[str, Any]) -> Iterator[str]:
        size, order = (image["width"], image["height"]), list(self.names)
        for row in self.rows[image["id"]]:
            for ring in row["segmentation"]:
                points = " ".join(f"{value / size[i % 2]:.6f}" for i, value in enumerate(ring))
                yield f"{order.index(row['category_id'])} {points}\n"


def timed(line: Sequence[str], threads: int) -> dict[str, Any]:
    """Seconds of the clock and of the processor, child processes included, that a command takes."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "YOLO_OFFLINE": "true"}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(line, env=environment, check=True, stdout=sys.stderr, cwd=ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": time.perf_counter() - start, "processor seconds": processor}


def main() -> None:
    options = measure.parser(__doc__)
    options.set_defaults(threads=1)
    options.add_argument("--coco", type=Path, required=True, metavar="FOLDER")
    options.add_argument("--yolo", default="yolo", metavar="COMMAND")
    options.add_argument("--model", default="yolo11n-seg.yaml", help="theirs (default: %(default)s)")
    options.add_argument("--output", type=Path, metavar="FOLDER", help="where runs are kept (default: nowhere)")
    for name, value in (("images", 58), ("classes", 8), ("epochs", 4), ("batch", 4), ("size", 256)):
        options.add_argument(f"--{name}", type=int, default=value, metavar="N", help="(default: %(default)s)")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (given.output or Path(temporary)).absolute()
        learnt = Photographs.read(given.coco, given.images, given.classes).write(given.coco, folder / "data")
        steps = given.epochs * math.ceil(learnt / given.batch)
        transform = "{name: lsj, size: SIZE, min_scale: 0.8, max_scale: 1.25}".replace("SIZE", str(given.size))
        ours = [sys.executable, "-m", "xdecoder", "train", str(folder / "data"), "--output", str(folder / "ours"), "--fresh"]
        ours += [f"trainer.steps={steps}", f"data.train.0.batch_size={given.batch}", f"data.train.0.transform={transform}"]
        ours += [f"data.evaluate.0.transform.size={given.size}", "trainer.device=cpu"]
        ours += [f"trainer.evaluate_every={math.ceil(learnt / given.batch)}"]  # as theirs, after each epoch
        theirs = [given.yolo, "segment", "train", f"data={folder / 'data/data.yaml'}", f"model={given.model}", "device=cpu"]
        theirs += [f"epochs={given.epochs}", f"batch={given.batch}", f"imgsz={given.size}", "pretrained=False", "workers=0"]
        theirs += [f"project={folder}", "name=theirs", "exist_ok=True"]
        figures = {"xdecoder train": timed(ours, given.threads), "yolo segment train": timed(theirs, given.threads)}
        written = {name: sorted(path.name for path in (folder / name).iterdir()) for name in ("ours", "theirs")}
    measure.report(figures, steps=steps, load=os.getloadavg()[0], written=written)


if __name__ == "__main__":
    main()
