"""Referring image editing, with a diffusion pipeline made of random weights."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.tiny import tiny_model
from xdecoder import checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # diffusers and transformers warn of each other's changes


@pytest.fixture(scope="module")
def inpainter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the smallest network of Stable Diffusion's in-painting kind."""
    diffusers = pytest.importorskip("diffusers", reason="editing needs diffusers (pip install 'xdecoder[edit]')")
    transformers = pytest.importorskip("transformers", reason="editing needs transformers (pip install 'xdecoder[edit]')")
    folder = tmp_path_factory.mktemp("inpainter")
    letters = [f"{letter}{end}" for letter in "abcdefghijklmnopqrstuvwxyz" for end in ("", "</w>")]
    words = ["<|startoftext|>", "<|endoftext|>", *letters]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16)
    text = transformers.CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=16,
        projection_dim=32,
        bos_token_id=0,
        eos_token_id=1,
    )
    blocks = {"block_out_channels": (32, 64), "layers_per_block": 1}
    pipeline = diffusers.StableDiffusionInpaintPipeline(
        vae=diffusers.AutoencoderKL(
            in_channels=3,
            out_channels=3,
            latent_channels=4,
            **blocks,
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
        ),
        unet=diffusers.UNet2DConditionModel(
            sample_size=32,
            in_channels=9,
            out_channels=4,
            cross_attention_dim=32,
            attention_head_dim=8,
            **blocks,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        ),
        text_encoder=transformers.CLIPTextModel(text),
        tokenizer=tokenizer,
        scheduler=diffusers.DDIMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder / "pipeline")
    return folder / "pipeline"


def test_only_what_is_masked_is_painted_anew(inpainter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import demo_refedit

    monkeypatch.setattr(demo_refedit, "SIDE", 64)
    pipeline = demo_refedit.load_inpainter(str(inpainter))
    pipeline.set_progress_bar_config(disable=True)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (72, 100, 3), dtype=np.uint8))
    mask = np.zeros((72, 100), bool)
    mask[20:50, 30:70] = True
    edited = np.asarray(demo_refedit.repaint(pipeline, picture, mask, "a cube", num_inference_steps=2))
    changed = (edited != np.asarray(picture)).any(axis=2)
    assert edited.shape == (72, 100, 3)
    assert changed[24:46, 34:66].mean() > 0.95
    outside = np.ones_like(mask)
    outside[18:52, 28:72] = False  # the mask is grown by a pixel
    assert not changed[outside].any()


def test_the_script(inpainter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    import demo_refedit

    asked: dict[str, Any] = {}

    def pipeline(**settings: Any) -> Any:
        asked.update(settings)
        return type("Output", (), {"images": [Image.new("RGB", settings["image"].size, "lime")]})

    monkeypatch.setattr(demo_refedit, "load_inpainter", lambda name, device: asked.update(name=name) or pipeline)
    checkpoint.save(tiny_model(), tmp_path / "model.pt")
    line = ["--checkpoint", str(tmp_path / "model.pt"), "--output", str(tmp_path / "edit.png"), "--inpainter", str(inpainter)]
    run = [demo_refedit.ask, "edit.png"]
    assert demo_refedit.main(*run, arguments=[*line, "--texts", "a cat", "a cube"], options=demo_refedit.options) == 0
    assert asked["prompt"] == "a cube" and asked["name"] == str(inpainter) and asked["width"] % 64 == asked["height"] % 64 == 0
    with Image.open(tmp_path / "edit.png") as edited:
        assert (np.asarray(edited) == (0, 255, 0)).all(axis=2).any()
    capsys.readouterr()
    assert demo_refedit.main(*run, arguments=[*line, "--texts", "a cat"], options=demo_refedit.options) == 2
    assert "--texts: expected two, what is to go and what shall be there, not 1" in capsys.readouterr().err


def test_the_package_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import demo_refedit

    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ValueError, match=r"editing needs the package diffusers: pip install 'xdecoder\[edit\]'"):
        demo_refedit.load_inpainter("anything")
