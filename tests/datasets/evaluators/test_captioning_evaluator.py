"""Caption scores: hand-derived values, the Java tool's words, and figures published or measured with the official tool."""

from __future__ import annotations

import contextlib
import io
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.evaluators import CaptionEvaluator, coco_caption_tools
from datasets.evaluators.captioning import bleu, cider, rouge_l
from datasets.evaluators.ptb import tokenise
from xdecoder.types import CaptionResult, Sample

pytestmark = pytest.mark.slow

PAIRS = Path(__file__).resolve().parents[4] / "shared" / "data" / "eval_pairs"
needs_kit = pytest.mark.skipif(not PAIRS.is_dir(), reason="the real-data kit ../shared is absent")


def pair(candidate: str, *references: str) -> tuple:
    """Texts that are already cut into words."""
    return candidate, references


def sample(id: int, *captions: str) -> Sample:
    return Sample(id, torch.zeros(3, 2, 2, dtype=torch.uint8), (2, 2), captions=captions)


def scored(captions: dict[int, str], references: dict[int, list[str]]) -> dict[str, float]:
    """Official key -> value on the official scale."""
    evaluator = CaptionEvaluator(java=False)
    for id, caption in captions.items():
        evaluator.update(CaptionResult(caption), sample(id, *references[id]))
    return official(evaluator.compute())


def official(scores: dict[str, float]) -> dict[str, float]:
    names = {f"caption_{name}": name for name in ("CIDEr", "METEOR", "SPICE")} | {"caption_ROUGE-L": "ROUGE_L"}
    names |= {f"caption_BLEU-{n}": f"Bleu_{n}" for n in range(1, 5)}
    return {names[key]: value / 100 for key, value in scores.items()}


def common(expected: dict[str, float], found: dict[str, float]) -> dict[str, float]:
    return {key: value for key, value in expected.items() if key in found}


# What Stanford's PTBTokenizer 3.4.1 said, after the official list of punctuation was taken out.
@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("A dog's hat, isn't it?", "a dog 's hat is n't it"),
        ("It's the dogs' bowls; don't!", "it 's the dogs bowls do n't"),
        ("A well-lit black/white T-shirt (close-up).", "a well-lit black/white t-shirt -lrb- close-up -rrb-"),
        ("i'm you're we've he'd she'll", "i 'm you 're we 've he 'd she 'll"),
        ("can't cannot gonna wanna gotta", "ca n't can not gon na wan na got ta"),
        ("8th ave. and 22 3/4 st.", "8th ave. and 22\u00a03/4 st."),
        ("y'all saw <unk> &amp; a@b.com, rock'n'roll", "y' all saw <unk> & a@b.com rock 'n' roll"),
        ("½ of €5 \\ 3°", "1/2 of $ 5 \\ 3 °"),
        ('wait... what -- "now"?', "wait what now"),
        ("say no.", "say no"),
        ("no. 5 bus", "no. 5 bus"),
        ("the corner of 8th ave. and Main St.", "the corner of 8th ave. and main st."),
        ("W. Centre and CTH D.", "w. centre and cth d"),
        ("u.s. army at 5 a.m. with a t.v", "u.s. army at 5 a.m. with a t.v"),
        ("it costs $5.00 or 100% at 12:43.", "it costs $ 5.00 or 100 % at 12:43"),
        ("parked.A car & a #41", "parked.a car & a # 41"),
        ("slip 'n' slide at five o'clock, hors d'oeuvre", "slip 'n' slide at five o'clock hors d'oeuvre"),
        ("a café's naïve cat", "a café 's naïve cat"),
        ("it’s a “quoted” word", "it 's a quoted word"),
        ("really?! yes!!!", "really ?! yes !!!"),
        ("", ""),
    ],
)
def test_words(caption: str, words: str) -> None:
    assert " ".join(tokenise(caption)) == words


def test_bleu_by_hand() -> None:
    # 3 of 4 words and 1 of 3 bigrams ("b c") occur in a reference; no length penalty against the nearer of 4 and 6.
    scores = bleu([pair("a b c x", "a y b c", "c z z z z z")])
    assert scores[:2] == pytest.approx([3 / 4, math.sqrt(3 / 4 / 3)])
    assert scores[3] < 1e-3
    # Repeating a word is counted as often as one reference has it, and being short costs exp(1 - r / c).
    assert bleu([pair("a a a", "a b c d e", "a a x y z")])[0] == pytest.approx(2 / 3 * math.exp(1 - 5 / 3))
    assert bleu([pair("", "a b")])[0] == 0


