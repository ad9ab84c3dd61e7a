import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from cytoforge.core.batch import Batch, DataShape
from cytoforge.core.errors import ConfigError
from cytoforge.core.run import Run
from cytoforge.methods.diffusion import Diffusion, DiffusionConfig
from cytoforge.training.loop import Loop, LoopConfig
from cytoforge.training.warm_start import warm_start

SMALL = {"channels": 8, "blocks": 1, "patch": 2, "steps": 4, "learning_rate": 2e-3, "sampling": "32-true"}


def make(classes=("a", "b"), resolution=16, **settings):
    torch.manual_seed(0)
    method = Diffusion(DiffusionConfig(**{**SMALL, **settings}), DataShape(resolution, classes, 2))
    for network in method.networks.values():
        for parameter in network.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.02)
    return method


def batch(count=8, resolution=16):
    images = torch.rand(count, 3, resolution, resolution, generator=torch.Generator().manual_seed(1)) * 2 - 1
    masks = (images[:, :2] > 0).float()
    return Batch(images, torch.arange(count) % 2, torch.arange(count), masks)


def take(method, turn, optimizer, data):
    for name, network in method.networks.items():
        network.requires_grad_(name == turn.network)
    optimizer.zero_grad()
    loss = sum(turn.losses(data).values())
    loss.backward()
    optimizer.step()
    return float(loss.detach())


@pytest.mark.parametrize(("path", "near"), [("flow", 0.12), ("edm", 0.4)])
def test_trained_on_two_images_draws_them_by_class(path, near):
    """The known answer: class 0 is red on the left, class 1 blue on the right."""
    torch.manual_seed(0)
    images = torch.full((2, 3, 16, 16), -0.8)
    images[0, 0, :, :8] = images[1, 2, :, 8:] = 0.8
    method = make(path=path, guidance=1.0, steps=12, dropout=0.0, channels=16)
    turn, optimizer = method.turns()[0], method.optimizers()["denoiser"]
    labels = torch.arange(16) % 2
    for step in range(120):
        seeds = torch.arange(16) + 16 * step
        take(method, turn, optimizer, Batch(images[labels], labels, seeds))
    with torch.no_grad():
        drawn = method.sample(method.noise(np.arange(6)), torch.arange(6) % 2)
    own, other = ((drawn - images[(torch.arange(6) + shift) % 2]).abs().mean((1, 2, 3)) for shift in (0, 1))
    assert own.mean() < near
    assert (own < other).all()
    assert drawn.abs().max() <= 1


@pytest.mark.parametrize("condition", ["none", "masks", "edges"])
@pytest.mark.parametrize("branch", ["read", "control"])
def test_finite_gradients_for_the_right_network_only(condition, branch):
    method = make(condition=condition, branch=branch)
    data = batch()
    assert method.uses_masks(method.config) == (condition == "masks")
    assert [turn.network for turn in method.turns()] == list(method.networks) == list(method.optimizers())
    for turn in method.turns():
        for name, network in method.networks.items():
            network.requires_grad_(name == turn.network)
            network.zero_grad(set_to_none=True)
        sum(turn.losses(data).values()).backward()
        for name, network in method.networks.items():
            for key, parameter in network.named_parameters():
                assert (parameter.grad is not None) == (name == turn.network), key
                assert parameter.grad is None or parameter.grad.isfinite().all(), key


@pytest.mark.parametrize(("condition", "channels"), [("masks", 2), ("edges", 1)])
@pytest.mark.parametrize("branch", ["read", "control"])
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_class_and_condition_change_the_image_and_may_be_left_out(condition, channels, branch, guidance):
    method = make(condition=condition, branch=branch, guidance=guidance)
    noise, labels = method.noise(torch.arange(2)), torch.zeros(2, dtype=torch.long)
    hints = torch.ones(2, channels, 16, 16)
    with torch.no_grad():
        plain = method.sample(noise, labels)
        steered = method.sample(noise, labels, hints)
        again = method.sample(noise, labels, hints)
        other = method.sample(noise, labels + 1, hints)
    assert plain.shape == (2, 3, 16, 16)
    assert torch.equal(steered, again)
    assert not torch.allclose(plain, steered, atol=1e-4)
    assert not torch.allclose(steered, other, atol=1e-4)


class Cells:
    """What the loop needs of a data set; image 0 is of class a, image 1 of class b and so on."""

    shape = DataShape(16, ("a", "b"))
    labels = np.arange(8) % 2

    def batch(self, indices, seeds):
        cells = batch()
        return Batch(
            cells.images[indices], cells.labels[indices], torch.from_numpy(seeds), cells.masks[indices]
        )


@pytest.mark.parametrize("condition", ["none", "masks", "edges"])
def test_grids_of_a_training_are_steered_by_training_cells_of_the_class(condition, tmp_path, monkeypatch):
    method, given = make(condition=condition), []
    run, fabric = Run.create(tmp_path / "run", {}), Fabric(accelerator="cpu", devices=1)
    loop = Loop(method, Cells(), LoopConfig(batch=2, precision="32-true"), run, 0, fabric)
    monkeypatch.setattr(Diffusion, "sample", lambda _, noise, labels, hints: given.append(hints) or noise)
    loop.draw(np.array([1, 1]), np.arange(2))
    if condition == "none":
        assert given == [None]
    else:
        own = method.condition(Cells().batch(np.array([1, 3, 5, 7]), np.arange(4)))
        assert all(any(torch.equal(hint, other) for other in own) for hint in given[0])


