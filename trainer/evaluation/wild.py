"""Segmentation in the Wild: one score over 25 sets, and the zip that its server takes.

The zip holds `seginw_<set>_val.json` for each set, a list of COCO's results with the set's own category ids from 0, and
`ade.json` with figures on ADE20K where those were measured.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from statistics import mean, median
from tempfile import TemporaryDirectory

from datasets.catalog.wild import NAMES
from xdecoder.files import atomic

PREFIX, SUFFIX = "seginw_", "_val"
MOST_BYTES = 4_000_000_000  # of all that a zip holds, unpacked
ADE = {
    "ADE150-mIoU": "ade20k_panoptic_val/mIoU",
    "ADE150-PQ": "ade20k_panoptic_val/PQ",
    "ADE150-mAP": "ade20k_panoptic_val/AP",
    "ADE847-mIoU": "ade20k_full_sem_seg_val/mIoU",
}
"""What the server calls figures on ADE20K, and what we do."""

_DATE = (2000, 1, 1, 0, 0, 0)  # the same answers make the same file


def aggregate(results: Mapping[str, float]) -> dict[str, float]:
    """Mean and median AP over the sets that were measured; only those over all 25 bear the benchmark's name.

    A set in which nothing was found counts 0, also where its own score is undefined.
    """
    scores = [
        0.0 if math.isnan(value) else value
        for name, value in results.items()
        if name.startswith(PREFIX) and name.endswith(f"{SUFFIX}/AP")
    ]
    if len(scores) < 2:
        return {}
    name = "seginw" if len(scores) == len(NAMES) else f"wild_{len(scores)}_of_{len(NAMES)}"
    return {f"{name}/AP_mean": mean(scores), f"{name}/AP_median": median(scores)}


def pack(folder: Path, results: Mapping[str, float]) -> Path | None:
    """Put predictions on the sets into `folder`/seginw.zip; None where there are none."""
    files = sorted(folder.glob(f"{PREFIX}*{SUFFIX}.json"))
    if not files:
        return None
    figures = {name: f"{results[ours]:.2f}" for name, ours in ADE.items() if ours in results}
    target = folder / "seginw.zip"
    with atomic(target) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            archive.writestr(_entry(path.name), path.read_bytes())
        if figures:
            archive.writestr(_entry("ade.json"), json.dumps(figures))
    return target


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """A folder with the predictions of a zip, under the names that `eval.py score` knows.

    Raises:
        ValueError: for a file that is no such zip: anything but JSON in it, a set that the benchmark has not, or too much.
    """
    with TemporaryDirectory(prefix="seginw-") as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                entries = [entry for entry in archive.infolist() if not entry.is_dir()]
                if sum(entry.file_size for entry in entries) > MOST_BYTES:
                    raise ValueError(f"{path}: holds more than {MOST_BYTES} bytes")
                for entry in entries:
                    if name := _set_of(entry.filename, path):
                        (Path(folder) / f"{PREFIX}{name}{SUFFIX}.json").write_bytes(archive.read(entry))
        except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError, EOFError) as error:
            raise ValueError(f"{path}: not a readable zip ({error})") from None
        yield Path(folder)


def _set_of(entry: str, path: Path) -> str | None:
    """Which set an entry is about, by the server's rule; None for the figures on ADE20K."""
    file = PurePosixPath(entry).name
    if not file.endswith(".json"):
        raise ValueError(f"{path}: {entry[:80]!r} is no JSON; the zip holds {PREFIX}<set>{SUFFIX}.json files and ade.json")
    if file == "ade.json":
        return None
    name = file.partition(".")[0].replace(PREFIX, "").replace(SUFFIX, "")
    if name not in NAMES:
        raise ValueError(f"{path}: {entry[:80]!r} is about none of the 25 sets, such as {PREFIX}{NAMES[0]}{SUFFIX}.json")
    return name


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _DATE)
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry
