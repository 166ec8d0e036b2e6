"""The web page under 1 000 mixed questions, 32 at once: what fails, how long visitors wait, and whether memory grows.

python benchmarks/page.py [--checkpoint FILE] [--questions 1000] [--visitors 32]

The page runs in a process of its own; visitors ask from this one as browsers do (upload once, then one question after the other
over the page's queue), some of them what the page would not send. Without a checkpoint the network is a tiny one with seeded
weights, so that the page is measured rather than the network.
"""

from __future__ import annotations

import io
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import measure
import torch
from PIL import Image

from xdecoder.checkpoint import save
from xdecoder.config import parse
from xdecoder.model import XDecoder, XDecoderConfig

WEB = Path(__file__).resolve().parent.parent / "demo/web.py"
TINY = {
    "backbone": {"name": "focal", "width": 16, "depths": [1, 1, 1, 1], "levels": 2, "layer_scale": 1.0, "drop_path": 0.0},
    "pixel_decoder": {"name": "fpn", "width": 32, "layers": 1, "heads": 4, "hidden": 64},
    "decoder": {"queries": 9, "layers": 4, "width": 32, "heads": 4, "hidden": 64, "joint_width": 32, "caption_length": 24},
    "language": {"merges": 500, "context_length": 24, "width": 32, "heads": 4, "layers": 1, "output_width": 32},
    "image_size": 64,
    "caption_image_size": 64,
}
WORDS = ("cat", "dog", "star", "sky", "grass", "<b>bold</b>", "ring", "cube")
INPUTS = 12  # of the page's button: picture, network, task and the fields of demo/page/ask_tab.py
WARM = 100  # questions after which memory is to stay as it is


def serve(checkpoint: str | None, threads: int, port: int, folder: Path) -> subprocess.Popen[bytes]:
    """The page as its users start it, once it answers."""
    if checkpoint is None:
        torch.manual_seed(0)
        checkpoint = str(folder / "tiny.pt")
        save(XDecoder(parse(XDecoderConfig, TINY)), checkpoint)
    line = [sys.executable, str(WEB), "--checkpoint", checkpoint, "--port", str(port)]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(line, env={**os.environ, "OMP_NUM_THREADS": str(threads)}, stdout=log, stderr=log)
    while socket.socket().connect_ex(("127.0.0.1", port)):
        if process.poll() is not None:
            raise SystemExit((folder / "log").read_text())
        time.sleep(0.2)
    return process


class Visitor:
    """Asks in a session of its own, one question at a time."""

    def __init__(self, address: str, number: int, side: int) -> None:
        import httpx

        self.client, self.address, self.session = httpx.Client(timeout=600), address, f"visitor{number}"
        self.rng, data = random.Random(number), io.BytesIO()
        Image.fromarray(measure.image(side, side + number).permute(1, 2, 0).numpy()).save(data, "JPEG")
        uploaded = self.client.post(f"{address}/gradio_api/upload", files={"files": ("a.jpg", data.getvalue())}).json()[0]
        self.picture = {"path": uploaded, "meta": {"_type": "gradio.FileData"}}
        config = self.client.get(f"{address}/config").json()
        self.endpoints = {each["api_name"]: each["id"] for each in config["dependencies"] if each["api_name"]}
        self.page = next(each["id"] for each in config["dependencies"] if len(each["inputs"]) == INPUTS)

    def ask(self, _: int) -> tuple[str, float]:
        """What became of one question, drawn at random, and the seconds it took."""
        kind = self.rng.choice(("page", "page", "page", "refer", "caption", "match", "wrong"))
        start = time.perf_counter()
        return self._asked(kind, *self._question(kind)), time.perf_counter() - start

    def _question(self, kind: str) -> tuple[int, list[Any]]:
        names = self.rng.sample(WORDS, self.rng.randint(1, 5))
        if kind == "page":  # as the button does; the answer is a picture with regions
            task = self.rng.choice(("panoptic", "semantic", "instances", "refer", "caption_region"))
            comma, lines = ", ".join(names), "\n".join(f"the {name}" for name in names)
            return self.page, [self.picture, "", task, comma, "sea", comma, lines, lines, "what?", 0.05, 0.05, -1]
        if kind == "wrong":
            return self.endpoints["refer"], [self.rng.choice((None, 3, {"path": "/etc/passwd"})), "x" * 300, None, ""]
        texts = {"refer": ["\n".join(names), None], "match": ["\n".join(names)], "caption": []}[kind]
        return self.endpoints[kind], [self.picture, *texts, ""]

    def _asked(self, kind: str, endpoint: int, data: list[Any]) -> str:
        line = {"data": data, "fn_index": endpoint, "session_hash": self.session}
        joined = self.client.post(f"{self.address}/gradio_api/queue/join", json=line)
        if joined.status_code != 200:
            return "refused" if kind == "wrong" else f"failed: {joined.text[:80]}"
        with self.client.stream("GET", f"{self.address}/gradio_api/queue/data?session_hash={self.session}") as events:
            for event in events.iter_lines():
                message = json.loads(event[6:]) if event.startswith("data: ") else {}
                if message.get("msg") == "process_completed":
                    if message["success"]:
                        return "answered"
                    return "refused" if kind == "wrong" else f"failed: {message['output']}"
        return "failed: the stream ended"


