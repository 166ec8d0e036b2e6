"""Products and convolutions: each special way of `xdecoder/ops` against torch's own, in turn, and which of them is taken.

python benchmarks/products.py [--threads 2] [--repeats 5]

Sizes are those of Focal-T at 512 and 1024 pixels. Weights of products with few tokens come from memory, as in a caption, where
each is read once a word. A way that is not taken is shown all the same: on another processor it may be.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import measure
import torch
import torch.nn.functional as F

from xdecoder.ops import linear as products
from xdecoder.ops import winograd

_MEMORY = 1 << 26  # bytes of weights that no cache holds


def in_turn(repeats: int, *works: Callable[[], object]) -> list[float]:
    """Median seconds of each, as `measure.clock` counts them."""
    taken: list[list[float]] = [[] for _ in works]
    for _ in range(repeats + 1):
        for work, times in zip(works, taken, strict=True):
            start = measure.clock()
            work()
            times.append(measure.clock() - start)
    return [statistics.median(times[1:]) for times in taken]


def row(way: str, plain: float, ours: float, taken: bool) -> dict[str, object]:
    return {"way": way, "torch ms": plain * 1e3, "ours ms": ours * 1e3, "gain": plain / ours, "taken": taken}


def few(tokens: int, inputs: int, outputs: int, repeats: int) -> dict[str, object]:
    weights = [torch.randn(outputs, inputs) for _ in range(max(_MEMORY // (4 * inputs * outputs), 1))]
    x, bias = torch.randn(tokens, inputs), torch.randn(outputs)
    plain, parts = in_turn(
        repeats,
        lambda: [F.linear(x, weight, bias) for weight in weights],
        lambda: [products._in_parts(x, weight, bias) for weight in weights],
    )
    return {
        "way": "in parts",
        "torch ms": plain * 1e3,
        "ours ms": parts * 1e3,
        "gain": plain / parts,
        "taken": x.numel() <= products.FEW,
    }


def many(tokens: int, inputs: int, outputs: int, repeats: int) -> dict[str, object]:
    x, weight, bias = torch.randn(tokens, inputs), torch.randn(outputs, inputs), torch.randn(outputs)
    plain, ours = in_turn(repeats, lambda: F.linear(x, weight, bias), lambda: products._as_convolution(x, weight, bias))
    taken = tokens >= products.MANY and products.convolutions_are_faster()
    return row("convolution", plain, ours, taken)


def convolution(side: int, repeats: int) -> dict[str, object]:
    x = torch.randn(1, 512, side, side).to(memory_format=torch.channels_last)
    weight, bias = torch.randn(512, 512, 3, 3) / 68, torch.randn(512)
    plain, ours = in_turn(repeats, lambda: F.conv2d(x, weight, bias, padding=1), lambda: winograd.convolve(x, weight, bias))
    return row("Winograd", plain, ours, side >= winograd.SMALLEST)


@torch.inference_mode()
def main() -> None:
    parser = measure.parser(__doc__)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    figures: measure.Figures = {}
    for inputs, outputs in ((512, 512), (512, 2048), (2048, 512), (512, 49408)):
        for tokens in (1, 5, 8):
            figures[f"{tokens} x {inputs} -> {outputs}"] = few(tokens, inputs, outputs, options.repeats)
    for tokens, inputs, outputs in ((101, 512, 2048), (256, 512, 2048), (1024, 384, 1536), (4096, 512, 512), (16384, 96, 384)):
        figures[f"{tokens} x {inputs} -> {outputs}"] = many(tokens, inputs, outputs, options.repeats)
    for side in (32, 64, 128):
        figures[f"3 x 3 on {side} x {side}"] = convolution(side, options.repeats)
    measure.report(figures, convolutions_are_faster=products.convolutions_are_faster())


if __name__ == "__main__":
    main()
