import numpy as np
import pytest
import torch

from cytoforge.core.batch import Batch, DataShape
from cytoforge.core.errors import ConfigError
from cytoforge.losses.adversarial import FAMILIES
from cytoforge.methods.adversarial import soft_loss
from cytoforge.methods.syncgan import SynCGAN, SynCGANConfig, _pictures
from cytoforge.networks.mask_gan import PerClass, WithPlanes

SHAPE = DataShape(32, ("a", "b"), 2)
SMALL = {
    "width": 4,
    "most_width": 16,
    "norm": "group",
    "discriminator_width": 4,
    "discriminator_norm": "group",
    "dropout": 0.0,
    "mask_width": 4,
    "mask_most_width": 16,
    "mask_discriminator_width": 4,
    "mask_norm": "group",
    "latent": 8,
}
KINDS = [(gan, network) for gan in ("per-class", "conditional") for network in ("unet", "convolutional")]


def make(**settings):
    torch.manual_seed(0)
    return SynCGAN(SynCGANConfig(**{**SMALL, **settings}), SHAPE)


def batch(count=8, labels=None):
    """Class 0 has a nucleus of a quarter of the side, class 1 of half."""
    labels = torch.arange(count) % 2 if labels is None else labels
    masks = torch.zeros(count, 2, 32, 32)
    masks[:, 0, 2:30, 2:30] = 1
    for row, label in enumerate(labels.tolist()):
        size = 4 + 4 * label
        part = slice(16 - size, 16 + size)
        masks[row, 0, part, part], masks[row, 1, part, part] = 0, 1
    images = (masks[:, 1:] - masks[:, :1]).expand(-1, 3, -1, -1) * 0.5
    return Batch(images.contiguous(), labels, torch.arange(count), masks)


def test_defaults_are_the_sources():
    config = SynCGANConfig()
    assert (config.reconstruction, config.reconstruction_weight) == ("mse", 100)
    assert (config.upsampling, config.mask_gan, config.noise_channels) == ("bilinear", "per-class", 0)
    assert config.label_smoothing == 0.1
    assert not any(
        isinstance(layer, torch.nn.ConvTranspose2d)
        for network in make().networks.values()
        for layer in network.modules()
    )


def test_painter_of_preset_source_sees_the_mask_alone():
    networks = make(**SynCGAN.presets["source"]).networks
    assert networks["generator"].down[0][0].in_channels == 2
    assert networks["discriminator"].body[0].in_channels == 3 + 2


@pytest.mark.parametrize(("gan", "network"), KINDS)
def test_every_mask_gan_gives_finite_gradients_and_masks(gan, network):
    method = make(mask_gan=gan, mask_network=network, mask_r1=1.0, mask_augment="translation")
    for turn in method.turns():
        for name, module in method.networks.items():
            module.requires_grad_(name == turn.network)
        sum(turn.losses(batch()).values()).backward()
        for key, parameter in method.networks[turn.network].named_parameters():
            assert parameter.grad is not None, key
            assert parameter.grad.isfinite().all(), key
    noise, labels = method.noise(np.arange(4)), torch.tensor([0, 1, 0, 1])
    masks = method.masks(noise, labels)
    assert masks.shape == (4, 2, 32, 32)
    assert set(masks.unique().tolist()) <= {0.0, 1.0}
    assert masks.sum(1).max() <= 1, "a pixel is one part only"
    with torch.no_grad():
        assert torch.equal(method.sample(noise, labels), method.sample(noise, labels, masks))


def test_r1_is_refused_with_batch_norm():
    with pytest.raises(ConfigError, match="choose mask_norm from instance, group, none, spectral"):
        make(mask_r1=1.0, mask_norm="batch")
    with pytest.raises(ConfigError, match="choose discriminator_norm from"):
        make(r1=1.0, discriminator_norm="batch")
    decoders = make(mask_r1=1.0, mask_norm="batch", mask_network="convolutional")
    assert decoders.mask_discriminator_losses(batch())["mask_r1"] > 0, "these networks have no norm"
    for norm in ("instance", "group", "none", "spectral"):
        assert make(mask_r1=1.0, mask_norm=norm).mask_discriminator_losses(batch())["mask_r1"].isfinite()


def test_mask_gan_learns_the_size_of_the_nucleus():
    """Two classes, one mask each: after some steps the larger nucleus belongs to class 1."""
    method = make(mask_gan="conditional", mask_network="convolutional", mask_width=8, mask_betas=(0.0, 0.9),
                  mask_discriminator_width=8, mask_learning_rate=2e-3, label_flips=0.0)  # fmt: skip
    optimizers = method.optimizers()
    discriminator, generator = method.turns()[:2]
    for step in range(120):
        cells = batch(8)
        cells = Batch(cells.images, cells.labels, torch.arange(8) + 8 * step, cells.masks)
        for turn in (discriminator, generator):
            for name, module in method.networks.items():
                module.requires_grad_(name == turn.network)
            optimizers[turn.network].zero_grad()
            sum(turn.losses(cells).values()).backward()
            optimizers[turn.network].step()
    with torch.no_grad():
        masks = method.masks(method.noise(np.arange(16)), torch.arange(16) % 2)
    areas = masks[:, 1].sum((1, 2))
    assert areas[1::2].mean() > 1.5 * areas[::2].mean() > 0


