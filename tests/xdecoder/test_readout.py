import torch

from xdecoder.readout import ReadoutConfig, instances, panoptic, resize_masks, semantic_map

THING, STUFF = 0, 1
IS_THING = torch.tensor([True, False])


def probabilities(*labels, score=0.9):
    """Rows that say class `label` (2 = background) with probability `score`."""
    rows = torch.full((len(labels), 3), (1 - score) / 2)
    for row, label in enumerate(labels):
        rows[row, label] = score
    return rows


def rectangles(*boxes, size=(10, 10)):
    masks = torch.full((len(boxes), *size), -8.0)
    for mask, (top, left, bottom, right) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = 8.0
    return masks


def test_semantic_map_ignores_the_background_column():
    masks = rectangles((0, 0, 10, 5), (0, 5, 10, 10))
    labels = semantic_map(probabilities(THING, STUFF), masks)
    assert (labels[:, :5] == THING).all() and (labels[:, 5:] == STUFF).all()
    weak = torch.tensor([[0.04, 0.01, 0.95]])
    assert (semantic_map(weak, rectangles((0, 0, 10, 10))) == THING).all()


def test_panoptic_counts_things_and_merges_stuff():
    masks = rectangles((0, 0, 4, 4), (5, 5, 9, 9), (0, 6, 4, 10), (6, 0, 10, 4))
    result = panoptic(probabilities(THING, THING, STUFF, STUFF), masks, IS_THING, ReadoutConfig())
    assert [(s.id, s.label, s.is_thing) for s in result.segments] == [(1, THING, True), (2, THING, True), (3, STUFF, False)]
    assert result.ids[0, 0] == 1 and result.ids[6, 6] == 2 and result.ids[0, 7] == result.ids[7, 0] == 3
    assert result.ids[4, 4] == 0


def test_panoptic_drops_the_unlikely_the_background_and_the_covered():
    masks = rectangles((0, 0, 10, 10), (0, 0, 10, 9), (0, 0, 2, 2))
    rows = probabilities(THING, THING, 2)
    rows[1] = torch.tensor([0.85, 0.1, 0.05])
    result = panoptic(rows, masks, IS_THING, ReadoutConfig())
    assert len(result.segments) == 1, "the second loses everywhere, the third is background"
    assert (result.ids == 1).all()
    nothing = panoptic(probabilities(THING, score=0.5), rectangles((0, 0, 5, 5)), IS_THING, ReadoutConfig())
    assert nothing.segments == () and (nothing.ids == 0).all()


def test_instances_of_things_with_mask_quality():
    masks = rectangles((0, 0, 5, 5), (5, 5, 10, 10))
    result = instances(probabilities(THING, STUFF), masks, IS_THING)
    assert (result.labels == THING).all()
    best = result.scores.argmax()
    assert torch.isclose(result.scores[best], 0.9 * torch.tensor(8.0).sigmoid(), atol=1e-4)
    assert torch.equal(result.masks[best], masks[0] > 0)


def test_resize_undoes_padding():
    masks = torch.full((1, 8, 8), -5.0)
    masks[:, :, :4] = 5.0
    resized = resize_masks(masks, (32, 32), (32, 16), (16, 8))
    assert resized.shape == (1, 16, 8)
    assert (resized[:, :, :7] > 0).all(), "what lies right of the picture is cut off before resizing"
