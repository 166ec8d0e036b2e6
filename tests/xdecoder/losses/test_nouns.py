import math

import pytest
import torch

from xdecoder.losses.nouns import Named, noun_loss

SCALE = torch.tensor(math.log(10.0))
AXES = torch.eye(5)
NONE = torch.zeros(0, dtype=torch.int64)


def named(*words: str) -> Named:
    """Word "a" on the first axis, "b" on the second, …"""
    return Named(AXES[[ord(word) - ord("a") for word in words]], words)


def test_three_words_by_hand():
    """A matched query that says its class, and two free ones that say the nouns: three rows, three words."""
    loss = noun_loss(AXES[None, [2, 1, 0]], [torch.tensor([2])], [named("a")], [named("b", "c")], SCALE)
    assert loss.item() == pytest.approx(math.log(1 + 2 * math.exp(-10)), abs=1e-6)


def test_free_queries_take_the_nouns_they_are_best_at():
    queries = AXES[None, [3, 1, 0]].clone().requires_grad_()
    loss = noun_loss(queries, [NONE], [named()], [named("a", "b")], SCALE)
    loss.backward()
    assert queries.grad[0, 0].abs().sum() == 0 and (queries.grad[0, 1:].abs().sum(dim=1) > 0).all()
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-10)), abs=1e-6)


def test_taken_queries_are_not_asked_again():
    """The query on axis b answers for a region; the noun must take the other one, which is wrong about it."""
    loss = noun_loss(AXES[None, [1, 0]], [torch.tensor([0])], [named("b")], [named("b")], SCALE)
    right = noun_loss(AXES[None, [1, 1]], [torch.tensor([0])], [named("b")], [named("b")], SCALE)
    assert right.item() == pytest.approx(0.3 * math.log(2), abs=1e-5)
    assert loss.item() == pytest.approx(0.3 * (math.log(1 + math.exp(-10)) + 10 / 2), abs=1e-4)


def test_equal_words_share_the_last_text():
    moved = Named(AXES[[4]], ("a",))
    loss = noun_loss(AXES[None, [0, 4]], [torch.tensor([0])], [named("a")], [moved], SCALE)
    assert loss.item() == pytest.approx(0.3 * (math.log(1 + math.exp(-10)) + 10 / 2), abs=1e-4)


def test_detached_queries_get_no_gradient():
    for detach in (False, True):
        queries = (AXES[None, [0, 1, 2]] + 0.5).requires_grad_()
        noun_loss(queries, [torch.tensor([0])], [named("a")], [named("b")], SCALE, detach).backward()
        assert (queries.grad[0, 1].abs().sum() > 0).item() is not detach
        assert queries.grad[0, 0].abs().sum() > 0


def test_more_nouns_than_queries_and_none_at_all():
    assert torch.isfinite(noun_loss(AXES[None, [0, 1]], [torch.tensor([0])], [named("a")], [named("b", "c", "d")], SCALE))
    queries = AXES[None].clone().requires_grad_()
    loss = noun_loss(queries, [NONE], [named()], [named()], SCALE)
    loss.backward()
    assert loss.item() == 0 and queries.grad.abs().sum() == 0
