"""The generated set: the same bytes each time, labels that fit the pictures, phrases that fit one object only."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from scipy.ndimage import binary_erosion

from datasets.catalog import find
from datasets.dataset import ImageDataset
from datasets.evaluators.attributes import AttributeEvaluator
from datasets.prepare.__main__ import main
from datasets.prepare.painting import RGB, compose, outline, paint, stencil_of, stuff_texture
from datasets.prepare.shapes import prepare
from datasets.readers import read
from datasets.shapes import ANSWERS, COLOURS, HELD_OUT, SEEN, SHAPES, SIZES, STUFF, Scene, Thing, captions, phrases, questions
from datasets.transforms import Square
from trainer.experiment import ExperimentConfig
from xdecoder.config import load
from xdecoder.resizing import ShortestEdge


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    assert prepare(root, train=40, val=15, novel=15)
    return root


def _load(root: Path, kind: str, split: str) -> dict:
    return json.loads((root / f"shapes/annotations/{kind}_{split}.json").read_text())


def _digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(str(p.relative_to(folder)).encode() + p.read_bytes() for p in files)).hexdigest()


def _thing(shape: str, colour: str, size: str, x: float, y: float) -> Thing:
    return Thing(shape, colour, size, x, y, radius=10.0, angle=0.0, texture="plain")


def test_same_parameters_same_bytes(root: Path, tmp_path: Path) -> None:
    prepare(tmp_path, train=40, val=15, novel=15)
    assert _digest(tmp_path) == _digest(root)
    assert [path.name for path in tmp_path.iterdir()] == ["shapes"]


def test_splits_differ(root: Path) -> None:
    first = [(root / f"shapes/images/{split}/000001.jpg").read_bytes() for split in ("train", "val", "novel")]
    assert len(set(first)) == 3


def test_found_again_or_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--train", "2", "--val", "1", "--novel", "1", "--root", str(tmp_path)]
    assert main(["shapes", *sizes]) == 0
    before = _digest(tmp_path)
    assert main(["shapes", *sizes]) == 0
    assert "is there already" in capsys.readouterr().out
    assert main(["shapes", *sizes, "--seed", "1"]) == 2
    assert "another seed; use --force" in capsys.readouterr().err
    assert _digest(tmp_path) == before
    assert main(["shapes", *sizes, "--seed", "1", "--force"]) == 0
    assert _digest(tmp_path) != before
    assert [path.name for path in tmp_path.iterdir()] == ["shapes"]


def test_interrupted_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("datasets.prepare.shapes._dump", full)
    assert main(["shapes", "--train", "1", "--val", "1", "--novel", "1", "--root", str(tmp_path)]) == 2
    assert list(tmp_path.iterdir()) == []


def test_foreign_folder_refused(tmp_path: Path) -> None:
    (tmp_path / "shapes").mkdir()
    with pytest.raises(ValueError, match="no generated set"):
        prepare(tmp_path, train=1, val=1, novel=1)


def test_words() -> None:
    assert len(SHAPES) >= 12 and len(COLOURS) == 8 and len(SIZES) == 3 and len(STUFF) >= 5
    assert len(HELD_OUT) == 12 and len(SEEN) == 84 and not set(SEEN) & set(HELD_OUT)
    assert {shape for _, shape in HELD_OUT} == set(SHAPES) and {colour for colour, _ in HELD_OUT} == set(COLOURS)


def test_held_out_pairs_stay_out(root: Path) -> None:
    words = re.compile("|".join(f"{colour} {shape}" for colour, shape in HELD_OUT))
    for split in ("train", "val"):
        for scene in _load(root, "scenes", split)["images"]:
            assert not {(o["colour"], o["shape"]) for o in scene["objects"]} & set(HELD_OUT)
        assert not any(words.search(row["caption"]) for row in _load(root, "captions", split)["annotations"])
        rows = _load(root, "phrases", split)["annotations"]
        assert not any(words.search(s["raw"]) for row in rows for s in row["sentences"])
    for scene in _load(root, "scenes", "novel")["images"]:
        assert {(o["colour"], o["shape"]) for o in scene["objects"]} & set(HELD_OUT)
    for row in _load(root, "phrases", "novel")["annotations"]:
        for sentence in row["sentences"]:
            assert words.search(sentence["raw"]), sentence


def test_formats_agree(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Panoptic PNG, panoptic JSON, instances and scenes say the same."""
    instances = COCO(str(root / "shapes/annotations/instances_train.json"))
    panoptic = _load(root, "panoptic", "train")
    scenes = {scene["image_id"]: scene for scene in _load(root, "scenes", "train")["images"]}
    name = {row["id"]: row["name"] for row in panoptic["categories"]}
    for annotation in panoptic["annotations"]:
        ids = np.asarray(Image.open(root / "shapes/annotations/panoptic_train" / annotation["file_name"]))[..., 0]
        assert sorted(np.unique(ids)) == [info["id"] for info in annotation["segments_info"]]
        objects = scenes[annotation["image_id"]]["objects"]
        found = instances.loadAnns(instances.getAnnIds(annotation["image_id"]))
        assert len(found) == len(objects) >= 2
        for info in annotation["segments_info"]:
            assert (ids == info["id"]).sum() == info["area"]
        for instance, described, info in zip(found, objects, annotation["segments_info"], strict=False):
            x, y, width, height = described["box"]
            mask = ids == info["id"]
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            assert (x, y, width, height) == (columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1)
            assert name[instance["category_id"]] == described["shape"] == name[info["category_id"]]
            assert instance["area"] == mask.sum() and instance["bbox"] == described["box"]


