import pytest
import torch

from xdecoder.postprocessing import PostprocessingConfig, instances, panoptic, relabelled, resize_masks, semantic_map
from xdecoder.types import InstanceResult, PanopticResult, PanopticSegment, SegmentationResult

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
    result = panoptic(probabilities(THING, THING, STUFF, STUFF), masks, IS_THING, PostprocessingConfig())
    assert [(s.id, s.label, s.is_thing) for s in result.segments] == [(1, THING, True), (2, THING, True), (3, STUFF, False)]
    assert result.ids[0, 0] == 1 and result.ids[6, 6] == 2 and result.ids[0, 7] == result.ids[7, 0] == 3
    assert result.ids[4, 4] == 0


def test_panoptic_drops_the_unlikely_the_background_and_the_covered():
    masks = rectangles((0, 0, 10, 10), (0, 0, 10, 9), (0, 0, 2, 2))
    rows = probabilities(THING, THING, 2)
    rows[1] = torch.tensor([0.85, 0.1, 0.05])
    result = panoptic(rows, masks, IS_THING, PostprocessingConfig())
    assert len(result.segments) == 1, "the second loses everywhere, the third is background"
    assert (result.ids == 1).all()
    nothing = panoptic(probabilities(THING, score=0.5), rectangles((0, 0, 5, 5)), IS_THING, PostprocessingConfig())
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


@pytest.mark.parametrize("scale", [0.0, 1.0, 8.0], ids=["alike", "unsure", "sure"])
@pytest.mark.parametrize("classes", [5, 300, 1500])
def test_semantic_map_of_many_classes_is_that_of_all_sums_at_once(classes: int, scale: float) -> None:
    logits = scale * torch.randn(21, classes + 1)
    logits[:, classes // 2] = logits[:, 1]  # two names of one meaning: the first one wins
    masks = 4 * torch.randn(21, 130, 150)
    plain = torch.einsum("nk,nhw->khw", logits.softmax(-1)[:, :-1].double(), masks.sigmoid().double())
    found = semantic_map(logits.softmax(-1), masks)
    assert found.shape == (130, 150) and found.dtype == torch.int64
    reached = plain.gather(0, found[None])[0]
    assert (reached >= plain.amax(0) * (1 - 1e-5)).all(), "a class that could win was left out"
    assert not (found == classes // 2).any() or classes // 2 == 1
    if scale:
        assert (found == plain.argmax(0)).float().mean() > 0.9999


def test_semantic_map_never_holds_all_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand classes of a large picture are 10 GB at once; the largest block is 16 MB."""
    largest = 0
    plain = torch.Tensor.__matmul__

    def watched(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        nonlocal largest
        product = plain(a, b)
        largest = max(largest, product.numel())
        return product

    monkeypatch.setattr(torch.Tensor, "__matmul__", watched)
    probabilities = (6 * torch.randn(5, 10_001)).softmax(-1)
    assert semantic_map(probabilities, 4 * torch.randn(5, 500, 520)).shape == (500, 520)
    assert 0 < largest <= 1 << 22


def test_relabelled() -> None:
    masks = torch.zeros(1, 2, 2, dtype=torch.bool)
    panoptic_result = PanopticResult(torch.ones(2, 2, dtype=torch.int32), (PanopticSegment(1, 1, True, 0.9),))
    result = SegmentationResult(
        torch.tensor([[0, 1]]), InstanceResult(masks, torch.tensor([1]), torch.ones(1)), panoptic_result
    )
    moved = relabelled(result, torch.tensor([4, 9]))
    assert moved.semantic is not None and moved.semantic.tolist() == [[4, 9]]
    assert moved.instances is not None and moved.instances.labels.tolist() == [9]
    assert moved.panoptic is not None and [segment.label for segment in moved.panoptic.segments] == [9]
    assert relabelled(SegmentationResult(None, None, None), torch.tensor([1])) == SegmentationResult(None, None, None)


def test_no_masks_are_resized_to_no_masks() -> None:
    assert resize_masks(torch.zeros(0, 4, 4), (16, 16), (12, 16), (30, 40)).shape == (0, 30, 40)
