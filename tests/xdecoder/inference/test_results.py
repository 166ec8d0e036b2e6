"""Results as JSON against COCO's own tool, and as files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from xdecoder import rle
from xdecoder.inference.results import Instances, Panoptic, Regions, Semantic
from xdecoder.postprocessing import ResizedMasks
from xdecoder.types import PanopticSegment, Vocabulary

IMAGE = Image.new("RGB", (96, 64), "grey")
NAMES = ("star", "cube", "sky")


def small(count: int) -> ResizedMasks:
    generator = torch.Generator().manual_seed(0)
    return ResizedMasks(torch.randn(count, 4, 6, generator=generator), (64, 96), (64, 96), (64, 96))


def semantic() -> Semantic:
    labels = torch.full((64, 96), -1)
    labels[:20, :30], labels[40:, 50:] = 0, 2
    return Semantic(IMAGE, NAMES, labels)


def panoptic() -> Panoptic:
    ids = torch.zeros(64, 96, dtype=torch.int32)
    ids[:20, :30], ids[40:, 50:] = 1, 2
    segments = (PanopticSegment(1, 0, True, 0.9), PanopticSegment(2, 2, False, 0.8))
    return Panoptic(IMAGE, Vocabulary(NAMES, (True, True, False)), ids, segments)


def results() -> list[Semantic | Panoptic | Instances | Regions]:
    instances = Instances(IMAGE, NAMES, torch.tensor([1, 0]), torch.tensor([0.9, 0.3]), small(2))
    return [semantic(), panoptic(), instances, Regions(IMAGE, ("a star", "the sky", "a cube"), torch.rand(3), small(3))]


@pytest.mark.parametrize(
    "mask",
    [
        np.random.default_rng(0).random((7, 9)) > 0.5,
        np.zeros((4, 5), bool),
        np.ones((4, 5), bool),
        np.random.default_rng(1).random((300, 200)) > 0.99,
        np.indices((500, 700)).sum(0) < 600,
    ],
)
def test_masks_are_encoded_as_coco_does(mask: np.ndarray) -> None:
    official = pytest.importorskip("pycocotools.mask", reason="compares with COCO's own tool")
    expected = official.encode(np.asfortranarray(mask.astype(np.uint8)))
    ours = rle.describe(mask)
    assert ours["segmentation"] == {"size": list(mask.shape), "counts": expected["counts"].decode()}
    assert ours["area"] == official.area(expected) and ours["bbox"] == official.toBbox(expected).tolist()


def test_runs_go_down_the_columns() -> None:
    assert rle.runs(np.array([[1, 0], [1, 0], [0, 1]], bool)) == [0, 2, 3, 1]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # COCO's tool and the newest NumPy
@pytest.mark.parametrize("result", results(), ids=lambda result: type(result).__name__)
def test_every_region_is_told(result: Semantic | Panoptic | Instances | Regions, tmp_path: Path) -> None:
    official = pytest.importorskip("pycocotools.mask", reason="reads the masks with COCO's own tool")
    listed = json.loads(json.dumps(result.to_coco()))
    masks = [torch.from_numpy(official.decode(each["segmentation"])) > 0 for each in listed]
    if isinstance(result, Semantic):
        expected = [result.labels == 0, result.labels == 2]
        assert [(each["name"], each["category_id"]) for each in listed] == [("star", 0), ("sky", 2)]
    elif isinstance(result, Panoptic):
        expected = [result.ids == 1, result.ids == 2]
        assert [(each["id"], each["is_thing"], each["score"]) for each in listed] == [(1, True, 0.9), (2, False, 0.8)]
    else:
        expected = list(result.masks)
        assert [each["score"] for each in listed] == pytest.approx(result.scores.tolist())
    assert len(masks) == len(expected)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(masks, expected, strict=True))

    result.save(tmp_path / "result.json")
    saved = json.loads((tmp_path / "result.json").read_text())
    said = {key: saved.pop(key) for key in ("phrases", "threshold") if isinstance(result, Regions)}
    assert saved == {"width": 96, "height": 64, "regions": listed, "absent": list(result.absent)}
    assert [each["score"] for each in said.get("phrases", ())] == [each["score"] for each in listed if said]
    result.save(tmp_path / "result.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "result.png")), np.asarray(result.draw()))
    assert result.draw(overlay_only=True).mode == "RGBA"


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"result\.xyz: a result is saved as \.json or as a picture .* not as '\.xyz'"):
        semantic().save(tmp_path / "result.xyz")
    assert list(tmp_path.iterdir()) == []


def test_masks_stay_small_until_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    resized: list[int] = []
    plain = ResizedMasks.inside
    monkeypatch.setattr(ResizedMasks, "inside", lambda self: (resized.append(len(self)), plain(self))[1])
    regions = Regions(IMAGE, ("a", "b", "c"), torch.rand(3), small(3))
    assert resized == []
    assert regions.masks is regions.masks and resized == [3]
    regions.to_coco()
    assert resized == [3, 1, 1, 1], "one after the other"


def test_what_is_not_there_is_said_by_every_result() -> None:
    """Classes without a region, and phrases whose score is too low: these have no mask, no drawing and no annotation."""
    assert semantic().absent == ("cube",)
    for result in results():
        found = {known["name"] for known, _ in result.regions()}
        asked = result.phrases if isinstance(result, Regions) else getattr(result, "names", None) or result.vocabulary.names
        assert result.to_json()["absent"] == [name for name in asked if name not in found]
    (regions,) = (each for each in results() if isinstance(each, Regions))
    between = float(regions.scores.sort().values[:2].mean())
    refused = dataclasses.replace(regions, threshold=between)
    low = int(regions.scores.argmin())
    assert refused.found.tolist() == [i != low and bool(mask.any()) for i, mask in enumerate(regions.masks)]
    assert not refused.masks[low].any() and regions.phrases[low] in refused.absent
    assert {known["name"] for known, _ in refused.regions()} == set(regions.phrases) - set(refused.absent)
    told = refused.to_json()["phrases"][low]
    assert told == {"phrase": regions.phrases[low], "score": float(regions.scores[low]), "found": False}
