"""Readers on small hand-made sets, on broken ones, and on the real kit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datasets.catalog import find
from datasets.dataset import ImageDataset
from datasets.outlines import outline_mask
from datasets.readers import read
from datasets.readers.captions import CaptionsSpec
from datasets.readers.coco import CocoSpec
from datasets.readers.images import read_image, read_regions
from datasets.readers.label_images import LabelImagesSpec
from datasets.records import Record
from datasets.spec import DatasetSpec
from xdecoder.resizing import Stretch
from xdecoder.types import Vocabulary

KIT = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
needs_kit = pytest.mark.skipif(not KIT.is_dir(), reason="the real-data kit is not at ../shared/data")

CATEGORIES = [
    {"id": 92, "name": "sky", "isthing": 0},
    {"id": 7, "name": "cat", "isthing": 1},
    {"id": 1, "name": "dog", "isthing": 1},
]
PANOPTIC = CocoSpec(
    name="tiny", images="images", panoptic="p.json", panoptic_images="maps", phrases="r.json", captions="c.json"
)
LABELS = LabelImagesSpec(name="tiny", images="images", labels="maps", classes=("a", "b"), label_offset=1, ignore_value=0)


def _json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """One 6x8 picture: 300 is a dog, 70000 a crowd of cats, 5 the sky, the last column void."""
    (tmp_path / "images").mkdir()
    (tmp_path / "maps").mkdir()
    Image.fromarray(np.full((6, 8, 3), 9, dtype=np.uint8)).save(tmp_path / "images/one.jpg")
    ids = np.full((6, 8), 5)
    ids[:2, :3], ids[4:, 4:7], ids[:, 7] = 300, 70000, 0
    _save_ids(tmp_path, ids)
    crowd = {"id": 70000, "category_id": 7, "iscrowd": 1}
    infos = [{"id": 300, "category_id": 1}, {"id": 5, "category_id": 92, "iscrowd": 0}, crowd]
    images = [{"id": 11, "file_name": "one.jpg", "height": 6, "width": 8}]
    annotations = [{"image_id": 11, "file_name": "one.png", "segments_info": infos}]
    _json(tmp_path / "p.json", {"images": images, "annotations": annotations, "categories": CATEGORIES})
    _json(tmp_path / "c.json", {"annotations": [{"image_id": 11, "caption": " A dog. "}, {"image_id": 12, "caption": "x"}]})
    refs = {
        "id": 3,
        "image_id": 11,
        "category_id": 1,
        "segmentation": [[0, 0, 3, 0, 3, 2, 0, 2]],
        "sentences": [{"raw": "The DOG", "sent": "dog"}, {"sent": "left one"}],
    }
    apart = {"ann_id": 3, "sentences": [{"sent": "it"}]}
    _json(tmp_path / "r.json", {"images": images, "annotations": [refs], "refs": [apart]})
    return tmp_path


def _save_ids(root: Path, ids: np.ndarray) -> None:
    colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    Image.fromarray(colours).save(root / "maps/one.png")


def _edit(path: Path, change: Any) -> None:
    content = json.loads(path.read_text())
    change(content)
    _json(path, content)


def _decode(root: Path, spec: DatasetSpec) -> Any:
    source = read(spec, root)
    assert source.vocabulary is not None
    pixels = read_image(source.records[0])
    return read_regions(source.records[0], spec, source.vocabulary, (pixels.shape[0], pixels.shape[1]))


def test_panoptic(root: Path) -> None:
    source = read(PANOPTIC, root)
    assert source.vocabulary == Vocabulary(("dog", "cat", "sky"), (True, True, False))  # in the order of category ids
    record = source.records[0]
    assert (record.id, record.height, record.width, record.captions) == (11, 6, 8, ("A dog.",))
    assert record.references[0].sentences == ("the dog", "left one", "it")
    regions = _decode(root, PANOPTIC)
    assert regions.labels.tolist() == [0, 2, 1] and regions.crowd.tolist() == [False, False, True]
    masks = regions.masks()
    assert masks.sum((1, 2)).tolist() == [6, 30, 6] and masks[0, :2, :3].all() and masks[2, 4:, 4:7].all()
    assert not masks[:, :, 7].any()


def test_many_segments_keep_their_numbers(root: Path) -> None:
    """More than 255 segments do not fit a byte."""
    rng = np.random.default_rng(0)
    ids = rng.permutation(1 << 24)[:400].reshape(20, 20)
    ids[ids == 0] = 7
    _save_ids(root, ids)
    Image.fromarray(np.zeros((20, 20, 3), dtype=np.uint8)).save(root / "images/one.jpg")

    def change(content: Any) -> None:
        content["images"][0].update(height=20, width=20)
        content["annotations"][0]["segments_info"] = [{"id": int(i), "category_id": 7} for i in ids.ravel()]

    _edit(root / "p.json", change)
    masks = _decode(root, PANOPTIC).masks()
    assert np.array_equal(np.argmax(masks.reshape(400, -1), axis=1), np.arange(400)) and (masks.sum((1, 2)) == 1).all()


def test_instances(root: Path) -> None:
    square = [[1, 1, 5, 1, 5, 4, 1, 4]]
    annotations = [
        {"image_id": 11, "category_id": 1, "segmentation": square},
        {"image_id": 11, "category_id": 7, "iscrowd": 1, "segmentation": {"size": [6, 8], "counts": [0, 12, 36]}},
    ]
    things = [row for row in CATEGORIES if row["isthing"]]
    images = [{"id": 11, "file_name": "one.jpg", "height": 6, "width": 8}]
    _json(root / "i.json", {"images": images, "annotations": annotations, "categories": things})
    regions = _decode(root, CocoSpec(name="tiny", images="images", instances="i.json"))
    assert regions.labels.tolist() == [0, 1] and regions.crowd.tolist() == [False, True]
    assert regions.masks()[0, 1:4, 1:5].all() and regions.masks()[0].sum() == 12
    assert regions.masks()[1, :, :2].all() and regions.masks()[1].sum() == 12  # RLE counts run down the columns


def test_overlapping_polygons_are_united() -> None:
    twice = outline_mask([[0, 0, 4, 0, 4, 4, 0, 4], [2, 2, 6, 2, 6, 6, 2, 6]], 8, 8, "x")
    assert twice.dtype == bool and twice.sum() == 16 + 16 - 4
    with pytest.raises(ValueError, match="picture 3: its RLE's size"):
        outline_mask({"size": [2, 2], "counts": [4]}, 8, 8, "picture 3")


def test_label_images(root: Path) -> None:
    values = np.array([[0, 1, 2, 2]] * 6, dtype=np.uint8).repeat(2, axis=1)
    Image.fromarray(values).save(root / "maps/one.png")
    regions = _decode(root, LABELS)
    assert regions.labels.tolist() == [0, 1] and regions.masks().sum((1, 2)).tolist() == [12, 24]
    Image.fromarray(values + 1).save(root / "maps/one.png")
    with pytest.raises(ValueError, match=r"one.png: holds value 3; expected 1 to 2, or 0, which is unlabelled"):
        _decode(root, LABELS)
    (root / "maps/one.png").unlink()
    with pytest.raises(ValueError, match="every picture of .* needs its label image"):
        read(LABELS, root)


def test_class_lists(root: Path) -> None:
    Image.fromarray(np.zeros((6, 8), dtype=np.uint8)).save(root / "maps/one.png")
    (root / "names.txt").write_text("a\nb\nunlabelled\n")
    spec = LABELS.model_copy(update={"classes": "names.txt", "label_offset": 0, "ignore_value": 2, "things": ("b",)})
    assert read(spec, root).vocabulary == Vocabulary(("a", "b"), (False, True))
    (root / "names.txt").write_text("a\na\nunlabelled\n")
    with pytest.raises(ValueError, match="names.txt: .*'a' stands more than once"):
        read(spec.model_copy(update={"things": ()}), root)
    with pytest.raises(ValueError, match="'b' of `things` is not among the classes"):
        read(spec, root)


def test_caption_files(root: Path) -> None:
    (root / "t.txt").write_text("one.jpg#0\tA dog .\none.jpg#1\tIt runs .\ntwo.jpg#0\tx\n")
    (root / "split.txt").write_text("one.jpg\n")
    spec = CaptionsSpec(name="tiny", images="images", captions="t.txt", split="split.txt")
    assert [record.captions for record in read(spec, root).records] == [("A dog .", "It runs .")]
    (root / "split.txt").write_text("three.jpg\n")
    with pytest.raises(ValueError, match="t.txt: has no caption of three.jpg"):
        read(spec, root)
    (root / "t.txt").write_text("one.jpg A dog\n")
    with pytest.raises(ValueError, match="t.txt: line 1 should read"):
        read(spec, root)


def test_orientation_tag_only_where_nothing_is_annotated(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    Image.fromarray(np.zeros((6, 8, 3), dtype=np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(Record("a", tmp_path / "a.jpg")).shape == (8, 6, 3)
    assert read_image(Record("a", tmp_path / "a.jpg", regions=())).shape == (6, 8, 3)


def _missing(root: Path) -> None:
    (root / "images/one.jpg").unlink()


def _truncated(root: Path) -> None:
    path = root / "images/one.jpg"
    path.write_bytes(path.read_bytes()[:-40])


def _web_page(root: Path) -> None:
    (root / "p.json").write_text("<!DOCTYPE html><html></html>")


def _other_size(root: Path) -> None:
    _edit(root / "p.json", lambda content: content["images"][0].update(width=9))


def _unknown_category(root: Path) -> None:
    _edit(root / "p.json", lambda content: content["annotations"][0]["segments_info"][0].update(category_id=55))


def _unlisted_id(root: Path) -> None:
    _edit(root / "p.json", lambda content: content["annotations"][0]["segments_info"].pop())


def _absent_id(root: Path) -> None:
    _edit(root / "p.json", lambda content: content["annotations"][0]["segments_info"].append({"id": 77, "category_id": 7}))


def _twice(root: Path) -> None:
    _edit(root / "p.json", lambda content: content["categories"][0].update(name="dog"))


def _no_segments(root: Path) -> None:
    _edit(root / "p.json", lambda content: content["annotations"][0].pop("segments_info"))


def _a_list(root: Path) -> None:
    _json(root / "p.json", [])


def _grey_map(root: Path) -> None:
    Image.fromarray(np.zeros((6, 8), dtype=np.uint8)).save(root / "maps/one.png")


def _small_map(root: Path) -> None:
    _save_ids(root, np.full((3, 4), 5))


def _text_as_image(root: Path) -> None:
    (root / "images/one.jpg").write_text("hello")


def _no_folder(root: Path) -> None:
    _missing(root)
    (root / "images").rmdir()


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (_missing, r"one.jpg: no such picture"),
        (_truncated, r"one.jpg: the picture is damaged or incomplete"),
        (_text_as_image, r"one.jpg: the picture is damaged or incomplete"),
        (_web_page, r"p.json: expected JSON, found an HTML page"),
        (_other_size, r"one.jpg: is 8x6 pixels, but its annotation says 9x6"),
        (_unknown_category, r"p.json: picture 11 has category 55, which is none of the set's classes"),
        (_unlisted_id, r"one.png: holds id 70000, which its JSON's segments_info does not list"),
        (_absent_id, r"one.png: holds no pixel of id 77"),
        (_twice, r"p.json: class names must differ, but 'dog'"),
        (_no_segments, r"p.json: entry 0 of 'annotations' lacks 'segments_info'"),
        (_a_list, r"p.json: expected a COCO JSON"),
        (_grey_map, r"one.png: is a L image; a panoptic PNG is RGB"),
        (_small_map, r"one.png: is 4x3 pixels, but its picture is 8x6"),
        (_no_folder, r"images: no such folder; data set 'tiny' has its pictures there"),
    ],
)
def test_damage_is_one_sentence(root: Path, damage: Any, sentence: str) -> None:
    damage(root)
    with pytest.raises(ValueError, match=sentence) as caught:
        _decode(root, PANOPTIC)
    assert "\n" not in str(caught.value)


def test_missing_root(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data root .*nowhere does not exist; set data.root .*datasets.prepare shapes"):
        read(find("shapes_val"), tmp_path / "nowhere")


def test_wrong_count(root: Path) -> None:
    with pytest.raises(ValueError, match="has 1 pictures; expected 3"):
        read(PANOPTIC.model_copy(update={"count": 3}), root)


def test_a_part_of_a_set_serves_whoever_asks_for_few(root: Path) -> None:
    part, shown = PANOPTIC.model_copy(update={"count": 3}), Stretch(size=32)
    assert len(ImageDataset(part, root, shown, ("segmentation",), training=False, limit=1)) == 1
    with pytest.raises(ValueError, match="has 1 pictures; expected 3"):
        ImageDataset(part, root, shown, ("segmentation",), training=False)


@needs_kit
@pytest.mark.parametrize(("split", "segments"), [("train", 1111), ("val", 1078)])
def test_real_panoptic(split: str, segments: int) -> None:
    spec = find(f"coco_kit_{split}")
    source = read(spec, KIT)
    assert source.vocabulary is not None and len(source.vocabulary) == 133 and sum(source.vocabulary.is_thing) == 80
    assert source.vocabulary.names[:2] == ("person", "bicycle") and source.vocabulary.names[80] == "banner"
    assert sum(len(record.regions or ()) for record in source.records) == segments
    assert sum(len(record.captions) for record in source.records) == (501 if split == "val" else 0)
    stated = {a["image_id"]: a["segments_info"] for a in json.loads((KIT / str(spec.panoptic)).read_text())["annotations"]}
    for record in source.records[:8]:
        assert record.height is not None and record.width is not None
        masks = read_regions(record, spec, source.vocabulary, read_image(record).shape[:2]).masks()  # type: ignore[arg-type]
        assert masks.sum((1, 2)).tolist() == [info["area"] for info in stated[record.id]]


@needs_kit
def test_real_phrases() -> None:
    source = read(find("coco_refs"), KIT)
    references = [reference for record in source.records for reference in record.references]
    assert len(references) == 68 and sum(len(reference.sentences) for reference in references) == 207
    raw = json.loads((KIT / "coco_refs/refs.json").read_text())
    area = {annotation["id"]: annotation["area"] for annotation in raw["annotations"]}
    for record in source.records[:10]:
        for reference in record.references:
            mask = outline_mask(reference.outline, record.height or 0, record.width or 0, "kit")
            assert mask.sum() == pytest.approx(area[reference.id], rel=0.1)  # polygons' area against rasterised


@needs_kit
def test_real_label_images_and_captions() -> None:
    camvid = read(find("camvid_test"), KIT)
    assert camvid.vocabulary is not None and camvid.vocabulary.names[0] == "sky" and len(camvid.vocabulary) == 11
    regions = read_regions(camvid.records[0], camvid.spec, camvid.vocabulary, (360, 480))
    values = np.asarray(Image.open(camvid.records[0].id_map))  # type: ignore[arg-type]
    for label, mask in zip(regions.labels, regions.masks(), strict=True):
        assert np.array_equal(mask, values == label)
    assert 11 not in regions.labels
    flickr = read(find("flickr8k_test"), KIT)
    assert len(flickr.records) == 1000 and all(len(record.captions) == 5 for record in flickr.records)
