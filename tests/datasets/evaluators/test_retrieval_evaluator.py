"""Retrieval recall against a plain loop over sorted similarities."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from datasets.evaluators import RetrievalEvaluator
from xdecoder.types import RetrievalResult, Sample


def case(image: torch.Tensor, texts: torch.Tensor, id: int) -> tuple[RetrievalResult, Sample]:
    captions = tuple(f"caption {i}" for i in range(len(texts)))
    return RetrievalResult(image, texts), Sample(id, torch.zeros(3, 2, 2, dtype=torch.uint8), (2, 2), captions=captions)


def random_cases(count: int, views: int = 2) -> list[tuple[RetrievalResult, Sample]]:
    generator = torch.Generator().manual_seed(0)
    cases = []
    for id in range(count):
        centre = torch.randn(6, generator=generator)
        texts = centre + 1.2 * torch.randn(1 + id % 3, 6, generator=generator)
        cases.append(case(centre + 0.8 * torch.randn(views, 6, generator=generator), 3 * texts, id))
    return cases


def loop(cases: list[tuple[RetrievalResult, Sample]]) -> dict[str, float]:
    """Recall from cosines one at a time."""
    texts = [(i, text) for i, (result, _) in enumerate(cases) for text in result.texts]

    def similarity(image: int, text: torch.Tensor) -> float:
        return float(np.mean([torch.cosine_similarity(view, text, dim=0) for view in cases[image][0].image]))

    table = {}
    for k in (1, 5, 10):
        found = [owner in sorted(range(len(cases)), key=lambda i: -similarity(i, text))[:k] for owner, text in texts]
        table[f"retrieval_IR@{k}"] = 100 * np.mean(found)
    for k in (1, 5, 10):
        hits = [any(o == i for o, _ in sorted(texts, key=lambda t: -similarity(i, t[1]))[:k]) for i in range(len(cases))]
        table[f"retrieval_TR@{k}"] = 100 * np.mean(hits)
    return table


def scored(cases: list[tuple[RetrievalResult, Sample]], pool: int | None = None) -> dict[str, float]:
    evaluator = RetrievalEvaluator(pool)
    for one in cases:
        evaluator.update(*one)
    return evaluator.compute()


def test_equals_a_plain_loop() -> None:
    cases = random_cases(23)
    scores = scored(cases)
    alone = loop([case(result.image[:1], result.texts, sample.id) for result, sample in cases])
    expected = loop(cases) | {key.replace("retrieval", "retrieval_decoder"): value for key, value in alone.items()}
    assert scores == pytest.approx(expected, abs=1e-9)
    assert alone != loop(cases) and 0 < scores["retrieval_IR@1"] < 100


def test_pools_are_disjoint_and_the_rest_is_left_out() -> None:
    cases = random_cases(23, views=1)
    parts = [loop(cases[i : i + 7]) for i in (0, 7, 14)]
    assert scored(cases, 7) == pytest.approx({key: np.mean([part[key] for part in parts]) for key in parts[0]})
    assert scored(cases[:5], 7) == scored(cases[:5])


def test_merging_does_not_depend_on_who_saw_what() -> None:
    cases = random_cases(12)
    first, second = RetrievalEvaluator(4), RetrievalEvaluator(4)
    for i, one in enumerate(cases):
        (first if i % 3 else second).update(*one)
    second.merge([first.state()])
    assert second.compute() == scored(cases, 4)


def test_a_model_that_tells_nothing_apart_scores_as_chance() -> None:
    cases = [case(torch.ones(1, 4), torch.ones(2, 4), id) for id in range(40)]
    scores = scored(cases)
    assert [scores[f"retrieval_IR@{k}"] for k in (1, 5, 10)] == [2.5, 12.5, 25]
    assert scores["retrieval_TR@1"] == 2.5


def test_equal_vectors_tie_wherever_they_stand() -> None:
    """Rounding of sums must not tell apart what is equal: 300 pictures share three vectors."""
    generator = torch.Generator().manual_seed(1)
    kinds = torch.randn(3, 1, 96, generator=generator)
    scores = scored([case(kinds[id % 3], kinds[id % 3], id) for id in range(300)])
    assert scores["retrieval_IR@1"] == pytest.approx(1.0) and scores["retrieval_TR@10"] == pytest.approx(10.0)


def test_each_picture_has_the_rank_of_its_captions() -> None:
    evaluator = RetrievalEvaluator()
    for id, row in enumerate(torch.eye(3)):
        evaluator.update(*case(row[None], torch.stack((row, torch.eye(3)[0])), id))
    assert evaluator.per_image() == pytest.approx({0: 100.0, 1: 100 / 1.5, 2: 100 / 2})


def test_hopeless_input() -> None:
    assert all(math.isnan(value) for value in RetrievalEvaluator(100).compute().values())
    with pytest.raises(ValueError, match="at least 1"):
        RetrievalEvaluator(0)
    with pytest.raises(ValueError, match="picture 3: has no captions"):
        RetrievalEvaluator().update(*case(torch.ones(1, 4), torch.ones(0, 4), 3))
