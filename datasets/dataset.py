"""From records to samples: what of a picture is learnt, and what it is measured on.

Everything random follows from (seed, epoch, place of the picture in its set), so it depends neither on how many processes or
workers share the work nor on where a run was interrupted.

What is learnt from a picture is drawn as published, with these mends: annotated regions and phrases of which the crop shows
nothing are left out instead of being learnt as empty masks; polygons that overlap are united instead of added up; the words
around a class name that stands in for a phrase are drawn once a class instead of once an instance; a picture of many captions
comes once an epoch, with its next caption, instead of once for each of them in the same epoch.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from datasets.answers import mirrored_question, normalised
from datasets.check.leaks import Images
from datasets.marking import draw_objects
from datasets.nouns import nouns_of
from datasets.order import Key
from datasets.outlines import outline_mask
from datasets.places import by_place
from datasets.readers import Source, read
from datasets.readers.images import Regions, read_image, read_label_map, read_regions, where_of
from datasets.readers.objects import ObjectsSpec, read_objects
from datasets.readers.pairs import Pairs
from datasets.records import Record
from datasets.spec import DatasetSpec
from datasets.tasks import check_serves, known, parts, useful
from datasets.transforms import Transform, TransformConfig
from xdecoder.language.prompts import clean, random_prompt
from xdecoder.language.stems import stem
from xdecoder.rng import seed_of
from xdecoder.seem.strokes import KINDS, SMALLEST, Kind
from xdecoder.tasks import descriptor_of
from xdecoder.types import Objects, Phrases, Question, Sample, Segments, Vocabulary

PLACED = 0.7  # how often a thing that lies apart from others of its class is called by its place, where it may be

_DRAWN = 16  # phrases of other pictures of which one is taken
_ALONE = 0.2  # how often a picture is asked only for what it does not show


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
        absent_phrases: phrases of other pictures that mean nothing in this one, at most.
        max_objects: objects of a training sample that are marked, at most.
        strokes: how they are marked.
        cache: keep decoded pictures in memory.
        captions: captions of a training sample.
        places: call single things by where they lie, where class names stand in for phrases.

    Raises:
        ValueError: if files are missing or wrong, or the set lacks what a task needs.
    """

    def __init__(
        self,
        spec: DatasetSpec,
        root: str | Path,
        transform: TransformConfig,
        tasks: Sequence[str],
        *,
        training: bool,
        seed: int = 0,
        limit: int | None = None,
        max_phrases: int = 4,
        absent_phrases: int = 0,
        max_objects: int = 10,
        strokes: Sequence[Kind] = KINDS,
        cache: bool = False,
        captions: int = 1,
        places: bool = False,
    ) -> None:
        check_serves(spec, tuple(tasks), training)
        # Whoever uses only the first pictures may have fetched only a part of the set.
        self.source: Source = read(spec.uncounted() if limit else spec, root)
        for finding in self.source.findings:
            logging.getLogger(__name__).warning("data set %s: %s", spec.name, finding.what)
        self.vocabulary, self.name = self.source.vocabulary, spec.name
        self._complete = _complete_classes(spec, self.vocabulary)
        self._known = {stem(clean(name)) for name in self.vocabulary.names} if self.vocabulary else set()
        self._needs = {descriptor_of(task).needs for task in tasks}
        self._takes = {each for task in tasks for each in descriptor_of(task).takes}
        self.tasks, self.training, self.seed, self.max_phrases = tuple(tasks), training, seed, max_phrases
        self.max_objects, self.strokes, self.captions, self.places = max_objects, tuple(strokes), captions, places
        self.absent_phrases = absent_phrases
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
        if self.absent_phrases and sample.phrases is not None:
            rng = np.random.default_rng((self.seed, epoch, index, 0, 1))  # its own, so that it changes nothing else
            sample = replace(sample, phrases=self._with_absent(sample.phrases, record, rng))
        return replace(self._with_caption(sample, record, (index, epoch)), seed=seed_of(self.seed, epoch, index))

    @property
    def looks_at_classes(self) -> bool:
        """Whether any task learns from, or is measured on, regions or their classes' names."""
        return any("regions" in parts(task, self.training) for task in self.tasks)

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
        return useful(record, self.tasks, self.training)

    def _decoded(self, index: int, record: Record) -> tuple[np.ndarray, Regions | None]:
        if self._cache is not None and index in self._cache:
            return self._cache[index]
        pixels = read_image(record)
        regions = None
        if self._wants_regions(record) and self.vocabulary is not None:
            regions = read_regions(record, self.source.spec, self.vocabulary, (pixels.shape[0], pixels.shape[1]))
        if self._cache is not None:
            self._cache[index] = pixels, regions
        return pixels, regions

    def _wants_regions(self, record: Record) -> bool:
        """Whether they are looked at: by a task that needs them, or for which they stand in."""
        having = known(record)
        asked = [(descriptor_of(task).needs, parts(task, self.training)) for task in self.tasks]
        return any(needed == "regions" or ("regions" in enough and needed not in having) for needed, enough in asked)

    def _training_sample(self, record: Record, pixels: np.ndarray, regions: Regions | None, rng: np.random.Generator) -> Sample:
        sentences, outlines = self._drawn_references(record, pixels, rng)
        planes = [] if regions is None else [regions.planes]
        marked = self._objects(record, pixels)
        files = [] if marked is None else [marked.masks.numpy()]
        view = self.transform.view(pixels, rng)
        image, maps = self.transform(pixels, planes + files + ([outlines] if len(outlines) else []), rng, view)
        segments, phrases, objects = None, None, None
        if regions is not None:
            numbers = np.flatnonzero(regions.in_view(maps[0]) & ~regions.crowd)
            masks, labels = (torch.from_numpy(part) for part in (regions.masks(maps[0], numbers), regions.labels[numbers]))
            segments = Segments(masks, labels, torch.zeros(len(labels), dtype=torch.bool), self._complete)
        if "references" in self._needs:
            phrases = self._phrases(sentences, maps[-1] if len(outlines) else None, segments, rng, image)
        if "objects" in self._needs:
            shown = torch.from_numpy(maps[len(planes)]) if marked is not None else segments.masks if segments else None
            objects = draw_objects(shown, self.max_objects, self.strokes, rng) if shown is not None else None
        return Sample(
            id=record.id,
            image=image,
            output_size=(pixels.shape[0], pixels.shape[1]),
            segments=segments if "regions" in self._needs else None,
            phrases=phrases,
            objects=objects,
            questions=self._questions(record, view.mirrored, rng) if "questions" in self._needs else (),
        )

    def _questions(self, record: Record, mirrored: bool, rng: np.random.Generator) -> tuple[Question, ...]:
        """All questions in random order, as they are about the view; answers in one spelling."""
        drawn = [record.questions[i] for i in rng.permutation(len(record.questions))]
        asked = [replace(question, answers=tuple(normalised(answer) for answer in question.answers)) for question in drawn]
        return tuple(mirrored_question(question) for question in asked) if mirrored else tuple(asked)

    def _with_caption(self, sample: Sample, record: Record, key: Key) -> Sample:
        """The sample with one caption, or as many as are learnt at a time: the next ones in each epoch, in random order, until
        all have been seen.

        Where a task takes them, with its nouns too that are no class's name: what queries are contrasted with.
        """
        if not record.captions or "captions" not in self._takes:
            return sample
        index, epoch = key
        count = len(record.captions)
        order = np.random.default_rng((self.seed, index)).permutation(count)
        numbers = [int(order[(epoch * self.captions + i) % count]) for i in range(self.captions)]
        captions, number = tuple(record.captions[number] for number in numbers), numbers[0]
        if "nouns" not in self._takes:
            return replace(sample, captions=captions)
        nouns = record.nouns[number] if record.nouns else nouns_of(captions[0])
        return replace(sample, captions=captions, nouns=(tuple(noun for noun in nouns if stem(noun) not in self._known),))

    def _drawn_references(self, record: Record, pixels: np.ndarray, rng: np.random.Generator) -> tuple[list[str], np.ndarray]:
        """All referred objects in random order, one random sentence each; their masks (P, H, W) at the picture's own size."""
        if "references" not in self._needs:
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
        if self.places:
            return self._by_place(segments, classes.tolist(), rng)
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

    def _by_place(self, segments: Segments, classes: Sequence[int], rng: np.random.Generator) -> Phrases:
        """For each class its bare name, which stands for all its regions, or a phrase for one of them that lies apart."""
        assert self.vocabulary is not None
        texts: list[str] = []
        rows: list[int] = []
        for label in classes:
            name, own = clean(self.vocabulary.prompts[label]), (segments.labels == label).nonzero()[:, 0]
            said = (
                by_place(name, segments.masks[own], rng) if self.vocabulary.is_thing[label] and rng.random() < PLACED else None
            )
            chosen = [int(own[said[1]])] if said else own.tolist()
            texts += [said[0] if said else name] * len(chosen)
            rows += chosen
        return Phrases(tuple(texts), segments.masks[rows], written=False, meanings=tuple(texts))

    def _with_absent(self, phrases: Phrases, record: Record, rng: np.random.Generator) -> Phrases:
        """Phrases of other pictures added to a picture's own, which they now and then replace: later, too, it may be asked for
        nothing but what is not there.

        Half of them are the likest to the picture's own of some, since what is nearly there is the hardest to tell.
        """
        own = {word for reference in record.references for text in reference.sentences for word in text.split()}
        absent: list[str] = []
        for _ in range(int(rng.integers(self.absent_phrases + 1))):
            drawn = [text for _ in range(_DRAWN) if (text := self._absent_phrase(record, rng)) and text not in absent]
            nearest = rng.random() < 0.5
            if drawn:
                absent.append(max(drawn, key=lambda text: _share(text, own)) if nearest else drawn[0])
        if absent and rng.random() < _ALONE:
            phrases = replace(phrases, texts=(), masks=phrases.masks[:0], meanings=())
        return replace(phrases, absent=tuple(absent))

    def _absent_phrase(self, record: Record, rng: np.random.Generator) -> str:
        """A phrase of another picture; empty if it may be true of this one as well."""
        other = self.records[int(rng.integers(len(self.records)))]
        if record.shows is None or not other.references:
            return ""
        reference = other.references[rng.integers(len(other.references))]
        there = not reference.about or reference.about in record.shows
        return "" if there else reference.sentences[rng.integers(len(reference.sentences))]

    def _evaluation_sample(self, record: Record, pixels: np.ndarray, regions: Regions | None) -> Sample:
        image, _ = self.transform(pixels, [], np.random.default_rng(self.seed))
        segments, phrases, label_map = None, None, None
        size = (pixels.shape[0], pixels.shape[1])
        if regions is not None:
            masks, labels, crowd = (torch.from_numpy(part) for part in (regions.masks(), regions.labels, regions.crowd))
            segments = Segments(masks, labels, crowd)
            if record.label_map is not None and self.vocabulary is not None:
                label_map = torch.from_numpy(read_label_map(record.label_map, self.source.spec, self.vocabulary, size))
        if "references" in self._needs:
            count = None if self.source.spec.measured_with.all_sentences else 1
            asked = [reference.sentences[:count] for reference in record.references]
            outlines = torch.from_numpy(self._outlines(record, [reference.outline for reference in record.references], pixels))
            repeats = torch.tensor([len(sentences) for sentences in asked], dtype=torch.int64)
            phrases = Phrases(
                tuple(text for texts in asked for text in texts),
                outlines.repeat_interleave(repeats, dim=0),
                kinds=tuple(each.kind for each, texts in zip(record.references, asked, strict=True) for _ in texts),
            )
        objects = self._objects(record, pixels)
        if "objects" in self._needs and objects is None and segments is not None:
            objects = self._things(segments)
        return Sample(
            id=record.id,
            image=image,
            output_size=size,
            segments=segments if self._needs & {"regions", "references"} else None,
            phrases=phrases,
            captions=self._captions(record),
            label_map=label_map,
            label=record.label,
            questions=record.questions,
            objects=objects,
        )

    def _objects(self, record: Record, pixels: np.ndarray) -> Objects | None:
        """Objects that have mask images of their own, at the picture's size."""
        if "objects" not in self._needs or not record.objects:
            return None
        assert isinstance(self.source.spec, ObjectsSpec)
        return read_objects(record, self.source.spec, (pixels.shape[0], pixels.shape[1]))

    def _things(self, segments: Segments) -> Objects:
        """Those of the regions that somebody may want: things, or where classes know none all."""
        assert self.vocabulary is not None
        is_thing = torch.tensor(self.vocabulary.is_thing)
        wanted = ~segments.crowd & (is_thing[segments.labels] | ~is_thing.any())
        return Objects(segments.masks[wanted & (segments.masks.flatten(1).sum(1) >= SMALLEST)])

    def _outlines(self, record: Record, outlines: list[Any], pixels: np.ndarray) -> np.ndarray:
        size = (pixels.shape[0], pixels.shape[1])
        where = where_of(self.source.spec, record)
        masks = [outline_mask(outline, *size, where=where) for outline in outlines]
        return np.stack(masks) if masks else np.zeros((0, *size), dtype=bool)

    def _captions(self, record: Record) -> tuple[str, ...]:
        return record.captions if self._needs & {"captions", "texts"} else ()


def _complete_classes(spec: DatasetSpec, vocabulary: Vocabulary | None) -> Tensor | None:
    """The classes (K,) of which every region is annotated; None: all of them."""
    if vocabulary is None or spec.complete == "all":
        return None
    things = torch.tensor(vocabulary.is_thing)
    return things if spec.complete == "things" else torch.zeros_like(things)


def _share(text: str, known: set[str]) -> float:
    """Which part of a text's words is known."""
    words = text.split()
    return sum(word in known for word in words) / len(words)
