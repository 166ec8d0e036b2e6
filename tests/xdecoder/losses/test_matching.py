from itertools import permutations

import torch
import torch.nn.functional as F

from xdecoder.losses.matching import MatchingConfig, match, pairwise_bce, pairwise_dice


def test_pairwise_costs_equal_the_losses_of_each_pair():
    torch.manual_seed(0)
    logits, targets = torch.randn(3, 20), (torch.rand(2, 20) > 0.5).float()
    bce, dice = pairwise_bce(logits, targets), pairwise_dice(logits, targets)
    for q in range(3):
        for n in range(2):
            assert torch.isclose(bce[q, n], F.binary_cross_entropy_with_logits(logits[q], targets[n]), atol=1e-5)
            inside = logits[q].sigmoid()
            expected = 1 - (2 * (inside * targets[n]).sum() + 1) / (inside.sum() + targets[n].sum() + 1)
            assert torch.isclose(dice[q, n], expected, atol=1e-5)


def test_finds_the_cheapest_assignment():
    """Masks are alike, so that class alone decides; compared with trying all assignments."""
    torch.manual_seed(0)
    scores = torch.rand(2, 4, 3)
    matches = match(
        [scores],
        torch.zeros(2, 1, 4, 1),
        torch.zeros(1, 1, 4, 4),
        [torch.ones(3, 8, 8, dtype=torch.bool)],
        MatchingConfig(points=8),
    )
    for layer in range(2):
        mine = matches.layer == layer
        found = scores[layer][matches.query[mine], matches.target[mine]].sum()
        best = max(sum(scores[layer][q, n] for n, q in enumerate(order)) for order in permutations(range(4), 3))
        assert torch.isclose(found, best)
        assert sorted(matches.target[mine].tolist()) == [0, 1, 2]


def test_masks_decide_where_classes_agree():
    features = torch.zeros(1, 2, 8, 8)
    features[0, 0, :, :4], features[0, 1, :, 4:] = 1, 1  # left half, right half
    embeddings = torch.tensor([[10.0, -10.0], [-10.0, 10.0]])[None, None]  # query 0 left, query 1 right
    masks = torch.zeros(2, 8, 8, dtype=torch.bool)
    masks[0, :, 4:], masks[1, :, :4] = True, True  # target 0 right, target 1 left
    torch.manual_seed(0)
    matches = match([torch.ones(1, 2, 2)], embeddings, features, [masks], MatchingConfig(points=64))
    assert dict(zip(matches.target.tolist(), matches.query.tolist(), strict=True)) == {0: 1, 1: 0}


def test_empty_targets_and_broken_costs():
    embeddings, features, config = torch.zeros(1, 1, 2, 1), torch.zeros(1, 1, 4, 4), MatchingConfig(points=4)
    none = match([torch.ones(1, 2, 0)], embeddings, features, [torch.zeros(0, 4, 4).bool()], config)
    assert len(none.query) == 0
    scores = torch.tensor([[[float("nan")], [0.5]]])
    found = match([scores], embeddings, features, [torch.ones(1, 4, 4).bool()], config)
    assert found.query.tolist() == [1], "a query whose cost is not a number must not win"


def test_sixteen_bits_around_it_change_nothing():
    generator = torch.Generator().manual_seed(0)
    embeddings, features = torch.randn(3, 1, 20, 8, generator=generator), torch.randn(1, 8, 16, 16, generator=generator)
    targets, scores = [torch.rand(10, 16, 16, generator=generator) > 0.5], [torch.zeros(3, 20, 10)]
    found = []
    for sixteen in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=sixteen):
            found.append(match(scores, embeddings, features, targets, MatchingConfig(points=256)))
    assert torch.equal(found[0].query, found[1].query) and torch.equal(found[0].target, found[1].target)
