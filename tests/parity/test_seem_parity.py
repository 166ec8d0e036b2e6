"""Our SEEM, Focal-T, against the published one's numbers, computed with the same seeded weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.parity.recorded import assert_close, seem_weights, unpacked
from xdecoder.config import parse
from xdecoder.decoder.attention import TokenGroup, self_attention_mask
from xdecoder.decoder.heads import QueryOutputs
from xdecoder.encoded import Encoded
from xdecoder.postprocessing import Evidence
from xdecoder.published.names import convert
from xdecoder.seem.draws import SeededDraws
from xdecoder.seem.encoder import Marked
from xdecoder.seem.network import Seem, SeemConfig
from xdecoder.seem.rounds import corrected, intersection_over_union
from xdecoder.seem.tables import VERSIONS
from xdecoder.types import StrokeMaps


class Recorded:
    """Draws as the published network made them."""

    def __init__(self, queries: Tensor, memory: Iterable[Tensor] = (), points: Iterable[Tensor] = ()) -> None:
        self._queries, self._memory, self._points = queries, iter(memory), iter(points)

    def points(self, image: int, owner: Tensor, most: int) -> Tensor:
        return next(self._points).long()

    def queries(self, count: int, among: int) -> Tensor:
        assert len(self._queries) == count
        return self._queries

    def memory(self, count: int, objects: Sequence[int]) -> Tensor:
        return next(self._memory).expand(len(objects), -1)


@pytest.fixture(scope="module")
def model(oracle: Path, seeded: ModuleType) -> Seem:
    model = Seem(parse(SeemConfig, {"name": "seem", "published_quirks": True}))
    model.load_state_dict(convert(seem_weights(oracle, seeded, "focalt_v1")))  # strict: every name is mapped
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def encoded(model: Seem, oracle: Path) -> Encoded:
    return model.encode([torch.load(oracle / "values/inputs.pt", weights_only=True)["eval_img"]])


def recorded(oracle: Path, name: str) -> dict[str, Any]:
    return torch.load(oracle / f"seem/values/{name}.pt", weights_only=True)


def test_objects_of_every_layer(model: Seem, encoded: Encoded, oracle: Path) -> None:
    golden = recorded(oracle, "focalt_v1_panoptic")
    texts = F.normalize(torch.load(oracle / "values/focalt_text.pt", weights_only=True)["coco134_ensemble"], dim=-1)
    predictions = encoded.latents.predictions
    assert len(predictions) == len(golden["pred_logits_all"]) == 10
    for i, prediction in enumerate(predictions):
        outputs = prediction["object"]
        logits = model.language.logit_scale.exp() * F.normalize(outputs.semantic, dim=-1) @ texts.T
        assert_close(logits[0, ::2], golden["pred_logits_all"][i])
        assert_close(outputs.masks(encoded.mask)[0, ::4, ::8, ::8], golden["pred_masks_all_s8"][i])
    assert_close(outputs.masks(encoded.mask), golden["pred_masks_last"])


def test_the_semantic_map(model: Seem, encoded: Encoded, oracle: Path) -> None:
    golden = recorded(oracle, "focalt_v1_panoptic")
    texts = F.normalize(torch.load(oracle / "values/focalt_text.pt", weights_only=True)["coco134_ensemble"], dim=-1)
    outputs = encoded.latents.outputs
    logits = (model.language.logit_scale.exp() * F.normalize(outputs.semantic, dim=-1) @ texts.T)[0]
    masks = outputs.masks(encoded.mask)[0]
    first = encoded.decoder.table.interpolation
    evidence = Evidence(logits.softmax(-1), masks, torch.arange(133), encoded.padded, encoded.sizes[0], first=first)
    assert (evidence.semantic((192, 287)) == golden["sem_argmax"]).float().mean() > 0.999


def test_more_points_than_are_looked_at(model: Seem, encoded: Encoded, oracle: Path) -> None:
    golden = recorded(oracle, "focalt_v1_stroke")
    strokes = [StrokeMaps(unpacked(golden["pos"]), unpacked(golden["neg"]))]
    points = [draw["idx"] for draw in golden["point_draws"] if not draw["all"]]
    marked = model.strokes.mark(encoded, strokes, None, Recorded(golden["query_draws"][0], points=points))
    assert_close(marked.positive, golden["pred_pspatials"])
    assert_close(marked.negative, golden["pred_nspatials"])
    (stroke,) = (group for group in marked.groups if group.name == "stroke")
    for level, tokens in zip(stroke.fresh, golden["tokens_level"], strict=True):
        assert_close(level.content[0, ::8], tokens)
    *_, last = model.decoder.run(encoded.cache, marked.groups)
    similarity = model.strokes.similarity(marked, last["spatial"])
    assert_close(similarity, golden["own_logits"])
    assert torch.equal(similarity.argmax(dim=-1), golden["chosen"])
    assert_close(last["spatial"].masks(encoded.mask), golden["pred_smasks"])
    assert_close(model.strokes.chosen(encoded, marked, last)[0][None], golden["prev_mask"])


def test_three_rounds_with_memory(model: Seem, encoded: Encoded, oracle: Path) -> None:
    golden = recorded(oracle, "focalt_v1_interactive")
    truth = F.pad(unpacked(golden["gt_masks"]), (0, 1))
    nothing = torch.zeros_like(truth)
    strokes = corrected(StrokeMaps(nothing, nothing), truth, torch.full(truth.shape, -1.0), "published")
    for marked_pixels, first in zip(strokes.positive, golden["first_click"], strict=True):
        assert torch.equal(marked_pixels.nonzero(), first)
    previous = None
    for k, expected in enumerate(golden["iterations"]):
        draws = Recorded(golden["query_draws"][k], golden["memory_draws"][k])
        marked = model.strokes.mark(encoded, [strokes], previous, draws)
        predictions = list(model.decoder.run(encoded.cache, marked.groups))
        outputs = predictions[-1]["spatial"]
        similarity = model.strokes.similarity(marked, outputs)
        assert_close(similarity, expected["own_logits"])
        assert torch.equal(similarity.argmax(dim=-1), expected["chosen"])
        assert_close(outputs.masks(encoded.mask), expected["pred_smasks"])
        assert_close(outputs.mask, expected["pred_smaskembs"])
        assert_close(outputs.semantic, expected["pred_stexts"])
        for i, prediction in enumerate(predictions[:-1]):
            assert_close(prediction["spatial"].masks(encoded.mask)[0, :, ::8, ::8], expected["smasks_layers_s8"][0, i])
        if f"self_attn_iter{k}_layer0" in golden:
            assert_sees(model, encoded, marked.groups, golden[f"self_attn_iter{k}_layer0"])
        previous = model.strokes.chosen(encoded, marked, predictions[-1])
        assert_close(previous[0][None], expected["prev_mask"])
        assert_close(ious(previous[0], golden["gt_orig"]), golden["mask_iou"][:, k])
        strokes = corrected(strokes, truth, previous[0], "published")
        clicks = golden["clicks_after"][k]
        for maps, places in ((strokes.positive, clicks["pos"]), (strokes.negative, clicks["neg"])):
            assert all(torch.equal(one.nonzero(), recorded) for one, recorded in zip(maps, places, strict=True))


def ious(logits: Tensor, truth: Tensor) -> Tensor:
    """At the image's own size, as evaluation measures them; -1 in the truth is ignored."""
    padded = F.interpolate(logits[None], size=(256, 384), mode="bilinear")[..., :383]
    masks = F.interpolate(padded, size=truth.shape[-2:], mode="bilinear")[0] > 0
    return intersection_over_union(masks, truth == 1, truth[0] == -1)


