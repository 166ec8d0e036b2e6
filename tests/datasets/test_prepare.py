"""Preparing official downloads: wrong input, interruptions, and many processes. What comes out is tested with the sets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.prepare import ade20k
from datasets.prepare.__main__ import DOWNLOADS, main
from tests.datasets import official


def test_nothing_there_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in DOWNLOADS:
        assert main([name, "--root", str(tmp_path), "--workers", "1"]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1 and str(tmp_path) in error


def _grey_instances(root: Path) -> None:
    official.save(root / official.ADE / "annotations_instance/validation/ADE_val_00000001.png", official.quarters(1, 2, 3, 0))


def _large_labels(root: Path) -> None:
    official.save(root / official.ADE / "annotations/validation/ADE_val_00000001.png", official.quarters(1, 2, 200, 0))


def _unknown_category(root: Path) -> None:
    drawn = np.zeros((official.HEIGHT, official.WIDTH, 3))
    drawn[0] = (101, 1, 0)
    official.save(root / official.ADE / "annotations_instance/validation/ADE_val_00000001.png", drawn)


def _truncated(root: Path) -> None:
    path = root / official.ADE / "annotations/validation/ADE_val_00000001.png"
    path.write_bytes(path.read_bytes()[:30])


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (_grey_instances, "annotations_instance.*expected an RGB image"),
        (_large_labels, "expected class numbers 0 to 150"),
        (_unknown_category, "object 1 has category 101; expected 1 to 100"),
        (_truncated, "the image is damaged or incomplete"),
    ],
)
def test_wrong_input(damage: Callable[[Path], None], sentence: str, tmp_path: Path) -> None:
    official.ade(tmp_path, "val", False)
    damage(tmp_path)
    with pytest.raises(ValueError, match=sentence):
        ade20k.prepare(tmp_path)
    assert not (tmp_path / official.ADE / "ade20k_panoptic_val.json").exists()


def test_an_interrupted_preparation_goes_on(tmp_path: Path) -> None:
    """What was noted is not made again, a half-written note is, and the file is the same."""
    official.ade(tmp_path / "whole", "val", True)
    official.ade(tmp_path / "part", "val", False)
    home = tmp_path / "part" / official.ADE
    label = home / "annotations/validation/ADE_val_00000002.png"
    kept = label.read_bytes()
    label.write_bytes(b"half")
    with pytest.raises(ValueError, match="the image is damaged or incomplete"):
        ade20k.prepare(tmp_path / "part")
    notes = home / ".ade20k_val.part"
    assert notes.read_text().count("\n") == 1
    notes.write_text(notes.read_text() + '["ADE_val_00000002", {"ima')
    label.write_bytes(kept)
    (home / "annotations_instance/validation/ADE_val_00000001.png").unlink()  # is not looked at again
    ade20k.prepare(tmp_path / "part")
    for name in ("ade20k_panoptic_val.json", "ade20k_instance_val.json"):
        assert (home / name).read_text() == (tmp_path / "whole" / official.ADE / name).read_text()
    assert not notes.exists()


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    official.ade(tmp_path, "val", True)
    path = tmp_path / official.ADE / "ade20k_panoptic_val.json"
    before = path.stat().st_mtime_ns
    ade20k.prepare(tmp_path)
    assert path.stat().st_mtime_ns == before


def test_many_processes_make_the_same(tmp_path: Path) -> None:
    for workers, root in ((1, tmp_path / "one"), (2, tmp_path / "two")):
        official.ade(root, "val", False)
        ade20k.prepare(root, workers)
    one, two = (tmp_path / name / official.ADE / "ade20k_panoptic_val.json" for name in ("one", "two"))
    assert one.read_text() == two.read_text()


def test_full_ade_is_shrunk(tmp_path: Path) -> None:
    """To a short side of 512 where it is larger; labels stay whole numbers."""
    home = tmp_path / "ADE20K_2021_17_01/images/ADE/validation/urban/street"
    official.save(home / "ADE_val_00000001.jpg", np.zeros((600, 900, 3)))
    coded = np.zeros((600, 900, 3))
    coded[:, 450:] = (2978 // 256 * 10, 2978 % 256, 0)  # wall
    official.save(home / "ADE_val_00000001_seg.png", coded)
    ade20k.prepare_full(tmp_path)
    out = tmp_path / "ADE20K_2021_17_01"
    with Image.open(out / "images_detectron2/validation/ADE_val_00000001.jpg") as image:
        assert image.size == (768, 512)
    with Image.open(out / "annotations_detectron2/validation/ADE_val_00000001.tif") as image:
        labels = np.array(image)
    assert labels.dtype == np.uint16 and labels.shape == (512, 768)
    assert (labels[:, :384] == 65535).all() and (labels[:, 384:] == 0).all()


def test_groups_are_crowds(tmp_path: Path) -> None:
    official.cityscapes(tmp_path, "val", "panoptic")
    content = json.loads((tmp_path / "cityscapes/gtFine/cityscapes_panoptic_val.json").read_text())
    infos = [(info["category_id"], info["iscrowd"], info["area"]) for info in content["annotations"][0]["segments_info"]]
    assert sorted(infos) == [(7, 0, 96), (26, 0, 96), (26, 1, 96)]


def test_arrows(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow", reason="arrow files need pyarrow")
    official.karpathy(tmp_path, "coco", "annotations/dataset_coco.json", "test")
    assert main(["coco_arrows", "--root", str(tmp_path)]) == 0
    path = tmp_path / "pretrain_arrows_code224/coco_caption_karpathy_test.arrow"
    with arrow.memory_map(str(path)) as source:
        rows = arrow.ipc.open_file(source).read_all().to_pylist()
    assert [row["image_id"] for row in rows] == ["0.jpg", "1.jpg"] and len(rows[0]["caption"]) == 5
    assert rows[0]["image"] == (tmp_path / "coco/val2014/0.jpg").read_bytes() and rows[0]["split"] == "test"
