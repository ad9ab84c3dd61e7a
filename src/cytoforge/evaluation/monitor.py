"""A few numbers about a generator while it trains, cheap enough for every few minutes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cytoforge.core.errors import DataError
from cytoforge.evaluation.diversity import class_distances, diversity
from cytoforge.evaluation.features import Extractor, extract
from cytoforge.evaluation.fidelity import kernel_distance


class Monitor:
    """Generated images against real ones whose features are computed once.

    Attributes:
        extractor: what computes the features; the numbers are its numbers.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64],
        extractor: Extractor,
        opponent: str | None = None,
    ) -> None:
        """Look at the real images.

        Args:
            images: (N, R, R, 3) uint8 real images, best such that training does not use.
            labels: (N,).
            extractor: what computes the features.
            opponent: network whose features training uses.

        Raises:
            DataError: no class has two images.
        """
        self.extractor = extractor
        self._distance = "kid" if extractor.network != opponent else "kid_by_opponent"
        self._real = extract(images, extractor)
        self._spread = class_distances(self._real, labels)
        if not self._spread:
            raise DataError("a curve needs two or more real images of some class; hold more images back.")

    def __call__(self, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> dict[str, float]:
        """Numbers for the curve.

        Args:
            images: (M, R, R, 3) uint8 generated images.
            labels: (M,) the classes that were asked for.

        Returns:
            "kid", the kernel distance to the real images (0 is best), and "diversity", the mean over
            classes of how different two images of a class are, as a share of what real ones are (1 is
            right, 0 is collapse). The distance is called "kid_by_opponent", and chooses no checkpoint, where
            training uses the very features: it falls whether images get better or not.
        """
        fake = extract(images, self.extractor)
        share = diversity(class_distances(fake, labels), self._spread)
        known = {} if share is None else {"diversity": share}
        return {self._distance: kernel_distance(self._real, fake), **known}
