"""Images become classes: what is trained, and what of it."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Optimizer

from cytoforge.core.batch import Batch, DataShape
from cytoforge.core.errors import ConfigError
from cytoforge.core.method import Method, MethodConfig, Turn
from cytoforge.core.randomness import derive
from cytoforge.data.augment import Policy, augment
from cytoforge.networks.backbones import LITE0, Backbone, Head
from cytoforge.networks.basic_cnn import BasicCNN
from cytoforge.networks.image_classifier import ImageClassifier
from cytoforge.tasks.rates import Rate, ScheduledAdamW, constant, cosine, delayed, one_cycle

BASIC_CNN = "basic-cnn"
SCHEDULES: dict[str, Rate] = {"one-cycle": one_cycle, "cosine": cosine, "constant": constant}

_RIGHT, _WRONG = (-0.6, 0.4, -0.2), (0.6, -0.6, -0.4)


class ClassifierConfig(MethodConfig):
    """Settings of a classifier."""

    architecture: str = Field(LITE0, description="basic-cnn or any name of timm")
    weights: str = Field("imagenet", description="imagenet, none, or the path of a .safetensors file")
    mode: Literal["linear", "staged", "full", "scratch"] = Field(
        "full",
        description="what is trained: linear, the head on frozen features; staged, the head, then all; "
        "full, all; scratch, all from random weights",
    )
    head: Head = Field("native", description="native, flatten (dense layer of 1,024) or standardised")
    steps: int = Field(1000, ge=1, description="optimiser steps")
    learning_rate: float = Field(1e-3, gt=0, description="highest rate of the head")
    body_rate: float = Field(1.0, ge=0, description="rate of the body as a share of the head's")
    schedule: Literal["one-cycle", "cosine", "constant"] = Field(
        "one-cycle", description="course of the rate"
    )
    hold: float = Field(0.2, ge=0, lt=1, description="staged: share of the steps before the body moves")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of each label spread over all classes")
    mixup: float = Field(0.0, ge=0, description="both parameters of mixup's beta distribution; 0 for none")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of features dropped")
    augment: Policy = Field("stain,color,noise", description="changes of colour and place while training")
    strength: float = Field(1.0, ge=0, le=1, description="of these changes")
    frozen_norm: bool = Field(False, description="batch norm keeps its statistics")
    frozen_stages: int = Field(
        0, ge=0, description="stem and first stages that keep their weights and statistics; saves time"
    )


class Classifier(Method):
    """An image classifier under cross-entropy; what is trained of it is its `mode`.

    The loop draws no new images with it: sample grids show training cells with a green edge where their class
    is found and a red one where it is not.
    """

    name = "classifier"
    config_type = ClassifierConfig
    averaged = ("classifier",)

    def __init__(self, config: MethodConfig, shape: DataShape) -> None:
        assert isinstance(config, ClassifierConfig)
        self.config = config
        self.classes = len(shape.classes)
        self.networks = {"classifier": build_network(config, shape)}

    @property
    def network(self) -> ImageClassifier:
        """The network, unwrapped."""
        network = self.networks["classifier"]
        assert isinstance(network, ImageClassifier)
        return network

    def turns(self) -> tuple[Turn, ...]:
        """One network, one turn."""
        return (Turn("classifier", self.losses),)

    def optimizers(self) -> dict[str, Optimizer]:
        """AdamW; the body follows at its own rate, later or never."""
        config, network = self.config, self.network
        rate = SCHEDULES[config.schedule]
        head = list(network.head.parameters())
        own = {id(parameter) for parameter in head}
        body = [parameter for parameter in network.parameters() if id(parameter) not in own]
        groups = [(head, config.learning_rate, rate)]
        if config.mode != "linear":
            begins = config.hold if config.mode == "staged" else 0.0
            groups.append((body, config.learning_rate * config.body_rate, delayed(rate, begins)))
        return {"classifier": ScheduledAdamW(groups, config.steps, config.weight_decay)}

    def noise(self, seeds: NDArray[Any] | Tensor) -> Tensor:
        """Zeros (N, 1): nothing is drawn."""
        return torch.zeros(len(seeds), 1)

    def condition(self, cells: Batch) -> Tensor:
        """Their images, which `sample` judges."""
        return cells.images

    def sample(self, noise: Tensor, labels: Tensor, condition: Tensor | None = None) -> Tensor:
        """Images `condition` (N, 3, R, R) with a green edge where their class is found, else a red one.

        Raises:
            ConfigError: no images are given.
        """
        if condition is None:
            raise ConfigError("a classifier draws nothing by itself; give it images.")
        right = self.networks["classifier"](condition).argmax(1) == labels
        colours = torch.where(right[:, None], condition.new_tensor(_RIGHT), condition.new_tensor(_WRONG))
        edge = max(1, condition.shape[-1] // 24)
        drawn = colours[:, :, None, None].expand_as(condition).clone()
        inner = slice(edge, -edge)
        drawn[:, :, inner, inner] = condition[:, :, inner, inner]
        return drawn

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy of the batch, changed in colour and mixed as the settings say."""
        config = self.config
        images = batch.images
        if config.augment and config.strength:
            images = augment(images, config.augment, batch.seeds, "colours", strength=config.strength)
            images = images.clamp(-1, 1)
        targets = F.one_hot(batch.labels, self.classes).float()
        if config.mixup:
            images, targets = mix(images, targets, config.mixup, int(batch.seeds[0]))
        logits = self.networks["classifier"](images)
        loss = F.cross_entropy(logits.float(), targets, label_smoothing=config.label_smoothing)
        return {"cross_entropy": loss}


