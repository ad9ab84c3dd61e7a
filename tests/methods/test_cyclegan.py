import pytest
import torch

from cytoforge.core.batch import Batch, DataShape
from cytoforge.core.errors import ConfigError
from cytoforge.losses.adversarial import FAMILIES, FREE
from cytoforge.methods.cyclegan import CycleGAN, CycleGANConfig, paint

SMALL = {"channels": 4, "blocks": 1, "discriminator_channels": 4, "halvings": 2}


def stains(**settings):
    torch.manual_seed(0)
    return CycleGAN(CycleGANConfig(**{**SMALL, "source": "b", **settings}), DataShape(32, ("a", "b", "c")))


def masked(**settings):
    torch.manual_seed(0)
    return CycleGAN(CycleGANConfig(**{**SMALL, **settings}), DataShape(32, ("a", "b"), 2))


def batch(labels=(0, 1, 2, 1), seed=1):
    generator = torch.Generator().manual_seed(seed)
    count = len(labels)
    images = torch.rand(count, 3, 32, 32, generator=generator) * 2 - 1
    masks = torch.zeros(count, 2, 32, 32)
    masks[:, 0, 4:28, 4:28] = 1
    masks[:, :, 12:20, 12:20] = torch.tensor([0.0, 1.0])[:, None, None]
    return Batch(images, torch.tensor(labels), torch.arange(count), masks)


def test_defaults_are_the_papers():
    method = CycleGAN(CycleGANConfig(source="a"), DataShape(64, ("a", "b")))
    counts = {name: sum(value.numel() for value in net.parameters()) for name, net in method.networks.items()}
    assert counts["to_target"] == counts["to_source"] == 11_378_179
    config = CycleGANConfig()
    assert (config.cycle, config.identity, config.buffer, config.learning_rate) == (10, 5, 50, 2e-4)


@pytest.mark.parametrize("make", [stains, masked])
@pytest.mark.parametrize("turn", range(4))
def test_finite_gradients_for_the_right_network_only(make, turn):
    method = make()
    move = method.turns()[turn]
    for name, network in method.networks.items():
        network.requires_grad_(name == move.network)
    sum(move.losses(batch()).values()).backward()
    for name, network in method.networks.items():
        for key, parameter in network.named_parameters():
            assert (parameter.grad is not None) == (name == move.network), (name, key)
            assert parameter.grad is None or parameter.grad.isfinite().all()


class Plus(torch.nn.Module):
    """A translator that adds a number."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def forward(self, images):
        return images + self.number


def test_losses_by_hand():
    """G adds 0.5 and F 0.25: there and back is 0.75 away, what stays should not move by 0.5."""
    method = stains()
    method.networks = {**method.networks, "to_target": Plus(0.5), "to_source": Plus(0.25)}
    method.networks["target_discriminator"] = Plus(-1.0)
    cells = batch((0, 1, 2, 1))
    losses = method.translator_losses("target", cells)
    torch.testing.assert_close(losses["to_target_cycle"], torch.tensor(10 * 2 * 0.75))
    torch.testing.assert_close(losses["to_target_identity"], torch.tensor(5 * 0.5))
    source = cells.images[cells.labels == 1]
    torch.testing.assert_close(losses["to_target"], (source + 0.5 - 1 - 1).square().mean())
    judged = method.discriminator_losses("target", cells)["target_discriminator"]
    target = cells.images[cells.labels != 1]
    expected = (target - 1 - 1).square().mean() / 2 + (source + 0.5 - 1).square().mean() / 2
    torch.testing.assert_close(judged, expected)


def test_each_image_counts_the_same_so_shares_of_a_batch_add_up():
    method = stains(buffer=0)
    whole = batch((0, 1, 2, 2))
    for turn in method.turns():
        parts = [turn.losses(whole.part(0, 2)), turn.losses(whole.part(2, 4))]
        total = turn.losses(whole)
        for name, loss in total.items():
            torch.testing.assert_close(loss, (parts[0][name] + parts[1][name]) / 2, rtol=1e-4, atol=1e-5)


def test_a_batch_without_one_side_is_no_mistake():
    method = stains()
    for labels in ((1, 1), (0, 2)):
        for turn in method.turns():
            assert all(loss.isfinite() for loss in turn.losses(batch(labels)).values())


@pytest.mark.parametrize("loss", FREE)
def test_every_family_of_single_images_by_hand(loss):
    """Both sides weigh as the family's own loss on the whole batch, and what is missing costs nothing."""
    method = stains(loss=loss, weight_clip=0.01, buffer=0)
    method.networks = {**method.networks, "to_target": Plus(0.5), "target_discriminator": Plus(-1.0)}
    told, deceives = FAMILIES[loss]
    cells = batch((0, 1, 2, 1))
    made, own = cells.images[cells.labels == 1] + 0.5, cells.images[cells.labels != 1]
    judged = method.discriminator_losses("target", cells)["target_discriminator"]
    torch.testing.assert_close(judged, told(own - 1, made - 1))
    scale = 2 if loss == "least-squares" else 1
    losses = method.translator_losses("target", cells)
    torch.testing.assert_close(losses["to_target"], scale * deceives(made - 1, made - 1))
    for labels in ((1, 1), (0, 2)):
        for turn in method.turns():
            assert all(part.isfinite() for part in turn.losses(batch(labels)).values())


