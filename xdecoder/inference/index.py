"""Searching a folder of pictures by text: vectors of pictures and of their regions, on disk in parts.

A part holds some pictures and appears all at once, so whatever interrupts the work, no picture is lost or there twice: what is
in no part is encoded by the next run. A picture that has changed is encoded again, and its last entry counts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from xdecoder import rle
from xdecoder.files import atomic, images_below, read_json, write_json
from xdecoder.inference.picture import Picture
from xdecoder.inference.predictor import Predictor
from xdecoder.inference.viewing import BATCH
from xdecoder.integrity import digest_of
from xdecoder.regions import EverythingConfig
from xdecoder.tasks import retrieval

FORMAT = "xdecoder-index/1"
PART = 256  # pictures at most
WORTH = EverythingConfig()  # which regions are indexed

Tell = Callable[[int, int], None]  # pictures done, and all


@dataclass(frozen=True)
class Index:
    """What is known of a folder's pictures. Vectors are unit vectors."""

    folder: Path  # of the pictures
    names: tuple[str, ...]  # N paths below it
    images: Tensor  # (N, V, D) views of each picture
    regions: Tensor  # (R, D)
    owners: Tensor  # (R,) int64: whose region each is
    boxes: Tensor  # (R, 4) x, y, width, height in pixels


@dataclass(frozen=True)
class Hit:
    """A picture that fits a text."""

    name: str
    path: Path
    score: float  # cosine of the text and the picture, or its region
    box: tuple[int, int, int, int] | None = None  # of the region: x, y, width, height


def build(
    predictor: Predictor,
    folder: Path,
    target: Path,
    regions: EverythingConfig | None = WORTH,
    tell: Tell = lambda done, whole: None,
) -> int:
    """Index the pictures in and below a folder, as far as they are not; how many were encoded.

    Args:
        target: folder of the index.
        regions: which regions are indexed too; None = pictures alone.
        tell: is called after each batch.

    Raises:
        ValueError: for a folder without pictures, an index of another network or folder, and a network that compares no
            pictures with texts. Pictures that cannot be read are named in `Index`'s file `faults.json`.
    """
    predictor.able(retrieval.DESCRIPTOR)
    kept = regions and regions.model_dump(mode="json")
    about = {"format": FORMAT, "network": network_of(predictor), "folder": str(folder.absolute()), "regions": kept}
    if (target / "index.json").is_file() and (found := read_json(target / "index.json")) != about:
        key = next(key for key in about if not isinstance(found, dict) or found.get(key) != about[key])
        raise ValueError(f"{target}: an index with another {key}; name another place for this one")
    names = [str(name) for name in images_below(folder)]
    if not names:
        raise ValueError(f"{folder}: holds no picture")
    write_json(target / "index.json", about)
    parts = _parts(target)
    known = {name: stamp for part in parts for name, stamp in _listed(part).items()}
    now = {name: _stamp(folder / name) for name in names}
    waiting = [name for name in names if known.get(name) != now[name]]
    faults: dict[str, str] = {}
    number = int(parts[-1].stem) + 1 if parts else 0
    for start in range(0, len(waiting), PART):
        some = waiting[start : start + PART]
        rows = []
        for row in _encoded(predictor, folder, some, regions, faults):
            rows.append(row)
            tell(start + len(rows), len(waiting))
        _write(target / f"{number:06}.safetensors", rows, {name: now[name] for name in some})
        number += 1
    write_json(target / "faults.json", faults)
    return len(waiting) - len(faults)


def load(target: Path) -> Index:
    """An index, for `search`; pictures that are no longer in the folder are left out.

    Raises:
        ValueError: if there is none.
    """
    if not (target / "index.json").is_file():
        raise ValueError(f"{target}: no index there; `xdecoder index` makes one")
    folder = Path(read_json(target / "index.json")["folder"])
    last: dict[str, tuple[Path, int]] = {}
    for part in _parts(target):
        last |= {name: (part, place) for place, name in enumerate(_listed(part))}
    there = {name: where for name, where in last.items() if (folder / name).is_file()}
    names: list[str] = []
    rows: dict[str, list[Tensor]] = {"images": [], "regions": [], "owners": [], "boxes": []}
    for part in _parts(target):
        with safe_open(part, framework="pt") as file:
            held = {key: file.get_tensor(key) for key in ("images", "regions", "owners", "boxes", "read")}
        for place, name in enumerate(_listed(part)):
            if there.get(name) != (part, place) or not held["read"][place]:
                continue
            mine = held["owners"] == place
            rows["owners"].append(torch.full((int(mine.sum()),), len(names)))
            rows["images"].append(held["images"][place : place + 1])
            rows["regions"].append(held["regions"][mine])
            rows["boxes"].append(held["boxes"][mine])
            names.append(name)
    if not names:
        raise ValueError(f"{target}: an index without any picture that is still there")
    return Index(folder, tuple(names), **{key: torch.cat(held) for key, held in rows.items()})


