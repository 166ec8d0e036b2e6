"""The report of a run: pictures of what the trained network does, its scores, its loss curves, in one HTML file.

Gathering needs the network and the data; `trainer.report.page` lays out what was gathered.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image, ImageDraw
from torch import Tensor

from datasets.dataset import ImageDataset
from datasets.loader import evaluation_loader, train_loader
from datasets.streams import EvaluationConfig, StreamConfig, resolve
from trainer import distributed, precision
from trainer.distributed import ALONE
from trainer.evaluation import results
from trainer.evaluation.evaluation import Evaluation, NetworkSource
from trainer.experiment import ExperimentConfig
from trainer.logging import EVALUATIONS
from trainer.protocol import settings_for
from trainer.report.labels import labels_section
from trainer.report.page import Figure, Panel, Report, Section, render
from xdecoder import checkpoint, config
from xdecoder.files import atomic, read_json
from xdecoder.inference.drawing import draw_instances, draw_masks, draw_panoptic, draw_semantic, enlarge, grid
from xdecoder.network import Network
from xdecoder.resizing import Stretch
from xdecoder.tasks import descriptor_of
from xdecoder.types import (
    AnswerResult,
    Batch,
    CaptionResult,
    ClassificationResult,
    InstanceResult,
    InteractiveResult,
    PanopticResult,
    PanopticSegment,
    ReferringResult,
    RetrievalResult,
    Round,
    Sample,
    SegmentationResult,
    Segments,
    Vocabulary,
    to_device,
)

SHEET_SIDE = 400  # longer side of a picture on a contact sheet, in pixels
POOL = 100  # pictures among which a caption looks for its own
THUMBNAIL = 320  # longer side of a picture that is one of many, in pixels
TOP = 5  # pictures shown for a caption
BATCH_IMAGES = 8  # of a training batch
LABELS_IMAGES = 100  # in which objects are counted
LABELS_SIDE = 128
PHRASES = 3  # phrases shown of a picture
CROWD = -1  # label of pixels that count as nothing
RIGHT = (34, 197, 94)  # frame of the right picture, marks on an object
WRONG = (239, 68, 68)  # marks on what is not of it


@dataclass(frozen=True)
class Seen:
    """A sample and what the network said of it."""

    sample: Sample
    vocabulary: Vocabulary | None
    result: Any


def write_report(run_folder: str | Path, images_per_task: int = 8, command: str | None = None) -> Path:
    """Write `report.html` and the PNGs under `images/` into a run folder.

    Args:
        run_folder: holds `config.yaml` and `model.pt`; `results.json`, `protocol.json` and `log.jsonl` are used if there.
        images_per_task: pictures drawn for each task of each entry of `data.evaluate`.
        command: how the run was made, shown on the page; by default the command that writes the report.

    Returns:
        The path of the report.

    Raises:
        ValueError: in one sentence, for a folder that is no finished run, broken files in it, or missing data.
    """
    if images_per_task < 1:
        raise ValueError(f"pictures for each task must be at least 1, not {images_per_task}")
    folder = Path(run_folder)
    for name, maker in (("config.yaml", "train.py"), ("model.pt", "train.py, once it has finished")):
        if not (folder / name).is_file():
            raise ValueError(f"{folder}: holds no {name}, which {maker} writes")
    settings = config.load(ExperimentConfig, folder / "config.yaml")
    protocol = folder / "protocol.json"
    report = Report(
        title=f"X-Decoder: {folder.resolve().name}",
        command=command or f"python demo/report.py {run_folder}",
        results=results.read(folder),
        protocol=read_json(protocol) if protocol.exists() else {},
        log=read_log(folder / "log.jsonl"),
        configuration=(folder / "config.yaml").read_text(encoding="utf-8"),
        sections=gather(settings, checkpoint.load(folder / "model.pt"), images_per_task),
        charts=recorded(folder, "charts"),
        classes=recorded(folder, "per_class"),
        batches=training_batches(settings),
        evaluations=read_log(folder / EVALUATIONS),
        data="".join(labels_of(stream, settings) for stream in settings.data.train),
    )
    for section in report.sections:
        with atomic(folder / "images" / f"{section.source}_{section.task}.png") as file:
            contact_sheet(section).save(file, "PNG")
    with atomic(folder / "report.html", "w") as file:
        file.write(render(report))
    return folder / "report.html"


def write_evaluation_report(
    settings: ExperimentConfig, network: NetworkSource, found: Evaluation, images: int, command: str
) -> Path:
    """Write `evaluation.html` into the run folder: scores with their protocol, the worst and the best pictures of each task.

    Args:
        found: with its details, which say how well each picture went.
        images: how many of the worst, and of the best, are shown of each task.
    """
    report = Report(
        title=f"Evaluation: {settings.output.resolve().name}",
        command=command,
        results=found.results,
        protocol=found.protocol,
        log=(),
        configuration=yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False),
        sections=gather_extremes(settings, network, found, images),
        charts={name: details.get("charts", {}) for name, details in found.details.items()},
        classes={name: details.get("per_class", {}) for name, details in found.details.items()},
    )
    path = settings.output / "evaluation.html"
    with atomic(path, "w") as file:
        file.write(render(report))
    return path


def recorded(folder: Path, what: str) -> dict[str, Any]:
    """By data set, what the run's evaluation.json holds under this name; empty without one."""
    path = folder / results.RECORD
    held = read_json(path).get("datasets", {}) if path.is_file() else {}
    return {name: details[what] for name, details in held.items() if details.get(what)}


