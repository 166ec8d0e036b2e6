"""An index of a folder: exact, taken up where it was left, and of one network."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from tests.tiny import tiny_model
from xdecoder import checkpoint, cli
from xdecoder.inference import index
from xdecoder.inference.predictor import Predictor
from xdecoder.regions import EverythingConfig

ANYTHING = EverythingConfig(quality=0, overlap=1)  # of a network that has learnt nothing


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(tiny_model())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(7):
        paint(tmp_path / "photos" / ("deep" if number % 2 else "") / f"{number}.png", number)
    return tmp_path / "photos"


def paint(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(path)


def test_the_nearest_are_those_that_match_says(predictor: Predictor, folder: Path, tmp_path: Path) -> None:
    assert index.build(predictor, folder, tmp_path / "index", ANYTHING) == 7
    found = index.load(tmp_path / "index", predictor)
    hits = index.search(predictor, found, "a red star", count=5)
    cosines = {name: predictor.match(folder / name, ["a red star"]).item() for name in found.names}
    best = sorted(cosines, key=lambda name: -cosines[name])
    assert [hit.name for hit in hits] == best[:5]
    assert [hit.score for hit in hits] == pytest.approx([cosines[name] for name in best[:5]], abs=1e-5)
    by_region = index.search(predictor, found, "a red star", count=3, regions=True)
    regions = predictor.everything(by_region[0].path, config=ANYTHING)
    query = torch.nn.functional.normalize(predictor.model.language.encode(["a red star"]).vectors, dim=-1)
    assert by_region[0].score == pytest.approx(float((regions.vectors @ query.T.detach()).max()), abs=1e-5)
    x, y, width, height = by_region[0].box
    assert 0 <= x < x + width <= 60 and 0 <= y < y + height <= 40
    with pytest.raises(ValueError, match="faiss is not installed"):
        index.search(predictor, found, "a red star", faiss=True)


def test_killed_and_taken_up_nothing_is_lost_or_doubled(
    predictor: Predictor, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "PART", 2)
    target = tmp_path / "index"

    def killed(done: int, whole: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index.build(predictor, folder, target, ANYTHING, killed)
    assert len(index.load(target, predictor).names) == 4
    assert index.build(predictor, folder, target, ANYTHING) == 3 and index.build(predictor, folder, target, ANYTHING) == 0
    whole, at_once = index.load(target, predictor), tmp_path / "other"
    index.build(predictor, folder, at_once, ANYTHING)
    other = index.load(at_once, predictor)
    assert sorted(whole.names) == sorted(other.names) and len(whole.names) == 7
    order = [whole.names.index(name) for name in other.names]
    torch.testing.assert_close(whole.images[order], other.images)
    assert 0 < len(whole.regions) == len(other.regions) == len(whole.boxes) == len(whole.owners)


def test_what_changed_is_encoded_again_and_what_is_gone_is_not_found(
    predictor: Predictor, folder: Path, tmp_path: Path
) -> None:
    target = tmp_path / "index"
    (folder / "broken.jpg").write_bytes(b"no picture")
    assert index.build(predictor, folder, target) == 7
    assert list(json.loads((target / "faults.json").read_text())) == ["broken.jpg"]
    before = index.load(target, predictor)
    paint(folder / "0.png", 99)
    os.utime(folder / "0.png", ns=(1, 1))
    (folder / "2.png").unlink()
    assert index.build(predictor, folder, target) == 1
    after = index.load(target, predictor)
    assert sorted(after.names) == sorted(set(before.names) - {"2.png"})
    same, changed = ("4.png", "0.png")
    assert torch.equal(before.images[before.names.index(same)], after.images[after.names.index(same)])
    assert not torch.equal(before.images[before.names.index(changed)], after.images[after.names.index(changed)])
    damaged = target / "000000.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"000000\.safetensors: no part of an index, or damaged; delete it"):
        index.load(target, predictor)


@pytest.mark.parametrize("content", [[], {}, {"format": "other/1"}, {"folder": 3}, {"network": None}])
def test_what_is_no_index_is_said_to_be_none(predictor: Predictor, tmp_path: Path, content: Any) -> None:
    (tmp_path / "index.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"index\.json: "):
        index.load(tmp_path, predictor)


@pytest.mark.parametrize("name", ["../outside", "/etc/photo", "deep/../../outside"])
def test_no_name_leads_out_of_the_folder(predictor: Predictor, folder: Path, tmp_path: Path, name: str) -> None:
    target = tmp_path / "index"
    index.build(predictor, folder, target, ANYTHING)
    part = target / "000000.safetensors"
    with safe_open(part, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        stamps = json.loads(file.metadata()["pictures"])
    wrong = {name if i == 0 else other: stamp for i, (other, stamp) in enumerate(stamps.items())}
    save_file(tensors, part, {"pictures": json.dumps(wrong)})
    with pytest.raises(ValueError, match=r"000000\.safetensors: no part of an index"):
        index.load(target, predictor)
    for other in (
        {"owners": tensors["owners"][1:]},
        {"images": tensors["images"] * float("nan")},
        {"read": tensors["read"][1:]},
    ):
        save_file(tensors | other, part, {"pictures": json.dumps(stamps)})
        with pytest.raises(ValueError, match=r"000000\.safetensors: no part of an index"):
            index.load(target, predictor)


def test_a_picture_full_of_fitting_regions_does_not_keep_others_out(predictor: Predictor) -> None:
    query = torch.nn.functional.normalize(predictor.model.language.encode(["a red star"]).vectors, dim=-1)[0].detach()
    regions = torch.cat([query.repeat(50, 1), 0.5 * query[None], 0.4 * query[None]])
    owners = torch.tensor([0] * 50 + [1, 2])
    found = index.Index(Path("photos"), ("a", "b", "c"), torch.zeros(3, 1, 32), regions, owners, torch.ones(52, 4).long())
    hits = index.search(predictor, found, "a red star", count=2, regions=True)
    assert [hit.name for hit in hits] == ["a", "b"]
    assert [hit.name for hit in index.search(predictor, found, "a red star", 9, True)] == ["a", "b", "c"]


def test_the_command(folder: Path, tmp_path: Path, capsys: Any) -> None:
    checkpoint.save(tiny_model(), tmp_path / "model.pt")
    network = ["--checkpoint", str(tmp_path / "model.pt"), "--device", "cpu"]
    target, out = str(tmp_path / "index"), tmp_path / "out"
    assert cli.main(["index", str(folder), "--out", target, "--no-regions", *network]) == 0
    assert "7 pictures encoded" in capsys.readouterr().out
    assert cli.main(["search", target, "a red star", "--count", "2", "--out", str(out), *network]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 2 and rows[0]["score"] >= rows[1]["score"] and all(Path(row["picture"]).is_file() for row in rows)
    named = [Path(row["picture"]).relative_to(folder) for row in rows]
    assert sorted(path.relative_to(out) for path in out.rglob("*.png")) == sorted(Path(f"{name}.png") for name in named)
    assert cli.main(["search", target, "a red star", "--regions", *network]) == 2
    assert "the index has no regions" in capsys.readouterr().err
    checkpoint.save(tiny_model(seed=1), tmp_path / "model.pt")
    assert cli.main(["search", target, "a red star", *network]) == 2
    assert "an index of another network" in capsys.readouterr().err
    assert cli.main(["index", str(folder), "--out", target, *network]) == 2
    assert "an index with another network" in capsys.readouterr().err
