"""How long it takes to read a large set: 100 000 generated annotations of 20 000 images.

python benchmarks/reading.py [--against CHECKOUT]

With another checkout, such as one from before a change, both read the same file in turns, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parents[1]
READ = """
import sys, time
from pathlib import Path
from datasets.readers import read
from datasets.spec import DatasetSpec
from xdecoder.config import parse
spec = parse(DatasetSpec, {"name": "large", "reader": "coco", "images": "images", "instances": "instances.json"})
start = time.process_time()
source = read(spec, Path(sys.argv[1]))
print(time.process_time() - start, sum(len(record.regions) for record in source.records))
"""


def generate(root: Path, images: int, annotations: int) -> None:
    """Polygons of 8 to 40 corners."""
    rng = np.random.default_rng(0)
    (root / "images").mkdir()
    rows = []
    for number in range(annotations):
        turns = np.sort(rng.random(int(rng.integers(8, 41)))) * 2 * np.pi
        corners = rng.random(2) * (500, 340) + 70 + 50 * np.stack([np.cos(turns), np.sin(turns)], axis=1)
        outline = corners.round(2).ravel().tolist()
        image, category = int(rng.integers(1, images + 1)), int(rng.integers(1, 81))
        rows.append({"id": number + 1, "image_id": image, "category_id": category, "segmentation": [outline], "area": 1000.0})
    listed = [{"id": i, "file_name": f"{i:06}.jpg", "height": 480, "width": 640} for i in range(1, images + 1)]
    categories = [{"id": i, "name": f"class {i}"} for i in range(1, 81)]
    content = {"images": listed, "annotations": rows, "categories": categories}
    (root / "instances.json").write_text(json.dumps(content))


def seconds(checkout: Path, root: Path) -> float:
    """Processor time that a checkout needs to read the set."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", READ, str(root)], cwd=root, env=environment, capture_output=True, text=True, check=True
    )
    return float(done.stdout.split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="another checkout to compare with")
    parser.add_argument("--annotations", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    checkouts = [HERE, options.against.resolve()] if options.against else [HERE]
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder), options.annotations // 5, options.annotations)
        times: dict[Path, list[float]] = {checkout: [] for checkout in checkouts}
        for _ in range(options.rounds):
            for checkout in checkouts:
                times[checkout].append(seconds(checkout, Path(folder)))
    best = [min(times[checkout]) for checkout in checkouts]
    for checkout, time in zip(checkouts, best, strict=True):
        print(f"{checkout}: {time:.2f} s for {options.annotations} annotations")
    if options.against:
        print(f"ratio {best[0] / best[1]:.2f}")


if __name__ == "__main__":
    main()
