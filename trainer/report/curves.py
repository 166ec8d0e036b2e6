"""Loss curves as inline SVG: plain log rows in, text out."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

SMOOTHING = 40  # a loss is averaged with this fraction of the run on either side
SERIES = ("#3b82f6", "#f97316", "#10b981", "#a855f7", "#ef4444", "#0ea5a4", "#eab308", "#64748b")


def training_section(log: Sequence[Mapping[str, Any]]) -> str:
    """The whole loss, then each task's terms summed over the decoder's layers, then the speed."""
    rows = [row for row in log if "step" in row and "loss" in row]
    if len(rows) < 2:
        return ""
    steps, reach = [row["step"] for row in rows], len(rows) // SMOOTHING
    charts = [chart("whole loss", steps, {"loss": [_value(row["loss"]) for row in rows]}, reach)]
    charts += [chart(f"{task} losses", steps, terms, reach) for task, terms in _terms(rows).items()]
    for key, title, width in (("images_per_second", "pictures per second", reach), ("learning_rate", "learning rate", 0)):
        if all(key in row for row in rows):
            charts.append(chart(title, steps, {title: [_value(row[key]) for row in rows]}, width))
    note = "Faint: as logged. Strong: mean over a twentieth of the run. Terms are weighted and summed over the layers."
    return f'<section><h2>Training</h2><p>{note}</p><div class="charts">{"".join(charts)}</div></section>'


def evaluations_section(rows: Sequence[Mapping[str, Any]], shown: Sequence[str]) -> str:
    """How scores went while the network learnt.

    Args:
        rows: of evaluations.jsonl.
        shown: metrics that have a curve, by the last part of their names.
    """
    names = dict.fromkeys(name for row in rows for name in row.get("results", {}) if name.rpartition("/")[2] in shown)
    charts = []
    for name in names:
        held = [(row["step"], _value(row["results"][name])) for row in rows if name in row.get("results", {})]
        charts.append(chart(name, [step for step, _ in held], {name.rpartition("/")[2]: [value for _, value in held]}))
    drawn = "".join(charts)
    return f'<section><h2>Scores while it learnt</h2><div class="charts">{drawn}</div></section>' if drawn else ""


def chart(title: str, steps: Sequence[float], series: Mapping[str, Sequence[float]], reach: int = 0) -> str:
    """Curves over the steps: the values faintly, their course smoothed by `reach` strongly and its end in the legend.

    Empty if there is nothing to draw.
    """
    width, height, left, right, top, bottom = 460, 230, 46, 12, 12, 26
    smoothed = {name: smooth(values, reach) for name, values in series.items()}
    flat = [value for course in smoothed.values() for value in course[len(course) // 50 :] if math.isfinite(value)]
    if not flat or len(steps) < 2:
        return ""
    ticks = _ticks(min(0.0, min(flat)), max(flat))
    low, high, first, last = ticks[0], ticks[-1], steps[0], steps[-1]

    def path(values: Sequence[float], style: str) -> str:
        points = []
        for step, value in zip(steps, values, strict=True):
            if math.isfinite(value):
                x = left + (step - first) / (last - first) * (width - left - right)
                y = height - bottom - (min(value, high) - low) / (high - low) * (height - top - bottom)
                points.append(f"{x:.1f},{y:.1f}")
        return f'<polyline points="{" ".join(points)}" {style}/>'

    lines = []
    for tick in ticks:
        y = height - bottom - (tick - low) / (high - low) * (height - top - bottom)
        lines.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{_short(tick)}</text>')
    lines.append(f'<text x="{left}" y="{height - 6}">step {first:g}</text>')
    lines.append(f'<text x="{width - right}" y="{height - 6}" text-anchor="end">{last:g}</text>')
    legend = []
    for number, (name, values) in enumerate(series.items()):
        colour = SERIES[number % len(SERIES)]
        lines.insert(0, path(values, f'stroke="{colour}" stroke-width="1" opacity=".22"'))
        lines.append(path(smoothed[name], f'stroke="{colour}" stroke-width="2"'))
        end = _short(smoothed[name][-1])
        legend.append(f'<span><i style="background:{colour}"></i>{html.escape(name)} <b>{end}</b></span>')
    drawing = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(title)}">{"".join(lines)}</svg>'
    return f'<figure class="chart"><h3>{html.escape(title)}</h3>{drawing}<figcaption>{"".join(legend)}</figcaption></figure>'


def smooth(values: Sequence[float], reach: int) -> list[float]:
    """Mean over a value and up to `reach` neighbours on each side, so that nothing lags; NaN and infinity are skipped."""
    means = []
    for middle in range(len(values)):
        near = [value for value in values[max(0, middle - reach) : middle + reach + 1] if math.isfinite(value)]
        means.append(sum(near) / len(near) if near else math.nan)
    return means


def _terms(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """`referring/dice/layer3` counts to the curve "dice" of the task "referring"; a row that lacks a term gives NaN."""
    names = list(dict.fromkeys(name for row in rows for name in row.get("losses", {})))
    curves: dict[str, dict[str, list[float]]] = {}
    for task, term in dict.fromkeys(_task_and_term(name) for name in names):
        parts = [name for name in names if _task_and_term(name) == (task, term)]
        values = []
        for row in rows:
            found = [_value(row["losses"][name]) for name in parts if name in row.get("losses", {})]
            values.append(sum(found) if found else math.nan)
        curves.setdefault(task, {})[term] = values
    return curves


def _task_and_term(name: str) -> tuple[str, str]:
    task, _, rest = name.partition("/")
    return task, rest.partition("/")[0] or task


def _value(value: Any) -> float:
    return math.nan if value is None else float(value)


def _short(value: float) -> str:
    """Three digits; a small value as 2.5e-4."""
    if value == 0 or abs(value) >= 0.001 or not math.isfinite(value):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def _ticks(low: float, high: float) -> list[float]:
    """Four to seven round numbers that enclose the range."""
    spread = (high - low) or abs(high) or 1.0
    step = 10.0 ** math.floor(math.log10(spread / 4))
    step *= next(factor for factor in (1, 2, 2.5, 5, 10) if spread / (factor * step) <= 6)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(number * step, 12) for number in range(first, max(last, first + 1) + 1)]
