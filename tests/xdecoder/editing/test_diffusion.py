"""Editing with a diffusion pipeline made of random weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xdecoder.editing import painters

pytestmark = pytest.mark.filterwarnings("ignore")  # diffusers and transformers warn of each other's changes


@pytest.fixture(scope="module")
def inpainter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the smallest network of Stable Diffusion's in-painting kind."""
    diffusers = pytest.importorskip("diffusers", reason="editing needs diffusers (pip install '.[edit]')")
    transformers = pytest.importorskip("transformers", reason="editing needs transformers (pip install '.[edit]')")
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
    monkeypatch.setattr(painters, "SIDE", 64)
    painter = painters.load_inpainter(str(inpainter), num_inference_steps=2)
    painter.pipeline.set_progress_bar_config(disable=True)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (72, 100, 3), dtype=np.uint8))
    mask = np.zeros((72, 100), bool)
    mask[20:50, 30:70] = True
    edited = np.asarray(painters.compose(picture, painter(picture, mask, "a cube"), mask))
    changed = (edited != np.asarray(picture)).any(axis=2)
    assert edited.shape == (72, 100, 3)
    assert changed[24:46, 34:66].mean() > 0.95
    assert not changed[~mask].any()
