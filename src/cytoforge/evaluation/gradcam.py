"""Where in an image a classifier found its answer."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn

from cytoforge.core.record import Record
from cytoforge.networks.image_classifier import ImageClassifier

SAME = 0.7
"""Likeness from which maps count as the same: half of the variance of their ranks is shared."""


def grad_cam(network: ImageClassifier, images: Tensor, classes: Tensor) -> Tensor:
    """Heat maps: which places of the last feature maps raise the score of a class.

        L = ReLU(sum over channels k of a_k A_k),   a_k = mean over places of d score / d A_k

    Of a transformer A are its tokens, each at its place: the last ones, or, where the head reads the class
    token alone, those that the last block's attention reads.

    Args:
        network: classifier; used as it is in evaluation mode.
        images: (N, 3, R, R) in [-1, 1].
        classes: (N,) the class to explain, of each image.

    Returns:
        (N, h, w) of the size of the last feature maps, not negative. 0 everywhere where no place speaks for
        the class.

    Raises:
        ConfigError: the network's features are no grid of places.

    Reference:
        Selvaraju et al., Grad-CAM: visual explanations from deep networks via gradient-based localization,
        ICCV 2017, equations 1 and 2. https://arxiv.org/abs/1610.02391
    """
    return _weighted(network, images, classes).clamp(min=0)


def _weighted(network: ImageClassifier, images: Tensor, classes: Tensor) -> Tensor:
    """The sum in `grad_cam`, before the ReLU."""
    training = network.training
    network.eval()
    try:
        with torch.enable_grad():
            activations, logits = network.explained(images)
            scores = logits.gather(1, classes[:, None]).sum()
            (slopes,) = torch.autograd.grad(scores, activations)
        weights = network.grid(slopes).mean((2, 3), keepdim=True)
        return (weights * network.grid(activations.detach())).sum(1)
    finally:
        network.train(training)


def enlarged(heat: Tensor, resolution: int) -> NDArray[np.float64]:
    """Heat maps (N, h, w) at the size of the images, each from 0 to 1: (N, R, R)."""
    size = (resolution, resolution)
    large = nn.functional.interpolate(heat[:, None].float(), size, mode="bilinear", align_corners=False)[:, 0]
    return (large / large.amax((1, 2), keepdim=True).clamp(min=1e-12)).double().numpy()


def overlay(images: NDArray[np.uint8], heat: NDArray[np.float64], strength: float = 0.5) -> NDArray[np.uint8]:
    """Images with heat laid over them, blue over green and yellow to red; what is cold stays as it is.

    Args:
        images: (N, R, R, 3).
        heat: (N, R, R) in 0..1.
        strength: opacity of the hottest place.

    Returns:
        (N, R, R, 3).
    """
    levels = 4 * heat[..., None]
    colour = 255 * np.clip(1.5 - np.abs(levels - np.array([3.0, 2.0, 1.0])), 0, 1)
    opacity = strength * heat[..., None]
    mixed: NDArray[np.uint8] = np.rint((1 - opacity) * images + opacity * colour).astype(np.uint8)
    return mixed


def randomised(network: ImageClassifier, layers: int, seed: int = 0) -> ImageClassifier:
    """A copy whose last layers have forgotten what they learned.

    Args:
        network: trained classifier; stays as it is.
        layers: how many layers with weights to draw anew, counted from the output.
        seed: of the draws.

    Returns:
        A copy. Each weight tensor is drawn from a normal distribution of the same mean and deviation, so that
        activations keep their size.
    """
    forgetful = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(seed)
    weighted = [module for module in forgetful.modules() if list(module.parameters(recurse=False))]
    with torch.no_grad():
        for module in weighted[::-1][:layers]:
            for weights in module.parameters(recurse=False):
                spread = weights.std() if weights.numel() > 1 else weights.abs().sum()
                drawn = torch.randn(weights.shape, generator=generator)
                weights.copy_(drawn * spread + weights.mean())
    return forgetful


class Likeness(Record):
    """How alike heat maps are to those of a network that forgot.

    Attributes:
        mean: absolute rank correlation, 1 for the same map; None where every map was left out.
        left_out: share of the comparisons in which a map is the same everywhere, which has no ranks.
    """

    mean: float | None
    left_out: float


def randomisation_test(
    network: ImageClassifier,
    images: Tensor,
    classes: Tensor,
    layers: Sequence[int] = (1, 5, 10_000),
    seeds: Sequence[int] = range(5),
) -> dict[int, Likeness]:
    """How much heat maps still resemble the true ones when the last layers are drawn anew.

    A map that stays the same shows edges of the image and not what the network learned. Maps are compared
    before the ReLU and without regard to sign: new weights that merely turn a map into its negative have not
    changed what it shows.

    Args:
        network: trained classifier.
        images: (N, 3, R, R) in [-1, 1].
        classes: (N,) as for `grad_cam`.
        layers: numbers of layers to draw anew; more than there are means all.
        seeds: of the draws, each of all these layers.

    Returns:
        Number of layers -> likeness, mean over images and draws.

    Reference:
        Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018, section 3.
        https://arxiv.org/abs/1810.03292
    """
    true = _weighted(network, images, classes).flatten(1).numpy()
    found = {}
    for count in layers:
        others = [
            _weighted(randomised(network, count, seed), images, classes).flatten(1).numpy() for seed in seeds
        ]
        found[count] = _likeness([pair for other in others for pair in zip(true, other, strict=True)])
    return found


def follows_weights(found: Mapping[int, Likeness]) -> bool | None:
    """Whether the maps of `randomisation_test` change once most layers are drawn anew.

    None where that cannot be told: more than half of the comparisons were left out.

    Example:
        >>> follows_weights({1: Likeness(mean=0.9, left_out=0), 100: Likeness(mean=0.3, left_out=0)})
        True
        >>> follows_weights({100: Likeness(mean=None, left_out=1)}) is None
        True
    """
    last = found[max(found)]
    return None if last.mean is None or last.left_out > 0.5 else last.mean < SAME


def _likeness(pairs: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> Likeness:
    alike = [abs(float(stats.spearmanr(*pair).statistic)) for pair in pairs if np.ptp(pair, axis=1).all()]
    return Likeness(mean=float(np.mean(alike)) if alike else None, left_out=1 - len(alike) / len(pairs))
