"""Marked objects through a film, by the command: drawn, kept, gone on with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("av", reason="films need PyAV, the extra `video`")

from tests.tiny import tiny_model, tiny_seem
from tests.xdecoder.inference.films import SIZE, film, frame
from xdecoder import checkpoint, cli, rle
from xdecoder.cli.command import EXIT_INTERRUPTED
from xdecoder.inference import tracking, video
from xdecoder.inference.predictor import Predictor
from xdecoder.tasks import interactive

MARKS = ["--click", "15,20", "--box", "30,8,60,40"]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    checkpoint.save(tiny_seem(), folder / "seem.pt")
    checkpoint.save(tiny_model(), folder / "xdecoder.pt")
    film(folder / "film.mp4")
    return folder


def track(work: Path, *options: str) -> list[str]:
    return ["track", str(work / "film.mp4"), "--checkpoint", str(work / "seem.pt"), *options]


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_masks_are_those_of_python(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, lines = tmp_path / "tracked.mp4", tmp_path / "masks.jsonl"
    assert cli.main(track(work, *MARKS, "--out", str(out), "--masks", str(lines))) == 0
    assert capsys.readouterr().out.splitlines() == [str(out), str(lines)]
    assert video.open_film(out).count == 6
    told, *kept = rows(lines)
    assert (told["film"], told["objects"], told["clicks"], told["boxes"]) == ("film.mp4", 2, [[[15, 20]]], [[30, 8, 60, 40]])
    assert [row["frame"] for row in kept] == list(range(6))
    predictor, source = Predictor(tiny_seem()), video.open_film(work / "film.mp4")
    reference = predictor.encode(source.frame(0))
    session = reference.interact()
    session.click(15, 20)
    session.new_object()
    session.box(30, 8, 60, 40)
    example = tracking.example_of(predictor, reference, session.masks)
    seen = predictor.encode(source.frame(4))
    found = example.find(seen.image, seen.view(interactive.DESCRIPTOR), ["a", "b"])
    for mask, score, saved in zip(found.masks, found.scores, kept[4]["objects"], strict=True):
        assert np.array_equal(rle.mask(saved["segmentation"]["counts"], SIZE[1], SIZE[0]), mask.numpy())
        assert saved["area"] == mask.sum() and saved["score"] == pytest.approx(score.item(), abs=1e-5)


@pytest.mark.parametrize("place", ["masks.jsonl", "masks"])
def test_an_interrupted_command_goes_on(work: Path, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, begun = tmp_path / "whole" / place, tmp_path / "begun" / place
    assert cli.main(track(work, *MARKS, "--masks", str(whole))) == 0
    find, frames = tracking.Example.find, []

    def interrupted(self: tracking.Example, *arguments: object) -> object:
        frames.append(1)
        if len(frames) == 4:
            raise KeyboardInterrupt
        return find(self, *arguments)

    monkeypatch.setattr(tracking.Example, "find", interrupted)
    assert cli.main(track(work, *MARKS, "--masks", str(begun))) == EXIT_INTERRUPTED
    if begun.is_file():
        begun.write_bytes(begun.read_bytes() + b'{"frame": 3, "obj')  # power went while a line was written
    assert cli.main(track(work, *MARKS, "--masks", str(begun), "--out", str(tmp_path / "a.mp4"))) == 0
    assert len(frames) == 4 + 3, "three were kept, three were left"
    for path in [whole] if whole.is_file() else whole.iterdir():
        assert path.read_bytes() == (begun.parent / path.relative_to(whole.parent)).read_bytes()
    assert cli.main(track(work, "--click", "16,20", "--masks", str(begun))) == 2, "these are of other marks"


def test_pngs_hold_the_numbers_of_objects(work: Path, tmp_path: Path) -> None:
    assert cli.main(track(work, "--click", "15,20", "16,21", "--masks", str(tmp_path / "masks"), "--frame", "2")) == 0
    assert cli.main(track(work, "--click", "15,20", "16,21", "--masks", str(tmp_path / "a.jsonl"), "--frame", "2")) == 0
    for number, row in enumerate(rows(tmp_path / "a.jsonl")[1:]):
        values = np.asarray(Image.open(tmp_path / f"masks/{number:06}.png"))
        (only,) = row["objects"]
        assert np.array_equal(values == 1, rle.mask(only["segmentation"]["counts"], SIZE[1], SIZE[0]))


def test_what_is_unlike_is_not_there(work: Path, tmp_path: Path) -> None:
    assert cli.main(track(work, "--click", "15,20", "--masks", str(tmp_path / "a.jsonl"), "--threshold", "1")) == 0
    assert all(row["objects"][0]["area"] == 0 for row in rows(tmp_path / "a.jsonl")[1:])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--click", "15,20"], "track writes a film with --out"),
        (["--out", "a.mp4"], "nothing is marked; say where"),
        (["--click", "15", "--out", "a.mp4"], "expected 2 numbers with commas between them, not '15'"),
        (["--click", "15,nan", "--out", "a.mp4"], "expected 2 numbers"),
        (["--click", "99,20", "--out", "a.mp4"], "lies outside the image of 64 x 48 pixels"),
        (["--box", "5,5,5,9", "--out", "a.mp4"], "has no area"),
        (["--click", "15,20", "--out", "a.mp4", "--frame", "99"], "has no frame 99; its 6 frames"),
        (["--click", "15,20", "--out", "a.avi"], "a film is written as"),
        (["--click", "15,20", "--masks", "a.txt"], "masks are kept in a .jsonl file, or in a folder of PNGs"),
    ],
)
def test_what_is_wrong_is_told(
    work: Path,
    tmp_path: Path,
    options: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng():
        try:
            status = cli.main(track(work, *options))
        except SystemExit as end:
            status = end.code
    assert status == 2 and sentence in capsys.readouterr().err
    assert not (tmp_path / "a.mp4").exists()


def test_a_network_that_reads_no_strokes(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["track", str(work / "film.mp4"), "--checkpoint", str(work / "xdecoder.pt"), "--click", "15,20"]
    assert cli.main([*line, "--out", str(tmp_path / "a.mp4")]) == 2
    assert "this network reads no strokes" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "x\n", "{}\n", '{"format": "xdecoder-track/1"}\n'])
def test_masks_of_something_else(work: Path, tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(content)
    assert cli.main(track(work, "--click", "15,20", "--masks", str(path))) == 2
    assert "a.jsonl: " in capsys.readouterr().err and path.read_text() == content


def test_questions_about_every_frame(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["segment", str(work / "film.mp4"), "--checkpoint", str(work / "xdecoder.pt"), "--classes", "square", "ground"]
    assert cli.main([*line, "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "film.jsonl"), str(tmp_path / "film.mp4")]
    found = rows(tmp_path / "film.jsonl")
    assert [row["frame"] for row in found] == list(range(6)) and video.open_film(tmp_path / "film.mp4").count == 6
    expected = Predictor(tiny_model()).segment(video.open_film(work / "film.mp4").frame(5), ["square", "ground"])
    assert found[5]["regions"] == json.loads(json.dumps(expected.to_json()))["regions"]
    assert cli.main(line) == 0 and len(capsys.readouterr().out.splitlines()) == 6
    assert cli.main([*line, "--out", str(tmp_path), "--resume"]) == 0 and capsys.readouterr().out == ""
    assert cli.main([*line, "--out", str(tmp_path), "--save", "coco"]) == 2


def test_a_film_that_breaks_off_does_not_keep_others_from_their_answers(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no film")
    frame(0).save(tmp_path / "a.png")
    films = [str(tmp_path / "bad.mp4"), str(work / "film.mp4"), str(tmp_path / "a.png")]
    line = ["segment", *films, "--checkpoint", str(work / "xdecoder.pt"), "--classes", "square"]
    assert cli.main([*line, "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr()
    assert "bad.mp4: is no film" in told.err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"film.jsonl", "film.mp4", "a.json", "a.png"}
