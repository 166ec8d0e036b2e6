"""The report as a page: plain data in, one self-contained HTML text out. No model, no file, no clock."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from trainer.report.charts import charts_section
from trainer.report.curves import evaluations_section, training_section

MAX_SIDE = 640  # an embedded picture's longer side, in pixels

# What a score's name says, for readers who do not live in the field.
MEANINGS = {
    "PQ": "panoptic quality = SQ × RQ",
    "SQ": "segmentation quality: mean IoU of matched segments",
    "RQ": "recognition quality: F1 of matched segments",
    "PQ_things": "panoptic quality of countable classes",
    "PQ_stuff": "panoptic quality of uncountable classes",
    "AP": "mask average precision, IoU 0.50 to 0.95",
    "AP50": "mask average precision at IoU 0.50",
    "AP75": "mask average precision at IoU 0.75",
    "mIoU": "IoU of the label map, mean over classes",
    "fwIoU": "IoU of the label map, weighted by pixels",
    "mACC": "pixel accuracy, mean over classes",
    "pACC": "share of pixels labelled right",
    "referring_cIoU": "all intersections over all unions",
    "referring_mIoU": "IoU, mean over phrases",
    "referring_precision@0.5": "share of phrases with IoU above 0.5",
    "caption_CIDEr": "agreement with the references, rare words count more",
    "caption_BLEU-4": "shared runs of up to four words",
    "caption_pair_accuracy": "captions that name a right colour and shape",
    "caption_METEOR": "shared words, stems and synonyms",
    "caption_SPICE": "shared objects, attributes and relations",
    "caption_pair_precision": "named colour and shape pairs that are there",
    "retrieval_IR@1": "right picture found first for a caption",
    "retrieval_TR@1": "right caption found first for a picture",
}
HEADLINES = ("mIoU", "PQ", "referring_cIoU", "retrieval_IR@1", "caption_pair_accuracy", "caption_CIDEr", "AP")


@dataclass(frozen=True)
class Panel:
    """One picture with its caption, which may have several lines."""

    image: Image.Image
    caption: str = ""


@dataclass(frozen=True)
class Figure:
    """Panels that belong side by side, under a heading that may be empty."""

    panels: tuple[Panel, ...]
    heading: str = ""


@dataclass(frozen=True)
class Section:
    """Figures of one task on one data set, and a line on what one sees."""

    source: str
    task: str
    note: str
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Report:
    """All that the page shows."""

    title: str
    command: str
    results: Mapping[str, float | None]  # flat: "shapes_val/PQ", "seconds/train"; None: not a number
    protocol: Mapping[str, Mapping[str, Any]]  # by data set
    log: Sequence[Mapping[str, Any]]  # rows of log.jsonl
    configuration: str  # YAML text
    sections: Sequence[Section] = field(default_factory=tuple)
    charts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by data set, see `trainer.report.charts`
    classes: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)  # by data set: scores of classes
    batches: Sequence[Section] = field(default_factory=tuple)  # what training shows the network
    evaluations: Sequence[Mapping[str, Any]] = field(default_factory=tuple)  # rows of evaluations.jsonl
    data: str = ""  # charts of what is learnt from, as HTML


def render(report: Report) -> str:
    """The page as HTML text that needs no other file."""
    title = html.escape(report.title)
    configuration = html.escape(report.configuration)
    named = {
        "scores": ("Scores", _scores(report)),
        "images": ("Images", "".join(_section(section) for section in report.sections)),
        "classes": ("Classes", charts_section(report.charts, report.classes)),
        "training": (
            "Training",
            evaluations_section(report.evaluations, HEADLINES)
            + training_section(report.log)
            + "".join(_section(section) for section in report.batches),
        ),
        "data": ("Data", report.data),
        "time": ("Time", _seconds(report.results)),
        "configuration": (
            "Configuration",
            f"<section><details><summary>Configuration</summary><pre>{configuration}</pre></details></section>",
        ),
    }
    links = " · ".join(f'<a href="#{name}">{heading}</a>' for name, (heading, text) in named.items() if text)
    parts = [
        f"<header><h1>{title}</h1><p>made by <code>{html.escape(report.command)}</code></p></header>",
        f'<nav aria-label="contents">{links}</nav>',
        _tiles(report),
        *(f'<div id="{name}">{text}</div>' for name, (_, text) in named.items() if text),
    ]
    viewport = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    head = f'<head><meta charset="utf-8">{viewport}<title>{title}</title><style>{STYLE}</style></head>'
    body = "\n".join(parts)
    return f'<!doctype html>\n<html lang="en">{head}\n<body>{body}</body></html>\n'


def duration(seconds: float) -> str:
    """Seconds in words: "0.4 s", "12 s", "3 min 05 s", "2 h 10 min"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _tiles(report: Report) -> str:
    """The first data set's headline scores and the time all took, large."""
    source, scores = next(iter(_by_source(report.results).items()), ("run", {}))
    tiles = [(_number(scores[name]), name.replace("_", " ")) for name in HEADLINES if name in scores]
    stages = _stages(report.results)
    if stages:
        tiles.append((duration(sum(stages.values())), "in all"))
    cells = "".join(f"<div><b>{html.escape(value)}</b><span>{html.escape(name)}</span></div>" for value, name in tiles)
    return f'<section class="tiles" aria-label="{html.escape(source)}">{cells}</section>' if cells else ""


