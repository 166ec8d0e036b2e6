"""The web page in a real browser."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from tests.demo.scripted import Script, call
from tests.painted import PaintedPredictor, painted_scene
from tests.tiny import tiny_model, tiny_seem
from xdecoder.inference.predictor import Predictor
from xdecoder.serving.session import Session
from xdecoder.serving.tools import Tools

pytest.importorskip("gradio", reason="the page needs gradio (pip install '.[web]')")

import httpx  # gradio brings it
from gradio_client.exceptions import AppError

from demo import web
from demo.conversation import LanguageModel
from demo.page import chat_tab, layout, service
from demo.page.interactive_tab import EXPORTS
from demo.page.uploads import FORGED

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # gradio's and its server's own
PATIENCE = 60_000  # milliseconds; machines under load are slow
SIZES = {"phone": (390, 844), "laptop": (1280, 900), "screen": (1920, 1080)}
TASKS = {  # and how their headlines begin; neighbours must differ, for an old answer is no answer
    "Caption": "^(“|The network found no words)",
    "Semantic": r"^\d+ class(es)? found",
    "Caption of a region": "^(“|The network found no words)",
    "Match texts": "^Best: “",
}


class Watched(Predictor):
    """Takes its time, and knows how many asked at once, and how often a picture was encoded."""

    asking = most = encoded = 0
    lock = threading.Lock()

    def look(self, pictures: Any, task: Any) -> None:
        pictures = list(pictures)
        self.encoded += sum(self.shown(task) not in picture.views for picture in pictures)
        super().look(pictures, task)

    def refer(self, *arguments: Any, **settings: Any) -> Any:
        with self.lock:
            self.asking += 1
            self.most = max(self.most, self.asking)
        time.sleep(0.5)
        try:
            return super().refer(*arguments, **settings)
        finally:
            with self.lock:
                self.asking -= 1


@pytest.fixture(scope="module", autouse=True)
def leftovers() -> Iterator[None]:
    """Event loops that the server leaves open go here, where warnings about them fail no test."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def networks() -> dict[str, Watched]:
    return {"tiny.pt": Watched(tiny_model()), "seem.pt": Watched(tiny_seem())}


