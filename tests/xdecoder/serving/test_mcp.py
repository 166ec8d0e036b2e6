"""The tools as a language model's client sees them, over each transport."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.tiny import tiny_model
from xdecoder import checkpoint
from xdecoder.config import Config
from xdecoder.editing import EditConfig
from xdecoder.inference.picture import Picture
from xdecoder.inference.predictor import Predictor
from xdecoder.serving.session import Limits, Session
from xdecoder.serving.tools import TOOLS, Reply, Tools

fastmcp = pytest.importorskip("fastmcp", reason="the tool server needs fastmcp (pip install '.[serve]')")

from fastmcp.exceptions import ToolError  # noqa: E402

from xdecoder.serving import mcp  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of fastmcp's own dependencies

HANDLE = {"image": "img_1"}
CALLS: dict[str, dict[str, Any]] = {
    "open": {"path": "photo.png"},
    "describe": HANDLE,
    "segment": HANDLE | {"classes": ["cat", "sky"]},
    "panoptic": HANDLE | {"things": ["cat"], "stuff": ["sky"], "threshold": 0},
    "instances": HANDLE | {"classes": ["cat", "dog"], "threshold": 0},
    "refer": HANDLE | {"phrases": ['the left cat, and\n"its" dog\'s bowl']},
    "answer": HANDLE | {"question": "what is this?"},
    "match": HANDLE | {"texts": ["a cat", "two dogs"]},
    "find": {"images": ["img_1"], "text": "a cat"},
    "edit": HANDLE | {"steps": [{"operation": "grey", "target": "the cat"}]},
    "mask": {"mask": "img_1.mask_1"},
    "info": {},
    "upload": {},
    "close": HANDLE,
}


def run(server: Any, talk: Callable[[Any], Awaitable[None]]) -> None:
    async def go() -> None:
        async with fastmcp.Client(server) as client:
            await talk(client)

    asyncio.run(go())


async def every_tool(client: Any, picture: bytes) -> None:
    """List the tools, and call each."""
    offered = {tool.name: tool for tool in await client.list_tools()}
    assert offered.keys() == TOOLS.keys() == CALLS.keys()
    for name, arguments in CALLS.items():
        if name == "upload":
            arguments = {"data": base64.b64encode(picture).decode()}
        said = await client.call_tool(name, arguments)
        assert said.structured_content == json.loads(said.content[0].text)
        assert said.structured_content.keys() == offered[name].output_schema["properties"].keys()
        for block in said.content[1:]:
            assert Image.open(io.BytesIO(base64.b64decode(block.data))).format == "PNG"
    with pytest.raises(ToolError, match="'img_1' is no picture of this session; known are: img_2, img_3"):
        await client.call_tool("describe", HANDLE)


def test_a_client_lists_and_calls_every_tool(session: Session, root: Path) -> None:
    picture = (root / "photo.png").read_bytes()
    tools = Tools(session, config=EditConfig(cosine=-1))
    run(mcp.build(tools), lambda client: every_tool(client, picture))


def test_schemas_come_from_the_type_hints() -> None:
    schema = TOOLS["instances"].arguments.model_json_schema()
    assert schema["required"] == ["image", "classes"] and schema["additionalProperties"] is False
    assert schema["properties"]["threshold"] | {"title": ""} == {
        "default": 0.5,
        "description": "least score of what is reported",
        "maximum": 1,
        "minimum": 0,
        "title": "",
        "type": "number",
    }
    assert TOOLS["refer"].description == "Find the one region that each phrase means, or say that it is not there."


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("open", {"path": "../secret.png"}, "no such file below the server's root"),
    ("describe", {"image": "photo.png"}, "'photo.png' is no picture of this session; known are: img_1"),
    ("describe", {"image": "img_1", "mask": "img_1.mask_7"}, "'img_1.mask_7' is no mask of img_1; known are: none yet"),
    ("refer", {"image": "img_1", "phrases": ["x" * 2000]}, "refer: .*500 characters"),
    ("refer", {"image": "img_1", "phrases": []}, "refer: .*phrases"),
    ("refer", {"image": "img_1"}, "refer: .*phrases"),
    ("refer", {"image": "img_1", "phrases": ["a"], "colour": "red"}, "refer: .*colour"),
    ("instances", {"image": "img_1", "classes": ["a"], "threshold": 7}, "instances: .*threshold"),
    ("edit", {"image": "img_1", "instruction": "what a lovely day"}, "is no instruction that is understood"),
    ("edit", {"image": "img_1", "instruction": "remove the dodo"}, "'the dodo' was not found in this picture"),
    ("edit", {"image": "img_1"}, "give an instruction or steps"),
    ("upload", {"data": "???"}, "data: not base64"),
    ("upload", {"data": "abcd"}, "the uploaded data: not a readable picture"),
]


@pytest.mark.parametrize(("name", "arguments", "sentence"), BAD)
def test_mistakes_are_tool_errors_of_one_sentence(
    session: Session, name: str, arguments: dict[str, Any], sentence: str
) -> None:
    session.open("photo.png")

    async def talk(client: Any) -> None:
        with pytest.raises(ToolError, match=sentence) as caught:
            await client.call_tool(name, arguments)
        assert "\n" not in str(caught.value)

    run(mcp.build(Tools(session, config=EditConfig(cosine=1))), talk)
    assert list(session.entries) == ["img_1"] and not list(session.folder.iterdir())


def test_bugs_are_not_told_to_strangers(session: Session, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    def broken(*arguments: object, **settings: object) -> None:
        raise RuntimeError("secret")

    session.open("photo.png")
    monkeypatch.setattr(Picture, "caption", broken)

    async def talk(client: Any) -> None:
        with pytest.raises(ToolError, match="something went wrong on the server's side") as caught:
            await client.call_tool("describe", HANDLE)
        assert "secret" not in str(caught.value)

    run(mcp.build(Tools(session)), talk)
    assert "secret" in caplog.text


def test_a_tool_that_the_network_cannot_serve_is_not_offered(tmp_path: Path) -> None:
    session = Session(Predictor(tiny_model()), tmp_path)

    async def talk(client: Any) -> None:
        assert "answer" not in {tool.name for tool in await client.list_tools()}
        info = await client.call_tool("info", {})
        assert info.structured_content["unavailable"]["answer"].startswith("this network cannot answer questions")

    run(mcp.build(Tools(session)), talk)


def test_a_call_has_its_time_and_others_wait_for_their_turn(
    predictor: Predictor, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = Tools(Session(predictor, tmp_path, root, Limits(seconds=0.4)))
    begun: list[str] = []

    def slow(self: Picture, question: str) -> Any:
        begun.append(question)
        time.sleep(1.0)

    monkeypatch.setattr(Picture, "answer", slow)
    tools.session.open("photo.png")

    async def both() -> list[Any]:
        calls = (tools.call_within("answer", HANDLE | {"question": question}) for question in ("first", "second"))
        return await asyncio.gather(*calls, return_exceptions=True)

    for error in asyncio.run(both()):
        assert str(error) == "answer took more than 0.4 seconds and was given up"
    assert len(begun) == 1, "the one that waited was never begun"
    assert isinstance(tools.call("info", {}), Reply), "and the session goes on"


@pytest.fixture(scope="module")
def network(predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("network") / "model.pt"
    checkpoint.save(predictor.model, path)
    return path


def command(network: Path, pictures: Path, *more: str) -> list[str]:
    return [
        "-m",
        "xdecoder",
        "serve-mcp",
        "--checkpoint",
        str(network),
        "--root",
        str(pictures),
        "--threshold",
        "-1",
        "--device",
        "cpu",
        *more,
    ]


def test_over_standard_input(network: Path, root: Path) -> None:
    checkout = str(Path(__file__).resolve().parents[3])
    transport = fastmcp.client.transports.StdioTransport(sys.executable, command(network, root), cwd=checkout)
    picture = (root / "photo.png").read_bytes()
    run(transport, lambda client: every_tool(client, picture))


def test_over_http_on_this_machine(network: Path, root: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    checkout = Path(__file__).resolve().parents[3]
    server = subprocess.Popen([sys.executable, *command(network, root, "--http", str(port))], cwd=checkout)
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        picture = (root / "photo.png").read_bytes()
        run(f"http://127.0.0.1:{port}/mcp", lambda client: every_tool(client, picture))
    finally:
        server.terminate()
        server.wait(timeout=20)


def test_every_result_is_documented() -> None:
    assert all(issubclass(tool.result, Config) and tool.description.endswith(".") for tool in TOOLS.values())
