"""The published command line, with files of theirs and of ours."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml

import eval as evaluation
import train as training
from datasets.streams import EvaluationConfig
from tests.xdecoder.published.published_files import SVLP_FOCAL_T, small_file, training_file
from trainer import published
from trainer.distributed import ALONE
from trainer.evaluation.evaluation import Evaluation, NetworkSource
from trainer.experiment import ExperimentConfig, build_trainer
from xdecoder import checkpoint
from xdecoder.config import ConfigError, load
from xdecoder.model import XDecoder
from xdecoder.published import checkpoints, commands

pytestmark = pytest.mark.slow

OURS = "configs/xdecoder/svlp_focalt_lang.yaml"
COCO = '["coco_2017_val_panoptic_with_sem_seg"]'


def write(path: Path, tree: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(tree))
    return path


def read(*arguments: str | Path, processes: int = 1, root: str | None = None) -> published.PublishedExperiment:
    return published.read(commands.parse([str(argument) for argument in arguments]), processes, root)


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    return write(tmp_path / "theirs/svlp_focalt_lang.yaml", SVLP_FOCAL_T)


@pytest.fixture
def ours(root: Path) -> Path:
    return root / OURS


def test_both_files_of_the_name_give_the_published_network(theirs: Path, ours: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = read("evaluate", "--conf_files", ours, "--overrides", "WEIGHT", "/pth/to/ckpt")
    assert not caplog.records
    second = read("evaluate", "--conf_files", theirs, "--overrides", "WEIGHT", "/pth/to/ckpt", processes=8, root="/data")
    assert "SOMETHING_FORGOTTEN" in caplog.text
    assert first.weights == second.weights == "/pth/to/ckpt"
    assert first.config == load(ExperimentConfig, ours)
    a, b = (each.config.model.model_dump() for each in (first, second))
    assert a["backbone"].pop("drop_path") == 0.3 and b["backbone"].pop("drop_path") == 0.2
    assert a == b
    assert first.config.data.evaluate == second.config.data.evaluate  # eight processes share a batch of eight
    assert second.config.tasks.segmentation == first.config.tasks.segmentation
    assert (str(second.config.output), str(second.config.data.root)) == ("out", "/data")


@pytest.mark.parametrize("kind", ["theirs", "ours"])
def test_overrides_mean_what_they_say(kind: str, request: pytest.FixtureRequest) -> None:
    path: Path = request.getfixturevalue(kind)
    given = ["WEIGHT", "a.pt", "DATASETS.TEST", '["coco_kit_val"]', "FP16", "0", "CUDA", "false", "SAVE_DIR", "here"]
    given += ["COCO.TEST.BATCH_SIZE_TOTAL", "4", "COCO.INPUT.MIN_SIZE_TEST", "640"]
    given += ["MODEL.DECODER.TEST.OBJECT_MASK_THRESHOLD", "0.4"]
    config = read("evaluate", "--conf_files", path, "--overrides", *given, processes=2).config
    masks, texts = config.data.evaluate
    assert (masks.dataset, masks.tasks, masks.batch_size) == ("coco_kit_val", ("segmentation",), 2)
    assert masks.transform.model_dump()["size"] == 640
    assert (texts.tasks, texts.transform.model_dump()["name"]) == (("captioning", "retrieval"), "stretch")
    assert (config.trainer.precision, config.trainer.device) == ("float32", "cpu")
    assert config.tasks.segmentation.postprocessing.object_threshold == 0.4
    assert str(config.output) == "here"
    assert read("evaluate", "--conf_files", path, "--overrides", "FP16", "1").config.trainer.precision == "fp16"
    as_json = ["--config_overrides", '{"FP16": true,', '"COCO": {"TEST": {"BATCH_SIZE_TOTAL": 6}}}']
    assert read("evaluate", "--conf_files", path, *as_json).config.data.evaluate[0].batch_size == 6


def test_an_override_beats_our_file_also_where_it_says_the_published_default(tmp_path: Path, ours: Path) -> None:
    other = {"trainer": {"precision": "bf16"}, "tasks": {"captioning": {"max_length": 9}}}
    path = write(tmp_path / "half.yaml", {"base": str(ours), **other})
    config = read("evaluate", "--conf_files", path, "--overrides", "FP16", "False").config
    assert config.trainer.precision == "float32" and config.tasks.captioning.max_length == 9


@pytest.mark.parametrize("kind", ["theirs", "ours"])
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["WEIGTH", "x"], r"WEIGTH: unknown key; did you mean 'WEIGHT'\?"),
        (["MODEL.DECODER.NUM_OBJECT_QUERYS", "7"], r"did you mean 'MODEL\.DECODER\.NUM_OBJECT_QUERIES'\?"),
        (["FP16", "maybe"], "FP16: expected true or false, not 'maybe'"),
        (["DATASETS.TEST", "coco_kit_val"], "DATASETS.TEST: expected a list such as"),
        (["DATASETS.TEST", '["x"]'], "DATASETS.TEST: unknown data set 'x'; known are coco_2017_val_panoptic_with_sem_seg"),
        (["COCO.TEST.BATCH_SIZE_TOTAL", "many"], "COCO.TEST.BATCH_SIZE_TOTAL: expected a number, not 'many'"),
        (["COCO.TEST.BATCH_SIZE_TOTAL", "1.5"], "expected a whole number, not 1.5"),
        (["MODEL.DECODER.PRE_NORM", "True"], "MODEL.DECODER.PRE_NORM is True; only False is supported here"),
        (["MODEL.BACKBONE.NAME", "vit"], "MODEL.BACKBONE.NAME is 'vit'; expected focal_dw, focal or davit"),
        (["WEIGHT"], "--overrides: expected pairs of key and value, but 'WEIGHT' has no partner"),
    ],
)
def test_wrong_overrides(kind: str, words: Sequence[str], sentence: str, request: pytest.FixtureRequest) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        read("evaluate", "--conf_files", request.getfixturevalue(kind), "--overrides", *words)
    assert "\n" not in str(caught.value)


def test_wrong_files(tmp_path: Path) -> None:
    for change, sentence in (
        ({"DATASET": {"TEST": []}}, r"unknown key 'DATASET'; did you mean 'DATASETS'\?"),
        ({"MODEL": {"NAME": "seem_model_v1"}}, "MODEL.NAME is 'seem_model_v1'; only 'xdecoder_model' is supported"),
        ({"COCO": 3}, "COCO: expected a mapping of settings, not 3"),
    ):
        tree = {key: value for key, value in SVLP_FOCAL_T.items() if key != "DATASETS"} | change
        with pytest.raises(ConfigError, match=rf"wrong\.yaml: {sentence}"):
            read("--conf_files", write(tmp_path / "wrong.yaml", tree))
    with pytest.raises(ConfigError, match="--conf_files: expected one or more YAML files"):
        read("evaluate", "--conf_files")
    with pytest.raises(ConfigError, match="no such configuration file"):
        read("evaluate", "--conf_files", tmp_path / "nowhere.yaml")


def test_files_are_laid_over_each_other_block_by_block(tmp_path: Path, theirs: Path) -> None:
    dotted = write(tmp_path / "dotted.yaml", {"MODEL.DECODER.NUM_OBJECT_QUERIES": 201})
    assert read("--conf_files", theirs, dotted).config.model.decoder.queries == 201
    block = write(tmp_path / "block.yaml", {"MODEL": {"DECODER": {"NUM_OBJECT_QUERIES": 201}}})
    model = read("--conf_files", theirs, block).config.model
    assert model.decoder.queries == 201 and model.backbone.drop_path == 0.3, "the first file's MODEL is gone"


@pytest.mark.parametrize("name", ["focal_l", "davit_d3", "davit_d3_deformable", "davit_d5"])
def test_the_other_published_networks(tmp_path: Path, root: Path, name: str) -> None:
    tree = training_file()
    backbone: dict[str, Any] = tree["MODEL"]["BACKBONE"]
    tree["MODEL"]["DECODER"]["NUM_OBJECT_QUERIES"] = 201
    if name == "focal_l":
        backbone["NAME"] = "focal"
        backbone["FOCAL"] |= {"EMBED_DIM": 192, "DEPTHS": [2, 2, 18, 2], "FOCAL_LEVELS": [4] * 4, "DROP_PATH_RATE": 0.3}
    else:
        wide = 2 if name == "davit_d5" else 1
        backbone |= {
            "NAME": "davit",
            "DAVIT": {
                "DROP_PATH_RATE": 0.3,
                "PATCH_SIZE": [7, 3, 3, 3] if wide == 2 else [7, 2, 2, 2],
                "PATCH_STRIDE": [4, 2, 2, 2],
                "PATCH_PADDING": [3, 1, 1, 1],
                "PATCH_PRENORM": [False, True, True, True],
                "DIM_EMBED": [wide * width for width in (128, 256, 512, 1024)],
                "NUM_HEADS": [wide * heads for heads in (4, 8, 16, 32)],
                "DEPTHS": [1, 1, 9, 1],
            },
        }
    if name.endswith("deformable"):
        tree["MODEL"]["ENCODER"]["NAME"] = "transformer_encoder_deform"
    found = read("--conf_files", write(tmp_path / "lang.yaml", tree)).config.model
    assert found == load(ExperimentConfig, root / f"configs/xdecoder/{name}.yaml").model


def test_training(tmp_path: Path) -> None:
    path = write(tmp_path / "train.yaml", training_file())
    config = read("train", "--conf_files", path, "--overrides", "WEIGHT", "True", "RESUME_FROM", "start.pt").config
    stream, pairs = config.data.train
    assert (stream.dataset, stream.tasks) == ("coco_2017_train_panoptic_filtall", ("segmentation", "referring"))
    assert (pairs.dataset, pairs.tasks) == ("vlp_train", ("captioning", "retrieval"))
    assert (stream.batch_size, pairs.batch_size, pairs.transform.model_dump()["size"]) == (8, 2, 224)
    trainer = config.trainer
    assert trainer.steps == 50 * (118287 // 8)
    assert (trainer.learning_rate, trainer.weight_decay, trainer.clip_norm, trainer.accumulation) == (2e-4, 0.01, 3.0, 2)
    assert trainer.lr_multipliers == {"backbone": 0.3, "language": 0.1} and trainer.precision == "fp16"
    assert trainer.schedule.model_dump() == {"name": "multistep", "milestones": (0.5, 0.75), "factor": 0.2}
    assert (config.tasks.captioning.weight, config.tasks.retrieval.weight, config.tasks.referring.layers) == (8, 8, 6)


@pytest.fixture
def small(tmp_path: Path) -> tuple[Path, Path]:
    """A published file of a small network, and its weights as the original would have written them."""
    path = write(tmp_path / "small.yaml", small_file() | {"SAVE_DIR": str(tmp_path / "out")})
    torch.manual_seed(0)
    checkpoints.save(XDecoder(read("--conf_files", path).config.model), tmp_path / "small.pt")
    return path, tmp_path / "small.pt"


def test_eval_from_end_to_end(
    small: tuple[Path, Path], ours: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[XDecoder, tuple[EvaluationConfig, ...]]] = []

    def measure(source: NetworkSource, config: ExperimentConfig, *_: object, **__: object) -> Evaluation:
        seen.append((source.model, config.data.evaluate))
        return Evaluation({"coco/PQ": 50.8}, {})

    monkeypatch.setattr("trainer.evaluation.evaluation.measure", measure)
    line = ["evaluate", "--conf_files", str(small[0]), "--overrides"]
    assert evaluation.main([*line, "WEIGHT", str(small[1]), "DATASETS.TEST", COCO, "CUDA", "0"]) == 0
    assert "coco/PQ" in capsys.readouterr().out
    weights = checkpoints.open_checkpoint(small[1]).weights
    assert all(torch.equal(value, weights[name]) for name, value in seen[0][0].state_dict().items())
    assert seen[0][1][0].dataset == "coco_2017_val_panoptic"
    assert evaluation.main([*line, "WEIGHT", "/nowhere.pt", "CUDA", "0"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "error: /nowhere.pt: no such checkpoint"
    assert evaluation.main(["train", *line[1:], "WEIGHT", "x"]) == 2
    assert "this script can only evaluate; use train.py" in capsys.readouterr().err
    assert evaluation.main(["evaluate", "--conf_files", str(ours), "--overrides", "WEIGHT", str(small[1]), "CUDA", "0"]) == 2
    assert "small.pt: checkpoint of another architecture" in capsys.readouterr().err


def test_train_starts_from_the_weights(small: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[ExperimentConfig] = []

    def train(config: ExperimentConfig, options: argparse.Namespace) -> int:
        seen.append(config)
        return 0

    monkeypatch.setattr(training, "train", train)
    assert training.main(["train", "--conf_files", str(small[0]), "--overrides", "WEIGHT", str(small[1])]) == 0
    assert seen[0].weights == str(small[1]) and seen[0].data.train[0].dataset == "coco_2017_train_panoptic_filtall"


def test_a_new_run_starts_from_the_weights_and_a_resumed_one_does_not(small: tuple[Path, Path], tmp_path: Path) -> None:
    config = read("evaluate", "--conf_files", small[0], "--overrides", "CUDA", "0").config
    config = config.model_copy(update={"weights": str(small[1]), "output": tmp_path / "run", "seed": 3})
    trainer = build_trainer(config, torch.device("cpu"), ALONE)
    weights = checkpoints.open_checkpoint(small[1]).weights
    assert all(torch.equal(value, weights[name]) for name, value in trainer.model.state_dict().items())
    with torch.no_grad():
        trainer.model.backbone_proj.zero_()
    trainer.save()
    assert not build_trainer(config, torch.device("cpu"), ALONE).model.backbone_proj.any()


def demo(root: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(root / "demo"))
    spec = importlib.util.spec_from_file_location(name, root / f"demo/{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules.pop("common", None)
    return module


NAMES = ["semseg", "instseg", "panoseg", "refseg", "captioning", "refcap", "retrieval", "region_retrieval"]


@pytest.mark.parametrize("name", NAMES)
def test_demos(
    name: str,
    root: Path,
    small: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    module = demo(root, f"demo_{name}", monkeypatch)
    monkeypatch.chdir(tmp_path)
    theirs = ["evaluate", "--conf_files", str(small[0]), "--overrides", "WEIGHT", str(small[1])]
    texts = [] if name == "captioning" else ["--texts", "cube", "grass"]
    between = [*theirs[:3], "--texts", "sky", "star", *theirs[3:]]
    before = ["--output", "output/answer.png", *theirs]
    for arguments in (between, before, ["--checkpoint", str(small[1]), *texts]):
        monkeypatch.setattr(sys, "argv", ["demo", *arguments])
        more = {"options": module.threshold} if hasattr(module, "threshold") else {}
        assert module.main(module.ask, "answer.png", texts=("star",), **more) == 0
        answer = capsys.readouterr().out
        if name != "captioning":
            assert answer.splitlines()[-1] == "output/answer.png" and (tmp_path / "output/answer.png").stat().st_size > 0
            (tmp_path / "output/answer.png").unlink()
    monkeypatch.setattr(sys, "argv", ["demo"])
    assert module.main(module.ask, "answer.png") == 2
    assert capsys.readouterr().err == "error: no network is named; add --checkpoint FILE\n"


def test_our_own_checkpoints_are_read_as_well(small: tuple[Path, Path], tmp_path: Path) -> None:
    found = checkpoints.open_checkpoint(small[1])
    checkpoint.save(found.build(), tmp_path / "ours.safetensors")
    again = checkpoints.open_checkpoint(tmp_path / "ours.safetensors")
    assert again.config == found.config and not again.inferred and found.inferred
