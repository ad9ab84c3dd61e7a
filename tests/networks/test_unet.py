import pytest
import torch

from cytoforge.networks.unet import Attention, Control, UNet, edges, waves


def woken(network):
    """Layers that start at 0 made ordinary, so that the network answers something."""
    generator = torch.Generator().manual_seed(3)
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    return network


def make(**settings):
    torch.manual_seed(0)
    return woken(UNet(32, 2, **{"channels": 8, "blocks": 1, **settings}))


def inputs(count=3):
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(count, 3, 32, 32, generator=generator),
        torch.linspace(0.1, 0.9, count),
        torch.arange(count) % 3,
    )


@pytest.mark.parametrize(("resolution", "patch", "blocks"), [(32, 2, 1), (64, 4, 2), (32, 1, 1), (16, 2, 1)])
def test_answer_has_the_size_of_the_images(resolution, patch, blocks):
    unet = UNet(resolution, 2, 8, blocks, patch)
    answer = unet(torch.randn(2, 3, resolution, resolution), torch.rand(2), torch.tensor([0, 2]))
    assert answer.shape == (2, 3, resolution, resolution)
    assert answer.isfinite().all()


@pytest.mark.parametrize(("channels", "heads"), [(8, 1), (32, 1), (96, 3), (384, 12), (168, 4), (264, 8)])
def test_attention_takes_every_width(channels, heads):
    attention = Attention(channels)
    assert attention.heads == heads
    assert attention(torch.randn(1, channels, 4, 4)).shape == (1, channels, 4, 4)


def test_level_class_and_hints_change_the_answer_and_neighbours_do_not():
    unet = make(hints=2)
    images, levels, labels = inputs()
    hints = torch.ones(3, 2, 32, 32)
    plain = unet(images, levels, labels)
    assert not torch.allclose(plain, unet(images, levels * 0.5, labels), atol=1e-4)
    assert not torch.allclose(plain, unet(images, levels, (labels + 1) % 3), atol=1e-4)
    assert not torch.allclose(plain, unet(images, levels, labels, hints), atol=1e-4)
    torch.testing.assert_close(plain, unet(images, levels, labels, 0 * hints))
    torch.testing.assert_close(plain[1:2], unet(images[1:2], levels[1:2], labels[1:2]))


def test_control_changes_nothing_at_first_and_something_later():
    unet = make()
    control = Control(unet, hints=2)
    images, levels, labels = inputs()
    hints = torch.rand(3, 2, 32, 32)
    plain = unet(images, levels, labels)
    torch.testing.assert_close(
        unet(images, levels, labels, None, control(images, levels, labels, hints)), plain
    )
    woken(control)
    first = control(images, levels, labels, hints)
    assert not torch.allclose(unet(images, levels, labels, None, first), plain, atol=1e-3)
    other = control(images, levels, labels, 1 - hints)
    assert any(not torch.allclose(one, two, atol=1e-4) for one, two in zip(first, other, strict=True))


def test_hints_enter_the_copy_at_zero_and_are_learned():
    """The gates move in the first step, the last convolution of the hints in the second, then the first."""
    unet = make().requires_grad_(requires_grad=False)
    control, (images, levels, labels) = Control(unet, hints=2), inputs()
    hints = torch.rand(3, 2, 32, 32, generator=torch.Generator().manual_seed(2))
    assert not control.hint(torch.ones(3, 8, 16, 16)).any()
    optimizer, moved = torch.optim.SGD(control.parameters(), 0.1), []
    for _ in range(3):
        optimizer.zero_grad()
        answer = unet(images, levels, labels, None, control(images, levels, labels, hints))
        answer.square().mean().backward()
        parts = (control.gates[0], control.hint[-1], control.hint[0])
        moved.append([bool(part.weight.grad.any()) for part in parts])
        optimizer.step()
    assert moved == [[True, False, False], [True, True, False], [True, True, True]]


def test_control_starts_as_a_copy_of_the_trained_encoder():
    unet = make()
    control = Control(unet, hints=1)
    assert not control.started
    woken(unet)
    for parameter in unet.parameters():
        parameter.data.add_(0.1)
    control.start_from(unet)
    assert control.started
    for own, other in zip(control.encoder.parameters(), unet.encoder.parameters(), strict=True):
        assert torch.equal(own, other)
        assert own is not other


def test_waves_tell_levels_apart_and_fit_flow_and_edm():
    for levels in (torch.linspace(0, 1, 50), torch.linspace(-1.6, 1.1, 50)):
        code = waves(levels, 64)
        distance = torch.cdist(code, code) + 100 * torch.eye(50)
        assert distance.min() > 0.1


def test_edges_of_a_disc_lie_on_its_rim():
    rows, columns = torch.meshgrid(torch.arange(32) - 15.5, torch.arange(32) - 15.5, indexing="ij")
    radius = (rows**2 + columns**2).sqrt()
    disc = torch.where(radius < 9, -0.5, 0.8).expand(1, 3, 32, 32)
    found = edges(disc)[0, 0].bool()
    assert found.any()
    assert ((radius[found] > 7) & (radius[found] < 11)).all()
    assert not edges(torch.zeros(1, 3, 8, 8)).any()
