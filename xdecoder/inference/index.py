"""Searching a folder of pictures by text: vectors of pictures and of their regions, on disk in parts.

A part holds some pictures and appears all at once, so whatever interrupts the work, no picture is lost or there twice: what is
in no part is encoded by the next run. A picture that has changed is encoded again, and its last entry counts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Literal

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from xdecoder import rle
from xdecoder.config import Config, parse
from xdecoder.files import atomic, images_below, read_json, write_json
from xdecoder.inference.picture import Picture
from xdecoder.inference.predictor import Predictor
from xdecoder.inference.viewing import BATCH
from xdecoder.integrity import digest_of_network
from xdecoder.regions import EverythingConfig
from xdecoder.tasks import retrieval

ABOUT = "index.json"
FAULTS = "faults.json"  # names the pictures that could not be read
PART = 256  # pictures at most
WORTH = EverythingConfig()  # which regions are indexed

Tell = Callable[[int, int], None]  # pictures done, and all


@dataclass(frozen=True)
class Index:
    """What is known of a folder's pictures, of which there is at least one. Vectors are unit vectors."""

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


class _About(Config):
    """What an index's first file says: what its vectors are of."""

    format: Literal["xdecoder-index/1"] = "xdecoder-index/1"
    network: str  # a digest
    folder: str
    regions: EverythingConfig | None  # which are indexed; None = none


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
            pictures with texts. Pictures that cannot be read are named in its file FAULTS.
    """
    predictor.able(retrieval.DESCRIPTOR)
    about = _About(network=digest_of_network(predictor.model), folder=str(folder.absolute()), regions=regions)
    if (target / ABOUT).is_file() and (found := _about(target)) != about:
        key = next(key for key in _About.model_fields if getattr(found, key) != getattr(about, key))
        raise ValueError(f"{target}: an index with another {key}; name another place for this one")
    names = [str(name) for name in images_below(folder)]
    if not names:
        raise ValueError(f"{folder}: holds no picture")
    write_json(target / ABOUT, about.model_dump(mode="json"))
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
    write_json(target / FAULTS, faults)
    return len(waiting) - len(faults)


def load(target: Path, predictor: Predictor) -> Index:
    """An index, for `search` by the network that made it; pictures that are no longer in the folder are left out.

    Raises:
        ValueError: if there is none, it is damaged, or of another network.
    """
    if not (target / ABOUT).is_file():
        raise ValueError(f"{target}: no index there; `xdecoder index` makes one")
    about = _about(target)
    if about.network != digest_of_network(predictor.model):
        raise ValueError(f"{target}: an index of another network; make one with this one")
    folder = Path(about.folder)
    last: dict[str, tuple[Path, int]] = {}
    for part in _parts(target):
        last |= {name: (part, place) for place, name in enumerate(_listed(part))}
    there = {name: where for name, where in last.items() if (folder / name).is_file()}
    names: list[str] = []
    rows: dict[str, list[Tensor]] = {"images": [], "regions": [], "owners": [], "boxes": []}
    for part in _parts(target):
        held = _tensors(part)
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
    if len({row.shape[1:] for row in rows["images"]}) > 1 or len({row.shape[1:] for row in rows["regions"]}) > 1:
        raise ValueError(f"{target}: its parts are not of one network; delete them, and make it anew")
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
    wanted = count
    while True:
        hits: dict[str, Hit] = {}
        for score, row in _nearest(vectors, query, min(wanted, len(vectors)), faiss):
            name = index.names[int(index.owners[row]) if regions else row]
            x, y, width, height = index.boxes[row].tolist() if regions else (0, 0, 0, 0)
            hits.setdefault(name, Hit(name, index.folder / name, score, (x, y, width, height) if regions else None))
        if len(hits) >= count or wanted >= len(vectors):
            return list(hits.values())[:count]
        wanted *= 4  # a picture with many fitting regions takes the places of others


def _nearest(vectors: Tensor, query: Tensor, count: int, faiss: bool) -> list[tuple[float, int]]:
    """Cosines and numbers of the vectors (N, D) nearest to a query (D,), the nearest first."""
    if not faiss:
        scores, rows = (vectors @ query).topk(count)
        return list(zip(scores.tolist(), rows.tolist(), strict=True))
    try:
        import faiss as library  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        raise ValueError("faiss is not installed: pip install faiss-cpu") from None
    table = library.IndexFlatIP(vectors.shape[1])
    table.add(vectors.numpy())
    found, places = table.search(query[None].numpy(), count)
    return list(zip(found[0].tolist(), places[0].tolist(), strict=True))


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


def _about(target: Path) -> _About:
    content = read_json(target / ABOUT)
    return parse(_About, content if isinstance(content, dict) else {}, str(target / ABOUT))


def _listed(part: Path) -> dict[str, list[int]]:
    """Names of a part's pictures, in order, and what their files were like."""
    with _sound(part), safe_open(part, framework="pt") as file:
        listed: dict[str, list[int]] = json.loads(file.metadata()["pictures"])
        # Answers are written below a folder by these names: none may lead out of it.
        if any(PurePath(name).is_absolute() or ".." in PurePath(name).parts for name in listed):
            raise ValueError
    return listed


def _tensors(part: Path) -> dict[str, Tensor]:
    """A part's tensors, which fit each other."""
    with _sound(part), safe_open(part, framework="pt") as file:
        held = {key: file.get_tensor(key) for key in ("images", "regions", "owners", "boxes", "read")}
        images, owners, pictures = held["images"], held["owners"], len(_listed(part))
        regions = len(held["regions"])
        fits = held["read"].shape == (pictures,) and images.shape[::2] == (pictures, held["regions"].shape[1])
        if not fits or owners.shape != (regions,) or held["boxes"].shape != (regions, 4):
            raise ValueError
        if not images.isfinite().all() or not held["regions"].isfinite().all():
            raise ValueError
    return held


@contextmanager
def _sound(part: Path) -> Iterator[None]:
    """A damaged file fails in every way there is; all are told by one sentence."""
    try:
        yield
    except Exception:
        raise ValueError(f"{part}: no part of an index, or damaged; delete it, and its pictures are encoded again") from None


def _stamp(path: Path) -> list[int]:
    """Tells a file from another that has taken its place."""
    known = path.stat()
    return [known.st_size, known.st_mtime_ns]
