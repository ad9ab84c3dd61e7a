"""What others published on the same cells, each with its protocol: figures of different protocols differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One figure.

    Attributes:
        source: who.
        classifier: what.
        accuracy: share of cells named rightly.
        protocol: how training and test cells were divided, and what was chosen by what.
    """

    source: str
    classifier: str
    accuracy: float
    protocol: str


_SOURCE = "source 001"
_UNKNOWN = "one division of cells (1,227 of 4,049 tested), photos not kept together; no interval"

PUBLISHED: Mapping[str, tuple[Published, ...]] = {
    "sipakmed": (
        Published(_SOURCE, "basic CNN", 0.9277, f"{_UNKNOWN}; its own table per class says 0.88"),
        Published(_SOURCE, "ResNet-50", 0.9343, f"{_UNKNOWN}; validation loss 6.08, so overfitted"),
        Published(_SOURCE, "VGG-16", 0.9583, _UNKNOWN),
        Published("best five-class figure known to us", "DenseNet-169", 0.974, "cells divided at random"),
        Published(
            "M. Lunelli, cervical cancer cell detection (README)",
            "VGG-19",
            0.982,
            "20 % of the cells, the very ones that training was watched on",
        ),
    ),
}
"""Layout of the data folder -> figures."""

COARSE: Mapping[str, Mapping[str, str]] = {
    "sipakmed": {
        "Superficial-Intermediate": "normal",
        "Parabasal": "normal",
        "Koilocytotic": "abnormal",
        "Dyskeratotic": "abnormal",
        "Metaplastic": "benign",
    },
    "herlev": {
        "normal_superficiel": "normal",
        "normal_intermediate": "normal",
        "normal_columnar": "normal",
        "light_dysplastic": "abnormal",
        "moderate_dysplastic": "abnormal",
        "severe_dysplastic": "abnormal",
        "carcinoma_in_situ": "abnormal",
    },
}
"""Layout of the data folder -> class -> what the class counts as in its data set's own coarser division."""
