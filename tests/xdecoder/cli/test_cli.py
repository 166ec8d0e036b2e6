"""The command `xdecoder`, called as a shell calls it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import xdecoder
from datasets.catalog import CATALOG
from tests.tiny import tiny_model
from xdecoder import checkpoint, cli
from xdecoder.cli.photos import images_of, read_region
from xdecoder.cli.terminal import progress
from xdecoder.inference.predictor import Predictor
from xdecoder.protocol import Protocol


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("network") / "model.pt"
    checkpoint.save(tiny_model(), path)
    return str(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("a.png", "deep/b.JPG", "deep/c.webp"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(path)
    (tmp_path / "photos/notes.txt").write_text("no picture, and nobody asks for one")
    return tmp_path / "photos"


def told(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    captured = capsys.readouterr()
    assert captured.err == ""
    return [json.loads(line) for line in captured.out.splitlines()]


QUESTIONS = {
    "segment": ["--classes", "cat", "sky"],
    "panoptic": ["--things", "cat", "--stuff", "sky", "--threshold", "0"],
    "instances": ["--classes", "cat", "dog", "--threshold", "0"],
    "refer": ["--phrases", "the left cat", "a dog"],
    "caption": [],
    "retrieve": ["--text", "a cat"],
}


@pytest.mark.parametrize("command", QUESTIONS)
def test_every_question_about_a_folder(command: str, photos: Path, network: str, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "answers"
    line = [command, str(photos), *QUESTIONS[command], "--checkpoint", network, "--device", "cpu", "--out", str(out)]
    assert cli.main(line) == 0
    written = capsys.readouterr().out.splitlines()
    names = {"a", "deep/b", "deep/c"}
    if command == "retrieve":
        content = json.loads(Path(written[0]).read_text())
        scores = [entry["score"] for entry in content["ranking"]]
        assert len(scores) == 3 and scores == sorted(scores, reverse=True)
        assert content["picture"] == content["ranking"][0]["picture"] and content["regions"][0]["name"] == "a cat"
        names = {Path(content["picture"]).relative_to(photos).with_suffix("").as_posix()}
    endings = (".json",) if command == "caption" else (".json", ".png")
    assert set(written) == {f"{out / name}{ending}" for name in names for ending in endings}
    for name in names:
        content = json.loads((out / f"{name}.json").read_text())
        assert Path(content["picture"]).is_file()
        if command == "caption":
            assert isinstance(content["caption"], str)
            continue
        assert (content["width"], content["height"]) == (60, 40) and (content["regions"] or command == "panoptic")
        assert all(region["segmentation"]["size"] == [40, 60] for region in content["regions"])
        with Image.open(out / f"{name}.png") as drawing:
            assert drawing.mode == "RGB"


def test_an_instruction_changes_the_picture(photos: Path, network: str, tmp_path: Path, capsys: Any) -> None:
    line = ["edit", str(photos / "a.png"), "blur everything but the cat", "--checkpoint", network, "--out", str(tmp_path)]
    assert "'the cat' was not found in this picture (cosine " in refused([*line, "--threshold", "0.9"], capsys)
    assert cli.main([*line, "--threshold", "-1"]) == 0
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["instruction"] == "blur everything but the cat" and content["edits"][0]["changed_outside"] == 0
    with Image.open(tmp_path / "a.png") as edited:
        assert edited.size == (60, 40)


def test_without_a_folder_each_picture_is_a_line(photos: Path, network: str, capsys: Any) -> None:
    pattern = str(photos / "**/*.png")
    assert cli.main(["caption", pattern, str(photos / "deep/b.JPG"), "--checkpoint", network, "--beams", "2"]) == 0
    assert [Path(line["picture"]).name for line in told(capsys)] == ["a.png", "b.JPG"]


def test_only_the_overlay(photos: Path, network: str, tmp_path: Path) -> None:
    line = ["refer", str(photos / "a.png"), "--phrases", "a cat", "--checkpoint", network, "--overlay", "--out", str(tmp_path)]
    assert cli.main(line) == 0
    with Image.open(tmp_path / "a.png") as drawing:
        assert drawing.mode == "RGBA"


def test_a_region_is_described_and_must_fit(photos: Path, network: str, tmp_path: Path, capsys: Any) -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[5:20, 10:30] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    assert read_region(tmp_path / "mask.png").sum() == 15 * 20
    line = ["caption", str(photos / "a.png"), "--checkpoint", network, "--region", str(tmp_path / "mask.png")]
    assert cli.main(line) == 0
    Image.fromarray(mask[:30]).save(tmp_path / "mask.png")
    capsys.readouterr()
    assert cli.main(line) == 2
    assert capsys.readouterr().err == "error: a region has the picture's size (40, 60), not (30, 60)\n"
    Image.fromarray(np.zeros_like(mask)).save(tmp_path / "mask.png")
    assert cli.main(line) == 2
    assert capsys.readouterr().err == "error: a region must hold a pixel of the picture, but this one marks none\n"


def test_what_the_system_hides_is_no_image(photos: Path) -> None:
    before = [photo.path for photo in images_of([str(photos)])]
    for name in ("._a.png", ".ipynb_checkpoints/a.png", "__MACOSX/a.png"):
        (photos / name).parent.mkdir(exist_ok=True)
        (photos / name).write_bytes((photos / "a.png").read_bytes())
    assert before and [photo.path for photo in images_of([str(photos)])] == before


def test_what_is_in_a_format_that_is_not_read_is_told(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = images_of([str(photos)])
    (photos / "b.HEIC").write_bytes(b"x")
    assert images_of([str(photos)]) == before
    assert capsys.readouterr().err.startswith(
        f"note: {photos / 'b.HEIC'}: is in a format that is not read, and is left out (1 "
    )


def test_names_from_a_file(photos: Path, network: str, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "names.txt").write_bytes(b"\xef\xbb\xbfcat\r\n\r\n  blue sky  \r\n\r\n")
    line = ["segment", str(photos / "a.png"), "--classes", f"@{tmp_path / 'names.txt'}", "--checkpoint", network]
    assert cli.main(line) == 0
    assert {region["name"] for region in told(capsys)[0]["regions"]} <= {"cat", "blue sky"}
    with pytest.raises(SystemExit, match="2"):
        cli.main([*line[:3], f"@{tmp_path / 'none.txt'}", *line[4:]])
    assert capsys.readouterr().err == f"error: {tmp_path / 'none.txt'}: no such file\n"


def test_one_bad_picture_does_not_keep_the_others_from_their_answers(photos: Path, network: str, capsys: Any) -> None:
    (photos / "a.png").write_text("not a picture")
    assert cli.main(["caption", str(photos), "--checkpoint", network]) == 2
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 2
    assert (
        captured.err.startswith(f"error: {photos / 'a.png'}: the picture is damaged or incomplete")
        and captured.err.count("\n") == 1
    )


def refused(line: list[str], capsys: Any) -> str:
    try:
        status = cli.main(line)
    except SystemExit as stop:  # argparse's own
        status = int(str(stop.code))
    captured = capsys.readouterr()
    assert status == 2 and captured.out == "" and captured.err.startswith("error: ") and captured.err.count("\n") == 1
    return str(captured.err)


def test_faults_are_told_in_one_sentence(photos: Path, network: str, tmp_path: Path, capsys: Any) -> None:
    with_network = ["--checkpoint", network]
    assert "the following arguments are required: --checkpoint; see xdecoder caption" in refused(["caption", "x.png"], capsys)
    assert "invalid choice: 'paint'" in refused(["paint"], capsys)
    assert "nowhere.png: no such picture, or a folder" in refused(["caption", "nowhere.png", *with_network], capsys)
    assert "no.pt: no such checkpoint" in refused(["caption", str(photos), "--checkpoint", "no.pt"], capsys)
    assert "at least one class name" in refused(["panoptic", str(photos / "a.png"), *with_network], capsys)
    assert "question" in refused(["ask", str(photos / "a.png"), "--question", "what?", *with_network], capsys)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/a.png").write_bytes((photos / "a.png").read_bytes())
    twice = ["caption", str(photos / "a.png"), str(tmp_path / "other/a.png"), *with_network]
    assert "would both be answered in a.png.json; name their common folder" in refused(twice, capsys)
    meant = ["panoptic", str(photos / "a.png"), "--classes", "cat", *with_network]
    assert "unknown option --classes; did you mean --things?" in refused(meant, capsys)
    searched = ["search", "photos.index", "a cat", *with_network]
    assert "unknown option --text; what it would say is written without it; see xdecoder search" in refused(
        [*searched, "--text", "x"], capsys
    )
    assert "'dog' is one word too many; put what belongs together in quotes" in refused([*searched, "dog"], capsys)
    assert "no picture is named" in refused(["panoptic", "--things", "cat", "sofa", *with_network], capsys)
    assert "an exported network ends in .onnx or .pt2" in refused(["export", "--out", "model.bin", *with_network], capsys)


def test_an_index_names_what_it_could_not_read(photos: Path, network: str, tmp_path: Path, capsys: Any) -> None:
    (photos / "broken.jpg").write_bytes(b"no picture")
    line = ["index", str(photos), "--out", str(tmp_path / "index"), "--no-regions", "--checkpoint", network]
    assert cli.main(line) == 2
    said = capsys.readouterr()
    assert "pictures encoded" in said.out and said.err.count("broken.jpg: the picture is damaged") == 1
    (photos / "broken.jpg").unlink()
    assert cli.main(line) == 0


def test_a_picture_behind_a_list_of_names_is_a_picture(photos: Path, network: str, capsys: Any) -> None:
    line = ["panoptic", "--things", "cat", "sofa", str(photos / "a.png"), "--checkpoint", network, "--threshold", "0"]
    assert cli.main(line) == 0
    (answer,) = told(capsys)
    assert answer["picture"] == str(photos / "a.png") and {each["name"] for each in answer["regions"]} <= {"cat", "sofa"}


def test_pictures_that_differ_by_their_suffix_have_answers_of_their_own(photos: Path) -> None:
    (photos / "a.jpg").write_bytes((photos / "a.png").read_bytes())
    names = {photo.name.as_posix() for photo in images_of([str(photos)])}
    assert names == {"a.jpg", "a.png", "deep/b", "deep/c"}


def test_one_damaged_picture_keeps_none_from_being_found(photos: Path, network: str, capsys: Any) -> None:
    (photos / "bad.png").write_bytes(b"nothing")
    assert cli.main(["retrieve", str(photos), "--text", "a cat", "--checkpoint", network]) == 2
    captured = capsys.readouterr()
    assert "bad.png" in captured.err and len(json.loads(captured.out)["ranking"]) == 3


def test_answers_for_other_tools(photos: Path, network: str, tmp_path: Path, capsys: Any) -> None:
    out, line = tmp_path / "answers", ["segment", str(photos), "--classes", "cat", "sky", "--checkpoint", network]
    line += ["--out", str(out), "--save", "coco,yolo,labelstudio,geojson"]
    assert cli.main(line) == 0
    written = capsys.readouterr().out.splitlines()
    assert written[-1] == f"{out}/coco.json" and len(json.loads((out / "coco.json").read_text())["images"]) == 3
    assert (out / "classes.txt").read_text() == "cat\nsky\n"
    assert all((out / f"deep/b.{suffix}").is_file() for suffix in ("json", "txt", "geojson", "labelstudio.json"))
    assert not (out / "a.png").exists()
    (out / "a.json").unlink()
    assert cli.main([*line, "--resume"]) == 0
    assert f"{out}/a.json" in (again := capsys.readouterr().out) and "deep" not in again
    assert "unknown format 'xml'; known are json, png, coco" in refused([*line, "--save", "xml"], capsys)


def test_version_and_weights(capsys: Any) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out.startswith(f"xdecoder {xdecoder.__version__} (Python 3.")
    assert cli.main(["weights"]) == 0 and "focal-t " in capsys.readouterr().out
    assert {"load", "Predictor", "__version__"} <= set(dir(xdecoder))


def test_a_network_of_generated_scenes_says_so(photos: Path, tmp_path: Path, capsys: Any) -> None:
    model = tiny_model()
    scenes = CATALOG["shapes_train"]
    model.protocol = Protocol(taught={scenes.name: ("segmentation",)}, drawn={scenes.name: scenes.drawn})
    checkpoint.save(model, tmp_path / "model.pt")
    assert cli.main(["caption", str(photos / "a.png"), "--checkpoint", str(tmp_path / "model.pt")]) == 0
    captured = capsys.readouterr()
    assert (
        captured.err.startswith("note: this network has learnt from generated scenes (circle, ")
        and captured.err.count("\n") == 1
    )
    assert captured.err.endswith("it knows no photographs\n") and captured.out.startswith('{"picture"')
    assert "taught shapes_train (segmentation) [this network" in repr(xdecoder.load(tmp_path / "model.pt"))
    begun = model.protocol.model_copy(update={"begun": "focal-t"})
    assert begun.limits == "" and begun.knowledge.endswith("(segmentation) and begun with focal-t")
    photographs = model.protocol.model_copy(update={"taught": {**model.protocol.taught, "coco": ("segmentation",)}})
    assert photographs.limits == "" == Protocol().limits == Protocol().knowledge


def test_pictures_of_one_size_are_encoded_together(
    photos: Path, network: str, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    (photos / "bad.png").write_bytes(b"nothing")
    looked, look = [], Predictor.look

    def counted(self: Predictor, pictures: Any, task: Any) -> None:
        looked.append(len(pictures))
        look(self, pictures, task)

    monkeypatch.setattr(Predictor, "look", counted)
    answers = []
    for batch in ("1", "4"):
        line = ["instances", str(photos), "--classes", "cat", "--threshold", "0", "--checkpoint", network, "--batch", batch]
        assert cli.main(line) == 2
        captured = capsys.readouterr()
        assert captured.err.count("\n") == 1 and "bad.png: the picture is damaged" in captured.err
        answers.append([json.loads(line) for line in captured.out.splitlines()])
    assert max(looked) == 3 and [a["picture"] for a in answers[0]] == [a["picture"] for a in answers[1]]
    for one, other in zip(*answers, strict=True):
        first, second = ([region["score"] for region in each["regions"]] for each in (one, other))
        assert first == pytest.approx(second, abs=1e-5)


def test_one_picture_that_cannot_be_answered_keeps_no_other_of_its_batch_from_it(
    photos: Path, network: str, tmp_path: Path
) -> None:
    mask = tmp_path / "mask.png"
    Image.new("L", (60, 40), 255).save(mask)
    Image.new("RGB", (30, 20)).save(photos / "small.png")  # the region is not of its size
    line = [
        "caption",
        str(photos),
        "--region",
        str(mask),
        "--checkpoint",
        network,
        "--batch",
        "4",
        "--out",
        str(tmp_path / "out"),
    ]
    assert cli.main(line) == 2
    written = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.json")}
    assert written == {"a.json", "deep/b.json", "deep/c.json"}


def test_drawings_have_a_style(photos: Path, network: str, tmp_path: Path) -> None:
    line = ["segment", str(photos / "a.png"), "--classes", "cat", "sky", "--checkpoint", network, "--out", str(tmp_path)]
    assert cli.main([*line, "--opacity", "0.25", "--no-labels", "--overlay"]) == 0
    with Image.open(tmp_path / "a.png") as drawing:
        assert set(np.unique(np.asarray(drawing)[..., 3])) <= {0, 64, 235}
    with pytest.raises(SystemExit, match="2"):
        cli.main([*line, "--opacity", "2"])


def test_pictures_by_address(photos: Path, network: str, tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    address = "https://example.org/deep/cat.png?size=1"
    line = ["caption", address, "--checkpoint", network]
    assert f"{address}: is a web address; add --urls to fetch pictures" in refused(line, capsys)
    monkeypatch.setattr(
        "xdecoder.download.fetch_image", lambda asked: (photos / "a.png").read_bytes() if asked == address else b""
    )
    assert cli.main([*line, "--urls", "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/out/cat.json\n"
    assert json.loads((tmp_path / "out/cat.json").read_text())["picture"] == address
    other = ["caption", "http://example.org/other", "--urls", "--checkpoint", network]
    assert "http://example.org/other: the picture is damaged or incomplete" in refused(other, capsys)


def test_who_stops_reading_hears_no_complaint(root: Path) -> None:
    line = f"{sys.executable} -m xdecoder weights | head -1"
    done = subprocess.run(["bash", "-c", line], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("name ") and done.stderr == ""


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("xdecoder pano", "panoptic"),
        ("xdecoder panoptic photo.jpg --thi", "--things"),
        ("xdecoder caption --checkpoint focal-t-c", "focal-t-captions"),
    ],
)
def test_bash_completes_the_line(words: str, offered: str, capsys: Any) -> None:
    assert cli.main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    ask = f'COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _xdecoder; echo "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", f"{script}\n{ask}"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [offered] and done.stderr == ""


def test_other_shells(capsys: Any) -> None:
    assert cli.main(["completion", "zsh"]) == 0 and capsys.readouterr().out.startswith("autoload -U +X bashcompinit")
    assert cli.main(["completion", "fish"]) == 0
    assert "complete -c xdecoder -n '__fish_seen_subcommand_from panoptic' -l things\n" in capsys.readouterr().out


def test_bugs_are_not_covered_up(photos: Path, network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr("xdecoder.cli.asking.load", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        cli.main(["caption", str(photos), "--checkpoint", network])


def test_memory_is_a_matter_of_options(photos: Path, network: str, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr("xdecoder.cli.asking.load", broken)
    assert "error: out of memory; try --half" in refused(["caption", str(photos), "--checkpoint", network], capsys)


def test_progress_goes_to_a_terminal_only(photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    found = images_of([str(photos)])
    assert list(progress(found)) == found and capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert list(progress(found)) == found
    shown = capsys.readouterr().err
    assert "[1/3] " in shown and "[3/3, 0 s left] " in shown and shown.endswith("\r\033[K")


def test_answers_and_progress_share_no_line(photos: Path, network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(sys, stream, terminal)
    assert cli.main(["caption", str(photos), "--checkpoint", network]) == 0
    before = terminal.getvalue().split('{"picture"')[:-1]
    assert len(before) == 3 and all(text.endswith("\r\033[K") for text in before)


def test_help_comes_before_torch(root: Path) -> None:
    script = "import sys, xdecoder.cli as c\ntry: c.main(['--help'])\nfinally: assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    for command in (*QUESTIONS, "ask", "edit", "serve-mcp", "serve-http", "export"):
        assert f"\n    {command} " in done.stdout
    assert "examples:" in done.stdout


def test_pip_installs_the_command(root: Path) -> None:
    assert tomllib.loads((root / "pyproject.toml").read_text())["project"]["scripts"] == {"xdecoder": "xdecoder.cli:main"}