@torch.inference_mode()
def search(
    predictor: Predictor, index: Index, text: str, count: int = 10, regions: bool = False, faiss: bool = False
) -> list[Hit]:
    """The pictures that fit a text best, in order.

    Args:
        regions: compare the text with regions, and find each picture by its best one.
        faiss: let faiss look for the nearest; by default all vectors are compared.

    Raises:
        ValueError: if faiss is not installed, or the index has no regions.
    """
    model = predictor.able(retrieval.DESCRIPTOR)
    query = F.normalize(model.language.encode([text]).vectors.float(), dim=-1)[0].cpu()
    if regions and not len(index.regions):
        raise ValueError("the index has no regions; make one with them")
    vectors = index.regions if regions else index.images.mean(dim=1)
    wanted = min(len(vectors), 8 * count if regions else count)
    scores, rows = _nearest(vectors, query, wanted, faiss)
    hits: dict[str, Hit] = {}
    for score, row in zip(scores, rows, strict=True):
        name = index.names[int(index.owners[row])] if regions else index.names[row]
        x, y, width, height = index.boxes[row].tolist() if regions else (0, 0, 0, 0)
        hits.setdefault(name, Hit(name, index.folder / name, score, (x, y, width, height) if regions else None))
    return list(hits.values())[:count]


def network_of(predictor: Predictor) -> str:
    """A digest of the network's weights: vectors of another one mean something else."""
    weights = {name: value.cpu() for name, value in predictor.model.state_dict().items()}
    return digest_of(weights, {})[:32]


def _nearest(vectors: Tensor, query: Tensor, count: int, faiss: bool) -> tuple[list[float], list[int]]:
    if not faiss:
        scores, rows = (vectors @ query).topk(count)
        return scores.tolist(), rows.tolist()
    try:
        import faiss as library  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        raise ValueError("faiss is not installed: pip install faiss-cpu") from None
    table = library.IndexFlatIP(vectors.shape[1])
    table.add(vectors.numpy())
    found, places = table.search(query[None].numpy(), count)
    return found[0].tolist(), places[0].tolist()


Row = dict[str, Any]


def _encoded(
    predictor: Predictor, folder: Path, names: Sequence[str], regions: EverythingConfig | None, faults: dict[str, str]
) -> Iterator[Row | None]:
    """What goes into a part of each picture; None for one that cannot be read."""
    for start in range(0, len(names), BATCH):
        pictures: list[Picture | None] = []
        for name in names[start : start + BATCH]:
            try:
                pictures.append(predictor.encode(folder / name))
            except ValueError as error:
                faults[name] = str(error)
                pictures.append(None)
        predictor.look([picture for picture in pictures if picture], retrieval.DESCRIPTOR)
        for picture in pictures:
            yield None if picture is None else _row(picture, predictor, regions)


@torch.inference_mode()
def _row(picture: Picture, predictor: Predictor, regions: EverythingConfig | None) -> Row:
    both = predictor.tasks.of(retrieval.DESCRIPTOR.name).backbone_view
    row: Row = {"image": retrieval.image_vectors(picture.view(retrieval.DESCRIPTOR), both)[0].cpu()}
    if regions:
        found = picture.everything(config=regions)
        row |= {"vectors": found.vectors, "boxes": [rle.describe(mask.numpy())["bbox"] for mask in found.masks]}
    return row


def _write(path: Path, rows: Sequence[Row | None], stamps: dict[str, list[int]]) -> None:
    read = [row for row in rows if row is not None]
    image = read[0]["image"] if read else torch.zeros(1, 1)
    vectors = [row["vectors"] for row in read if "vectors" in row]
    boxes = [box for row in read for box in row.get("boxes", ())]
    owners = [place for place, row in enumerate(rows) if row is not None for _ in row.get("boxes", ())]
    tensors = {
        "images": torch.stack([torch.zeros_like(image) if row is None else row["image"] for row in rows]),
        "regions": torch.cat(vectors) if vectors else torch.zeros(0, image.shape[-1]),
        "owners": torch.tensor(owners, dtype=torch.int64),
        "boxes": torch.tensor(boxes, dtype=torch.int64).view(-1, 4),
        "read": torch.tensor([row is not None for row in rows]),
    }
    with atomic(path) as file:
        file.write(to_safetensors(tensors, {"pictures": json.dumps(stamps)}))


def _parts(target: Path) -> list[Path]:
    return sorted(target.glob("[0-9]*.safetensors"))


def _listed(part: Path) -> dict[str, list[int]]:
    """Names of a part's pictures, in order, and what their files were like."""
    try:
        with safe_open(part, framework="pt") as file:
            listed: dict[str, list[int]] = json.loads((file.metadata() or {})["pictures"])
            return listed
    except Exception:  # a damaged file fails in every way there is
        raise ValueError(f"{part}: no part of an index, or damaged; delete it, and its pictures are encoded again") from None


def _stamp(path: Path) -> list[int]:
    """Tells a file from another that has taken its place."""
    known = path.stat()
    return [known.st_size, known.st_mtime_ns]
