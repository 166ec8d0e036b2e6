import torch

from xdecoder.decoder.attention import GROUPS, SELF_ATTENTION, own_mask, self_attention_mask

SIZES = {"object": 3, "image": 1, "grounding": 3, "caption": 4, "word": 2, "denoising": 2}


def block(mask, row, column):
    starts, start = {}, 0
    for name in GROUPS:
        starts[name], start = start, start + SIZES[name]
    rows = slice(starts[row], starts[row] + SIZES[row])
    return mask[0, rows, starts[column] : starts[column] + SIZES[column]]


def test_mask_follows_the_table():
    mask = self_attention_mask(SIZES, {}, torch.device("cpu"))
    assert mask.shape == (1, 15, 15)
    for row in GROUPS:
        for column in GROUPS:
            seen = block(mask, row, column)
            if row == column == "caption":
                assert torch.equal(seen, torch.ones(4, 4).tril().bool())
            elif row == column == "denoising":
                assert torch.equal(seen, torch.eye(2).bool())
            else:
                assert bool(seen.all()) == (column in SELF_ATTENTION[row]) == bool(seen.any())


def test_latents_never_see_captions_or_words():
    mask = self_attention_mask(SIZES, {}, torch.device("cpu"))
    for row in ("object", "image"):
        for column in ("caption", "word", "grounding"):
            assert not block(mask, row, column).any()


def test_absent_words_are_seen_by_nobody():
    present = torch.tensor([[True, False], [True, True]])
    mask = self_attention_mask(SIZES, {"word": present}, torch.device("cpu"))
    assert mask.shape[0] == 2
    assert not mask[0, :, -1].any()
    assert mask[1, -2:, -1].all()
    assert mask.any(dim=-1).all(), "no row may be blind: its softmax would be undefined"


def test_own_mask_falls_back_to_everywhere():
    logits = torch.tensor([[[[1.0, -1.0], [0.0, -2.0]], [[-1.0, -1.0], [-1.0, -1.0]]]])
    assert own_mask(logits).tolist() == [[[True, False, True, False], [True] * 4]]
