"""The name of a file tells SEEM's version, an argument overrides it, and if neither says, one sentence asks."""

from __future__ import annotations

import pytest

from xdecoder.published.seem import version_of


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("seem_focalt_v0.pt", "v0"),
        ("weights/seem_focall_v1.pt", "v1"),
        ("seem_samvitb_v1.pt", "v1"),
        ("SEEM-FocalT-V0.safetensors", "v0"),
        ("v1/seem_focalt_v0.pt", "v0"),
    ],
)
def test_by_name(name: str, version: str) -> None:
    assert version_of(name) == version


@pytest.mark.parametrize("version", ["v0", "v1", "demo"])
def test_an_argument_overrides(version: str) -> None:
    assert version_of("seem_focalt_v1.pt", version) == version == version_of("model.pt", version)


@pytest.mark.parametrize("name", ["model.pt", "seem_v10.pt", "seemv1.pt", "seem_v0_v1.pt"])
def test_neither_says(name: str) -> None:
    with pytest.raises(ValueError, match=f'{name}: .*look alike inside; say which it is with version="v0" or version="v1"$'):
        version_of(name)


def test_an_unknown_version() -> None:
    with pytest.raises(ValueError, match="unknown version 'v2' of SEEM; expected one of v0, v1, demo"):
        version_of("seem_focalt_v1.pt", "v2")
