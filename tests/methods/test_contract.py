"""What every method must do, as one table; a method in the catalogue without a row here fails.

To add a method: one line in `CASES` with settings so small that everything below takes a second.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from cytoforge.core.batch import Batch, DataShape, to_float
from cytoforge.core.checkpoint import load_checkpoint, save_checkpoint
from cytoforge.core.randomness import image_seeds
from cytoforge.core.run import Run
from cytoforge.data.transform import Preparation
from cytoforge.methods.catalogue import METHODS, method_type, rebuild
from cytoforge.networks.convolutional import ConvolutionalCritic
from cytoforge.sampling.generator import open_generator
from cytoforge.training.loop import Loop, LoopConfig
from cytoforge.training.state import load_modules
from cytoforge.training.warm_start import frozen_parameters, warm_start


@dataclass(frozen=True)
class Opponents:
    """Two players; `loss` is the generator's loss (a name, or "" for the sum) that the other one raises."""

    discriminator: str = "discriminator"
    generator: str = "generator"
    loss: str = "generator"


@dataclass(frozen=True)
class Case:
    """How to try a method.

    Attributes:
        settings: small ones.
        method: its name, where the row's name is another.
        opponents: for each pair of players.
        by_class: another class gives another image.
        by_noise: another noise gives another image.
        idle: beginnings of names of parameters that may get no gradient.
        resolution: side of the images, in pixels.
        mixes: the batch is mixed in training (batch norm): two processes do not equal one.
        any_order: the losses are the same in another order of the classes.
        rounding: how far, in relation to their length, weights of two processes may be from those of one.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    method: str = ""
    opponents: tuple[Opponents, ...] = ()
    by_class: bool = True
    by_noise: bool = True
    idle: tuple[str, ...] = ()
    resolution: int = 32
    mixes: bool = False
    any_order: bool = True
    rounding: float = 1e-4


NARROW = {"latent": 8, "generator_channels": 4, "critic_channels": 4, "most_channels": 8}
NARROW_GAN = {"latent": 8, "generator_channels": 4, "discriminator_channels": 4, "most_channels": 8}

CASES: dict[str, Case] = {
    "auto": Case(
        {**NARROW, "features_side": 32, "sobolev": 0.0, "reconstruction": 0.01},
        opponents=(Opponents("critic", loss="pixels"), Opponents("discriminator", loss="features")),
    ),
    "wgan-gp": Case({**NARROW, "pixel_noise": True}, opponents=(Opponents("critic"),)),
    "gan": Case(NARROW_GAN, opponents=(Opponents(),)),
    "ebgan": Case({**NARROW_GAN, "code": 8, "margin": 5.0}, opponents=(Opponents(),), mixes=True),
    "infogan": Case({**NARROW_GAN, "categories": 3}, opponents=(Opponents(),)),
    "cgan-dense": Case({"latent": 8, "channels": 8, "dropout": 0.0}, opponents=(Opponents(),), resolution=16),
    "cgan": Case(
        {"latent": 8, "generator_channels": 4, "discriminator_channels": 8, "most_channels": 8},
        opponents=(Opponents(),),
    ),
    "cvae-source": Case({"latent": 8, "channels": 8}, mixes=True, resolution=16),
    "diffusion": Case(
        {"channels": 8, "blocks": 1, "patch": 4, "steps": 2, "condition": "masks", "branch": "control"}
    ),
    "cvae": Case({"latent": 8, "channels": 4, "most_channels": 8}),
    "cyclegan": Case(
        # least squares start with both sides on the way to one half; test_cyclegan tests the directions
        {"channels": 4, "blocks": 1, "discriminator_channels": 4, "halvings": 2, "buffer": 4},
        by_class=False,
        by_noise=False,
        mixes=True,  # each process has a buffer of its own
    ),
    "pix2pix": Case(
        {
            **{"width": 4, "most_width": 16, "norm": "group", "discriminator_width": 4},
            **{"discriminator_norm": "group", "dropout": 0.0, "mode_seeking": 0.1, "r1": 0.1},
        },
        opponents=(Opponents(),),
    ),
    "syncgan": Case(
        {
            **{"width": 4, "most_width": 16, "norm": "group", "discriminator_width": 4, "dropout": 0.0},
            **{"discriminator_norm": "group", "mask_width": 4, "mask_most_width": 16, "noise_channels": 1},
            **{"mask_discriminator_width": 4, "mask_norm": "group", "mask_r1": 0.1},
        },
        opponents=(Opponents(), Opponents("mask_discriminator", "mask_generator", "mask_generator")),
    ),
}

# second rows: narrow, but with the losses, norms and dropout that users get
CASES |= {
    "auto as shipped": Case(
        {**NARROW, "features_side": 32},
        "auto",
        # the critic's scores rise as a whole, of generated images too, while their difference widens
        (Opponents("discriminator", loss="features"),),
    ),
    "diffusion as shipped": Case({"channels": 8, "blocks": 1, "patch": 4, "steps": 2}, "diffusion"),
    "cgan-dense as shipped": Case({"latent": 8, "channels": 8}, "cgan-dense", (Opponents(),), resolution=16),
    "pix2pix as shipped": Case(
        {"width": 4, "most_width": 16, "discriminator_width": 4}, "pix2pix", (Opponents(),), mixes=True
    ),
    "syncgan as shipped": Case(
        {
            **{"width": 4, "most_width": 16, "discriminator_width": 4},
            **{"mask_width": 4, "mask_most_width": 16, "mask_discriminator_width": 4},
        },
        "syncgan",
        (Opponents(), Opponents("mask_discriminator", "mask_generator", "mask_generator")),
        mixes=True,
        any_order=False,  # dropout draws its numbers class by class
    ),
}

CLASSES = ("red", "blue")
LOOP = {
    "batch": 8,
    "log_every": 16,
    "measure_every": 10**9,
    "save_every": 16,
    "average_half_life": 64,
    "precision": "32-true",
}


class Discs:
    """Cells of two classes, one colour each, nucleus in cytoplasm; with masks where asked for."""

    def __init__(self, resolution: int, masked: bool) -> None:
        self.shape = DataShape(resolution, CLASSES, 2 if masked else 0)
        self.labels = np.arange(24) % 2
        generator = np.random.default_rng(0)
        radii = resolution * generator.uniform(0.2, 0.45, (24, 1, 1))
        rows, columns = np.mgrid[:resolution, :resolution] - resolution / 2 + 0.5
        distance = np.hypot(rows, columns)
        nuclei, cells = distance < radii / 2, distance < radii
        self.images = generator.integers(180, 220, (24, resolution, resolution, 3), np.uint8)
        self.images[cells] = 120
        for label, channel in ((0, 0), (1, 2)):
            part = self.images[self.labels == label]
            part[nuclei[self.labels == label], channel] = 250
            self.images[self.labels == label] = part
        self.masks = np.stack([cells & ~nuclei, nuclei], axis=1).astype(np.float32)

    def batch(self, indices, seeds) -> Batch:
        masks = torch.from_numpy(self.masks[indices]) if self.shape.mask_channels else None
        labels = torch.from_numpy(self.labels[indices])
        return Batch(to_float(self.images[indices]), labels, torch.from_numpy(np.asarray(seeds)), masks)


def method_of(name):
    """Its word in the catalogue."""
    return CASES[name].method or name


@pytest.fixture(params=CASES)
def name(request):
    return request.param


def data_for(name):
    case, kind = CASES[name], METHODS[method_of(name)]
    return Discs(case.resolution, kind.uses_masks(kind.config_type(**case.settings)))


def make(name, shaken=False, classes=CLASSES):
    """The untrained method; shaken where a layer that starts at zero would hide what it does."""
    torch.manual_seed(0)
    kind = METHODS[method_of(name)]
    shape = replace(data_for(name).shape, classes=classes)
    method = kind(kind.config_type(**CASES[name].settings), shape)
    if shaken:
        with torch.no_grad():
            for network in method.networks.values():
                for parameter in network.parameters():
                    parameter.add_(0.05 * torch.randn_like(parameter))
    return method


def batch_for(name, count=8):
    return data_for(name).batch(np.arange(count), image_seeds(0, np.arange(count)))


def losses_of(method, turn, batch):
    """A turn's losses with its network alone awake, as the loop does it."""
    torch.manual_seed(1)
    for key, network in method.networks.items():
        network.requires_grad_(key == turn.network)
    return dict(turn.losses(batch))


