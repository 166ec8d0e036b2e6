"""From records to batches: the order of samples, what each carries, and worker processes.

Everything random follows from (seed, epoch, place of the picture in its set), so it depends neither on how many processes or
workers share the work nor on where a run was interrupted.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, get_args

import cv2
import numpy as np
import torch
from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datasets.catalog import find
from datasets.check.leaks import Pictures
from datasets.readers import Source, own, read
from datasets.readers.coco import outline_mask
from datasets.readers.pictures import Regions, read_image, read_label_map, read_regions
from datasets.spec import DatasetSpec, Record, TaskName
from datasets.transforms import Transform, TransformConfig
from xdecoder.config import Config
from xdecoder.types import Batch, Phrases, Sample, Segments


def _known(name: str) -> str:
    return find(name).name


DatasetChoice = Annotated[
    Annotated[str, AfterValidator(_known), Tag("name")] | Annotated[DatasetSpec, Tag("mapping")],
    Discriminator(lambda value: "name" if isinstance(value, str) else "mapping"),
]
Positive = Annotated[int, Field(gt=0)]


class StreamConfig(Config):
    """One stream of training batches; every step draws one batch of each stream."""

    dataset: DatasetChoice
    """A name of the catalog, or a mapping of `DatasetSpec` fields."""
    tasks: tuple[TaskName, ...] = Field(min_length=1)
    batch_size: Positive
    """Pictures of one step, over all processes together."""
    transform: TransformConfig
    weight: float = 1.0
    """Factor on the losses of this stream."""
    limit: Positive | None = None
    """Use only the first so many pictures, for example to overfit ten."""
    without: tuple[DatasetChoice, ...] = ()
    """Sets whose pictures are left out here, since they are measured on; `python -m datasets.check` tells which share some."""
    max_phrases: Positive = 4
    """Phrases a picture, at most."""
    cache: bool = False
    """Keep decoded pictures in memory; for small sets."""


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
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that prepare batches, for each stream; 0 = the training process itself."""

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
            without = {"without": [found(each) for each in entry["without"]]} if isinstance(entry.get("without"), list) else {}
            return {**entry, "dataset": found(entry["dataset"]), **without}

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


class PictureDataset(Dataset[Sample]):
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
        self.vocabulary = self.source.vocabulary
        self.tasks, self.training, self.seed, self.max_phrases = tuple(tasks), training, seed, max_phrases
        self.records = [record for record in self.source.records if self._useful(record)][:limit]
        if not self.records:
            raise ValueError(f"data set {spec.name!r} has no picture with what {' and '.join(tasks)} needs")
        self.transform = Transform(transform)
        self._cache: dict[int, tuple[np.ndarray, Regions | None]] | None = {} if cache else None

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        """The sample at an index, or at (index, epoch): another epoch, another random view."""
        index, epoch = key if isinstance(key, tuple) else (key, 0)
        record = self.records[index]
        pixels, regions = self._decoded(index)
        if self.training:
            return self._training_sample(record, pixels, regions, np.random.default_rng((self.seed, epoch, index)))
        return self._evaluation_sample(record, pixels, regions)

    def leave_out(self, others: Sequence[Source]) -> None:
        """Drop the pictures that other sets show too; raises ValueError if none is left."""
        for other in others:
            shared = {*Pictures(self.source).shared_with(Pictures(other))}
            self.records = [record for record in self.records if record.image not in shared]
        if not self.records:
            raise ValueError(f"data set {self.source.spec.name!r} has no picture that is not in `without`")

    def preload(self) -> None:
        """Fill the cache now, so that worker processes share it."""
        if self._cache is not None:
            for index in range(len(self)):
                self._decoded(index)

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

    def _decoded(self, index: int) -> tuple[np.ndarray, Regions | None]:
        if self._cache is not None and index in self._cache:
            return self._cache[index]
        record = self.records[index]
        pixels = read_image(record)
        regions = None
        wants_regions = "segmentation" in self.tasks or (self.training and "referring" in self.tasks and not record.references)
        if wants_regions and self.vocabulary is not None:
            regions = read_regions(record, self.source.spec, self.vocabulary, (pixels.shape[0], pixels.shape[1]))
        if self._cache is not None:
            self._cache[index] = pixels, regions
        return pixels, regions

    def _training_sample(
        self, record: Record, pixels: np.ndarray, regions: Regions | None, rng: np.random.Generator
    ) -> Sample:
        sentences, outlines = self._drawn_references(record, pixels, rng)
        planes = [] if regions is None else [regions.planes]
        image, maps = self.transform(pixels, planes + ([outlines] if len(outlines) else []), rng)
        segments, phrases = None, None
        if regions is not None:
            masks = torch.from_numpy(regions.masks(maps[0]))
            kept = masks.flatten(1).any(1) & ~torch.from_numpy(regions.crowd)
            labels = torch.from_numpy(regions.labels)[kept]
            segments = Segments(masks[kept], labels, torch.zeros(len(labels), dtype=torch.bool))
        if "referring" in self.tasks:
            phrases = self._phrases(sentences, maps[-1] if len(outlines) else None, segments, rng, image)
        return Sample(
            id=record.id,
            image=image,
            output_size=(pixels.shape[0], pixels.shape[1]),
            segments=segments if "segmentation" in self.tasks else None,
            phrases=phrases,
            captions=self._captions(record),
        )

    def _drawn_references(
        self, record: Record, pixels: np.ndarray, rng: np.random.Generator
    ) -> tuple[list[str], np.ndarray]:
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
        """Up to `max_phrases` phrases whose region is in view; names of classes in view stand in where nobody said anything."""
        if outlines is not None:
            masks = torch.from_numpy(outlines)
            seen = [i for i in range(len(sentences)) if bool(masks[i].any())][: self.max_phrases]
            return Phrases(tuple(sentences[i] for i in seen), masks[seen])
        if segments is None or self.vocabulary is None or len(segments.labels) == 0:
            return Phrases((), torch.zeros((0, *image.shape[1:]), dtype=torch.bool))
        classes = rng.permutation(segments.labels.unique().numpy())[: self.max_phrases]
        masks = torch.stack([segments.masks[segments.labels == int(label)].any(0) for label in classes])
        return Phrases(tuple(self.vocabulary.prompts[label] for label in classes), masks, written=False)

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
) -> Iterator[Batch]:
    """Endless batches of one stream, this process's share of each.

    Every epoch is a new permutation in which each picture comes once over all processes. `start` batches count as already
    consumed: what follows is what would have come.

    Raises:
        ValueError: at once for wrong files or settings; while iterating, for a picture that cannot be decoded.
    """
    if stream.batch_size % world_size:
        raise ValueError(f"batch_size {stream.batch_size} is not a multiple of the {world_size} processes that share it")
    spec = resolve(stream.dataset)
    own_seed = zlib.crc32(f"{seed} {spec.name} {' '.join(stream.tasks)}".encode())    # two streams of one set differ
    dataset = PictureDataset(
        spec, root, stream.transform, stream.tasks,
        training=True, seed=own_seed, limit=stream.limit, max_phrases=stream.max_phrases, cache=stream.cache,
    )  # fmt: skip
    dataset.leave_out([read(resolve(other), root) for other in stream.without])
    if workers:
        dataset.preload()
    order = Shuffled(len(dataset), stream.batch_size, own_seed, rank, world_size, start)
    return iter(Batches(dataset, order, workers))


