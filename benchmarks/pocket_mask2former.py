"""The pocket network's rival in segmentation: transformers' Mask2Former on the same backbone, batches and CPU seconds.

python benchmarks/pocket_mask2former.py data.root=FOLDER [--seconds 17000]

It learns from the batches of our stream of regions. Of sets that are annotated in part it takes what nobody annotated for
background, as it must. Its threshold is fitted and its maps are made as ours are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pocket_common import backbone, learn, options, pixels, report
from torch import Tensor, nn
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig
from transformers.modeling_outputs import BackboneOutput
from transformers.models.mask2former.modeling_mask2former import Mask2FormerPixelDecoder

from datasets.evaluators.panoptic import PanopticEvaluator
from datasets.evaluators.semantic import SemanticEvaluator
from datasets.loader import evaluation_loader, train_loader
from datasets.streams import EvaluationConfig
from trainer.experiment import ExperimentConfig
from trainer.threshold import fit_threshold
from xdecoder.model import XDecoder, padded_size
from xdecoder.postprocessing import Evidence
from xdecoder.tasks.segmentation import segments_of
from xdecoder.types import Batch

CLASSES = 133


class Encoder(nn.Module):
    """Our backbone as transformers asks for one."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner, self.channels = inner, list(inner.widths)

    def forward(self, pixel_values: Tensor, **_: Any) -> BackboneOutput:
        return BackboneOutput(feature_maps=tuple(self.inner(pixel_values)))


class Mask2Former(nn.Module):
    """Asked as our networks are, so that the same code measures both."""

    def __init__(self, config: ExperimentConfig) -> None:
        super().__init__()
        ours, points = config.model, config.tasks.segmentation.points
        tiny = SwinConfig(
            embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], out_features=[f"stage{i}" for i in range(1, 5)]
        )
        width = ours.decoder.width
        settings = Mask2FormerConfig(
            backbone_config=tiny,  # in whose place ours comes
            feature_size=width,
            mask_feature_size=width,
            hidden_dim=width,
            num_labels=CLASSES,
            encoder_feedforward_dim=ours.pixel_decoder.hidden,
            encoder_layers=ours.pixel_decoder.layers,
            decoder_layers=ours.decoder.layers + 1,
            num_attention_heads=ours.decoder.heads,
            dim_feedforward=ours.decoder.hidden,
            num_queries=ours.decoder.queries - 1,
            train_num_points=points,
            dropout=0.0,
        )
        self.net = Mask2FormerForUniversalSegmentation(settings)
        level = self.net.model.pixel_level_module
        level.encoder = Encoder(backbone(config))
        level.decoder = Mask2FormerPixelDecoder(settings, feature_channels=level.encoder.channels)
        level.decoder.apply(self.net._init_weights)

    def loss(self, batch: Batch) -> Tensor:
        """Its own losses, on all layers."""
        segments = segments_of(batch)
        masks, labels = [s.masks.float() for s in segments], [s.labels for s in segments]
        found: Tensor = self.net(pixel_values=pixels(batch), mask_labels=masks, class_labels=labels).loss
        return found

    def encode(self, images: Sequence[Tensor]) -> Any:
        """What it says of images, and their sizes."""
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        return self.net(pixel_values=XDecoder.prepare(images, torch.device("cpu"))), sizes, padded_size(images)

    def evidence(self, features: Any, prompts: Sequence[str], settings: Any, image: int = 0) -> Evidence:
        """Its class probabilities and masks of an image, as ours gives them."""
        answer, sizes, padded = features
        chances = answer.class_queries_logits[image].softmax(-1)
        return Evidence(chances, answer.masks_queries_logits[image], torch.arange(CLASSES), padded, sizes[image])


@torch.inference_mode()
def measure(net: Mask2Former, entry: EvaluationConfig, config: ExperimentConfig, threshold: float) -> dict[str, float]:
    """PQ and mIoU of a set, read out as ours are."""
    task = config.tasks.segmentation
    settings = task.postprocessing.model_copy(update={"object_threshold": threshold})
    predict = task.model_copy(update={"postprocessing": settings}).build().predict
    loader = evaluation_loader(entry, config.data.root)
    assert loader.dataset.vocabulary is not None
    evaluators = [PanopticEvaluator(loader.dataset.vocabulary), SemanticEvaluator(loader.dataset.vocabulary)]
    for batch in loader:
        for result, sample in zip(predict(net, net.encode(batch.images), batch), batch.samples, strict=True):
            for evaluator in evaluators:
                evaluator.update(result, sample)
    return {name: value for evaluator in evaluators for name, value in evaluator.compute().items()}


def main() -> None:
    given, config = options(__doc__, seconds=17000)
    net = Mask2Former(config)
    stream, trainer = config.data.train[0], config.trainer
    batches = train_loader(stream.model_copy(update={"tasks": ("segmentation",)}), config.data.root, seed=config.seed)
    slower = {"net.model.pixel_level_module.encoder": 0.1}
    steps = learn(net, net.loss, batches, given.seconds, trainer.learning_rate, trainer.weight_decay, slower)
    net.eval()
    entry = next(entry for entry in config.data.evaluate if "segmentation" in entry.tasks)
    held_out = entry.model_copy(update={"dataset": "coco_more_val"})
    scores = fit_threshold(net, held_out, config.data.root, config.tasks.segmentation)
    threshold = max(scores, key=lambda each: scores[each])
    found = measure(net, entry, config, threshold)
    kept = {name: found[name] for name in ("PQ", "PQ_things", "PQ_stuff", "mIoU")}
    report("Mask2Former", net, given.seconds, steps, {"threshold": threshold, **kept})


if __name__ == "__main__":
    main()