def resident(process: int) -> int:
    """Bytes of memory of a process."""
    pages = Path(f"/proc/{process}/statm").read_text().split()[1]
    return int(pages) * 4096


def alone(visitor: Visitor) -> float:
    """Mean seconds of an answer while nobody else asks."""
    asked = [visitor.ask(n) for n in range(40)]
    return statistics.mean(seconds for said, seconds in asked if said == "answered")


def measured(options: Any, port: int, process: int) -> dict[str, Any]:
    address = f"http://127.0.0.1:{port}"
    with ThreadPoolExecutor(options.visitors) as pool:
        visitors = list(pool.map(lambda n: Visitor(address, n, options.side), range(options.visitors)))
    before, answers, memory = alone(visitors[0]), [], {}
    with ThreadPoolExecutor(options.visitors) as pool:
        for first, last in ((0, WARM), (WARM, options.questions)):
            shares = [range(first + n, last, options.visitors) for n in range(options.visitors)]
            asked = pool.map(lambda pair: [pair[0].ask(n) for n in pair[1]], zip(visitors, shares, strict=True))
            answers += [answer for share in asked for answer in share]
            memory[last] = resident(process)
    one = (before + alone(visitors[0])) / 2  # the machine may have been busier at one of the two times
    times = sorted(seconds for _, seconds in answers)
    kinds = [said for said, _ in answers]
    return {
        "answered": kinds.count("answered"),
        "refused, as they should": kinds.count("refused"),
        "failed": sum(said.startswith("failed") for said in kinds),
        "one answer, nobody else there, s": one,
        "median s": statistics.median(times),
        "p95 s": times[int(0.95 * len(times))],
        "visitors x one answer, s": options.visitors * one,
        f"MiB after {WARM}": memory[WARM] / 2**20,
        f"MiB after {options.questions}": memory[options.questions] / 2**20,
        "growth": memory[options.questions] / memory[WARM] - 1,
        "first failure": next((said for said in kinds if said.startswith("failed")), ""),
    }


def main() -> None:
    parser = measure.parser(__doc__)
    parser.add_argument("--checkpoint", metavar="FILE")
    parser.add_argument("--questions", type=int, default=1000, help="(default: 1000)")
    parser.add_argument("--visitors", type=int, default=32, help="(default: 32)")
    parser.add_argument("--side", type=int, default=320, help="of the pictures, in pixels (default: 320)")
    options = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as name:
        process = serve(options.checkpoint, options.threads, port, Path(name))
        try:
            measure.report({"page": measured(options, port, process.pid)}, visitors=options.visitors)
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
