"""Bounds and soft labels of the painters of pix2pix and syncgan; the rest is in the tests of the two."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric

from cytoforge.core.batch import Batch, DataShape
from cytoforge.core.errors import ConfigError
from cytoforge.core.randomness import normal, uniform
from cytoforge.core.run import Run
from cytoforge.methods.pix2pix import Pix2Pix
from cytoforge.methods.syncgan import SynCGAN
from cytoforge.training.loop import Loop, LoopConfig

SHAPE = DataShape(32, ("a", "b"), 2)
SMALL = {
    **{"width": 4, "most_width": 16, "norm": "group", "dropout": 0.0, "crop": False, "noise_channels": 1},
    **{"discriminator_width": 4, "discriminator_norm": "group"},
}
NARROW_MASKS = {"mask_width": 4, "mask_most_width": 16, "mask_discriminator_width": 4, "mask_norm": "group"}
PAINTERS = {Pix2Pix: SMALL, SynCGAN: {**SMALL, **NARROW_MASKS}}
CLIPPED = {"loss": "wasserstein", "weight_clip": 0.01}


def make(kind=Pix2Pix, **settings):
    torch.manual_seed(0)
    return kind(kind.config_type(**{**PAINTERS[kind], **settings}), SHAPE)


def batch(count=8):
    images = torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    masks = torch.zeros(count, 2, 32, 32)
    masks[:, 0, 4:28, 4:28] = 1
    masks[:, :, 12:20, 12:20] = torch.tensor([0.0, 1.0])[:, None, None]
    return Batch(images, torch.arange(count) % 2, torch.arange(count), masks)


class Red(torch.nn.Module):
    """A discriminator whose score of a patch is the red of its pixel."""

    def forward(self, pairs):
        return pairs[:, :1]


class Cells:
    """Noise on one mask, which is enough to compare two trainings."""

    shape = SHAPE
    labels = np.arange(16) % 2

    def batch(self, indices, seeds):
        cells = batch(16)
        return Batch(
            cells.images[indices], cells.labels[indices], torch.from_numpy(seeds), cells.masks[indices]
        )


def reds(method, cells):
    """Red of real and of painted cells, each (N, 1, 32, 32)."""
    noise = normal(cells.seeds, (1, 32, 32), "discriminator")
    with torch.no_grad():
        return cells.images[:, :1], method.sample(noise, cells.labels, cells.masks)[:, :1]


def test_all_patches_of_an_image_share_its_soft_label():
    """Cross-entropy to a label t is softplus(score) - t * score."""
    method, cells = make(label_smoothing=0.2, label_flips=0.4), batch()
    method.networks["discriminator"] = Red()
    flipped = uniform(cells.seeds, (), "flips") < 0.4
    assert 0 < flipped.sum() < 8
    expected = 0
    for start, sign, what, scores in zip((1, 0), (-1, 1), ("real", "fake"), reds(method, cells), strict=True):
        labels = start + sign * 0.2 * uniform(cells.seeds, (), f"smoothing of {what}")
        labels = torch.where(flipped, 1 - labels, labels)[:, None, None, None]
        expected += (F.softplus(scores) - labels * scores).mean()
    torch.testing.assert_close(method.discriminator_losses(cells)["discriminator"], expected)


def test_least_squares_take_exchanged_labels():
    method, cells = make(loss="least-squares", label_flips=0.4), batch()
    method.networks["discriminator"] = Red()
    target = (uniform(cells.seeds, (), "flips") >= 0.4).float()[:, None, None, None]
    real, fake = reds(method, cells)
    expected = ((real - target).square().mean() + (fake - 1 + target).square().mean()) / 2
    torch.testing.assert_close(method.discriminator_losses(cells)["discriminator"], expected)


@pytest.mark.parametrize("setting", ["label_smoothing", "label_flips"])
def test_soft_labels_need_a_loss_with_labels(setting):
    with pytest.raises(ConfigError, match="not hinge; choose one of minimax, non-saturating, least-squares"):
        make(loss="hinge", **{setting: 0.1})


def test_soft_labels_of_syncgan_are_of_its_mask_gans():
    """Its painter has hard ones, also beside a loss without labels, and the mask GANs have theirs."""
    cells = batch()
    hard, soft = (make(SynCGAN, label_smoothing=amount, label_flips=0.0) for amount in (0.0, 0.3))
    assert torch.equal(
        hard.discriminator_losses(cells)["discriminator"], soft.discriminator_losses(cells)["discriminator"]
    )
    first, second = (each.mask_discriminator_losses(cells)["mask_discriminator"] for each in (hard, soft))
    assert not torch.isclose(first, second)
    assert make(SynCGAN, loss="hinge", label_flips=0.1).networks


def step(method, name):
    """One step of the loop's kind by the network of this name."""
    (turn,) = (turn for turn in method.turns() if turn.network == name)
    optimizer = method.optimizers()[name]
    for key, network in method.networks.items():
        network.requires_grad_(key == name)
    sum(turn.losses(batch()).values()).backward()
    optimizer.step()
    return max(float(weight.detach().abs().max()) for weight in method.networks[name].parameters())


@pytest.mark.parametrize("kind", PAINTERS)
def test_weights_of_the_painters_discriminator_alone_are_clipped(kind):
    method = make(kind, **CLIPPED, learning_rate=0.1)
    assert step(method, "discriminator") == pytest.approx(0.01)
    for name in method.networks.keys() - {"discriminator"}:
        assert step(method, name) > 0.05, name


@pytest.mark.parametrize(
    ("kind", "settings"),
    [(Pix2Pix, CLIPPED), (SynCGAN, CLIPPED), (Pix2Pix, {"label_smoothing": 0.1, "label_flips": 0.2})],
)
def test_bounded_and_softened_painters_resume_bit_for_bit(kind, settings, resumed):
    def loop(path):
        run = Run.open(path) if path.exists() else Run.create(path, {})
        config = LoopConfig(batch=8, save_every=16, measure_every=10**9, precision="32-true")
        fabric = Fabric(accelerator="cpu", devices=1)
        return Loop(make(kind, **settings), Cells(), config, run, 0, fabric)

    resumed(loop, images=32)
