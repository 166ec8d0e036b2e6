"""Where a checkpoint may lie: a path, a published name, a web address, or a file of a repository on the Hugging Face Hub."""

from __future__ import annotations

import hashlib
import re
import time
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch

from xdecoder.weights import Weights, named

_HANDLERS: tuple[type[urllib.request.BaseHandler], ...] = (
    urllib.request.ProxyHandler,
    urllib.request.UnknownHandler,
    urllib.request.HTTPHandler,
    urllib.request.HTTPSHandler,
    urllib.request.HTTPDefaultErrorHandler,
    urllib.request.HTTPRedirectHandler,
    urllib.request.HTTPErrorProcessor,
)

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"


def fetch(source: str | Path) -> Path:
    """The local file of a source; what is far away is downloaded once, into the library's cache folder.

    Args:
        source: a file, a folder that holds model.safetensors, a name of `xdecoder.weights`, `https://…`,
            `hf://owner/repository/file` or, for its model.safetensors, `hf://owner/repository`;
            `hf://owner/repository@revision/…` asks for a branch, tag or commit.

    Raises:
        ValueError: for an address of another kind, or one that cannot be read.
    """
    address = str(source)
    kind, separator, rest = address.partition("://")
    if not separator:
        if (published := named(source)) is not None:
            return _published(published)
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


def fetch_image(address: str, seconds: float = 20.0, limit: int = 50_000_000) -> bytes:
    """What an http(s) address gives, held in memory; nothing is kept.

    Args:
        seconds: most time that it may take in all.
        limit: most bytes.

    Raises:
        ValueError: in one sentence, for an address of another kind, one that does not answer, takes too long or gives more.
    """
    if not address.startswith(("http://", "https://")):
        raise ValueError(f"{address}: pictures are fetched from http:// and https:// addresses only")
    opener, end = urllib.request.OpenerDirector(), time.monotonic() + seconds
    for handler in _HANDLERS:  # Python's own opener would follow a redirection to ftp:// as well
        opener.add_handler(handler())
    content = bytearray()
    try:
        with opener.open(urllib.request.Request(address, headers={"User-Agent": "xdecoder"}), timeout=seconds) as answer:
            while part := answer.read1(1 << 16):
                content += part
                if len(content) > limit:
                    raise ValueError(f"{address}: gives more than {limit / 1e6:.0f} MB")
                if time.monotonic() > end:
                    raise TimeoutError
    except TimeoutError:
        raise ValueError(f"{address}: was not fetched within {seconds:g} seconds") from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            raise ValueError(f"{address}: was not fetched within {seconds:g} seconds") from None
        raise ValueError(f"{address}: cannot be fetched ({' '.join(str(reason).split()) or type(error).__name__})") from None
    return bytes(content)


def at_hand(weights: Weights) -> Path | None:
    """A published file that is on this disk: in our cache folder, where it may be put by hand, or in the hub's."""
    from huggingface_hub import try_to_load_from_cache

    by_hand = _cache() / weights.file
    if by_hand.is_file():
        return by_hand
    found = try_to_load_from_cache(weights.repository, weights.file)
    return Path(found) if isinstance(found, str) else None


def _published(weights: Weights) -> Path:
    found = at_hand(weights)
    if found is not None:
        return found
    try:
        return _from_hub(f"{weights.repository}/{weights.file}", weights.name)
    except OSError as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{weights.name}: cannot be downloaded ({reason}); fetch {weights.address} where there is a network, "
            f"and put it into {_cache()}"
        ) from None


def _from_hub(rest: str, address: str) -> Path:
    from huggingface_hub import hf_hub_download, try_to_load_from_cache  # only those who ask for it wait for its import

    owner, _, tail = rest.partition("/")
    repository, _, file = tail.partition("/")
    repository, _, revision = repository.partition("@")
    if not owner or not repository:
        raise ValueError(f"{address}: expected hf://owner/repository/file")
    place: dict[str, Any] = {"repo_id": f"{owner}/{repository}", "filename": file or WEIGHTS_FILE, "revision": revision or None}
    known = isinstance(try_to_load_from_cache(**place), str)
    path = Path(hf_hub_download(**place))
    if not known:
        _check_digest(path, address)
    return path


def _check_digest(path: Path, address: str) -> None:
    """The hub's cache names large files by their SHA-256; raises ValueError, and forgets the file, if it has another."""
    blob = path.resolve()
    if re.fullmatch(r"[0-9a-f]{64}", blob.name):
        with open(blob, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != blob.name:
            blob.unlink()
            raise ValueError(f"{address}: what was downloaded is damaged (its SHA-256 is not the hub's); try again")


def _cache() -> Path:
    return Path(torch.hub.get_dir()) / "xdecoder"


def _from_web(address: str) -> Path:
    name = address.partition("?")[0].rstrip("/").rpartition("/")[2]
    digest = hashlib.sha256(address.encode()).hexdigest()[:12]  # two addresses may end in the same name
    path = _cache() / digest / name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(address, str(path), progress=False)
    return path