def evaluation_loader(
    entry: EvaluationConfig,
    root: str | Path,
    *,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
    done: Collection[int | str] = (),
) -> Batches:
    """This process's share of a set in order: every picture once, the last batch perhaps smaller. It has a length.

    Which pictures share a batch depends neither on the number of processes nor on what is `done`: the ids of pictures that need
    not come again, batch by batch.
    """
    dataset = PictureDataset(
        resolve(entry.dataset), root, entry.transform, entry.tasks, training=False, limit=entry.limit
    )  # fmt: skip
    places = range(len(dataset))
    batches = [[(i, 0) for i in places[at : at + entry.batch_size]] for at in range(0, len(places), entry.batch_size)]
    known = set(done)
    left = [batch for batch in batches if not all(dataset.records[i].id in known for i, _ in batch)]
    mine = np.array_split(np.arange(len(left)), world_size)[rank]
    return Batches(dataset, [left[i] for i in mine], workers)


class Shuffled:
    """Endless lists of (index, epoch): batch k is places k*B to (k+1)*B of all epochs' permutations strung together."""

    def __init__(self, count: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1, start: int = 0) -> None:
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self.rank, self.world_size, self.start = rank, world_size, start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        place, epoch, permutation = self.start * self.batch_size, -1, np.empty(0, dtype=np.int64)
        while True:
            batch = []
            for at in range(place, place + self.batch_size):
                if at // self.count != epoch:
                    epoch = at // self.count
                    permutation = np.random.default_rng((self.seed, epoch)).permutation(self.count)
                batch.append((int(permutation[at % self.count]), epoch))
            yield batch[self.rank :: self.world_size]
            place += self.batch_size


class Batches:
    """Iterates batches of a dataset in a given order, made here or in worker processes."""

    def __init__(self, dataset: PictureDataset, order: Any, workers: int = 0) -> None:
        self.dataset, self.order, self.workers = dataset, order, workers

    def __len__(self) -> int:
        return len(self.order)

    @property
    def pictures(self) -> int:
        """Pictures of the whole set, over all processes."""
        return len(self.dataset)

    def __iter__(self) -> Iterator[Batch]:
        loader = DataLoader(
            _Guarded(self.dataset),
            batch_sampler=self.order,
            num_workers=self.workers,
            collate_fn=partial(_collate, self.dataset),
            worker_init_fn=_start_worker,
            multiprocessing_context="fork" if self.workers else None,     # shares records and cache without copying them
        )
        with warnings.catch_warnings():
            # Python 3.12 warns of forking beside threads; the workers use neither a GPU nor the parent's threads.
            warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
            batches = iter(loader)
        for batch in batches:
            if isinstance(batch, Exception):
                raise batch
            yield batch


class _Guarded(Dataset[Any]):
    """Hands errors over as values: a worker would wrap them in its traceback, and the sentence would be lost."""

    def __init__(self, dataset: PictureDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, key: tuple[int, int]) -> Sample | Exception:
        try:
            return self.dataset[key]
        except (ValueError, OSError) as error:
            return error


def _collate(dataset: PictureDataset, samples: list[Any]) -> Batch | Exception:
    for sample in samples:
        if isinstance(sample, Exception):
            return sample
    return Batch(tuple(samples), dataset.vocabulary, dataset.source.spec.name)


def _start_worker(number: int) -> None:
    cv2.setNumThreads(0)
    torch.multiprocessing.set_sharing_strategy("file_system")     # a batch has more tensors than processes may open files


def _serves(spec: DatasetSpec, task: TaskName, training: bool) -> bool:
    return spec.provides(task) or (training and task == "referring" and spec.provides("segmentation"))
