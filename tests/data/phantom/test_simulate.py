from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from cytoforge.core.errors import ConfigError
from cytoforge.data.phantom import CLASSES, PhantomCell, simulate
from cytoforge.data.phantom.anatomy import grow
from cytoforge.data.phantom.simulate import View, open_photo, render


@cache
def cells(label: str) -> list[PhantomCell]:
    return [simulate(label, seed, 40) for seed in range(20)]


def shown_ratio(cell: PhantomCell) -> float:
    return float((cell.mask == 2).sum() / (cell.mask > 0).sum())


@pytest.mark.parametrize("label", CLASSES)
def test_a_cell_depends_on_label_and_seed_only(label: str) -> None:
    one, same, other = simulate(label, 5, 64), simulate(label, 5, 64), simulate(label, 6, 64)
    assert np.array_equal(one.image, same.image)
    assert np.array_equal(one.mask, same.mask)
    assert one.measurements == same.measurements
    assert not np.array_equal(one.image, other.image)


@pytest.mark.parametrize("label", CLASSES)
def test_every_cell_has_a_nucleus_inside_its_cytoplasm(label: str) -> None:
    for cell in cells(label):
        assert cell.image.shape == (40, 40, 3)
        assert cell.image.dtype == cell.mask.dtype == np.uint8
        assert set(np.unique(cell.mask)) <= {0, 1, 2}
        assert (cell.mask == 1).sum() > (cell.mask == 2).sum() / 2
        assert 0.2 < (cell.mask > 0).mean() <= 1
        assert cell.label == label


@pytest.mark.parametrize("label", CLASSES)
def test_nuclei_are_darker_than_cytoplasm(label: str) -> None:
    darker = [
        c.image[c.mask == 2].mean() < c.image[c.mask == 1].mean() for c in cells(label) if (c.mask == 2).any()
    ]
    assert np.mean(darker) > 0.9


def test_masks_show_what_was_measured() -> None:
    every = [cell for label in CLASSES for cell in cells(label)]
    measured = np.array([cell.measurements["nc_ratio"] for cell in every])
    assert np.corrcoef(measured, [shown_ratio(cell) for cell in every])[0, 1] > 0.9
    pixels = [(c.mask == 2).sum() * c.measurements["micrometres_per_pixel"] ** 2 for c in every]
    area = [c.measurements["nucleus_area"] for c in every]
    assert np.median(np.array(pixels) / area) == pytest.approx(1, abs=0.06)


def test_nuclear_share_is_ordered_as_in_the_literature() -> None:
    """Herlev's masks: superficial 0.009, intermediate 0.028, dysplastic 0.26 to 0.47 of the cell."""
    share = {
        label: np.array([grow(label, np.random.default_rng(seed)) for seed in range(300)])
        for label in CLASSES
    }
    medians = {
        name: float(np.median([c.nucleus_area / c.cell_area for c in group])) for name, group in share.items()
    }
    order = ["Superficial-Intermediate", "Metaplastic", "Dyskeratotic", "Parabasal"]
    assert all(medians[less] < medians[more] for less, more in pairwise(order))
    assert 0.009 < medians["Superficial-Intermediate"] < 0.028
    assert medians["Superficial-Intermediate"] < 0.3 * medians["Koilocytotic"] < 0.3 * medians["Parabasal"]


def test_only_koilocytes_have_their_halo_usually() -> None:
    halos = {label: np.mean([cell.measurements["halo"] for cell in cells(label)]) for label in CLASSES}
    assert halos.pop("Koilocytotic") > 0.5
    assert max(halos.values()) < 0.3


def test_classes_overlap_in_colour() -> None:
    """No class is told by its mean colour alone: the next cell of that colour is often of another class."""
    colours = np.array([cell.image.reshape(-1, 3).mean(0) for label in CLASSES for cell in cells(label)])
    labels = np.repeat(np.arange(5), 20)
    apart = np.linalg.norm(colours[:, None] - colours[None], axis=2) + 1e6 * np.eye(len(colours))
    assert np.mean(labels[apart.argmin(1)] == labels) < 0.65


def test_cells_of_one_photo_share_its_light() -> None:
    photo = open_photo("Metaplastic", 1, 2)
    one, two = (render("Metaplastic", seed, photo, 2, 64) for seed in (10, 11))
    assert one.photo == two.photo == 2
    whites = [np.percentile(cell.image.reshape(-1, 3), 95, axis=0) for cell in (one, two)]
    other = simulate("Metaplastic", 4, 64)
    assert np.abs(whites[0] - whites[1]).max() < 60
    assert other.photo not in (1, 2)


def test_the_same_cell_in_another_photo_keeps_its_body() -> None:
    first = render("Koilocytotic", 8, open_photo("Koilocytotic", 1, 1), 1, 96)
    again = render("Koilocytotic", 8, open_photo("Koilocytotic", 1, 2), 2, 96, View(shift=(0.125, 0.0)))
    assert not np.array_equal(first.image, again.image)
    assert {
        k: v for k, v in first.measurements.items() if k != "nucleus_area"
    }.items() <= again.measurements.items()
    agreement = (first.mask[:, 12:] == again.mask[:, :-12]).mean()
    assert agreement > 0.97
    shifted = [image.mean(2).ravel() for image in (first.image[:, 12:], again.image[:, :-12])]
    assert np.corrcoef(shifted)[0, 1] > 0.93


def test_native_sizes_differ_by_class() -> None:
    sizes = {
        label: np.median(
            [render(label, seed, open_photo(label, 0, 0), 0, None).image.shape[0] for seed in range(3)]
        )
        for label in ("Parabasal", "Superficial-Intermediate")
    }
    assert 80 < sizes["Parabasal"] < 180 < sizes["Superficial-Intermediate"] < 420


@pytest.mark.parametrize(
    ("label", "size", "what"), [("Columnar", 96, "Parabasal"), ("Parabasal", 4, "16 to 512")]
)
def test_impossible_requests_are_refused_with_the_way_out(label: str, size: int, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        simulate(label, 0, size)