def value(method, turn, batch, loss=""):
    losses = losses_of(method, turn, batch)
    return float(losses[loss].detach()) if loss else float(sum(losses.values()).detach())


def take(method, turn, batch, optimizer):
    optimizer.zero_grad()
    sum(losses_of(method, turn, batch).values()).backward()
    optimizer.step()


def drawn(method, name, seeds, label, masks=None):
    """Images as sampling draws them: in evaluation mode, with masks of the method's own where it has any."""
    for network in method.networks.values():
        network.eval()
    labels = torch.full((len(seeds),), label)
    noise = method.noise(np.asarray(seeds))
    with torch.no_grad():
        condition = method.masks(noise, labels)
        return method.sample(noise, labels, masks if condition is None else condition)


def masks_for(name, start, count):
    data = data_for(name)
    indices = np.arange(start, start + count)
    return data.batch(indices, indices).masks


def test_every_method_has_a_row():
    """All but the one that starts from a pretrained model, which two files test_text_to_image.py try."""
    assert {*map(method_of, CASES), "text-to-image"} == set(METHODS)


def test_no_setting_has_the_name_of_another():
    """`--set` takes the settings of method, loop and preparation by one name each."""
    for name in METHODS:
        parts = (method_type(name).config_type, LoopConfig, Preparation)
        names = [field for part in parts for field in part.model_fields]
        assert len(names) == len(set(names)), name


