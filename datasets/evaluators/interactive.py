"""Interactive segmentation: how many clicks an object takes until its mask is good enough."""

from __future__ import annotations

from collections.abc import Sequence

from datasets.evaluators.evaluator import Evaluator, ImageId, Table, check_finite, percent
from xdecoder.types import InteractiveResult, Sample

THRESHOLDS = (50, 80, 85, 90)
NOT_REACHED = (85, 90)
ROUNDS = (1, 3, 5, 10, 20)  # after which the mean IoU is among the scores; the whole curve is in `per_class`

Ious = tuple[tuple[float, ...], ...]  # of each object after each round


class InteractiveEvaluator(Evaluator[InteractiveResult, tuple[Ious, float, int]]):
    """NoC@t, the mean number of clicks until the IoU is at least t percent, and the mean IoU after each round.

    An object that does not get there counts with the most clicks that were allowed; NoF@t counts such objects. IoUs are of the
    original size, without the pixels that the annotation leaves open. The rounds are made by the task.
    """

    def update(self, result: InteractiveResult, sample: Sample) -> None:
        """Take in the rounds of one image's objects; raises ValueError unless there is one row for each object."""
        objects = 0 if sample.objects is None else len(sample.objects.masks)
        if len(result.ious) != objects:
            raise ValueError(f"picture {sample.id}: {len(result.ious)} rows of IoUs for {objects} objects")
        check_finite(result.ious, sample, "an IoU")
        ious = tuple(tuple(float(iou) for iou in row) for row in result.ious.tolist())
        self._records[sample.id] = (ious, result.seconds, result.passes)

    def compute(self) -> dict[str, float]:
        """interactive_NoC@50 … @90 in clicks, interactive_NoF@85 and @90 in objects, interactive_mIoU@1 … @20 in percent."""
        curves = self._curves()
        scores = {f"interactive_NoC@{t}": mean([clicks_to(curve, t)[0] for curve in curves]) for t in THRESHOLDS}
        scores |= {
            f"interactive_NoF@{t}": float(sum(not clicks_to(curve, t)[1] for curve in curves)) if curves else float("nan")
            for t in NOT_REACHED
        }
        most = len(curves[0]) if curves else 0
        return scores | {
            f"interactive_mIoU@{k}": percent(sum(curve[k - 1] for curve in curves), len(curves)) for k in ROUNDS if k <= most
        }

    def per_class(self) -> Table:
        """The curve: "after k clicks" -> mean IoU in percent."""
        curves = self._curves()
        return {
            f"after {k} click{'s' if k > 1 else ''}": {"IoU": percent(sum(ious), len(ious))}
            for k, ious in enumerate(zip(*curves, strict=True), start=1)
        }

    def per_image(self) -> dict[ImageId, float]:
        """Mean IoU of the objects of each image after their first click."""
        return {image: percent(sum(iou[0] for iou in ious), len(ious)) for image, (ious, _, _) in self._sorted() if ious}

    def notes(self) -> list[str]:
        """Seconds per click, the time of a pass by the objects that it served."""
        seconds = sum(seconds for _, (_, seconds, _) in self._sorted())
        passes = sum(passes for _, (_, _, passes) in self._sorted())
        return [f"{seconds / passes:.3f} s per click (SPC), images being encoded already"] if passes else []

    def _curves(self) -> list[tuple[float, ...]]:
        return [curve for _, (ious, _, _) in self._sorted() for curve in ious]


def clicks_to(curve: Sequence[float], threshold: int) -> tuple[int, bool]:
    """Clicks until an IoU of `threshold` percent is reached, and whether it ever is; if not, all that were made."""
    reached = [k for k, iou in enumerate(curve, start=1) if iou >= threshold / 100]
    return (reached[0], True) if reached else (len(curve), False)


def mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers) if numbers else float("nan")
