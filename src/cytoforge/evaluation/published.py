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

_LIN = "Lin et al. 2019 (arXiv:1810.06058)"
_PATIENTS = "five folds that keep a patient's cells together"

PUBLISHED: Mapping[str, tuple[Published, ...]] = {
    "sipakmed": (
        Published(_SOURCE, "basic CNN", 0.9277, f"{_UNKNOWN}; its own table per class says 0.88"),
        Published(_SOURCE, "ResNet-50", 0.9343, f"{_UNKNOWN}; validation loss 6.08, so overfitted"),
        Published(_SOURCE, "VGG-16", 0.9583, _UNKNOWN),
        Published(
            "best five-class figure known to us",
            "DenseNet-169",
            0.974,
            "cells divided at random; quoted without a source known to us",
        ),
        Published(
            "M. Lunelli, cervical cancer cell detection (README)",
            "VGG-19",
            0.982,
            "20 % of the cells, the very ones that training was watched on",
        ),
    ),
    "herlev": (
        Published(_LIN, "GoogLeNet on picture and given masks, seven classes", 0.645, _PATIENTS),
        Published(_LIN, "the same, normal or abnormal", 0.945, _PATIENTS),
        Published(
            "Zhang et al. 2017 (arXiv:1801.08616)",
            "DeepPap, normal or abnormal",
            0.983,
            "five folds; whether a patient's cells stay together is not said in the abstract",
        ),
        Published(
            "doi:10.1155/2020/4864835",
            "fine-tuned network, boosted trees, seven classes",
            0.9885,
            "not said in the abstract",
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
