"""The page from made-up data, and the gathering with a stand-in for the network."""

from __future__ import annotations

import json
import math
import re
import runpy
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from datasets.streams import EvaluationConfig
from trainer.report import report as module
from trainer.report.curves import chart, smooth
from trainer.report.page import Figure, Panel, Report, Section, duration, render
from trainer.report.report import (
    RIGHT,
    Seen,
    as_result,
    captioning_figures,
    contact_sheet,
    gather,
    iou,
    read_log,
    referring_figures,
    retrieval_figures,
    segmentation_figures,
    write_report,
)
from xdecoder.types import (
    Batch,
    CaptionResult,
    PanopticResult,
    PanopticSegment,
    Phrases,
    ReferringResult,
    RetrievalResult,
    Sample,
    SegmentationResult,
    Segments,
    Vocabulary,
)

VOCABULARY = Vocabulary(("star", "grass"), (True, False))


class Tags(HTMLParser):
    """Checks that tags close in order, and collects their names and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.addresses += [value or "" for name, value in attributes if name in ("src", "href")]
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _made_up() -> Report:
    panel = Panel(Image.new("RGB", (40, 30), "red"), "a <red> star\nreference: star & moon")
    log = [
        {
            "step": step,
            "loss": 10.0 / step,
            "losses": {"referring/dice/layer1": 1 / step, "referring/dice/layer2": 2 / step, "captioning/words/layer3": 1.0},
            "learning_rate": 1e-4,
            "images_per_second": 100.0,
        }
        for step in range(10, 400, 10)
    ]
    return Report(
        title="X-Decoder: <made up>",
        command="make quickstart",
        results={"shapes_val/PQ": 43.21, "shapes_val/AP": None, "camvid_test/mIoU": 51.0, "seconds/train": 485.0},
        protocol={"shapes_val": {"transform": {"name": "stretch", "size": 96}, "tasks": ["segmentation", "referring"]}},
        log=log,
        configuration="seed: 0  # <&>\n",
        sections=[Section("shapes_val", "captioning", "a note", (Figure((panel,)), Figure((panel, panel), "“a heading”")))],
    )


def _sample(number: int = 0) -> Sample:
    masks = torch.zeros(3, 24, 32, dtype=torch.bool)
    masks[0, 12:] = True
    masks[1, 4:10, 4:10] = True
    masks[2, 0:3, 20:30] = True
    image = torch.full((3, 24, 32), 40 * number + 20, dtype=torch.uint8)
    return Sample(
        id=number,
        image=image,
        output_size=(24, 32),
        segments=Segments(masks, torch.tensor([1, 0, 0]), torch.tensor([False, False, True])),
        phrases=Phrases(("the star", "the other star"), masks[1:]),
        captions=(f"caption {number}", "another"),
    )


def _segmentation() -> SegmentationResult:
    ids = torch.zeros(24, 32, dtype=torch.int32)
    ids[:, :16] = 1
    return SegmentationResult((ids - 1).long(), None, PanopticResult(ids, (PanopticSegment(1, 0, True, 0.9),)))


def test_the_page_is_well_formed_and_needs_nothing_else() -> None:
    tags = Tags()
    page = render(_made_up())
    tags.feed(page)
    assert not tags.open
    assert tags.seen.count("img") == 3 and "script" not in tags.seen and "link" not in tags.seen
    assert all(address.startswith(("data:image/", "#")) for address in tags.addresses)
    assert all(f'id="{name}"' in page for name in re.findall(r'href="#(\w+)"', page)) and 'href="#scores"' in page


def test_texts_are_escaped_and_captions_keep_their_lines() -> None:
    page = render(_made_up())
    assert "X-Decoder: &lt;made up&gt;" in page and "<made up>" not in page
    assert "a &lt;red&gt; star<br>reference: star &amp; moon" in page
    assert "# &lt;&amp;&gt;" in page


def test_scores_stand_with_their_protocol_and_missing_ones_show_a_dash() -> None:
    page = render(_made_up())
    shapes = page.split('<div class="card"><h3>shapes_val</h3>')[1].split('<div class="card">')[0]
    assert "<th>PQ</th><td>43.2</td>" in shapes and "<th>AP</th><td>–</td>" in shapes
    assert "<dt>transform</dt><dd>name: stretch · size: 96</dd>" in shapes and "<dd>segmentation, referring</dd>" in shapes
    assert "mIoU" not in shapes and "<th>mIoU</th><td>51.0</td>" in page
    assert "<th>train</th><td>8 min 05 s</td>" in page and "make quickstart" in page


def test_terms_are_summed_over_layers_in_one_chart_a_task() -> None:
    page = render(_made_up())
    titles = re.findall(r'<figure class="chart"><h3>(.*?)</h3>', page)
    assert titles == ["whole loss", "referring losses", "captioning losses", "pictures per second", "learning rate"]
    referring = page.split("<h3>referring losses</h3>")[1].split("</figure>")[0]
    assert re.findall(r"</i>(\w+) <b>", referring) == ["dice"]


def test_a_run_without_log_and_scores_still_gives_a_page() -> None:
    tags = Tags()
    page = render(replace(_made_up(), log=[], results={}, protocol={}, sections=()))
    tags.feed(page)
    assert not tags.open and "run eval.py" in page and "svg" not in tags.seen


def test_smoothing_keeps_lines_straight_and_skips_what_is_not_finite() -> None:
    line = [float(i) for i in range(20)]
    assert smooth(line, 3)[3:-3] == pytest.approx(line[3:-3])
    assert smooth(line, 0) == line
    assert smooth([1.0, math.nan, 3.0, math.inf], 1) == pytest.approx([1.0, 2.0, 3.0, 3.0])
    assert math.isnan(smooth([math.nan], 1)[0])


def test_a_chart_spans_its_frame() -> None:
    points = re.findall(r'points="([^"]+)"', chart("loss", [0, 50, 100], {"loss": [4.0, 2.0, 0.0]}))
    x, y = zip(*(map(float, point.split(",")) for point in points[-1].split()), strict=True)
    assert x == (46.0, 247.0, 448.0)
    assert y[0] == 12.0 and y[1] == pytest.approx((y[0] + y[2]) / 2) and y[2] == 204.0
    assert chart("loss", [1, 2], {"loss": [math.nan, math.nan]}) == ""


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.44, "0.4 s"), (59.6, "1 min 00 s"), (12, "12 s"), (485, "8 min 05 s"), (7800, "2 h 10 min")]
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_log_rows_are_ordered_and_a_cut_last_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    assert read_log(path) == []
    path.write_text('{"step": 1, "loss": 3}\n{"step": 2, "loss": 2}\n{"step": 1, "loss": 1}\n{"step": 3, "lo')
    assert [(row["step"], row["loss"]) for row in read_log(path)] == [(1, 1), (2, 2)]
    path.write_text('{"step": 1}\nnonsense\n{"step": 2}\n')
    with pytest.raises(ValueError, match=r"log\.jsonl: line 2 is not a JSON object"):
        read_log(path)


def test_truth_takes_the_form_of_the_result_without_crowds() -> None:
    segments = _sample().segments
    assert segments is not None
    truth = as_result(segments, VOCABULARY, _segmentation())
    assert truth.instances is None and truth.panoptic is not None and truth.semantic is not None
    assert [s.label for s in truth.panoptic.segments] == [1, 0]
    assert int((truth.panoptic.ids == 2).sum()) == 36 and int((truth.semantic == 0).sum()) == 36
    assert int(truth.semantic[1, 25]) == -1 and int(truth.panoptic.ids[1, 25]) == 0


def test_segmentation_shows_picture_truth_and_prediction() -> None:
    (figure,) = segmentation_figures([Seen(_sample(), VOCABULARY, _segmentation())])
    assert [panel.caption for panel in figure.panels] == ["picture 0", "truth", "prediction"]
    assert len({panel.image.tobytes() for panel in figure.panels}) == 3
    assert len({panel.image.size for panel in figure.panels}) == 1


def test_phrases_tell_their_iou() -> None:
    sample = _sample()
    assert sample.phrases is not None
    masks = sample.phrases.masks.clone()
    masks[1] = False
    (figure,) = referring_figures([Seen(sample, None, ReferringResult(masks, torch.ones(2)))])
    assert [panel.caption for panel in figure.panels] == ["“the star”\nIoU 100%", "“the other star”\nIoU 0%"]
    assert iou(masks[1], masks[1]) == 1.0


def test_phrases_of_different_objects_come_first() -> None:
    a, b = torch.zeros(2, 24, 32, dtype=torch.bool)
    b[0, 0] = True
    phrases = Phrases(("a", "a again", "a once more", "b"), torch.stack([a, a, a, b]))
    sample = replace(_sample(), phrases=phrases)
    (figure,) = referring_figures([Seen(sample, None, ReferringResult(phrases.masks, torch.ones(4)))])
    assert [panel.caption.split("\n")[0] for panel in figure.panels] == ["“a”", "“b”", "“a again”"]


def test_captions_stand_beside_a_reference() -> None:
    (figure,) = captioning_figures([Seen(_sample(), None, CaptionResult("a star"))])
    assert figure.panels[0].caption == "predicted: a star\nreference: caption 0"


def test_retrieval_ranks_by_the_mean_over_views_and_frames_the_right_picture() -> None:
    views = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]], [[-1.0, 0.0], [-1.0, 0.0]]])
    text = torch.tensor([[1.0, 0.0]])
    seen = [Seen(_sample(i), None, RetrievalResult(views[i], text)) for i in range(3)]
    figures = retrieval_figures(seen)
    assert [figure.heading.partition(": ")[2] for figure in figures] == ["rank 1 of 3", "rank 2 of 3", "rank 3 of 3"]
    framed = [[panel.image.getpixel((0, 0)) == RIGHT for panel in figure.panels] for figure in figures]
    assert framed == [[True, False, False], [False, True, False], [False, False, True]]
    assert [panel.caption for panel in figures[0].panels] == ["1 · 0.50", "2 · 0.00", "3 · -1.00"]


def test_a_contact_sheet_takes_figures_of_different_lengths() -> None:
    panel = Panel(Image.new("RGB", (100, 50), "red"), "x")
    sheet = contact_sheet(Section("s", "t", "", (Figure((panel, panel), "heading"), Figure((panel,)))))
    assert sum(1 for pixel in sheet.get_flattened_data() if pixel == (255, 0, 0)) == 3 * 5000


def _stand_in(monkeypatch: pytest.MonkeyPatch, asked: list[tuple[int, list[str]]]) -> Any:
    """Settings whose entry holds 12 samples, and a network that answers each task."""
    entry = EvaluationConfig.model_validate(
        {"dataset": "shapes_val", "tasks": ["captioning", "retrieval"], "transform": {"name": "stretch"}, "batch_size": 4}
    )

    def loader(entry: EvaluationConfig, root: Any) -> list[Batch]:
        samples = [_sample(i % 5) for i in range(min(12, entry.limit or 12))]
        return [Batch(tuple(samples[i : i + 4]), VOCABULARY, "shapes_val") for i in range(0, len(samples), 4)]

    def predict(tasks: list[Any], batch: Batch) -> dict[str, list[Any]]:
        asked.append((len(batch), [task.name for task in tasks]))
        vectors = torch.eye(4)[: len(batch)]
        answers: dict[str, list[Any]] = {
            "captioning": [CaptionResult("a star") for _ in batch.samples],
            "retrieval": [RetrievalResult(vector[None], vector[None]) for vector in vectors],
        }
        return {task.name: answers[task.name] for task in tasks}

    monkeypatch.setattr(module, "evaluation_loader", loader)
    monkeypatch.setattr(module, "settings_for", lambda spec, tasks: tasks)
    return SimpleNamespace(
        predict=predict,
        data=SimpleNamespace(train=(), evaluate=(entry,), root=Path("data")),
        trainer=SimpleNamespace(device="cpu", precision="float32"),
        tasks=SimpleNamespace(build=lambda names: [SimpleNamespace(name=name) for name in names]),
    )


class Network(torch.nn.Module):
    """Answers what the stand-in's settings say."""

    device = torch.device("cpu")

    def __init__(self, predict: Callable[[list[Any], Batch], dict[str, list[Any]]]) -> None:
        super().__init__()
        self.predict = predict


