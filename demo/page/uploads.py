"""What visitors send: their pictures are opened with care, and what the page would not send is refused in our words."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from xdecoder.images import decode, read_header, rgb, upright

SHOWN_SIDE = 1280  # larger pictures are shown smaller
NAME = "This file"
FORGED = "This is not what the page sends; reload it and ask again."


def waiting(path: Path) -> BytesIO:
    """An uploaded file, to be opened when its turn has come: what waits takes no more room than the file.

    Raises:
        ValueError: for a file that is no picture, or whose pixels would fill the memory: its header is read.
    """
    read_header(path, name=NAME)
    file = BytesIO(path.read_bytes())
    file.name = NAME
    return file


def open_shown(path: str | Path) -> Image.Image:
    """An uploaded file as an upright RGB picture of at most SHOWN_SIDE pixels a side; raises ValueError as `waiting` does."""
    return shown(rgb(upright(decode(path, name=NAME, draft=SHOWN_SIDE)), NAME))


def shown(picture: Image.Image) -> Image.Image:
    """A picture as it is shown."""
    small = picture.copy()
    small.thumbnail((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.LANCZOS)
    return small


def uploaded(upload: Any) -> Path:
    """Where an upload lies.

    Raises:
        ValueError: for what is no upload, and for a path outside of gradio's folder: nobody keeps a visitor from sending what
            the page would not.
    """
    from gradio.utils import get_upload_folder

    if not isinstance(upload, dict) or not isinstance(upload.get("path"), str) or "\0" in upload["path"]:
        raise ValueError(FORGED)
    path = Path(upload["path"]).resolve()
    if not path.is_relative_to(Path(get_upload_folder()).resolve()) or not path.is_file():
        raise ValueError(FORGED)
    return path


def refuse_addresses(page: Any) -> None:
    """Gradio refuses paths outside its folder of uploads by itself, but would fetch addresses."""
    import gradio as gr

    def guarded(move: Any) -> Any:
        async def local_only(path: Any) -> Any:
            if "://" in str(path):
                raise gr.Error("Upload the picture itself rather than its address.", print_exception=False)
            return await move(path)

        return local_only

    for block in page.blocks.values():
        if hasattr(block, "async_move_resource_to_block_cache"):
            block.async_move_resource_to_block_cache = guarded(block.async_move_resource_to_block_cache)
