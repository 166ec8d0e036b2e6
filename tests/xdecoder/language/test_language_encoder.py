from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from xdecoder.config import ConfigError, parse
from xdecoder.language.encoder import LanguageConfig, LanguageEncoder
from xdecoder.language.prompts import TEMPLATES, fill

SMALL = LanguageConfig(merges=500, context_length=32, width=32, heads=4, layers=2, output_width=24)
TEXTS = ["a red star", "the small blue cube left of the large green circle", ""]


@pytest.fixture
def encoder() -> LanguageEncoder:
    return LanguageEncoder(SMALL).eval()


def test_shapes_and_presence(encoder: LanguageEncoder) -> None:
    texts = encoder(TEXTS)
    n = texts.ids.shape[1]
    assert texts.tokens.shape == (3, n, 24) and texts.vectors.shape == (3, 24) and len(texts) == 3
    assert texts.lengths[2] == 2 and texts.lengths.max() == n
    assert texts.present.sum(dim=1).tolist() == texts.lengths.tolist()
    for row, length in enumerate(texts.lengths.tolist()):
        assert texts.ids[row, length - 1] == encoder.tokenizer.end
        torch.testing.assert_close(texts.vectors[row], texts.tokens[row, length - 1])


def test_a_text_alone_equals_the_text_among_longer_ones(encoder: LanguageEncoder) -> None:
    together = encoder(TEXTS)
    for row, text in enumerate(TEXTS):
        alone = encoder([text])
        torch.testing.assert_close(alone.vectors[0], together.vectors[row], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(alone.tokens[0], together.tokens[row, : alone.ids.shape[1]], rtol=1e-5, atol=1e-6)


def test_many_texts_are_learnt_from_as_if_together(encoder: LanguageEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Passes of texts of like length change neither outputs nor gradients."""
    passes: list[tuple[int, ...]] = []
    encoder.blocks[0].register_forward_pre_hook(lambda block, inputs: passes.append(tuple(inputs[0].shape[:2])))
    texts = [f"{'very ' * (i % 7)}small cube {i}" for i in range(20)]

    def learn() -> tuple[Tensor, Tensor, list[Tensor]]:
        encoder.zero_grad()
        read = encoder.train()(texts)
        read.vectors.square().sum().backward()
        gradients = [p.grad.clone() for p in encoder.parameters() if p.grad is not None]
        return read.vectors.detach(), (read.tokens * read.present[..., None]).detach(), gradients

    whole = learn()
    assert len(passes) == 1
    monkeypatch.setattr("xdecoder.language.encoder._PASS", 8)
    parts = learn()
    assert [count for count, _ in passes[1:]] == [8, 8, 4]
    assert passes[1][1] < passes[2][1] < passes[3][1] == passes[0][1]
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5)


def test_no_token_sees_later_ones(encoder: LanguageEncoder) -> None:
    one, two = encoder(["a red star"]), encoder(["a red cube"])
    torch.testing.assert_close(one.tokens[0, :3], two.tokens[0, :3])
    assert (one.vectors - two.vectors).abs().max() > 1e-3


def test_attention_is_that_of_the_formula(encoder: LanguageEncoder) -> None:
    """One block, written out with a plain softmax."""
    block = encoder.blocks[0]
    x = torch.randn(2, 5, 32)
    q, k, v = (F.layer_norm(x, (32,), eps=1e-12) @ block.attention.in_proj.weight.T).split(32, dim=-1)
    heads = [t.reshape(2, 5, 4, 8) for t in (q, k, v)]
    scores = torch.einsum("bnhd,bmhd->bhnm", heads[0], heads[1]) / 8**0.5
    scores = scores.masked_fill(~torch.ones(5, 5, dtype=torch.bool).tril(), float("-inf"))
    mixed = torch.einsum("bhnm,bmhd->bnhd", scores.softmax(-1), heads[2]).reshape(2, 5, 32)
    y = x + mixed @ block.attention.out_proj.weight.T
    hidden = F.layer_norm(y, (32,), eps=1e-12) @ block.mlp.linear1.weight.T
    expected = y + (hidden / (1 + torch.exp(-1.702 * hidden))) @ block.mlp.linear2.weight.T
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)


def test_an_unfinished_text_is_read_at_its_last_token(encoder: LanguageEncoder) -> None:
    unfinished = encoder.encode_ids(encoder.tokenizer.encode(["a red star"])[:, :3])
    assert unfinished.lengths.tolist() == [3] and unfinished.present.all()
    torch.testing.assert_close(unfinished.vectors, unfinished.tokens[:, 2])


def test_ensemble_is_the_mean_of_unit_vectors(encoder: LanguageEncoder) -> None:
    names = ["red star", "sky-other-merged"]
    vectors = encoder.vocabulary(names)
    for name, vector in zip(names, vectors, strict=True):
        each = F.normalize(encoder([fill(name, template) for template in TEMPLATES]).vectors, dim=-1)
        torch.testing.assert_close(vector, F.normalize(each.mean(dim=0), dim=-1), rtol=1e-4, atol=1e-5)
    assert not vectors.requires_grad


def test_many_names_are_read_as_each_alone(encoder: LanguageEncoder) -> None:
    """Of many names, what the sentences of a template begin with is read once."""
    shapes = ("star", "cube", "ring", "a", "hexagon", "x")
    names = [f"{colour} {shape}" for colour in ("red", "dark blue", "large") for shape in shapes]
    together = encoder.vocabulary(names)
    alone = torch.cat([LanguageEncoder.vocabulary(encoder.train().eval(), [name]) for name in names])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_texts_read_piece_by_piece(encoder: LanguageEncoder) -> None:
    ids = encoder.tokenizer.encode(TEXTS)
    expected = encoder.encode_ids(ids)
    torch.testing.assert_close(encoder.encode_ends(ids), expected.vectors, rtol=1e-5, atol=1e-6)
    cache = encoder.text_cache(len(ids), ids.shape[1])
    pieces = [encoder.read_on(part, cache) for part in ids.split([1, 2, 1, ids.shape[1] - 4], dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), expected.tokens, rtol=1e-5, atol=1e-6)


def count_passes(encoder: LanguageEncoder, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    passes: list[int] = []
    plain = encoder.encode_ends

    def counting(ids: torch.Tensor):
        passes.append(len(ids))
        return plain(ids)

    monkeypatch.setattr(encoder, "encode_ends", counting)
    return passes


def test_ensembles_are_computed_once(encoder: LanguageEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = count_passes(encoder, monkeypatch)
    first = encoder.vocabulary(["star", "cube"])
    assert sum(passes) == 2 * 81
    assert torch.equal(encoder.vocabulary(["cube", "star"]), first.flip(0))
    assert sum(passes) == 2 * 81
    encoder.vocabulary(["cube", "ring", "ring"])
    assert sum(passes) == 3 * 81


@pytest.mark.parametrize("fused", [False, True])
def test_remembered_ensembles_do_not_outlive_training(encoder: LanguageEncoder, fused: bool) -> None:
    before = encoder.vocabulary(["star", "cube"]).clone()
    encoder.train()
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=0.1, fused=fused)
    encoder.vocabulary(["star", "cube"], "random")[0, 0].backward()
    in_training = encoder.vocabulary(["star", "cube"])
    torch.testing.assert_close(in_training, before)
    optimizer.step()
    assert (encoder.vocabulary(["star", "cube"]) - before).abs().max() > 1e-3
    encoder.eval()
    assert (encoder.vocabulary(["star", "cube"]) - before).abs().max() > 1e-3


def test_loading_weights_forgets_ensembles(encoder: LanguageEncoder) -> None:
    before = encoder.vocabulary(["star"])
    encoder.load_state_dict(LanguageEncoder(SMALL).state_dict())
    assert (encoder.vocabulary(["star"]) - before).abs().max() > 1e-3


def test_casting_forgets_ensembles(encoder: LanguageEncoder) -> None:
    encoder.vocabulary(["star"])
    assert encoder.double().vocabulary(["star"]).dtype == torch.float64


def test_ensembles_made_in_inference_mode_serve_in_training(encoder: LanguageEncoder) -> None:
    with torch.inference_mode():
        encoder.vocabulary(["star"])
    image = torch.randn(1, 24, requires_grad=True)
    (image @ encoder.vocabulary(["star"]).T).sum().backward()
    assert image.grad is not None


def test_random_templates_carry_gradient_and_follow_the_generator(encoder: LanguageEncoder) -> None:
    names = ["star", "cube", "ring"]
    one = encoder.vocabulary(names, "random", torch.Generator().manual_seed(3))
    two = encoder.vocabulary(names, "random", torch.Generator().manual_seed(3))
    torch.testing.assert_close(one, two)
    torch.testing.assert_close(one.norm(dim=1), torch.ones(3))
    one[:, 0].sum().backward()
    assert encoder.token_embedding.weight.grad is not None and encoder.token_embedding.weight.grad.abs().sum() > 0


def test_no_template_means_the_name_as_it_stands(encoder: LanguageEncoder) -> None:
    vectors = encoder.vocabulary(["door-stuff"], "none")
    torch.testing.assert_close(vectors, F.normalize(encoder(["door-stuff"]).vectors, dim=-1))


@pytest.mark.parametrize("templates", ["ensemble", "random", "none"])
def test_no_names_no_vectors(encoder: LanguageEncoder, templates: str) -> None:
    assert encoder.vocabulary([], templates).shape == (0, 24)  # type: ignore[arg-type]


def test_no_texts(encoder: LanguageEncoder) -> None:
    texts = encoder([])
    assert texts.vectors.shape == (0, 24) and len(texts) == 0


def test_size_is_the_published_one() -> None:
    with torch.device("meta"):
        encoder = LanguageEncoder(LanguageConfig())
    assert sum(p.numel() for p in encoder.parameters()) == 63_428_097


def test_initial_logit_scale() -> None:
    assert LanguageEncoder(SMALL.model_copy(update={"initial_logit_scale": 2.5})).logit_scale.item() == 2.5


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ConfigError, match="multiple of language.heads"):
        parse(LanguageConfig, {"width": 30, "heads": 4})