def assert_sees(model: Seem, encoded: Encoded, groups: Any, golden: dict[str, Any]) -> None:
    """The first layer's table, bit for bit; there, True = may not look, and groups are called otherwise."""
    ours = {"queries_object": "object", "queries_spatial": "spatial", "memories_spatial": "memory", "tokens_spatial": "stroke"}
    every = [group.at(0, 0) for group in (*model.decoder.latent_queries(1), *groups)]
    rows = [group for group in every if group.name != "stroke"]
    fresh = [group for group in every if group.name == "stroke"]
    seen = self_attention_mask(model.decoder.table, rows, fresh)
    assert seen is not None
    order = [group.name for group in (*rows, *fresh)]
    sizes = [group.content.shape[1] for group in (*rows, *fresh)]
    blocks = {
        (a, b): block
        for a, line in zip(order, seen.split([*sizes[: len(rows)]], dim=1), strict=False)
        for b, block in zip(order, line.split(sizes, dim=2), strict=True)
    }
    mask = ~unpacked(golden["mask"])
    for theirs, (start, end) in golden["ranges"].items():
        for other, (first, last) in golden["ranges"].items():
            if ours[theirs] != "stroke":  # whose rows are replaced before anybody reads them
                assert torch.equal(blocks[ours[theirs], ours[other]][0], mask[0, start:end, first:last])


