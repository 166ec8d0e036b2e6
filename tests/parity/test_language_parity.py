"""Our text encoder against the numbers of the published one."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from xdecoder.language.encoder import LanguageConfig, LanguageEncoder

PREFIX = "sem_seg_head.predictor.lang_encoder."
RENAMED = {
    "lang_encoder.": "",
    "resblocks": "blocks",
    "positional_embedding": "position_embedding",
    "attn.in_proj_": "attention.in_proj.",
    "attn.": "attention.",
    "ln_1": "norm1",
    "ln_2": "norm2",
    "c_fc": "linear1",
    "c_proj": "linear2",
    "ln_final": "final_norm",
    "lang_proj": "projection",
}


def our_name(published: str) -> str:
    name = published.removeprefix(PREFIX)
    for theirs, ours in RENAMED.items():
        name = name.replace(theirs, ours)
    return name


@pytest.fixture(scope="module")
def oracle(shared: Path) -> dict[str, Any]:
    return torch.load(shared / "oracle/values/focalt_text.pt", weights_only=True)


@pytest.fixture(scope="module")
def encoder(shared: Path) -> LanguageEncoder:
    spec = importlib.util.spec_from_file_location("seeded", shared / "oracle/seeded.py")
    assert spec and spec.loader
    seeded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(seeded)
    names = json.loads((shared / "oracle/names/focalt_state_dict.json").read_text())
    values = {our_name(key): seeded.seeded_value(key, shape) for key, (shape, _) in names.items() if key.startswith(PREFIX)}
    encoder = LanguageEncoder(LanguageConfig())
    encoder.load_state_dict(values)
    return encoder.eval().requires_grad_(False)


def assert_near(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert ((ours - theirs).norm() / theirs.norm()).item() < 1e-5


def test_caption_tokens(encoder: LanguageEncoder, oracle: dict[str, Any]) -> None:
    texts = encoder([oracle["caption"]])
    n = texts.ids.shape[1]
    assert torch.equal(texts.ids, oracle["caption_ids"][:, :n])
    assert texts.lengths.tolist() == oracle["caption_mask"].sum(dim=1).tolist()
    assert_near(texts.tokens, oracle["caption_token_emb"][:, :n])
    assert_near(texts.vectors, oracle["caption_class_emb"])


def test_phrases(encoder: LanguageEncoder, oracle: dict[str, Any], shared: Path) -> None:
    phrases = torch.load(shared / "oracle/values/inputs.pt", weights_only=True)["ground_texts"]
    texts = encoder([text for group in phrases for text in group])
    n = texts.ids.shape[1]
    assert torch.equal(texts.ids, oracle["ground_ids"][:, :n])
    assert torch.equal(texts.present.long(), oracle["ground_mask"][:, :n])
    assert_near(texts.vectors, oracle["ground_class_emb"])


def test_single_templates(encoder: LanguageEncoder, oracle: dict[str, Any]) -> None:
    assert_near(F.normalize(encoder(oracle["train_prompt_texts"]).vectors, dim=-1), oracle["train_prompt_emb"])


def test_bare_names(encoder: LanguageEncoder, oracle: dict[str, Any]) -> None:
    assert_near(encoder.vocabulary(oracle["class_prompts"], "none"), oracle["noprompt_emb"])


def test_ensembles(encoder: LanguageEncoder, oracle: dict[str, Any]) -> None:
    """Two of the eight names: one with a suffix to be cleaned away, and the background."""
    for_names = [oracle["class_prompts"].index(name) for name in ("sky-other-merged", "background")]
    ours = encoder.vocabulary([oracle["class_prompts"][i] for i in for_names])
    assert_near(ours, oracle["ensemble"][for_names])
