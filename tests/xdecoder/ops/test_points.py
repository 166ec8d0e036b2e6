import torch

from xdecoder.ops.points import sample_points, uncertain_points


def test_pixel_centres_give_pixel_values():
    maps = torch.arange(12.0).reshape(1, 1, 3, 4)
    y, x = torch.meshgrid((torch.arange(3) + 0.5) / 3, (torch.arange(4) + 0.5) / 4, indexing="ij")
    points = torch.stack((x, y), dim=-1).reshape(1, 12, 2)
    assert torch.allclose(sample_points(maps, points)[0, 0], torch.arange(12.0), atol=1e-5)


def test_between_two_pixels_lies_their_mean():
    maps = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])
    assert torch.allclose(sample_points(maps, torch.tensor([[[0.5, 0.5]]])), torch.tensor(0.5))


def test_uncertain_points_crowd_where_the_mask_is_undecided():
    torch.manual_seed(0)
    slope = torch.linspace(-1, 1, 64).expand(1, 64, 64)
    points = uncertain_points(slope, 400, lambda n: torch.rand(1, n, 2))
    assert points.shape == (1, 400, 2)
    near = ((points[0, :, 0] - 0.5).abs() < 0.13).float().mean()
    assert near > 0.7, "three quarters of the points belong to the border at x = 0.5"
    assert ((points[0, :, 0] - 0.5).abs() > 0.25).sum() > 20, "a quarter is uniformly random"
