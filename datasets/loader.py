"""From records to batches: the order of samples, what each carries, and worker processes.

Everything random follows from (seed, epoch, place of the picture in its set), so it depends neither on how many processes or
workers share the work nor on where a run was interrupted.

What is learnt from a picture is drawn as published, with these mends: annotated regions and phrases of which the crop shows
nothing are left out instead of being learnt as empty masks; polygons that overlap are united instead of added up; the words
around a class name that stands in for a phrase are drawn once a class instead of once an instance; a picture of many captions
comes once an epoch, with its next caption, instead of once for each of them in the same epoch.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, get_args

import cv2
import numpy as np
import torch
from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datasets.bad import BadSamples
from datasets.catalog import find
from datasets.check.leaks import Images
from datasets.concat_dataset import ConcatDataset
from datasets.nouns import nouns_of
from datasets.order import BatchSampler, Key, Order, ShuffledEpochs, WeightedMix
from datasets.readers import Source, own, read
from datasets.readers.coco import outline_mask
from datasets.readers.images import Regions, read_image, read_label_map, read_regions
from datasets.readers.pairs import Pairs
from datasets.spec import DatasetSpec, Record, TaskName
from datasets.transforms import Transform, TransformConfig
from xdecoder.config import Config
from xdecoder.language.prompts import clean, random_prompt
from xdecoder.language.stems import stem
from xdecoder.rng import seed_of
from xdecoder.types import Batch, Phrases, Sample, Segments


def _known(name: str) -> str:
    return find(name).name


def _kind(value: Any) -> str:
    return "name" if isinstance(value, str) else "list" if isinstance(value, (list, tuple)) else "mapping"


Named = Annotated[str, AfterValidator(_known), Tag("name")]
Mapped = Annotated[DatasetSpec, Tag("mapping")]
DatasetChoice = Annotated[Named | Mapped, Discriminator(_kind)]
Several = Annotated[tuple[DatasetChoice, ...], Field(min_length=1), Tag("list")]
Mix = Annotated[Named | Mapped | Several, Discriminator(_kind)]
Positive = Annotated[int, Field(gt=0)]
Weight = Annotated[float, Field(gt=0)]

REPLACEMENTS = 20  # samples that are tried in a bad one's place
REQUESTS = 16  # pictures that one process asks a server for at a time


class StreamConfig(Config):
    """One stream of training batches; every step draws one batch of each stream."""

    dataset: Mix
    """A name of the catalog, a mapping of `DatasetSpec` fields, or a list of these whose samples are mixed in every batch."""
    weights: tuple[Weight, ...] | None = None
    """How much each of several data sets contributes, in any unit; by default as much as it has."""
    tasks: tuple[TaskName, ...] = Field(min_length=1)
    batch_size: Positive
    """Pictures of one step, over all processes together."""
    transform: TransformConfig
    loss_weight: float = 1.0
    """Factor on the losses of this stream."""
    limit: Positive | None = None
    """Use only the first so many pictures, for example to overfit ten."""
    exclude: tuple[DatasetChoice, ...] = ()
    """Sets whose pictures are left out here, since they are measured on; `python -m datasets.check` tells which share some."""
    max_phrases: Positive = 4
    """Phrases a picture, at most; how many is drawn, from one on."""
    cache: bool = False
    """Keep decoded pictures in memory; for small sets."""

    @model_validator(mode="after")
    def _check(self) -> StreamConfig:
        if self.weights is not None and len(self.weights) != len(self.specs):
            raise ValueError(f"weights has {len(self.weights)} numbers for {len(self.specs)} data sets; give one each")
        return self

    @property
    def datasets(self) -> tuple[str | DatasetSpec, ...]:
        return self.dataset if isinstance(self.dataset, tuple) else (self.dataset,)

    @property
    def specs(self) -> tuple[DatasetSpec, ...]:
        return tuple(resolve(each) for each in self.datasets)


class EvaluationConfig(Config):
    """One set to measure on."""

    dataset: DatasetChoice
    """A name of the catalog, or a mapping of `DatasetSpec` fields."""
    tasks: tuple[TaskName, ...] = Field(min_length=1)
    batch_size: Positive = 1
    """Pictures at a time in one process; pictures of different sizes are padded to the largest."""
    transform: TransformConfig
    limit: Positive | None = None
    """Use only the first so many pictures."""
    label: str | None = None
    """Prefix of the results' names; by default the data set's name."""

    @property
    def prefix(self) -> str:
        return self.label or (self.dataset if isinstance(self.dataset, str) else self.dataset.name)


class DataConfig(Config):
    """Where the data lie, what is learnt from and what is measured on."""

    root: Path = Path("data")
    """Folder of all data sets, relative to the current one."""
    train: tuple[StreamConfig, ...] = ()
    evaluate: tuple[EvaluationConfig, ...] = ()
    own: Path | None = None
    """Your own data, a folder or a COCO JSON, which streams and entries know as `own_train` and `own_val`; see
    demo/finetune_own_data.md for the formats, which are told apart by what lies there."""
    workers: Annotated[int, Field(ge=0, le=256)] = 0
    """Processes that prepare batches, for each stream; 0 = the training process itself."""
    max_bad_samples: Annotated[int, Field(ge=0)] = 100
    """How many different samples of the training data may be unreadable, for each process. Each is named once, and another one
    of its set comes in its place."""

    @model_validator(mode="before")
    @classmethod
    def _name_own(cls, settings: Any) -> Any:
        """Put the path of `own` into the entries that ask for it."""
        if not isinstance(settings, dict) or not isinstance(settings.get("own"), (str, Path)):
            return settings
        path = str(Path(settings["own"]).absolute())

        def found(dataset: Any) -> Any:
            named = isinstance(dataset, str) and dataset in own.NAMES
            return {**find(dataset).model_dump(exclude_unset=True), "images": path} if named else dataset

        def filled(entry: Any) -> Any:
            if not isinstance(entry, dict) or "dataset" not in entry:
                return entry
            exclude = {"exclude": [found(each) for each in entry["exclude"]]} if isinstance(entry.get("exclude"), list) else {}
            return {**entry, "dataset": found(entry["dataset"]), **exclude}

        lists = {key: settings[key] for key in ("train", "evaluate") if isinstance(settings.get(key), list)}
        return {**settings, **{key: [filled(entry) for entry in entries] for key, entries in lists.items()}}


def resolve(dataset: str | DatasetSpec) -> DatasetSpec:
    """The specification behind a catalog name; an inline one as it is; your own data as what they turn out to be."""
    spec = find(dataset) if isinstance(dataset, str) else dataset
    return own.find(spec) if spec.reader == "own" else spec


def describe_own(data: DataConfig) -> list[str]:
    """What `data.own` was taken for, a line for each share: its format, its pictures and its classes.

    Raises:
        ValueError: if it is in no known format, or wrong.
    """
    given = [entry.dataset for entry in data.train] + [entry.dataset for entry in data.evaluate]
    lines = []
    for spec in {spec.name: spec for spec in given if isinstance(spec, DatasetSpec) and spec.reader == "own"}.values():
        source = read(resolve(spec), data.root)
        names = source.vocabulary.names if source.vocabulary else ()
        classes = f", {len(names)} classes: {', '.join(names[:8])}" if names else ""
        more = ", …" if len(names) > 8 else ""
        lines.append(f"{spec.name}: {source.spec.protocol}; {len(source.records)} pictures{classes}{more}")
    return lines


class ImageDataset(Dataset[Sample]):
    """Samples of one set, made for certain tasks.

    Training samples carry transformed masks without crowd regions and without what the crop left outside; evaluation samples
    keep every region at the original size, and only the picture is resized.

    Args:
        spec: the set.
        root: the data root.
        transform: settings of the geometry.
        tasks: decides what is decoded, and which pictures are left out because they lack it.
        training: see above.
        seed: start of all randomness.
        limit: only the first so many pictures.
        max_phrases: phrases of a training sample, at most.
        cache: keep decoded pictures in memory.

    Raises:
        ValueError: if files are missing or wrong, or the set lacks what a task needs.
    """

    def __init__(
        self,
        spec: DatasetSpec,
        root: str | Path,
        transform: TransformConfig,
        tasks: Sequence[TaskName],
        *,
        training: bool,
        seed: int = 0,
        limit: int | None = None,
        max_phrases: int = 4,
        cache: bool = False,
    ) -> None:
        for task in tasks:
            if not _serves(spec, task, training):
                served = ", ".join(name for name in get_args(TaskName) if spec.provides(name))
                raise ValueError(f"data set {spec.name!r} has nothing for task {task!r}; it serves {served}")
        self.source: Source = read(spec, root)
        self.vocabulary, self.name = self.source.vocabulary, spec.name
        self._known = {stem(clean(name)) for name in self.vocabulary.names} if self.vocabulary else set()
        self.tasks, self.training, self.seed, self.max_phrases = tuple(tasks), training, seed, max_phrases
        found = self.source.records
        self.records = found if isinstance(found, Pairs) else [record for record in found if self._useful(record)]
        if not self.records:
            raise ValueError(f"data set {spec.name!r} has no picture with what {' and '.join(tasks)} needs")
        self.count = min(len(self.records), limit or len(self.records))
        self.blocks = found.blocks if isinstance(found, Pairs) else None
        self.remote = isinstance(found, Pairs) and found.remote
        self.transform = Transform(transform, exact=not training)
        self._cache: dict[int, tuple[np.ndarray, Regions | None]] | None = {} if cache else None

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, key: int | Key) -> Sample:
        """The sample at an index, or at (index, epoch): another epoch, another random view and the next caption."""
        index, epoch = key if isinstance(key, tuple) else (key, 0)
        record = self.records[index]
        pixels, regions = self._decoded(index, record)
        if not self.training:
            return self._evaluation_sample(record, pixels, regions)
        sample = self._training_sample(record, pixels, regions, np.random.default_rng((self.seed, epoch, index)))
        return replace(self._with_caption(sample, record, (index, epoch)), seed=seed_of(self.seed, epoch, index))

    def replacement(self, key: Key, attempt: int) -> Key:
        """What comes in the place of a sample that cannot be read, and if that cannot either, at the next attempt."""
        index, epoch = key
        return int(np.random.default_rng((self.seed, epoch, index, attempt)).integers(len(self))), epoch

    def leave_out(self, others: Sequence[Source]) -> None:
        """Drop the pictures that other sets show too; raises ValueError if none is left."""
        for other in others:
            shared = {*Images(self.source).shared_with(Images(other))}
            self.records = [record for record in self.records if record.image not in shared]
        self.count = min(self.count, len(self.records))
        if not self.records:
            raise ValueError(f"data set {self.source.spec.name!r} has no picture that is not in `exclude`")

    def preload(self) -> None:
        """Fill the cache now, so that worker processes share it."""
        if self._cache is not None:
            for index in range(len(self)):
                self._decoded(index, self.records[index])

    def _useful(self, record: Record) -> bool:
        """In training a picture must serve every task of the stream, in evaluation any."""
        served = {
            "segmentation": record.regions is not None or record.id_map is not None,
            "referring": bool(record.references) or (self.training and self.vocabulary is not None),
            "captioning": bool(record.captions),
            "retrieval": bool(record.captions),
            "classification": record.label is not None,
            "vqa": bool(record.questions),
        }
        found = [served[task] for task in self.tasks]
        return all(found) if self.training else any(found)

    def _decoded(self, index: int, record: Record) -> tuple[np.ndarray, Regions | None]:
        if self._cache is not None and index in self._cache:
            return self._cache[index]
        pixels = read_image(record)
        regions = None
        wants_regions = "segmentation" in self.tasks or (self.training and "referring" in self.tasks and not record.references)
        if wants_regions and self.vocabulary is not None:
            regions = read_regions(record, self.source.spec, self.vocabulary, (pixels.shape[0], pixels.shape[1]))
        if self._cache is not None:
            self._cache[index] = pixels, regions
        return pixels, regions

    def _training_sample(self, record: Record, pixels: np.ndarray, regions: Regions | None, rng: np.random.Generator) -> Sample:
        sentences, outlines = self._drawn_references(record, pixels, rng)
        planes = [] if regions is None else [regions.planes]
        image, maps = self.transform(pixels, planes + ([outlines] if len(outlines) else []), rng)
        segments, phrases = None, None
        if regions is not None:
            numbers = np.flatnonzero(regions.in_view(maps[0]) & ~regions.crowd)
            masks, labels = (torch.from_numpy(part) for part in (regions.masks(maps[0], numbers), regions.labels[numbers]))
            segments = Segments(masks, labels, torch.zeros(len(labels), dtype=torch.bool))
        if "referring" in self.tasks:
            phrases = self._phrases(sentences, maps[-1] if len(outlines) else None, segments, rng, image)
        return Sample(
            id=record.id,
            image=image,
            output_size=(pixels.shape[0], pixels.shape[1]),
            segments=segments if "segmentation" in self.tasks else None,
            phrases=phrases,
        )

    def _with_caption(self, sample: Sample, record: Record, key: Key) -> Sample:
        """The sample with one caption: another one in each epoch, in random order, until all have been seen.

        Where segmentation is learnt, with its nouns too that are no class's name: what queries are contrasted with.
        """
        if not record.captions or not {"captioning", "retrieval", "segmentation"} & set(self.tasks):
            return sample
        index, epoch = key
        number, count = 0, len(record.captions)
        if count > 1:
            number = int(np.random.default_rng((self.seed, index)).permutation(count)[epoch % count])
        caption = record.captions[number]
        if "segmentation" not in self.tasks:
            return replace(sample, captions=(caption,))
        nouns = record.nouns[number] if record.nouns else nouns_of(caption)
        return replace(sample, captions=(caption,), nouns=(tuple(noun for noun in nouns if stem(noun) not in self._known),))

    def _drawn_references(self, record: Record, pixels: np.ndarray, rng: np.random.Generator) -> tuple[list[str], np.ndarray]:
        """All referred objects in random order, one random sentence each; their masks (P, H, W) at the picture's own size."""
        if "referring" not in self.tasks:
            return [], np.zeros((0, 1, 1), dtype=bool)
        drawn = [record.references[i] for i in rng.permutation(len(record.references))]
        sentences = [reference.sentences[rng.integers(len(reference.sentences))] for reference in drawn]
        return sentences, self._outlines(record, [reference.outline for reference in drawn], pixels)

    def _phrases(
        self,
        sentences: list[str],
        outlines: np.ndarray | None,
        segments: Segments | None,
        rng: np.random.Generator,
        image: Tensor,
    ) -> Phrases:
        """Some phrases whose region is in view; where nobody said anything, names of classes in view stand in.

        A class's name stands for each of its regions, in one sentence drawn for all of them.
        """
        most = int(rng.integers(1, self.max_phrases + 1))
        if outlines is not None:
            seen = np.flatnonzero(outlines.any(axis=(1, 2)))[:most]
            return Phrases(tuple(sentences[i] for i in seen), torch.from_numpy(outlines[seen]))
        if segments is None or self.vocabulary is None or len(segments.labels) == 0:
            return Phrases((), torch.zeros((0, *image.shape[1:]), dtype=torch.bool))
        classes = rng.permutation(segments.labels.unique().numpy())[:most]
        words = torch.Generator().manual_seed(int(rng.integers(2**63)))
        sentence = {int(label): random_prompt(self.vocabulary.prompts[label], words) for label in classes}
        named = [number for number, label in enumerate(segments.labels.tolist()) if label in sentence]
        labels = segments.labels[named].tolist()
        return Phrases(
            tuple(sentence[label] for label in labels),
            segments.masks[named],
            written=False,
            meanings=tuple(self.vocabulary.prompts[label] for label in labels),
        )

    def _evaluation_sample(self, record: Record, pixels: np.ndarray, regions: Regions | None) -> Sample:
        image, _ = self.transform(pixels, [], np.random.default_rng(self.seed))
        segments, phrases, label_map = None, None, None
        size = (pixels.shape[0], pixels.shape[1])
        if regions is not None:
            masks, labels, crowd = (torch.from_numpy(part) for part in (regions.masks(), regions.labels, regions.crowd))
            segments = Segments(masks, labels, crowd)
            if record.label_map is not None and self.vocabulary is not None:
                label_map = torch.from_numpy(read_label_map(record.label_map, self.source.spec, self.vocabulary, size))
        if "referring" in self.tasks:
            count = None if self.source.spec.all_sentences else 1
            asked = [reference.sentences[:count] for reference in record.references]
            outlines = torch.from_numpy(self._outlines(record, [reference.outline for reference in record.references], pixels))
            repeats = torch.tensor([len(sentences) for sentences in asked], dtype=torch.int64)
            phrases = Phrases(tuple(text for texts in asked for text in texts), outlines.repeat_interleave(repeats, dim=0))
        return Sample(
            id=record.id,
            image=image,
            output_size=size,
            segments=segments,
            phrases=phrases,
            captions=self._captions(record),
            label_map=label_map,
            label=record.label,
            questions=record.questions,
        )

    def _outlines(self, record: Record, outlines: list[Any], pixels: np.ndarray) -> np.ndarray:
        size = (pixels.shape[0], pixels.shape[1])
        where = f"data set {self.source.spec.name!r}, picture {record.id}"
        masks = [outline_mask(outline, *size, where=where) for outline in outlines]
        return np.stack(masks) if masks else np.zeros((0, *size), dtype=bool)

    def _captions(self, record: Record) -> tuple[str, ...]:
        return record.captions if {"captioning", "retrieval"} & set(self.tasks) else ()


