"""Each picture is asked for the classes of its own annotation, and answered in the set's labels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from datasets.streams import EvaluationConfig
from tests.tiny import VOCABULARY, tiny_batch, tiny_model, tiny_tasks
from trainer.evaluation import present
from xdecoder.config import parse
from xdecoder.types import Segments


@torch.inference_mode()
def test_labels_are_the_sets_and_none_is_absent() -> None:
    model, batch, asked = tiny_model(), tiny_batch(), []

    def answer(names, part):
        asked.append(part.vocabulary.names)
        return model.predict(tiny_tasks().build(list(names)), part)

    one = replace(batch.samples[1].segments, labels=torch.tensor([2]))
    nothing = Segments(torch.zeros(0, 48, 64).bool(), torch.zeros(0).long(), torch.zeros(0).bool())
    samples = (batch.samples[0], replace(batch.samples[1], segments=one), replace(batch.samples[1], segments=nothing))
    found = present.answers(answer, ["segmentation"], replace(batch, samples=samples))["segmentation"]
    assert asked == [VOCABULARY.names, VOCABULARY.names[2:]], "of a picture without classes nothing is asked"
    assert found[1].semantic.unique().tolist() == [2] and {s.label for s in found[1].panoptic.segments} <= {2}
    assert found[2].semantic.unique().tolist() == [-1] and not found[2].panoptic.segments and not len(found[2].instances.scores)
    plain = model.predict(tiny_tasks().build(["segmentation"]), replace(batch, samples=samples[:1]))["segmentation"][0]
    assert torch.equal(found[0].semantic, plain.semantic), "who shows all classes is asked as ever"
    with pytest.raises(ValueError, match="has no classes, of which some could be present"):
        present.answers(answer, ["segmentation"], replace(batch, vocabulary=None))


def test_the_two_never_share_a_name() -> None:
    entry = {"dataset": "shapes_val", "tasks": ["segmentation"], "transform": {"name": "stretch", "size": 64}}
    for label, name in ((None, "shapes_val"), ("mine", "mine")):
        asked = [parse(EvaluationConfig, {**entry, "label": label, "vocabulary": how}).prefix for how in ("global", "present")]
        assert asked == [name, f"{name}_present"]
