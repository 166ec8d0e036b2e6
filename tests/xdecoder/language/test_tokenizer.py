from __future__ import annotations

import importlib.util

import pytest
import torch

from xdecoder.language import tokenizer as module
from xdecoder.language.tokenizer import ALL_MERGES, Tokenizer

HARD_TEXTS = [
    "A photo of a CAT.",
    "don't  stop\tit's\n90% <|endoftext|> they'll've",
    "naïve Café Ünïcode ＡＢＣ 日本語 ✓🙂",
    "",
    "   ",
    "wall-brick,stone+tree",
    "a" * 500,
    "1234 ³ ½",
    "e\u0301a \u00a0x\u3000y İstanbul ẞ",
    " ".join(["word"] * 100),
]


@pytest.fixture(scope="module")
def clip() -> Tokenizer:
    return Tokenizer()


@pytest.fixture(scope="module")
def small() -> Tokenizer:
    return Tokenizer(merges=1000, context_length=20)


def test_known_ids(clip: Tokenizer) -> None:
    assert (clip.vocab_size, clip.start, clip.end) == (49408, 49406, 49407)
    ids = clip.encode(["a photo of a cat", "A  Photo\tof a cat"])
    assert ids.tolist() == [[49406, 320, 1125, 539, 320, 2368, 49407]] * 2


@pytest.mark.parametrize("text", HARD_TEXTS)
def test_equals_hugging_face(clip: Tokenizer, text: str) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.CLIPTokenizerFast(vocab=clip._pipeline.get_vocab(), merges=module._read_merges(ALL_MERGES))
    expected = theirs(text, truncation=True, max_length=77).input_ids
    assert clip.encode([text])[0].tolist() == expected


@pytest.mark.parametrize("text", ["A photo of a CAT.", "don't stop", "naïve Café 90%", "a" * 500])
def test_vocabulary_equals_open_clip(clip: Tokenizer, text: str) -> None:
    """Their table is built on its own from the same file, so this checks the order of the bytes and of the special ids."""
    theirs = pytest.importorskip("open_clip.tokenizer").SimpleTokenizer()
    assert clip.encode([text])[0, :-1].tolist() == theirs([text])[0, : clip.encode([text]).shape[1] - 1].tolist()


def test_rows_end_with_end_and_are_as_long_as_the_longest(clip: Tokenizer) -> None:
    ids = clip.encode(["cat", "a cat on the mat"])
    assert ids.shape == (2, 7) and ids.dtype == torch.int64
    assert ids[0, 2:].tolist() == [clip.end] * 5
    assert clip.encode([]).shape == (0, 2)


def test_long_text_is_cut_and_still_ends(small: Tokenizer) -> None:
    ids = small.encode(["star " * 50, "a"])
    assert ids.shape == (2, 20)
    assert ids[0, 0] == small.start and ids[0, -1] == small.end
    assert (ids[0, :-1] != small.end).all()


def test_fewer_merges_give_more_pieces_of_any_text(small: Tokenizer) -> None:
    assert small.vocab_size == 1514
    wide = Tokenizer(merges=1000)
    for text in HARD_TEXTS:
        assert wide.encode([text]).max() < wide.vocab_size
    assert wide.encode(["hexagon"]).shape[1] > Tokenizer().encode(["hexagon"]).shape[1]
    letters = Tokenizer(merges=0)
    assert letters.encode(["cube"]).shape == (1, 6)


@pytest.mark.parametrize("merges", [0, 1000, ALL_MERGES])
def test_decode_gives_the_text_back(merges: int) -> None:
    tokenizer = Tokenizer(merges)
    ids = tokenizer.encode(["the small red star, left of the café"])[0]
    assert tokenizer.decode(ids) == "the small red star , left of the café"
    after_the_end = [*ids.tolist(), *tokenizer.encode(["nothing of this"])[0].tolist()]
    assert tokenizer.decode(after_the_end) == tokenizer.decode(ids)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"merges": ALL_MERGES + 1}, "merges must lie between 0 and 48894"),
        ({"merges": -1}, "merges must lie"),
        ({"context_length": 1}, "context_length"),
    ],
)
def test_impossible_sizes_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Tokenizer(**arguments)


def test_missing_table_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="install the package open_clip_torch"):
        Tokenizer(merges=10)


def test_open_clip_itself_is_not_needed() -> None:
    assert importlib.util.find_spec("open_clip") is not None
    source = importlib.util.find_spec("xdecoder.language.tokenizer")
    assert source and source.origin
    with open(source.origin, encoding="utf-8") as file:
        assert "import open_clip" not in file.read()