def test_a_refinement_keeps_the_two_lowest_layers_of_a_convolutional_critic(name):
    method = make(name)
    critics = [
        ".".join(filter(None, (place, "body")))
        for network in method.networks.values()
        for place, module in network.named_modules()
        if isinstance(module, ConvolutionalCritic)
    ]
    lowest = {f"{body}.{layer}.{part}" for body in critics for layer in (0, 2) for part in ("weight", "bias")}
    frozen = frozen_parameters(method.networks, method.frozen_in_refinement)
    assert {key.partition("/")[2] for key in frozen} == lowest


def test_finite_gradients_for_the_right_network_only(name):
    method, batch = make(name), batch_for(name)
    assert {turn.network for turn in method.turns()} == set(method.optimizers())
    for turn in method.turns():
        for network in method.networks.values():
            network.zero_grad()
        losses = losses_of(method, turn, batch)
        assert all(loss.ndim == 0 and loss.isfinite() for loss in losses.values()), losses
        sum(losses.values()).backward()
        for key, network in method.networks.items():
            gradients = {place: parameter.grad for place, parameter in network.named_parameters()}
            if key != turn.network:
                assert all(gradient is None for gradient in gradients.values()), key
                continue
            missing = {place for place, gradient in gradients.items() if gradient is None}
            assert all(place.startswith(CASES[name].idle or ("-",)) for place in missing), missing
            found = [gradient for gradient in gradients.values() if gradient is not None]
            assert all(gradient.isfinite().all() for gradient in found)
            assert any(gradient.any() for gradient in found), turn.network


def test_shapes_range_and_one_image_a_seed(name):
    method, side = make(name, shaken=True), CASES[name].resolution
    images = drawn(method, name, [3, 4, 2**40], 1, masks_for(name, 0, 3))
    assert images.shape == (3, 3, side, side)
    assert images.dtype == torch.float32
    assert images.isfinite().all()
    assert images.abs().max() <= 1
    again = drawn(method, name, [3, 4, 2**40], 1, masks_for(name, 0, 3))
    assert torch.equal(images, again)
    company = drawn(
        method,
        name,
        [4, 9, 3],
        1,
        masks_for(name, 0, 3)[[1, 2, 0]] if masks_for(name, 0, 3) is not None else None,
    )
    torch.testing.assert_close(images[[1, 0]], company[[0, 2]], atol=1e-4, rtol=1e-4)


