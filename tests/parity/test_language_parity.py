"""Our text encoder against the numbers of the published one."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from xdecoder.language.encoder import LanguageConfig, LanguageEncoder
from xdecoder.published.names import convert


@pytest.fixture(scope="module")
def recorded(oracle: Path) -> dict[str, Any]:
    return torch.load(oracle / "values/focalt_text.pt", weights_only=True)


@pytest.fixture(scope="module")
def encoder(oracle: Path, seeded: ModuleType) -> LanguageEncoder:
    names = json.loads((oracle / "names/focalt_state_dict.json").read_text())
    texts = {name: entry for name, entry in names.items() if ".lang_encoder." in name}
    weights = convert(seeded.seeded_state_dict(texts))
    encoder = LanguageEncoder(LanguageConfig())
    encoder.load_state_dict({name.removeprefix("language."): value for name, value in weights.items()})
    return encoder.eval().requires_grad_(False)


def assert_near(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert ((ours - theirs).norm() / theirs.norm()).item() < 1e-5


def test_caption_tokens(encoder: LanguageEncoder, recorded: dict[str, Any]) -> None:
    texts = encoder([recorded["caption"]])
    n = texts.ids.shape[1]
    assert torch.equal(texts.ids, recorded["caption_ids"][:, :n])
    assert texts.lengths.tolist() == recorded["caption_mask"].sum(dim=1).tolist()
    assert_near(texts.tokens, recorded["caption_token_emb"][:, :n])
    assert_near(texts.vectors, recorded["caption_class_emb"])


def test_phrases(encoder: LanguageEncoder, recorded: dict[str, Any], shared: Path) -> None:
    phrases = torch.load(shared / "oracle/values/inputs.pt", weights_only=True)["ground_texts"]
    texts = encoder([text for group in phrases for text in group])
    n = texts.ids.shape[1]
    assert torch.equal(texts.ids, recorded["ground_ids"][:, :n])
    assert torch.equal(texts.present.long(), recorded["ground_mask"][:, :n])
    assert_near(texts.vectors, recorded["ground_class_emb"])


def test_single_templates(encoder: LanguageEncoder, recorded: dict[str, Any]) -> None:
    assert_near(F.normalize(encoder(recorded["train_prompt_texts"]).vectors, dim=-1), recorded["train_prompt_emb"])


def test_bare_names(encoder: LanguageEncoder, recorded: dict[str, Any]) -> None:
    assert_near(encoder.vocabulary(recorded["class_prompts"], "none"), recorded["noprompt_emb"])


def test_ensembles(encoder: LanguageEncoder, recorded: dict[str, Any]) -> None:
    """Two of the eight names: one with a suffix to be cleaned away, and the background."""
    for_names = [recorded["class_prompts"].index(name) for name in ("sky-other-merged", "background")]
    ours = encoder.vocabulary([recorded["class_prompts"][i] for i in for_names])
    assert_near(ours, recorded["ensemble"][for_names])
