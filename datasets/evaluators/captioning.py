"""Caption scores as the COCO caption tool defines them: BLEU, ROUGE-L and CIDEr over Penn-Treebank words, METEOR and SPICE."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Self

from datasets.evaluators import coco_caption_tools
from datasets.evaluators.coco_caption_tools import MissingToolError
from datasets.evaluators.evaluator import Evaluator, ImageId
from datasets.readers.coco import scenes_of
from datasets.spec import DatasetSpec
from xdecoder.types import CaptionResult, Sample, Vocabulary

Pair = tuple[str, tuple[str, ...]]  # a candidate and its references
Words = tuple[str, ...]
NGrams = Counter[Words]

LONGEST = 4  # words in an n-gram
JAVA: dict[str, Callable[[Sequence[str], Sequence[Sequence[str]]], float]] = {
    "caption_METEOR": coco_caption_tools.meteor,
    "caption_SPICE": coco_caption_tools.spice,
}


class CaptionEvaluator(Evaluator[CaptionResult, Pair]):
    """caption_CIDEr, caption_BLEU-1 … caption_BLEU-4, caption_ROUGE-L and, where Java is, caption_METEOR and caption_SPICE.

    All are times 100, so that every score is on one scale; CIDEr may exceed 100. It weighs words by how rare they are among
    the references of the evaluated pictures, so it depends on which pictures those are, and is 0 for a single one.

    Args:
        java: use the official programs where they are installed: for cutting captions into words, METEOR and SPICE.
    """

    def __init__(self, java: bool = True) -> None:
        super().__init__()
        self.java = java
        self._missing: dict[str, str] = {}

    @classmethod
    def of(cls, spec: DatasetSpec, root: Path, vocabulary: Vocabulary | None) -> Self:
        return cls(java=scenes_of(spec) is None)  # of generated captions synonyms say nothing

    def update(self, result: CaptionResult, sample: Sample) -> None:
        """Keep one caption and its references; raises ValueError for a sample without captions."""
        if not sample.captions:
            raise ValueError(f"picture {sample.id}: has no reference captions to compare with")
        self._records[sample.id] = (result.text, tuple(sample.captions))

    def compute(self) -> dict[str, float]:
        """caption_CIDEr, caption_BLEU-1..4, caption_ROUGE-L, if possible METEOR and SPICE, times 100; NaN without pictures."""
        names = ["caption_CIDEr", *(f"caption_BLEU-{n}" for n in range(1, LONGEST + 1)), "caption_ROUGE-L"]
        pairs = self._pairs(self._official)
        if not pairs:
            return dict.fromkeys(names, float("nan"))
        scores = dict(zip(names, [cider(pairs), *bleu(pairs), rouge_l(pairs)], strict=True))
        for name, score in JAVA.items() if self.java else ():
            try:
                scores[name] = score(*zip(*pairs, strict=True))
            except MissingToolError as error:
                self._missing[name] = str(error)
        return {name: 100.0 * score for name, score in scores.items()}

    def per_image(self) -> dict[ImageId, float]:
        """ROUGE-L of each caption, over words cut by our rules."""
        pairs = self._pairs(official=False)
        return {image: 100.0 * rouge_l([pair]) for (image, _), pair in zip(self._sorted(), pairs, strict=True)}

    def notes(self) -> list[str]:
        """How captions were cut into words, and which scores are missing and why."""
        tokeniser = "Stanford's PTBTokenizer 3.4.1" if self._official else "our rules (datasets/evaluators/ptb.py)"
        return [f"captions cut into words by {tokeniser}", *(f"no {name}: {why}" for name, why in self._missing.items())]

    @property
    def _official(self) -> bool:
        return self.java and coco_caption_tools.available()

    def _pairs(self, official: bool) -> list[Pair]:
        """Captions and references in words with one space between them, in the order of the picture ids."""
        records = [record for _, record in self._sorted()]
        candidates = coco_caption_tools.words([text for text, _ in records], official)
        references = iter(coco_caption_tools.words([text for _, texts in records for text in texts], official))
        return [(one, tuple(islice(references, len(texts)))) for one, (_, texts) in zip(candidates, records, strict=True)]


def bleu(pairs: Sequence[Pair]) -> list[float]:
    """BLEU-1..4 of a corpus, 0..1 (Papineni et al., 2002), against the reference nearest in length.

    Precisions are smoothed by the official tool's tiny constants, which matter only where nothing matches.
    """
    correct, guessed, length, wanted = [0] * LONGEST, [0] * LONGEST, 0, 0
    for text, texts in pairs:
        candidate, references = text.split(), [reference.split() for reference in texts]
        allowed: NGrams = Counter()
        for reference in references:
            allowed |= _ngrams(reference)
        for ngram, count in (_ngrams(candidate) & allowed).items():
            correct[len(ngram) - 1] += count
        for n in range(LONGEST):
            guessed[n] += max(0, len(candidate) - n)
        length += len(candidate)
        wanted += _nearest_length(candidate, references)
    ratio = (length + 1e-15) / (wanted + 1e-9)
    brevity = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    scores, product = [], 1.0
    for n in range(LONGEST):
        product *= (correct[n] + 1e-15) / (guessed[n] + 1e-9)
        scores.append(brevity * product ** (1 / (n + 1)))
    return scores


def _nearest_length(candidate: Sequence[str], references: Sequence[Sequence[str]]) -> int:
    return min((len(reference) for reference in references), key=lambda length: (abs(length - len(candidate)), length))


def rouge_l(pairs: Sequence[Pair], beta: float = 1.2) -> float:
    """Mean F-score of the longest common subsequence, 0..1 (Lin, 2004); best precision and best recall over the references.

    As in the official tool an empty text is one empty word, and only plain spaces part words ("22 3/4" may be tied to one).
    """
    total = 0.0
    for text, texts in pairs:
        candidate, references = text.split(" "), [reference.split(" ") for reference in texts]
        common = [_common_length(candidate, reference) for reference in references]
        precision = max(common) / len(candidate)
        recall = max(shared / len(reference) for shared, reference in zip(common, references, strict=True))
        if precision and recall:
            total += (1 + beta**2) * precision * recall / (recall + beta**2 * precision)
    return total / len(pairs)


def _common_length(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for word in a:
        above = row
        row = [0]
        for j, other in enumerate(b):
            row.append(above[j] + 1 if word == other else max(row[j], above[j + 1]))
    return row[-1]


def cider(pairs: Sequence[Pair], sigma: float = 6.0) -> float:
    """CIDEr-D (Vedantam et al., CVPR 2015), 0..10: mean over pictures of the TF-IDF cosine with the references, n = 1..4.

    Counts are clipped to the reference's and a difference in length is damped by a Gaussian of width `sigma`.
    """
    candidates = [_ngrams(candidate.split()) for candidate, _ in pairs]
    references = [[_ngrams(reference.split()) for reference in many] for _, many in pairs]
    images_with: NGrams = Counter()
    for many in references:
        images_with.update({ngram for reference in many for ngram in reference})
    rarity = {ngram: math.log(len(pairs)) - math.log(count) for ngram, count in images_with.items()}
    unseen = math.log(len(pairs))

    total = 0.0
    for candidate, many in zip(candidates, references, strict=True):
        ours = _Weighted(candidate, rarity, unseen)
        similarity = [ours.similarity(_Weighted(reference, rarity, unseen), sigma) for reference in many]
        total += 10 * sum(similarity) / len(many)
    return total / len(pairs)


class _Weighted:
    """TF-IDF weights of one caption's n-grams."""

    def __init__(self, counts: NGrams, rarity: dict[Words, float], unseen: float) -> None:
        self.weights = {ngram: count * rarity.get(ngram, unseen) for ngram, count in counts.items()}
        squares = [0.0] * LONGEST
        for ngram, weight in self.weights.items():
            squares[len(ngram) - 1] += weight * weight
        self.norms = [math.sqrt(square) for square in squares]
        self.length = sum(count for ngram, count in counts.items() if len(ngram) == 2)  # the official tool's length: bigrams

    def similarity(self, reference: _Weighted, sigma: float) -> float:
        products = [0.0] * LONGEST
        for ngram, weight in self.weights.items():
            other = reference.weights.get(ngram, 0.0)
            products[len(ngram) - 1] += min(weight, other) * other
        norms = zip(self.norms, reference.norms, strict=True)
        cosines = [product / (a * b) if a and b else 0.0 for product, (a, b) in zip(products, norms, strict=True)]
        damping = math.exp(-((self.length - reference.length) ** 2) / (2 * sigma**2))
        return damping * sum(cosines) / LONGEST


def _ngrams(words: Sequence[str]) -> NGrams:
    return Counter(tuple(words[i : i + n]) for n in range(1, LONGEST + 1) for i in range(len(words) - n + 1))