def _section(section: Section) -> str:
    figures = "".join(_figure(figure) for figure in section.figures)
    layout = "sheet" if all(len(figure.panels) == 1 for figure in section.figures) else "rows"
    title = f"{section.task.capitalize()} <small>{html.escape(section.source)}</small>"
    return f'<section><h2>{title}</h2><p>{html.escape(section.note)}</p><div class="{layout}">{figures}</div></section>'


def _figure(figure: Figure) -> str:
    heading = f"<h3>{html.escape(figure.heading)}</h3>" if figure.heading else ""
    panels = "".join(
        f'<div><img loading="lazy" src="{_data_uri(p.image)}" alt="{html.escape(p.caption)}">'
        f"<span>{html.escape(p.caption).replace(chr(10), '<br>')}</span></div>"
        for p in figure.panels
    )
    return f'<figure>{heading}<div class="panels" style="--n:{len(figure.panels)}">{panels}</div></figure>'


def _data_uri(image: Image.Image) -> str:
    small = image.convert("RGB")
    small.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=84, method=2)  # two fifths of the time that 4 takes, 3 % more bytes
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _by_source(results: Mapping[str, float | None]) -> dict[str, dict[str, float | None]]:
    scores: dict[str, dict[str, float | None]] = {}
    for key, value in results.items():
        source, _, name = key.partition("/")
        if name and source != "seconds":
            scores.setdefault(source, {})[name] = value
    return scores


def _scores(report: Report) -> str:
    cards = []
    for source, scores in _by_source(report.results).items():
        rows = "".join(
            f"<tr><th>{html.escape(name)}</th><td>{_number(value)}</td><td>{html.escape(MEANINGS.get(name, ''))}</td></tr>"
            for name, value in scores.items()
        )
        facts = {key: _text(value) for key, value in report.protocol.get(source, {}).items()}
        protocol = "".join(f"<dt>{html.escape(key)}</dt><dd>{_fact(text)}</dd>" for key, text in facts.items() if text)
        protocol = protocol or "<dd>no protocol was recorded</dd>"
        cards.append(
            f'<div class="card"><h3>{html.escape(source)}</h3><div class="split"><table>{rows}</table>'
            f"<div><h4>how it was measured</h4><dl>{protocol}</dl></div></div></div>"
        )
    body = "".join(cards) or "<p>No scores yet: run eval.py.</p>"
    return f"<section><h2>Scores</h2><p>All on a scale of 0 to 100 (CIDEr may exceed it).</p>{body}</section>"


def _number(value: float | None) -> str:
    return f"{value:.1f}" if value is not None and math.isfinite(value) else "–"


def _text(value: Any) -> str:
    """A protocol's entry in words: lists with commas, nested settings as "key: value" with dotted keys, the unset left out."""
    if isinstance(value, Mapping):
        return " · ".join(f"{key}: {text}" for key, text in _leaves(value))
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def _leaves(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    leaves = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            leaves += _leaves(value, f"{prefix}{key}.")
        elif text := _text(value):
            leaves.append((prefix + key, text))
    return leaves


def _fact(text: str) -> str:
    shown = html.escape(text)
    return shown if len(text) <= 160 else f"<details><summary>{html.escape(text[:60])}…</summary>{shown}</details>"


def _stages(results: Mapping[str, float | None]) -> dict[str, float]:
    return {key.partition("/")[2]: value for key, value in results.items() if key.startswith("seconds/") and value is not None}


def _seconds(results: Mapping[str, float | None]) -> str:
    stages = _stages(results)
    if not stages:
        return ""
    longest = max(stages.values()) or 1.0
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{duration(value)}</td>"
        f'<td class="bar"><i style="width:{100 * value / longest:.1f}%"></i></td></tr>'
        for name, value in stages.items()
    )
    return f'<section><h2>Time</h2><div class="card"><table class="time">{rows}</table></div></section>'


