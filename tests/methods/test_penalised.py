"""A Wasserstein distance without a bound is refused by every method that takes it."""

import pytest
import torch

from cytoforge.core.batch import DataShape
from cytoforge.core.errors import ConfigError
from cytoforge.methods.catalogue import method_type

BARE = {"gradient_penalty": 0.0, "r1": 0.0, "r2": 0.0}
BOUNDS = {
    "gan": (
        {"gradient_penalty": 10.0},
        {"r1": 1.0},
        {"r2": 1.0},
        {"weight_clip": 0.01},
        {"spectral_norm": True},
    ),
    "cgan": ({"weight_clip": 0.01},),
    "cgan-dense": ({"spectral_norm": True},),
    "infogan": ({"gradient_penalty": 10.0},),
    "pix2pix": (
        {"discriminator_norm": "spectral"},
        {"discriminator_norm": "group", "r1": 1.0},
        {"weight_clip": 0.01},
    ),
    "syncgan": ({"discriminator_norm": "spectral"}, {"discriminator_norm": "none", "gradient_penalty": 10.0}),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_wasserstein_needs_one_bound(name):
    kind = method_type(name)
    shape = DataShape(64, ("a", "b"), 2 if "discriminator_norm" in kind.config_type.model_fields else 0)

    def make(**settings):
        with torch.device("meta"):
            return kind(kind.config_type(**{**BARE, "loss": "wasserstein", **settings}), shape)

    with pytest.raises(ConfigError, match="needs a bound"):
        make()
    for bound in BOUNDS[name]:
        make(**bound)
