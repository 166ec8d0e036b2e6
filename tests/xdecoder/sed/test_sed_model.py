"""SED as a network of the house."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

import xdecoder
from tests.tiny import tiny_batch, tiny_tasks
from tests.xdecoder.sed.tiny import SETTINGS, tiny_sed
from trainer.adaptation import freeze
from xdecoder import checkpoint
from xdecoder.config import ConfigError, parse
from xdecoder.inference.predictor import Predictor
from xdecoder.losses.context import StepContext
from xdecoder.published import checkpoints
from xdecoder.sed.inference import Decoded
from xdecoder.sed.model import FINETUNING, PixelEvidence, SedConfig
from xdecoder.tasks import TasksConfig
from xdecoder.types import Batch

TASKS = tiny_tasks().build(["segmentation"])


def test_losses_of_all_heads_teach_the_decoder_and_the_image_encoder() -> None:
    model = tiny_sed().train()
    terms = model.losses(TASKS, tiny_batch())
    assert list(terms) == [f"segmentation/pixels/layer{i}" for i in range(4)]
    torch.stack(list(terms.values())).sum().backward()
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    assert all(p.grad is None and not p.requires_grad for p in model.clip.text_parameters())


def test_whether_skips_teach_the_encoder() -> None:
    """From the maps that join the stages, the first weights of the encoder learn only where they are told to."""
    taught = {}
    for teach in (False, True):
        model = tiny_sed(decoder={**SETTINGS["decoder"], "skips_teach": teach}).train()
        features = model.encode(tiny_batch().images)
        total = sum(skip.sum() for skip in model.decoder.skips(features.skips))
        assert isinstance(total, Tensor)
        total.backward()
        stem = model.clip.model.visual.trunk.stem[0].weight.grad
        taught[teach] = stem is not None and bool(stem.any())
    assert taught == {False: False, True: True}


def test_two_batches_add_up_to_one() -> None:
    model, batch = tiny_sed(), tiny_batch()
    context = StepContext(model.counts(TASKS, batch))
    halves = [Batch((sample,), batch.vocabulary, batch.source) for sample in batch.samples]
    apart = [model.losses(TASKS, half, context) for half in halves]
    for name, value in model.losses(TASKS, batch).items():
        assert torch.allclose(apart[0][name] + apart[1][name], value, atol=1e-5)


@pytest.mark.parametrize("ignored", ["negative", "left out"])
def test_loss_is_the_mean_over_classes_and_pixels(ignored: str) -> None:
    model, batch = tiny_sed(ignored=ignored), tiny_batch()
    sample = batch.samples[1]  # a dog on a ground of no class
    (found, *_) = model.losses(TASKS, Batch((sample,), batch.vocabulary, "test")).values()
    assert sample.segments is not None and batch.vocabulary is not None
    logits = model(model.encode([sample.image]), model.embed(batch.vocabulary.prompts)).final
    full = torch.nn.functional.interpolate(logits, (48, 64), mode="bilinear")[0]
    target = torch.zeros(3, 48, 64)
    target[1] = sample.segments.masks[0].float()
    each = torch.nn.functional.binary_cross_entropy_with_logits(full, target, reduction="none")
    expected = each.mean() if ignored == "negative" else each[:, sample.segments.masks[0]].mean()
    assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("policy", "learns"),
    {
        "full": lambda name: True,
        "full_res5": lambda name: "stages.3" in name or name.startswith("decoder"),
        "mlp": lambda name: ".mlp." in name or name.startswith("decoder"),
        "conv": lambda name: "conv" in name or name.startswith("decoder"),
        "attention": lambda name: name.startswith("decoder"),
        "fast_infer": lambda name: name.startswith("decoder.auxiliary_heads"),
    }.items(),
)
def test_published_policies_of_learning(policy: str, learns: object) -> None:
    model = tiny_sed()
    could = {name for name, p in model.named_parameters() if p.requires_grad}
    freeze(model, FINETUNING[policy])
    assert callable(learns)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {name for name in could if learns(name)}


def test_prediction_is_a_map_at_the_asked_size() -> None:
    model, batch = tiny_sed(), tiny_batch()
    with torch.inference_mode():
        results = model.predict(TASKS, batch)["segmentation"]
    assert [result.semantic.shape for result in results] == [(64, 96), (48, 64)]
    assert all(result.instances is None and result.panoptic is None for result in results)


@pytest.mark.parametrize("keep", [None, 1])
def test_labels_are_the_best_of_all_probabilities_resized(keep: int | None) -> None:
    model = tiny_sed()
    names = [f"class {i}" for i in range(30)]
    with torch.inference_mode():
        (found,) = model.segment(model.encode([tiny_batch().images[0]]), model.embed(names), keep)
    assert found.decoded is not None
    every = found.decoded.probabilities(30)
    full = torch.nn.functional.interpolate(every[None], (50, 70), mode="bilinear")[0]
    assert torch.equal(found.semantic((50, 70)), full.argmax(dim=0))
    assert torch.equal(found.semantic((50, 70), 0.5) == -1, full.amax(dim=0) < 0.5)


def test_where_nothing_is_likely_a_rejected_class_may_win() -> None:
    logits = torch.full((1, 2, 2), -300.0)  # a probability of 0
    found = PixelEvidence.of(Decoded(logits, torch.tensor([1]), ()), 3)
    assert found.semantic((2, 2)).tolist() == [[0, 0], [0, 0]]


def test_file_tells_the_network(tmp_path: Path) -> None:
    model = tiny_sed()
    checkpoint.save(model, tmp_path / "sed.pt")
    loaded = xdecoder.load(tmp_path / "sed.pt").model
    assert loaded.config == model.config
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, model.state_dict()[name])


def test_published_names_start_training(tmp_path: Path) -> None:
    model, other = tiny_sed(), tiny_sed()
    for p in other.parameters():
        torch.nn.init.constant_(p, 0.5)
    checkpoints.save(model, tmp_path / "published.pth")
    assert all(name.startswith("sem_seg_head.predictor.") for name in torch.load(tmp_path / "published.pth"))
    done = checkpoints.initialise(other, tmp_path / "published.pth")
    assert not done.unused and not done.other_shape
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))


def test_open_clips_file_fills_the_encoder_and_another_size_is_refused(tmp_path: Path) -> None:
    model = tiny_sed()
    torch.save(model.clip.model.state_dict(), tmp_path / "clip.pt")
    settings = {**SETTINGS, "clip": {**SETTINGS["clip"], "weights": str(tmp_path / "clip.pt")}}  # type: ignore[dict-item]
    started = parse(SedConfig, settings).build()
    assert torch.equal(started.clip.model.text_projection, model.clip.model.text_projection)
    settings["clip"] |= {"joint_width": 16}
    with pytest.raises(
        ValueError, match=r"clip.pt: checkpoint of another architecture \(0 weights missing, 0 unknown, 2 of an"
    ):
        parse(SedConfig, settings).build()


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        ({"model": "ViT-B-32"}, "'ViT-B-32' is not a ConvNeXt CLIP of open_clip; expected one of convnext_base"),
        ({"model": "convnext_base_w_32"}, "did you mean 'convnext_base_w_320'"),
        ({"trunk": "convnext_ato"}, "trunk 'convnext_ato' is not known to timm; did you mean 'convnext_atto'"),
        ({"trunk": "resnet18"}, "trunk 'resnet18' is not a ConvNeXt"),
        ({"text_width": 65}, "text_width must be a multiple of 64, not 65"),
    ],
)
def test_bad_encoders(clip: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(SedConfig, {"name": "sed", "clip": clip})


class TestPredictor:
    @pytest.fixture
    def predictor(self) -> Predictor:
        return Predictor(tiny_sed())

    def image(self, width: int = 40, height: int = 30) -> Image.Image:
        pixels: Tensor = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8)
        return Image.fromarray(pixels.numpy())

    def test_segment(self, predictor: Predictor) -> None:
        found = predictor.segment([self.image(), self.image(20, 50)], ["cat", "dog, hound"])
        assert [tuple(each.labels.shape) for each in found] == [(30, 40), (50, 20)]

    @pytest.mark.parametrize("size", [(1, 1), (1, 300)])
    def test_smallest_images(self, predictor: Predictor, size: tuple[int, int]) -> None:
        found = predictor.segment(self.image(*size), ["cat"])
        assert tuple(found.labels.shape) == size[::-1] and found.labels.unique().tolist() == [0]

    def test_more_survivors_than_classes(self, predictor: Predictor) -> None:
        tasks = parse(TasksConfig, {"segmentation": {"early_rejection": {"keep": 9}}})
        image = self.image()
        plain = predictor.segment(image, ["cat", "dog"])
        assert torch.equal(Predictor(predictor.model, tasks=tasks).segment(image, ["cat", "dog"]).labels, plain.labels)

    def test_windows(self, predictor: Predictor) -> None:
        assert tuple(predictor.segment(self.image(100, 80), ["cat", "dog"], tile=64).labels.shape) == (80, 100)

    def test_what_it_cannot(self, predictor: Predictor) -> None:
        with pytest.raises(ValueError, match=r"\(sed\) tells the classes of pixels, not objects"):
            predictor.panoptic(self.image(), ["cat"])
        with pytest.raises(ValueError, match=r"\(sed\) tells the classes of pixels, not objects"):
            predictor.instances(self.image(), ["cat"])
        with pytest.raises(ValueError, match=r"\(sed\) cannot do captioning; it does segmentation"):
            predictor.caption(self.image())
        with pytest.raises(ValueError, match=r"\(sed\) cannot do referring; it does segmentation"):
            predictor.refer(self.image(), ["cat"])


@torch.inference_mode()
def test_texts_that_are_not_finite_name_the_image() -> None:
    model = tiny_sed().eval()
    for parameter in model.clip.text_parameters():
        parameter.fill_(float("nan"))
    with pytest.raises(ValueError, match="image first: a mask is not finite"):
        model.predict(TASKS, tiny_batch())
    with pytest.raises(ValueError, match="^a mask is not finite"):
        Predictor(model).segment(tiny_batch().samples[0].image, ["cat", "dog"])
