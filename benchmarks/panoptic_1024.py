"""Panoptic segmentation at 1024 × 1024: only what is asked for, against every layer's logits and full-size masks, as published.

python benchmarks/panoptic_1024.py [--side 1024] [--without-mask2former]

The published forward makes semantic and instance maps along with the panoptic one unless told not to: both are shown.
Seeded Focal-T weights, 133 classes whose text vectors are there already. Each way runs in a process of its own, whose peak
memory is that of weights, libraries and all; what came on top of these is shown beside it. Last stands transformers'
Mask2Former on a Swin-T, which has as many parameters in its backbone as Focal-T; its decoders are half as wide, and it knows
133 classes and no texts.

The stand-in is dearer than the published code itself, which was run beside ours once (AMD Zen 5, 2 threads): 1.43 s against
1.23 at 512 pixels and 6.08 s against 4.80 at 1024, hence 1.16 and 1.27 times as long, where this script said 1.8.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import measure
import torch
import torch.nn.functional as F
from torch import Tensor

from xdecoder.inference.predictor import Predictor
from xdecoder.losses.contrastive import cosine_logits
from xdecoder.model import XDecoder
from xdecoder.postprocessing import PostprocessingConfig, ResizedMasks, instances, panoptic, resize_masks, semantic_map

CLASSES = 133
CONFIG = PostprocessingConfig(object_threshold=0.4, overlap_threshold=0.0)  # seeded masks overlap, and all are to be drawn
SCALE = torch.tensor(4.6)  # logarithm, about that of trained networks


def texts() -> Tensor:
    return F.normalize(torch.randn(CLASSES + 1, 512, generator=torch.Generator().manual_seed(0)), dim=-1)


def as_published(model: XDecoder, image: Tensor, everything: bool) -> Tensor:
    features, classes = model.encode([image]), texts().to(model.device)
    outputs = []
    for layer in model.decode(features):
        rows = layer.object_and_image
        outputs.append((cosine_logits(rows.semantic, classes, SCALE, clamp=False), rows.masks(features.mask)))
    likely, small = outputs[-1][0][0].softmax(-1), outputs[-1][1][0]
    logits = resize_masks(small, features.padded, features.sizes[0], (image.shape[1], image.shape[2]))
    if everything:
        torch.einsum("nk,nhw->khw", likely[:, :-1], logits.sigmoid()).argmax(dim=0)
        rows = likely[:, :-1].flatten().topk(100).indices // CLASSES
        chosen, inside = logits[rows], (logits[rows] > 0).float()
        (chosen.sigmoid() * inside).sum(dim=(1, 2)) / (inside.sum(dim=(1, 2)) + 1e-6)
    return _segments(likely, logits.sigmoid())


def _segments(likely: Tensor, masks: Tensor) -> Tensor:
    """The label map (H, W) of full-size masks, segment by segment."""
    scores, classes = likely.max(dim=-1)
    kept = (classes != CLASSES) & (scores > CONFIG.object_threshold)
    classes, masks = classes[kept], masks[kept]
    winner = (scores[kept][:, None, None] * masks).argmax(dim=0)
    labels = torch.full(winner.shape, CLASSES, device=winner.device)
    for row, label in enumerate(classes.tolist()):
        drawn = (winner == row) & (masks[row] >= 0.5)
        if drawn.any() and (winner == row).sum() / (masks[row] >= 0.5).sum() >= CONFIG.overlap_threshold:
            labels[drawn] = label
    return labels


def ours(model: XDecoder, image: Tensor, everything: bool) -> Tensor:
    features = replace(model.encode([image]), keep=False)
    rows = features.latents.outputs
    masks = ResizedMasks(rows.masks(features.mask)[0], features.padded, features.sizes[0], (image.shape[1], image.shape[2]))
    likely = cosine_logits(rows.semantic[0].float(), texts().to(model.device), SCALE, clamp=False).softmax(-1)
    is_thing = torch.ones(CLASSES, dtype=torch.bool, device=model.device)
    if everything:
        semantic_map(likely, masks)
        instances(likely, masks, is_thing)
    result = panoptic(likely, masks, is_thing, CONFIG)
    return torch.tensor([CLASSES, *(segment.label for segment in result.segments)], device=model.device)[result.ids.long()]


@torch.inference_mode()
def run(way: str, everything: bool, side: int, threads: int, repeats: int) -> tuple[float, Tensor, float, float]:
    """Seconds, label map, millions of parameters that look at pictures, and GiB held before the first of them is seen."""
    torch.set_num_threads(threads)
    model, image = network(published=way == "as published"), measure.image(side, side)
    if way == "ours":
        Predictor(model)  # chooses convolutions for inference
    loaded = measure.peak()
    size = sum(value.numel() for name, value in model.named_parameters() if not name.startswith("language.")) / 1e6
    if way == "ours":
        return measure.seconds(lambda: ours(model, image, everything), repeats), ours(model, image, everything), size, loaded
    with measure.plain_products():
        seconds = measure.seconds(lambda: as_published(model, image, everything), repeats)
        return seconds, as_published(model, image, everything), size, loaded


def network(published: bool) -> XDecoder:
    """Focal-T whose seeded queries are made to differ more, so that they mean different classes."""
    model = measure.focal_t(published)
    model.decoder.query_content.weight *= 10
    return model


@torch.inference_mode()
def run_mask2former(side: int, threads: int, repeats: int) -> tuple[float, float]:
    """Seconds, and millions of parameters."""
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, Mask2FormerImageProcessor, SwinConfig

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    swin = SwinConfig(
        embed_dim=96,
        depths=[2, 2, 6, 2],
        num_heads=[3, 6, 12, 24],
        window_size=7,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    net = Mask2FormerForUniversalSegmentation(Mask2FormerConfig(backbone_config=swin, num_labels=CLASSES)).eval()
    processor = Mask2FormerImageProcessor()
    pixels = XDecoder.prepare([measure.image(side, side)], torch.device("cpu"))

    def ask() -> Any:
        answer = net(pixel_values=pixels)
        return processor.post_process_panoptic_segmentation(
            answer, threshold=0.0, overlap_mask_area_threshold=0.0, target_sizes=[(side, side)]
        )

    return measure.seconds(ask, repeats), sum(parameter.numel() for parameter in net.parameters()) / 1e6


def main() -> None:
    parser = measure.parser(__doc__)
    parser.add_argument("--side", type=int, default=1024, help="of the picture, in pixels (default: 1024)")
    parser.add_argument("--without-mask2former", action="store_true", help="leave transformers out")
    options = parser.parse_args()
    given = (options.side, options.threads, options.repeats)
    figures: measure.Figures = {}
    for everything, results in ((False, "panoptic"), (True, "all maps")):
        maps = []
        for way in ("as published", "ours"):
            (seconds, labels, size, loaded), peak = measure.alone(run, way, everything, *given)
            figures[f"{way}, {results}"] = {
                "seconds": seconds,
                "peak GiB": peak,
                "on top GiB": peak - loaded,
                "M parameters": size,
            }
            maps.append(labels)
        theirs = figures[f"as published, {results}"]
        figures[f"ours, {results}"] |= {
            "times as fast": theirs["seconds"] / seconds,
            "share of memory": peak / theirs["peak GiB"],
            "on top": (peak - loaded) / theirs["on top GiB"],
            "equal pixels %": (maps[0] == maps[1]).float().mean().item() * 100,
            "classes": len(maps[0].unique()) - 1,
        }
    if not options.without_mask2former:
        (seconds, million), peak = measure.alone(run_mask2former, *given)
        figures["Mask2Former Swin-T"] = {"seconds": seconds, "peak GiB": peak, "M parameters": million}
    torch.set_num_threads(options.threads)
    measure.report(figures, side=options.side)


if __name__ == "__main__":
    main()
