"""A session about a folder with a picture, asked of a network of random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tiny import tiny_config
from xdecoder.config import parse
from xdecoder.decoder.answers import AnswerConfig
from xdecoder.inference.predictor import Predictor
from xdecoder.model import XDecoder, XDecoderConfig
from xdecoder.serving.session import Session


@pytest.fixture(scope="session")
def predictor() -> Predictor:
    torch.manual_seed(0)
    answers = AnswerConfig(answers=("yes", "no", "a star"), image_size=64)
    return Predictor(XDecoder(parse(XDecoderConfig, {**tiny_config().model_dump(), "answers": answers.model_dump()})))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "photo.png")
    Image.fromarray(pixels[:, ::-1]).save(folder / "other.png")
    return folder


@pytest.fixture
def session(predictor: Predictor, root: Path, tmp_path: Path) -> Session:
    (tmp_path / "session").mkdir()
    return Session(predictor, tmp_path / "session", root)