def test_pixels_have_the_colour_named(root: Path) -> None:
    """Within each object's rim, the named colour is the nearest of the eight by far most of the time."""
    names, right, total = list(RGB), 0, 0
    reference = np.array([RGB[name] for name in names], dtype=float)
    scenes = _load(root, "scenes", "train")["images"]
    panoptic = {a["image_id"]: a for a in _load(root, "panoptic", "train")["annotations"]}
    for scene in scenes:
        file = panoptic[scene["image_id"]]["file_name"]
        ids = np.asarray(Image.open(root / "shapes/annotations/panoptic_train" / file))[..., 0]
        pixels = np.asarray(Image.open(root / "shapes/images/train" / file.replace("png", "jpg"))).astype(float)
        for number, described in enumerate(scene["objects"], start=1):
            whole = ids == number
            inner = binary_erosion(whole, iterations=3)  # within the dark rim
            mean = np.median(pixels[inner if inner.sum() > 5 else binary_erosion(whole, iterations=2)], axis=0)
            right += names[int(np.argmin(((reference - mean) ** 2).sum(1)))] == described["colour"]
            total += 1
    assert right / total > 0.95


def test_things_stay_visible() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        scene, stencils = compose(rng, 128, SEEN, SEEN)
        painting = paint(rng, scene, stencils)
        for number, stencil in enumerate(stencils, start=1):
            assert (painting.ids == number).sum() >= 0.4 * (stencil.alpha >= 0.5).sum()


@pytest.mark.parametrize("shape", SHAPES)
def test_outlines_fit_the_circle(shape: str) -> None:
    contours = outline(shape)
    assert max(np.linalg.norm(contour, axis=1).max() for contour in contours) <= 1.1
    stencil = stencil_of(_thing(shape, "red", "small", 60.3, 40.7))
    rows, columns = np.nonzero(stencil.alpha >= 0.5)
    assert abs(columns.mean() + stencil.left - 60.3) < 5 and abs(rows.mean() + stencil.top - 40.7) < 3
    assert stencil.alpha[0].max() == stencil.alpha[:, -1].max() == 0


def test_ring_has_a_hole_and_exact_area() -> None:
    stencil = stencil_of(_thing("ring", "red", "small", 64.5, 64.5))
    middle = stencil.alpha.shape[0] // 2
    assert stencil.alpha[middle, middle] == 0
    assert stencil.alpha.sum() == pytest.approx(np.pi * 100 * (1 - 0.52**2), rel=0.05)