def training_batches(settings: ExperimentConfig) -> list[Section]:
    """The first images of each training stream as the network sees them, with what is asked of them."""
    sections = []
    for number, stream in enumerate(settings.data.train):
        batch = next(train_loader(stream, settings.data.root, seed=settings.seed))
        figures = []
        for sample in batch.samples[:BATCH_IMAGES]:
            texts = [*(sample.phrases.texts[:PHRASES] if sample.phrases else ()), *sample.captions[:1]]
            drawn = enlarge(sample.image)
            if sample.segments is not None and batch.vocabulary is not None and len(sample.segments.masks):
                names = [batch.vocabulary.names[label] for label in sample.segments.labels.tolist()]
                drawn = draw_masks(sample.image, sample.segments.masks, names)
            figures.append(Figure((Panel(drawn, "\n".join(texts)),)))
        note = "A batch as training shows it: cropped, scaled and mirrored, with its masks, phrases and captions."
        sections.append(Section(f"stream {number}: {batch.source}", "training", note, tuple(figures)))
    return sections


def labels_of(stream: StreamConfig, settings: ExperimentConfig) -> str:
    """Charts of the objects that a stream teaches, counted in its first pictures; empty where it teaches none."""
    wanted = [task for task in stream.tasks if descriptor_of(task).needs == "regions"]
    sections = []
    for spec in stream.specs if wanted else ():
        held = ImageDataset(spec, settings.data.root, Stretch(size=LABELS_SIDE), wanted, training=False, limit=LABELS_IMAGES)
        if held.vocabulary:
            sections.append(labels_section(spec.name, (held[i] for i in range(len(held))), held.vocabulary))
    return "".join(sections)


