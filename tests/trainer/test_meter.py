from __future__ import annotations

import pytest
import torch

from trainer.distributed import ALONE
from trainer.meter import Meter, NonFiniteError, Part, summary

CPU = torch.device("cpu")


def part(*images: str, loss: float = 1.0) -> Part:
    return Part(torch.tensor(loss), list(images))


def test_means_over_steps_and_parts() -> None:
    meter = Meter(CPU, watch_gradient=True)
    for step, loss in enumerate((2.0, 6.0), start=1):
        for share in (0.5, 1.5):
            meter.add_terms({"a/x": torch.tensor(loss * share / 2)})
        meter.add_step(step, torch.tensor(loss), torch.tensor(loss / 2), [part("s/1", "s/2")])
    with meter.waiting_for_data():
        pass
    meter.leave_out(-1.0)
    figures = meter.flush(ALONE)
    assert figures["loss"] == 4.0
    assert figures["losses"] == {"a/x": 4.0}
    assert figures["gradient_norm"] == 2.0
    assert figures["data_seconds"] < 0.01
    assert figures["compute_seconds"] == pytest.approx(0.5, rel=0.05)
    assert figures["images_per_second"] == pytest.approx(4, rel=0.05)  # 2 steps of 2 pictures in one second
    meter.add_terms({"b": torch.tensor(1.0)})
    meter.add_step(3, torch.tensor(1.0), torch.tensor(1.0), [])
    assert meter.flush(ALONE)["losses"] == {"b": 1.0}, "a flush starts afresh"


@pytest.mark.parametrize(("loss", "norm", "what"), [(float("nan"), 1.0, "loss is nan"), (1.0, float("inf"), "norm is inf")])
def test_the_first_bad_step_is_named(loss: float, norm: float, what: str) -> None:
    meter = Meter(CPU, watch_gradient=True)
    meter.add_step(1, torch.tensor(1.0), torch.tensor(1.0), [part("s/1")])
    assert meter.bad.item() == 0
    meter.add_step(2, torch.tensor(loss), torch.tensor(norm), [part(*(f"s/{i}" for i in range(12)), loss=loss)])
    meter.add_step(3, torch.tensor(1.0), torch.tensor(1.0), [part("s/99")])
    assert meter.bad.item() == 1, "the flag stays up"
    with pytest.raises(NonFiniteError, match=rf"step 2: the .*{what} on pictures s/0, .*s/7 and 4 more"):
        meter.check()


def test_of_several_batches_the_guilty_one_is_named_and_all_are_handed_over() -> None:
    meter = Meter(CPU, watch_gradient=True)
    bad = float("nan")
    meter.add_step(7, torch.tensor(bad), torch.tensor(bad), [part("s/1"), part("s/2", loss=bad)])
    with pytest.raises(NonFiniteError, match="on pictures s/2; ") as error:
        meter.check()
    assert error.value.step == 7
    assert error.value.parts == [{"loss": "1.0", "images": ["s/1"]}, {"loss": "nan", "images": ["s/2"]}]


def test_a_resumed_log_line_is_the_same() -> None:
    whole, resumed = Meter(CPU, watch_gradient=True), Meter(CPU, watch_gradient=True)
    for step in (1, 2):
        for meter in (whole, resumed)[: 1 if step == 1 else 2]:
            meter.add_terms({"a": torch.tensor(step / 3)})
            meter.add_step(step, torch.tensor(step / 3), torch.tensor(0.1 * step), [part("s/1")])
        if step == 1:
            resumed.load_state_dict(whole.state_dict())
    ours, theirs = resumed.flush(ALONE), whole.flush(ALONE)
    assert [ours[key] for key in ("loss", "losses", "gradient_norm")] == [
        theirs[key] for key in ("loss", "losses", "gradient_norm")
    ]


def test_overflowing_gradients_of_fp16_are_let_pass() -> None:
    meter = Meter(CPU, watch_gradient=False)
    meter.add_step(1, torch.tensor(1.0), torch.tensor(float("inf")), [])
    meter.add_step(2, torch.tensor(1.0), torch.tensor(3.0), [])
    meter.add_terms({"a": torch.tensor(1.0)})
    meter.check()
    assert meter.flush(ALONE)["gradient_norm"] == 3.0


def test_the_summary_sums_by_task() -> None:
    figures = {
        "loss": 6.0,
        "losses": {"a/x/layer0": 1.0, "a/y": 2.0, "b/x": 3.0},
        "gradient_norm": 1.25,
        "images_per_second": 7.0,
        "data_seconds": 0.1,
        "compute_seconds": 0.3,
        "memory_gib": 2.04,
    }
    told = "loss 6.000  a 3.000  b 3.000  gradient 1.25  7.0 images/s, 25% of it waiting for data  2.0 GiB"
    assert summary(figures) == told