def test_rouge_by_hand() -> None:
    precision, recall = 3 / 4, 3 / 3  # "a b c" in order; best over references each
    expected = (1 + 1.44) * precision * recall / (recall + 1.44 * precision)
    assert rouge_l([pair("a x b c", "a b c", "x")]) == pytest.approx(expected)
    assert rouge_l([pair("a x b c", "a b c"), pair("", "q")]) == pytest.approx(expected / 2)


def test_cider_by_hand() -> None:
    # Two pictures: a word of one has weight log 2, one of both 0. One-word captions have unigrams only.
    assert cider([pair("a", "a"), pair("b", "b")]) == pytest.approx(10 / 4)
    # "b" is in both and weighs nothing, "a" is as rare as can be: weights (a, z) against (z) have the cosine 1 / sqrt 2.
    assert cider([pair("a z", "b z"), pair("b", "b")]) == pytest.approx(10 / 4 / math.sqrt(2) / 2)
    # "a a" against "a": counts clipped, cosine 1 / 2; lengths 1 and 0 (bigrams) are damped.
    damping = math.exp(-1 / 72)
    assert cider([pair("a a", "a"), pair("b", "b")]) == pytest.approx((10 / 4 * 0.5 * damping + 10 / 4) / 2)
    assert cider([pair("a b c d", "a b c d")]) == 0  # one picture: nothing is rare


HOSTILE = {
    1: ("", ["a dog", "the dog"]),
    2: ("a dog a dog a dog a dog", ["", "a dog"]),
    3: ("", [""]),
    4: ("x", ["y y y y y", "z"]),
    5: ("the 22\u00a03/4 st", ["22\u00a03/4 st", "22 3/4 st"]),
    6: ("one two three four five", ["one two three four five", "five four three two one"]),
}


def test_equals_pycocoevalcap_on_random_and_hostile_captions() -> None:
    module = "pycocoevalcap"
    scorers = [
        pytest.importorskip(f"{module}.{name}", reason="the official caption tool is not installed")
        for name in ("bleu.bleu", "cider.cider", "rouge.rouge")
    ]
    rng = np.random.default_rng(0)
    captions = dict(HOSTILE)
    for id in range(10, 60):
        texts = [" ".join(rng.choice(list("abcdefg"), int(rng.integers(0, 12)))) for _ in range(int(rng.integers(2, 7)))]
        captions[id] = (texts[0], texts[1:])
    references, candidates = {id: refs for id, (_, refs) in captions.items()}, {id: [one] for id, (one, _) in captions.items()}
    with contextlib.redirect_stdout(io.StringIO()):
        official_bleu = scorers[0].Bleu(4).compute_score(references, candidates, verbose=0)[0]
        official_cider = scorers[1].Cider().compute_score(references, candidates)[0]
        official_rouge = scorers[2].Rouge().compute_score(references, candidates)[0]
    pairs = [(one, tuple(refs)) for one, refs in captions.values()]
    assert bleu(pairs) == pytest.approx(official_bleu, abs=1e-9)
    assert [cider(pairs), rouge_l(pairs)] == pytest.approx([official_cider, official_rouge], abs=1e-9)


def test_java_is_used_where_it_is_and_missed_in_words() -> None:
    """One run of the official programs: METEOR's published figure, and words of captions that our rules do not know."""
    if not coco_caption_tools.available():
        pytest.skip("Java or pycocoevalcap is not installed")
    evaluator = CaptionEvaluator()
    evaluator.update(CaptionResult("This is a good test."), sample(1, "this is a test", "this is also a test"))
    scores = official(evaluator.compute())
    assert scores["METEOR"] == pytest.approx(0.44434387, abs=1e-8) and scores["ROUGE_L"] == pytest.approx(0.9070631, abs=1e-7)
    notes = " ".join(evaluator.notes())
    assert "PTBTokenizer 3.4.1" in notes and ("SPICE" in scores or "no caption_SPICE: " in notes)
    texts = ["", "the dogs' bowls (2)\nare", "x", ""]
    assert coco_caption_tools.words(texts, official=True) == ["", "the dogs bowls -lrb- 2 -rrb- are", "x", ""]


def test_without_java_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    evaluator = CaptionEvaluator()
    evaluator.update(CaptionResult("a dog"), sample(1, "a dog"))
    assert "caption_METEOR" not in evaluator.compute()
    assert evaluator.notes() == [
        "captions cut into words by our rules (datasets/evaluators/ptb.py)",
        "no caption_METEOR: Java is not installed",
        "no caption_SPICE: Java is not installed",
    ]
    assert evaluator.per_image() == {1: pytest.approx(100)}


