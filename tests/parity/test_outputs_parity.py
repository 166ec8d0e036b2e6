"""What our Focal-T answers against what the published one answered: regions of phrases, similarities, captions."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from xdecoder.decoder.generation import GenerationConfig, generate
from xdecoder.model import Encoded, XDecoder, XDecoderConfig
from xdecoder.published.names import convert
from xdecoder.tasks import TasksConfig
from xdecoder.tasks.captioning import caption_tokens, regions_of
from xdecoder.tasks.referring import ReferringConfig
from xdecoder.types import Batch, Phrases, Sample

Read = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="module")
def read(oracle: Path) -> Read:
    return lambda name: torch.load(oracle / f"values/{name}.pt", weights_only=True)


def published(oracle: Path, seeded: ModuleType, in_proj_gain: float = 1.5) -> XDecoder:
    names = json.loads((oracle / "names/focalt_state_dict.json").read_text())
    model = XDecoder(XDecoderConfig(published_quirks=True))
    model.load_state_dict(convert(seeded.seeded_state_dict(names, in_proj_gain)))
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def model(oracle: Path, seeded: ModuleType) -> XDecoder:
    return published(oracle, seeded)


@pytest.fixture(scope="module")
def batch(read: Read) -> Batch:
    inputs = read("inputs")
    phrases = tuple(text for group in inputs["ground_texts"] for text in group)
    sample = Sample(
        "street",
        inputs["eval_img"],
        tuple(inputs["eval_out_hw"]),
        phrases=Phrases(phrases, torch.zeros(len(phrases), 1, 1, dtype=torch.bool)),
        captions=tuple(inputs["ret_captions"]),
    )
    return Batch((sample,), None, "recorded picture")


@pytest.fixture(scope="module")
def features(model: XDecoder, batch: Batch) -> Encoded:
    return model.encode(batch.images)


def assert_near(ours: Tensor, recorded: Any, tolerance: float = 1e-4) -> None:
    """Relative L2 distance; a record may hold every k-th value along the last dimensions."""
    if isinstance(recorded, dict):
        ours, recorded = ours[(..., *(slice(None, None, step) for step in recorded["strides"]))], recorded["data"]
    assert ours.shape == recorded.shape
    assert ((ours - recorded).norm() / recorded.norm()).item() < tolerance


def test_grounding(model: XDecoder, features: Encoded, batch: Batch, read: Read) -> None:
    recorded, referring = read("focalt_retrieval_grounding"), ReferringConfig(together=True).build()
    prompt = referring.prompt(model, features, batch, model.language.encode)
    last = model.decode(features, prompt.groups)[-1]
    assert_near(prompt.groups[1].content[0], recorded["grounding_tokens"])
    object_and_image, rows = last.object_and_image, last["grounding"]
    assert_near(torch.cat((object_and_image.semantic, rows.semantic), dim=1), recorded["grd_pred_captions"])
    assert_near(
        torch.cat((object_and_image.masks(features.mask), rows.masks(features.mask)), dim=1), recorded["grd_pred_masks"]
    )
    similarity = F.normalize(rows.semantic[0], dim=-1) @ F.normalize(prompt.vectors[0], dim=-1).T
    assert_near(model.language.logit_scale.exp().clamp(max=100) * similarity, recorded["grd_sim"])
    assert similarity.argmax(dim=0).tolist() == recorded["grd_matched"].tolist()

    (result,) = referring.predict(model, features, batch)
    assert_near(result.masks.float(), {**recorded["grounding_mask"], "data": (recorded["grounding_mask"]["data"] > 0).float()})
    assert_near(result.masks.sum(dim=(1, 2)).float(), recorded["grounding_mask_area"].float())


def test_retrieval(model: XDecoder, features: Encoded, batch: Batch, read: Read) -> None:
    recorded = read("focalt_retrieval_grounding")
    (result,) = TasksConfig().retrieval.build().predict(model, features, batch)
    for ours, theirs in zip(result.image, recorded["image_embeds"], strict=True):
        assert_near(ours[None], F.normalize(theirs, dim=-1))
    assert_near(result.texts, F.normalize(recorded["text_embeds"], dim=-1))


@pytest.mark.parametrize(("record", "gain", "steps"), [("focalt_captioning", 1.5, 3), ("focalt_captioning_g3", 3.0, 50)])
def test_captions(record: str, gain: float, steps: int, oracle: Path, seeded: ModuleType, read: Read) -> None:
    recorded, image = read(record), read("inputs")["cap_img"]
    model = published(oracle, seeded, gain)
    features = model.encode([image])

    taught = model.decode(features, [caption_tokens(model, model.language.encode_ids(recorded["tf_ids"]))])[-1]["caption"].word
    assert_near(taught[:, ::2], recorded["tf_pred_captioning"])
    features = replace(features, full_size_masks=True)
    ids = generate(model, features, GenerationConfig(max_length=steps))
    assert ids[0].tolist() == recorded["token_ids"][: steps + 1].tolist()

    left = torch.zeros(image.shape[1:], dtype=torch.bool)
    left[:, :168] = True
    batch = Batch((Sample("street", image, (224, 336), region=left),), None, "recorded picture")
    steps = min(steps, 12)
    region = regions_of(batch, features, published_quirks=True)
    ids = generate(model, features, GenerationConfig(max_length=steps), region)
    assert ids[0].tolist() == recorded["masked_token_ids"][: steps + 1].tolist()
