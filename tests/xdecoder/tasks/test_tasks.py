from dataclasses import replace

import pytest
import torch

from tests.tiny import tiny_batch, tiny_model, tiny_tasks
from xdecoder.config import ConfigError
from xdecoder.losses.matching import Matches
from xdecoder.tasks.captioning import beside_each_other, caption_tokens
from xdecoder.tasks.denoising import denoising_queries
from xdecoder.tasks.referring import locate
from xdecoder.tasks.segmentation import to_padded
from xdecoder.types import Phrases, Segments

ALL = ["segmentation", "referring", "captioning", "retrieval"]


def test_terms_are_named_by_task_term_and_layer():
    terms = tiny_model().losses(tiny_tasks().build(ALL), tiny_batch())
    layers = [f"layer{i}" for i in range(5)]
    expected = {f"segmentation/{term}/{layer}" for term in ("class", "mask", "dice") for layer in layers}
    expected |= {f"referring/{term}/{layer}" for term in ("class", "mask", "dice") for layer in layers[:3]}
    expected |= {f"captioning/word/{layer}" for layer in layers[:3]}
    expected |= {f"retrieval/{term}/{layer}" for term in ("pair", "word") for layer in layers[:3]} | {"retrieval/backbone"}
    assert set(terms) == expected
    assert all(value.dim() == 0 and torch.isfinite(value) for value in terms.values())


def test_a_few_steps_on_one_batch_lower_every_loss():
    model = tiny_model().train()
    tasks = tiny_tasks().build(ALL)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    totals = []
    torch.manual_seed(0)
    for _ in range(25):
        terms = model.losses(tasks, tiny_batch())
        totals.append({name: sum(v.item() for k, v in terms.items() if k.startswith(name)) for name in ALL})
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
    for name in ALL:
        assert totals[-1][name] < 0.9 * totals[0][name], name


@torch.inference_mode()
def test_results_have_the_size_that_was_asked_for():
    model, batch = tiny_model(), tiny_batch()
    samples = tuple(replace(sample, output_size=(30, 50)) for sample in batch.samples)
    results = model.predict(tiny_tasks().build(ALL), replace(batch, samples=samples))
    for segmented, referred in zip(results["segmentation"], results["referring"], strict=True):
        assert segmented.semantic.shape == segmented.panoptic.ids.shape == (30, 50)
        assert segmented.instances.masks.shape[1:] == referred.masks.shape[1:] == (30, 50)
    assert [len(r.masks) for r in results["referring"]] == [3, 1]
    assert all(isinstance(r.text, str) for r in results["captioning"])
    assert [tuple(r.image.shape) for r in results["retrieval"]] == [(2, 32), (2, 32)]
    assert [len(r.texts) for r in results["retrieval"]] == [1, 2]
    assert torch.allclose(results["retrieval"][0].image.norm(dim=-1), torch.ones(2))


def test_pictures_without_phrases_or_regions_train_through():
    batch = tiny_batch()
    bare = replace(
        batch.samples[0],
        phrases=Phrases((), torch.zeros(0, 64, 96, dtype=torch.bool)),
        segments=Segments(torch.zeros(0, 64, 96).bool(), torch.zeros(0).long(), torch.zeros(0).bool()),
    )
    model, tasks = tiny_model(), tiny_tasks().build(["segmentation", "referring"])
    with_denoising = [tiny_tasks().segmentation.model_copy(update={"denoising_weight": 1.0}).build()]
    for samples in ((bare, batch.samples[1]), (bare, bare)):
        for chosen in (tasks, with_denoising):
            terms = model.losses(chosen, replace(batch, samples=samples))
            assert all(torch.isfinite(value) for value in terms.values())
    with torch.inference_mode():
        results = model.predict(tasks, replace(batch, samples=(bare, batch.samples[1])))
    assert len(results["referring"][0].masks) == 0 and len(results["referring"][1].masks) == 1


def test_what_nobody_annotated_is_unknown_where_a_set_says_so():
    """Three queries, of which one is matched; classes: cat and dog, of which all are annotated, sky, of which none is."""
    logits = torch.tensor([[[[2.0, 0.0, 1.0, -1.0], [0.5, 0.0, 3.0, 0.2], [4.0, 0.0, 0.0, 0.0]]]])  # (L, B, Q, K + 1)
    matches = Matches(*(torch.tensor([0]) for _ in range(4)))
    task = tiny_tasks().segmentation.build()
    chances = logits[0, 0].softmax(-1)
    own = -chances[0, 0].log()

    def loss(complete):
        segments = Segments(torch.ones(1, 4, 4).bool(), torch.tensor([0]), torch.zeros(1).bool(), complete)
        return task._class_loss(logits, matches, [segments], 1.0).item()

    everything = own - 0.1 * (chances[1, 3].log() + chances[2, 3].log())
    things = own - 0.1 * ((chances[1, 2] + chances[1, 3]).log() + (chances[2, 2] + chances[2, 3]).log())
    assert loss(None) == pytest.approx(everything.item(), abs=1e-5)
    assert loss(torch.tensor([True, True, False])) == pytest.approx(things.item(), abs=1e-5)
    assert loss(torch.tensor([False, False, False])) == pytest.approx(own.item(), abs=1e-5)


