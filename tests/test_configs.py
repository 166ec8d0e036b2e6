"""Every committed experiment can be read and built."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.tiny import tiny_batch
from trainer.adaptation import adapt, freeze
from trainer.experiment import ExperimentConfig
from trainer.optim import build_optimizer
from trainer.trainer import Learner, Stream
from trainer.words import WordsConfig
from xdecoder import weights
from xdecoder.config import ConfigError, load
from xdecoder.model import XDecoder
from xdecoder.published.architectures import ARCHITECTURES, SEEM
from xdecoder.types import Question

pytestmark = pytest.mark.slow

EVERY = sorted((Path(__file__).resolve().parent.parent / "configs").rglob("*.yaml"))
CONFIGS = [path for path in EVERY if path.stem != "words"]  # the stage before training is no experiment
PUBLISHED = {
    "focalt": "focal_t",
    "focall": "focal_l",
    "davitd3": "davit_d3",
    "davitd3_deform": "davit_d3_deformable",
    "davitd5": "davit_d5",
}


SMALL = (
    "model.pixel_decoder={name: fpn, width: 32, layers: 1, heads: 4, hidden: 64}",
    "model.backbone.drop_path=0",
    "model.decoder.width=32",
    "model.decoder.hidden=64",
    "model.decoder.joint_width=32",
    "model.decoder.queries=9",
    "model.language={merges: 500, context_length: 77, width: 32, heads: 4, layers: 1, output_width: 32}",
    "tasks.segmentation.points=64",
    "tasks.segmentation.matching.points=64",
    "tasks.referring.points=64",
    "tasks.referring.matching.points=64",
)
"""Settings that keep a published network's make but make it small."""


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_config_builds(path: Path) -> None:
    config = load(ExperimentConfig, path)
    with torch.device("meta"):
        config.model.empty()
    for entry in (*config.data.train, *config.data.evaluate):
        assert [task.name for task in config.tasks.build(entry.tasks)] == list(entry.tasks)
    assert config.data.evaluate


def test_the_pocket_network_is_small_and_its_rivals_alike(root: Path) -> None:
    """Its recipe, and those that learn one of its tasks in as many steps."""
    folder = root / "configs/pocket"
    words, whole = load(WordsConfig, folder / "words.yaml"), load(ExperimentConfig, folder / "photographs.yaml")
    with torch.device("meta"):
        model = whole.model.empty()
    freeze(model, whole.trainer.freeze)
    assert sum(parameter.numel() for parameter in model.parameters()) <= 15e6
    assert not model.backbone.network.conv_stem.weight.requires_grad
    assert set(words.sets) <= {name for stream in whole.data.train for name in stream.datasets}
    taught = {task for stream in whole.data.train for task in stream.tasks}
    alone = [load(ExperimentConfig, folder / f"{name}_only.yaml") for name in ("regions", "phrases", "captions", "pairs")]
    assert [config.data.train[0].tasks for config in alone] == [
        ("segmentation",),
        ("referring",),
        ("captioning",),
        ("retrieval",),
    ]
    assert {config.data.train[0].tasks[0] for config in alone} == taught
    for config in alone:
        assert (config.model, config.tasks, config.trainer, config.seed) == (
            whole.model,
            whole.tasks,
            whole.trainer,
            whole.seed,
        )
        like = next(stream for stream in whole.data.train if config.data.train[0].tasks[0] in stream.tasks)
        same = {"tasks": like.tasks, "places": like.places, "max_phrases": like.max_phrases}
        assert config.data.train[0].model_copy(update=same) == like, "the same pictures in the same batches"


@pytest.mark.parametrize(("name", "width"), [("focal_t", 16), ("focal_l", 16), ("davit_d3", 32), ("davit_d5", 32)])
def test_one_step_of_the_pretraining(root: Path, name: str, width: int) -> None:
    """The YAML's network made small, with its tasks, weights and optimiser, on a batch for each of its streams."""
    config = load(ExperimentConfig, root / f"configs/xdecoder/{name}.yaml", [f"model.backbone.width={width}", *SMALL])
    assert [stream.tasks for stream in config.data.train] == [("segmentation", "referring"), ("captioning", "retrieval")]
    torch.manual_seed(0)
    model = XDecoder(config.model).train()
    trainer = config.trainer
    optimizer = build_optimizer(
        model, trainer.learning_rate, trainer.weight_decay, trainer.lr_multipliers or model.lr_multipliers
    )
    streams = [Stream(config.tasks.build(s.tasks), lambda start: iter(()), s.loss_weight) for s in config.data.train]
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    terms = Learner(model, streams)([tiny_batch() for _ in streams], [None] * len(streams))
    kinds = {name.rsplit("/layer", 1)[0] for name in terms}
    assert kinds == {
        "segmentation/class",
        "segmentation/mask",
        "segmentation/dice",
        "segmentation/noun",
        "referring/class",
        "referring/mask",
        "referring/dice",
        "captioning/word",
        "retrieval/pair",
        "retrieval/word",
        "retrieval/backbone",
    }
    torch.stack(list(terms.values())).sum().backward()
    optimizer.step()
    still = [name for name, value in model.named_parameters() if torch.equal(value, before[name])]
    assert not still, "every weight learns from some task"


