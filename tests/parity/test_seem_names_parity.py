"""Names, shapes and types of the nine published SEEMs, in both directions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.parity.recorded import names_of_seem
from xdecoder.config import parse
from xdecoder.published.architectures import SEEM
from xdecoder.published.names import BUFFERS, convert, to_ours, to_published, to_published_state
from xdecoder.seem.network import Seem, SeemConfig
from xdecoder.seem.tables import VERSIONS

SIZES = {
    "focalt": 164_619_249,
    "focall": 341_181_177,
    "davitd3": 221_870_081,
    "davitd5": 496_558_081,
    "samvitb": 215_563_649,
    "samvitl": 440_538_689,
}
NETWORKS = [(name, "v1") for name in SEEM] + [("focalt", "v0"), ("focall", "v0"), ("focalt", "demo")]


def empty(architecture: str, version: str) -> Seem:
    with torch.device("meta"):
        return Seem(parse(SeemConfig, {"name": "seem", **SEEM[architecture], **VERSIONS[version]}))


def described(state: dict[str, Tensor]) -> dict[str, list]:
    return {name: [list(value.shape), str(value.dtype).removeprefix("torch.")] for name, value in state.items()}


@pytest.mark.parametrize("architecture", SEEM)
def test_sizes(architecture: str) -> None:
    assert sum(parameter.numel() for parameter in empty(architecture, "v1").parameters()) == SIZES[architecture]


@pytest.mark.parametrize(("architecture", "version"), NETWORKS)
def test_both_directions(architecture: str, version: str, oracle: Path) -> None:
    published = names_of_seem(oracle, f"{architecture}_{version}")
    ours = empty(architecture, version).state_dict()
    assert described(to_published_state(ours, None if version == "demo" else 133)) == published
    for name in published.keys() - set(BUFFERS):
        assert to_ours(name) in ours and to_published(to_ours(name)) == name
    assert {to_ours(name) for name in published.keys() - set(BUFFERS)} == ours.keys()


def test_every_published_file_is_tested(oracle: Path) -> None:
    assert {path.stem for path in (oracle / "seem/names").glob("*.json")} == {f"{name}_{version}" for name, version in NETWORKS}


def test_round_trip_is_bit_identical() -> None:
    ours = {name: torch.randn(value.shape) for name, value in empty("focalt", "v1").state_dict().items() if value.numel() < 1e6}
    ours |= {name: torch.zeros(1) for name in empty("focalt", "v1").state_dict() if name not in ours}
    back = convert(to_published_state(ours))
    assert back.keys() == ours.keys()
    assert all(torch.equal(back[name], value) for name, value in ours.items())