def train_loader(
    stream: StreamConfig,
    root: str | Path,
    *,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
    start: int = 0,
    bad: BadSamples | None = None,
) -> Iterator[Batch]:
    """Endless batches of one stream, this process's share of each.

    Every epoch is a new permutation in which each picture comes once over all processes. `start` batches count as already
    consumed: what follows is what would have come. Samples that cannot be read go to `bad` and are replaced; by default the
    first is an error.

    Raises:
        ValueError: at once for wrong files or settings; while iterating, for too many bad samples.
    """
    if stream.batch_size % world_size:
        raise ValueError(f"batch_size {stream.batch_size} is not a multiple of the {world_size} processes that share it")
    parts = [_part(spec, stream, root, seed) for spec in stream.specs]
    if workers:
        for part in parts:
            part.preload()
    sequences = [ShuffledEpochs(len(part), part.seed, part.blocks) for part in parts]
    dataset: ImageDataset | ConcatDataset = parts[0]
    order: Order = sequences[0]
    if len(parts) > 1:
        dataset, order = (
            ConcatDataset(parts),
            WeightedMix(sequences, zlib.crc32(f"{seed} {parts[0].seed}".encode()), stream.weights),
        )
    return iter(Batches(dataset, BatchSampler(order, stream.batch_size, rank, world_size, start), workers, bad or BadSamples()))