def test_the_lora_recipe_names_what_there_is(root: Path) -> None:
    config = load(ExperimentConfig, root / "configs/finetune/ade20k_lora.yaml")
    assert config.trainer.lora is not None
    with torch.device("meta"):
        model = XDecoder(config.model)
        adapt(model, config.trainer.lora)
    learning = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert learning < 0.02 * sum(parameter.numel() for parameter in model.parameters())


SEEMS = {
    "focalt": "focal_t",
    "focall": "focal_l",
    "davitd3": "davit_d3",
    "davitd5": "davit_d5",
    "samvitb": "sam_b",
    "samvitl": "sam_l",
}


@pytest.mark.parametrize("name", SEEM)
def test_one_config_per_published_seem(root: Path, name: str) -> None:
    """Behind Focal and DaViT only the decoder learns, 39.8 M parameters; SAM's neck and pixel decoder are new and learn too."""
    config = load(ExperimentConfig, root / f"configs/seem/{SEEMS[name]}.yaml")
    for part, settings in SEEM[name].items():
        given = getattr(config.model, part).model_dump(mode="json")
        assert {key: given[key] for key in settings} == settings
    with torch.device("meta"):
        model = config.model.build()
    freeze(model, config.trainer.freeze)
    learning = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert (learning == 39_812_608) == (not name.startswith("sam"))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_one_config_per_published_network(root: Path, name: str) -> None:
    model = load(ExperimentConfig, root / f"configs/xdecoder/{PUBLISHED[name]}.yaml").model
    assert model.published_quirks
    for part, settings in ARCHITECTURES[name].items():
        given = getattr(model, part).model_dump(mode="json")
        assert {key: given[key] for key in settings} == settings


SIZES = {
    "xdecoder/focal_t": "focal-t",
    "xdecoder/focal_l": "focal-l",
    "seem/focal_t": "seem-focal-t",
    "seem/focal_l": "seem-focal-l",
    "seem/sam_b": "seem-sam-b",
    "seem/sam_l": "seem-sam-l",
}


@pytest.mark.parametrize(("config", "name"), SIZES.items())
def test_the_list_of_weights_says_how_many_there_are(root: Path, config: str, name: str) -> None:
    with torch.device("meta"):
        model = load(ExperimentConfig, root / f"configs/{config}.yaml").model.empty()
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6) == weights.PUBLISHED[name].millions


def test_the_published_command_has_its_file(root: Path) -> None:
    evaluated = load(ExperimentConfig, root / "configs/xdecoder/svlp_focalt_lang.yaml")
    assert evaluated.model == load(ExperimentConfig, root / "configs/xdecoder/focal_t.yaml").model
    assert [entry.dataset for entry in evaluated.data.evaluate] == ["coco_2017_val_panoptic", "ade20k_panoptic_val"]


def test_two_steps_of_answering(root: Path) -> None:
    """The recipe made small, on questions whose answers it knows: all of the network learns, at the paper's three rates."""
    small = [setting for setting in SMALL if not setting.startswith("tasks")]
    config = load(ExperimentConfig, root / "configs/finetune/vqav2.yaml", ["model.backbone.width=16", *small])
    assert config.model.answers is not None and len(config.model.answers.answers) == 3129
    torch.manual_seed(0)
    model, trainer = XDecoder(config.model).train(), config.trainer
    optimizer = build_optimizer(model, trainer.learning_rate, trainer.weight_decay, trainer.lr_multipliers)
    assert {round(group["lr"], 9) for group in optimizer.param_groups} == {1e-5, 1e-4, 1e-3}
    asked = tuple(Question(i, f"what is in picture {i}?", ("yes",) * 7 + ("dog",) * 3) for i in range(10))
    samples = tuple(replace(sample, questions=asked) for sample in tiny_batch().samples)
    batch = replace(tiny_batch(), samples=samples)
    learner = Learner(model, [Stream(config.tasks.build(("vqa",)), lambda start: iter(()), 1.0)])
    seen = []
    for _ in range(2):
        optimizer.zero_grad()
        terms = learner([batch], [None])
        assert set(terms) == {"vqa/answer"}
        terms["vqa/answer"].backward()
        assert model.answers is not None and model.answers.query_content.weight.grad is not None
        optimizer.step()
        seen.append(terms["vqa/answer"].item())
    assert seen[1] < seen[0]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.decoder.layers=10000000", r"model: decoder\.layers is 10000000; at most 1000 could be built"),
        ("model.decoder.queries=1000000000", r"model: decoder\.queries is 1000000000; at most 1000000 could be built"),
        ("model.image_size=1000000", r"model: image_size is 1000000; at most 8192 could be built"),
        ("data.workers=100000", r"data\.workers.* less than or equal to 256 \(given: 100000\)"),
    ],
)
def test_what_no_machine_could_hold_is_refused_before_it_is_built(root: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(ExperimentConfig, root / "configs/shapes/quickstart.yaml", [override])
