"""Training losses of SEEM's marked objects against the published network's, layer by layer, and which queries were matched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.parity.recorded import assert_close, seem_weights, unpacked
from xdecoder.config import parse
from xdecoder.losses.interactive import match_own, similarity_loss
from xdecoder.losses.masks import mask_losses
from xdecoder.losses.matching import Matches, MatchingConfig
from xdecoder.published.names import convert
from xdecoder.seem.network import Seem, SeemConfig
from xdecoder.types import StrokeMaps

OBJECTS = (2, 1)  # per image


@pytest.fixture(scope="module")
def golden(oracle: Path) -> dict[str, Any]:
    return torch.load(oracle / "seem/values/focalt_v1_train_iter0.pt", weights_only=True)


class Queries:
    """The queries that were drawn; all points are looked at."""

    def __init__(self, drawn: Tensor) -> None:
        self.drawn = drawn

    def queries(self, count: int, among: int) -> Tensor:
        return self.drawn


def keyed(keyed_rand: Any) -> Any:
    """`torch.rand` as a function of its shape; what was drawn layer by layer for all images in our order, image by image."""

    rand = torch.rand

    def draw(*size: int, **options: Any) -> Tensor:
        if "generator" in options:
            return rand(*size, **options)
        objects = sum(OBJECTS)
        if size[0] == 1:
            return keyed_rand(*size)
        points = keyed_rand(objects, *size[1:]).split(list(OBJECTS))
        return torch.cat([image for image in points for _ in range(size[0] // objects)])

    return draw


def test_marked_objects(golden: dict[str, Any], oracle: Path, seeded: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Seem(parse(SeemConfig, {"name": "seem", "published_quirks": True}))
    model.load_state_dict(convert(seem_weights(oracle, seeded, "focalt_v1")))
    expected = golden["iter0"]
    with torch.no_grad():
        terms, matches = spatial_terms(model.eval(), golden, oracle, seeded, monkeypatch)
    for i in range(10):
        for name, values in terms.items():
            assert values[i].item() == pytest.approx(expected["raw"][f"loss_spatial_{name}_{i}"], rel=1e-4)
        recorded = expected["matcher"][3 * i + 1]
        assert recorded[0] == "spatial" and pairs(matches, i) == [(q.tolist(), t.tolist()) for q, t in recorded[1]]


def spatial_terms(
    model: Seem, golden: dict[str, Any], oracle: Path, seeded: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, Tensor], Matches]:
    images = [image["image"] for image in torch.load(oracle / "values/inputs.pt", weights_only=True)["coco"]]
    images[1] = F.pad(images[1], (0, 64, 0, 32), value=128)
    encoded = model.encode(images)
    marked_pixels = [unpacked(image["rand_shape"]) for image in golden["batch"]]
    targets = [unpacked(image["gt_spatial"]) for image in golden["batch"]]
    strokes = [StrokeMaps(positive, torch.zeros_like(positive)) for positive in marked_pixels]
    marked = model.strokes.mark(encoded, strokes, None, Queries(golden["iter0"]["query_draws"][0]))
    assert_close(marked.positive, golden["iter0"]["pred_pspatials"])
    layers = model.decode(encoded, marked.groups)[::-1]
    embeddings = torch.stack([layer["spatial"].mask for layer in layers])
    assert_close(embeddings[0], golden["iter0"]["pred_smaskembs"])
    similarity = torch.einsum("lbqc,bnc->lbqn", embeddings, marked.positive)
    monkeypatch.setattr(torch, "rand", keyed(seeded.keyed_rand))
    matches = match_own(similarity, marked.owner, embeddings, encoded.mask, targets, MatchingConfig())
    bce, dice = mask_losses(matches, embeddings, encoded.mask, targets, 12544, sum(OBJECTS))
    return {"ce": similarity_loss(similarity, matches, sum(OBJECTS)), "bce": bce, "dice": dice}, matches


def pairs(matches: Matches, layer: int) -> Sequence[tuple[list[int], list[int]]]:
    """Matched queries and targets of each image in one layer."""
    found = []
    for image in range(len(OBJECTS)):
        mine = (matches.layer == layer) & (matches.image == image)
        found.append((matches.query[mine].tolist(), matches.target[mine].tolist()))
    return found