def _part(spec: DatasetSpec, stream: StreamConfig, root: str | Path, seed: int) -> ImageDataset:
    own_seed = zlib.crc32(f"{seed} {spec.name} {' '.join(stream.tasks)}".encode())  # two streams of one set differ
    dataset = ImageDataset(
        spec,
        root,
        stream.transform,
        stream.tasks,
        training=True,
        seed=own_seed,
        limit=stream.limit,
        max_phrases=stream.max_phrases,
        cache=stream.cache,
    )
    dataset.leave_out([read(resolve(other), root) for other in stream.exclude])
    return dataset


def evaluation_loader(
    entry: EvaluationConfig,
    root: str | Path,
    *,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
    done: Collection[int | str] = (),
) -> Batches[ImageDataset]:
    """This process's share of a set in order: every picture once, the last batch perhaps smaller. It has a length.

    Which pictures share a batch depends neither on the number of processes nor on what is `done`: the ids of pictures that need
    not come again, batch by batch.
    """
    dataset = ImageDataset(resolve(entry.dataset), root, entry.transform, entry.tasks, training=False, limit=entry.limit)
    places = range(len(dataset))
    batches = [[(i, 0) for i in places[at : at + entry.batch_size]] for at in range(0, len(places), entry.batch_size)]
    known = set(done)
    left = [batch for batch in batches if not all(dataset.records[i].id in known for i, _ in batch)]
    mine = np.array_split(np.arange(len(left)), world_size)[rank]
    return Batches(dataset, [left[i] for i in mine], workers)


