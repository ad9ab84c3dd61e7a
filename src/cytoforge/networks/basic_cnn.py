"""The basic convolutional classifier of source 001."""

from __future__ import annotations

from torch import Tensor, nn

from cytoforge.networks.image_classifier import ImageClassifier


class BasicCNN(ImageClassifier):
    """Three convolutions of 16, 32 and 64 channels, each with max pooling, and a dense layer of 64.

    286,117 parameters at 64 px with five classes. The source says 392,741, which its own list of layers
    cannot give: convolutions without padding give 171,429.

    Args:
        classes: number of outputs.
        resolution: side of the images, in pixels, a multiple of 8.
        dropout: share of values dropped before and after the dense layer; the source gives none.
    """

    def __init__(self, classes: int, resolution: int = 64, dropout: float = 0.25) -> None:
        super().__init__()
        self.width = 64
        blocks: list[nn.Module] = []
        for before, after in ((3, 16), (16, 32), (32, 64)):
            blocks += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        self.body = nn.Sequential(*blocks)
        self.dense = nn.Sequential(
            nn.Dropout(dropout),
            nn.Flatten(),
            nn.Linear(64 * (resolution // 8) ** 2, self.width),
            nn.ReLU(),
            nn.Dropout(dropout),
        )
        self.head = nn.Linear(self.width, classes)

    def maps(self, images: Tensor) -> Tensor:
        """Feature maps (N, 64, R / 8, R / 8) of images (N, 3, R, R) in [-1, 1]."""
        maps: Tensor = self.body(images)
        return maps

    def pooled(self, maps: Tensor) -> Tensor:
        """The dense layer's output (N, 64)."""
        features: Tensor = self.dense(maps)
        return features
