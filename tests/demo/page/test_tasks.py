"""What the page asks and how it shows the answers, without a page."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from demo.page import viewer
from demo.page.desk import Desk, Job
from demo.page.replies import Region, Reply
from demo.page.tasks import MAX_LENGTH, MAX_LETTERS, MAX_TEXTS, TASKS, Texts, lines_in, names_in
from demo.page.uploads import SHOWN_SIDE, open_shown, waiting
from tests.tiny import tiny_model
from xdecoder.images import ImageLike, open_image
from xdecoder.inference.predictor import Predictor

TEXTS = Texts(
    things="cat, dog",
    stuff="sky",
    classes="cat, dog\nsky",
    phrases="the left cat\na dog",
    sentences="a cat\na dog\nno dog",
    threshold=0.0,
    score=0.0,
)


@pytest.fixture(scope="module")
def model() -> Predictor:
    return Predictor(tiny_model())


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8))


def reply(task: str, model: Predictor, picture: ImageLike, texts: Texts) -> Reply:
    """A task's answer, by way of the desk."""
    (answer,) = Desk({"tiny": model}).answers([Job("tiny", TASKS[task].ask(picture, texts))])
    if isinstance(answer, Exception):
        raise answer
    return TASKS[task].show(answer, model, texts)


@pytest.mark.parametrize("task", ["panoptic", "semantic", "instances", "refer", "caption_region"])
def test_regions_have_masks_labels_and_colours(task: str, model: Predictor, picture: Image.Image) -> None:
    found = reply(task, model, picture, TEXTS)
    content = json.loads(found.json)
    shown = [region for region in content["regions"] if region["area"]]
    labels, colours = [r.label for r in found.regions], [r.colour for r in found.regions]
    assert len(labels) == len(set(labels)) == len(shown) > 0  # told apart by name
    assert len(set(colours)) == len(labels) and all(len(colour) == 7 for colour in colours), "and by colour"
    for region, told in zip(found.regions, shown, strict=True):
        assert region.mask.shape == (48, 64) and int(region.mask.sum()) == told["area"]
    assert found.picture is not None and found.picture.size == (64, 48)


def test_the_page_gives_the_answer_that_python_gives(model: Predictor, picture: Image.Image) -> None:
    assert reply("panoptic", model, picture, TEXTS).content == model.panoptic(picture, ["cat", "dog"], ["sky"], 0.0).to_json()
    assert reply("refer", model, picture, TEXTS).content == model.refer(picture, ["the left cat", "a dog"]).to_json()


def test_sentences(model: Predictor, picture: Image.Image) -> None:
    assert json.loads(reply("caption", model, picture, TEXTS).json).keys() == {"caption"}
    matched = reply("match", model, picture, TEXTS)
    shares = [share for _, share in matched.scores]
    assert sum(shares) == pytest.approx(1) and shares == sorted(shares, reverse=True)
    assert matched.scores[0][0] in matched.headline


def test_questions_that_wait_together_get_their_own_answers(model: Predictor, picture: Image.Image) -> None:
    texts = [TEXTS, Texts(phrases="the sky"), Texts(), TEXTS]
    jobs = [Job("tiny", TASKS["refer"].ask(picture, t)) for t in texts[:2]]
    jobs += [Job("other", TASKS["caption"].ask(picture, texts[2])), Job("tiny", lambda network: 1 / 0)]
    first, second, third, fourth = Desk({"tiny": model, "other": Predictor(tiny_model(1))}).answers(jobs)
    assert first.phrases == ("the left cat", "a dog") and second.phrases == ("the sky",)
    assert isinstance(third, str) and isinstance(fourth, ZeroDivisionError), "one that fails harms no other"


def test_what_a_visitor_can_mend(model: Predictor, picture: Image.Image) -> None:
    for task, message in (
        ("panoptic", "Write at least one class name first"),
        ("refer", "Write at least one phrase first"),
        ("match", "Write at least one sentence first"),
        ("answer", "Write a question first"),
    ):
        with pytest.raises(ValueError, match=message):
            reply(task, model, picture, Texts())
    with pytest.raises(ValueError, match="cannot answer questions"):
        reply("answer", model, picture, Texts(question="why?"))
    most = MAX_TEXTS["class name"]
    for classes in (", ".join(f"class {i}" for i in range(most + 1)), "x" * (MAX_LENGTH + 1)):
        with pytest.raises(ValueError, match=f"Ask about at most {most} texts at once"):
            reply("semantic", model, picture, Texts(classes=classes))


