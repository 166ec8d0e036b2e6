"""Text embeddings: templates, synonyms, and what is kept on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from tests.xdecoder.sed.tiny import SETTINGS, tiny_sed
from xdecoder.sed.vocabulary import TextEmbeddings, embed, templates


def test_templates_are_clips_eighty() -> None:
    found = templates("imagenet")
    assert len(set(found)) == 80 and all(each.count("{}") == 1 for each in found)
    assert (found[0], found[-1]) == ("a bad photo of a {}.", "a tattoo of the {}.")


def test_each_template_stays_apart_and_synonyms_are_averaged() -> None:
    clip, sentences = tiny_sed().clip, ("a {}.", "many {}s.")
    found = embed(clip, ["cat", "cat, small dog", "cat,dog", " cat"], sentences)
    with torch.no_grad():
        cats, dogs, one, blank = (
            torch.stack([F.normalize(clip.encode_texts([each.replace("{}", word)])[0], dim=-1) for each in sentences])
            for word in ("cat", "small dog", "cat,dog", " cat")
        )
    expected = torch.stack([cats, F.normalize((cats + dogs) / 2, dim=-1), one, blank])
    assert torch.allclose(found, expected, atol=1e-5)


def test_without_blocks_a_text_is_the_mean_of_its_tokens() -> None:
    """Names that share no token are far apart, which those of blocks that never learnt are not."""
    bare = {"clip": {**SETTINGS["clip"], "text_layers": 0}, "templates": "none"}
    names = ["cat", "dog", "bus"]
    untaught, mean = tiny_sed(templates="imagenet").embed(names)[:, :1], tiny_sed(**bare).embed(names)
    assert mean.shape == (3, 1, 24)
    apart = [(text[:, 0] @ text[:, 0].T)[~torch.eye(3, dtype=torch.bool)].max() for text in (mean, untaught)]
    assert apart[0] < 0.7 and apart[0] < apart[1]
    turned, same = tiny_sed(**bare).embed(["tac", "cat cat"])
    assert torch.allclose(same, mean[0], atol=1e-6) and not torch.allclose(turned, mean[0], atol=1e-2)


def test_a_longer_text_beside_it_changes_nothing() -> None:
    clip = tiny_sed().clip
    with torch.no_grad():
        alone, (beside, _) = clip.encode_texts(["a cat"])[0], clip.encode_texts(["a cat", "a very much longer text than that"])
    assert torch.allclose(alone, beside, atol=1e-5)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "at least one class name is needed"),
        (["cat", " "], "class 1 of 2 is ' ': a name, or one of the synonyms that ', ' divides, is empty"),
        (["cat, "], "class 0 of 1 is 'cat, '"),
        (["cat, , dog"], "class 0 of 1 is 'cat, , dog'"),
    ],
)
def test_bad_names(names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_sed().embed(names)


def test_a_class_twice_is_the_same_class_twice() -> None:
    first, second = tiny_sed().embed(["cat", "cat"])
    assert torch.equal(first, second)


def test_kept_on_disk_by_content(tmp_path: Path) -> None:
    clip, told = tiny_sed().clip, []
    first = TextEmbeddings(clip, "imagenet", tmp_path)(["cat", "dog"], lambda done, of: told.append((done, of)))
    assert told[-1] == (160, 160) and len(list(tmp_path.iterdir())) == 1
    again = TextEmbeddings(clip, "imagenet", tmp_path)(["cat", "dog"], lambda *_: pytest.fail("they were there"))
    assert torch.equal(first, again)
    TextEmbeddings(clip, "imagenet", tmp_path)(["dog", "cat"])
    TextEmbeddings(clip, "single", tmp_path)(["cat", "dog"])
    assert len(list(tmp_path.iterdir())) == 3


def test_other_weights_never_get_these_vectors(tmp_path: Path) -> None:
    model = tiny_sed()
    texts = TextEmbeddings(model.clip, "single", tmp_path)
    before = texts(["cat"])
    with torch.no_grad():
        model.clip.model.text_projection.mul_(torch.linspace(0.5, 2, 24))
    after = texts(["cat"])
    assert not torch.allclose(before, after) and len(list(tmp_path.iterdir())) == 2


def test_broken_file_says_what_to_do(tmp_path: Path) -> None:
    clip = tiny_sed().clip
    TextEmbeddings(clip, "single", tmp_path)(["cat"])
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"cannot be read; delete the file, it will be made anew"):
        TextEmbeddings(clip, "single", tmp_path)(["cat"])


def test_what_was_made_without_gradients_serves_in_training() -> None:
    model = tiny_sed()
    with torch.inference_mode():
        text = model.embed(["cat"])
    assert not text.is_inference()