STYLE = """
:root{color-scheme:light dark;--text:#1f2328;--soft:#636c76;--ground:#f6f7f9;--card:#fff;--line:#e3e6ea;--accent:#3b82f6}
@media(prefers-color-scheme:dark){:root{--text:#e6e8eb;--soft:#98a1ab;--ground:#0f1216;--card:#191d23;--line:#2b313a}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1240px;padding:2rem clamp(1rem,3vw,2.5rem) 4rem;background:var(--ground);color:var(--text);
 font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
h1{font-size:clamp(1.6rem,4vw,2.4rem);line-height:1.2;margin:0;letter-spacing:-.02em}
h2{margin:3rem 0 .2rem;font-size:1.45rem;letter-spacing:-.01em}h2 small{color:var(--soft);font-weight:400;font-size:.7em}
h3{margin:0 0 .5rem;font-size:1rem}h4{margin:0 0 .4rem;color:var(--soft);font-weight:500;font-size:.85rem}
p{color:var(--soft);margin:.2rem 0 1rem;max-width:75ch}
code{background:var(--line);border-radius:4px;padding:.1em .4em;overflow-wrap:anywhere}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(130px,1fr));gap:.8rem;margin-top:1.4rem}
.tiles div,.card,.chart,.rows>figure,.sheet>figure{
 background:var(--card);border:1px solid var(--line);border-radius:12px;padding:1rem}
.tiles b{display:block;font-size:1.55rem;letter-spacing:-.02em}.tiles span{color:var(--soft);font-size:.85rem}
figure{margin:0}.rows,.sheet,.charts{display:grid;gap:1rem}.card+.card{margin-top:1rem}
.sheet{grid-template-columns:repeat(auto-fill,minmax(min(100%,260px),1fr))}
.panels{display:grid;gap:.8rem;grid-template-columns:repeat(var(--n),minmax(0,1fr))}
.panels img{display:block;width:100%;border-radius:6px}
.panels span{display:block;margin-top:.4rem;font-size:.88rem;line-height:1.4;color:var(--soft)}
.charts{grid-template-columns:repeat(auto-fill,minmax(min(100%,350px),1fr))}
svg{display:block;width:100%;height:auto;font:11px system-ui,sans-serif}svg text{fill:var(--soft)}.grid{stroke:var(--line)}
polyline{fill:none;stroke-linejoin:round}
figcaption{display:flex;flex-wrap:wrap;gap:.2rem 1rem;font-size:.85rem;color:var(--soft)}
figcaption i{display:inline-block;width:.7em;height:.7em;border-radius:50%;margin-right:.35em}figcaption b{color:var(--text)}
.split{display:grid;gap:1.2rem 2.5rem;grid-template-columns:minmax(0,3fr) minmax(0,2fr);align-items:start}
table{border-collapse:collapse;width:100%;font-size:.92rem}tr+tr{border-top:1px solid var(--line)}
th{font-weight:500;text-align:left}th,td{padding:.3rem .6rem .3rem 0;vertical-align:top}
td:nth-child(2){font-weight:650;text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap;padding-right:1rem}
td:nth-child(3){color:var(--soft);font-size:.85rem}
dl{margin:0;display:grid;grid-template-columns:minmax(6rem,auto) minmax(0,1fr);gap:.15rem .9rem;font-size:.85rem}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}.time th{width:8rem}.time td:nth-child(2){width:8rem}
.bar i{display:block;height:.6rem;margin-top:.45rem;border-radius:3px;background:var(--accent)}
summary{cursor:pointer}nav{margin:1rem 0 0;font-size:.95rem}nav a,a{color:var(--accent)}
.classes td{text-align:right;font-variant-numeric:tabular-nums}.classes th:not(:first-child){text-align:right}
pre{overflow:auto;font-size:.82rem;background:var(--card);border:1px solid var(--line);border-radius:8px;padding:1rem}
@media(max-width:640px){.split{grid-template-columns:1fr}
 .rows .panels{grid-template-columns:repeat(min(var(--n),2),minmax(0,1fr))}
 .rows .panels:has(>:nth-child(3):last-child){grid-template-columns:1fr}th{overflow-wrap:anywhere}}
"""
