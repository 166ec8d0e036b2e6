"""The web page in a real browser."""

from __future__ import annotations

import gc
import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.tiny import tiny_model
from xdecoder.inference.predictor import Predictor

gradio = pytest.importorskip("gradio", reason="the page needs gradio (pip install '.[web]')")
playwright = pytest.importorskip("playwright.sync_api", reason="a browser is led by playwright, which is not installed")

import httpx  # noqa: E402 (gradio brings it)
import web  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # gradio's and its server's own
PATIENCE = 60_000  # milliseconds; machines under load are slow
TASKS = {  # and how their headlines begin; neighbours must differ, for an old answer is no answer
    "Caption": "^(“|The network found no words)",
    "Panoptic": r"^(\d+ segments? found|Nothing was found)",
    "Semantic": r"^\d+ class(es)? found",
    "Instances": r"^(\d+ things? found|Nothing was found)",
    "Referring": r"^\d+ regions? found",
    "Caption of a region": "^“",
    "Match texts": "^Best: “",
}


class Watched(Predictor):
    """Takes its time, and knows how many asked at once."""

    asking = most = 0
    lock = threading.Lock()

    def refer(self, *arguments: Any, **settings: Any) -> Any:
        with self.lock:
            self.asking += 1
            self.most = max(self.most, self.asking)
        time.sleep(1)
        try:
            return super().refer(*arguments, **settings)
        finally:
            with self.lock:
                self.asking -= 1


@pytest.fixture(scope="module", autouse=True)
def leftovers() -> Iterator[None]:
    """Event loops that server and browser leave open go here, where warnings about them fail no test."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def predictor() -> Watched:
    return Watched(tiny_model())


@pytest.fixture(scope="module")
def address(predictor: Watched, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    page = web.build(predictor, "tiny.pt", tmp_path_factory.mktemp("examples"))
    yield web.serve(page, "127.0.0.1", None, block=False)
    page.close(verbose=False)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next((found for name in names if (found := shutil.which(name))), None)
    with playwright.sync_playwright() as driver:
        if path is None and not Path(driver.chromium.executable_path).exists():
            pytest.skip("there is no Chromium (apt install chromium, or playwright install chromium)")
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    for name in ("photo.png", "other.png"):
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(folder / name)
    (folder / "text.jpg").write_text("not a picture")
    Image.new("RGB", (10_000, 6_000), "teal").save(folder / "large.jpg")
    return folder


@contextmanager
def visitor(browser: Any, address: str) -> Iterator[Any]:
    """A page of somebody's own, opened; errors in its console fail the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(address)
    page.wait_for_selector("#ask")
    yield page
    context.close()
    assert not faults


def choose(page: Any, file: Path) -> None:
    page.locator("#picture input[type=file]").set_input_files(file)
    page.wait_for_selector("#picture img")


def headline(page: Any, pattern: str) -> None:
    """Wait until the answer begins as it should."""
    page.wait_for_function("p => new RegExp(p).test(document.querySelector('#headline').innerText.trim())", arg=pattern)


def content(page: Any) -> dict[str, Any]:
    """The JSON, by the button that copies it."""
    box = page.locator("#json")
    if not box.get_by_label("Copy").is_visible():
        box.locator("button").first.click()
    box.get_by_label("Copy").click()
    copied: dict[str, Any] = json.loads(page.evaluate("navigator.clipboard.readText()"))
    return copied


def test_every_task(browser: Any, address: str, files: Path) -> None:
    with visitor(browser, address) as page:
        assert page.get_by_text("tiny.pt").is_visible() and page.locator("#task input").count() == len(TASKS)
        choose(page, files / "photo.png")
        for task, answer in TASKS.items():
            page.get_by_label(task, exact=True).check()
            page.click("#ask")
            headline(page, answer)
        said = content(page)
        assert len(said["texts"]) == 3 and page.locator("#scores").is_visible() and not page.locator("#regions").is_visible()


def test_the_pointer_finds_regions_and_json_is_copied(browser: Any, address: str, files: Path) -> None:
    with visitor(browser, address) as page:
        choose(page, files / "photo.png")
        page.get_by_label("Referring", exact=True).check()
        page.locator("#phrases textarea").fill("a red cat\na blue dog")
        page.click("#ask")
        headline(page, "^2 regions found")
        legend = page.locator("#regions .legend-item")
        assert legend.all_inner_texts() == ["a red cat", "a blue dog"]
        masks = page.locator("#regions img.mask")
        assert masks.count() == 2
        legend.first.hover()
        page.wait_for_function("document.querySelectorAll('#regions img.active').length == 1")
        said = content(page)
        assert [region["name"] for region in said["regions"]] == ["a red cat", "a blue dog"]
        assert (said["width"], said["height"]) == (64, 48)


