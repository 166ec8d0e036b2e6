"""The networks of the house, and those from outside, as one type of setting."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, SerializeAsAny, Tag, WrapValidator

from xdecoder.extensions import imported
from xdecoder.model import XDecoderConfig
from xdecoder.network import NetworkConfig

OUTSIDE = "package.module:Config"


def _kind(value: Any) -> str:
    name = value.get("name", "xdecoder") if isinstance(value, dict) else getattr(value, "name", "xdecoder")
    return OUTSIDE if ":" in str(name) else str(name)


def _from_outside(value: Any, _: Any) -> NetworkConfig:
    if isinstance(value, NetworkConfig):
        return value
    kind = imported(value["name"], NetworkConfig)
    return kind.model_validate(value)


AnyNetwork = Annotated[
    Annotated[XDecoderConfig, Tag("xdecoder")]
    | Annotated[SerializeAsAny[NetworkConfig], WrapValidator(_from_outside), Tag(OUTSIDE)],
    Discriminator(_kind),
]
"""Settings of any network, told apart by `name`; one without a name is an X-Decoder's. `name: package.module:Config` is a
network from outside: a subclass of `NetworkConfig` in a package that is installed."""
