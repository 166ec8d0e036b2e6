import torch

from xdecoder.losses.masks import mask_losses
from xdecoder.losses.matching import Matches


def halves():
    features = torch.zeros(1, 2, 8, 8)
    features[0, 0, :, :4], features[0, 1, :, 4:] = 1, 1
    masks = torch.zeros(1, 8, 8, dtype=torch.bool)
    masks[0, :, :4] = True
    return features, [masks]


def one_match(query):
    zero = torch.zeros(1, dtype=torch.int64)
    return Matches(zero, zero, torch.tensor([query]), zero)


def test_a_right_mask_costs_nothing_and_a_wrong_one_much():
    features, masks = halves()
    embeddings = torch.tensor([[30.0, -30.0], [-30.0, 30.0]])[None, None]
    torch.manual_seed(0)
    right = mask_losses(one_match(0), embeddings, features, masks, 256)
    wrong = mask_losses(one_match(1), embeddings, features, masks, 256)
    # Points crowd at the border, where half-covered samples cost even the right mask something.
    assert right[0] < wrong[0] / 3 and right[1] < 0.3
    assert wrong[0] > 10 and wrong[1] > 0.7


def test_sums_over_masks_are_divided_by_targets_not_by_matches():
    features, masks = halves()
    embeddings = torch.zeros(1, 1, 2, 2)
    bce, _ = mask_losses(one_match(0), embeddings, features, masks, 64)
    assert torch.isclose(bce[0], torch.tensor(2.0).log())
    bce, _ = mask_losses(one_match(0), embeddings, features, [masks[0].expand(2, -1, -1)], 64)
    assert torch.isclose(bce[0], torch.tensor(2.0).log() / 2)


def test_without_masks_the_loss_is_zero_and_still_differentiable():
    embeddings = torch.zeros(3, 1, 2, 2, requires_grad=True)
    nobody = Matches(*torch.zeros(4, 0, dtype=torch.int64))
    bce, dice = mask_losses(nobody, embeddings, torch.zeros(1, 2, 4, 4), [torch.zeros(0, 4, 4).bool()], 16)
    (bce.sum() + dice.sum()).backward()
    assert bce.tolist() == [0, 0, 0] and embeddings.grad is not None


def test_layers_keep_their_own_losses():
    features, masks = halves()
    embeddings = torch.zeros(2, 1, 1, 2)
    embeddings[1, 0, 0] = torch.tensor([4.0, -4.0])
    matches = Matches(torch.tensor([0, 1]), torch.tensor([0, 0]), torch.tensor([0, 0]), torch.tensor([0, 0]))
    torch.manual_seed(0)
    bce, dice = mask_losses(matches, embeddings, features, masks, 256)
    assert bce[1] < bce[0] and dice[1] < dice[0]