def test_a_program_that_breaks_off_does_not_take_the_other_scores_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    if not shutil.which("java"):
        pytest.skip("Java is not installed")
    monkeypatch.setattr(coco_caption_tools, "available", lambda: False)
    monkeypatch.setattr(coco_caption_tools, "_jar", lambda name: Path("/nowhere") / name)
    evaluator = CaptionEvaluator()
    evaluator.update(CaptionResult("a dog"), sample(1, "a dog"))
    assert evaluator.compute()["caption_ROUGE-L"] == 100
    assert "no caption_METEOR: java -Xmx2G -jar /nowhere/meteor/meteor-1.5.jar broke off" in " ".join(evaluator.notes())


def test_merging_and_order() -> None:
    places = [(colour, ground) for colour in ("red", "blue", "green") for ground in ("grass", "sand")]
    captions = [f"a {colour} star on {ground} with {colour} light" for colour, ground in places]
    whole, first, second = (CaptionEvaluator(java=False) for _ in range(3))
    for i, caption in enumerate(captions):
        one = (CaptionResult(captions[i // 2]), sample(i, caption, f"the {caption}"))
        whole.update(*one)
        (first if i % 2 else second).update(*one)
    second.merge([first.state(), second.state()])
    assert second.compute() == whole.compute()
    assert 0 < whole.compute()["caption_BLEU-4"] < 100


def test_hopeless_input() -> None:
    assert all(math.isnan(value) for value in CaptionEvaluator().compute().values())
    with pytest.raises(ValueError, match="picture 4: has no reference captions"):
        CaptionEvaluator().update(CaptionResult("a dog"), sample(4))


@needs_kit
def test_published_small_examples() -> None:
    folder = PAIRS / "caption_examples"
    expected = json.loads((folder / "expected.json").read_text())
    lines = [(folder / f"nlgeval_{name}.txt").read_text().split("\n") for name in ("hyp", "ref1", "ref2")]
    pairs = [pair(*texts) for texts in list(zip(*lines, strict=False))[:2]]
    target = expected["nlgeval (README + tests; whitespace-tokenised)"]
    assert bleu(pairs) == pytest.approx([target[f"Bleu_{n}"] for n in range(1, 5)], abs=1e-6)
    assert [rouge_l(pairs), cider(pairs)] == pytest.approx([target["ROUGE_L"], target["CIDEr"]], abs=1e-6)

    target = next(value for key, value in expected.items() if key.startswith("nlgeval test"))
    one = [pair("this is a good test", "this is a test", "this is also a test")]
    assert bleu(one) == pytest.approx([target[f"Bleu_{n}"] for n in range(1, 5)], abs=1e-6)
    assert [rouge_l(one), cider(one)] == pytest.approx([target["ROUGE_L"], target["CIDEr"]], abs=1e-6)

    references = json.loads((folder / "clipscore_refs.json").read_text())
    for name in ("good", "bad"):
        captions = json.loads((folder / f"clipscore_{name}_captions.json").read_text())
        found = scored(captions, references)
        target = common(expected[f"clipscore {name} (PTB-tokenised)"], found)
        assert found == pytest.approx(target, abs=5.1e-5)


@needs_kit
def test_official_figures_on_real_captions() -> None:
    """126 machine captions: the words of the Java tokeniser, and every score to the last digits."""
    folder = PAIRS / "coco_captions_val2017"
    references: dict[int, list[str]] = {}
    for row in sorted(json.loads((folder / "captions_val2017.json").read_text())["annotations"], key=lambda row: row["id"]):
        references.setdefault(row["image_id"], []).append(row["caption"])
    rows = json.loads((folder / "captions_val2014_fakecap_results.json").read_text())
    captions = {row["image_id"]: row["caption"] for row in rows if row["image_id"] in references}
    assert len(captions) == 126

    words = json.loads((folder / "fakecap126_ptb_tokenised.json").read_text())
    for id, caption in captions.items():
        assert " ".join(tokenise(caption)) == words[str(id)]["cand"]
        assert sorted(" ".join(tokenise(text)) for text in references[id]) == sorted(words[str(id)]["refs"])

    expected = json.loads((folder / "expected.json").read_text())
    found = scored(captions, references)
    assert found == pytest.approx(common(expected["fakecap_on_126_shared_images"], found), abs=1e-10)

    people = {id: texts[0] for id, texts in references.items()}
    others = {id: texts[1:] for id, texts in references.items()}
    found = scored(people, others)
    target = next(value for key, value in expected.items() if key.startswith("human_vs_human"))
    assert found == pytest.approx(common(target, found), abs=1e-10)