@pytest.fixture(scope="module")
def demo(model: Seem) -> Seem:
    """The same weights, asked by the demo's tables."""
    config = parse(SeemConfig, {"name": "seem", "published_quirks": True, **VERSIONS["demo"]})
    demo = Seem(config)
    demo.load_state_dict(model.state_dict())
    return demo.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def prompts(demo: Seem, oracle: Path) -> tuple[dict[str, Any], Encoded, Encoded]:
    """What was recorded, and the two images, encoded."""
    inputs = torch.load(oracle / "values/inputs.pt", weights_only=True)
    images = (demo.encode([inputs[name]]) for name in ("eval_img", "cap_img"))
    return recorded(oracle, "focalt_demo_prompts"), *images


def block(encoded: Encoded, rows: slice, columns: slice) -> StrokeMaps:
    marked = torch.zeros(1, *encoded.padded, dtype=torch.bool)
    marked[0, rows, columns] = True
    return StrokeMaps(marked, torch.zeros_like(marked))


def assert_says(encoded: Encoded, outputs: QueryOutputs, golden: dict[str, Any]) -> None:
    assert_close(outputs.masks(encoded.mask), golden["pred_masks"])


def assert_finds(demo: Seem, encoded: Encoded, marked: Marked, outputs: QueryOutputs, golden: dict[str, Any]) -> None:
    similarity = demo.strokes.similarity(marked, outputs)[0, 0]
    assert_close(similarity, golden["sim"])
    assert similarity.argmax() == golden["chosen"]
    assert_close(marked.positive, golden["prompt"])
    assert_close(outputs.masks(encoded.mask)[0, golden["chosen"]], golden["mask"])


def test_the_demos_stroke(demo: Seem, prompts: tuple[dict[str, Any], Encoded, Encoded]) -> None:
    golden, image, _ = prompts
    marked = demo.strokes.mark(image, [block(image, slice(170, 180), slice(60, 90))], None, SeededDraws())
    outputs = image.ask(*demo.decoder.latent_queries(1), *marked.groups)["object"]
    assert_says(image, outputs, golden["stroke"])
    assert_finds(demo, image, marked, outputs, golden["stroke"])


def test_the_demos_text_and_stroke_with_text(demo: Seem, prompts: tuple[dict[str, Any], Encoded, Encoded]) -> None:
    golden, image, _ = prompts
    texts = demo.language.encode([golden["inputs"]["text"]])
    words = TokenGroup("word", texts.tokens[:, texts.present[0]], texts.tokens[:, texts.present[0]])
    outputs = image.ask(*demo.decoder.latent_queries(1), words)["object"]
    cosines = F.normalize(outputs.semantic[0], dim=-1) @ F.normalize(texts.vectors[0], dim=-1)
    assert_says(image, outputs, golden["text"])
    assert cosines.argmax() == golden["text"]["chosen"]
    assert_close(cosines * (golden["text"]["sim"] / cosines).mean(), golden["text"]["sim"])
    marked = demo.strokes.mark(image, [block(image, slice(170, 180), slice(60, 90))], None, SeededDraws())
    outputs = image.ask(*demo.decoder.latent_queries(1), *marked.groups, words)["object"]
    assert_says(image, outputs, golden["stroke_text"])
    assert_finds(demo, image, marked, outputs, golden["stroke_text"])


def test_the_demos_example(demo: Seem, prompts: tuple[dict[str, Any], Encoded, Encoded]) -> None:
    golden, image, reference = prompts
    example = demo.strokes.mark(
        reference, [block(reference, slice(100, 110), slice(150, 180))], None, SeededDraws()
    ).as_example()
    recorded_tokens = golden["visual_tokens"]
    assert_close(example.positive, recorded_tokens["visual_query_pos"])
    for level, tokens in zip(example.groups[0].fresh, recorded_tokens["src_visual_queries"], strict=True):
        assert_close(level.content[0, ::4], tokens["data"][:, 0])
    outputs = image.ask(*demo.decoder.latent_queries(1), *example.groups)["object"]
    assert_says(image, outputs, golden["visual"])
    assert_finds(demo, image, example, outputs, golden["visual"])
