"""What a set's mistakes look like, as inline SVG: confusion of classes, precision over recall, scores by class."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.report.curves import SERIES

CURVES = 8  # classes that have a curve of their own, the worst first
CONFUSIONS = {
    "confusion": "pixels of true classes (rows) and what they were taken for",
    "objects": "true objects (rows) and what they were taken for; in the last row, what was found where nothing is",
}

Line = tuple[Sequence[float | None], str, float]  # values in percent at equal steps, colour, width


def charts_section(charts: Mapping[str, Mapping[str, Any]], classes: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Charts and tables of all sets.

    Args:
        charts: by set, what `Evaluator.charts` gives.
        classes: by set, class name -> metric -> value.
    """
    parts = []
    for source in dict.fromkeys((*charts, *classes)):
        found = charts.get(source, {})
        drawn = [confusion(**found[kind], title=title) for kind, title in CONFUSIONS.items() if kind in found]
        drawn += [precision_recall(found["precision_recall"])] if found.get("precision_recall") else []
        drawn += [by_score(found["by_score"])] if found.get("by_score") else []
        drawn += [reliability(found["reliability"])] if found.get("reliability") else []
        drawn += [table(classes[source])] if classes.get(source) else []
        if drawn:
            parts.append(f"<h3>{html.escape(source)}</h3><div class='charts'>{''.join(drawn)}</div>")
    return f"<section><h2>Classes</h2>{''.join(parts)}</section>" if parts else ""


def confusion(names: Sequence[str], shares: Sequence[Sequence[float]], title: str) -> str:
    """Rows are true classes, columns predicted ones; the darker a cell, the larger its share of the row."""
    cell, margin = 18, 110
    width, height = margin + cell * len(names) + 60, margin + cell * len(shares) + 4  # the last name leans over the edge
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
    return f"<figure class='chart'><h3>{title}</h3>{drawing}</figure>"


def precision_recall(curves: Mapping[str, Sequence[float]]) -> str:
    """Precision at IoU 0.5 over recall: the mean of all classes strongly, the worst classes beside it."""
    mean = [sum(column) / len(curves) for column in zip(*curves.values(), strict=True)]
    worst = sorted(curves.items(), key=lambda item: sum(item[1]))[:CURVES]
    lines: dict[str, Line] = {name: (values, SERIES[i % len(SERIES)], 1.5) for i, (name, values) in enumerate(worst)}
    lines["mean of all"] = (mean, "currentColor", 3)
    ends = {name: sum(values) / len(values) for name, values in [*worst, ("mean of all", mean)]}
    return _plot("precision over recall, IoU 0.5", lines, ends, ("recall 0", "100"))


def by_score(curves: Mapping[str, Sequence[float | None]]) -> str:
    """Precision, recall and F1 over the least score, to choose a threshold by; the legend gives the best of each and where."""
    lines: dict[str, Line] = {name: (values, SERIES[i], 1.5) for i, (name, values) in enumerate(curves.items())}
    legend = {}
    for name, values in curves.items():
        known = [0.0 if value is None else value for value in values]
        legend[f"{name}, best from {known.index(max(known)) / (len(known) - 1):.2f}"] = max(known)
    titled = dict(zip(legend, lines.values(), strict=True))
    return _plot("precision, recall and F1 over the threshold, IoU 0.5", titled, legend, ("threshold 0", "1"))


def reliability(bins: Sequence[Sequence[float]]) -> str:
    """The share of segments that is right over their mean score, a dot for each bin that grows with its segments."""
    side, left = 260, 40
    length, most = side - 10 - 30, max(count for _, _, count in bins)
    parts = [f"<line class='grid' x1='{left}' y1='{10 + length}' x2='{left + length}' y2='10'/>"]
    for score, right, count in bins:
        told = f"{count:.0f} segments of mean score {score:.2f}, {100 * right:.0f} % right"
        place = f"cx='{left + length * score:.1f}' cy='{10 + length * (1 - right):.1f}' r='{2 + 6 * (count / most) ** 0.5:.1f}'"
        parts.append(f"<circle {place} fill='{SERIES[0]}'><title>{html.escape(told)}</title></circle>")
    parts.append(f"<text x='{left}' y='{side - 8}'>score 0</text>")
    parts.append(f"<text x='{left + length}' y='{side - 8}' text-anchor='end'>1</text>")
    parts.append(f"<text x='{left - 6}' y='16' text-anchor='end'>100</text>")
    drawing = f"<svg viewBox='0 0 {side} {side}' role='img' aria-label='reliability'>{''.join(parts)}</svg>"
    return f"<figure class='chart'><h3>percent of segments that are right, over their score</h3>{drawing}</figure>"


def _plot(title: str, lines: Mapping[str, Line], ends: Mapping[str, float], across: tuple[str, str]) -> str:
    """Curves of percents, with a figure for each in the legend and what the horizontal axis is."""
    width, height, left, bottom = 460, 260, 40, 30
    parts, legend = [], []
    for tick in (0, 25, 50, 75, 100):
        y = 10 + (height - 10 - bottom) * (1 - tick / 100)
        parts.append(f"<line class='grid' x1='{left}' x2='{width - 8}' y1='{y:.1f}' y2='{y:.1f}'/>")
        parts.append(f"<text x='{left - 6}' y='{y + 4:.1f}' text-anchor='end'>{tick}</text>")
    for name, (values, colour, thick) in lines.items():
        points = " ".join(
            f"{left + (width - left - 8) * i / (len(values) - 1):.1f},{10 + (height - 10 - bottom) * (1 - value / 100):.1f}"
            for i, value in enumerate(values)
            if value is not None
        )
        parts.append(f"<polyline points='{points}' stroke='{colour}' stroke-width='{thick}'/>")
        legend.append(f"<span><i style='background:{colour}'></i>{html.escape(name)} <b>{ends[name]:.0f}</b></span>")
    parts.append(f"<text x='{left}' y='{height - 8}'>{across[0]}</text>")
    parts.append(f"<text x='{width - 8}' y='{height - 8}' text-anchor='end'>{across[1]}</text>")
    drawing = f"<svg viewBox='0 0 {width} {height}' role='img' aria-label='{title}'>{''.join(parts)}</svg>"
    return f"<figure class='chart'><h3>{title}</h3>{drawing}<figcaption>{''.join(legend)}</figcaption></figure>"


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