def test_pictures_of_masks_by_hand():
    masks = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]).reshape(1, 2, 1, 3)
    cells = Batch(torch.zeros(1, 3, 1, 3), torch.zeros(1), torch.zeros(1), masks)
    assert _pictures(cells)[0, :, 0].tolist() == [[1, -1, -1], [-1, 1, -1], [-1, -1, 1]]
    with pytest.raises(ConfigError, match="cytoforge mask"):
        _pictures(Batch(torch.zeros(1, 3, 1, 3), torch.zeros(1), torch.zeros(1)))


def test_soft_and_exchanged_labels_bound_the_discriminator():
    """At huge scores the loss with hard labels is 0; with soft ones being sure costs."""

    def cost(scores, cells, real=True, **soft):
        config = make(**soft).config
        return float(soft_loss(config.mask_loss, scores, cells, real, config))

    hard, scores = {"label_smoothing": 0.0, "label_flips": 0.0}, torch.full((8, 1, 2, 2), 50.0)
    assert cost(scores, batch(), **hard) < 1e-6
    assert cost(scores, batch(), label_flips=0.0) > 0.5
    flips = {**hard, "label_flips": 0.4}
    wrong = [
        [cost(sign * scores[:1], cells, real, **flips) > 1 for cells in singles(32)]
        for real, sign in ((True, 1), (False, -1))
    ]
    assert 0 < sum(wrong[0]) < 32
    assert wrong[0] == wrong[1]  # an image's real and fake label are exchanged together


HARD = {"label_smoothing": 0.0, "label_flips": 0.0, "mask_weight_clip": 0.01}


@pytest.mark.parametrize("loss", FAMILIES)
def test_the_mask_gan_takes_every_family(loss):
    """Its discriminator learns to tell masks apart, and clips its weights; the painter's stays as it is."""
    method = make(mask_loss=loss, **HARD, mask_gan="conditional", mask_learning_rate=1e-3)
    optimizers, turns = method.optimizers(), {turn.network: turn for turn in method.turns()}
    told = []
    for _ in range(6):
        optimizers["mask_discriminator"].zero_grad()
        told.append(turns["mask_discriminator"].losses(batch())["mask_discriminator"])
        told[-1].backward()
        optimizers["mask_discriminator"].step()
    assert told[-1] < told[1], "the first step clips"
    largest = {
        name: max(float(parameter.detach().abs().max()) for parameter in method.networks[name].parameters())
        for name in ("mask_discriminator", "discriminator")
    }
    assert largest["mask_discriminator"] <= 0.01 + 1e-6 < largest["discriminator"]
    loss = turns["mask_generator"].losses(batch())["mask_generator"]
    loss.backward()
    gradients = [parameter.grad for parameter in method.networks["mask_generator"].parameters()]
    assert all(gradient.isfinite().all() for gradient in gradients if gradient is not None)
    assert any(gradient.abs().max() > 0 for gradient in gradients if gradient is not None)


def test_families_of_the_mask_gan_have_their_conditions():
    with pytest.raises(ConfigError, match=r"mask_loss=wasserstein needs a bound.*mask_weight_clip=0\.01"):
        make(mask_loss="wasserstein", label_smoothing=0.0, label_flips=0.0)
    with pytest.raises(ConfigError, match="need a loss with labels, not hinge"):
        make(mask_loss="hinge")


def singles(count):
    """Batches of one image, each with a seed of its own."""
    one = batch(1)
    return [Batch(one.images, one.labels, torch.tensor([seed]), one.masks) for seed in range(count)]


class Dense(torch.nn.Linear):
    def __init__(self):
        super().__init__(256, 256)

    def forward(self, pictures, labels):
        return super().forward(pictures)


class TestPerClass:
    @staticmethod
    def build():
        return WithPlanes(torch.nn.Conv2d(2, 1, 1), 1)

    def test_each_picture_goes_to_the_network_of_its_class(self):
        torch.manual_seed(0)
        network, pictures = PerClass(self.build, 3), torch.randn(5, 1, 4, 4)
        labels = torch.tensor([2, 0, 1, 0, 2])
        output = network(pictures, labels)
        for row, label in enumerate(labels.tolist()):
            alone = network.networks[label](pictures[row : row + 1], torch.zeros(1, dtype=torch.long))
            torch.testing.assert_close(output[row : row + 1], alone)

    def test_in_evaluation_the_bits_of_a_picture_do_not_depend_on_the_classes_of_others(self):
        torch.manual_seed(0)

        network, pictures = PerClass(Dense, 3).eval(), torch.randn(8, 256)
        own = network(pictures, torch.ones(8, dtype=torch.long))
        mixed = network(pictures, torch.tensor([1, 0, 2, 1, 2, 0, 0, 2]))
        assert torch.equal(own[[0, 3]], mixed[[0, 3]])
        torch.testing.assert_close(mixed[1:2], network.networks[0](pictures[1:2], torch.zeros(1).long()))

    def test_a_missing_class_gets_a_gradient_of_zero(self):
        network = PerClass(self.build, 2)
        network(torch.randn(3, 1, 4, 4), torch.zeros(3, dtype=torch.long)).sum().backward()
        present, missing = (list(each.parameters()) for each in network.networks)
        assert all(parameter.grad.any() for parameter in present)
        assert all(parameter.grad is not None and not parameter.grad.any() for parameter in missing)
