"""The page: complete, self-contained, escaped, and silent about real cells where that is asked for."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cytoforge.core.errors import DataError
from cytoforge.core.png import decode_png
from cytoforge.core.run import Run
from cytoforge.report.build import Evidence, Pair, build_report
from cytoforge.sampling.provenance import Companion, Header, Manifest, class_folders, write_manifest

EVIL = "<script>alert('x')</script>\"'&{{ 7*7 }}"
CLASSES = ("Parabasal", EVIL)


@pytest.fixture
def synthetic(tmp_path: Path) -> Path:
    header = Header(
        method="wgan-gp",
        config_sha256="c" * 64,
        checkpoint="best",
        checkpoint_sha256="d" * 64,
        seen=128_000,
        truncation=1.0,
        preparation={"resolution": 32, "fit": "crop"},
        classes=CLASSES,
        folders=class_folders(CLASSES),
        run="../run",
        split_sha256=None,
        versions={"torch": "2.13.0"},
        threads=1,
    )
    write_manifest(tmp_path / "set", Manifest(header, (), (Companion(file="CARD.md", sha256="0" * 64),)))
    return tmp_path / "set"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    config = {
        "method": "wgan-gp",
        "settings": {"note": EVIL},
        "data": {"root": "/home/secret"},
        "classes": [],
    }
    folder = Run.create(tmp_path / "run", config)
    for seen in range(0, 5000, 1000):
        folder.log({"kind": "losses", "seen": seen, "seconds": 1.0, "losses": {"generator": seen / 1e3}})
        folder.log({"kind": "measure", "seen": seen, "seconds": 1.0, "kid": 1 / (1 + seen), "spread": None})
    folder.log({"kind": "event", "seen": 5000, "seconds": 90.0, "event": "alarm", "message": f"alarm {EVIL}"})
    folder.samples.mkdir()
    from PIL import Image

    for seen in (0, 5000):
        Image.new("RGB", (8, 8)).save(folder.samples / f"{seen:012d}.png")
    return tmp_path / "run"


def metrics() -> dict[str, Any]:
    number = {"value": 0.5, "low": 0.4, "high": 0.6, "floor": 0.1, "floor_low": 0.05, "floor_high": 0.2}
    names = ("frechet_distance", "kernel_distance", "precision", "recall", "density", "coverage")
    return {
        "extractor": "efficientnet-lite0@64",
        "counts": {"synthetic": 20, "holdout": 10},
        "overall": dict.fromkeys(names, number),
        "classes": {name: {"count": 10, "numbers": dict.fromkeys(names, number)} for name in CLASSES},
        "class_correctness": {
            "accuracy": 0.8,
            "holdout_accuracy": 0.9,
            "labels": list(CLASSES),
            "confusion": [[9, 1], [3, 7]],
        },
        "copies": {
            "flagged": 1,
            "checked": 20,
            "false_alarm_rate": 0.05,
            "honest_range": [0, 3],
            "threshold": 0.4,
        },
        "warnings": [f"few cells of {EVIL}"],
    }


REAL = 200
"""Grey level of everything real."""


def evidence() -> Evidence:
    real, made = (np.full((3, 32, 32, 3), level, np.uint8) for level in (REAL, 50))
    pair = Pair(made[0], real[0], EVIL, 7, "x.png", 0.5, True)
    return Evidence(
        dict.fromkeys(CLASSES, real),
        dict.fromkeys(CLASSES, made),
        (pair,),
        np.linspace(0.2, 1, 20),
        np.linspace(0.4, 1, 10),
        0.4,
    )


class Tags(HTMLParser):
    """What a browser would see."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def built(synthetic: Path, run: Path | None = None, **options: Any) -> str:
    page = build_report(
        synthetic.parent / "report.html", metrics(), evidence(), synthetic=synthetic, run=run, **options
    )
    return page.read_text(encoding="utf-8")


def pictures(text: str) -> list[tuple[np.ndarray, dict[str, str]]]:
    return [
        decode_png(base64.b64decode(data)) for data in re.findall(r"data:image/png;base64,([^\"]+)", text)
    ]


def test_sections_come_in_the_order_of_interest(synthetic: Path, run: Path) -> None:
    sections = re.findall(r'<section id="(\w+)"', built(synthetic, run))
    assert sections == ["glance", "sides", "numbers", "copies", "classes", "training", "again"]


def test_hostile_names_are_shown_as_text(synthetic: Path, run: Path) -> None:
    text = built(synthetic, run)
    seen = Tags(text)
    assert "script" not in seen.names
    assert not [name for name, _ in seen.attributes if name.startswith("on")]
    assert "".join(seen.text).count(EVIL) >= 5
    assert "49" not in re.sub(r"base64,[^\"]+", "", text).split("At a glance")[0]


def test_needs_no_network_and_runs_nothing(synthetic: Path, run: Path) -> None:
    text = built(synthetic, run)
    seen = Tags(text)
    for name, value in seen.attributes:
        if name in {"src", "href"}:
            assert value.startswith(("data:image/", "#")), value
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text
    assert not {"script", "iframe", "object", "embed", "link", "form"} & set(seen.names)


def test_every_link_inside_the_page_has_its_place(synthetic: Path, run: Path) -> None:
    seen = Tags(built(synthetic, run)).attributes
    places = {value for name, value in seen if name == "id"}
    assert {value[1:] for name, value in seen if name == "href"} <= places


def test_synthetic_pictures_carry_their_mark(synthetic: Path, run: Path) -> None:
    for image, marks in pictures(built(synthetic, run)):
        assert marks["Synthetic"] == ("false" if (image == REAL).any() else "true")


def test_says_that_real_cells_are_shown(synthetic: Path) -> None:
    assert "This page shows photographs of real cells" in built(synthetic)


def test_leaves_real_cells_out_on_request(synthetic: Path) -> None:
    text = built(synthetic, real_images=False)
    assert "No photograph of a real cell" in text
    assert pictures(text)
    for image, marks in pictures(text):
        assert marks["Synthetic"] == "true"
        assert not (image == REAL).any()


def test_does_not_tell_where_the_data_lie(synthetic: Path, run: Path) -> None:
    assert "/home/secret" not in built(synthetic, run)


def test_shows_alarms_of_the_training(synthetic: Path, run: Path) -> None:
    assert "alarm &lt;script&gt;" in built(synthetic, run)


def test_is_the_same_each_time(synthetic: Path, run: Path) -> None:
    assert built(synthetic, run) == built(synthetic, run)


def test_does_without_what_is_not_there(synthetic: Path, tmp_path: Path) -> None:
    page = build_report(
        tmp_path / "r.html", {}, Evidence(), synthetic=synthetic, run=tmp_path / "gone", audit=tmp_path
    )
    assert re.findall(r'<section id="(\w+)"', page.read_text()) == ["glance", "again"]


def test_needs_a_synthetic_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"manifest\.jsonl"):
        build_report(tmp_path / "r.html", {}, Evidence(), synthetic=tmp_path)
