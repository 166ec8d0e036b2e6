"""What flows between the rooms: small frozen dataclasses, shapes in their comments."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from xdecoder.texts import MAX_TEXTS, check_distinct, check_name

Form = Literal["semantic", "instances", "panoptic"]
"""In which a picture's segmentation can be had."""


@dataclass(frozen=True)
class Vocabulary:
    """Class names in label order; `is_thing[i]` says whether class i is countable. "background" is not among them."""

    names: tuple[str, ...]
    is_thing: tuple[bool, ...]
    texts: tuple[str, ...] = ()  # what the text encoder reads for each class, where it is not the name; these may repeat

    def __post_init__(self) -> None:
        if len(self.names) != len(self.is_thing):
            raise ValueError(f"a vocabulary of {len(self.names)} names needs as many thing flags, not {len(self.is_thing)}")
        if len(self.names) > MAX_TEXTS:
            raise ValueError(f"a vocabulary has at most {MAX_TEXTS} names, not {len(self.names)}")
        for name in self.names:
            check_name(name)
        check_distinct(self.names)
        if len(self.texts) not in (0, len(self.names)):
            raise ValueError(f"a vocabulary of {len(self.names)} names needs as many texts or none, not {len(self.texts)}")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def prompts(self) -> tuple[str, ...]:
        """What the text encoder reads for each class."""
        return self.texts or self.names


@dataclass(frozen=True)
class Segments:
    """Annotated regions of one picture. In training at the picture's size, in evaluation at the sample's `output_size`."""

    masks: Tensor  # (N, H, W) bool
    labels: Tensor  # (N,) int64, index into the vocabulary
    crowd: Tensor  # (N,) bool: a group that is neither learnt nor counted as a miss
    complete: Tensor | None = None  # (K,) bool: classes of which every region is annotated; None = all. In training


@dataclass(frozen=True)
class Phrases:
    """Phrases of one picture and the region each refers to; sizes as in `Segments`."""

    texts: tuple[str, ...]  # P
    masks: Tensor  # (P, H, W) bool
    written: bool = True  # by a person for this picture; False: names of classes stand in
    meanings: tuple[str, ...] = ()  # P: what each text stands for, where several wordings mean one thing; () = itself
    kinds: tuple[str, ...] = ()  # P: of question, for scores by kind; () = all of one kind
    absent: tuple[str, ...] = ()  # in training, phrases that mean nothing in this picture


@dataclass(frozen=True)
class Question:
    """A question about a picture and what each person who was asked answered."""

    id: int | str
    text: str
    answers: tuple[str, ...] = ()
    kind: str = ""  # of answer, such as "yes/no", for scores by kind


@dataclass(frozen=True)
class StrokeMaps:
    """What is marked on one image: (N, H, W) bool each, of N objects, at the size of the padded input."""

    positive: Tensor
    negative: Tensor

    def __len__(self) -> int:
        return len(self.positive)

    def to(self, device: torch.device) -> StrokeMaps:
        return StrokeMaps(self.positive.to(device), self.negative.to(device))

    def padded(self, height: int, width: int) -> StrokeMaps:
        """The same on a larger image, which this one lies in the upper left corner of."""
        margins = (0, width - self.positive.shape[-1], 0, height - self.positive.shape[-2])
        return StrokeMaps(F.pad(self.positive, margins), F.pad(self.negative, margins))

    def of(self, number: int) -> StrokeMaps:
        """One object's; nothing is marked of one that is not there."""
        positive, negative = self.positive[number : number + 1], self.negative[number : number + 1]
        if len(positive):
            return StrokeMaps(positive, negative)
        nothing = positive.new_zeros(1, *positive.shape[1:])
        return StrokeMaps(nothing, nothing)


@dataclass(frozen=True)
class Objects:
    """Objects of one picture to be marked with clicks and strokes; sizes as in `Segments`."""

    masks: Tensor  # (N, H, W) bool
    ignored: Tensor | None = None  # (H, W) bool: pixels that count neither as object nor as background; None = no pixel
    strokes: StrokeMaps | None = None  # in training, what is marked of each


@dataclass(frozen=True)
class Sample:
    """One picture and what is known of it."""

    id: int | str
    image: Tensor  # (3, h, w) uint8, RGB
    output_size: tuple[int, int]  # (height, width) of the original picture, in which predictions are asked for
    segments: Segments | None = None
    phrases: Phrases | None = None
    captions: tuple[str, ...] = ()
    nouns: tuple[tuple[str, ...], ...] = ()  # the nouns of each caption; empty where they are not known
    region: Tensor | None = None  # (h, w) bool: the part of the picture that is to be described; None = all of it
    seed: int | None = None  # of all that training draws for this sample; None: torch's own generator decides
    label_map: Tensor | None = None  # (H, W) int64 at `output_size`: each pixel's class, -1 = none, if segments do not say it
    label: int | None = None  # class of the whole picture
    questions: tuple[Question, ...] = ()
    objects: Objects | None = None


