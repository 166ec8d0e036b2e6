"""What 150, 847 and 10 000 class names cost, with and without early rejection of classes, and what rejection loses.

python benchmarks/large_vocabulary.py [--config FILE] [--checkpoint runs/quickstart/model.pt --root data]

Costs are those of the network in --config with seeded random weights, whose probabilities are as flat as can be, which is the
worst case. With --checkpoint, a network trained on `shapes`, scores and agreement are measured on shapes_val, whose 18 classes
stand among names that mean nothing there. Prints tables and one JSON line.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the rooms beside this one are not installed

from datasets.evaluators import PanopticEvaluator, SemanticEvaluator
from datasets.loader import evaluation_loader
from datasets.streams import EvaluationConfig
from trainer.experiment import ExperimentConfig
from xdecoder import checkpoint, postprocessing
from xdecoder.config import load, parse
from xdecoder.language import vocabularies
from xdecoder.model import XDecoder
from xdecoder.tasks.segmentation import EarlyRejection, SegmentationConfig
from xdecoder.types import Batch, Sample, SegmentationResult, Vocabulary

COUNTS = (150, 847, 10_000)
ADJECTIVES = ("wooden", "broken", "tall", "painted", "wet", "old", "striped", "folded", "rusty", "round", "tiny", "frozen")
PLAIN_BYTES = 3 << 29  # beyond this much memory, the sums of all classes at once are not tried
Result = TypeVar("Result")
Row = dict[str, Any]


def names(count: int) -> tuple[str, ...]:
    """Class names of the public sets, then the same with an adjective."""
    lists = [vocabularies.load(name).vocabulary.names for name in vocabularies.known()]
    nouns = list(dict.fromkeys(name.lower() for some in lists for name in some if name != "background"))
    more = (f"{adjective} {noun}" for adjective in ADJECTIVES for noun in nouns)
    return tuple(itertools.islice(dict.fromkeys(itertools.chain(nouns, more)), count))


def timed(work: Callable[[], Result], repeats: int = 1) -> tuple[float, Result]:
    """Seconds of the fastest run, and its result."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return min(seconds), result


@contextmanager
def peak(device: torch.device) -> Iterator[list[float]]:
    """Appends by how many MiB memory rose at most inside the block."""
    found: list[float] = []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield found
        found.append((torch.cuda.max_memory_allocated() - before) / 2**20)
        return
    done, seen, before_pages = threading.Event(), [_resident()], _resident()

    def watch() -> None:
        while not done.wait(0.002):
            seen.append(_resident())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()
        found.append((max(seen) - before_pages) / 2**20)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def costs(model: XDecoder, side: int, repeats: int, counts: Sequence[int], device: torch.device) -> list[Row]:
    """Seconds and MiB of one picture of side x 4/3 side pixels for each vocabulary."""
    size = (side, side * 4 // 3)
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).to(device)
    network, features = timed(lambda: model.encode([image]), repeats)
    rows = []
    for count in counts:
        vocabulary = Vocabulary(names(count), (True,) * count)
        batch = Batch((Sample("noise", image, size),), vocabulary, "benchmark")
        text, _ = timed(lambda v=vocabulary: model.language.vocabulary((*v.names, "background"), "none"))  # type: ignore[misc]
        row: Row = {"classes": count, "names s": text, "encode s": network}
        for kind, rejection in (("all", None), ("rejecting", EarlyRejection())):
            task = SegmentationConfig(templates="none", early_rejection=rejection).build()
            with peak(device) as risen:
                seconds, _ = timed(lambda t=task, b=batch: t.predict(model, features, b), repeats)  # type: ignore[misc]
            row |= {f"decode, {kind} s": seconds, f"{kind} MiB": risen[0]}
        row |= plain(count, size, model.config.decoder.queries, device)
        rows.append(row)
    return rows


