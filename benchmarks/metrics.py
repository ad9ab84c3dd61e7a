"""Our set-level scores against torch-fidelity and torchmetrics on the same features.

Run `python benchmarks/metrics.py [--images 4000] [--width 1280]`; prints one JSON object. Each computes
what the library offers of: Frechet distance, kernel distance, precision and recall. Ours computes these,
density, coverage, the kernel distance's interval, pairwise distance and effective modes. Extraction is not
part of it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from cytoforge.evaluation.diversity import (
    effective_modes,
    pairwise_distance,
    precision_recall_density_coverage,
)
from cytoforge.evaluation.fidelity import frechet_distance, kernel_distance_interval
from cytoforge.networks.torchvision_cpu import prepare_torchvision

Features = np.ndarray[Any, np.dtype[np.float64]]


def features(images: int, width: int) -> tuple[Features, Features]:
    """Two sets of non-negative, correlated features, like pooled activations."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(width, width)) / np.sqrt(width)
    real = np.maximum(rng.normal(size=(images, width)) @ mixing, 0)
    return real, np.maximum(rng.normal(size=(images, width)) @ mixing * 0.95 + 0.05, 0)


def ours(real: Features, fake: Features) -> dict[str, Callable[[], Any]]:
    """Every score by itself, nothing shared."""
    return {
        "frechet_distance": lambda: frechet_distance(real, fake),
        "kernel_distance": lambda: kernel_distance_interval(real, fake),
        "precision_recall_density_coverage": lambda: precision_recall_density_coverage(real, fake),
        "pairwise_distance": lambda: pairwise_distance(fake),
        "effective_modes": lambda: effective_modes(fake, real.mean(0)),
    }


def torch_fidelity(real: Features, fake: Features) -> dict[str, Callable[[], Any]]:
    """The same features through torch-fidelity, with its defaults (100 kernel subsets of 1,000)."""
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torch_fidelity.metric_prc import prc_features_to_metric

    first, second = torch.from_numpy(real), torch.from_numpy(fake)
    size = {"kid_subset_size": min(1000, len(real) // 2)}
    return {
        "frechet_distance": lambda: fid_statistics_to_metric(
            fid_features_to_statistics(second), fid_features_to_statistics(first), verbose=False
        )["frechet_inception_distance"],
        "kernel_distance": lambda: kid_features_to_metric(second, first, verbose=False, **size)[
            "kernel_inception_distance_mean"
        ],
        "precision_recall": lambda: prc_features_to_metric(
            second.float(), first.float(), verbose=False, prc_neighborhood=5
        ),
    }


class Passing(torch.nn.Module):
    """Takes features for images, so that torchmetrics computes on them."""

    num_features = 1280

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The features as they came."""
        return images


def torchmetrics(real: Features, fake: Features) -> dict[str, Callable[[], Any]]:
    """The same features through torchmetrics, with its defaults (100 kernel subsets of 1,000)."""
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    def computed(metric: Any) -> float:
        metric.update(torch.from_numpy(real), real=True)
        metric.update(torch.from_numpy(fake), real=False)
        value = metric.compute()
        return float(value[0] if isinstance(value, tuple) else value)

    def frechet() -> float:
        passing = Passing(real.shape[1])
        metric = FrechetInceptionDistance(feature=passing, input_img_size=(real.shape[1],))
        metric.set_dtype(torch.float64)
        return computed(metric)

    def kernel() -> float:
        size = min(1000, len(real) // 2)
        return computed(KernelInceptionDistance(feature=Passing(real.shape[1]), subset_size=size))

    return {"frechet_distance": frechet, "kernel_distance": kernel}


def timed(scores: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    """Seconds and value of each score, and the sum of the seconds."""
    result: dict[str, Any] = {"seconds": {}, "values": {}}
    for name, score in scores.items():
        start = time.perf_counter()
        value = score()
        result["seconds"][name] = round(time.perf_counter() - start, 3)
        result["values"][name] = value if isinstance(value, dict | tuple) else float(value)
    result["total_seconds"] = round(sum(result["seconds"].values()), 3)
    return result


def measured(images: int = 4000, width: int = 1280) -> dict[str, Any]:
    """All three on the same features of `images` real and as many other images."""
    prepare_torchvision()
    real, fake = features(images, width)
    libraries = {"ours": ours, "torch_fidelity": torch_fidelity, "torchmetrics": torchmetrics}
    result: dict[str, Any] = {"images": images, "width": width, "threads": torch.get_num_threads()}
    for name, scores in libraries.items():
        result[name] = timed(scores(real, fake))
    total = result["ours"]["total_seconds"]
    result["faster_than"] = {
        name: round(result[name]["total_seconds"] / total, 2) for name in libraries if name != "ours"
    }
    return result


def main() -> None:
    """Measure all three and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--width", type=int, default=1280)
    given = parser.parse_args()
    print(json.dumps(measured(given.images, given.width), indent=1))


if __name__ == "__main__":
    main()
