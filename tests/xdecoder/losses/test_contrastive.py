import math

import torch

from xdecoder.losses.contrastive import cosine_logits, mean_direction, scale_of, symmetric_contrast, word_contrast

SCALE = torch.tensor(math.log(10.0))


def test_scale_is_clamped():
    assert torch.isclose(scale_of(SCALE), torch.tensor(10.0))
    assert scale_of(torch.tensor(9.0)) == 100


def test_logits_are_scaled_cosines():
    logits = cosine_logits(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 2.0], [5.0, 5.0]]), SCALE)
    assert torch.allclose(logits, torch.tensor([[0.0, 10 / math.sqrt(2)]]), atol=1e-5)


def test_contrast_of_orthogonal_pairs_by_hand():
    pairs = torch.eye(3)
    loss = symmetric_contrast(pairs, pairs, SCALE, torch.eye(3).bool())
    assert torch.isclose(loss, torch.tensor(math.log(1 + 2 * math.exp(-10))), atol=1e-6)


def test_equal_captions_are_not_wrong_answers():
    pairs = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    same = torch.tensor([[True, True, False], [True, True, False], [False, False, True]])
    apart = symmetric_contrast(pairs, pairs, SCALE, torch.eye(3).bool())
    together = symmetric_contrast(pairs, pairs, SCALE, same)
    assert torch.isclose(apart, together, atol=1e-3), "half of each weight on equal logits is the same cross-entropy"
    wrong = symmetric_contrast(pairs, torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]), SCALE, same)
    assert wrong > together


def test_word_contrast_by_hand():
    objects = torch.eye(2)  # picture b shows e_b
    words = torch.eye(2)[:, None].repeat(1, 2, 1)  # both words of caption b say e_b
    present = torch.ones(2, 2, dtype=torch.bool)
    loss = word_contrast(objects, words, present, SCALE)
    to_words = math.log(2 + 2 * math.exp(-10))
    to_images = math.log(1 + math.exp(-10))
    assert torch.isclose(loss, torch.tensor(0.7 * to_words + 0.3 * to_images), atol=1e-5)


def test_later_words_weigh_more():
    objects, present = torch.eye(2), torch.ones(2, 2, dtype=torch.bool)
    right, wrong = torch.eye(2), torch.eye(2).flip(0)
    late = word_contrast(objects, torch.stack((right, wrong), dim=1), present, SCALE)
    early = word_contrast(objects, torch.stack((wrong, right), dim=1), present, SCALE)
    assert late > early


def test_a_mean_direction_gives_mean_cosines():
    queries, words = torch.randn(2, 5, 4), torch.randn(3, 4)
    whole = cosine_logits(queries, words, SCALE).mean(dim=1)
    unit = words / words.norm(dim=-1, keepdim=True)
    assert torch.allclose(10 * mean_direction(queries) @ unit.T, whole, atol=1e-5)
