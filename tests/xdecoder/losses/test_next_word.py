import math

import torch

from xdecoder.losses.captioning import next_word_loss


def test_each_position_predicts_the_next_word():
    words = torch.eye(4) * 20
    ids = torch.tensor([[0, 1, 2, 3]])
    present = torch.ones(1, 4, dtype=torch.bool)
    following = torch.eye(4)[[1, 2, 3, 0]][None]
    assert next_word_loss(following, words, ids, present) < 1e-4
    assert next_word_loss(torch.eye(4)[[0, 1, 2, 3]][None], words, ids, present) > 10


def test_sum_over_words_plus_one_without_padding():
    ids = torch.tensor([[0, 1, 3, 3], [0, 1, 2, 3]])
    present = torch.tensor([[True, True, True, False], [True, True, True, True]])
    loss = next_word_loss(torch.zeros(2, 4, 8), torch.zeros(4, 8), ids, present)
    assert torch.isclose(loss, torch.tensor(5 * math.log(4) / 6))


def test_layers_are_summed_apart():
    generator = torch.Generator().manual_seed(0)
    tokens, words = torch.randn(3, 2, 4, 8, generator=generator), torch.randn(5, 8, generator=generator)
    ids = torch.tensor([[0, 1, 3, 3], [0, 4, 2, 3]])
    present = torch.tensor([[True, True, True, False], [True, True, True, True]])
    together = next_word_loss(tokens, words, ids, present)
    assert together.shape == (3,)
    assert torch.allclose(together, torch.stack([next_word_loss(layer, words, ids, present) for layer in tokens]))
