"""The conversation, with a language model's server on this machine that says what a script says."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from PIL import Image

from tests.demo.scripted import Script, call
from tests.painted import PaintedPredictor, painted_scene
from tests.tiny import tiny_model
from xdecoder import checkpoint
from xdecoder.inference.predictor import Predictor
from xdecoder.serving.session import Session
from xdecoder.serving.tools import Tools


@pytest.fixture
def scripted(tmp_path: Path) -> Iterator[Any]:
    """Makes a conversation with a server that follows a script."""
    from demo.conversation import Conversation, LanguageModel

    servers: list[Script] = []

    def start(*answers: Any, seconds: float = 5.0) -> tuple[Conversation, Script]:
        server = Script(answers)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        tools = Tools(Session(cast(Predictor, PaintedPredictor()), tmp_path))
        return Conversation(LanguageModel(server.address, "scripted", "secret", seconds), tools), server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def upload() -> bytes:
    data = io.BytesIO()
    painted_scene().save(data, "PNG")
    return data.getvalue()


TURNS: list[tuple[str, list[Any]]] = [
    ("what is in the picture?", [call("describe", {"image": "img_1"}), {"content": "Something red, green and blue."}]),
    ("where is the red one?", [call("refer", {"image": "img_1", "phrases": ["the red square"]}), {"content": "On the left."}]),
    ("remove it", [call("edit", {"image": "img_1", "instruction": "remove the red square"}), {"content": "See img_2."}]),
    ("is there anything red left?", [call("answer", {"image": "img_2", "question": "is it red?"}), {"content": "No."}]),
]


def without_scores(value: Any) -> Any:
    """The same with 0 in place of fractions, also within the JSON of tool results."""
    if isinstance(value, dict):
        return {key: without_scores(each) for key, each in value.items()}
    if isinstance(value, list):
        return [without_scores(each) for each in value]
    if isinstance(value, str) and value[:1] == "{":
        return without_scores(json.loads(value))
    return 0 if isinstance(value, float) else value


def test_a_talk_goes_as_recorded(scripted: Any, tmp_path: Path, root: Path) -> None:
    conversation, server = scripted(*(answer for _, answers in TURNS for answer in answers))
    assert conversation.show(upload(), "scene.png") == "img_1"
    drawn = []
    for text, answers in TURNS:
        turn = conversation.say(text)
        assert turn.text == answers[-1]["content"]
        drawn += [tool for tool, _ in turn.images]
    assert drawn == ["refer", "edit"]
    conversation.save(tmp_path / "transcript.json")
    found = json.loads((tmp_path / "transcript.json").read_text())
    recorded = root / "tests/demo/chat_transcript.json"
    assert without_scores(found) == without_scores(json.loads(recorded.read_text()))
    first, last = server.asked[0], server.asked[-1]
    assert first["path"] == "/v1/chat/completions" and first["key"] == "Bearer secret" and first["model"] == "scripted"
    assert {tool["function"]["name"] for tool in first["tools"]} >= {"describe", "refer", "edit", "answer", "info"}
    assert "img_2: edit of img_1" in last["messages"][0]["content"], "the model is told what there is"


FAULTS: list[tuple[Any, str]] = [
    ("hang", "the language model's server at http.* cannot be asked|gave no answer within 0.4 seconds"),
    (b"drip" + b"." * 60, "gave no answer within 0.4 seconds"),
    (b"<html>hello</html>", "answered in a form that is no chat completion: '<html>hello</html>'"),
    (b'{"choices": [', "no chat completion"),
    (b'{"choices": []}', "no chat completion"),
    (b"[1, 2]", "no chat completion"),
    (b'{"choices": [{"message": {"tool_calls": [{"function": {}}]}}]}', "no chat completion"),
    (429, 'refused with 429: {"error": "slow down"}'),
]


@pytest.mark.parametrize(("fault", "sentence"), FAULTS)
def test_a_server_that_fails_ends_in_a_sentence(scripted: Any, fault: Any, sentence: str) -> None:
    conversation, _ = scripted(fault, {"content": "Back again."}, seconds=0.4)
    start = time.monotonic()
    with pytest.raises(ValueError, match=sentence) as caught:
        conversation.say("hello")
    assert "\n" not in str(caught.value) and time.monotonic() - start < 3
    if fault != "hang":
        assert conversation.say("hello?").text == "Back again.", "the talk goes on"


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    from demo.conversation import LanguageModel

    with pytest.raises(ValueError, match=r"the language model's server at http://127.0.0.1:9/v1 cannot be asked \(.*refused"):
        LanguageModel("http://127.0.0.1:9/v1", "x").complete([], [])
    with pytest.raises(ValueError, match="--llm: expected an address such as"):
        LanguageModel("file:///etc", "x").complete([], [])


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("teleport", {}, "'teleport' is no tool; there are describe, segment"),
        ("open", {"path": "/etc/passwd"}, "'open' is no tool"),
        ("describe", '{"image": ', "the arguments are not JSON"),
        ("describe", "[1]", "the arguments are no JSON object but list"),
        ("describe", {"image": "img_9"}, "'img_9' is no picture of this session; known are: img_1"),
        ("refer", {"image": "img_1", "phrases": ["the zebra"]}, "nothing was found of: the zebra"),
        ("edit", {"image": "img_1", "instruction": "remove the zebra"}, "'the zebra' was not found"),
    ],
)
def test_a_model_that_errs_is_told_so(scripted: Any, name: str, arguments: Any, error: str) -> None:
    conversation, server = scripted(call(name, arguments), {"content": "I see."})
    conversation.show(upload(), "scene.png")
    assert conversation.say("go on").text == "I see."
    assert error in server.asked[1]["messages"][-1]["content"]


def test_a_model_that_never_answers_is_stopped(scripted: Any) -> None:
    from demo.conversation import MOST_ROUNDS

    conversation, server = scripted(*[call("info", {})] * 20)
    assert conversation.say("hello").text == "The language model called tools 8 times without coming to an answer."
    assert len(server.asked) == MOST_ROUNDS


def test_arguments_may_come_as_an_object(scripted: Any) -> None:
    message = call("describe", {})
    message["tool_calls"][0]["function"]["arguments"] = {"image": "img_1"}
    conversation, server = scripted(message, {"content": "Done."})
    conversation.show(upload(), "scene.png")
    conversation.say("hello")
    assert "something red" in server.asked[1]["messages"][-1]["content"]


def test_history_is_cut_between_turns() -> None:
    from demo.conversation import cut

    turn = [
        {"role": "user", "content": "x" * 100},
        {**call("info", {}), "role": "assistant"},
        {"role": "tool", "content": "{}"},
    ]
    messages = [*turn, {"role": "assistant", "content": "a"}] * 3
    for letters in range(0, 2000, 50):
        kept = cut(messages, letters)
        assert kept[0]["role"] == "user" and len(kept) % 4 == 0 and kept == messages[-len(kept) :]
    assert cut(messages, 10_000) == messages and cut([], 10) == []


def test_the_script(scripted: Any, tmp_path: Path, capsys: Any) -> None:
    from demo import chat

    _, server = scripted(call("describe", {"image": "img_1"}), {"content": "Noise."}, b"nonsense")
    checkpoint.save(tiny_model(), tmp_path / "model.pt")
    Image.new("RGB", (40, 30), "red").save(tmp_path / "photo.png")
    line = [str(tmp_path / "photo.png"), "--llm", server.address, "--model", "scripted", "--out", str(tmp_path / "out")]
    line += ["--checkpoint", str(tmp_path / "model.pt")]
    said = ["what is it?\n", "/open nowhere.png\n", "\n", "and now?\n", "/quit\n", "unheard\n"]
    assert chat.main(line, said) == 0
    out = capsys.readouterr().out
    for expected in (
        "photo.png is img_1",
        "Noise.",
        "error: nowhere.png: No such file",
        "error: the language model's server answered",
    ):
        assert expected in out
    transcript = json.loads((tmp_path / "out/transcript.json").read_text())
    assert [message["role"] for message in transcript["messages"]] == ["user", "assistant", "tool", "assistant", "user"]


def test_a_visitor_talks_in_the_page(scripted: Any, tmp_path: Path) -> None:
    from demo.page import chat_tab

    path = tmp_path / "scene.png"
    path.write_bytes(upload())
    (tmp_path / "notes.txt").write_text("no picture")
    conversation, server = scripted(
        call("refer", {"image": "img_1", "phrases": ["the red square"]}), {"content": "There."}, 500
    )
    shown, images = chat_tab.turn(conversation, "where is red?", str(path))
    assert [row["content"] for row in shown] == ["(picture img_1) where is red?", "There."]
    assert [tool for _, tool in images] == ["refer"] and "img_1: upload" in server.asked[0]["messages"][0]["content"]
    shown, images = chat_tab.turn(conversation, "", str(tmp_path / "notes.txt"))
    assert "notes" not in shown[-1]["content"] and shown[-1]["role"] == "assistant" and images == []
    shown, _ = chat_tab.turn(conversation, "still there?", None)
    assert shown[-1]["content"].startswith("the language model's server refused with 500")


def test_every_visitor_has_pictures_of_his_own(tmp_path: Path) -> None:
    from demo.conversation import LanguageModel
    from demo.page import chat_tab

    begin = chat_tab.opener(cast(Predictor, PaintedPredictor()), LanguageModel("http://127.0.0.1:9/v1", "x"), tmp_path)
    first, second = begin(), begin()
    first.show(upload(), "mine.png")
    assert not second.tools.session.entries and first.tools.session.folder != second.tools.session.folder
    assert all(each.tools.session.folder.parent == tmp_path for each in (first, second))


def test_a_server_and_a_model_come_together(capsys: Any) -> None:
    from demo import web

    assert web.main(["--llm", "http://127.0.0.1:9/v1"]) == 2
    assert "--llm and --model come together" in capsys.readouterr().err