def test_where_nothing_is_complete_only_matched_queries_are_learnt_from():
    batch, model = tiny_batch(), tiny_model()
    nothing = torch.zeros(3, dtype=torch.bool)
    unknown = replace(
        batch, samples=tuple(replace(each, segments=replace(each.segments, complete=nothing)) for each in batch.samples)
    )
    losses = []
    for weight, chosen in ((0.0, batch), (0.1, unknown)):
        task = tiny_tasks().segmentation.model_copy(update={"background_weight": weight}).build()
        torch.manual_seed(0)
        losses.append(model.losses([task], chosen)["segmentation/class/layer0"].item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_denoising_queries_see_their_region_and_leave_the_others_alone():
    config = tiny_tasks().segmentation
    with_denoising = [config.model_copy(update={"denoising_weight": 0.5}).build()]
    model, batch = tiny_model(), tiny_batch()
    torch.manual_seed(0)
    plain = model.losses([config.build()], batch)
    torch.manual_seed(0)
    terms = model.losses(with_denoising, batch)
    for name, value in plain.items():
        if "/class/" in name:
            assert torch.allclose(terms.pop(name), value, atol=1e-6), f"{name}: object queries may not see denoising queries"
    denoising = {name for name in terms if "/denoising_" in name}
    assert denoising == {f"segmentation/denoising_{term}/layer{i}" for term in ("class", "mask", "dice") for i in range(4)}


@torch.no_grad()
def test_a_denoising_query_reads_nothing_outside_its_region():
    model, batch = tiny_model(), tiny_batch()
    features = model.encode(batch.images)
    denoising = denoising_queries(model, [to_padded(sample.segments.masks, features.padded) for sample in batch.samples])
    assert denoising.content.shape[:2] == (2, 3) and denoising.mask.shape == (2, 3, 64, 96)
    top = torch.zeros(64, 96, dtype=torch.bool)
    top[:32] = True
    region = denoising.mask.clone()
    region[0, 0] = top
    maps = tuple(x.clone() for x in features.maps)
    for x in maps:
        x[:, :, x.shape[2] // 2 :] += 3.0
    below = replace(features, maps=maps)
    shown = replace(denoising, mask=region)
    a, b = (model.decode(seen, [shown])[-1]["denoising"].semantic for seen in (features, below))
    assert torch.allclose(a[0, 0], b[0, 0], atol=1e-5)
    assert not torch.allclose(a[0, 1], b[0, 1], atol=1e-3)


@pytest.mark.parametrize("learn_texts", [True, False])
@pytest.mark.parametrize("names", [["segmentation"], ["referring"], ["segmentation", "referring"]])
def test_what_a_loss_reaches_does_not_depend_on_the_data(names, learn_texts):
    """Processes that train together wait for each other's gradients of the same parameters."""
    batch = tiny_batch()
    bare = replace(
        batch.samples[0],
        phrases=Phrases((), torch.zeros(0, 64, 96, dtype=torch.bool)),
        segments=Segments(torch.zeros(0, 64, 96).bool(), torch.zeros(0).long(), torch.zeros(0).bool()),
        captions=(),
    )
    tasks = tiny_tasks()
    segmentation = tasks.segmentation.model_copy(
        update={"noun_weight": 1.0, "denoising_weight": 1.0, "learn_texts": learn_texts}
    )
    tasks = tasks.model_copy(update={"segmentation": segmentation})
    reached = []
    for samples in (batch.samples, (bare, bare)):
        model = tiny_model().train()
        sum(model.losses(tasks.build(names), replace(batch, samples=samples)).values()).backward()
        reached.append({name for name, parameter in model.named_parameters() if parameter.grad is not None})
    assert reached[0] == reached[1]


def test_missing_annotations_are_named():
    batch = tiny_batch()
    samples = tuple(replace(s, captions=(), phrases=None, segments=None) for s in batch.samples)
    bare = replace(batch, samples=samples)
    for task, message in (
        ("segmentation", "picture first of tiny has no annotated regions"),
        ("referring", "picture first of tiny has no phrases"),
        ("captioning", "picture first of tiny has no caption"),
    ):
        with pytest.raises(ValueError, match=message):
            tiny_model().losses(tiny_tasks().build([task]), bare)
    with pytest.raises(ConfigError, match="unknown task 'painting'; known: segmentation"):
        tiny_tasks().build(["painting"])


def test_class_names_count_less_than_written_phrases():
    batch = tiny_batch()
    terms = []
    for written in (True, False):
        torch.manual_seed(0)
        samples = tuple(replace(sample, phrases=replace(sample.phrases, written=written)) for sample in batch.samples)
        terms.append(tiny_model().losses(tiny_tasks().build(["referring"]), replace(batch, samples=samples)))
    for name in terms[0]:
        factor = 0.25 if "/class/" in name else 1.0
        assert torch.allclose(factor * terms[0][name], terms[1][name]), name


def test_wordings_of_one_meaning_are_read_once():
    batch = tiny_batch()
    phrases = Phrases(("a photo of a dog", "a dog"), batch.samples[0].phrases.masks[:2], meanings=("dog", "dog"))
    samples = (replace(batch.samples[0], phrases=phrases), batch.samples[1])
    model = tiny_model()
    batch = replace(batch, samples=samples)
    prompt = tiny_tasks().referring.build().prompt(model, model.encode(batch.images), batch, model.language.encode)
    assert prompt.groups[1].present[0].sum() == model.language.encode(["a photo of a dog"]).lengths[0]
    assert len(prompt.vectors[0]) == 2 and not torch.allclose(*prompt.vectors[0])


@torch.no_grad()
def test_captions_beside_each_other_are_as_if_alone():
    model, batch = tiny_model(), tiny_batch()
    features = model.encode(batch.images)
    texts = ["a cat", "a cat under the sky", "a dog", "two dogs"]  # two a picture
    together = beside_each_other(caption_tokens(model, model.language.encode(texts)), 2)
    words = model.decode(features, [together])[-1]["caption"].word.unflatten(1, (2, -1))
    for number in range(2):
        read = model.language.encode(texts[number::2])
        alone = model.decode(features, [caption_tokens(model, read)])[-1]["caption"].word
        for picture, length in enumerate(read.lengths.tolist()):
            assert torch.allclose(words[picture, number, :length], alone[picture, :length], atol=1e-5)


def test_several_captions_of_a_picture_are_learnt_from():
    """Their loss is that of a batch in which each picture comes once for each caption."""
    model, batch = tiny_model(), tiny_batch()
    texts = [("a cat", "a cat under the sky"), ("a dog", "two dogs")]
    samples = [replace(sample, captions=own) for sample, own in zip(batch.samples, texts, strict=True)]
    repeated = [replace(sample, captions=(text,)) for sample in samples for text in sample.captions]
    tasks = tiny_tasks().build(["captioning", "retrieval"])
    several = model.losses(tasks, replace(batch, samples=tuple(samples), captions=2))
    one_by_one = model.losses(tasks, replace(batch, samples=tuple(repeated)))
    first_ones = model.losses(tasks, replace(batch, samples=tuple(replace(s, captions=s.captions[:1]) for s in samples)))
    for name, value in several.items():
        other = one_by_one if name.startswith("captioning") else first_ones
        assert value.item() == pytest.approx(other[name].item(), rel=1e-4), name


@torch.no_grad()
def test_captions_look_inside_their_region():
    model, batch = tiny_model(), tiny_batch()
    features = model.encode(batch.images)
    texts = model.language.encode(["a cat", "a dog"])
    region = torch.zeros(2, 64, 96, dtype=torch.bool)
    region[0, :32] = True
    whole = model.decode(features, [caption_tokens(model, texts)])[-1]["caption"].word
    part = model.decode(features, [caption_tokens(model, texts, region)])[-1]["caption"].word
    assert not torch.allclose(whole[0], part[0], atol=1e-4)
    assert torch.allclose(whole[1], part[1], atol=1e-5), "an empty region is open everywhere"


def test_all_tasks_learn_in_sixteen_bits():
    tasks = tiny_tasks()
    segmentation = tasks.segmentation.model_copy(update={"noun_weight": 1.0})
    model = tiny_model().train()
    with torch.autocast("cpu", torch.bfloat16):
        terms = model.losses(tasks.model_copy(update={"segmentation": segmentation}).build(ALL), tiny_batch())
    assert any(name.startswith("segmentation/noun") for name in terms)
    sum(value.float() for value in terms.values()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@torch.no_grad()
def test_clean_names_are_those_that_people_use():
    model, task = tiny_model(), tiny_tasks().segmentation.model_copy(update={"templates": "clean"}).build()
    shown = task.class_texts(model, ["cat", "sky-other-merged"])
    assert torch.allclose(shown, model.language.vocabulary(["cat", "sky", "background"], "none"), atol=1e-6)


def test_phrases_that_mean_nothing_are_learnt_to_be_far_from_every_query():
    """Also in a picture that is asked for nothing else; without such phrases the loss is what it was."""
    batch, model, tasks = tiny_batch(), tiny_model().train(), tiny_tasks().build(["referring"])
    first, second = batch.samples
    absent = replace(first, phrases=replace(first.phrases, absent=("a blue car", "the old hat")))
    alone = Phrases((), second.phrases.masks[:0], absent=("the red star",))
    learnt = replace(batch, samples=(absent, replace(second, phrases=alone)))
    assert tasks[0].counts(model, learnt) == {"images": 2, "phrases": 3, "absent": 3, "bare": 1}
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    torch.manual_seed(0)
    for _ in range(30):
        terms = model.losses(tasks, learnt)
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
    model.eval()
    with torch.inference_mode():
        features = model.encode(batch.images)
        here, _ = locate(model, features.of(0), first.phrases.texts[:2])
        gone, _ = locate(model, features.of(0), absent.phrases.absent)
        elsewhere, _ = locate(model, features.of(1), alone.absent)
    assert here.min() > 0.4 > max(gone.max(), elsewhere.max())
