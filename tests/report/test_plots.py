"""Pictures that need no file."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from cytoforge.core.png import decode_png
from cytoforge.report.plots import curves, distances, picture, range_bar, tiles


def content(address: str, kind: str) -> bytes:
    head, _, data = address.partition(",")
    assert head == f"data:{kind};base64"
    return base64.b64decode(data, validate=True)


def svg(address: str) -> ET.Element:
    return ET.fromstring(content(address, "image/svg+xml"))


def test_synthetic_pictures_keep_their_mark() -> None:
    image = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    for synthetic in (True, False):
        pixels, marks = decode_png(content(picture(image, synthetic), "image/png"))
        assert (pixels == image).all()
        assert marks["Synthetic"] == str(synthetic).lower()


def test_tiles_are_one_picture() -> None:
    pixels, _ = decode_png(content(tiles(np.zeros((5, 8, 8, 3), np.uint8), 4, True), "image/png"))
    assert pixels.shape == (18, 38, 3)


def circle(address: str) -> float:
    found = svg(address).find("{http://www.w3.org/2000/svg}circle")
    assert found is not None
    return float(found.attrib["cx"])


def test_range_bar_places_numbers_in_order() -> None:
    assert circle(range_bar(0.0, None, None, top=1.0)) == 6
    assert circle(range_bar(0.5, None, (0.7, 0.8), top=1.0)) == 90
    assert circle(range_bar(1.0, (0.9, 1.0), None, top=1.0)) == 174
    assert circle(range_bar(-0.1, None, (0.0, 0.1))) == 6


def both_figures() -> tuple[str, str]:
    rng = np.random.default_rng(0)
    lines = {"a": ([0.0, 1000.0], [1.0, 2.0]), "b": ([0.0, 2e6], [3.0, 1.0])}
    return distances(rng.random(100), rng.random(50), 0.1), curves(lines, "loss")


def test_figures_are_the_same_each_time_and_fetch_nothing() -> None:
    assert both_figures() == both_figures()
    for address in both_figures():
        text = content(address, "image/svg+xml").decode()
        assert not re.search(r'href="(?!#)', text)
        assert "<script" not in text


@pytest.mark.parametrize("count", [1, 2])
def test_figures_of_hardly_any_numbers(count: int) -> None:
    values = np.full(count, 0.3)
    assert distances(values, values, 0.3).startswith("data:")
    assert curves({"a": ([1.0] * count, [0.5] * count)}, "loss").startswith("data:")
    assert range_bar(0.0, None, None).startswith("data:")
