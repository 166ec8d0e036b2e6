from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from xdecoder.checkpoint import read
from xdecoder.download import fetch, fetch_image
from xdecoder.weights import listing


def test_a_file_of_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(repo_id: str, filename: str, revision: str | None = None) -> str:
        asked.append((repo_id, filename, revision))
        return str(tmp_path / "file")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    for address in ("hf://a/b/weights/last.pt", "hf://a/b@v2/last.pt", "hf://a/b"):
        assert fetch(address) == tmp_path / "file"
    assert asked == [("a/b", "weights/last.pt", None), ("a/b", "last.pt", "v2"), ("a/b", "model.safetensors", None)]
    with pytest.raises(ValueError, match="hf://alone: expected hf://owner/repository/file"):
        fetch("hf://alone")


def test_a_web_address_is_downloaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(url: str, path: str, progress: bool) -> None:
        asked.append(url)
        Path(path).write_text(url)

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    first, other = "https://one.example/last.pt?download=true", "https://two.example/last.pt"
    assert fetch(first) == fetch(first) != fetch(other)
    assert fetch(first).name == "last.pt" and fetch(first).read_text() == first and asked == [first, other]


def test_what_cannot_be_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host\nand much more")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(ValueError, match=r"^https://x\.example/a\.pt: cannot be downloaded \(no route to host\)$"):
        fetch("https://x.example/a.pt")
    with pytest.raises(ValueError, match=r"ftp://x/a\.pt: expected a path, https://"):
        fetch("ftp://x/a.pt")
    assert fetch("local.pt") == Path("local.pt")


def test_a_published_name_is_downloaded_or_found_where_it_was_put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(**place: object) -> str:
        raise OSError(f"no route to {place['filename']}")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: None)
    address = "https://huggingface.co/xdecoder/X-Decoder/resolve/main/xdecoder_focalt_last.pt"
    with pytest.raises(ValueError, match=rf"^focal-t: cannot be downloaded \(no route.*\); fetch {address} where"):
        fetch("focal-t")
    with pytest.raises(ValueError, match="focal-tt: no such checkpoint; did you mean 'focal-t'"):
        fetch("focal-tt")
    by_hand = tmp_path / "xdecoder/xdecoder_focalt_last.pt"
    by_hand.parent.mkdir()
    by_hand.write_bytes(b"weights")
    assert fetch("focal-t") == by_hand
    rows = {line.split()[0]: line for line in listing().splitlines() if line}
    assert rows["focal-t"].endswith("unknown  0 MB") and rows["seem-sam-l"].endswith("unknown  no")


def test_a_damaged_download_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = tmp_path / hashlib.sha256(b"whole").hexdigest()
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda **_: str(blob))
    blob.write_bytes(b"whole")
    assert fetch("hf://a/b") == blob
    blob.write_bytes(b"hal")
    with pytest.raises(ValueError, match="hf://a/b: what was downloaded is damaged"):
        fetch("hf://a/b")
    assert not blob.exists()


def test_a_web_page_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "last.pt").write_text("<!DOCTYPE html><html><body>Sign in</body></html>")
    with pytest.raises(ValueError, match="a web page, not weights; .* resolve rather than blob"):
        read(tmp_path / "last.pt")


class Site(BaseHTTPRequestHandler):
    """What an address may give."""

    def do_GET(self) -> None:
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "ftp://127.0.0.1/cat.png")
            self.end_headers()
            return
        self.send_response(404 if self.path == "/none" else 200)
        self.end_headers()
        with suppress(OSError):  # the other side has gone
            for _ in range(100 if self.path == "/slow" else 0):
                self.wfile.write(b"x" * 10)
                time.sleep(0.05)
            self.wfile.write(b"x" * 1000)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def site() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,)).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_pictures_are_fetched_within_bounds(site: str) -> None:
    assert fetch_image(f"{site}/cat.png") == b"x" * 1000
    for path, settings, sentence in (
        ("/large", {"limit": 999}, "/large: gives more than 0 MB"),
        ("/slow", {"seconds": 0.3}, "/slow: was not fetched within 0.3 seconds"),
        ("/none", {}, r"/none: cannot be fetched \(Not Found\)"),
        ("/away", {}, r"/away: cannot be fetched \(.*ftp"),
    ):
        with pytest.raises(ValueError, match=sentence) as caught:
            fetch_image(site + path, **settings)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="file:///etc/passwd: pictures are fetched from http:// and https:// addresses only"):
        fetch_image("file:///etc/passwd")
    with pytest.raises(ValueError, match="cannot be fetched"):
        fetch_image("http://127.0.0.1:1/cat.png")
