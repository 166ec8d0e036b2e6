from __future__ import annotations

import pytest
import torch

from trainer.meter import Meter, NonFiniteError, summary

CPU = torch.device("cpu")


def test_means_over_steps_and_parts() -> None:
    meter = Meter(CPU, watch_gradient=True)
    for step, loss in enumerate((2.0, 6.0), start=1):
        for share in (0.5, 1.5):
            meter.add_terms({"a/x": torch.tensor(loss * share)}, parts=2)
        meter.add_step(step, torch.tensor(loss), torch.tensor(loss / 2), ["s/1", "s/2"])
    meter.leave_out(-1.0)
    figures = meter.flush(processes=3)
    assert figures["loss"] == 4.0
    assert figures["losses"] == {"a/x": 4.0}
    assert figures["gradient_norm"] == 2.0
    assert figures["images_per_second"] == pytest.approx(12, rel=0.05)     # 2 steps of 2 pictures in 3 processes in one second
    meter.add_terms({"b": torch.tensor(1.0)}, parts=1)
    meter.add_step(3, torch.tensor(1.0), torch.tensor(1.0), [])
    assert meter.flush(1)["losses"] == {"b": 1.0}, "a flush starts afresh"


@pytest.mark.parametrize(("loss", "norm", "what"), [(float("nan"), 1.0, "loss is nan"), (1.0, float("inf"), "norm is inf")])
def test_the_first_bad_step_is_named(loss: float, norm: float, what: str) -> None:
    meter = Meter(CPU, watch_gradient=True)
    meter.add_step(1, torch.tensor(1.0), torch.tensor(1.0), ["s/1"])
    assert meter.bad.item() == 0
    meter.add_step(2, torch.tensor(loss), torch.tensor(norm), [f"s/{i}" for i in range(12)])
    meter.add_step(3, torch.tensor(1.0), torch.tensor(1.0), ["s/99"])
    assert meter.bad.item() == 1, "the flag stays up"
    with pytest.raises(NonFiniteError, match=rf"step 2: the .*{what} on pictures s/0, .*s/7 and 4 more"):
        meter.check()


def test_overflowing_gradients_of_fp16_are_let_pass() -> None:
    meter = Meter(CPU, watch_gradient=False)
    meter.add_step(1, torch.tensor(1.0), torch.tensor(float("inf")), [])
    meter.add_step(2, torch.tensor(1.0), torch.tensor(3.0), [])
    meter.check()
    assert meter.flush(1)["gradient_norm"] == 3.0


def test_the_summary_sums_by_task() -> None:
    figures = {"loss": 6.0, "losses": {"a/x/layer0": 1.0, "a/y": 2.0, "b/x": 3.0}, "images_per_second": 7.0}
    assert summary(figures) == "loss 6.000  a 3.000  b 3.000  7.0 images/s"
