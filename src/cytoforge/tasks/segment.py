"""Images become masks: where is the cell, where its nucleus?"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.optim import Adam, Optimizer

from cytoforge.core.batch import Batch, DataShape
from cytoforge.core.errors import ConfigError
from cytoforge.core.method import Method, MethodConfig, Turn
from cytoforge.data.augment import Policy, augment
from cytoforge.losses.overlap import soft_dice
from cytoforge.networks.unet_segment import SegmentingUNet


class SegmenterConfig(MethodConfig):
    """Settings of the segmenter."""

    width: int = Field(16, ge=2, description="channels at full resolution")
    levels: int = Field(4, ge=1, le=6, description="halvings")
    learning_rate: float = Field(2e-3, gt=0, description="Adam's learning rate")
    augment: Policy = Field("stain,noise", description="changes of colour while training")


class Segmenter(Method):
    """A small U-Net learns masks from real pairs by cross-entropy and Dice.

    It is trained by the loop like a generative method; what it is for is `segment`.
    """

    name = "segmenter"
    config_type = SegmenterConfig
    averaged = ("segmenter",)
    needs_masks = True

    def __init__(self, config: MethodConfig, shape: DataShape) -> None:
        assert isinstance(config, SegmenterConfig)
        if shape.resolution % 2**config.levels:
            raise ConfigError(
                f"a segmenter with {config.levels} halvings needs a resolution that is a multiple of "
                f"{2**config.levels}, not {shape.resolution}: the generator must be trained at one."
            )
        self.config = config
        self.networks = {"segmenter": SegmentingUNet(1 + shape.mask_channels, config.width, config.levels)}

    def turns(self) -> tuple[Turn, ...]:
        """One network, one turn."""
        return (Turn("segmenter", self.losses),)

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam."""
        return {
            "segmenter": Adam(self.networks["segmenter"].parameters(), self.config.learning_rate, fused=True)
        }

    def noise(self, seeds: NDArray[Any] | Tensor) -> Tensor:
        """Zeros (N, 1): nothing is drawn."""
        return torch.zeros(len(seeds), 1)

    def sample(self, noise: Tensor, labels: Tensor, condition: Tensor | None = None) -> Tensor:
        """Masks found in images `condition` (N, 3, R, R), as grey pictures (N, 3, R, R): -1, 0 and 1.

        Raises:
            ConfigError: no images are given.
        """
        if condition is None:
            raise ConfigError("a segmenter draws nothing by itself; give it images.")
        return self.segment(condition).float().sub(1)[:, None].expand(-1, 3, -1, -1)

    def segment(self, images: Tensor) -> Tensor:
        """Images (N, 3, R, R) in [-1, 1] become masks (N, R, R): 0 background, 1 cytoplasm, 2 nucleus."""
        logits: Tensor = self.networks["segmenter"](images)
        return logits.argmax(dim=1)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy and Dice against the batch's masks."""
        if batch.masks is None:
            raise ConfigError("a segmenter learns from cells with masks; make some with: cytoforge mask")
        images = batch.images
        if self.config.augment:
            images = augment(images, self.config.augment, batch.seeds, "colours").clamp(-1, 1)
        logits: Tensor = self.networks["segmenter"](images)
        targets = torch.cat([1 - batch.masks.amax(dim=1, keepdim=True), batch.masks], dim=1)
        return {
            "cross_entropy": F.cross_entropy(logits, targets),
            "dice": soft_dice(logits.softmax(dim=1)[:, 1:], batch.masks),
        }
