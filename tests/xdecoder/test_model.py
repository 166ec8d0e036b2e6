import pytest
import torch

from tests.tiny import tiny_batch, tiny_config, tiny_model
from xdecoder.config import ConfigError, parse
from xdecoder.model import PIXEL_MEAN, XDecoder, XDecoderConfig


def test_pictures_of_different_size_share_a_canvas():
    features = tiny_model().encode(tiny_batch().images)
    assert features.padded == (64, 96)
    assert features.sizes == ((64, 96), (48, 64))
    assert [tuple(x.shape[-2:]) for x in features.maps] == [(2, 3), (4, 6), (8, 12)]
    assert features.mask.shape == (2, 32, 16, 24)
    assert features.pooled.shape == (2, 32)


def test_padding_is_the_mean_colour():
    mean = torch.tensor(PIXEL_MEAN)[:, None, None].expand(3, 10, 20)
    pixels = XDecoder.prepare([mean], torch.device("cpu"))
    assert pixels.shape == (1, 3, 32, 32)
    assert pixels.abs().max() < 1e-5


def test_a_white_picture_is_normalised():
    pixels = XDecoder.prepare([torch.full((3, 32, 32), 255, dtype=torch.uint8)], torch.device("cpu"))
    assert torch.allclose(pixels[0, :, 0, 0], torch.tensor([2.2489, 2.4286, 2.6400]), atol=1e-3)


def test_widths_must_agree():
    settings = tiny_config().model_dump()
    settings["pixel_decoder"]["width"] = 64
    with pytest.raises(ConfigError, match=r"pixel_decoder.width \(64\) and decoder.width \(32\) must be equal"):
        parse(XDecoderConfig, settings)


def test_every_parameter_learns_from_some_task():
    from tests.tiny import tiny_tasks

    model = tiny_model().train()
    batch = tiny_batch()
    terms = model.losses(tiny_tasks().build(["segmentation", "referring", "captioning", "retrieval"]), batch)
    sum(terms.values()).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == []
