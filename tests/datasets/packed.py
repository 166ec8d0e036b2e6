"""Small corpora of captioned pictures in every packed format, for tests."""

from __future__ import annotations

import io
import json
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def image(number: int, size: tuple[int, int] = (12, 16), format: str = "PNG") -> bytes:
    """An encoded picture of one colour that tells its number."""
    colour = (number % 256, number // 256 % 256, 7)
    file = io.BytesIO()
    Image.new("RGB", size[::-1], colour).save(file, format)
    return file.getvalue()


def number_of(image: Any) -> int:
    """The number of a (3, h, w) picture."""
    return int(image[0, 0, 0]) + 256 * int(image[1, 0, 0])


def rows(count: int, first: int = 0) -> list[dict[str, Any]]:
    """Rows in ViLT's layout; every third picture has two captions."""
    return [
        {
            "image": image(number),
            "caption": [f"picture {number}"] + ([f"again {number}"] if number % 3 == 0 else []),
            "image_id": f"COCO_train2014_{number:012d}.jpg",
            "split": "train",
        }
        for number in range(first, first + count)
    ]


def write_arrow(path: Path, content: list[dict[str, Any]], batch: int = 7, stream: bool = False) -> None:
    """As ViLT writes it, or in the format without a footer of the Hugging Face library."""
    import pyarrow as pa

    table = pa.Table.from_pylist(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = pa.ipc.new_stream if stream else pa.ipc.new_file
    with pa.OSFile(str(path), "wb") as sink, writer(sink, table.schema) as file:
        file.write_table(table, max_chunksize=batch)


def write_parquet(path: Path, content: list[dict[str, Any]], group: int = 7) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist(content), path, row_group_size=group)


def write_tar(path: Path, members: list[tuple[str, bytes]], format: int = tarfile.GNU_FORMAT) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as file:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))


def members(content: list[dict[str, Any]], prefix: str = "", as_json: bool = False) -> list[tuple[str, bytes]]:
    """The same rows as WebDataset's members."""
    found = []
    for row in content:
        name = prefix + row["image_id"].removesuffix(".jpg")
        said = ("json", json.dumps({"caption": row["caption"], "width": 16})) if as_json else ("txt", row["caption"][0] + "\n")
        found += [(f"{name}.png", row["image"]), (f"{name}.{said[0]}", said[1].encode()), (f"{name}.cls", b"3")]
    return found


def noise(count: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(count)


class Handler(SimpleHTTPRequestHandler):
    """Serves files and, as object stores do, parts of them; may break off or refuse on demand."""

    parts = True
    fails: list[int] = []  # how many requests are still to fail, shared by all

    def do_GET(self) -> None:
        data = (Path(self.directory) / self.path.lstrip("/")).read_bytes()
        asked = self.headers.get("Range", "").removeprefix("bytes=").partition("-")
        if self.fails[0]:
            self.fails[0] -= 1
            break_off = self.fails[0] % 2 == 0 and asked[0] == "0"
            self.send_response(200 if break_off else 503)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if break_off:
                self.wfile.write(data[:700])
            return
        if self.parts and asked[0]:
            first, last = int(asked[0]), min(int(asked[2] or len(data) - 1), len(data) - 1)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
            data = data[first : last + 1]
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *about: Any) -> None:
        pass


@contextmanager
def served(folder: Path, parts: bool = True, fails: int = 0) -> Iterator[str]:
    """The folder at an address."""
    handler = type("Own", (Handler,), {"parts": parts, "fails": [fails]})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
