"""Attention tables as values, and the masks that follow from them, with a made-up group of each kind."""

import pytest
import torch

from xdecoder.config import ConfigError, parse
from xdecoder.decoder.attention import (
    XDECODER,
    AttentionTable,
    Relation,
    TokenGroup,
    given_mask,
    own_mask,
    self_attention_mask,
)

SIZES = {"object": 3, "image": 1, "grounding": 3, "caption": 4, "question": 2, "denoising": 2, "word": 2}
MADE_UP = AttentionTable(
    groups=("friend", "clicks", "strokes"),
    self_attention={
        "friend": {"friend": Relation.SAME_OBJECT, "strokes": Relation.SAME_OBJECT},
        "clicks": {"clicks": Relation.EARLIER, "friend": Relation.EVERY},
        "strokes": {"strokes": Relation.ITSELF},
    },
    cross_attention={"friend": "own mask", "clicks": "given mask"},
    interpolation="bilinear",
)


def group(name, size, batch=1, **facts):
    return TokenGroup(name, torch.zeros(batch, size, 4), torch.zeros(batch, size, 4), **facts)


def groups(**facts):
    return [group(name, size, 2 if name in facts else 1, **facts.get(name, {})) for name, size in SIZES.items()]


def block(mask, row, column, image=0):
    starts, start = {}, 0
    for name in SIZES:
        starts[name], start = start, start + SIZES[name]
    rows = slice(starts[row], starts[row] + SIZES[row])
    return mask[image, rows, starts[column] : starts[column] + SIZES[column]]


def test_mask_follows_the_table():
    mask = self_attention_mask(XDECODER, groups())
    assert mask.shape == (1, 17, 17)
    for row in SIZES:
        for column in SIZES:
            seen = block(mask, row, column)
            if row == column and row in ("caption", "question"):
                assert torch.equal(seen, torch.ones(SIZES[row], SIZES[row]).tril().bool())
            elif row == column == "denoising":
                assert torch.equal(seen, torch.eye(2).bool())
            else:
                assert bool(seen.all()) == (column in XDECODER.self_attention[row]) == bool(seen.any())


def test_latents_never_see_captions_or_words():
    mask = self_attention_mask(XDECODER, groups())
    for row in ("object", "image"):
        for column in ("caption", "question", "word", "grounding"):
            assert not block(mask, row, column).any()


def test_absent_words_are_seen_by_nobody():
    present = torch.tensor([[True, False], [True, True]])
    mask = self_attention_mask(XDECODER, groups(word={"present": present}))
    assert mask.shape[0] == 2
    assert not mask[0, :, -1].any()
    assert block(mask, "word", "word", 1).all() and block(mask, "grounding", "word", 1).all()
    assert mask.any(dim=-1).all(), "no row may be blind: its softmax would be undefined"


def test_who_would_see_nothing_sees_itself():
    present = torch.tensor([[False, False, True]])
    lonely = AttentionTable(groups=("a",), self_attention={"a": {"a": Relation.ITSELF}}, cross_attention={})
    assert self_attention_mask(lonely, [group("a", 3, present=present)])[0].tolist() == torch.eye(3).bool().tolist()


def test_tokens_of_the_same_object_see_each_other_and_fresh_ones_are_only_seen():
    mine, strokes = torch.tensor([[0, 0, 1]]), torch.tensor([[1, 0, -1, 1]])
    mask = self_attention_mask(MADE_UP, [group("friend", 3, owner=mine)], [group("strokes", 4, owner=strokes)])
    assert mask.shape == (1, 3, 7)
    assert mask[0].tolist() == [
        [True, True, False, False, True, False, False],
        [True, True, False, False, True, False, False],
        [False, False, True, True, False, False, True],
    ]


def test_what_was_decoded_before_is_seen_as_the_table_says():
    past = {"object": 2, "image": 1, "caption": 3}
    assert self_attention_mask(XDECODER, [group("caption", 1)], past=past) is None, "one new word sees all of it"
    mask = self_attention_mask(XDECODER, [group("caption", 2)], past=past)
    assert mask[0].tolist() == [[True] * 7 + [False], [True] * 8]
    deaf = XDECODER.model_copy(update={"self_attention": {"caption": {"caption": Relation.EARLIER}}})
    mask = self_attention_mask(deaf, [group("caption", 1)], past=past)
    assert mask[0].tolist() == [[False] * 3 + [True] * 4]


def test_unknown_and_repeated_groups_are_refused():
    with pytest.raises(AssertionError, match="a token group is brought twice"):
        XDECODER.ordered([group("caption", 1), group("caption", 2)])
    with pytest.raises(AssertionError, match="token groups are object, image, .*not .*'zebra'"):
        XDECODER.ordered([group("zebra", 1)])
    ordered = XDECODER.ordered([group("word", 1), group("object", 1), group("caption", 1)])
    assert [each.name for each in ordered] == ["object", "caption", "word"]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"self_attention": {"objct": {}}}, "'objct' is none of the groups friend, clicks, strokes"),
        ({"cross_attention": {"strokes": "everywhere"}}, "those that cross-attend must come first"),
        ({"cross_attention": {"friend": "sideways"}}, "'own mask', 'given mask' or 'everywhere'"),
    ],
)
def test_tables_are_checked(change, fault):
    with pytest.raises(ConfigError, match=fault):
        parse(AttentionTable, MADE_UP.model_dump() | change)


def test_given_masks_are_the_tokens_or_the_objects():
    left = torch.tensor([[[True, True, False, False]] * 4])
    masks = torch.stack([left, ~left, torch.zeros_like(left)], dim=1)  # (1, 3, 4, 4)
    seen = given_mask(group("clicks", 3, mask=masks), (2, 2), MADE_UP)
    assert seen[0].tolist() == [[True, False, True, False], [False, True, False, True], [True] * 4]
    owned = given_mask(group("clicks", 2, mask=masks, owner=torch.tensor([[1, 0]])), (2, 2), MADE_UP)
    assert owned[0].tolist() == [[False, True, False, True], [True, False, True, False]]
    logits = torch.where(masks, 3.0, -1.0)
    assert torch.equal(given_mask(group("clicks", 3, mask=logits), (4, 4), MADE_UP)[0, :2], masks[0, :2].flatten(1))


def test_owners_may_change_from_layer_to_layer():
    owner = torch.tensor([[[0, 1]], [[1, 1]]])  # (L, B, N)
    each = [group("friend", 2, owner=owner).at(layer, 0).owner.tolist() for layer in (0, 1)]
    assert each == [[[0, 1]], [[1, 1]]]


def test_own_mask_falls_back_to_everywhere():
    logits = torch.tensor([[[[1.0, -1.0], [0.0, -2.0]], [[-1.0, -1.0], [-1.0, -1.0]]]])
    assert own_mask(logits).tolist() == [[[True, False, True, False], [True] * 4]]
