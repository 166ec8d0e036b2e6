from __future__ import annotations

from pathlib import Path

import pytest
import torch

from xdecoder.download import fetch


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
