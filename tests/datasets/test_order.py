"""Who comes when: every sample once an epoch, whoever shares the work and wherever it was interrupted."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from datasets.order import PERIOD, WINDOW, BatchSampler, ShuffledEpochs, WeightedMix
from datasets.streams import StreamConfig
from xdecoder.config import ConfigError, parse


def _places(first: int, count: int) -> np.ndarray:
    return np.arange(first, first + count)


def test_each_epoch_is_another_permutation() -> None:
    keys = ShuffledEpochs(10, seed=1).keys(_places(0, 40))
    epochs = [[index for index, epoch in keys if epoch == number] for number in range(4)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert keys != ShuffledEpochs(10, seed=2).keys(_places(0, 40))


def test_processes_share_each_batch() -> None:
    alone = list(itertools.islice(BatchSampler(ShuffledEpochs(10, 1), 4), 15))
    weights = [list(itertools.islice(BatchSampler(ShuffledEpochs(10, 1), 4, rank, 2), 15)) for rank in range(2)]
    for together, first, second in zip(alone, *weights, strict=True):
        assert together[0::2] == first and together[1::2] == second, "the place in the batch decides"


@pytest.mark.parametrize("weights", [None, (3, 1, 1)])
def test_any_place_can_be_asked_for(weights: tuple[float, ...] | None) -> None:
    def order() -> WeightedMix:
        return WeightedMix([ShuffledEpochs(7, 1), ShuffledEpochs(30, 2), ShuffledEpochs(12, 3, blocks=[0, 5, 6])], 4, weights)

    whole = list(itertools.islice(BatchSampler(order(), 6), 400))
    assert list(itertools.islice(BatchSampler(order(), 6, start=357), 43)) == whole[357:]
    backwards = order()
    assert [backwards.keys(_places(6 * k, 6)) for k in reversed(range(400))] == whole[::-1]


def test_blocks_are_read_a_few_at_a_time() -> None:
    blocks = [0, 40, 45, 100, 130, 200, 260, 261, 300]
    block_of = np.searchsorted(blocks, np.arange(330), side="right") - 1
    orders = []
    for epoch in range(3):
        order = [index for index, _ in ShuffledEpochs(330, 5, blocks).keys(_places(330 * epoch, 330))]
        assert sorted(order) == list(range(330))
        last = {int(block_of[index]): at for at, index in enumerate(order)}
        first = {int(block_of[index]): at for at, index in reversed(list(enumerate(order)))}
        open_at_once = [sum(first[b] <= at <= last[b] for b in first) for at in range(330)]
        assert max(open_at_once) <= WINDOW
        orders.append(order)
    assert orders[0] != orders[1] != orders[2]
    inside = [index for index in orders[0] if block_of[index] == 5]
    assert inside != sorted(inside), "shuffled within a block too"


def test_a_limit_cuts_blocks() -> None:
    assert sorted(index for index, _ in ShuffledEpochs(42, 5, [0, 40, 45]).keys(_places(0, 42))) == list(range(42))


def test_sets_blended_by_size_make_one_epoch() -> None:
    blend = WeightedMix([ShuffledEpochs(5, 1), ShuffledEpochs(1, 2), ShuffledEpochs(14, 3)], 7)
    for epoch in range(4):
        keys = blend.keys(_places(20 * epoch, 20))
        assert sorted(index for index, _ in keys) == list(range(20))
        assert {own for _, own in keys} == {epoch}


def test_shares_hold_exactly_and_each_set_goes_round_evenly() -> None:
    blend = WeightedMix([ShuffledEpochs(300, 1), ShuffledEpochs(50, 2), ShuffledEpochs(2000, 3)], 7, weights=(1, 1, 2))
    keys = blend.keys(_places(0, 4 * PERIOD))
    for period in range(4):
        part = np.searchsorted([300, 350], [index for index, _ in keys[PERIOD * period :][:PERIOD]], side="right")
        assert np.bincount(part).tolist() == [250, 250, 500]
    seen = Counter(index for index, _ in keys)
    for first, last, turns in ((0, 300, 1000), (300, 350, 1000), (350, 2350, 2000)):
        counts = [seen[index] for index in range(first, last)]
        assert sum(counts) == turns and max(counts) - min(counts) <= 1, "none is seen twice more often than another"
    head = [index for index, _ in keys[:40]]
    assert len({int(np.searchsorted([300, 350], index, side="right")) for index in head}) == 3, "mixed, not one after the other"


def test_small_shares_still_come() -> None:
    assert WeightedMix([ShuffledEpochs(9, 1), ShuffledEpochs(9, 2)], 7, weights=(1e-6, 1)).counts.tolist() == [1, PERIOD - 1]


def test_shares_are_checked() -> None:
    stream = {"tasks": ["segmentation"], "batch_size": 1, "transform": {"name": "stretch"}}
    stream["dataset"] = ["camvid_train", "camvid_val"]
    assert [spec.name for spec in parse(StreamConfig, stream).specs] == ["camvid_train", "camvid_val"]
    with pytest.raises(ConfigError, match="weights has 1 numbers for 2 data sets; give one each"):
        parse(StreamConfig, stream | {"weights": [1]})
    with pytest.raises(ConfigError, match="weights"):
        parse(StreamConfig, stream | {"weights": [1, 0]})
    with pytest.raises(ConfigError, match="did you mean 'camvid_val'"):
        parse(StreamConfig, stream | {"dataset": ["camvid_train", "camvid_vall"]})
