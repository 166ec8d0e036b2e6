from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import xdecoder
from tests.tiny import tiny_config, tiny_model
from xdecoder import checkpoint
from xdecoder.config import parse
from xdecoder.decoder.answers import AnswerConfig
from xdecoder.inference.predictor import Predictor, load
from xdecoder.inference.viewing import BATCH
from xdecoder.model import Encoded, XDecoder, XDecoderConfig
from xdecoder.protocol import Protocol
from xdecoder.regions import EverythingConfig
from xdecoder.tasks import TasksConfig, segmentation
from xdecoder.tasks.referring import ReferringConfig
from xdecoder.types import Batch, Phrases, Sample, Vocabulary


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(tiny_model())


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.fromarray(noise(40, 60)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def encoded(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures each call of the network's encoder was given."""
    calls: list[int] = []
    plain = predictor.model.encode

    def counting(images: list[torch.Tensor]) -> Encoded:
        calls.append(len(images))
        return plain(images)

    monkeypatch.setattr(predictor.model, "encode", counting)
    return calls


def test_the_readmes_lines(tmp_path: Path, photo: Path) -> None:
    checkpoint.save(tiny_model(), tmp_path / "model.pt")
    model = xdecoder.load(tmp_path / "model.pt")
    scene = model.panoptic(photo, things=["star", "cube"], stuff=["grass"])
    assert scene.ids.shape == (40, 60)
    assert scene.draw().size[0] >= 60
    found = model.refer(photo, ["the star", "the cube on the left"])
    assert found.masks.shape == (2, 40, 60)
    assert found.draw().mode == "RGB"
    assert isinstance(model.caption(photo), str)
    similar = model.match(photo, ["a star", "two cubes", "a star"])
    assert similar.shape == (3,) and similar[0] == similar[2] != similar[1]
    assert similar.abs().max() <= 1


def test_every_form_of_a_picture_gives_the_same(predictor: Predictor, photo: Path) -> None:
    image = Image.open(photo)
    array = np.asarray(image)
    with photo.open("rb") as file:
        tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
        forms = [photo, str(photo), file, image, array, tensor, predictor.encode(photo)]
        maps = [predictor.segment(form, ["star", "cube"]).labels for form in forms]
    assert all(torch.equal(maps[0], other) for other in maps)


def test_answers_are_the_tasks_own(predictor: Predictor) -> None:
    """At the size that the network is used to, nothing is resized, and the tasks must say the same."""
    pixels = torch.from_numpy(noise(64, 96)).permute(2, 0, 1)
    vocabulary = Vocabulary(("star", "cube", "grass"), (True, True, False))
    sample = Sample("one", pixels, (64, 96), None, None, ("a star", "a cube"))
    with torch.inference_mode():
        expected = predictor.model.predict(TasksConfig().build(["segmentation"]), Batch((sample,), vocabulary, "test"))
    (result,) = expected["segmentation"]
    assert torch.equal(predictor.segment(pixels, vocabulary.names).labels, result.semantic)
    instances = predictor.instances(pixels, ["star", "cube"], threshold=0.0)
    assert (instances.scores.diff() <= 0).all() and instances.masks.shape[1:] == (64, 96)
    assert torch.allclose(instances.masks.float().mean(dim=(1, 2)), instances.small.inside().float().mean(dim=(1, 2)))
    assert len(predictor.instances(pixels, ["star", "cube"], threshold=float(instances.scores[2])).scores) == 3
    panoptic = predictor.panoptic(pixels, ["star", "cube"], ["grass"], threshold=0.0)
    assert {s.id for s in panoptic.segments} == set(panoptic.ids.unique().tolist()) - {0}

    square = torch.from_numpy(noise(64, 64)).permute(2, 0, 1)
    sample = Sample("one", square, (64, 64), None, None, ("a star", "a cube"))
    with torch.inference_mode():
        both = predictor.model.predict(TasksConfig().build(["captioning", "retrieval"]), Batch((sample,), None, "test"))
    assert predictor.caption(square) == both["captioning"][0].text
    cosines = (both["retrieval"][0].texts @ both["retrieval"][0].image.T).mean(dim=1)
    torch.testing.assert_close(predictor.match(square, ["a star", "a cube"]), cosines)


def test_a_phrase_that_scores_too_low_is_not_there(photo: Path) -> None:
    """By the threshold that is given, or that was fitted to the network, or without any not at all; as the task says it."""
    phrases = ["the red star", "a cube", "the big blue circle"]
    model = tiny_model()
    plain = Predictor(model).refer(photo, phrases)
    assert plain.threshold is None and plain.absent == () and plain.masks.flatten(1).any(1).all()
    middle = float(plain.scores.sort().values[1])
    asked = Predictor(model).refer(photo, phrases, threshold=middle)
    assert torch.equal(asked.found, plain.scores >= middle) and asked.found.sum() == 2
    assert torch.equal(asked.scores, plain.scores) and torch.equal(asked.masks[asked.found], plain.masks[asked.found])
    model.protocol = Protocol(fitted={"referring": {"threshold": middle}})
    fitted = Predictor(model)
    assert torch.equal(fitted.refer(photo, phrases).masks, asked.masks)
    assert fitted.refer(photo, phrases, threshold=-1).found.all()
    with pytest.raises(ValueError, match="threshold must be a finite number"):
        fitted.refer(photo, phrases, threshold=float("nan"))
    pixels = torch.from_numpy(noise(64, 96)).permute(2, 0, 1)
    sample = Sample("one", pixels, (64, 96), phrases=Phrases(tuple(phrases), torch.zeros(3, 64, 96, dtype=torch.bool)))
    own = fitted.refer(pixels, phrases)
    least = float(own.scores.mean())
    with torch.inference_mode():
        task = TasksConfig(referring=ReferringConfig(threshold=least)).build(["referring"])
        (said,) = model.predict(task, Batch((sample,), None, "test"))["referring"]
    assert torch.equal(said.found, fitted.refer(pixels, phrases, least).found) and 0 < said.found.sum() < 3


def test_phrases_do_not_know_of_each_other(predictor: Predictor, photo: Path) -> None:
    phrases = [f"the {colour} star number {i}" for i in range(3) for colour in ("red", "small dark blue", "big")]
    assert len(phrases) > BATCH, "more than are decoded at a time"
    together = predictor.refer(photo, phrases)
    for i, phrase in enumerate(phrases):
        alone = predictor.refer(photo, [phrase])
        torch.testing.assert_close(alone.scores[0], together.scores[i])
        assert torch.equal(alone.masks[0], together.masks[i])


def test_phrases_see_each_other_where_that_is_asked_for(predictor: Predictor, photo: Path) -> None:
    phrases = ["the red star", "a cube", "the big blue circle"]
    together, alone = predictor.refer(photo, phrases, together=True), predictor.refer(photo, phrases)
    assert not torch.allclose(together.scores, alone.scores, rtol=0, atol=1e-4)
    so_measured = Predictor(predictor.model, tasks=TasksConfig(referring=ReferringConfig(together=True)))
    assert torch.equal(so_measured.refer(photo, phrases).scores, together.scores)
    assert torch.equal(so_measured.refer(photo, phrases, together=False).scores, alone.scores)


def test_a_list_gets_a_list(predictor: Predictor, encoded: list[int]) -> None:
    pictures = [noise(40, 60, seed) for seed in range(3)] + [noise(60, 40), noise(90, 90)]
    together = predictor.segment(pictures, ["star", "cube"])
    assert encoded == [1] * 5, "one after the other, which is faster on a CPU"
    for picture, answer in zip(pictures, together, strict=True):
        assert torch.equal(answer.labels, predictor.segment(picture, ["star", "cube"]).labels)
    region = torch.zeros(60, 40, dtype=torch.bool)
    region[:20] = True
    captions = predictor.caption(pictures, [None, None, None, region, None], max_length=6)
    assert captions == [predictor.caption(p, region if i == 3 else None, max_length=6) for i, p in enumerate(pictures)]
    assert [len(r.phrases) for r in predictor.refer(pictures[:2], ["a star"])] == [1, 1]
    assert predictor.segment([], ["star"]) == [] == predictor.caption([])


def test_on_a_gpu_images_of_one_size_are_encoded_together(
    predictor: Predictor, encoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Predictor, "device", torch.device("cuda"))
    pictures = predictor.encode([noise(40, 60, seed) for seed in range(9)] + [noise(60, 40)])
    predictor.look(pictures, segmentation.DESCRIPTOR)
    assert sorted(encoded) == [1, 1, 8]


def test_a_picture_is_encoded_once_however_much_is_asked(predictor: Predictor, photo: Path, encoded: list[int]) -> None:
    picture = predictor.encode(photo)
    assert encoded == []
    for _ in range(2):
        picture.segment(["star"])
        picture.panoptic(["star"], ["sky"])
        picture.instances(["star"])
        picture.refer(["the star", "the sky"])
    assert encoded == [1]
    for _ in range(2):
        picture.caption()
        picture.caption(region=np.ones((40, 60), dtype=bool))
        picture.match(["a star"])
    assert encoded == [1, 1], "once as a scene, once as the square that captions are written of"


def test_finding_pictures_and_regions(predictor: Predictor) -> None:
    pictures = [noise(40, 60, seed) for seed in range(4)]
    ranking = predictor.retrieve(pictures, "a red star")
    assert ranking.scores == pytest.approx([predictor.match(p, ["a red star"]).item() for p in pictures], abs=1e-5)
    assert sorted(ranking.scores, reverse=True) == [ranking.scores[i] for i in ranking.order]
    found = predictor.find(pictures, "a red star")
    assert found.index == ranking.order[0] and found.score == max(ranking.scores)
    assert torch.equal(found.region.masks, predictor.refer(pictures[found.index], ["a red star"]).masks)


def test_questions_are_answered_by_those_who_learnt_to(predictor: Predictor, photo: Path) -> None:
    with pytest.raises(ValueError, match="this network cannot answer questions: its checkpoint holds no answer head"):
        predictor.answer(photo, "what is this?")
    answers = AnswerConfig(answers=("yes", "no", "a star"), image_size=96)
    model = XDecoder(tiny_config().model_copy(update={"answers": answers})).eval()
    asked = Predictor(model)
    said = {asked.answer(noise(40, 60, seed), question).score for seed in (0, 1) for question in ("is it?", "what is it?")}
    assert len(said) == 4, "both the picture and the question matter"
    answer = asked.answer(photo, "is it?")
    assert answer.text in answers.answers and 1 / 3 <= answer.score <= 1
    short = model.config.model_copy(update={"decoder": model.config.decoder.model_copy(update={"caption_length": 5})})
    with pytest.raises(ValueError, match="a question may have 5 tokens, not 7"):
        Predictor(XDecoder(short)).answer(photo, "a a a a a")


def test_an_answer_head_is_saved_with_its_answers(tmp_path: Path) -> None:
    config = tiny_config().model_copy(update={"answers": AnswerConfig(answers=("yes", "no"))})
    checkpoint.save(XDecoder(config), tmp_path / "model.safetensors")
    loaded = xdecoder.load(tmp_path / "model.safetensors").model
    assert loaded.answers is not None and loaded.answers.config.answers == ("yes", "no")


def test_half_precision_sees_the_same(photo: Path) -> None:
    full, half = Predictor(tiny_model()), Predictor(tiny_model(), dtype=torch.bfloat16)
    assert half.model.decoder.query_content.weight.dtype == half.model.backbone_proj.dtype == torch.bfloat16
    assert half.model.language.projection.dtype == torch.float32
    maps = [each.segment(photo, ["star", "cube"]).labels for each in (full, half)]
    assert (maps[0] == maps[1]).float().mean() > 0.9
    torch.testing.assert_close(half.match(photo, ["a star"]), full.match(photo, ["a star"]), atol=0.02, rtol=0)
    torch.testing.assert_close(half.refer(photo, ["a star"]).scores, full.refer(photo, ["a star"]).scores, atol=0.05, rtol=0)
    assert isinstance(half.caption(photo, beams=2, max_length=4), str)


def test_half_precision_leaves_sampling_precise(photo: Path) -> None:
    decoder = {"name": "deformable", "width": 32, "layers": 1, "heads": 4, "hidden": 64}
    config = parse(XDecoderConfig, {**tiny_config().model_dump(mode="json"), "pixel_decoder": decoder})
    half = Predictor(XDecoder(config), dtype=torch.bfloat16)
    pixel_decoder = half.model.pixel_decoder
    assert {p.dtype for p in pixel_decoder.encoder.parameters()} == {torch.float32}
    assert {p.dtype for p in pixel_decoder.outputs.parameters()} == {torch.bfloat16}
    assert half.encode(photo).segment(["star", "cube"]).labels.shape == (40, 60)


def test_compiling_is_for_any_size(monkeypatch: pytest.MonkeyPatch, photo: Path) -> None:
    compiled: list[tuple[str, dict[str, object]]] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **how: compiled.append((type(self).__name__, how)))
    Predictor(tiny_model(), compile=True)
    assert compiled == [("FocalNet", {"dynamic": True}), ("FpnPixelDecoder", {"dynamic": True})]


def test_what_cannot_be_asked(predictor: Predictor, photo: Path) -> None:
    with pytest.raises(ValueError, match="names must hold at least one text"):
        predictor.segment(photo, [])
    with pytest.raises(ValueError, match="names must be a list of texts"):
        predictor.segment(photo, "star")
    with pytest.raises(ValueError, match="'star' stands more than once"):
        predictor.panoptic(photo, ["star"], stuff=["star"])
    with pytest.raises(ValueError, match="phrases must be a list of texts"):
        predictor.refer(photo, "the star")
    with pytest.raises(ValueError, match="texts must hold at least one text"):
        predictor.match(photo, [])
    with pytest.raises(ValueError, match="retrieve needs at least one picture"):
        predictor.retrieve([], "a star")
    with pytest.raises(ValueError, match=r"a region has the picture's size \(40, 60\), not \(4, 4\)"):
        predictor.caption(photo, torch.ones(4, 4))
    with pytest.raises(ValueError, match="2 pictures need as many regions, not 1"):
        predictor.caption([photo, photo], [None])
    with pytest.raises(ValueError, match="beams"):
        predictor.caption(photo, beams=0)
    with pytest.raises(ValueError, match="tile must be at least 64 pixels, not 8"):
        predictor.segment(photo, ["star"], tile=8)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda model, image: model.segment(image, [1, 2]), r"names\[0\] is int and not text: 1"),
        (lambda model, image: model.segment(image, [None, "star"]), r"names\[0\] is NoneType and not text"),
        (lambda model, image: model.segment(image, (name for name in "ab")), "names must be a list of texts"),
        (lambda model, image: model.segment(image, ["a"], threshold="high"), "threshold must be a finite number, not 'high'"),
        (lambda model, image: model.segment(image, ["a"], tile=0.5), "tile must be a whole number, not 0.5"),
        (lambda model, image: model.panoptic(image, [], [3]), r"stuff\[0\] is int and not text"),
        (
            lambda model, image: model.panoptic(image, ["a"], threshold=float("nan")),
            "threshold must be a finite number, not nan",
        ),
        (lambda model, image: model.instances(image, ["a"], threshold=None), "threshold must be a finite number, not None"),
        (lambda model, image: model.refer(image, ["\ud83d"]), r"phrases\[0\] holds a character that cannot be read"),
        (lambda model, image: model.caption(None), "a picture is a path, an open file, .* not None"),
        (lambda model, image: model.caption(b"photo"), "a picture is a path, an open file, .* not bytes"),
        (lambda model, image: model.caption(Image.new("RGB", (0, 8))), r"a picture must have pixels, not size \(0, 8\)"),
        (lambda model, image: model.caption(image, region="left"), "region must be an array or tensor .* not 'left'"),
        (lambda model, image: model.caption(image, beams="x"), "generation: key 'beams': input should be a valid integer"),
        (lambda model, image: model.caption(image, beam=2), "generation: unknown key 'beam'; did you mean 'beams'"),
        (lambda model, image: model.retrieve(str(image), "a star"), "images must be a list of pictures, not '/"),
        (lambda model, image: model.find([image], " "), r"texts\[0\] is blank"),
        (lambda model, image: load(3), "source must be a checkpoint's path or address, not 3"),
        (lambda model, image: load("a.pt", device="gpu7"), "device must be such as 'cpu', .* not 'gpu7'"),
        (lambda model, image: load("a\0b"), r"'a\\x00b': no such checkpoint"),
    ],
)
def test_arguments_of_wrong_types_are_named(predictor: Predictor, photo: Path, ask: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        ask(predictor, photo)
    assert "\n" not in str(error.value)


def test_a_place_has_a_vector_and_names(predictor: Predictor, photo: Path) -> None:
    picture = predictor.encode(photo)
    masks = torch.zeros(3, 40, 60, dtype=torch.bool)
    masks[0, :20], masks[1, 20:, :30], masks[2, 5:9, 5:9] = True, True, True
    vectors = picture.vector(masks)
    assert vectors.shape == (3, 32) and torch.allclose(vectors.norm(dim=-1), torch.ones(3))
    torch.testing.assert_close(picture.vector(masks[1].numpy()), vectors[1])
    names = ["star", "cube", "grass"]
    several = picture.label(masks, names)
    for said, mask in zip(several, masks, strict=True):
        alone = picture.label(mask, names)
        assert said.names == alone.names and said.best == said.names[0] and set(said.names) == set(names)
        assert sum(said.scores) == pytest.approx(1) and list(said.scores) == sorted(said.scores, reverse=True)
    assert set(picture.label((5, 5, 30, 20), names).names) == set(picture.label((12, 7), names).names) == set(names)
    sentences = picture.describe(masks)
    assert sentences == [picture.caption(mask) for mask in masks] and picture.describe(masks[0]) == sentences[0]
    with pytest.raises(ValueError, match="a region must hold a pixel of the picture"):
        picture.vector(masks & False)
    with pytest.raises(ValueError, match="a batch of masks must hold a mask"):
        picture.vector(masks[:0])
    for wrong in ((1, 2, 3), (0, 0, 70, 10), (60, 0), (30, 5, 10, 9), "star", (float("nan"), 1)):
        with pytest.raises(ValueError, match=r"a place is a mask of the image's size, a box .* inside of its 60 × 40 pixels"):
            picture.label(wrong, names)


def test_everything_that_is_seen(predictor: Predictor, photo: Path) -> None:
    anything = EverythingConfig(quality=0, overlap=1, pixels=1)
    found = predictor.everything(photo, config=anything)
    count = len(found.scores)
    assert count > 1 and found.masks.shape == (count, 40, 60) and (found.scores.diff() <= 0).all()
    assert found.called == [f"region {i}" for i in range(1, count + 1)] and found.draw().mode == "RGB"
    named, again = predictor.everything([photo, photo], ["star", "cube"], anything)
    assert torch.equal(named.masks, found.masks) and set(named.called) <= {"star", "cube"} and again.called == named.called
    assert [each["name"] for each in named.to_coco()] == named.called
    assert not len(predictor.everything(photo, config=EverythingConfig(quality=1.1)).scores)


@pytest.mark.parametrize(
    ("module", "what"), [("decoder.query_content", "a region's vector"), ("language.token_embedding", "a name's score")]
)
def test_names_of_a_broken_network_are_no_names(photo: Path, module: str, what: str) -> None:
    model = tiny_model()
    with torch.no_grad():
        model.get_submodule(module).weight.fill_(float("nan"))
    picture, anything = Predictor(model).encode(photo), EverythingConfig(quality=0, overlap=1, pixels=1)
    for ask in (lambda: picture.label((12, 7), ["star", "cube"]), lambda: picture.everything(["star"], anything)):
        with pytest.raises(ValueError, match=f"^{what} is not finite"):
            ask()


def test_all_that_a_phrase_means(predictor: Predictor, photo: Path) -> None:
    """Every query above the threshold whose mask is not nearly another's; the surest is what `refer` finds."""
    phrases = ["the red star", "a cube"]
    one = predictor.refer(photo, phrases)
    found = predictor.refer_all(photo, phrases, threshold=-1)
    for number in range(2):
        mine = (found.owners == number).nonzero()[:, 0]
        assert len(mine) and (found.scores[mine].diff() <= 0).all()
        torch.testing.assert_close(found.scores[mine[0]], one.scores[number])
        assert torch.equal(found.masks[mine[0]], one.masks[number])
        assert torch.equal(found.united[number], found.masks[mine].any(0))
    between = float(found.scores.sort().values[-1])
    few, again = predictor.refer_all([photo, photo], phrases, threshold=between)
    assert len(few.scores) == 1 and len(few.absent) == 1 and torch.equal(few.masks, again.masks)
    assert [each["name"] for each in few.to_coco()] == [name for name in phrases if name not in few.absent]
    nothing = predictor.refer_all(photo, phrases, threshold=1)
    assert nothing.absent == tuple(phrases) and nothing.united.shape == (2, 40, 60) and not nothing.united.any()
    with pytest.raises(ValueError, match=r"give one, or fit it to the network with `eval.py fit`"):
        predictor.refer_all(photo, phrases)