def test_unknown_words_refused() -> None:
    with pytest.raises(ValueError, match="unknown shape 'blob'"):
        outline("blob")
    with pytest.raises(ValueError, match="unknown stuff"):
        stuff_texture(np.random.default_rng(0), "lava", 64)


def test_phrases_of_twins_need_size_or_place() -> None:
    twins = _thing("star", "red", "small", 20, 60), _thing("star", "red", "large", 90, 60)
    cube = _thing("cube", "blue", "small", 60, 62)
    scene = Scene((*twins, cube), "sky", "grass", 128)
    said = {text for seed in range(40) for text in phrases(scene, twins[0], np.random.default_rng(seed))}
    assert "the red star" not in said
    assert {"the small red star", "the red star left of the cube", "the small red star left of the cube"} <= said
    assert not any("above" in text or "below" in text for text in said)


def test_no_phrase_where_none_is_clear() -> None:
    twins = _thing("star", "red", "small", 60, 60), _thing("star", "red", "small", 62, 61)
    assert phrases(Scene(twins, "sky", "grass", 128), twins[0], np.random.default_rng(0)) == []


def test_written_phrases_fit_one_object(root: Path) -> None:
    """An independent reading of each phrase against the scenes' attributes and boxes."""
    for split in ("train", "novel"):
        scenes = {scene["image_id"]: scene["objects"] for scene in _load(root, "scenes", split)["images"]}
        checked = 0
        for row in _load(root, "phrases", split)["annotations"]:
            for sentence in row["sentences"]:
                parts = re.split(r" (?:left of|right of|above|below) the ", sentence["raw"].removeprefix("the "))
                plain, place = parts[0], parts[1] if len(parts) == 2 else None
                fitting = [o for o in scenes[row["image_id"]] if set(plain.split()) <= {o["size"], o["colour"], o["shape"]}]
                assert row["bbox"] in [o["box"] for o in fitting]
                if place is None:
                    assert len(fitting) == 1
                    checked += 1
                else:
                    marks = [o for o in scenes[row["image_id"]] if set(place.split()) <= {o["colour"], o["shape"]}]
                    assert len(marks) == 1
        assert checked > 10


def test_captions_name_everything() -> None:
    stars = _thing("star", "red", "large", 90, 30), _thing("star", "red", "small", 50, 90)
    scene = Scene((*stars, _thing("arrow", "orange", "small", 20, 35)), "sky", "grass", 128)
    texts = captions(scene, np.random.default_rng(1))
    assert texts[:3] == [
        "an orange arrow, a red star and another red star on grass",
        "a small orange arrow, a small red star and a large red star before sky and grass",
        "a small orange arrow above a small red star with a red star on grass",
    ]
    assert {len(captions(scene, np.random.default_rng(seed))) for seed in range(40)} == {3, 4, 5}


def test_readers_read_it(root: Path) -> None:
    source = read(find("shapes_val"), root)
    assert source.vocabulary is not None
    assert source.vocabulary.names == SHAPES + STUFF and sum(source.vocabulary.is_thing) == len(SHAPES)
    tasks = ("segmentation", "referring", "captioning")
    dataset = ImageDataset(find("shapes_val"), root, ShortestEdge(size=64, max_size=64), tasks, training=False)
    sample = dataset[0]
    assert sample.segments is not None and sample.phrases is not None
    assert bool((sample.segments.masks.sum(0) == 1).all()) and tuple(sample.image.shape) == (3, 64, 64)
    for mask in sample.phrases.masks:
        assert any(bool((mask == segment).all()) for segment in sample.segments.masks)


def test_attribute_evaluator_reads_the_scenes(root: Path) -> None:
    AttributeEvaluator(root / "shapes/annotations/scenes_val.json", COLOURS, SHAPES)


