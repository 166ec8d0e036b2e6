"""Where a checkpoint may lie: a path, a web address, or a file of a repository on the Hugging Face Hub."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"


def fetch(source: str | Path) -> Path:
    """The local file of a source; what is far away is downloaded once, into the library's cache folder.

    Args:
        source: a file, a folder that holds model.safetensors, `https://…`, `hf://owner/repository/file` or, for its
            model.safetensors, `hf://owner/repository`; `hf://owner/repository@revision/…` asks for a branch, tag or commit.

    Raises:
        ValueError: for an address of another kind, or one that cannot be read.
    """
    address = str(source)
    kind, separator, rest = address.partition("://")
    if not separator:
        return Path(source) / WEIGHTS_FILE if Path(source).is_dir() else Path(source)
    try:
        match kind:
            case "hf":
                return _from_hub(rest, address)
            case "https":
                return _from_web(address)
    except OSError as error:  # huggingface_hub's and urllib's errors are of this kind
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{address}: cannot be downloaded ({reason})") from None
    raise ValueError(f"{address}: expected a path, https://… or hf://owner/repository/file")


def _from_hub(rest: str, address: str) -> Path:
    from huggingface_hub import hf_hub_download  # only those who ask for it wait for its import

    owner, _, tail = rest.partition("/")
    repository, _, file = tail.partition("/")
    repository, _, revision = repository.partition("@")
    if not owner or not repository:
        raise ValueError(f"{address}: expected hf://owner/repository/file")
    return Path(hf_hub_download(f"{owner}/{repository}", file or WEIGHTS_FILE, revision=revision or None))


def _from_web(address: str) -> Path:
    name = address.partition("?")[0].rstrip("/").rpartition("/")[2]
    digest = hashlib.sha256(address.encode()).hexdigest()[:12]  # two addresses may end in the same name
    path = Path(torch.hub.get_dir()) / "xdecoder" / digest / name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(address, str(path), progress=False)
    return path
