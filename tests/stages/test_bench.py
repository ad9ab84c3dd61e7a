import pytest
import torch
from torch import nn

from cytoforge.methods.wgan_gp import WGANGP, WGANGPConfig
from cytoforge.stages.bench import OperationCounter, PlainStep, RandomCells, bench_step
from cytoforge.stages.bench_predict import bench_predict


def test_operations_of_a_convolution_by_hand():
    layer, images = nn.Conv2d(2, 3, 3, padding=1, bias=False), torch.randn(4, 2, 8, 8)
    with OperationCounter() as counter:
        layer(images).sum().backward()
    forward = 2 * 4 * 8 * 8 * 9 * 2 * 3
    assert counter.operations == 2 * forward  # the images need no gradient


def test_bench_measures_both():
    found = bench_step(resolution=32, batch=8, rounds=1)
    assert found.ratio == pytest.approx(found.ours / found.plain)
    assert 0 < found.share_of_peak < 1.5
    assert found.peak_gflops > 1


def test_plain_step_trains_both_players():
    cells = RandomCells(16, 32)
    config = WGANGPConfig(latent=8, generator_channels=4, critic_channels=4, most_channels=8, critic_steps=2)
    step = PlainStep(WGANGP(config, cells.shape), cells, batch=8)
    critic, generator = step.critic.score.weight.clone(), step.generator.output.weight.clone()
    step.step()
    assert not torch.equal(critic, step.critic.score.weight)
    assert torch.equal(generator, step.generator.output.weight)
    step.step()
    assert not torch.equal(generator, step.generator.output.weight)


def test_answers_are_the_same(tiny_cells):
    found = bench_predict(64, pictures=16, rounds=1, engine="torch", source=tiny_cells)
    assert found.same == 1
    assert found.difference < 1e-4


@pytest.mark.slow
def test_onnx_answers_twice_as_fast_as_timm():
    pytest.importorskip("onnxscript")
    found = bench_predict(rounds=3)
    assert found.engine == "onnx"
    assert found.same == 1
    assert found.ratio >= 2