Samples = TypeVar("Samples", bound="ImageDataset | ConcatDataset")


class Batches(Generic[Samples]):
    """Iterates batches of a dataset in a given order, made here or in worker processes.

    Args:
        dataset: the samples.
        order: lists of keys, one a batch.
        workers: processes that make batches.
        bad: gets the samples that cannot be read, and others come in their place; None: the first is an error.
    """

    def __init__(self, dataset: Samples, order: Iterable[list[Key]], workers: int = 0, bad: BadSamples | None = None) -> None:
        self.dataset, self.order, self.workers, self.bad = dataset, order, workers, bad

    def __len__(self) -> int:
        return len(self.order)  # type: ignore[arg-type]

    @property
    def images(self) -> int:
        """Pictures of the whole set, over all processes."""
        return len(self.dataset)

    def __iter__(self) -> Iterator[Batch]:
        loader = DataLoader(
            _Guarded(self.dataset, REPLACEMENTS if self.bad else 0),
            batch_sampler=self.order,
            num_workers=self.workers,
            collate_fn=partial(_collate, self.dataset),
            worker_init_fn=_start_worker,
            multiprocessing_context="fork" if self.workers else None,  # shares records and cache without copying them
        )
        with warnings.catch_warnings():
            # Python 3.12 warns of forking beside threads; the workers use neither a GPU nor the parent's threads.
            warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
            batches = iter(loader)
        for batch, wrong in batches:
            if self.bad:
                self.bad.add(wrong)
            if batch is None:
                raise ValueError(wrong[-1])
            yield batch


