from __future__ import annotations

import pytest
import torch

from trainer.precision import resolve
from xdecoder.config import ConfigError

CPU = torch.device("cpu")


def test_auto_is_float32_on_the_processor() -> None:
    precision = resolve("auto", CPU)
    with precision.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.float32
    assert not precision.scaler().is_enabled()


def test_bf16_computes_in_bf16() -> None:
    with resolve("bf16", CPU).autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.bfloat16


def test_auto_on_a_gpu_takes_bf16_where_it_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert resolve("auto", gpu).dtype is torch.bfloat16
    assert resolve("fp16", gpu).dtype is torch.float16
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    assert resolve("auto", gpu).dtype is None
    with pytest.raises(ConfigError, match="this GPU has no bf16"):
        resolve("bf16", gpu)


def test_fp16_needs_a_gpu() -> None:
    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        resolve("fp16", CPU)
