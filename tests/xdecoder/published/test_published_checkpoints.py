"""Published files in and out, on a small network of the published kind."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import xdecoder
from xdecoder import checkpoint
from xdecoder.config import parse
from xdecoder.decoder.answers import AnswerConfig
from xdecoder.language import vocabularies
from xdecoder.model import XDecoder, XDecoderConfig
from xdecoder.published import checkpoints

FOCAL = {"name": "focal", "width": 16, "depths": [1, 2, 1, 1], "levels": 2, "window": 5, "mlp_ratio": 2.0}
PLAIN_FOCAL = {**FOCAL, "depthwise": False, "levels": 4, "window": 3}
DAVIT = {"name": "davit", "width": 32, "depths": [1, 1, 2, 1], "kernels": [7, 3, 3, 3]}
FPN = {"name": "fpn", "width": 64, "layers": 2, "heads": 8, "hidden": 96}
DEFORMABLE = {"name": "deformable", "width": 64, "layers": 1, "heads": 8, "points": 2, "hidden": 32}
KINDS = {"focal": (FOCAL, FPN), "plain focal": (PLAIN_FOCAL, FPN), "davit": (DAVIT, FPN), "deformable": (DAVIT, DEFORMABLE)}


def small_model(kind: str = "focal") -> XDecoder:
    backbone, pixel_decoder = KINDS[kind]
    settings = {
        "backbone": backbone,
        "pixel_decoder": pixel_decoder,
        "decoder": {"queries": 13, "layers": 4, "width": 64, "hidden": 80, "joint_width": 64, "caption_length": 24},
        "language": {"merges": 500, "context_length": 20, "width": 64, "layers": 2, "output_width": 64},
        "published_quirks": True,
    }
    torch.manual_seed(0)
    return XDecoder(parse(XDecoderConfig, settings))


def published_weights(tmp_path: Path, kind: str = "focal") -> dict[str, Tensor]:
    checkpoints.save(small_model(kind), tmp_path / "published.pt")
    return dict(torch.load(tmp_path / "published.pt", weights_only=True))


def assert_equal(a: torch.nn.Module, b: torch.nn.Module) -> None:
    first, second = a.state_dict(), b.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_round_trip_finds_the_architecture(tmp_path: Path, kind: str, suffix: str) -> None:
    model, first, second = small_model(kind), tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
    checkpoints.save(model, first)
    loaded = xdecoder.load(first).model
    assert_equal(loaded, model)
    unseen = {"backbone": {"drop_path", "layer_scale"}}
    assert loaded.config.model_dump(exclude=unseen) == model.config.model_dump(exclude=unseen)
    checkpoints.save(loaded, second)
    once, twice = (checkpoint.read(path) for path in (first, second))
    once, twice = once.get("model", once), twice.get("model", twice)
    assert once.keys() == twice.keys() and all(torch.equal(once[name], twice[name]) for name in once)


def test_wrappers_prefixes_and_extras(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    weights = published_weights(tmp_path)
    plain = xdecoder.load(tmp_path / "published.pt").model
    wrapped: list[dict[str, object]] = [
        {"model": weights, "iteration": 3},
        {"state_dict": {f"module.{name}": value for name, value in weights.items()}},
        {"model": {"state_dict": {f"module.model.{name}": value for name, value in weights.items()}}},
    ]
    for content in wrapped:
        torch.save(content, tmp_path / "wrapped.pt")
        with caplog.at_level(logging.WARNING):
            assert_equal(xdecoder.load(tmp_path / "wrapped.pt").model, plain)
    assert not caplog.records, "constants are no unused weights"
    torch.save({**weights, "sem_seg_head.predictor.box_embed.weight": torch.zeros(4, 4)}, tmp_path / "more.pt")
    with caplog.at_level(logging.WARNING):
        assert_equal(xdecoder.load(tmp_path / "more.pt").model, plain)
    assert "1 entries are not used" in caplog.text and "box_embed" in caplog.text


def test_missing_weights(tmp_path: Path) -> None:
    weights = published_weights(tmp_path)
    for name, sentence in {
        "backbone_proj": r"lacks 1 weights of its network \(xdecoder\), for example 'backbone_proj'",
        "sem_seg_head.predictor.class_embed": r"lacks 'sem_seg_head\.predictor\.class_embed', without which",
    }.items():
        torch.save({key: value for key, value in weights.items() if key != name}, tmp_path / "less.pt")
        with pytest.raises(ValueError, match=rf"less\.pt: the checkpoint {sentence}"):
            xdecoder.load(tmp_path / "less.pt")


def test_other_networks_are_told_by_their_names(tmp_path: Path) -> None:
    weights = published_weights(tmp_path)
    decoder, text = "sem_seg_head.predictor.", "sem_seg_head.predictor.lang_encoder."
    mask2former = {name: value for name, value in weights.items() if not name.startswith(text)}
    backbone = {name: value for name, value in weights.items() if name.startswith("backbone.")}
    encoder = {name[len(text) :]: value for name, value in weights.items() if name.startswith(text)}
    itself: dict[str, object] = {}
    itself["model"] = itself
    prefixed = {f"module.{name}": value for name, value in small_model().state_dict().items()}
    strokes = weights | {decoder + "pn_indicator.weight": torch.zeros(2, 4)}
    costs = {f"model.{decoder}clip_model.visual.stem.weight": torch.zeros(1), f"model.{decoder}transformer.x": torch.zeros(1)}
    cases: dict[str, tuple[object, str]] = {
        "seem": (strokes, "SEEM's v0 and v1 files look alike inside; say which it is"),
        "sed": ({"model": costs}, "the checkpoint lacks 'sem_seg_head.predictor.clip_model.text_projection'"),
        "mask2former": (mask2former, "a Mask2Former checkpoint, whose decoder knows no texts; expected"),
        "ported": ({"model.pixel_level_module.encoder.x": torch.zeros(1)}, "a Mask2Former checkpoint"),
        "backbone": ({name[9:]: value for name, value in backbone.items()}, "weights of a backbone only"),
        "named": (backbone, "weights of a backbone only"),
        "text": (encoder, "weights of a text encoder only"),
        "other": ({"conv1.weight": torch.zeros(1)}, "not an X-Decoder checkpoint; expected .*'conv1.weight'"),
        "nothing": ({"step": 3}, "holds no weights"),
        "itself": (itself, "holds no weights"),
        "ours": (small_model().state_dict(), "weights of an X-Decoder without its configuration"),
        "parallel": (prefixed, "weights of an X-Decoder without its configuration"),
        "flat": (
            {**weights, "sem_seg_head.predictor.query_feat.weight": torch.zeros(3)},
            "a weight that tells the architecture",
        ),
    }
    assert any(name.startswith(decoder) for name in mask2former)
    for name, (content, sentence) in cases.items():
        torch.save(content, tmp_path / f"{name}.pt")
        with pytest.raises(ValueError, match=rf"{name}\.pt: {sentence}") as caught:
            xdecoder.load(tmp_path / f"{name}.pt")
        assert "\n" not in str(caught.value)


class Attack:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code from a checkpoint ran",)


def test_unsafe_and_truncated_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = published_weights(tmp_path)
    torch.save({"model": weights, "extra": Attack()}, tmp_path / "attack.pt")
    with pytest.raises(ValueError, match=r"attack\.pt: refused"):
        xdecoder.load(tmp_path / "attack.pt")
    zoo = {"model": {"sem_seg_head.predictor.query_feat.weight": Attack()}}
    (tmp_path / "zoo.pkl").write_bytes(pickle.dumps(zoo))
    with pytest.raises(ValueError, match=r"zoo\.pkl: a Mask2Former checkpoint"):
        xdecoder.load(tmp_path / "zoo.pkl")
    (tmp_path / "sed.pkl").write_bytes(pickle.dumps({"sem_seg_head.predictor.clip_model.visual.x": Attack()}))
    with pytest.raises(ValueError, match=r"sed\.pkl: a SED checkpoint"):
        xdecoder.load(tmp_path / "sed.pkl")
    checkpoints.save(small_model(), tmp_path / "whole.safetensors")
    for whole, half in (("published.pt", "half.pt"), ("whole.safetensors", "half.safetensors")):
        content = (tmp_path / whole).read_bytes()
        for size in (0, 100, len(content) // 2):
            (tmp_path / half).write_bytes(content[:size])
            with pytest.raises(ValueError, match=rf"{half}: truncated or not"):
                xdecoder.load(tmp_path / half)
    assert capsys.readouterr().out == ""


def test_start_from_a_backbone(tmp_path: Path) -> None:
    source, model = small_model(), small_model()
    published = published_weights(tmp_path)
    backbone = {name[9:]: value + 1 for name, value in published.items() if name.startswith("backbone.")}
    kernel = "layers.0.blocks.0.modulation.focal_layers.0.0.weight"
    wide, narrow = torch.arange(16 * 49.0).view(16, 1, 7, 7), torch.arange(16 * 9.0).view(16, 1, 3, 3)
    for given, wanted in ((wide, wide[..., 1:-1, 1:-1]), (narrow, torch.nn.functional.pad(narrow, (1, 1, 1, 1)))):
        torch.save({"model": {**backbone, kernel: given, "head.weight": torch.zeros(5)}}, tmp_path / "focal.pt")
        done = checkpoints.initialise(model, tmp_path / "focal.pt")
        name = "backbone.stages.0.0.modulation.contexts.0.weight"
        assert torch.equal(model.state_dict()[name], wanted)
        assert done.resized == (name,) and done.unused == ("head.weight",) and not done.other_shape
        assert set(done.filled) == {name for name in source.state_dict() if name.startswith("backbone.")}
    assert torch.equal(model.state_dict()["backbone.stem.proj.weight"], source.state_dict()["backbone.stem.proj.weight"] + 1)
    assert torch.equal(model.decoder.query_content.weight, source.decoder.query_content.weight)
    assert "kernels padded or cropped" in str(done)


@pytest.mark.parametrize("layout", ["clip", "unicl"])
def test_start_from_a_text_encoder(tmp_path: Path, layout: str) -> None:
    published, text = published_weights(tmp_path), "sem_seg_head.predictor.lang_encoder."
    inside = text + "lang_encoder."
    inner = {name.removeprefix(inside): value * 2 for name, value in published.items() if name.startswith(inside)}
    projection, scale = published[text + "lang_proj"] * 2, torch.tensor(4.0)
    if layout == "clip":
        content = {(f"transformer.{n}" if n.startswith("resblocks") else n): value for n, value in inner.items()}
        content |= {"text_projection": projection, "logit_scale": scale, "visual.conv1.weight": torch.zeros(3)}
    else:
        content = {f"lang_encoder.{name}": value for name, value in inner.items()}
        content |= {"lang_projection": projection, "logit_scale": scale, "image_projection": published["backbone_proj"] * 2}
    torch.save(content if layout == "clip" else {"model": content}, tmp_path / "text.pt")
    model, before = small_model(), small_model()
    done = checkpoints.initialise(model, tmp_path / "text.pt")
    language = {f"language.{name}" for name in before.language.state_dict()}
    assert set(done.filled) == (language if layout == "clip" else language | {"backbone_proj"})
    assert torch.equal(model.language.token_embedding.weight, before.language.token_embedding.weight * 2)
    assert torch.equal(model.language.projection, before.language.projection * 2) and model.language.logit_scale == 4


def test_start_from_nothing_that_fits(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "resnet.pt")
    with pytest.raises(ValueError, match=r"resnet\.pt: none of its 1 weights fits the network"):
        checkpoints.initialise(small_model(), tmp_path / "resnet.pt")
    checkpoint.save(small_model(), tmp_path / "ours.pt")
    assert len(checkpoints.initialise(small_model(), tmp_path / "ours.pt").filled) == len(small_model().state_dict())


def test_our_own_weights_with_and_without_wrapping(tmp_path: Path) -> None:
    """What `load` refuses for want of a configuration, training starts from."""
    model = small_model()
    state = model.state_dict()
    for prefix in ("", "module.", "_orig_mod.", "module._orig_mod."):
        named = {prefix + name: value for name, value in state.items()}
        torch.save(named, tmp_path / "state.pt")
        assert len(checkpoints.initialise(small_model(), tmp_path / "state.pt").filled) == len(state)
        content = {"format": checkpoint.FORMAT, "config": model.config.model_dump(mode="json"), "model": named}
        torch.save(content, tmp_path / "whole.pt")
        assert_equal(xdecoder.load(tmp_path / "whole.pt").model, model)
        assert len(checkpoints.initialise(small_model(), tmp_path / "whole.pt").filled) == len(state)


def with_answers(tmp_path: Path, answers: tuple[str, ...]) -> dict[str, Tensor]:
    """A published file of a network that was tuned on questions."""
    head = AnswerConfig(answers=answers, masked_latents=False)
    torch.manual_seed(0)
    model = XDecoder(small_model().config.model_copy(update={"answers": head}))
    checkpoints.save(model, tmp_path / "vqa.pt")
    return dict(torch.load(tmp_path / "vqa.pt", weights_only=True))


def test_a_published_answer_head_comes_with_the_published_answers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    known = tuple(answer or "" for answer in vocabularies.answers())
    weights = with_answers(tmp_path, known)
    prefix = "sem_seg_head.predictor."
    assert weights[f"{prefix}query_feat_caping.weight"].shape == (24, 64)
    assert weights[f"{prefix}vqa_classifier.3.weight"].shape == (3129, 128)
    with caplog.at_level(logging.WARNING):
        loaded = xdecoder.load(tmp_path / "vqa.pt")
    assert not caplog.records, "the head is used"
    head = loaded.model.answers
    assert head.config.answers == known and known[125] == "" and not head.config.masked_latents
    assert torch.equal(head.classifier[3].weight, weights[f"{prefix}vqa_classifier.3.weight"])
    photo = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    with torch.no_grad():
        head.classifier[3].bias[125] += 100  # the place without an answer would win
    assert loaded.answer(photo, "is there a dog?").text in set(known) - {""}


def test_other_answers_than_the_published_must_be_given(tmp_path: Path) -> None:
    with_answers(tmp_path, ("yes", "no", "a star"))
    sentence = r"vqa\.pt: its answer head chooses from 3 answers, but the published list has 3129; give its own as answers"
    with pytest.raises(ValueError, match=sentence):
        xdecoder.load(tmp_path / "vqa.pt")
    with pytest.raises(ValueError, match="chooses from 3 answers, but 2 are given"):
        xdecoder.load(tmp_path / "vqa.pt", answers=["yes", "no"])
    loaded = xdecoder.load(tmp_path / "vqa.pt", answers=["yes", "no", "a star"])
    assert loaded.model.config.answers.answers == ("yes", "no", "a star")


def test_answers_of_ours_have_no_published_form(tmp_path: Path) -> None:
    model = XDecoder(small_model().config.model_copy(update={"answers": AnswerConfig(answers=("yes", "no"))}))
    with pytest.raises(ValueError, match="answers that share their latent queries with segmentation have no published form"):
        checkpoints.save(model, tmp_path / "vqa.pt")
