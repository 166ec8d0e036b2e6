"""What SED costs on one image of 768 × 768, beside a plain implementation as published, all classes and with early rejection.

python benchmarks/sed.py [--classes 150 847] [--survivors 20] [--skip-plain] [--large 10000]

The network is SED-B with seeded random weights; texts are random unit vectors. Both share the image encoder, whose time is
part of every figure. Plain means: all classes at once through the decoder as it is trained (`xdecoder.sed.decoder`), whose
class attention, skip features and order of operations are the published ones; when rejecting, all cost maps are embedded and
the survivors gathered by masks. Which classes survive is imposed (the first N after the first head), since random weights
reject as no trained network does. Each figure is one process's, whose peak memory is measured too. Prints a table and JSON.
"""

from __future__ import annotations

import time
from typing import Any

import torch
import torch.nn.functional as F
from measure import alone, parser, report
from torch import Tensor

from xdecoder.sed.decoder import Decoder
from xdecoder.sed.inference import ROOM, Picture
from xdecoder.sed.model import Sed, SedConfig

SIDE = 768


def network() -> Sed:
    torch.manual_seed(0)
    return Sed(SedConfig()).eval().requires_grad_(False)


def texts(classes: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    vectors = torch.empty(classes, 80, 640)
    for i in range(0, classes, 1000):
        part = vectors[i : i + 1000]
        part.copy_(F.normalize(torch.randn(part.shape, generator=generator), dim=-1))
    return vectors


def first(count: int) -> Any:
    """A chooser that imposes the survivors of the first stage; nobody is rejected later."""
    return lambda scores, _: torch.arange(len(scores)) < count


def ours(model: Sed, image: Tensor, text: Tensor, survivors: int | None) -> Tensor:
    features = model.encode([image])
    maps = [x[:1] for x in features.skips]
    picture = Picture(model.decoder, F.normalize(features.dense, dim=1)[0], text, maps, ROOM)
    return picture.decode(first(survivors) if survivors else None).logits


def plain(model: Sed, image: Tensor, text: Tensor, survivors: int | None) -> Tensor:
    features = model.encode([image])
    if survivors is None:
        return decoded(model.decoder, features.dense, text, features.skips)
    return rejecting(model.decoder, features.dense, text, features.skips, survivors)


def decoded(decoder: Decoder, dense: Tensor, text: Tensor, maps: tuple[Tensor, ...]) -> Tensor:
    """As published in evaluation: the auxiliary heads are computed too."""
    return decoder(dense, text, maps).final[0]


def rejecting(decoder: Decoder, dense: Tensor, text: Tensor, maps: tuple[Tensor, ...], count: int) -> Tensor:
    """As published: cost maps and their skips of all classes, then scores and survivors stage by stage."""
    cost = torch.einsum("bchw,tpc->tphw", F.normalize(dense, dim=1), text)
    x, skips = decoder.embed(cost), []
    for up in decoder.cost_skips:
        cost = F.relu(up(cost))
        skips.append(cost)
    alive = torch.ones(len(text), dtype=torch.bool)
    for level, image_skip in enumerate(decoder.skips(maps)):
        scores = decoder.auxiliary_heads[level](x)[:, 0]
        order = scores.argsort(dim=0, descending=True)  # as published, though what survives is imposed
        kept = (torch.arange(len(scores)) < count) & (order.shape[0] > 0)
        x, alive = x[kept], alive & (torch.arange(len(alive)) < count)
        skip = image_skip.repeat_interleave(len(x), dim=0)
        x = decoder.stages[level](x, skip, skips[level][alive], 1, 1)
    return decoder.head(x)[:, 0]


def measured(kind: str, classes: int, survivors: int | None, threads: int, repeats: int) -> tuple[float, float, Tensor]:
    """Best wall and processor seconds of an image, and some of its logits."""
    torch.set_num_threads(threads)
    work = {"ours": ours, "plain": plain}[kind]
    model, text = network(), texts(classes)
    image = torch.randint(0, 256, (3, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    best = (float("inf"), float("inf"))
    with torch.inference_mode():
        for _ in range(repeats):
            wall, processor = time.perf_counter(), time.process_time()
            logits = work(model, image, text, survivors)
            best = min(best, (time.perf_counter() - wall, time.process_time() - processor))
    return (*best, logits[:, ::16, ::16].clone())


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--classes", type=int, nargs="+", default=[150, 847], help="vocabularies that both decode")
    options.add_argument("--survivors", type=int, default=20, help="classes that survive early rejection (default: 20)")
    options.add_argument("--large", type=int, nargs="*", default=[10_000], help="vocabularies that ours decodes, rejecting")
    options.add_argument("--skip-plain", action="store_true", help="measure ours only")
    chosen = options.parse_args()
    figures: dict[str, dict[str, Any]] = {}
    cases = [(n, kept) for n in chosen.classes for kept in (None, chosen.survivors)]
    for classes, kept in [*cases, *((n, chosen.survivors) for n in chosen.large)]:
        row: dict[str, Any] = {}
        kinds = ["ours"] if chosen.skip_plain or (classes, kept) not in cases else ["ours", "plain"]
        for kind in kinds:
            (wall, processor, logits), peak = alone(measured, kind, classes, kept, chosen.threads, chosen.repeats)
            row |= {f"{kind} s": wall, f"{kind} CPU s": processor, f"{kind} GiB": peak}
            row["difference"] = (logits - row.pop("_")).abs().max().item() if "_" in row else None
            row |= {"_": logits} if kind == "ours" and "plain" in kinds else {}
        row.pop("_", None)
        if "plain s" in row:
            row |= {"ratio": row["plain s"] / row["ours s"], "CPU ratio": row["plain CPU s"] / row["ours CPU s"]}
        figures[f"{classes} classes, {'all' if kept is None else f'{kept} survive'}"] = row
        print(figures)
    report(figures, side=SIDE)


if __name__ == "__main__":
    main()