def test_what_generate_draws_is_the_same_alone_in_company_and_opened_again(name, tmp_path):
    """Pixels, bit for bit; three of the seeds have the same place in their micro-batches."""
    method, run = make(name, shaken=True), Run.create(tmp_path / "run", config_of(name))
    weights = {
        f"{kind}/{network}/{place}": tensor.clone()
        for network, module in method.networks.items()
        for place, tensor in module.state_dict().items()
        for kind in ("network", "average")
    }
    save_checkpoint(run.checkpoints, weights, {"seen": 16})
    given = None if method.draws_masks() else method.condition(batch_for(name, 5))
    first, again = open_generator(run), open_generator(Run.open(run.path))
    seeds, labels = [5, 3, 13, 2**40, 21], [1, 0, 1, 0, 0]
    company = first.images(labels, seeds, condition=given)
    assert (company != company[:1]).any()
    for index in (0, 2, 3, 4):
        own = None if given is None else given[[index]]
        alone = again.images(labels[index : index + 1], seeds[index : index + 1], condition=own)
        np.testing.assert_array_equal(alone[0], company[index])


def test_noise_class_and_masks_change_the_image(name):
    method, case = make(name, shaken=True), CASES[name]
    masks = masks_for(name, 0, 2)
    first = drawn(method, name, [0, 0], 0, None if masks is None else masks[[0, 0]])
    if case.by_noise:
        other = drawn(method, name, [1, 2], 0, None if masks is None else masks[[0, 0]])
        assert (first - other).abs().max() > 1e-4
        assert (other[0] - other[1]).abs().max() > 1e-4
    if case.by_class:
        other = drawn(method, name, [0, 0], 1, None if masks is None else masks[[0, 0]])
        assert (first - other).abs().max() > 1e-4
    if (
        masks is not None
        and method.masks(method.noise(np.arange(1)), torch.zeros(1, dtype=torch.long)) is None
    ):
        other = drawn(method, name, [0, 0], 0, masks[[0, 1]])
        assert (other[0] - other[1]).abs().max() > 1e-4


def test_every_turn_lowers_its_own_loss(name):
    """A few small steps on one batch with the same random numbers: down it must go."""
    for index in range(len(make(name).turns())):
        method, batch = make(name), batch_for(name)
        turn = method.turns()[index]
        optimizer = torch.optim.SGD(method.networks[turn.network].parameters(), 1e-4)
        before = value(method, turn, batch)
        for _ in range(3):
            take(method, turn, batch, optimizer)
        assert value(method, turn, batch) < before, turn.network


def test_players_pull_in_opposite_directions(name):
    """The discriminator's turn raises the generator's loss, the generator's turn lowers it."""
    for players in CASES[name].opponents:
        method, batch = make(name), batch_for(name)
        turns = {turn.network: turn for turn in method.turns()}
        discriminator, generator = turns[players.discriminator], turns[players.generator]
        optimizers = {
            key: torch.optim.Adam(method.networks[key].parameters(), 1e-3)
            for key in (players.discriminator, players.generator)
        }
        before = value(method, generator, batch, players.loss)
        for _ in range(5):
            take(method, discriminator, batch, optimizers[players.discriminator])
        widened = value(method, generator, batch, players.loss)
        assert widened > before
        for _ in range(5):
            take(method, generator, batch, optimizers[players.generator])
        assert value(method, generator, batch, players.loss) < widened


def refined(name, classes):
    """A method of `CLASSES`, and one of other classes that starts from its weights."""
    before, after = make(name, shaken=True), make(name, classes=classes)
    larger = make(name, classes=(*classes, "one more")).networks
    weights = {
        f"{key}/{place}": tensor
        for key, network in before.networks.items()
        for place, tensor in network.state_dict().items()
    }
    warm_start(after.networks, larger, weights, CLASSES, classes)
    return before, after


def test_other_classes_leave_the_images_of_known_ones_alone(name):
    classes = ("new", "blue", "red")
    before, after = refined(name, classes)
    masks = masks_for(name, 0, 2)
    for label, known in enumerate(CLASSES):
        images = drawn(before, name, [0, 1], label, masks)
        again = drawn(after, name, [0, 1], classes.index(known), masks)
        torch.testing.assert_close(again, images, atol=1e-4, rtol=1e-4)