class LinearHead(Method):
    """The head of a classifier under cross-entropy, on features that were computed before.

    A batch holds features (N, D, 1, 1) in place of images.

    Args:
        config: of the classifier.
        shape: gives the classes.
        head: the layer that is trained, (N, D) -> (N, K).
    """

    name = "linear-head"
    config_type = ClassifierConfig
    averaged = ("head",)

    def __init__(self, config: MethodConfig, shape: DataShape, head: nn.Module) -> None:
        assert isinstance(config, ClassifierConfig)
        self.config = config
        self.networks = {"head": head}

    def turns(self) -> tuple[Turn, ...]:
        """One network, one turn."""
        return (Turn("head", self.losses),)

    def optimizers(self) -> dict[str, Optimizer]:
        """AdamW."""
        config = self.config
        groups = [(self.networks["head"].parameters(), config.learning_rate, SCHEDULES[config.schedule])]
        return {"head": ScheduledAdamW(groups, config.steps, config.weight_decay)}

    def noise(self, seeds: NDArray[Any] | Tensor) -> Tensor:
        """Zeros (N, 1): nothing is drawn."""
        return torch.zeros(len(seeds), 1)

    def sample(self, noise: Tensor, labels: Tensor, condition: Tensor | None = None) -> Tensor:
        """Nothing that could be seen.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("a linear head on features draws nothing.")

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy of the batch's features."""
        logits = self.networks["head"](batch.images.flatten(1))
        loss = F.cross_entropy(logits.float(), batch.labels, label_smoothing=self.config.label_smoothing)
        return {"cross_entropy": loss}


def build_network(config: ClassifierConfig, shape: DataShape) -> ImageClassifier:
    """The network that the settings describe, with its starting weights.

    Raises:
        ConfigError: the architecture, its weights or the resolution do not fit.
    """
    classes = len(shape.classes)
    if config.architecture == BASIC_CNN:
        if shape.resolution % 8:
            raise ConfigError(
                f"basic-cnn needs a resolution that is a multiple of 8, not {shape.resolution}."
            )
        return BasicCNN(classes, shape.resolution, config.dropout)
    weights = "none" if config.mode == "scratch" else config.weights
    return Backbone(
        config.architecture,
        classes,
        shape.resolution,
        weights,
        config.head,
        config.dropout,
        config.frozen_norm,
        config.frozen_stages,
    )


def mix(images: Tensor, targets: Tensor, strength: float, seed: int) -> tuple[Tensor, Tensor]:
    """Each image and its target mixed with another's: l x + (1 - l) x', l from a beta distribution.

    Args:
        images: (N, 3, H, W).
        targets: (N, K).
        strength: both parameters of the distribution; 1 is uniform.
        seed: of partner and share.

    Returns:
        (N, 3, H, W) and (N, K).

    Reference:
        Zhang et al., mixup, 2018, equation 1. https://arxiv.org/abs/1710.09412
    """
    rng = np.random.default_rng(derive(seed, "mixup"))
    share = float(rng.beta(strength, strength))
    partner = torch.from_numpy(rng.permutation(len(images))).to(images.device)
    return share * images + (1 - share) * images[partner], share * targets + (1 - share) * targets[partner]