@pytest.mark.parametrize("kind", ["phrase", "sentence"])
def test_a_question_has_a_price_limit(kind: str) -> None:
    most = MAX_TEXTS[kind]
    assert len(lines_in("\n".join(f"the {i}th star" for i in range(most)), kind)) == most
    with pytest.raises(ValueError, match=f"at most {most} texts"):
        lines_in("\n".join(f"the {i}th star" for i in range(most + 1)), kind)


def test_the_letters_of_all_texts_are_limited_too() -> None:
    with pytest.raises(ValueError, match=f"at most {MAX_LETTERS} characters at once"):
        names_in(", ".join(f"{i:0200}" for i in range(MAX_LETTERS // 200 + 1)))


def test_words_of_visitors_are_no_markup() -> None:
    words = '<img src=x onerror=alert(1)> **bold** "quoted"'
    mask = np.ones((4, 6), bool)
    shown = viewer.answer(
        Reply(f"Best: {words}", {"text": words}, Image.new("RGB", (6, 4)), (Region(words, "#112233", mask),), ((words, 0.5),))
    )
    assert "<img src=x" not in shown and shown.count("&lt;img src=x onerror=alert(1)&gt;") == 6
    assert 'aria-label="&lt;img src=x onerror=alert(1)&gt; **bold** &quot;quoted&quot;"' in shown


def test_a_layer_is_the_mask_with_a_darker_border() -> None:
    import base64
    import io

    mask = np.zeros((20, 30), bool)
    mask[5:15, 8:20] = True
    address = viewer.layer(mask, "#ff8000")
    image = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGBA")
    pixels = np.asarray(image)
    assert ((pixels[..., 3] > 0) == mask).all()
    assert tuple(pixels[10, 14]) == (255, 128, 0, 255) and tuple(pixels[5, 8]) == (115, 58, 0, 255)
    x, y = viewer.deepest(mask)
    assert mask[int(y), int(x)] and 9 <= x <= 19 and 8 <= y <= 12


def test_uploads_come_upright_opaque_and_small(tmp_path: Path) -> None:
    rotated = Image.Exif()
    rotated[274] = 6  # the camera was held on its side
    Image.new("RGB", (2000, 1000), "red").save(tmp_path / "photo.jpg", exif=rotated)
    assert open_shown(tmp_path / "photo.jpg").size == (SHOWN_SIDE // 2, SHOWN_SIDE)
    assert open_image(waiting(tmp_path / "photo.jpg")).size == (1000, 2000), "it is asked about as it is"
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert open_shown(tmp_path / "clear.png").getpixel((4, 4)) == (255, 255, 255)


def test_a_bomb_is_not_decoded(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 12_000, 12_000, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(bomb)
    with pytest.raises(ValueError, match="This file: too large a picture, 12000 × 12000; at most 100000000 pixels"):
        waiting(tmp_path / "bomb.png")


@pytest.mark.parametrize("content", [b"text", b"", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"])
def test_what_is_no_picture(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=r"^This file: the picture is damaged or incomplete, or in none of .*JPEG"):
        waiting(tmp_path / "photo.jpg")


def test_a_large_picture_is_asked_about_as_it_is_and_shown_small(model: Predictor, tmp_path: Path) -> None:
    small = np.random.default_rng(1).integers(0, 256, (8, 16, 3), dtype=np.uint8)
    Image.fromarray(small).resize((1600, 800)).save(tmp_path / "photo.png")
    found = reply("semantic", model, waiting(tmp_path / "photo.png"), TEXTS)
    assert json.loads(found.json) == model.segment(tmp_path / "photo.png", ["cat", "dog", "sky"]).to_json()
    assert sum(region["area"] for region in found.content["regions"]) == 1600 * 800
    assert 'style="--w:1280;--h:640"' in viewer.answer(found)


def test_a_picture_that_is_cut_off_keeps_no_other_from_its_answer(
    model: Predictor, picture: Image.Image, tmp_path: Path
) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)).save(tmp_path / "photo.jpg")
    (tmp_path / "photo.jpg").write_bytes((tmp_path / "photo.jpg").read_bytes()[:5000])
    ask = TASKS["caption"].ask
    cut, whole = Desk({"tiny": model}).answers(
        [Job("tiny", ask(waiting(tmp_path / "photo.jpg"), TEXTS)), Job("tiny", ask(picture, TEXTS))]
    )
    assert str(cut).startswith("This file: the picture is damaged or incomplete") and isinstance(whole, str)