def test_the_same_classes_in_another_order_have_the_same_losses(name):
    """Discriminators and encoders too; a new class may change these by a spectral norm over all classes."""
    if not CASES[name].any_order:
        pytest.skip("its random numbers are dealt in the order of the classes")
    before, after = refined(name, ("blue", "red"))
    batch = batch_for(name)
    swapped = replace(batch, labels=1 - batch.labels)
    for turn, other in zip(before.turns(), after.turns(), strict=True):
        losses = losses_of(before, turn, batch)
        for loss, found in losses_of(after, other, swapped).items():
            torch.testing.assert_close(found, losses[loss], atol=1e-4, rtol=1e-4)


def config_of(name):
    """What a run's folder says of it, enough for `rebuild`."""
    kind = METHODS[method_of(name)]
    return {
        "method": method_of(name),
        "settings": kind.config_type(**CASES[name].settings).model_dump(mode="json"),
        "preparation": {"resolution": CASES[name].resolution},
        "classes": list(CLASSES),
        "mask_channels": data_for(name).shape.mask_channels,
    }


def loop_for(name, path):
    """A loop over the discs, whose folder is good for `rebuild`."""
    data, method = data_for(name), make(name)
    run = Run.open(path) if path.exists() else Run.create(path, config_of(name))
    return Loop(method, data, LoopConfig(**LOOP), run, 3, Fabric(accelerator="cpu", devices=1))


def test_resumes_bit_for_bit_and_loads_again(name, resumed):
    again = resumed(partial(loop_for, name), images=32)

    rebuilt = rebuild(again.run.config)
    load_modules(load_checkpoint(again.run.checkpoints).tensors, "network", rebuilt.networks)
    trained = again.method.replaced(again.modules)
    images = [drawn(method, name, [5, 6], 1, masks_for(name, 0, 2)) for method in (trained, rebuilt)]
    torch.testing.assert_close(*images, atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="session")
def cells(tmp_path_factory):
    """Simulated cells with masks."""
    from cytoforge.stages.phantom import phantom

    folder = tmp_path_factory.mktemp("contract") / "phantom"
    phantom(folder, per_class=12, size=48)
    return folder


def words(name, cells, run, images, processes=1):
    settings = {**CASES[name].settings, "batch": 8, "precision": "32-true", "measure_every": 10**9}
    return [
        *(sys.executable, "-m", "cytoforge", "train", method_of(name), str(cells), "--run", str(run)),
        *(
            "--resolution",
            str(CASES[name].resolution),
            "--images",
            str(images),
            "--processes",
            str(processes),
        ),
        *("--preset", "default"),
        *(word for pair in settings.items() for word in ("--set", f"{pair[0]}={pair[1]}")),
    ]


def test_smoke_training_takes_less_than_30_seconds(name, cells, tmp_path):
    """A folder becomes a run and the run becomes cells, by the stages."""
    from cytoforge.stages.train import train

    start = time.process_time()
    settings = {**CASES[name].settings, "batch": 8, "precision": "32-true"}
    run = train(
        method_of(name), cells, tmp_path / "run", resolution=CASES[name].resolution, images=16,
        preset="default", settings=settings, extractor="",
    )  # fmt: skip
    assert load_checkpoint(run.checkpoints).state["seen"] == 16
    assert len(list(run.samples.glob("*.png"))) == 1
    assert time.process_time() - start < 30


@pytest.mark.slow
def test_two_gloo_processes(name, cells, tmp_path):
    """Dealt out to two processes, a training gives the weights of one; with batch norm, it gives some."""
    tensors = []
    for count in (1, 2):
        run = tmp_path / f"run{count}"
        done = subprocess.run(
            words(name, cells, run, 32, count), capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        tensors.append(load_checkpoint(run / "checkpoints").tensors)
    one, two = tensors
    assert one.keys() == two.keys()
    assert all(tensor.isfinite().all() for tensor in two.values())
    if not CASES[name].mixes:
        weights = [(one[key].double(), two[key].double()) for key in one if key.startswith("network/")]
        apart = torch.stack([(first - second).norm() for first, second in weights]).norm()
        assert apart / torch.stack([first.norm() for first, _ in weights]).norm() < CASES[name].rounding
