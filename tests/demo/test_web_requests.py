"""What reaches the page without a browser: requests that it would not send, and words that are markup elsewhere."""

from __future__ import annotations

from typing import Any

import answers
import pytest
import web
from answers import Reply, Texts

GIVEN = ["star", "sky", "star", "the star", "a star", "what?", 0.4]


def test_the_fields_in_their_order() -> None:
    assert web._texts(GIVEN) == Texts("star", "sky", "star", "the star", "a star", "what?", 0.4)


@pytest.mark.parametrize(
    "given",
    [
        GIVEN[:-1],
        [*GIVEN, 1],
        [None, *GIVEN[1:]],
        [*GIVEN[:-1], "0.4"],
        [*GIVEN[:-1], float("nan")],
        [*GIVEN[:-1], 2],
        [["a"], *GIVEN[1:]],
    ],
)
def test_what_the_page_does_not_send_is_one_sentence_of_ours(given: list[Any]) -> None:
    reply = web._kindly(lambda: web._texts(given))  # type: ignore[arg-type, return-value]
    assert reply.headline == web.FORGED and reply.content == {"error": web.FORGED}


@pytest.mark.parametrize("upload", ["/etc/passwd", {"path": 3}, {"url": "x"}, ["a"], 7])
def test_an_upload_that_is_none(upload: Any) -> None:
    with pytest.raises(ValueError, match="This is not what the page sends"):
        web._path(upload)


def test_words_of_visitors_are_no_markup() -> None:
    gradio = pytest.importorskip("gradio", reason="the page needs gradio (pip install 'xdecoder[web]')")
    words = "<img src=x onerror=alert(1)> **bold** [link](javascript:1)"
    shown = web._shown(gradio, Reply(f"Best: “{words}”", {}))
    assert shown[0] == "<strong>Best: “&lt;img src=x onerror=alert(1)&gt; **bold** [link](javascript:1)”</strong>"


@pytest.mark.parametrize("kind", ["phrase", "sentence"])
def test_a_question_has_a_price_limit(kind: str) -> None:
    assert (
        len(answers.lines_in("\n".join(f"the {i}th star" for i in range(answers.MAX_TEXTS[kind])), kind))
        == answers.MAX_TEXTS[kind]
    )
    with pytest.raises(ValueError, match=f"at most {answers.MAX_TEXTS[kind]} texts"):
        answers.lines_in("\n".join(f"the {i}th star" for i in range(answers.MAX_TEXTS[kind] + 1)), kind)


def test_the_letters_of_all_texts_are_limited_too() -> None:
    with pytest.raises(ValueError, match=f"at most {answers.MAX_LETTERS} characters at once"):
        answers.names_in(", ".join(f"{i:0200}" for i in range(answers.MAX_LETTERS // 200 + 1)))
