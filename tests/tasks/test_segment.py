import numpy as np
import pytest
import torch

from cytoforge.core.batch import Batch, DataShape, to_float
from cytoforge.core.errors import ConfigError
from cytoforge.data.cache import mask_channels
from cytoforge.evaluation.triplets import overlaps, summary, train_segmenter
from cytoforge.losses.overlap import soft_dice
from cytoforge.tasks.segment import Segmenter, SegmenterConfig

SMALL = SegmenterConfig(width=4, levels=2, learning_rate=1e-2)


class Cells:
    """Rose discs with a blue nucleus on white, and their masks."""

    shape = DataShape(32, ("a", "b"), 2)

    def __init__(self, seed=0, count=24):
        generator = np.random.default_rng(seed)
        rows, columns = np.mgrid[:32, :32]
        middle = generator.uniform(12, 20, (2, count, 1, 1))
        distance = np.hypot(rows - middle[0], columns - middle[1])
        radius = generator.uniform(8, 11, (count, 1, 1))
        self.masks = (distance < radius).astype(np.uint8) + (distance < radius / 2)
        self.labels = np.arange(count) % 2
        colours = np.array([(240, 240, 240), (220, 150, 170), (90, 70, 150)], np.uint8)
        noise = generator.integers(0, 15, (count, 32, 32, 3), np.uint8)
        self.images = colours[self.masks] - noise

    def batch(self, indices, seeds):
        labels, masks = torch.from_numpy(self.labels[indices]), mask_channels(self.masks[indices])
        return Batch(to_float(self.images[indices]), labels, torch.from_numpy(np.asarray(seeds)), masks)


def test_a_segmenter_finds_unseen_cells_and_the_wrong_mask_is_noticed():
    segment = train_segmenter(Cells(), 480, config=SMALL)
    unseen = Cells(seed=1)
    found = segment(unseen.images)
    values = overlaps(found, unseen.masks)
    assert values["nucleus"].mean() > 0.9
    assert values["cell"].mean() > 0.9
    exchanged = overlaps(found, np.roll(unseen.masks, 1, axis=0))
    assert exchanged["nucleus"].mean() < values["nucleus"].mean() - 0.1
    again = train_segmenter(Cells(), 480, config=SMALL)
    assert (again(unseen.images) == found).all(), "one seed, one segmenter"


def test_overlaps_and_summary_by_hand():
    found = np.array([[[0, 1, 2, 2]], [[0, 0, 0, 0]]], np.uint8)
    true = np.array([[[0, 1, 1, 2]], [[0, 0, 3, 3]]], np.uint8)
    values = overlaps(found, true)
    np.testing.assert_allclose(values["nucleus"], [2 / 3, np.nan])
    np.testing.assert_allclose(values["cell"], [1, np.nan])
    mean = summary(np.array([2 / 3, 1, np.nan]))
    assert (round(mean.value, 4), mean.count) == (0.8333, 2)
    assert mean.low <= mean.value <= mean.high
    assert summary(np.array([np.nan]), ["photo"]).value is None


def test_soft_dice_of_hard_masks_is_dice():
    generator = torch.Generator().manual_seed(0)
    found, true = (torch.rand(1, 1, 8, 8, generator=generator).gt(0.5).float() for _ in range(2))
    expected = 1 - 2 * (found * true).sum() / (found.sum() + true.sum())
    torch.testing.assert_close(soft_dice(found, true, smooth=0.0), expected)
    assert float(soft_dice(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))) == 0


def test_it_is_a_method_with_one_turn():
    torch.manual_seed(0)
    method = Segmenter(SMALL, Cells.shape)
    (turn,) = method.turns()
    data = Cells().batch(np.arange(4), np.arange(4))
    sum(turn.losses(data).values()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in method.networks["segmenter"].parameters())
    pictures = method.sample(method.noise(np.arange(4)), data.labels, data.images)
    assert set(pictures.unique().tolist()) <= {-1.0, 0.0, 1.0}
    with pytest.raises(ConfigError, match="give it images"):
        method.sample(method.noise(np.arange(4)), data.labels)
    with pytest.raises(ConfigError, match="a multiple of 16"):
        Segmenter(SegmenterConfig(), DataShape(24, ("a", "b"), 2))
    with pytest.raises(ConfigError, match="cytoforge mask"):
        method.losses(Batch(data.images, data.labels, data.seeds))
