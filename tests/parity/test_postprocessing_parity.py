"""Semantic, instance and panoptic results against the published network's."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from xdecoder import postprocessing
from xdecoder.model import XDecoder, XDecoderConfig
from xdecoder.postprocessing import PostprocessingConfig
from xdecoder.published.names import convert
from xdecoder.tasks import TasksConfig
from xdecoder.tasks.segmentation import SegmentationConfig
from xdecoder.types import Batch, InstanceResult, PanopticResult, Sample, SegmentationResult, Vocabulary

COCO = Vocabulary(tuple(f"class {i}" for i in range(133)), tuple(i < 80 for i in range(133)))
THRESHOLDS = (0.8, 0.8)


def assert_same(result: SegmentationResult, recorded: dict[str, Any]) -> None:
    assert result.panoptic is not None
    assert_panoptic(result.panoptic, recorded)
    if "sem_argmax" in recorded:
        assert result.semantic is not None and result.instances is not None
        assert (result.semantic == recorded["sem_argmax"]).float().mean() >= 0.999
        assert_instances(result.instances, recorded)


def assert_panoptic(ours: PanopticResult, recorded: dict[str, Any]) -> None:
    assert (ours.ids == recorded["panoptic"]).float().mean() >= 0.999
    segments = [(entry["id"], entry["category_id"], entry["isthing"]) for entry in recorded["segments_info"]]
    assert [(segment.id, segment.label, segment.is_thing) for segment in ours.segments] == segments


def assert_instances(ours: InstanceResult, recorded: dict[str, Any]) -> None:
    """The published ones are in no particular order: each of ours is compared with the one of its class most like it."""
    mine = torch.stack((ours.scores, ours.masks.sum(dim=(1, 2)))).double()
    theirs = torch.stack((recorded["inst_scores"], recorded["inst_area"])).double()
    sizes = theirs.norm(dim=1)[:, None, None]
    unlike = ((mine[:, :, None] - theirs[:, None]).abs() / sizes).sum(dim=0)
    other_class = ours.labels[:, None] != recorded["inst_classes"]
    rows, columns = linear_sum_assignment(unlike + 10 * other_class)
    assert len(rows) == len(ours.labels) == len(recorded["inst_classes"])
    assert torch.equal(ours.labels[rows], recorded["inst_classes"][columns])
    for values, expected in zip(mine[:, rows], theirs[:, columns], strict=True):
        assert ((values - expected).norm() / expected.norm()).item() < 1e-4


def settings(recorded: dict[str, Any]) -> PostprocessingConfig:
    objects, overlap = recorded.get("thresholds", THRESHOLDS)
    return PostprocessingConfig(object_threshold=objects, overlap_threshold=overlap)


def test_made_up_masks(oracle: Path) -> None:
    """Overlaps, stuff that merges, tiny and empty masks."""
    given = torch.load(oracle / "values/postproc.pt", weights_only=True)
    sizes = [tuple(given[name]) for name in ("padded_hw", "image_hw", "out_hw")]
    masks = postprocessing.resize_masks(given["mask_pred"], *sizes)
    probabilities, is_thing = given["mask_cls"].softmax(dim=-1), torch.tensor(COCO.is_thing)
    for recorded in given["outputs"].values():
        result = SegmentationResult(
            postprocessing.semantic_map(probabilities, masks),
            postprocessing.instances(probabilities, masks, is_thing),
            postprocessing.panoptic(probabilities, masks, is_thing, settings(recorded)),
        )
        assert_same(result, recorded)
    assert torch.allclose(masks[:, ::8, ::8], given["outputs"]["default"]["masks_s8"])


@pytest.fixture(scope="module")
def model(oracle: Path, seeded: ModuleType) -> XDecoder:
    names = json.loads((oracle / "names/focalt_state_dict.json").read_text())
    model = XDecoder(XDecoderConfig(published_quirks=True))
    model.load_state_dict(convert(seeded.seeded_state_dict(names)))
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("words", ["coco133", "open_vocab"])
def test_picture(words: str, model: XDecoder, oracle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = torch.load(oracle / "values/focalt_evaluate.pt", weights_only=True)
    inputs = torch.load(oracle / "values/inputs.pt", weights_only=True)
    if words == "coco133":
        vocabulary = COCO
        classes = torch.load(oracle / "values/focalt_text.pt", weights_only=True)["coco134_ensemble"]
    else:
        things, stuff = inputs["open_vocab"]["things"], inputs["open_vocab"]["stuff"]
        vocabulary = Vocabulary((*things, *stuff), (True,) * len(things) + (False,) * len(stuff))
        classes = recorded["open_vocab_text_emb"]
    # The ensembles have a test of their own; here they would take minutes.
    monkeypatch.setattr(model.language, "vocabulary", lambda names, templates: classes)
    batch = Batch((Sample("street", inputs["eval_img"], tuple(inputs["eval_out_hw"])),), vocabulary, "recorded picture")
    for name in (f"{words}_default_thr", f"{words}_low_thr"):
        tasks = TasksConfig(segmentation=SegmentationConfig(postprocessing=settings(recorded[name])))
        assert_same(model.predict(tasks.build(["segmentation"]), batch)["segmentation"][0], recorded[name])
