"""Parameter counts of ORACLES: made by public implementations."""

import pytest
import torch
from torch import nn

from cytoforge.networks.patchgan import PatchGAN, VanillaDiscriminator
from cytoforge.networks.unet_pix2pix import PaintingUNet


def trainable(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def with_statistics(network: nn.Module) -> int:
    """As Keras counts: running means and variances too."""
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    return trainable(network) + sum(2 * norm.num_features for norm in norms)


def test_parameter_counts() -> None:
    with torch.device("meta"):
        assert trainable(PaintingUNet(3)) == 54_413_955
        assert with_statistics(PaintingUNet(5, innermost_norm=True)) == 54_427_907
        assert trainable(PatchGAN(6)) == 2_768_705
        assert with_statistics(PatchGAN(7, first_bias=False)) == 2_771_457
        assert with_statistics(VanillaDiscriminator(7)) == 3_816_961


def test_shapes_of_the_source() -> None:
    with torch.device("meta"):
        assert PaintingUNet(5)(torch.zeros(2, 5, 256, 256)).shape == (2, 3, 256, 256)
        assert PatchGAN(7)(torch.zeros(2, 7, 256, 256)).shape == (2, 1, 30, 30)
        assert VanillaDiscriminator(7)(torch.zeros(2, 7, 256, 256)).shape == (2, 1)


@pytest.mark.parametrize("resolution", [32, 64, 128])
@pytest.mark.parametrize("upsampling", ["transposed", "bilinear"])
@pytest.mark.parametrize("norm", ["batch", "instance", "group", "none", "spectral"])
def test_sizes_by_option(resolution: int, upsampling: str, norm: str) -> None:
    torch.manual_seed(0)
    unet = PaintingUNet(2, 3, resolution, 4, 16, norm, True, 0.5, upsampling)  # type: ignore[arg-type]
    images = unet(torch.randn(2, 2, resolution, resolution))
    assert images.shape == (2, 3, resolution, resolution)
    assert images.abs().max() <= 1
    for discriminator in (
        PatchGAN(5, 4, norm=norm),  # type: ignore[arg-type]
        VanillaDiscriminator(5, resolution, 4, norm),  # type: ignore[arg-type]
    ):
        scores = discriminator(torch.randn(2, 5, resolution, resolution))
        scores.mean().backward()
        assert scores.isfinite().all()
        assert all(parameter.grad is not None for parameter in discriminator.parameters())


def test_a_score_of_the_patchgan_sees_70_pixels() -> None:
    torch.manual_seed(0)
    image = torch.randn(1, 1, 256, 256, requires_grad=True)
    PatchGAN(1, 4, norm="none")(image)[0, 0, 15, 15].backward()
    assert image.grad is not None
    seen = image.grad[0, 0] != 0
    assert int(seen.any(0).sum()) == 70
    assert int(seen.any(1).sum()) == 70


def test_skip_connections_carry_the_finest_detail() -> None:
    """Without them one pixel of the mask could not change one pixel of the image alone."""
    torch.manual_seed(0)
    unet = PaintingUNet(1, 3, 32, 4, 8, "none").eval()
    masks = torch.zeros(2, 1, 32, 32)
    masks[1, 0, 9, 20] = 1
    first, second = unet(masks)
    change = (first - second).abs().sum(0)
    near = change[4:15, 15:26].sum()
    assert near > 0.5 * change.sum()


@pytest.mark.parametrize("upsampling", ["transposed", "bilinear"])
def test_the_innermost_pixel_is_heard(upsampling: str) -> None:
    """Instance norm would take what the bottleneck says, equal pixels; group norm keeps it."""
    torch.manual_seed(0)
    unet = PaintingUNet(1, 3, 32, 4, 8, "group", dropout=0.0, upsampling=upsampling)  # type: ignore[arg-type]
    unet(torch.randn(2, 1, 32, 32)).sum().backward()
    innermost, others = unet.down[-1][0].weight.grad, unet.down[-2][0].weight.grad
    assert innermost.norm() > 1e-2 * others.norm()
