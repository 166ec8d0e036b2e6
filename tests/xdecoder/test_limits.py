"""Files of weights that claim what they do not hold, or hold what no network is made of."""

from __future__ import annotations

import io
import pickle
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import xdecoder
from tests.tiny import tiny_config, tiny_model
from xdecoder import checkpoint
from xdecoder.limits import check_archive, check_sizes
from xdecoder.published.checkpoints import initialise


def content() -> dict[str, Any]:
    model = tiny_model()
    return {"format": checkpoint.FORMAT, "config": model.config.model_dump(mode="json"), "model": model.state_dict()}


NAME = "decoder.query_content.weight"  # (9, 32)


def _weight(make: Callable[[], Any]) -> Callable[[dict[str, Any]], None]:
    def change(found: dict[str, Any]) -> None:
        found["model"] = {**found["model"], NAME: make()}

    return change


def _setting(value: Any, *keys: str) -> Callable[[dict[str, Any]], None]:
    def change(found: dict[str, Any]) -> None:
        inner = found
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value

    return change


def _quantised() -> torch.Tensor:
    return torch.quantize_per_tensor(torch.zeros(9, 32), 0.1, 0, torch.qint8)


@pytest.mark.filterwarnings("ignore:.*quantize.*")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_weight(lambda: "text"), f"weight '{NAME}' is str and not a tensor"),
        (_weight(lambda: torch.zeros(9, 32, device="meta")), f"weight '{NAME}' has a shape but no numbers"),
        (_weight(lambda: torch.zeros(9, 32).to_sparse()), f"weight '{NAME}' is float32, sparse_coo; expected dense"),
        (_weight(lambda: torch.zeros(9, 32, dtype=torch.complex64)), f"weight '{NAME}' is complex64"),
        (_weight(_quantised), f"weight '{NAME}' is quantised"),
        (_weight(lambda: torch.zeros(1, 1).expand(10**6, 10**6)), r"claims \(1000000, 1000000\) numbers, more than the file"),
        (_weight(lambda: torch.zeros(10**9, 0)), "another architecture .*1 of another shape"),
        (_setting("text", "model"), "'config' or its 'model' is missing"),
        (_setting(torch.zeros(3), "config"), "'config' or its 'model' is missing"),
        (_setting(torch.zeros(3), "format"), r"not an X-Decoder checkpoint \(expected format 'xdecoder/2', found tensor"),
        (_setting({1: torch.zeros(3)}, "model"), "a weight is called 1; names are texts"),
        (_setting(torch.zeros(3), "config", "decoder", "queries"), "its architecture holds Tensor"),
        (_setting("many", "config", "decoder", "queries"), "decoder.queries': .* written by another version"),
        (_setting([0] * 20_000, "config", "decoder", "queries"), "its architecture has more than 10000 values"),
        (_setting(10**9, "config", "decoder", "queries"), "decoder.queries is 1000000000; at most 1000000 could be built"),
        (_setting(10**7, "config", "decoder", "layers"), r"decoder.layers is 10000000; at most \d+ could be built"),
        (_setting([1, 1, 10**7, 1], "config", "backbone", "depths"), r"backbone.depths is 10000000; at most \d+ could"),
        (_setting(10**6, "config", "image_size"), "image_size is 1000000; at most 8192 could be built"),
        (_setting(900_000, "config", "decoder", "hidden"), "another architecture .*12 of another shape"),
        (_setting(0, "config", "decoder", "heads"), "its architecture cannot be built"),
        (_setting(-9, "config", "decoder", "queries"), "its architecture cannot be built"),
    ],
)
def test_what_no_network_is_made_of(tmp_path: Path, change: Callable[[Any], None], message: str) -> None:
    found = content()
    change(found)
    torch.save(found, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=rf"model\.pt: .*{message}") as error:
        xdecoder.load(tmp_path / "model.pt")
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


@pytest.mark.parametrize("value", ["text", torch.zeros(9, 32, device="meta"), torch.zeros(1, 1).expand(10**6, 10**6)])
def test_training_starts_from_nothing_else_either(tmp_path: Path, value: Any) -> None:
    found = content()
    _weight(lambda: value)(found)
    torch.save(found, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=rf"model\.pt: weight '{NAME}' (is str|has a shape|claims)"):
        initialise(tiny_model(), tmp_path / "model.pt")


def test_sizes_are_compared_before_memory_is_asked_for(tmp_path: Path) -> None:
    torch.save(content(), tmp_path / "model.pt")
    check_archive(tmp_path / "model.pt")
    with (
        zipfile.ZipFile(tmp_path / "model.pt") as plain,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for each in plain.infolist():
            packed.writestr(each.filename, plain.read(each))
        packed.writestr("archive/data/bomb", bytes(10**8))
    claiming = (tmp_path / "model.pt").read_bytes()
    entry = claiming.rindex(b"PK\x01\x02")  # of the last member, in the directory
    (tmp_path / "claims.pt").write_bytes(claiming[: entry + 24] + b"\xff\xff\xff\x7f" + claiming[entry + 28 :])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"bomb\.pt: refused, its members are compressed"):
        xdecoder.load(tmp_path / "bomb.pt")
    with pytest.raises(ValueError, match=r"claims\.pt: refused, its members claim more bytes than the file has"):
        xdecoder.load(tmp_path / "claims.pt")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000, "kB"


class Bomb:
    def __reduce__(self) -> tuple[type, tuple[int]]:
        return bytearray, (10**12,)


def test_a_pickle_gets_no_memory_for_nothing(tmp_path: Path) -> None:
    torch.save({"model": Bomb()}, tmp_path / "new.pt")
    torch.save({"model": Bomb()}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("new.pt", "old.pt"):
        with pytest.raises(ValueError, match=f"{name}: refused, it asks for memory"):
            xdecoder.load(tmp_path / name)


def test_deep_and_endless_content(tmp_path: Path) -> None:
    for depth in (500, 50_000):
        nested = io.BytesIO()
        nested.write(b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b".")
        (tmp_path / "deep.pt").write_bytes(nested.getvalue())
        with pytest.raises(ValueError, match=r"deep\.pt: "):
            xdecoder.load(tmp_path / "deep.pt")
    (tmp_path / "list.pt").write_bytes(pickle.dumps([1, 2], protocol=2))
    with pytest.raises(ValueError, match=r"list\.pt: "):
        xdecoder.load(tmp_path / "list.pt")


def test_sizes_of_networks_that_are_built_are_fine() -> None:
    check_sizes(tiny_config(), "tiny")
