"""32 clients at once against the HTTP interface: requests that wait are batched, against one at a time.

python benchmarks/serving.py [--checkpoint FILE] [--clients 32] [--requests 256]

The server runs in a process of its own and computes with --threads; clients ask from this one and send the next request as soon
as they have an answer. Without a checkpoint the network is the quickstart's, with seeded weights.
"""

from __future__ import annotations

import base64
import http.client
import io
import json
import multiprocessing
import socket
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import measure
import torch
from PIL import Image

import xdecoder
from trainer.experiment import ExperimentConfig
from xdecoder.config import load
from xdecoder.inference.predictor import Predictor
from xdecoder.serving import http as server
from xdecoder.serving.http import ServerConfig

QUICKSTART = Path(__file__).resolve().parent.parent / "configs/shapes/quickstart.yaml"
QUESTIONS: dict[str, dict[str, Any]] = {
    "panoptic": {"things": ["circle", "star", "cube", "ring"], "stuff": ["grass", "sky"]},
    "caption": {},
}


def serve(checkpoint: str | None, threads: int, port: int, batch: int) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    predictor = xdecoder.load(checkpoint) if checkpoint else Predictor(load(ExperimentConfig, QUICKSTART).model.build())
    server.serve(predictor, "127.0.0.1", port, ServerConfig(batch=batch))


def ask(port: int, name: str, body: str) -> tuple[int, float]:
    """Status and seconds of one request."""
    start = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("POST", f"/v1/{name}", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status, time.perf_counter() - start


def under_load(port: int, name: str, body: str, clients: int, requests: int) -> dict[str, Any]:
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(lambda _: ask(port, name, body), range(clients)))  # warm
        start = time.perf_counter()
        answers = list(pool.map(lambda _: ask(port, name, body), range(requests)))
        wall = time.perf_counter() - start
    times = sorted(seconds for _, seconds in answers)
    return {
        "requests/s": requests / wall,
        "median s": statistics.median(times),
        "p95 s": times[int(0.95 * len(times))],
        "errors": sum(status != 200 for status, _ in answers),
    }


def picture(side: int) -> str:
    data = io.BytesIO()
    Image.fromarray(measure.image(side, side).permute(1, 2, 0).numpy()).save(data, "JPEG")
    return base64.b64encode(data.getvalue()).decode()


def measured(options: Any, batch: int) -> dict[str, dict[str, Any]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = multiprocessing.get_context("spawn").Process(
        target=serve, args=(options.checkpoint, options.threads, port, batch), daemon=True
    )
    process.start()
    try:
        while socket.socket().connect_ex(("127.0.0.1", port)):
            time.sleep(0.2)
        bodies = {name: json.dumps({"image": picture(options.side), **asked}) for name, asked in QUESTIONS.items()}
        return {name: under_load(port, name, body, options.clients, options.requests) for name, body in bodies.items()}
    finally:
        process.terminate()
        process.join()


def main() -> None:
    parser = measure.parser(__doc__)
    parser.add_argument("--checkpoint", metavar="FILE")
    parser.add_argument("--clients", type=int, default=32, help="(default: 32)")
    parser.add_argument("--requests", type=int, default=256, help="(default: 256)")
    parser.add_argument("--side", type=int, default=128, help="of the pictures, in pixels (default: 128)")
    options = parser.parse_args()
    one, eight = measured(options, 1), measured(options, 8)
    figures = {}
    for name in QUESTIONS:
        figures[f"{name}, one at a time"] = one[name]
        figures[f"{name}, batched"] = {**eight[name], "ratio": eight[name]["requests/s"] / one[name]["requests/s"]}
    measure.report(figures, clients=options.clients)


if __name__ == "__main__":
    main()