@dataclass(frozen=True)
class Batch:
    """Samples of one data set; their pictures may differ in size."""

    samples: tuple[Sample, ...]
    vocabulary: Vocabulary | None  # what the segments' labels index; None where the set has no classes
    source: str  # name of the data set
    seed: int | None = None  # of what training draws for all samples alike
    captions: int = 1  # of each picture, that are learnt from at a time
    reads: frozenset[Form] | None = None  # which forms of a segmentation somebody reads; None: any

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def images(self) -> list[Tensor]:
        """The pictures, each (3, h, w) uint8."""
        return [sample.image for sample in self.samples]

    def asks_for(self, form: Form) -> bool:
        """Whether this form of a segmentation is worth its time."""
        return self.reads is None or form in self.reads


@dataclass(frozen=True)
class PanopticSegment:
    id: int  # value in the id map, from 1
    label: int
    is_thing: bool
    score: float


@dataclass(frozen=True)
class PanopticResult:
    ids: Tensor  # (H, W) int32; 0 = void
    segments: tuple[PanopticSegment, ...]


@dataclass(frozen=True)
class InstanceResult:
    masks: Tensor  # (N, H, W) bool
    labels: Tensor  # (N,) int64
    scores: Tensor  # (N,) float


@dataclass(frozen=True)
class SegmentationResult:
    """What segmenting one picture gives, all at the sample's `output_size`."""

    semantic: Tensor | None  # (H, W) int64 label map
    instances: InstanceResult | None
    panoptic: PanopticResult | None


@dataclass(frozen=True)
class ReferringResult:
    masks: Tensor  # (P, H, W) bool, in the order of the phrases
    scores: Tensor  # (P,) cosine of the chosen query and the phrase
    found: Tensor | None = None  # (P,) bool: whether what a phrase means is there; None: wherever a mask has pixels
    instances: tuple[InstanceResult, ...] = ()  # of each phrase all that it means, labels 0; () = not asked for

    @property
    def there(self) -> Tensor:
        """(P,) bool: which phrases mean something that is there."""
        return self.masks.flatten(1).any(dim=1) if self.found is None else self.found


@dataclass(frozen=True)
class CaptionResult:
    text: str


@dataclass(frozen=True)
class RetrievalResult:
    """Unit vectors of one picture and of its captions; a similarity is the mean over the picture's views."""

    image: Tensor  # (V, D): the decoder's and, if asked for, the backbone's view
    texts: Tensor  # (T, D)


@dataclass(frozen=True)
class ClassificationResult:
    """The likeliest classes of a picture, best first."""

    labels: Tensor  # (K,) int64
    scores: Tensor  # (K,) cosine of picture and class


@dataclass(frozen=True)
class AnswerResult:
    texts: tuple[str, ...]  # one answer a question, in the order of the sample's questions


@dataclass(frozen=True)
class Round:
    """What was marked of one object, and the mask that came of it."""

    positive: Tensor  # (H, W) bool
    negative: Tensor  # (H, W) bool
    mask: Tensor  # (H, W) bool


@dataclass(frozen=True)
class InteractiveResult:
    """How the masks of one picture's objects became better from click to click."""

    ious: Tensor  # (N, K) of each object after each of K rounds
    seconds: float = 0.0  # that the decoder took for all rounds
    passes: int = 0  # rounds that were decoded; the last IoUs stand for those that were not needed
    shown: tuple[Round, ...] = ()  # the first rounds of the first object


Tree = TypeVar("Tree")


def to_device(tree: Tree, device: torch.device | str) -> Tree:
    """A copy of nested dataclasses, tuples, lists and dicts whose tensors lie on `device`."""
    moved: Any = tree
    if isinstance(tree, Tensor):
        # Copies from a GPU must have arrived before anybody reads them; those to a GPU are ordered by the GPU itself.
        moved = tree.to(device, non_blocking=torch.device(device).type != "cpu")
    elif is_dataclass(tree) and not isinstance(tree, type):
        moved = replace(tree, **{f.name: to_device(getattr(tree, f.name), device) for f in fields(tree)})
    elif isinstance(tree, dict):
        moved = {key: to_device(value, device) for key, value in tree.items()}
    elif isinstance(tree, (tuple, list)):
        moved = type(tree)(to_device(value, device) for value in tree)
    return moved
