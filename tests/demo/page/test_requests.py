"""What reaches the page without a browser: requests that it would not send, and refusals in our words."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio", reason="the page needs gradio (pip install '.[web]')")

import gradio

from demo.page.ask_tab import texts_of
from demo.page.desk import kindly
from demo.page.service import OwnWords
from demo.page.tasks import Texts
from demo.page.uploads import FORGED, uploaded

GIVEN = ["star", "sky", "star", "the star", "a star", "what?", 0.4, 0.5, -0.2]


def test_the_fields_in_their_order() -> None:
    assert texts_of(GIVEN) == Texts("star", "sky", "star", "the star", "a star", "what?", 0.4, 0.5, -0.2)


@pytest.mark.parametrize(
    "given",
    [
        [],
        GIVEN[:-1],
        [*GIVEN, 1],
        [None, *GIVEN[1:]],
        [*GIVEN[:-1], "0.4"],
        [*GIVEN[:-1], float("nan")],
        [*GIVEN[:-1], 2],
        [*GIVEN[:-2], -0.1, 0],
        [["a"], *GIVEN[1:]],
    ],
)
def test_what_the_page_does_not_send_is_one_sentence_of_ours(given: list[Any]) -> None:
    with pytest.raises(ValueError, match="This is not what the page sends"):
        texts_of(given)


def test_an_upload_that_is_none(tmp_path: Path) -> None:
    outside = tmp_path / "secret.png"
    outside.write_bytes(b"x")
    for forged in (
        "/etc/passwd",
        {"path": 3},
        {"url": "x"},
        ["a"],
        7,
        {"path": "/etc/passwd"},
        {"path": str(outside)},
        {"path": "\0"},
    ):
        with pytest.raises(ValueError, match="This is not what the page sends"):
            uploaded(forged)


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (ValueError("<b>no</b>"), "&lt;b&gt;no&lt;/b&gt;"),
        (RuntimeError("secret"), "Something went wrong on our side; the log of this page says what."),
    ],
)
def test_errors_are_toasts_in_our_words(raised: Exception, said: str, capsys: Any) -> None:
    async def fail() -> None:
        raise raised

    with pytest.raises(gradio.Error) as caught:
        asyncio.run(kindly(fail()))
    assert caught.value.message == said
    assert ("secret" in capsys.readouterr().err) == isinstance(raised, RuntimeError), "what only we can mend goes to the log"


def test_refusals_of_libraries_are_reworded() -> None:
    sent: list[dict[str, Any]] = []

    async def library(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": scope["status"], "headers": [(b"x-inside", b"1")]})
        await send({"type": "http.response.body", "body": b"pydantic ", "more_body": True})
        await send({"type": "http.response.body", "body": b"says so"})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    for status, path, said in (
        (422, "/gradio_api/queue/join", FORGED),
        (200, "/", "pydantic says so"),
        (400, "/mcp/", "pydantic"),
    ):
        sent.clear()
        asyncio.run(OwnWords(library)({"type": "http", "path": path, "status": status}, None, send))
        body = b"".join(message.get("body", b"") for message in sent).decode()
        assert sent[0]["status"] == status and said in body and ("pydantic" in body) == (said != FORGED)
