from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(scope="session")
def fixed_features() -> tuple[np.ndarray, np.ndarray]:
    """The features of ORACLES.md."""
    rng = np.random.default_rng(20240607)
    real = rng.normal(size=(600, 64))
    return real, 0.9 * rng.normal(size=(500, 64)) + 0.15
