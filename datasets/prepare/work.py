"""What all preparations share: one result a picture, with progress, in parallel, going on where it was interrupted."""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xdecoder.boxes import box_around
from xdecoder.files import atomic
from xdecoder.images import decode

Json = dict[str, Any]


def each(items: Iterable[str] | Mapping[str, Any], make: Callable[[Any], Any], ledger: Path, workers: int = 1) -> list[Any]:
    """make(item) for every item, or for what stands under its name, in order.

    Results (JSON values) are noted in `ledger` one by one, so that after an interruption only what is not noted yet is made;
    the caller removes the ledger when all is written.

    Raises:
        ValueError, OSError: the first that `make` raised; what was made until then stays noted.
    """
    items = items if isinstance(items, Mapping) else {item: item for item in items}
    done = _noted(ledger)
    todo = [item for item in items if item not in done]
    ledger.parent.mkdir(parents=True, exist_ok=True)
    shown, start = 0.0, time.monotonic()
    with open(ledger, "a", encoding="utf-8") as notes:
        for count, (item, result) in enumerate(zip(todo, _made([items[key] for key in todo], make, workers)), start=1):
            notes.write(json.dumps([item, result]) + "\n")
            notes.flush()
            done[item] = result
            now = time.monotonic()
            if now - shown > 1 or count == len(todo):
                left = (now - start) / count * (len(todo) - count)
                print(f"\r{ledger.stem}: {len(done)} of {len(items)}, {left:.0f} s left ", end="", file=sys.stderr, flush=True)
                shown = now
    if todo:
        print(file=sys.stderr)
    return [done[item] for item in items]


def make_images(paths: Mapping[Path, Any], make: Callable[[tuple[Path, Any]], None], title: str, workers: int = 1) -> None:
    """make((path, what it is made from)) for every image that is not there yet; an image is written whole or not at all."""
    todo = {str(path): (path, given) for path, given in paths.items() if not path.is_file()}
    if todo:
        ledger = next(iter(paths)).parent / f".{title}.part"
        each(todo, make, ledger, workers)
        ledger.unlink()


def _noted(ledger: Path) -> dict[str, Any]:
    """Results of an earlier run; a line that was being written when it ended does not count, and is cut off."""
    if not ledger.is_file():
        return {}
    text = ledger.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        with atomic(ledger, "w") as file:
            file.write(whole)
    return dict(json.loads(line) for line in whole.splitlines())


def _made(items: Sequence[Any], make: Callable[[Any], Any], workers: int) -> Iterable[Any]:
    if workers < 2 or len(items) < 2:
        yield from map(make, items)
        return
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context(method)) as pool:
        with warnings.catch_warnings():
            # Python 3.12 warns of forking beside threads; the workers use nothing of the parent's.
            warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
            results = pool.map(make, items, chunksize=4)
        try:
            yield from results
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def files_below(folder: Path, pattern: str, hint: str) -> list[Path]:
    """Files of a folder that match, in order; raises ValueError with the hint where there is none."""
    paths = sorted(folder.glob(pattern))
    if not paths:
        raise ValueError(f"{folder}: holds no {pattern}; {hint}")
    return paths


def read_values(path: Path) -> NDArray[np.int64]:
    """(H, W) or (H, W, C) numbers of an image; raises ValueError for a damaged one."""
    return np.array(decode(path, "image")).astype(np.int64)


def write_image(path: Path, image: Image.Image, **options: Any) -> None:
    """Save an image atomically, in the format that its suffix says."""
    formats = {".png": "PNG", ".tif": "TIFF", ".jpg": "JPEG"}
    with atomic(path) as file:
        image.save(file, formats[path.suffix], **options)


def write_panoptic(path: Path, ids: NDArray[np.int64]) -> None:
    """A panoptic PNG: id = R + 256 G + 65536 B."""
    colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    write_image(path, Image.fromarray(colours))


def segments_info(ids: NDArray[np.int64], classes: dict[int, tuple[int, int]]) -> list[Json]:
    """COCO's `segments_info` of a map of ids, 0 = void. `classes`: id -> category id and whether it is a crowd."""
    infos = []
    for key in np.unique(ids).tolist():
        if key:
            category, crowd = classes[key]
            mask = ids == key
            infos.append({"id": key, "category_id": category, "iscrowd": crowd, "area": int(mask.sum()), "bbox": box(mask)})
    return infos


def box(mask: NDArray[np.bool_]) -> list[int]:
    """x, y, width and height of the smallest box around a mask."""
    around = box_around(mask)
    assert around is not None, "a region has pixels"
    left, top, right, bottom = around
    return [left, top, right - left, bottom - top]


def outline(mask: NDArray[np.bool_]) -> Json:
    """The mask's run lengths as COCO's JSONs have them."""
    from pycocotools import mask as rle

    code = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(code["size"]), "counts": code["counts"].decode("ascii")}


def categories(vocabulary: str, offset: int | None = None) -> list[Json]:
    """COCO's `categories` of a class list: by its ids, or by places counted from `offset`."""
    from xdecoder.language import vocabularies

    found = vocabularies.load(vocabulary)
    keys = found.ids if offset is None else range(offset, offset + len(found.ids))
    rows = zip(keys, found.vocabulary.names, found.vocabulary.is_thing, strict=True)
    return [{"id": key, "name": name, "isthing": int(thing)} for key, name, thing in rows]