@pytest.fixture(scope="module")
def script() -> Iterator[Script]:
    """What the language model of the page's conversations says: a test gives it its answers."""
    with Script([]) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def address(networks: dict[str, Watched], script: Script, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    looks = cast(Predictor, PaintedPredictor())
    talk = chat_tab.opener(looks, LanguageModel(script.address, "scripted"), tmp_path_factory.mktemp("talks"))
    page = layout.build(networks, tmp_path_factory.mktemp("examples"), talk)
    with pytest.MonkeyPatch.context() as elsewhere:
        elsewhere.chdir(tmp_path_factory.mktemp("elsewhere"))  # gradio hands out files of the folder where it was started
        yield service.serve(page, "127.0.0.1", None, block=False)
    page.close(verbose=False)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    for name in ("photo.png", "other.png"):
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(folder / name)
    painted_scene().save(folder / "scene.png")
    (folder / "text.jpg").write_text("not a picture")
    Image.new("RGB", (10_000, 6_000), "teal").save(folder / "large.jpg")
    return folder


@contextmanager
def visitor(browser: Any, address: str, size: str = "laptop") -> Iterator[Any]:
    """A page of somebody's own, opened; errors in its console fail the test."""
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(address)
    page.wait_for_selector("#scenes [data-scene]")
    yield page
    context.close()
    assert not faults


def choose(page: Any, file: Path, place: str = "#picture") -> None:
    page.locator(f"{place} input[type=file]").set_input_files(file)
    page.wait_for_selector(f"{place} img")


def headline(page: Any, pattern: str, place: str = "#answer") -> None:
    """Wait until the answer begins as it should."""
    page.wait_for_function(
        "([p, place]) => new RegExp(p).test(document.querySelector(place + ' .headline')?.innerText.trim())",
        arg=[pattern, place],
    )


def content(page: Any) -> dict[str, Any]:
    """The JSON, by the button that copies it."""
    page.locator("#answer summary").click()
    page.locator("#answer [data-do=copy]").click()
    page.locator("#answer").get_by_text("Copied").wait_for()
    copied: dict[str, Any] = json.loads(page.evaluate("navigator.clipboard.readText()"))
    return copied


def toast(page: Any) -> str:
    """What the page objects to; the note is put away."""
    note = page.locator(".toast-body").last
    note.wait_for()
    said = str(note.inner_text())
    note.get_by_test_id("toast-close").click()
    note.wait_for(state="detached")
    return said


def serious(page: Any) -> list[Any]:
    """What axe-core finds that keeps people out: impacts serious and critical, by WCAG 2 A and AA."""
    axe = pytest.importorskip("axe_playwright_python", reason="accessibility is judged by axe-playwright-python")
    page.evaluate((Path(axe.__file__).parent / "axe.min.js").read_text())
    found = page.evaluate("axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']})")
    return [
        (fault["id"], node["target"], node["html"][:200])
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]


@pytest.mark.parametrize("size", SIZES)
def test_question_and_answer_are_in_one_window_and_open_to_all(browser: Any, address: str, size: str) -> None:
    with visitor(browser, address, size) as page:
        assert "tiny.pt, xdecoder" in page.inner_text("#title")
        page.locator("#scenes [data-scene]").nth(2).click()
        page.wait_for_selector("#picture img")
        page.get_by_label("Referring", exact=True).check()
        page.locator("#phrases textarea").fill("a red cat\na blue dog")
        page.click("#ask")
        headline(page, "^2 regions found")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out"
        whole = page.locator("main").bounding_box()
        assert abs(2 * whole["x"] + whole["width"] - SIZES[size][0]) < 20, "the page stands in the middle"
        if size != "phone":
            for part in ("#picture", "#task", "#phrases", "#ask", "#answer .stage", "#answer .legend"):
                box = page.locator(part).bounding_box()
                assert box["y"] >= 0 and box["y"] + box["height"] <= SIZES[size][1], f"{part} is seen without scrolling"
        boxes = [tag.bounding_box() for tag in page.locator("#answer .tag").all()]
        stage = page.locator("#answer .stage").bounding_box()
        assert len(boxes) == 2 and all(stage["x"] - 1 <= box["x"] and box["y"] >= stage["y"] - 1 for box in boxes)
        assert abs(boxes[0]["y"] - boxes[1]["y"]) >= boxes[0]["height"] - 1 or abs(boxes[0]["x"] - boxes[1]["x"]) > 20
        if size != "screen":
            assert serious(page) == []


def test_every_task(browser: Any, address: str, files: Path) -> None:
    with visitor(browser, address) as page:
        choose(page, files / "photo.png")
        for task, answer in TASKS.items():
            page.get_by_label(task, exact=True).check()
            page.click("#ask")
            headline(page, answer)
        assert len(content(page)["texts"]) == 3 and page.locator("#answer meter").count() == 3


def test_regions_stand_out_and_json_and_png_are_taken_along(browser: Any, address: str, files: Path) -> None:
    with visitor(browser, address) as page:
        choose(page, files / "photo.png")
        page.get_by_label("Referring", exact=True).check()
        words = "<img src=x onerror=alert>\na blue dog"
        page.locator("#phrases textarea").fill(words)
        page.click("#ask")
        headline(page, "^2 regions found")
        legend = page.locator("#answer .legend button")
        assert [re.sub(r"\s-?\d\.\d\d$", "", text) for text in legend.all_inner_texts()] == words.splitlines()
        legend.nth(1).focus()
        page.wait_for_function("document.querySelector('#answer .layer.active')?.dataset.region == '1'")
        page.locator("#answer [data-do=opacity]").fill("20")
        assert (
            page.evaluate("getComputedStyle(document.querySelector('#answer .viewer')).getPropertyValue('--opacity')") == "0.2"
        )
        with page.expect_download() as download:
            page.click("#answer [data-do=save]")
        with Image.open(download.value.path()) as drawn:
            assert drawn.size == (640, 480), "small pictures are enlarged, so that labels can be read"
        said = content(page)
        assert [region["name"] for region in said["regions"]] == words.splitlines()
        assert (said["width"], said["height"]) == (64, 48)


def test_sixty_megapixels_and_a_text_that_calls_itself_jpg(browser: Any, address: str, files: Path) -> None:
    with visitor(browser, address) as page:
        page.click("#ask")
        assert "Choose a picture first" in toast(page)
        choose(page, files / "text.jpg")
        page.click("#ask")
        assert "This file: the picture is damaged or incomplete" in toast(page)
        headline(page, "^Ask, and the answer will stand here")
        page.get_by_label("Remove Image").click()
        choose(page, files / "large.jpg")
        page.get_by_label("Caption of a region", exact=True).check()
        page.click("#ask")
        headline(page, TASKS["Caption of a region"])
        assert content(page)["width"] == 10000, "it was asked about as it is"


def test_find_a_picture(browser: Any, address: str, files: Path) -> None:
    with visitor(browser, address) as page:
        page.get_by_role("tab", name="Find a picture").click()
        with page.expect_file_chooser() as chooser:  # this field comes to life when its tab is opened
            page.locator("#pictures button").first.click()
        chooser.value.set_files([files / "photo.png", files / "other.png"])
        page.locator("#pictures").get_by_text("other").wait_for()
        page.click("#find")
        headline(page, "of 2 fits best", "#found")
        assert page.locator("#found meter").count() == 2
        left, right = page.locator("#pictures").bounding_box(), page.locator("#found").bounding_box()
        assert left["x"] + left["width"] <= right["x"] and abs(left["y"] - right["y"]) < 60, "two columns"


def test_objects_are_marked(browser: Any, address: str, files: Path, networks: dict[str, Watched]) -> None:
    network = networks["seem.pt"]
    with visitor(browser, address) as page:
        page.get_by_role("tab", name="Interactive").click()
        assert "This network reads no strokes" in page.inner_text("#no-strokes") and not page.locator("#tools").is_visible()
        page.locator("#network input").click()
        page.get_by_role("option", name="seem.pt").click()
        page.locator("#tools").wait_for()
        choose(page, files / "photo.png", "#marked-picture")
        stage = page.locator("#board .stage")
        stage.locator(".ground").wait_for()
        encoded = network.encoded

        def at(x: float, y: float) -> tuple[float, float]:
            box = stage.bounding_box()
            return box["x"] + x * box["width"], box["y"] + y * box["height"]

        def marks(count: int, kind: str = "circle") -> None:
            page.wait_for_function(
                "([n, kind]) => document.querySelectorAll('#board .marks ' + kind + ':not(.sketch)').length == n",
                arg=[count, kind],
            )

        page.mouse.click(*at(0.25, 0.5))
        marks(1)
        page.mouse.click(*at(0.75, 0.5), button="right")
        marks(2)
        assert page.locator("#board .marks circle").nth(1).get_attribute("fill") == "#d0021b", "the right button subtracts"
        x, y = (float(page.locator("#board .marks circle").first.get_attribute(name)) for name in ("cx", "cy"))
        assert abs(x - 16) < 0.5 and abs(y - 24) < 0.5, "in pixels of the picture"
        page.get_by_label("Brush", exact=True).check()
        page.mouse.move(*at(0.2, 0.2))
        page.mouse.down()
        page.mouse.move(*at(0.4, 0.3), steps=4)
        page.mouse.up()
        marks(1, "polyline")
        page.get_by_role("button", name="New object").click()
        page.locator("#board [data-object='1'][aria-pressed=true]").wait_for()
        page.get_by_label("Box", exact=True).check()
        page.mouse.move(*at(0.5, 0.5))
        page.mouse.down()
        page.mouse.move(*at(0.9, 0.9), steps=3)
        page.mouse.up()
        marks(1, "rect")
        assert page.locator("#board .layer").count() == 2
        stage.focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        marks(3)
        page.get_by_role("button", name="Undo").click()
        marks(2)
        assert network.encoded == encoded, "marks are decoded, and the picture is not encoded again"
        for kind, name in EXPORTS.items():
            with page.expect_download() as download:
                page.click(f"#tools [data-kind={kind}]")
            assert download.value.suggested_filename == name
            saved = json.loads(Path(download.value.path()).read_text())
            assert len(saved.get("annotations", saved.get("features"))) >= 1
        with page.expect_download() as download:
            page.click("#board [data-do=save]")
        with Image.open(download.value.path()) as drawn:
            assert np.asarray(drawn.convert("RGB")).std() > 1, "the picture is there"
        choose(page, files / "other.png", "#other-picture")
        page.click("#find-like")
        headline(page, "^1 region found", "#like")
        assert serious(page) == []
        page.locator("#board .stage").scroll_into_view_if_needed()
        page.get_by_role("button", name="Begin again").click()
        headline(page, "^Click on what you mean", "#board")


def test_a_conversation(browser: Any, address: str, files: Path, script: Script) -> None:
    script.answers += [
        call("refer", {"image": "img_1", "phrases": ["the red square"]}),
        {"content": "It is on the <b>left</b>."},
        {"content": "Nothing else."},
        500,
        {"content": "Hello."},
    ]
    with visitor(browser, address) as page:
        page.get_by_role("tab", name="Conversation").click()
        said = page.locator("#talk [data-testid=user], #talk [data-testid=bot]")

        def say(words: str, lines: int) -> list[str]:
            page.locator("#said textarea").fill(words)
            page.click("#say")
            said.nth(lines - 1).wait_for()
            return [text.strip() for text in said.all_inner_texts()]

        choose(page, files / "scene.png", "#chat-picture")
        assert say("where is <i>red</i>?", 2) == ["(picture img_1) where is <i>red</i>?", "It is on the <b>left</b>."]
        assert "img_1: upload" in script.asked[0]["messages"][0]["content"], "the language model is told of the picture"
        page.locator("#drawn").get_by_text("refer").wait_for()
        assert page.locator("#drawn img").count() >= 1
        assert page.locator("#chat-picture img").count() == 0 and page.locator("#said textarea").input_value() == ""
        assert say("and what else?", 4)[2:] == ["and what else?", "Nothing else."], "the picture was handed over once"
        assert page.locator("#drawn img").count() >= 1, "drawings stay until there are others"
        assert say("and now?", 6)[-1].startswith("the language model's server refused with 500")
        assert serious(page) == []
        page.locator("#talk").get_by_label("Clear").click()
        page.locator("#drawn").wait_for(state="hidden")
        assert say("good day", 2) == ["good day", "Hello."]
        assert [each["content"] for each in script.asked[-1]["messages"][1:]] == ["good day"], "nothing is left of it"


def test_visitors_ask_at_once_get_their_own_answers_one_after_the_other(
    browser: Any, address: str, files: Path, networks: dict[str, Watched]
) -> None:
    networks["tiny.pt"].most = 0
    with visitor(browser, address) as first, visitor(browser, address) as second:
        for page, phrase in ((first, "a red cat"), (second, "a blue dog")):
            choose(page, files / "photo.png")
            page.get_by_label("Referring", exact=True).check()
            page.locator("#phrases textarea").fill(phrase)
        first.click("#ask")
        second.click("#ask")
        for page, phrase in ((first, "a red cat"), (second, "a blue dog")):
            headline(page, "^1 region found")
            assert phrase in page.locator("#answer .legend button").inner_text()
    assert networks["tiny.pt"].most == 1


def test_programs_ask_by_name(address: str, files: Path, networks: dict[str, Watched]) -> None:
    from gradio_client import Client, handle_file

    client = Client(address, verbose=False)
    photo = handle_file(str(files / "photo.png"))
    assert client.predict(api_name="/networks")["seem.pt"] == ["panoptic", "semantic", "instances", "refer"]
    found = client.predict(picture=photo, phrases="a red cat\na blue dog", api_name="/refer")
    expected = networks["tiny.pt"].refer(files / "photo.png", ["a red cat", "a blue dog"])
    assert found == json.loads(json.dumps(expected.to_json()))
    marked = client.predict(picture=photo, points=[[30, 20]], network="seem.pt", api_name="/prompt")
    assert marked["regions"][0]["name"] == "object 1"
    best = client.predict(pictures=[photo, handle_file(str(files / "other.png"))], text="a cat", api_name="/find")
    assert best["best"] in (1, 2) and len(best["cosines"]) == 2
    for settings, sentence in (
        ({"phrases": "", "api_name": "/refer"}, "Write at least one phrase first"),
        ({"phrases": "a", "network": "x", "api_name": "/refer"}, "Choose one of the networks tiny.pt, seem.pt."),
        ({"points": [[3]], "network": "seem.pt", "api_name": "/prompt"}, "a click is made of points"),
        ({"points": [[900, 1]], "network": "seem.pt", "api_name": "/prompt"}, "lies outside the image"),
        ({"question": "why?", "api_name": "/answer"}, "cannot answer questions"),
    ):
        with pytest.raises(AppError, match=sentence):
            client.predict(picture=photo, **settings)


def test_requests_that_the_page_would_not_send(address: str, files: Path) -> None:
    config = httpx.get(f"{address}config").json()
    with open(files / "photo.png", "rb") as file:
        (uploaded,) = httpx.post(f"{address}gradio_api/upload", files={"files": file}).json()
    endpoints = {each["api_name"]: each["id"] for each in config["dependencies"]}

    def ask(name: str, *data: Any) -> tuple[bool, str]:
        """Whether it was answered, and all that was said."""
        session = f"forged-{abs(hash(repr(data)))}"
        line = {"data": list(data), "fn_index": endpoints[name], "session_hash": session}
        joined = httpx.post(f"{address}gradio_api/queue/join", json=line)
        if joined.status_code != 200:
            return False, joined.text
        with httpx.stream("GET", f"{address}gradio_api/queue/data?session_hash={session}", timeout=PATIENCE / 1000) as events:
            for event in events.iter_lines():
                message = json.loads(event[6:]) if event.startswith("data: ") else {}
                if message.get("msg") == "process_completed":
                    return bool(message["success"]), json.dumps(message["output"])
        raise AssertionError("the request was never answered")

    right = {"path": uploaded, "meta": {"_type": "gradio.FileData"}}
    assert ask("caption", right, "")[0]
    outside = [
        str(files / "other.png"),
        "/etc/passwd",
        f"{uploaded}/../../../../etc/passwd",
        f"{address}config",
        "file:///etc/passwd",
    ]
    for forged in [{"path": path, **extra} for path in outside for extra in ({}, {"meta": {"_type": "gradio.FileData"}})]:
        answered, said = ask("caption", forged, "")
        assert not answered and "width" not in said, forged
    for data in ((), (right,), (right, 7), (right, ["tiny.pt"]), ([right], ""), (None, ""), ("x" * 1000, "")):
        answered, said = ask("caption", *data)
        own = [FORGED, "Choose", "null", '"error": null']
        assert answered or any(sentence in said for sentence in own), said
        assert not any(word in said for word in ("Traceback", "pydantic", "NoneType", "object at", "event handler", ".py")), (
            said
        )
    for path, body in (("queue/join", {"data": 3}), ("call/nothing", {"data": [1]}), ("run/caption", {"x": 1}), ("upload", {})):
        refusal = httpx.post(f"{address}gradio_api/{path}", json=body)
        assert refusal.status_code >= 400 and refusal.json()["detail"] in (FORGED, *service.SENTENCES.values()), path


def test_tools_beside_the_page(tmp_path: Path) -> None:
    predictor = cast(Predictor, PaintedPredictor())
    painted_scene().save(tmp_path / "scene.png")
    (tmp_path / "tools").mkdir()
    shown = layout.build({"tiny.pt": Predictor(tiny_model())}, tmp_path, tools=True)
    address = service.serve(shown, "127.0.0.1", None, block=False, tools=Tools(Session(predictor, tmp_path / "tools")))
    try:
        assert "/mcp" in httpx.get(f"{address}config").text
        with ThreadPoolExecutor(1) as beside:  # a browser of an earlier test has a loop running here
            seen = beside.submit(lambda: asyncio.run(seen_by_a_tool_client(f"{address}mcp/", tmp_path / "scene.png")))
            assert seen.result() == 1
    finally:
        shown.close(verbose=False)


async def seen_by_a_tool_client(address: str, file: Path) -> int:
    """How many regions a language model's client finds by the page's tools."""
    import base64

    fastmcp = pytest.importorskip("fastmcp", reason="tools are served by fastmcp (pip install '.[serve]')")
    async with fastmcp.Client(address) as client:
        opened = await client.call_tool("upload", {"data": base64.b64encode(file.read_bytes()).decode()})
        handle = opened.structured_content["image"]
        found = await client.call_tool("refer", {"image": handle, "phrases": ["the red square"]})
        return len(found.structured_content["regions"])


def test_too_large_an_upload_is_refused(address: str) -> None:
    limit = int(service.UPLOAD_LIMIT.removesuffix("mb")) * 1_000_000
    upload = {"files": ("large.jpg", bytes(limit + 2_000_000))}
    answer = httpx.post(f"{address}gradio_api/upload", files=upload, timeout=PATIENCE / 1000)
    assert answer.status_code == 413 and answer.json()["detail"] == "A file may have 40MB."


def test_without_a_network_the_script_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    monkeypatch.setattr(web, "QUICKSTART", tmp_path / "model.pt")
    monkeypatch.setattr(web.shipped, "path", lambda: None)
    assert web.main([]) == 2
    assert "no network is named; add --checkpoint FILE, or run `make quickstart` first" in capsys.readouterr().err
    assert web.main(["--mcp", "--host", "0.0.0.0"]) == 2
    assert "tools are for this machine alone" in capsys.readouterr().err