def _answered(scene: Scene, text: str) -> str:
    """The answer to a question, by reading it anew."""
    by_shape = {thing.shape: thing for thing in scene.things}
    if found := re.fullmatch(r"what colour is the (\w+)\?", text):
        return by_shape[found[1]].colour
    if found := re.fullmatch(r"is the (\w+) left or right of the (\w+)\?", text):
        return "left" if by_shape[found[1]].x < by_shape[found[2]].x else "right"
    if found := re.fullmatch(r"which is larger, the (\w+) or the (\w+)\?", text):
        return max(found[1], found[2], key=lambda shape: by_shape[shape].radius)
    if found := re.fullmatch(r"is there an? (\w+) (\w+)\?", text):
        return "yes" if (found[1], found[2]) in {thing.pair for thing in scene.things} else "no"
    found = re.fullmatch(r"how many (?:(\w+) )?(\w+) are there\?", text)
    assert found, text
    shape = None if found[2] == "things" else found[2].removesuffix("es") if found[2] == "crosses" else found[2][:-1]
    return str(sum((not found[1] or found[1] == t.colour) and (not shape or shape == t.shape) for t in scene.things))


def test_questions_have_one_right_answer() -> None:
    kinds: dict[str, list[str]] = {}
    for number in range(200):
        scene, _ = compose(np.random.default_rng(number), 128, SEEN, SEEN)
        asked = questions(scene, np.random.default_rng(number))
        assert 3 <= len(asked) <= 6
        for text, answer, kind in asked:
            assert _answered(scene, text) == answer and answer in ANSWERS, text
            kinds.setdefault(kind, []).append(answer)
    assert kinds.keys() == {"presence", "count", "colour", "side", "size"}
    assert kinds["presence"].count("yes") == kinds["presence"].count("no")
    assert 0.4 < kinds["side"].count("left") / len(kinds["side"]) < 0.6
    assert set(kinds["count"]) == set("012345") and set(kinds["colour"]) == set(COLOURS)


def test_questions_are_read_and_learnt_from_in_another_order_each_time(root: Path) -> None:
    dataset = ImageDataset(find("shapes_train"), root, ShortestEdge(size=64), ["vqa"], training=True)
    record = dataset.records[0]
    assert all(len(set(question.answers)) == 1 and len(question.answers) == 4 for question in record.questions)
    epochs = [dataset[(0, epoch)].questions for epoch in range(6)]
    assert all({q.id for q in epoch} == {q.id for q in record.questions} for epoch in epochs)
    assert len({tuple(q.id for q in epoch) for epoch in epochs}) > 1
    assert dataset[(0, 3)].questions == epochs[3]


def test_a_mirrored_picture_is_asked_about_the_other_side(root: Path) -> None:
    straight, mirrored = (
        ImageDataset(find("shapes_train"), root, Square(size=64, flip=flip), ["vqa"], training=True) for flip in (0.0, 1.0)
    )
    sides = 0
    for index in range(20):
        before, after = straight[(index, 0)], mirrored[(index, 0)]
        assert (before.image.flip(2).int() - after.image.int()).abs().max() <= 3
        asked = {question.id: question for question in before.questions}
        for question in after.questions:
            there = asked[question.id]
            if there.kind == "side":
                sides += 1
                assert {there.answers[0], question.answers[0]} == {"left", "right"}
                assert question.text == there.text.replace("left or right", "right or left")
            else:
                assert question == there
    assert sides


def test_a_blank_picture_says_nothing(root: Path) -> None:
    dataset = ImageDataset(find("shapes_val"), root, Square(size=64, blank=True), ["vqa"], training=False)
    assert len({tuple(dataset[i].image.flatten().tolist()) for i in range(3)}) == 1
    assert dataset[0].questions


def test_an_experiments_answers_are_those_of_the_questions() -> None:
    experiment = load(ExperimentConfig, Path(__file__).resolve().parents[2] / "configs/shapes/questions.yaml")
    assert experiment.model.answers is not None and set(experiment.model.answers.answers) == set(ANSWERS)