def test_gathering_asks_only_for_what_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, list[str]]] = []
    settings = _stand_in(monkeypatch, asked)
    sections = gather(settings, Network(settings.predict), images_per_task=3)  # type: ignore[arg-type]
    assert asked == [(4, ["captioning", "retrieval"]), (4, ["retrieval"]), (4, ["retrieval"])]
    assert [(s.source, s.task) for s in sections] == [("shapes_val", "captioning"), ("shapes_val", "retrieval")]
    assert [len(section.figures) for section in sections] == [3, 3]


def test_a_report_is_written_with_its_pictures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = _stand_in(monkeypatch, [])
    monkeypatch.setattr(module.config, "load", lambda schema, path: settings)
    monkeypatch.setattr(module.checkpoint, "load", lambda path: Network(settings.predict))
    (tmp_path / "config.yaml").write_text("seed: 7\n")
    (tmp_path / "model.pt").write_bytes(b"")
    (tmp_path / "results.json").write_text(json.dumps({"shapes_val/retrieval_IR@1": 12.5}))
    path = write_report(tmp_path, 2, "make quickstart")
    page = path.read_text(encoding="utf-8")
    assert path == tmp_path / "report.html" and "seed: 7" in page and "12.5" in page and "rank 1 of 12" in page
    images = sorted(image.name for image in (tmp_path / "images").iterdir())
    assert images == ["shapes_val_captioning.png", "shapes_val_retrieval.png"]


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no config\.yaml, which train\.py writes"):
        write_report(tmp_path)
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    with pytest.raises(ValueError, match=r"holds no model\.pt"):
        write_report(tmp_path)
    with pytest.raises(ValueError, match="at least 1, not 0"):
        write_report(tmp_path, 0)


def test_the_script_tells_an_error_in_one_sentence(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    main = runpy.run_path(str(root / "demo" / "report.py"))["main"]
    assert main([str(tmp_path)]) == 2
    told = capsys.readouterr()
    assert not told.out and told.err.startswith("error: ") and told.err.count("\n") == 1 and "config.yaml" in told.err