def test_weights_of_both_discriminators_are_clipped():
    method = stains(loss="wasserstein", weight_clip=0.01, learning_rate=0.1)
    optimizers = method.optimizers()
    for turn in method.turns():
        sum(turn.losses(batch()).values()).backward()
        optimizers[turn.network].step()
        largest = max(float(part.detach().abs().max()) for part in method.networks[turn.network].parameters())
        assert largest == pytest.approx(0.01) if "discriminator" in turn.network else largest > 0.05


def test_families_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="relativistic compares pairs"):
        stains(loss="relativistic")
    with pytest.raises(ConfigError, match=r"loss=wasserstein needs a bound.*weight_clip=0\.01"):
        stains(loss="wasserstein")


def test_discriminator_turn_widens_the_gap_and_translator_turn_narrows_it():
    method = stains(learning_rate=1e-3, buffer=0)
    optimizers, turns = method.optimizers(), {turn.network: turn for turn in method.turns()}

    def gap():
        cells, judge = batch(), method.networks["target_discriminator"]
        with torch.no_grad():
            real = judge(cells.images[cells.labels != 1]).mean()
            return float(real - judge(method.translate("target", cells.images[cells.labels == 1])).mean())

    def take(name):
        for key, network in method.networks.items():
            network.requires_grad_(key == name)
        optimizers[name].zero_grad()
        sum(turns[name].losses(batch()).values()).backward()
        optimizers[name].step()

    before = gap()
    for _ in range(10):
        take("target_discriminator")
    trained = gap()
    assert trained > before
    for _ in range(10):
        take("to_target")
    assert gap() < trained


def test_discriminators_see_earlier_images():
    method = stains(buffer=2)
    turn = method.turns()[2]
    first = float(turn.losses(batch((0, 1, 2, 1), seed=1))["target_discriminator"].detach())
    again = float(turn.losses(batch((0, 1, 2, 1), seed=1))["target_discriminator"].detach())
    assert first == again  # the buffer holds these very images
    assert int(method.networks["target_buffer"].filled) == 2
    other = batch((0, 1, 2, 1), seed=5)
    with_history = float(turn.losses(other)["target_discriminator"].detach())
    fresh = float(stains(buffer=0).turns()[2].losses(other)["target_discriminator"].detach())
    assert with_history != fresh


def test_sampling_translates_by_class_and_refuses_to_start_from_nothing():
    method, cells = stains(), batch()
    made = method.sample(method.noise(cells.seeds), cells.labels, cells.images)
    there, back = method.translate("target", cells.images), method.translate("source", cells.images)
    expected = torch.where((cells.labels == 1)[:, None, None, None], back, there)
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-4)
    assert method.source_labels(torch.tensor([0, 1, 2])).tolist() == [1, 0, 1]
    with pytest.raises(ConfigError, match="cytoforge translate"):
        method.sample(method.noise(cells.seeds), cells.labels)


def test_masks_are_painted_dark_where_cells_are():
    method, cells = masked(), batch((0, 1))
    painted = paint(cells.masks)
    assert painted.shape == (2, 3, 32, 32)
    assert painted[0, :, 0, 0].tolist() == [1, 1, 1]
    assert painted[0, :, 5, 5].tolist() == [0, 0, 0]
    assert painted[0, :, 15, 15].tolist() == [-1, -1, -1]
    assert method.sample(method.noise(cells.seeds), cells.labels, cells.masks).shape == (2, 3, 32, 32)
    assert method.uses_masks(method.config)
    assert not method.uses_masks(stains().config)
    assert method.source_labels(cells.labels) is None
    assert "to_target_identity" not in method.translator_losses("target", cells)


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match='neither "masks" nor one of'):
        stains(source="d")
    with pytest.raises(ConfigError, match="multiple of 4"):
        CycleGAN(CycleGANConfig(**SMALL), DataShape(42, ("a", "b"), 2))
