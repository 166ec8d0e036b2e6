"""Image-text retrieval: does a caption find its picture, and a picture one of its captions?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from datasets.evaluators.evaluator import Evaluator, ImageId, check_finite, percent
from datasets.readers.coco import scenes_of
from datasets.spec import DatasetSpec
from xdecoder.types import RetrievalResult, Sample, Vocabulary

Vectors = NDArray[np.float32]
Record = tuple[Vectors, Vectors]  # (V, D) views of the picture, (T, D) captions; as the network gave them
Unit = NDArray[np.float64]
Numbers = NDArray[np.int64]
DEPTHS = (1, 5, 10)
QUERIES_AT_ONCE = 256  # bounds the memory of a full 5 000 x 25 000 comparison
DIGITS = 12  # similarities nearer than that are equal: sums of equal vectors differ by their rounding


GENERATED_POOL = 100  # captions of generated scenes repeat themselves; among too many pictures no caption means only one


class RetrievalEvaluator(Evaluator[RetrievalResult, Record]):
    """Recall at 1, 5 and 10, both ways.

    IR@k: share of captions whose picture is among the k most similar pictures. TR@k: share of pictures with at least one of
    their own captions among the k most similar captions. Similarity is the mean over the picture's views of the cosine. Of
    equally similar candidates the one with the lower picture id ranks first, so telling nothing apart scores as chance.
    Where pictures have several views (the decoder's, then the backbone's), `retrieval_decoder_…` are the figures of the first
    one alone.

    Args:
        pool: compare only within consecutive disjoint pools of so many pictures, in the order of their ids; a score is the mean
            over the pools. Pictures that do not fill a last pool are left out, unless there is no full pool at all.
            None: one pool of all pictures, as the COCO and Flickr protocols have it.
    """

    def __init__(self, pool: int | None = None) -> None:
        super().__init__()
        if pool is not None and pool < 1:
            raise ValueError(f"a retrieval pool needs at least 1 picture, not {pool}")
        self.pool = pool

    @classmethod
    def of(cls, spec: DatasetSpec, root: Path, vocabulary: Vocabulary | None) -> Self:
        return cls(GENERATED_POOL if scenes_of(spec) else None)

    def update(self, result: RetrievalResult, sample: Sample) -> None:
        """Keep one picture's vectors; raises ValueError for a picture without captions."""
        if not len(result.texts):
            raise ValueError(f"picture {sample.id}: has no captions to look for")
        if result.image.dim() != 2 or result.texts.dim() != 2 or result.image.shape[1] != result.texts.shape[1]:
            shapes = f"{tuple(result.image.shape)} and {tuple(result.texts.shape)}"
            raise ValueError(f"picture {sample.id}: vectors of shapes {shapes}; expected (V, D) and (T, D)")
        check_finite(result.image, sample, "the picture's vector")
        check_finite(result.texts, sample, "a caption's vector")
        self._records[sample.id] = (result.image.float().cpu().numpy(), result.texts.float().cpu().numpy())

    def compute(self) -> dict[str, float]:
        """retrieval_IR@1, @5, @10 and retrieval_TR@1, @5, @10, in percent; NaN without pictures."""
        records = [record for _, record in self._sorted()]
        scores = self._scores(records, "retrieval")
        if any(len(views) > 1 for views, _ in records):
            scores |= self._scores([(views[:1], texts) for views, texts in records], "retrieval_decoder")
        return scores

    def per_image(self) -> dict[ImageId, float]:
        """100 / the mean rank, among all pictures, that each picture has for its own captions."""
        records = self._sorted()
        if not records:
            return {}
        ranks = _pool_ranks([record for _, record in records])[0] + 1
        ends = np.cumsum([len(texts) for _, (_, texts) in records])
        means = [float(part.mean()) for part in np.split(ranks, ends[:-1])]
        return {image: 100.0 / mean for (image, _), mean in zip(records, means, strict=True)}

    def _scores(self, records: Sequence[Record], prefix: str) -> dict[str, float]:
        size = min(self.pool or len(records), len(records))
        pools = [records[i : i + size] for i in range(0, len(records) - size + 1, size)] if size else []
        ranks = [_pool_ranks(pool) for pool in pools]
        return {
            f"{prefix}_{name}@{k}": percent(sum(float((pair[way] < k).mean()) for pair in ranks), len(ranks))
            for way, name in enumerate(("IR", "TR"))
            for k in DEPTHS
        }


def _pool_ranks(pool: Sequence[Record]) -> tuple[Numbers, Numbers]:
    """Rank from 0 of each caption's picture, and of each picture's best caption."""
    images = np.stack([_unit(views).mean(0) for views, _ in pool])  # the mean of cosines is the cosine with the mean
    texts = np.concatenate([_unit(captions) for _, captions in pool])
    owner = np.repeat(np.arange(len(pool)), [len(captions) for _, captions in pool])
    return _ranks(texts, owner, images, np.arange(len(pool))), _ranks(images, np.arange(len(pool)), texts, owner)


def _ranks(queries: Unit, query_owner: Numbers, items: Unit, item_owner: Numbers) -> Numbers:
    """(Q,) number of items ranked before the first one of the query's owner."""
    ranks = []
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        part = slice(start, start + QUERIES_AT_ONCE)
        scores = (queries[part] @ items.T).round(DIGITS)  # (q, N)
        own = np.where(query_owner[part, None] == item_owner, scores, -np.inf)
        first = own.argmax(1)
        best = np.take_along_axis(own, first[:, None], 1)
        earlier = np.arange(len(items)) < first[:, None]
        ranks.append(((scores > best) | ((scores == best) & earlier)).sum(1))
    return np.concatenate(ranks)


def _unit(vectors: Vectors) -> Unit:
    wide = vectors.astype(np.float64)
    unit: Unit = wide / np.maximum(np.linalg.norm(wide, axis=-1, keepdims=True), 1e-12)
    return unit
