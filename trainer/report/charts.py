"""What a set's mistakes look like, as inline SVG: confusion of classes, precision over recall, scores by class."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.report.curves import SERIES

CURVES = 8  # classes that have a curve of their own, the worst first


def charts_section(charts: Mapping[str, Mapping[str, Any]], classes: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Charts and tables of all sets.

    Args:
        charts: by set, what `Evaluator.charts` gives.
        classes: by set, class name -> metric -> value.
    """
    parts = []
    for source in dict.fromkeys((*charts, *classes)):
        found = charts.get(source, {})
        drawn = [confusion(**found["confusion"])] if "confusion" in found else []
        drawn += [precision_recall(found["precision_recall"])] if found.get("precision_recall") else []
        drawn += [table(classes[source])] if classes.get(source) else []
        if drawn:
            parts.append(f"<h3>{html.escape(source)}</h3><div class='charts'>{''.join(drawn)}</div>")
    return f"<section><h2>Classes</h2>{''.join(parts)}</section>" if parts else ""


def confusion(names: Sequence[str], shares: Sequence[Sequence[float]]) -> str:
    """Rows are true classes, columns predicted ones; the darker a cell, the larger its share of the true pixels."""
    cell, margin = 18, 110
    width, height = margin + cell * len(names) + 4, margin + cell * len(shares) + 4
    parts = []
    for column, name in enumerate(names):
        x = margin + cell * column + cell / 2 + 4
        parts.append(f"<text transform='translate({x},{margin - 6}) rotate(-60)'>{html.escape(name[:18])}</text>")
    for row, values in enumerate(shares):
        y = margin + cell * row
        parts.append(f"<text x='{margin - 6}' y='{y + 13}' text-anchor='end'>{html.escape(names[row][:18])}</text>")
        for column, value in enumerate(values):
            told = f"{names[row]} taken for {names[column]}: {100 * value:.1f} %"
            square = f"x='{margin + cell * column}' y='{y}' width='{cell - 1}' height='{cell - 1}'"
            parts.append(
                f"<rect {square} fill='#3b82f6' fill-opacity='{0.04 + 0.96 * value:.2f}'>"
                f"<title>{html.escape(told)}</title></rect>"
            )
    drawing = f"<svg viewBox='0 0 {width} {height}' role='img' aria-label='confusion matrix'>{''.join(parts)}</svg>"
    return f"<figure class='chart'><h3>true classes (rows) and what they were taken for</h3>{drawing}</figure>"


def precision_recall(curves: Mapping[str, Sequence[float]]) -> str:
    """Precision at IoU 0.5 over recall: the mean of all classes strongly, the worst classes beside it."""
    width, height, left, bottom = 460, 260, 40, 30
    mean = [sum(column) / len(curves) for column in zip(*curves.values(), strict=True)]
    worst = dict(sorted(curves.items(), key=lambda item: sum(item[1]))[:CURVES])
    lines, legend = [], []
    for tick in (0, 25, 50, 75, 100):
        y = 10 + (height - 10 - bottom) * (1 - tick / 100)
        lines.append(f"<line class='grid' x1='{left}' x2='{width - 8}' y1='{y:.1f}' y2='{y:.1f}'/>")
        lines.append(f"<text x='{left - 6}' y='{y + 4:.1f}' text-anchor='end'>{tick}</text>")
    for number, (name, values) in enumerate({**worst, "mean of all": mean}.items()):
        colour, strong = SERIES[number % len(SERIES)], name == "mean of all"
        points = " ".join(
            f"{left + (width - left - 8) * i / (len(values) - 1):.1f},{10 + (height - 10 - bottom) * (1 - value / 100):.1f}"
            for i, value in enumerate(values)
        )
        colour = "currentColor" if strong else colour
        lines.append(f"<polyline points='{points}' stroke='{colour}' stroke-width='{3 if strong else 1.5}'/>")
        legend.append(
            f"<span><i style='background:{colour}'></i>{html.escape(name)} <b>{sum(values) / len(values):.0f}</b></span>"
        )
    lines.append(
        f"<text x='{left}' y='{height - 8}'>recall 0</text><text x='{width - 8}' y='{height - 8}' text-anchor='end'>100</text>"
    )
    drawing = f"<svg viewBox='0 0 {width} {height}' role='img' aria-label='precision and recall'>{''.join(lines)}</svg>"
    caption = f"<figcaption>{''.join(legend)}</figcaption>"
    return f"<figure class='chart'><h3>precision over recall, IoU 0.5</h3>{drawing}{caption}</figure>"


def table(classes: Mapping[str, Mapping[str, float]]) -> str:
    """Scores of each class, the worst first."""
    metrics = list(dict.fromkeys(metric for row in classes.values() for metric in row))
    order = sorted(classes, key=lambda name: classes[name].get(metrics[0]) or 0.0)
    head = "".join(f"<th>{html.escape(metric)}</th>" for metric in metrics)
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th>{''.join(f'<td>{_cell(classes[name].get(metric))}</td>' for metric in metrics)}</tr>"
        for name in order
    )
    body = f"<table class='classes'><tr><th>class</th>{head}</tr>{rows}</table>"
    shown = "open" if len(order) <= 30 else ""
    return f"<figure class='chart'><details {shown}><summary>{len(order)} classes</summary>{body}</details></figure>"


def _cell(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.1f}"
