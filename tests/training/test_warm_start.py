from __future__ import annotations

import pytest
import torch
from torch import nn

from cytoforge.core.batch import DataShape
from cytoforge.core.errors import CheckpointError, ConfigError
from cytoforge.methods.diffusion import Diffusion, DiffusionConfig
from cytoforge.methods.wgan_gp import WGANGP, WGANGPConfig
from cytoforge.networks.mask_gan import PerClass
from cytoforge.training.warm_start import frozen_parameters, require_learning, warm_start


def networks(classes: int) -> dict[str, nn.Module]:
    """One axis of classes in each of three usual places, and a part that knows none."""
    return {
        "g": nn.ModuleDict(
            {
                "embedding": nn.Embedding(classes, 3),
                "one_hot": nn.Linear(4 + classes, 2),
                "head": nn.Linear(2, 2 * classes),
                "body": nn.Conv2d(3, 3, 3),
            }
        )
    }


def weights(classes: int) -> dict[str, torch.Tensor]:
    return {f"g/{key}": value.clone() for key, value in networks(classes)["g"].state_dict().items()}


def test_known_classes_keep_their_rows_a_single_new_one_gets_the_mean_in_any_order() -> None:
    before = weights(2)
    after = networks(3)
    warm_start(after, networks(4), before, ("a", "b"), ("b", "new", "a"))
    got = after["g"].state_dict()
    old = before["g/embedding.weight"]
    torch.testing.assert_close(got["embedding.weight"], torch.stack([old[1], old.mean(0), old[0]]))
    old = before["g/one_hot.weight"]
    torch.testing.assert_close(got["one_hot.weight"][:, :4], old[:, :4])
    torch.testing.assert_close(
        got["one_hot.weight"][:, 4:], torch.stack([old[:, 5], old[:, 4:].mean(1), old[:, 4]], 1)
    )
    old = before["g/head.bias"].reshape(2, 2)
    torch.testing.assert_close(got["head.bias"].reshape(3, 2), torch.stack([old[1], old.mean(0), old[0]]))
    torch.testing.assert_close(got["body.weight"], before["g/body.weight"])


def test_several_new_classes_are_as_far_apart_as_the_known_ones() -> None:
    """All at the mean, seven classes of Herlev were still drawn alike after 8,000 images."""
    before, after = weights(2), networks(4)
    before["g/embedding.weight"] = torch.tensor([[1.0, 0.0, 2.0], [3.0, 0.0, 2.0]])
    untrained = after["g"]["embedding"].weight.detach().clone()
    warm_start(after, networks(5), before, ("a", "b"), ("x", "y", "z", "b"))
    got = after["g"]["embedding"].weight.detach()
    torch.testing.assert_close(got[:3].mean(0), torch.tensor([2.0, 0.0, 2.0]))
    assert got[:3].var(0).mean().item() == pytest.approx(2 / 3)
    apart, own = got[:3] - got[:3].mean(0), untrained[:3] - untrained[:3].mean(0)
    torch.testing.assert_close(apart / apart.norm(), own / own.norm())
    torch.testing.assert_close(got[3], torch.tensor([3.0, 0.0, 2.0]))


def test_after_a_single_known_class_new_ones_keep_what_parts_them() -> None:
    before, after = weights(1), networks(2)
    untrained = after["g"]["embedding"].weight.detach().clone()
    warm_start(after, networks(3), before, ("a",), ("x", "y"))
    got = after["g"]["embedding"].weight.detach()
    torch.testing.assert_close(got - got.mean(0), untrained - untrained.mean(0))
    torch.testing.assert_close(got.mean(0), before["g/embedding.weight"][0])


def test_equal_numbers_of_other_classes_are_matched_by_name() -> None:
    before, after = weights(2), networks(2)
    warm_start(after, networks(3), before, ("a", "b"), ("b", "a"))
    torch.testing.assert_close(
        after["g"].state_dict()["embedding.weight"], before["g/embedding.weight"].flip(0)
    )


def test_networks_for_each_class_are_matched_by_name() -> None:
    def parts(classes: int) -> dict[str, nn.Module]:
        return {"g": nn.Sequential(nn.Linear(2, 2), PerClass(lambda: nn.BatchNorm2d(1), classes))}

    source, after = parts(2), parts(3)
    for number, part in enumerate(source["g"][1].networks):
        nn.init.constant_(part.weight, 3.0 + 2 * number)
        part.num_batches_tracked.fill_(10 + 10 * number)
    before = {f"g/{key}": value for key, value in source["g"].state_dict().items()}
    warm_start(after, parts(4), before, ("a", "b"), ("b", "new", "a"))
    assert [part.weight.item() for part in after["g"][1].networks] == [5, 5, 3]
    assert [int(part.num_batches_tracked) for part in after["g"][1].networks] == [20, 20, 10]
    torch.testing.assert_close(after["g"][0].weight, before["g/0.weight"])


def test_other_sizes_and_parts_are_refused() -> None:
    before = weights(2)
    with pytest.raises(CheckpointError, match="settings"):
        warm_start(
            networks(2), networks(3), {**before, "g/body.bias": torch.zeros(9)}, ("a", "b"), ("a", "b")
        )
    with pytest.raises(CheckpointError, match="other parts"):
        warm_start(networks(2), networks(3), {**before, "g/extra": torch.zeros(1)}, ("a", "b"), ("a", "b"))


def test_a_pattern_that_matches_nothing_is_refused() -> None:
    assert frozen_parameters(networks(2), ["g/body.*"]) == {"g/body.weight", "g/body.bias"}
    with pytest.raises(ConfigError, match="no parameter"):
        frozen_parameters(networks(2), ["g/nose.*"])


def test_a_network_that_has_a_turn_is_not_frozen_as_a_whole() -> None:
    shape, settings = DataShape(32, ("a", "b")), {"generator_channels": 4, "critic_channels": 4}
    method = WGANGP(WGANGPConfig(**settings), shape)
    require_learning(method, frozen_parameters(method.networks, ["critic/body.*"]))
    with pytest.raises(ConfigError, match="nothing to learn in generator"):
        require_learning(method, frozen_parameters(method.networks, ["generator/*"]))
    steered = DiffusionConfig(channels=8, condition="masks", branch="control", freeze=True)
    frozen = Diffusion(steered, shape)
    require_learning(frozen, frozen_parameters(frozen.networks, ["denoiser/*"]))