def test_frozen_denoiser_stays_and_the_branch_learns_its_mask():
    """Images that are their masks: the branch alone brings the error down; the denoiser keeps every bit."""
    masks = (torch.rand(16, 2, 16, 16, generator=torch.Generator().manual_seed(2)) > 0.5).float()
    masks = masks[:, :, ::4, ::4].repeat_interleave(4, 2).repeat_interleave(4, 3)
    images = torch.cat([masks, masks[:, :1]], 1) * 2 - 1
    settings = {"freeze": True, "dropout": 0.0, "guidance": 1.0, "channels": 16}
    method = make(condition="masks", branch="control", **settings)
    before = {key: value.clone() for key, value in method.networks["denoiser"].state_dict().items()}
    (turn,), optimizer = method.turns(), method.optimizers()["control"]
    assert turn.network == "control"
    fixed = Batch(images, torch.zeros(16).long(), torch.arange(16) + 10_000, masks)
    before_training = float(method.control_losses(fixed)["control"].detach())
    for step in range(60):
        seeds = torch.arange(16) + 16 * step
        take(method, turn, optimizer, Batch(images, torch.zeros(16).long(), seeds, masks))
    assert float(method.control_losses(fixed)["control"].detach()) < 0.75 * before_training
    assert all(
        torch.equal(before[key], value) for key, value in method.networks["denoiser"].state_dict().items()
    )


def test_guidance_needs_images_without_class_in_training():
    with pytest.raises(ConfigError, match="guidance=1"):
        make(dropout=0.0, guidance=2.0)
    with pytest.raises(ConfigError, match="guidance=1"):
        make(dropout=0.0, guidance=0.0)


@pytest.mark.parametrize("freeze", [False, True])
def test_branch_is_added_to_a_trained_denoiser(freeze):
    """`train diffusion --from RUN --set branch=control ...`: weights of the run, a branch of its own."""
    base, method, larger = (
        make(classes, condition=condition, branch="control", freeze=freeze and condition == "masks")
        for classes, condition in (("a", "none"), ("a", "masks"), ("ab", "masks"))
    )
    for parameter in base.networks["denoiser"].parameters():
        parameter.data.add_(0.1)
    tensors = {f"denoiser/{key}": value for key, value in base.networks["denoiser"].state_dict().items()}
    warm_start(method.networks, larger.networks, tensors, "a", "a")
    for key, value in method.networks["denoiser"].state_dict().items():
        assert torch.equal(value, tensors[f"denoiser/{key}"])
    control = method.networks["control"]
    assert control.started
    assert torch.equal(control.encoder.input.weight, tensors["denoiser/encoder.input.weight"])


def test_branch_that_was_trained_goes_on_as_it_was():
    base, method, larger = (
        make(classes, condition="masks", branch="control", freeze=freeze)
        for classes, freeze in (("a", False), ("a", True), ("ab", True))
    )
    tensors = {
        f"{name}/{key}": value.clone() + 0.1 * (name == "control") * value.is_floating_point()
        for name, network in base.networks.items()
        for key, value in network.state_dict().items()
    }
    warm_start(method.networks, larger.networks, tensors, "a", "a")
    data = batch(2)
    method.control_losses(Batch(data.images, data.labels * 0, data.seeds, data.masks))
    control = method.networks["control"]
    assert torch.equal(control.encoder.input.weight, tensors["control/encoder.input.weight"])


def test_label_dropout_draws_from_the_image_seed():
    method = make(dropout=0.4)
    seen = []
    method.networks["denoiser"].register_forward_pre_hook(lambda _, given: seen.append(given[2]))
    data = batch(64)
    method.denoiser_losses(data)
    part = data.part(10, 20)
    method.denoiser_losses(part)
    assert 0.2 < float((seen[0] == 2).float().mean()) < 0.6
    assert torch.equal(seen[0][10:20], seen[1])


def test_guidance_one_is_the_conditional_model():
    noise, labels = torch.randn(2, 3, 16, 16), torch.tensor([0, 1])
    with torch.no_grad():
        plain = make(guidance=1.0).sample(noise, labels)
        torch.testing.assert_close(make(guidance=1.0 + 1e-6).sample(noise, labels), plain, atol=1e-3, rtol=0)
        free = make(guidance=0.0).sample(noise, labels)
        torch.testing.assert_close(free, make(guidance=0.0).sample(noise, 1 - labels))


def test_bf16_sampling_is_close():
    noise, labels = torch.randn(2, 3, 16, 16), torch.tensor([0, 1])
    with torch.no_grad():
        exact, fast = (make(sampling=kind).sample(noise, labels) for kind in ("32-true", "bf16-mixed"))
    assert fast.dtype == torch.float32
    assert 0 < (exact - fast).abs().mean() < 0.02


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="resolution / patch"):
        make(resolution=48)
    with pytest.raises(ConfigError, match="leaves nothing to train"):
        make(freeze=True)
    with pytest.raises(ConfigError, match="leaves nothing to train"):
        make(freeze=True, condition="masks")
