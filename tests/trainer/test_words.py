"""The stage in which a text encoder learns from pooled features."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.tiny import tiny_model
from trainer.words import Pooled, Words, WordsConfig, pooled_features, recall, recall_of, teach

TEXTS = ("a red ball", "the blue sea", "two dogs", "an old man", "green grass", "a long street", "one cup", "the night sky")


def made_up(model: torch.nn.Module) -> Pooled:
    """A picture a text, far from zero as features of a trained backbone are."""
    torch.manual_seed(0)
    width = model.backbone_proj.shape[0]
    features = 3.0 + torch.randn(len(TEXTS), 1, width)
    return Pooled(features + 0.05 * torch.randn(len(TEXTS), 2, width), tuple((text, f"{text} again") for text in TEXTS))


def test_texts_find_their_pictures() -> None:
    model = tiny_model()
    pool, before = made_up(model), model.backbone_proj.detach().clone()
    config = WordsConfig(sets=("shapes_train",), choose_by="shapes_val", steps=40, batch_size=8, measure_every=20)
    chance = recall(Words(model, pool.features), pool)
    found = teach(model, [pool], pool, config)
    assert found["IR@1"] > 75 and found["TR@1"] > 75 and chance["IR@1"] < 50 and found["step"] in (20, 40)
    assert not torch.equal(model.backbone_proj, before)
    images = torch.nn.functional.normalize(pool.features[:, 0] @ model.backbone_proj, dim=-1)
    texts = torch.nn.functional.normalize(model.language.encode(TEXTS).vectors, dim=-1)
    assert ((images @ texts.T).argmax(dim=1) == torch.arange(len(TEXTS))).float().mean() > 0.7, "the network's own projection"


def test_the_projection_takes_the_mean_away() -> None:
    model = tiny_model()
    features = made_up(model).features
    words = Words(model, features)
    assert torch.allclose(features @ words.projection, words.eval().images(features), atol=1e-4)
    vectors = (features @ words.projection).flatten(0, 1)
    assert vectors.mean(dim=0).norm() < 0.2 * vectors.norm(dim=1).mean()


def test_the_projection_alone_follows_what_has_moved() -> None:
    model = tiny_model()
    pool = made_up(model)
    settings = {"sets": ("shapes_train",), "choose_by": "shapes_val", "batch_size": 8, "measure_every": 10}
    teach(model, [pool], pool, WordsConfig(**settings, steps=40))
    before = {name: value.clone() for name, value in model.language.state_dict().items()}
    torch.manual_seed(3)
    turned = Pooled(
        pool.features @ torch.linalg.qr(torch.randn(pool.features.shape[-1], pool.features.shape[-1]))[0], pool.captions
    )
    lost = recall_of(model, turned)
    found = teach(model, [turned], turned, WordsConfig(**settings, steps=60, learn_texts=False, learning_rate=1e-2))
    assert found["IR@1"] > lost["IR@1"] and recall_of(model, turned)["IR@1"] == pytest.approx(found["IR@1"], abs=13)
    assert all(torch.equal(value, before[name]) for name, value in model.language.state_dict().items())
    assert all(value.requires_grad for value in model.language.parameters())


def test_the_same_seed_teaches_the_same() -> None:
    config = WordsConfig(sets=("shapes_train",), choose_by="shapes_val", steps=3, batch_size=4)
    taught = []
    for _ in range(2):
        model = tiny_model()
        teach(model, [made_up(model)], made_up(model), config, seed=5)
        taught.append(model.backbone_proj.detach().clone())
    assert torch.equal(*taught)


def test_features_are_the_backbones(shared: Path) -> None:
    model = tiny_model()
    pool = pooled_features(model, "coco_more_val", shared / "data", 64)
    assert pool.features.shape == (50, 2, model.backbone_proj.shape[0]) and len(pool.captions) == 50
    assert not torch.allclose(pool.features[:, 0], pool.features[:, 1]), "a picture and its mirror image"