def test_sixty_megapixels_and_a_text_that_calls_itself_jpg(browser: Any, address: str, files: Path) -> None:
    with visitor(browser, address) as page:
        choose(page, files / "large.jpg")
        page.get_by_label("Caption of a region", exact=True).check()
        page.click("#ask")
        headline(page, "^“")
        assert content(page)["width"] == 1280
    with visitor(browser, address) as page:
        page.click("#ask")
        headline(page, "^Choose a picture first")
        page.locator("#picture input[type=file]").set_input_files(files / "text.jpg")
        page.wait_for_selector("#picture img")
        page.click("#ask")
        headline(page, "^This file cannot be read as a picture")
        assert content(page) == {"error": page.inner_text("#headline").strip()}


def test_find_a_picture_and_examples(browser: Any, address: str, files: Path) -> None:
    with visitor(browser, address) as page:
        page.locator("#examples button").first.click()
        page.wait_for_selector("#picture img")
        page.get_by_label("Caption", exact=True).check()
        page.click("#ask")
        headline(page, "^“|no words")
        page.get_by_role("tab", name="Find a picture").click()
        with page.expect_file_chooser() as chooser:  # this field comes to life when its tab is opened
            page.locator("#pictures button").first.click()
        chooser.value.set_files([files / "photo.png", files / "other.png"])
        page.locator("#pictures").get_by_text("other").wait_for()
        page.click("#find")
        page.get_by_text("of 2 fits best.").wait_for()


def test_two_visitors_at_once_get_their_own_answers_one_after_the_other(
    browser: Any, address: str, files: Path, predictor: Watched
) -> None:
    predictor.most = 0
    with visitor(browser, address) as first, visitor(browser, address) as second:
        for page, phrase in ((first, "a red cat"), (second, "a blue dog")):
            choose(page, files / "photo.png")
            page.get_by_label("Referring", exact=True).check()
            page.locator("#phrases textarea").fill(phrase)
        first.click("#ask")
        second.click("#ask")
        for page, phrase in ((first, "a red cat"), (second, "a blue dog")):
            headline(page, "^1 region found")
            assert page.locator("#regions .legend-item").all_inner_texts() == [phrase]
    assert predictor.most == 1


def test_no_path_or_address_of_a_request_is_opened(address: str, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    real = web.open_upload
    monkeypatch.setattr(web, "open_upload", lambda path: opened.append(str(path)) or real(path))
    config = httpx.get(f"{address}config").json()
    asks = next(each for each in config["dependencies"] if len(each["inputs"]) == 2 + len(web.FIELDS))
    with open(files / "photo.png", "rb") as file:
        (uploaded,) = httpx.post(f"{address}gradio_api/upload", files={"files": file}).json()

    def ask(path: str) -> dict[str, Any]:
        picture = {"path": path, "meta": {"_type": "gradio.FileData"}}
        data = [picture, "Caption", "", "", "", "", "", "", 0.5]
        session = f"forged-{abs(hash(path))}"
        line = {"data": data, "fn_index": asks["id"], "session_hash": session}
        assert httpx.post(f"{address}gradio_api/queue/join", json=line).status_code == 200
        with httpx.stream("GET", f"{address}gradio_api/queue/data?session_hash={session}", timeout=PATIENCE / 1000) as events:
            for event in events.iter_lines():
                message = json.loads(event[6:]) if event.startswith("data: ") else {}
                if message.get("msg") == "process_completed":
                    return dict(message)
        raise AssertionError("the request was never answered")

    assert ask(uploaded)["success"] and len(opened) == 1
    outside = [str(files / "other.png"), "/etc/passwd", f"{uploaded}/../../../../etc/passwd"]
    for forged in (*outside, f"{address}config", "file:///etc/passwd"):
        assert not ask(forged)["success"], forged
    assert len(opened) == 1


def test_too_large_an_upload_is_refused(address: str) -> None:
    limit = int(web.UPLOAD_LIMIT.removesuffix("mb")) * 1_000_000
    upload = {"files": ("large.jpg", bytes(limit + 2_000_000))}
    answer = httpx.post(f"{address}gradio_api/upload", files=upload, timeout=PATIENCE / 1000)
    assert answer.status_code == 413


def test_without_a_network_the_script_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    monkeypatch.setattr(web, "QUICKSTART", tmp_path / "model.pt")
    assert web.main([]) == 2
    assert "no network is named; add --checkpoint FILE, or run `make quickstart` first" in capsys.readouterr().err


def test_the_page_has_a_tab_to_talk_in_where_there_is_a_language_model(tmp_path: Path) -> None:
    import chat_tab
    from conversation import LanguageModel

    predictor = Predictor(tiny_model())
    begin = chat_tab.opener(predictor, LanguageModel("http://127.0.0.1:9/v1", "x"), tmp_path)
    for talk, there in ((begin, True), (None, False)):
        page = web.build(predictor, "tiny", tmp_path, talk)
        assert ("Conversation" in json.dumps(page.get_config_file(), default=str)) == there
