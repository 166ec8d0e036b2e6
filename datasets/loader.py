"""From samples to batches: their order, the worker processes that make them, and what comes in the place of a bad one."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from datasets.bad import BadSamples
from datasets.concat_dataset import ConcatDataset
from datasets.dataset import ImageDataset
from datasets.order import BatchSampler, Key, Order, ShuffledEpochs, WeightedMix
from datasets.readers import read
from datasets.spec import DatasetSpec
from datasets.streams import EvaluationConfig, StreamConfig, resolve
from xdecoder.types import Batch, Sample

REPLACEMENTS = 20  # samples that are tried in a bad one's place
REQUESTS = 16  # pictures that one process asks a server for at a time


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
        absent_phrases=stream.absent_phrases,
        max_objects=stream.max_objects,
        strokes=stream.strokes,
        cache=stream.cache,
        captions=stream.captions,
        places=stream.places,
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
    batch = Batch(samples, dataset.vocabulary, dataset.name, captions=dataset.captions)
    return (batch if len(samples) == len(found) else None), wrong


def _side_by_side(samples: list[Sample]) -> tuple[Sample, ...]:
    """The samples with their pictures in one block of memory, which a worker hands over at once instead of one by one."""
    if len({sample.image.shape for sample in samples}) != 1:
        return tuple(samples)
    images = torch.stack([sample.image for sample in samples])
    return tuple(replace(sample, image=image) for sample, image in zip(samples, images, strict=True))


def _start_worker(number: int) -> None:
    cv2.setNumThreads(0)
    torch.multiprocessing.set_sharing_strategy("file_system")  # a batch has more tensors than processes may open files