def plain(count: int, size: tuple[int, int], queries: int, device: torch.device) -> Row:
    """The semantic map alone, of unsure and of sure queries: as all sums at once, and as the postprocessing makes it."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(queries, count + 1, generator=generator).to(device)
    masks = torch.nn.functional.interpolate(
        torch.randn(1, queries, size[0] // 16, size[1] // 16, generator=generator).to(device) * 6, size=size, mode="bicubic"
    )[0]
    row: Row = {}
    for kind, scale in (("flat", 1.0), ("sure", 8.0)):
        probabilities = (scale * logits).softmax(-1)
        row[f"map, {kind} s"], ours = timed(lambda p=probabilities: postprocessing.semantic_map(p, masks))  # type: ignore[misc]
        if count * masks[0].numel() * 4 < PLAIN_BYTES:
            row["map, at once s"], theirs = timed(lambda p=probabilities: at_once(p, masks))  # type: ignore[misc]
            row[f"equal, {kind} %"] = 100 * (ours == theirs).float().mean().item()
    return row


def at_once(probabilities: Tensor, masks: Tensor) -> Tensor:
    return torch.einsum("nk,nhw->khw", probabilities[:, :-1], masks.sigmoid()).argmax(dim=0)


def scores(model: XDecoder, root: Path, images: int, counts: Sequence[int], device: torch.device) -> list[Row]:
    """Scores on shapes_val among strange names, without rejection and with it, and how far the two agree."""
    side = model.config.image_size
    settings = {"dataset": "shapes_val", "tasks": ["segmentation"], "transform": {"name": "stretch", "size": side}}
    loader = evaluation_loader(parse(EvaluationConfig, settings | {"batch_size": 10, "limit": images}), root)
    own = loader.dataset.vocabulary
    assert own is not None
    strange = [name for name in names(max(counts) + 500) if not any(word in name for word in own.names)]
    rows = []
    for count in (len(own), *counts):
        added = tuple(strange[: count - len(own)])
        vocabulary = Vocabulary((*own.names, *added), (*own.is_thing, *((True,) * len(added))))
        kinds = {"all": None, **{f"keep {keep}": EarlyRejection(keep=keep) for keep in (2, 8)}}
        found = {kind: answers(model, loader, vocabulary, rejection, device) for kind, rejection in kinds.items()}
        for kind, results in found.items():
            evaluators = PanopticEvaluator(vocabulary), SemanticEvaluator(vocabulary)
            for (result, sample), evaluator in itertools.product(results, evaluators):
                evaluator.update(result, sample)
            same = [(a.semantic == b.semantic).float().mean() for (a, _), (b, _) in zip(results, found["all"], strict=True)]
            measured = {"PQ": evaluators[0].compute()["PQ"], "mIoU": evaluators[1].compute()["mIoU"]}
            equal = 100 * torch.stack(same).mean().item()
            rows.append({"classes": count, "considered": kind, **measured, "equal pixels %": equal})
    return rows


def answers(
    model: XDecoder, loader: Any, vocabulary: Vocabulary, rejection: EarlyRejection | None, device: torch.device
) -> list[tuple[SegmentationResult, Sample]]:
    thresholds = postprocessing.PostprocessingConfig(object_threshold=0.4)
    config = SegmentationConfig(templates="none", early_rejection=rejection, postprocessing=thresholds)
    found = []
    for batch in loader:
        samples = tuple(replace(sample, image=sample.image.to(device)) for sample in batch.samples)
        asked = replace(batch, vocabulary=vocabulary, samples=samples)
        results = model.predict([config.build()], asked)["segmentation"]
        found += [(replace(result, instances=None), sample) for result, sample in zip(results, batch.samples, strict=True)]
    return found


def table(rows: Sequence[Row]) -> str:
    """Aligned columns; numbers with three digits."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [columns, *([_cell(row.get(column, "–")) for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


@torch.inference_mode()
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=ROOT / "configs/xdecoder/focal_t.yaml", help="whose network is timed")
    parser.add_argument("--checkpoint", type=Path, help="a network trained on shapes, such as the quickstart's, for scores")
    parser.add_argument("--root", type=Path, default=Path("data"), help="data root with shapes (default: data)")
    parser.add_argument("--side", type=int, default=512, help="shorter side of the timed picture (default: 512)")
    parser.add_argument("--images", type=int, default=50, help="of shapes_val (default: 50)")
    parser.add_argument("--repeats", type=int, default=3, help="the fastest run counts (default: 3)")
    parser.add_argument("--classes", type=int, nargs="+", default=COUNTS, help="sizes of the vocabularies")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    model = XDecoder(load(ExperimentConfig, options.config).model).to(device).eval()
    cost = costs(model, options.side, options.repeats, options.classes, device)
    print(table(cost))
    score: list[Row] = []
    if options.checkpoint:
        trained = checkpoint.load(options.checkpoint).to(device).eval()
        score = scores(trained, options.root, options.images, options.classes, device)
        print(f"\n{table(score)}")
    print(json.dumps({"device": str(device), "threads": torch.get_num_threads(), "costs": cost, "scores": score}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
