"""SED against tensors that the official network computed on a CPU with seeded weights."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from xdecoder.published import sed as published
from xdecoder.sed.decoder import Decoder, DecoderConfig, cost_map
from xdecoder.sed.inference import ROOM, Decoded, Picture, decode
from xdecoder.sed.losses import IGNORED, pixel_loss, terms
from xdecoder.sed.model import Sed, SedConfig
from xdecoder.sed.vocabulary import embed, templates

TOLERANCE = 1e-4
AGREEMENT = 0.999
DECODER = "sem_seg_head.predictor.transformer."


@pytest.fixture(scope="module", autouse=True)
def _as_recorded() -> None:
    """Unlike X-Decoder's masks, nothing here flips with rounding: the fast ways are what is compared."""


@pytest.fixture(scope="module")
def recorded(oracle: Path) -> Path:
    folder = oracle / "sed"
    if not folder.is_dir():
        pytest.skip(f"SED's numbers are not there: {folder}")
    return folder


@pytest.fixture(scope="module")
def inputs(recorded: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("sed_inputs", recorded / "inputs.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_names(recorded: Path, kind: str) -> dict[str, Any]:
    names: dict[str, Any] = json.loads((recorded / "names" / f"sed_{kind}.json").read_text())
    return names


def close(found: Tensor, expected: Tensor, what: str = "") -> None:
    assert found.shape == expected.shape, what
    assert (found - expected).abs().max() <= TOLERANCE, what


@pytest.mark.parametrize("kind", ["B", "L"])
def test_names_shapes_and_types_are_the_published_ones_and_go_round(recorded: Path, seeded: ModuleType, kind: str) -> None:
    names = read_names(recorded, kind)
    with torch.device("meta"):
        weights = {name: torch.empty(shape, dtype=getattr(torch, dtype)) for name, (shape, dtype) in names.items()}
        config = published.architecture(weights, "file")
        own = Sed(config).state_dict()
    back = published.to_published_state(own)
    assert {name: [list(value.shape), str(value.dtype)[6:]] for name, value in back.items()} == names
    assert list(published.convert(back)) == list(own)
    if kind == "L":
        assert (config.clip.dropout, config.clip.drop_path) == (0.1, 0.1)


@pytest.fixture(scope="module")
def small(recorded: Path) -> dict[str, Any]:
    values: dict[str, Any] = torch.load(recorded / "values" / "decoder_small.pt", weights_only=True)
    return values


class TestDecoder:
    @pytest.fixture
    def decoder(self, recorded: Path, seeded: ModuleType) -> Decoder:
        names = {name: entry for name, entry in read_names(recorded, "B").items() if name.startswith(DECODER)}
        weights = published.convert({name: seeded.seeded_value(name, shape) for name, (shape, _) in names.items()})
        decoder = Decoder(DecoderConfig(), 80, (512, 256, 128)).eval().requires_grad_(False)
        decoder.load_state_dict({name.removeprefix("decoder."): value for name, value in weights.items()})
        return decoder

    @pytest.mark.parametrize("room", [ROOM, 0], ids=["kept", "computed again"])
    @pytest.mark.parametrize("case", ["p1", "p2", "p2odd", "p2b2"])
    def test_logits(self, small: dict[str, Any], decoder: Decoder, inputs: ModuleType, case: str, room: int) -> None:
        batch, classes, height, width, pooling, _ = small[case]["cfg"]
        decoder.config = DecoderConfig(pooling=(pooling,) * 3)
        dense, text, maps = inputs.decoder_inputs(batch, classes, height, width)
        plain = decoder(dense, text[0], maps[1:])
        close(plain.final[..., ::2, ::2], small[case]["logits"], "final")
        for i, step in enumerate((1, 1, 2)):
            close(plain.auxiliary[i][..., ::step, ::step], small[case][f"head{i}"], f"head{i}")
        found = decode(decoder, dense, text[0], maps[1:], room=room)
        close(torch.stack([each.logits for each in found])[..., ::2, ::2], small[case]["logits"], "in chunks")

    def test_activations(self, small: dict[str, Any], decoder: Decoder, inputs: ModuleType) -> None:
        dense, text, maps = inputs.decoder_inputs(*small["p1"]["cfg"][:4])
        modules = {"conv1": decoder.embed, "decoder_guidance_projection.0": decoder.image_skips[0]}
        modules |= {"decoder_corr_guidance_projection.0": decoder.cost_skips[0], "decoder1.up": decoder.stages[0].up}
        for i, stage in enumerate(decoder.stages, 1):
            modules |= {f"decoder{i}": stage, f"decoder{i}.cnext": stage.spatial, f"decoder{i}.attention": stage.classes}
        seen: dict[str, Tensor] = {}
        for name, module in modules.items():
            module.register_forward_hook(lambda _, __, output, name=name: seen.__setitem__(name, output))
        decoder(dense, text[0], maps[1:])
        close(cost_map(dense, text[0]).transpose(1, 2)[:, ::8], small["p1"]["corr"], "cost map")
        for name in modules:
            expected = small["p1"][f"act.{name}"]
            found = F.relu(seen[name]) if "guidance" in name else seen[name]
            step = found.shape[-1] // expected.shape[-1]
            close(found[::4, ::4, ::step, ::step], expected, name)

    @pytest.mark.parametrize("case", ["p1", "p2"])
    @pytest.mark.parametrize("keep", [1, 2, 8, 100])
    def test_nothing_is_rejected(
        self, small: dict[str, Any], decoder: Decoder, inputs: ModuleType, case: str, keep: int
    ) -> None:
        *cfg, pooling, _ = small[case]["cfg"]
        decoder.config = DecoderConfig(pooling=(pooling,) * 3)
        dense, text, maps = inputs.decoder_inputs(*cfg)
        (found,) = decode(decoder, dense, text[0], maps[1:], keep)
        check(found, small[f"{case}.fast{keep}"], 2)

    @pytest.mark.parametrize("room", [ROOM, 0], ids=["kept", "computed again"])
    @pytest.mark.parametrize("keep", [1, 2, 4, 8])
    def test_rejection(self, small: dict[str, Any], decoder: Decoder, inputs: ModuleType, keep: int, room: int) -> None:
        dense, text, maps = inputs.rejection_inputs()
        (found,) = decode(decoder, dense, text[0], maps[1:], keep, room)
        expected = small[f"rej.fast{keep}"]
        assert torch.equal(found.alive, expected["kept"])
        check(found, expected, 4)

    def test_imposed_rejection_at_each_stage(self, small: dict[str, Any], decoder: Decoder, inputs: ModuleType) -> None:
        dense, text, maps = inputs.decoder_inputs(1, 12, 6, 8)
        expected = small["p1.forced"]
        picture = Picture(decoder, F.normalize(dense, dim=1)[0], text[0], maps[1:], ROOM)
        found = picture.decode(lambda _, stage: expected["masks"][stage])
        assert found.alive.tolist() == expected["kept"].tolist() == [0, 3, 5, 10, 11]
        close(found.probabilities(12)[:, ::2, ::2], expected["prob"][0])

    def test_a_batch_is_its_images(self, decoder: Decoder, inputs: ModuleType) -> None:
        dense, text, maps = inputs.decoder_inputs(2, 40, 6, 8)
        together = decode(decoder, dense, text[0], maps[1:], 2)
        for i in range(2):
            (alone,) = decode(decoder, dense[i : i + 1], text[0], [x[i : i + 1] for x in maps[1:]], 2)
            assert torch.equal(together[i].alive, alone.alive)
            close(together[i].logits, alone.logits)


def check(found: Decoded, expected: dict[str, Any], step: int) -> None:
    """Survivors of each stage, probabilities and the map."""
    masks = expected["valid"]
    assert [len(alive) for alive in found.history] == [int(mask.sum()) for mask in masks]
    before = torch.arange(len(masks[0]))
    for alive, mask in zip(found.history, masks, strict=True):
        before = before[mask]
        assert torch.equal(alive, before)
    probabilities = found.probabilities(len(masks[0]))
    close(probabilities[:, ::step, ::step], expected["prob"][0])
    assert (probabilities.argmax(0) == expected["argmax"][0]).float().mean() >= AGREEMENT


@pytest.fixture(scope="module")
def values(recorded: Path) -> dict[str, Any]:
    values: dict[str, Any] = torch.load(recorded / "values" / "sed_B_eval768.pt", weights_only=True)
    return values


@pytest.fixture(scope="module")
def model(recorded: Path, seeded: ModuleType) -> Sed:
    names = read_names(recorded, "B")
    weights = {name: seeded.seeded_value(name, shape) for name, (shape, _) in names.items()}
    model = Sed(SedConfig()).eval().requires_grad_(False)
    model.load_state_dict(published.convert(weights))
    back = published.to_published_state(model.state_dict())
    assert all(torch.equal(back[name], value) for name, value in weights.items())
    return model


@pytest.fixture(scope="module")
def text(model: Sed, values: dict[str, Any]) -> Tensor:
    return embed(model.clip, values["names"], templates("imagenet"))


@pytest.fixture(scope="module")
def features(model: Sed, inputs: ModuleType, values: dict[str, Any]) -> Any:
    image = inputs.image()
    assert int(image.long().sum()) == values["image_checksum"]
    return model.encode([image])


@pytest.mark.slow
class TestSedB:
    """The whole network on one image, evaluated as published."""

    def test_texts(self, model: Sed, text: Tensor, values: dict[str, Any]) -> None:
        close(text[::3, ::10], values["text_s"])
        close(F.normalize(text.mean(dim=1), dim=-1)[:, ::4], values["text_mean_s"])
        ids = [model.clip.tokenizer.decode(row[1:]) for row in values["tok3"].tolist()]
        close(model.clip.encode_texts(ids), values["tok3_text"], str(ids))

    def test_encoder(self, features: Any, values: dict[str, Any]) -> None:
        close(features.dense[0, ::16], values["vis.dense_full_c16"])
        for name, x in zip(("res2", "res3", "res4", "res5"), features.maps, strict=True):
            step = x.shape[-1] // 12
            close(x[0, ::8, ::step, ::step], values[f"vis.{name}"], name)

    def test_cost_map(self, features: Any, text: Tensor, values: dict[str, Any]) -> None:
        cost = cost_map(features.dense, text)[0].transpose(0, 1)
        close(cost[::8, ::3, ::2, ::2], values["corr_s"])

    def test_all_classes(self, model: Sed, features: Any, text: Tensor, values: dict[str, Any]) -> None:
        (found,) = model.segment(features, text)
        logits = found.masks
        close(logits[:, ::4, ::4], values["logits_s4"])
        assert (logits.argmax(0) == values["argmax192"]).float().mean() >= AGREEMENT
        size = (values["height"], values["width"])
        close(found.pixels(size)[:, ::8, ::8], values["sem_seg_s8"])
        assert (found.semantic(size) == values["argmax"]).float().mean() >= AGREEMENT

    @pytest.mark.parametrize("keep", [1, 2, 8])
    def test_early_rejection(self, model: Sed, features: Any, text: Tensor, values: dict[str, Any], keep: int) -> None:
        (found,) = model.segment(features, text, keep)
        expected = values[f"fast{keep}"]
        check(
            found.decoded,
            {"valid": expected["valid"], "prob": expected["prob_s8"][None], "argmax": expected["argmax192"][None]},
            8,
        )


@pytest.mark.slow
def test_training(model: Sed, text: Tensor, inputs: ModuleType) -> None:
    """Losses, and the norm of their sum's gradient, that the official network had on two images of 384 × 384."""
    images, labels = inputs.train_batch()
    learner = Sed(SedConfig(resolution=384)).train()
    learner.load_state_dict(model.state_dict())
    logits = learner(learner.encode(images), text)
    wanted = [own.masked_fill(own == 255, IGNORED) for own in labels]
    total = sum(terms(own, len(text)) for own in wanted)
    found = [
        torch.stack([pixel_loss(own, target) for own, target in zip(head, wanted, strict=True)]).sum() / total
        for head in (logits.final, *logits.auxiliary)
    ]
    expected = (1.0556043, 0.6893405, 0.6853228, 0.8204705)
    assert [loss.item() for loss in found] == pytest.approx(expected, abs=TOLERANCE)
    torch.stack(found).sum().backward()
    gradients = [parameter.grad for parameter in learner.parameters() if parameter.grad is not None]
    assert len(gradients) == len([p for p in learner.parameters() if p.requires_grad]) == 458
    assert torch.stack([gradient.norm() for gradient in gradients]).norm().item() == pytest.approx(11.466385, rel=1e-4)
