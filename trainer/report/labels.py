"""What a set teaches, as inline SVG: how many objects of each class there are, where they lie and how large they are."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor

from trainer.report.curves import SERIES
from xdecoder.boxes import box_around
from xdecoder.types import Sample, Vocabulary

BARS = 30  # classes that have a bar, the commonest first

Box = tuple[float, float, float, float]  # left, top, width, height in shares of the picture


def labels_section(name: str, samples: Iterable[Sample], vocabulary: Vocabulary) -> str:
    """Charts of the objects in some pictures of a set; empty where there are none."""
    counts: Counter[str] = Counter()
    boxes: list[Box] = []
    number = 0
    for sample in samples:
        number += 1
        if sample.segments is None:
            continue
        counts.update(vocabulary.names[label] for label in sample.segments.labels.tolist())
        boxes += [box for box in map(box_of, sample.segments.masks) if box]
    if not boxes:
        return ""
    centres = [(left + width / 2, top + height / 2) for left, top, width, height in boxes]
    sizes = [(width, height) for _, _, width, height in boxes]
    charts = bars(counts) + scatter("where objects lie", centres, ("left", "right", "top", "bottom"))
    charts += scatter("how large objects are", [(x, 1 - y) for x, y in sizes], ("width 0", "1", "height 1", "0"))
    note = f"{len(boxes)} objects in {number} pictures of the set, as they are annotated."
    return f"<section><h2>Data <small>{html.escape(name)}</small></h2><p>{note}</p><div class='charts'>{charts}</div></section>"


def box_of(mask: Tensor) -> Box | None:
    """The box around a mask (H, W); None for an empty one."""
    if (around := box_around(mask)) is None:
        return None
    (left, top, right, bottom), (height, width) = around, mask.shape
    return left / width, top / height, (right - left) / width, (bottom - top) / height


def bars(counts: Mapping[str, int]) -> str:
    """How often each class comes, the commonest first."""
    shown = sorted(counts.items(), key=lambda item: -item[1])[:BARS]
    most, line, left, width = shown[0][1], 16, 130, 460
    parts = []
    for number, (name, count) in enumerate(shown):
        y, long = 4 + line * number, (width - left - 50) * count / most
        parts.append(f"<text x='{left - 6}' y='{y + 11}' text-anchor='end'>{html.escape(name[:20])}</text>")
        parts.append(f"<rect x='{left}' y='{y}' width='{long:.1f}' height='{line - 4}' fill='{SERIES[0]}'/>")
        parts.append(f"<text x='{left + long + 6:.1f}' y='{y + 11}'>{count}</text>")
    more = f", {BARS} of {len(counts)} classes" if len(counts) > BARS else ""
    drawing = (
        f"<svg viewBox='0 0 {width} {8 + line * len(shown)}' role='img' aria-label='objects by class'>{''.join(parts)}</svg>"
    )
    return f"<figure class='chart'><h3>objects by class{more}</h3>{drawing}</figure>"


def scatter(title: str, points: Sequence[tuple[float, float]], ends: tuple[str, str, str, str]) -> str:
    """Points (x, y) in 0…1, y downwards; `ends` names the sides: left, right, top, bottom."""
    side, margin = 220, 60
    dots = "".join(
        f"<circle cx='{margin + side * x:.1f}' cy='{8 + side * y:.1f}' r='3' fill='{SERIES[0]}' fill-opacity='0.35'/>"
        for x, y in points
    )
    left, right, top, bottom = ends
    names = f"<text x='{margin}' y='{side + 24}'>{left}</text>"
    names += f"<text x='{margin + side}' y='{side + 24}' text-anchor='end'>{right}</text>"
    names += f"<text x='{margin - 6}' y='18' text-anchor='end'>{top}</text>"
    names += f"<text x='{margin - 6}' y='{side + 8}' text-anchor='end'>{bottom}</text>"
    frame = f"<rect class='grid' x='{margin}' y='8' width='{side}' height='{side}' fill='none'/>"
    drawing = f"<svg viewBox='0 0 {side + 2 * margin} {side + 30}' role='img' aria-label='{title}'>{frame}{dots}{names}</svg>"
    return f"<figure class='chart'><h3>{title}</h3>{drawing}</figure>"
