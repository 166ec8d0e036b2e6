"""Nonsense sent to the tools, over HTTP and to the doctor of data sets is answered in one sentence, within bounds.

All examples of a test run in one child with limits of time and memory. `FUZZ=20 pytest tests/hostile` tries twenty times as
many.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from datasets.check.__main__ import main as check
from tests.datasets.own_cases import coco, labelme, yolo
from tests.fuzz.mutations import EDITS, TIMES, VALUES, changed, fuzz, mutated
from tests.hostile.bounds import bounded
from tests.tiny import tiny_config
from xdecoder.config import parse
from xdecoder.decoder.answers import AnswerConfig
from xdecoder.inference.predictor import Predictor
from xdecoder.model import XDecoder, XDecoderConfig
from xdecoder.serving.session import Limits, Session
from xdecoder.serving.tools import TOOLS, Tools

EXAMPLES = 25
TEXTS = st.text(st.characters(), max_size=12) | st.sampled_from(
    ["\ud800", "\x00", "a" * 501, "", "img_1", "img_1.mask_1", "cat"]
)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    torch.manual_seed(0)
    answers = AnswerConfig(answers=("yes", "no"), image_size=64)
    return Predictor(XDecoder(parse(XDecoderConfig, {**tiny_config().model_dump(), "answers": answers.model_dump()})))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """A forked child would wait for ever for threads of the process that it comes from."""
    torch.set_num_threads(1)


def run_all(test: Callable[[], Any]) -> None:
    """Try all examples of a test in one child, which may take a second for each and half a minute besides."""

    def work() -> str:
        test()
        return "fine"

    assert bounded(work, seconds=30 + EXAMPLES * TIMES) == "fine"


def picture(side: int = 24) -> bytes:
    data = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)).save(data, "PNG")
    return data.getvalue()


def claiming(width: int, height: int) -> bytes:
    """A PNG's head that announces more pixels than there are."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(head)) + b"IHDR" + head
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", zlib.crc32(chunk[4:]))


PICTURES = st.one_of(
    st.just(picture()),
    EDITS.map(lambda edits: mutated(picture(), edits)),
    st.binary(max_size=40),
    st.sampled_from([claiming(2**31 - 1, 2**31 - 1), claiming(60_000, 60_000), claiming(0, 0), b""]),
).map(lambda data: base64.b64encode(data).decode())

ARGUMENTS = st.dictionaries(
    st.sampled_from(["image", "images", "mask", "classes", "things", "stuff", "phrases", "phrase", "texts", "text"])
    | st.sampled_from(["question", "threshold", "path", "data", "instruction", "steps", "beams"]),
    st.one_of(
        VALUES,
        TEXTS,
        st.lists(TEXTS, max_size=3),
        PICTURES,
        st.floats(),
        st.sampled_from([["x"] * 201, ["cat", "dog"], 0.5, "../../etc/passwd", "/dev/zero", "photo.png"]),
    ),
    max_size=4,
)


def sentence(text: str) -> None:
    """What people may be told: one line, of a length to read, without what only we can use."""
    assert "\n" not in text and 0 < len(text) < 2000 and "Traceback" not in text and "server's side" not in text, text


def test_tools(predictor: Predictor, tmp_path: Path) -> None:
    mcp = pytest.importorskip("xdecoder.serving.mcp", reason="the tool server needs fastmcp", exc_type=ValueError)
    for name in ("pictures", "session"):
        (tmp_path / name).mkdir()
    (tmp_path / "pictures" / "photo.png").write_bytes(picture())
    limits = Limits(pictures=5, pixels=10_000, masks=20)

    @fuzz(EXAMPLES)
    @given(name=st.sampled_from(list(TOOLS)), arguments=ARGUMENTS, known=st.booleans())
    def ask(name: str, arguments: dict[str, Any], known: bool) -> None:
        session = Session(predictor, tmp_path / "session", tmp_path / "pictures", limits)
        session.open("photo.png")
        tool = mcp.SessionTool.of(Tools(session), TOOLS[name])
        try:
            asyncio.run(tool.run(arguments | ({"image": "img_1"} if known else {})))
        except mcp.ToolError as error:
            sentence(str(error))

    run_all(ask)


def test_http(predictor: Predictor) -> None:
    http = pytest.importorskip("xdecoder.serving.http", reason="the HTTP server needs FastAPI", exc_type=ValueError)
    from fastapi.testclient import TestClient

    valid = {
        "segment": {"classes": ["cat"], "threshold": 0.5},
        "panoptic": {"things": ["cat"], "stuff": ["sky"]},
        "instances": {"classes": ["cat"]},
        "refer": {"phrases": ["the cat"]},
        "caption": {"beams": 2},
        "match": {"texts": ["a", "b"]},
        "answer": {"question": "what?"},
    }

    def work() -> None:
        with TestClient(http.build(predictor, http.ServerConfig(body_bytes=100_000, pixels=10_000))) as client:

            @fuzz(EXAMPLES)
            @given(
                name=st.sampled_from([*valid, "nothing"]),
                image=PICTURES,
                more=ARGUMENTS,
                raw=st.binary(max_size=30),
                data=st.data(),
            )
            def ask(name: str, image: str, more: dict[str, Any], raw: bytes, data: st.DataObject) -> None:
                question = {"image": image, **valid.get(name, {})}
                kind = data.draw(st.sampled_from(["valid", "changed", "more", "raw"]))
                if kind == "changed":
                    question = changed(question, data.draw)
                elif kind == "more":
                    question |= more
                body = data.draw(st.binary(max_size=30)) if kind == "raw" else json.dumps(question).encode()
                answer = client.post(f"/v1/{name}", content=body, headers={"content-type": "application/json"})
                assert answer.status_code in (200, 400, 404, 413, 422), f"{answer.status_code} {answer.text[:500]}"
                if answer.status_code != 200:
                    sentence(answer.json()["detail"])
                assert len(answer.content) < 100_000
                assert client.get("/healthz").json()["status"] == "ok"

            ask()

    run_all(work)


@pytest.mark.parametrize("name", ["coco", "yolo", "labelme"])
def test_the_doctor(tmp_path: Path, name: str) -> None:
    make, file = {"coco": (coco, "annotations.json"), "yolo": (yolo, "labels/train/p0.txt"), "labelme": (labelme, "p0.json")}[
        name
    ]
    folder = make(tmp_path / name)
    before = (folder / file).read_bytes()

    @fuzz(EXAMPLES)
    @given(edits=EDITS, data=st.data())
    def look(edits: Any, data: st.DataObject) -> None:
        content = mutated(before, edits)
        if file.endswith(".json") and data.draw(st.booleans()):
            content = json.dumps(changed(json.loads(before), data.draw)).encode()
        (folder / file).write_bytes(content)
        told, said = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(told):
            status = check([str(folder)])
        assert status in (0, 1, 2)
        assert (said if status < 2 else told).getvalue().strip(), "nothing is said"
        assert "Traceback" not in said.getvalue() + told.getvalue()
        assert len(said.getvalue()) < 20_000

    run_all(look)
