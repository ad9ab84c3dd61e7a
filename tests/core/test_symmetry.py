"""The eight symmetries by hand, and their one order for pixels and tensors."""

import numpy as np
import pytest
import torch

from cytoforge.core.symmetry import SYMMETRIES, symmetries, turn
from cytoforge.data.augment import square_views

BY_HAND = {
    "as it is": [[1, 2], [3, 4]],
    "turned 90°": [[2, 4], [1, 3]],
    "turned 180°": [[4, 3], [2, 1]],
    "turned 270°": [[3, 1], [4, 2]],
    "mirrored": [[2, 1], [4, 3]],
    "turned 90° and mirrored": [[4, 2], [3, 1]],
    "turned 180° and mirrored": [[3, 4], [1, 2]],
    "turned 270° and mirrored": [[1, 3], [2, 4]],
}


@pytest.mark.parametrize("index", range(8))
def test_each_does_what_its_name_says(index: int) -> None:
    turned = turn(np.array([[[1, 2], [3, 4]]]), index)
    assert turned.tolist() == [BY_HAND[SYMMETRIES[index]]]


def test_all_eight_of_many_images_and_channels() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    views = symmetries(images)
    assert views.shape == (2, 8, 8, 8, 3)
    for index in range(8):
        np.testing.assert_array_equal(views[:, index], turn(images, index))


def test_tensors_have_the_same_order() -> None:
    images = np.random.default_rng(1).normal(size=(2, 5, 5, 3))
    tensors = square_views(torch.from_numpy(images).permute(0, 3, 1, 2))
    for index, tensor in enumerate(tensors):
        np.testing.assert_array_equal(tensor.permute(0, 2, 3, 1).numpy(), turn(images, index))