class _Guarded(Dataset[Any]):
    """Samples, and in one sentence each what could not be read on the way to them.

    Errors are handed over as values: a worker would wrap them in its traceback, and the sentence would be lost.
    """

    def __init__(self, dataset: ImageDataset | ConcatDataset, replacements: int) -> None:
        self.dataset, self.replacements = dataset, replacements

    def __getitem__(self, key: Key) -> tuple[Sample | None, list[str]]:
        wrong: list[str] = []
        for attempt in range(self.replacements + 1):
            try:
                return self.dataset[self.dataset.replacement(key, attempt) if attempt else key], wrong
            except (ValueError, OSError) as error:
                wrong.append(str(error))
        return None, wrong

    def __getitems__(self, keys: list[Key]) -> list[tuple[Sample | None, list[str]]]:
        if not self.dataset.remote:
            return [self[key] for key in keys]
        with ThreadPoolExecutor(REQUESTS) as pool:
            return list(pool.map(self.__getitem__, keys))


def _collate(
    dataset: ImageDataset | ConcatDataset, found: list[tuple[Sample | None, list[str]]]
) -> tuple[Batch | None, list[str]]:
    """The batch, unless one of its samples is missing, and all that was wrong."""
    samples = _side_by_side([sample for sample, _ in found if sample is not None])
    wrong = [sentence for _, sentences in found for sentence in sentences]
    return (Batch(samples, dataset.vocabulary, dataset.name) if len(samples) == len(found) else None), wrong


def _side_by_side(samples: list[Sample]) -> tuple[Sample, ...]:
    """The samples with their pictures in one block of memory, which a worker hands over at once instead of one by one."""
    if len({sample.image.shape for sample in samples}) != 1:
        return tuple(samples)
    images = torch.stack([sample.image for sample in samples])
    return tuple(replace(sample, image=image) for sample, image in zip(samples, images, strict=True))


def _start_worker(number: int) -> None:
    cv2.setNumThreads(0)
    torch.multiprocessing.set_sharing_strategy("file_system")  # a batch has more tensors than processes may open files


def _serves(spec: DatasetSpec, task: TaskName, training: bool) -> bool:
    return spec.provides(task) or (training and task == "referring" and spec.provides("segmentation"))