def gather_extremes(settings: ExperimentConfig, network: NetworkSource, found: Evaluation, images: int) -> list[Section]:
    """For each task of each entry the worst pictures and the best, drawn, with their scores."""
    sections = []
    for entry in settings.data.evaluate:
        for task in entry.tasks:
            scores = found.details.get(entry.prefix, {}).get("per_image", {}).get(task, {})
            order = sorted(scores, key=lambda image: scores[image])
            few = min(images, (len(order) + 1) // 2)
            for which, chosen in (("worst", order[:few]), ("best", order[len(order) - few :][::-1])):
                seen = observe_images(settings, network, entry, task, chosen) if chosen else []
                draw = pair_figures if descriptor_of(task).pooled else figures_of(task)
                figures = [
                    replace(figure, heading=f"{item.sample.id}: {scores[item.sample.id]:.1f}")
                    for item in seen
                    for figure in draw([item])
                ]
                if figures:
                    sections.append(
                        Section(f"{entry.prefix}, {which} of {len(order)}", task, descriptor_of(task).score, tuple(figures))
                    )
    return sections


def observe_images(
    settings: ExperimentConfig, network: NetworkSource, entry: EvaluationConfig, task: str, images: Sequence[int | str]
) -> list[Seen]:
    """Certain pictures of an entry, in the order given, with what the network says of them."""
    loader = evaluation_loader(entry, settings.data.root)
    place = {record.id: i for i, record in enumerate(loader.dataset.records)}
    loader.order = [[(place[image], 0)] for image in images]
    answers = network.answers(entry.model_copy(update={"tasks": (task,)}), loader.dataset.source.spec, loader)
    seen = []
    with torch.inference_mode():
        for batch in loader:
            found = answers((task,), as_drawn(batch))[task]
            seen += [Seen(s, batch.vocabulary, r) for s, r in zip(batch.samples, found, strict=True)]
    return seen


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """Rows of a log in the order of their steps; of a step logged twice (after a resume) the later row counts.

    A last line cut short by a killed run is left out; ValueError names any other that is not JSON.
    """
    path = Path(path)
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    rows: dict[int, dict[str, Any]] = {}
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            rows[row["step"]] = row
        except (json.JSONDecodeError, TypeError, KeyError):
            if number < len(lines):
                raise ValueError(f"{path}: line {number} is not a JSON object with a step") from None
    return [rows[step] for step in sorted(rows)]


def gather(settings: ExperimentConfig, model: Network, images_per_task: int = 8) -> list[Section]:
    """Let the network work on the first samples of each evaluation entry and draw what comes out, a section for each task."""
    model = model.to(distributed.pick_device(settings.trainer.device, ALONE)).eval()
    sections = []
    for entry in settings.data.evaluate:
        seen = observe(settings, model, entry, images_per_task)
        for name, observed in seen.items():
            figures = figures_of(name)(observed)[:images_per_task]
            if figures:
                sections.append(Section(entry.prefix, name, descriptor_of(name).shows, tuple(figures)))
    return sections


def observe(settings: ExperimentConfig, model: Network, entry: EvaluationConfig, images: int) -> dict[str, list[Seen]]:
    """By task, the entry's first samples with their results: `pictures` of them, a pool of `POOL` for retrieval."""
    wanted: dict[str, int] = {name: max(images, POOL) if descriptor_of(name).pooled else images for name in entry.tasks}
    most = max(wanted.values(), default=0)
    few = entry.model_copy(update={"limit": min(entry.limit or most, most)})
    seen: dict[str, list[Seen]] = {name: [] for name in wanted}
    autocast = precision.resolve(settings.trainer.precision, model.device).autocast
    own = settings_for(resolve(entry.dataset), settings.tasks)
    for batch in evaluation_loader(few, settings.data.root):
        names = [name for name in wanted if len(seen[name]) < wanted[name]]
        with torch.inference_mode(), autocast():
            found = model.predict(own.build(names), to_device(as_drawn(batch), model.device))
        for name in names:
            outcomes = to_device(found[name], "cpu")
            seen[name] += [Seen(s, batch.vocabulary, r) for s, r in zip(batch.samples, outcomes, strict=True)]
    return {name: observed[: wanted[name]] for name, observed in seen.items()}


def contact_sheet(section: Section) -> Image.Image:
    """All pictures of a section as one: a row for each figure, or four to a row where figures are single pictures."""
    columns = max(len(figure.panels) for figure in section.figures)
    images, captions = [], []
    for figure in section.figures:
        blank = Image.new("RGB", (1, 1), "white")
        panels = [*figure.panels, *[Panel(blank)] * (columns - len(figure.panels))]
        heading = f"{figure.heading}\n" if figure.heading else ""
        images += [_shrunk(panel.image, SHEET_SIDE) for panel in panels]
        captions += [heading + panels[0].caption, *(panel.caption for panel in panels[1:])]
    return grid(images, captions, columns if columns > 1 else 4)


def as_drawn(batch: Batch) -> Batch:
    """Asked only for the form of a segmentation that is drawn: panoptic where anything is countable, else the label map."""
    countable = batch.vocabulary is not None and any(batch.vocabulary.is_thing)
    return replace(batch, reads=frozenset({"panoptic" if countable else "semantic"}))


def segmentation_figures(seen: Sequence[Seen]) -> list[Figure]:
    """Picture, truth and prediction side by side."""
    figures = []
    for item in seen:
        sample, vocabulary, found = item.sample, item.vocabulary, item.result
        if sample.segments is None or vocabulary is None:
            continue
        ground = sample.image
        figures.append(
            Figure(
                (
                    Panel(enlarge(ground, sample.output_size), f"picture {sample.id}"),
                    Panel(_draw(ground, as_result(sample.segments, vocabulary, found), vocabulary), "truth"),
                    Panel(_draw(ground, found, vocabulary), "prediction"),
                )
            )
        )
    return figures


def as_result(segments: Segments, vocabulary: Vocabulary, like: SegmentationResult) -> SegmentationResult:
    """Annotated segments in those forms of result that `like` has, so that both are drawn alike; crowds are left out."""
    keep = ~segments.crowd
    masks, labels = segments.masks[keep], segments.labels[keep]
    size = tuple(segments.masks.shape[1:])
    ids = torch.zeros(size, dtype=torch.int32)
    semantic = torch.full(size, CROWD, dtype=torch.int64)
    described = []
    order = sorted(range(len(labels)), key=lambda i: vocabulary.is_thing[int(labels[i])])
    for number, i in enumerate(order, 1):
        label = int(labels[i])
        ids[masks[i]], semantic[masks[i]] = number, label
        described.append(PanopticSegment(number, label, vocabulary.is_thing[label], 1.0))
    return SegmentationResult(
        semantic=None if like.semantic is None else semantic,
        instances=None if like.instances is None else InstanceResult(masks, labels, torch.ones(len(labels))),
        panoptic=None if like.panoptic is None else PanopticResult(ids, tuple(described)),
    )


def referring_figures(seen: Sequence[Seen]) -> list[Figure]:
    """For each picture its first phrases, one panel each: what was found stays lit, what was meant is outlined."""
    figures = []
    for item in seen:
        sample, found = item.sample, item.result
        if sample.phrases is None or not sample.phrases.texts:
            continue
        panels = []
        for i in _varied(sample.phrases.masks)[:PHRASES]:
            mask, truth = found.masks[i : i + 1], sample.phrases.masks[i : i + 1]
            image = draw_masks(sample.image, mask, [""], truth=truth)
            panels.append(Panel(image, f"“{sample.phrases.texts[i]}”\nIoU {iou(mask, truth):.0%}"))
        figures.append(Figure(tuple(panels)))
    return figures


def captioning_figures(seen: Sequence[Seen]) -> list[Figure]:
    """Picture, what the network says, and one of the references."""
    figures = []
    for item in seen:
        reference = f"\nreference: {item.sample.captions[0]}" if item.sample.captions else ""
        image = enlarge(item.sample.image, item.sample.output_size)
        figures.append(Figure((Panel(image, f"predicted: {item.result.text}{reference}"),)))
    return figures


def retrieval_figures(seen: Sequence[Seen]) -> list[Figure]:
    """For each picture's first caption, the most similar pictures of the pool; its own one is framed."""
    pool = [item for item in seen if item.sample.captions and len(item.result.texts)]
    if not pool:
        return []
    images = torch.stack([item.result.image for item in pool]).float()  # (N, V, D)
    figures = []
    for right, item in enumerate(pool):
        similarity = (images @ item.result.texts[0].float()).mean(dim=1)  # (N,)
        order = similarity.argsort(descending=True, stable=True).tolist()
        rank = order.index(right) + 1
        panels = []
        for number, i in enumerate(order[:TOP], 1):
            image = _shrunk(enlarge(pool[i].sample.image, pool[i].sample.output_size), THUMBNAIL)
            panels.append(Panel(_framed(image) if i == right else image, f"{number} · {similarity[i]:.2f}"))
        figures.append(Figure(tuple(panels), f"“{item.sample.captions[0]}”: rank {rank} of {len(pool)}"))
    return figures


def pair_figures(seen: Iterable[Seen]) -> list[Figure]:
    """Picture and its captions."""
    return [
        Figure((Panel(enlarge(item.sample.image, item.sample.output_size), "\n".join(item.sample.captions)),)) for item in seen
    ]


def classification_figures(seen: Sequence[Seen]) -> list[Figure]:
    """Picture, its class, and the classes that the network thinks likeliest."""
    figures = []
    for item in seen:
        if item.vocabulary is None or item.sample.label is None:
            continue
        names = [item.vocabulary.names[label] for label in item.result.labels.tolist()]
        text = f"{item.vocabulary.names[item.sample.label]}\npredicted: {', '.join(names)}"
        figures.append(Figure((Panel(enlarge(item.sample.image, item.sample.output_size), text),)))
    return figures


def vqa_figures(seen: Sequence[Seen]) -> list[Figure]:
    """Picture, its questions, and the network's answers."""
    figures = []
    for item in seen:
        pairs = zip(item.sample.questions, item.result.texts, strict=True)
        lines = [f"{q.text} {text} (people: {', '.join(dict.fromkeys(q.answers))})" for q, text in pairs]
        figures.append(Figure((Panel(enlarge(item.sample.image, item.sample.output_size), "\n".join(lines)),)))
    return figures


def interactive_figures(seen: Sequence[Seen]) -> list[Figure]:
    """For each picture's first object the first rounds: what was marked, and the mask that came of it."""
    figures = []
    for item in seen:
        panels = []
        for number, shown in enumerate(item.result.shown, start=1):
            truth = item.sample.objects.masks[:1] if item.sample.objects else None
            image = _with_marks(draw_masks(item.sample.image, shown.mask[None], [""], truth=truth), shown)
            text = f"click {number}" if number > 1 else "first mark"
            panels.append(Panel(image, f"{text}\nIoU {item.result.ious[0, number - 1]:.0%}"))
        if panels:
            figures.append(Figure(tuple(panels)))
    return figures


def _with_marks(image: Image.Image, shown: Round) -> Image.Image:
    """Green where the object was marked, red where what is not of it was."""
    marked = image.copy()
    for mask, colour in ((shown.positive, RIGHT), (shown.negative, WRONG)):
        layer = Image.fromarray((mask.numpy() * 255).astype("uint8")).resize(image.size, Image.Resampling.NEAREST)
        marked.paste(Image.new("RGB", image.size, colour), mask=layer)
    return marked


def iou(mask: Tensor, truth: Tensor) -> float:
    """Intersection over union of two boolean masks of one shape; 1 if both are empty."""
    union = int((mask | truth).sum())
    return int((mask & truth).sum()) / union if union else 1.0


def _varied(masks: Tensor) -> list[int]:
    """Numbers of the masks (P, H, W), those that repeat an earlier one last: phrases of different objects come first."""
    repeats = [any(torch.equal(mask, earlier) for earlier in masks[:i]) for i, mask in enumerate(masks)]
    return sorted(range(len(masks)), key=lambda i: repeats[i])


def _draw(image: Tensor, found: SegmentationResult, vocabulary: Vocabulary) -> Image.Image:
    """The richest form that says something: panoptic where anything is countable, else the label map, else instances."""
    if found.panoptic is not None and (any(vocabulary.is_thing) or found.semantic is None):
        return draw_panoptic(image, found.panoptic, vocabulary)
    if found.semantic is not None:
        return draw_semantic(image, found.semantic, vocabulary)
    if found.instances is not None:
        return draw_instances(image, found.instances, vocabulary)
    return enlarge(image)


def _shrunk(image: Image.Image, side: int) -> Image.Image:
    smaller = image.copy()
    smaller.thumbnail((side, side), Image.Resampling.LANCZOS)
    return smaller


def _framed(image: Image.Image) -> Image.Image:
    framed = image.copy()
    width = max(4, max(image.size) // 36)
    ImageDraw.Draw(framed).rectangle((0, 0, image.width - 1, image.height - 1), outline=RIGHT, width=width)
    return framed


def figures_of(task: str) -> Callable[[Sequence[Seen]], list[Figure]]:
    """What draws the results of a task; those of another kind than ours are not drawn."""
    return _FIGURES.get(descriptor_of(task).result, lambda seen: [])


_FIGURES: dict[type, Callable[[Sequence[Seen]], list[Figure]]] = {
    SegmentationResult: segmentation_figures,
    ReferringResult: referring_figures,
    CaptionResult: captioning_figures,
    RetrievalResult: retrieval_figures,
    ClassificationResult: classification_figures,
    AnswerResult: vqa_figures,
    InteractiveResult: interactive_figures,
}
