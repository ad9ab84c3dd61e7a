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
from cytoforge.core.files import write_json
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
        "base": "/home/secret/first run",
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


def part_share(fake: float, differs: bool) -> dict[str, Any]:
    return {
        **{"n_real": 30, "n_fake": 80, "real": 0.9, "fake": fake, "floor_high": None},
        **{"p_value": 0.01, "differs": differs},
    }


def measurement(distance: float) -> dict[str, Any]:
    return {
        "n_real": 10, "n_fake": 20, "real": (1.0, 2.0, 3.0), "fake": (2.0, 3.0, 4.0), "wasserstein": distance,
        "floor": 0.2, "floor_high": 0.4, "ks": 0.5, "p_value": 0.01, "differs": distance > 0.4,
    }  # fmt: skip


def metrics() -> dict[str, Any]:
    number = {"value": 0.5, "low": 0.4, "high": 0.6, "floor": 0.1, "floor_low": 0.05, "floor_high": 0.2}
    names = ("frechet_distance", "kernel_distance", "precision", "recall", "density", "coverage")
    share = {"value": 0.8, "low": 0.7, "high": 0.9, "count": 10}
    closest = {"file": "x.png", "label": EVIL, "seed": 7, "train": EVIL, "score": 0.2, "p_value": 0.05}
    return {
        "extractor": "efficientnet-lite0@64",
        "resolution": 32,
        "k": 5,
        "split_sha256": "5" * 64,
        "manifest_sha256": "6" * 64,
        "counts": {"synthetic": 20, "holdout": 10, "train": 30, "real": 50},
        "overall": dict.fromkeys(names, number),
        "sizes": {"real": 10, "fake": 20},
        "collapse": None,
        "classes": {
            name: {"count": 10, "n_real": 5, "n_fake": 10, "numbers": dict.fromkeys(names, number)}
            for name in CLASSES
        },
        "class_correctness": {
            "accuracy": 0.8,
            "low": 0.7,
            "high": 0.9,
            "holdout_accuracy": 0.9,
            "holdout_low": 0.8,
            "holdout_high": 0.95,
            "labels": list(CLASSES),
            "confusion": [[9, 1], [3, 7]],
            "holdout_confusion": [[5, 0], [0, 5]],
            "classes": dict.fromkeys(CLASSES, share),
            "holdout_classes": dict.fromkeys(CLASSES, share),
        },
        "copies": {
            "found": True,
            "checked": 20,
            "flagged": 1,
            "false_alarm_rate": 0.05,
            "threshold": 0.4,
            "share": 0.05,
            "low": 0.01,
            "high": 0.2,
            "honest_low": 0,
            "honest_high": 3,
            "p_value": 0.6,
            "exchanged_flagged": 1,
            "exchanged_p_value": 0.75,
            "train": 30,
            "holdout": 10,
            "share_nearer_to_train": 0.52,
            "nearer_low": 0.4,
            "nearer_high": 0.6,
            "authenticity": 0.7,
            "honest_authenticity": 0.71,
            "holdout_repeats": 0.0,
            "classes": {
                name: {"flagged": row, "checked": 10, "exchanged": 2} for row, name in enumerate(CLASSES)
            },
            "closest": [{**closest, "view": "as it is", "flagged": True}],
        },
        "morphometry": {
            "source": "given",
            "classes": {
                name: {"nc_ratio": measurement(2.0), "nucleus_area": measurement(0.1)} for name in CLASSES
            },
            "parts": {CLASSES[0]: {"nucleus": part_share(0.25, True), "cytoplasm": part_share(1.0, False)}},
        },
        "verdicts": [
            {"topic": topic, "tone": tone, "headline": f"about {topic}", "because": EVIL}
            for topic, tone in (
                ("realism", "bad"),
                ("classes", "unsure"),
                ("copies", "good"),
                ("note", "note"),
            )
        ],
        "warnings": [f"few cells of {EVIL}"],
        "rules": {"copies": f"a rule about {EVIL}"},
    }


def bare() -> dict[str, Any]:
    """As little as an evaluation can say."""
    return {
        **metrics(),
        "overall": {},
        "classes": {},
        "copies": None,
        "class_correctness": None,
        "morphometry": None,
        "verdicts": [],
        "warnings": [],
        "rules": {},
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
    assert sections == ["glance", "sides", "numbers", "copies", "classes", "cells", "training", "again"]


def test_tells_which_measurements_differ(synthetic: Path) -> None:
    text = built(synthetic)
    assert "N:C ratio" in text
    assert text.count("1 of 2 measurements differ from unseen real cells") == len(CLASSES)
    assert text.index("N:C ratio") < text.index("nucleus: area")  # the farthest first


def test_tells_how_many_cells_have_each_part(synthetic: Path) -> None:
    text = " ".join(" ".join(Tags(built(synthetic)).text).split())
    rows = "nucleus 90 % of 30 25 % of 80 [^a-z]*differs cytoplasm 90 % of 30 100 % of 80"
    assert re.search(f"cells with unseen real synthetic {rows}", text)
    assert text.count("cells with unseen real") == 1, "only of the class that has such numbers"


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
    assert "This page shows images of the real data set" in built(synthetic)


def test_leaves_real_cells_out_on_request(synthetic: Path) -> None:
    text = built(synthetic, real_images=False)
    assert "No image of the real data set" in text
    assert pictures(text)
    for image, marks in pictures(text):
        assert marks["Synthetic"] == "true"
        assert not (image == REAL).any()


def test_does_not_tell_where_the_data_lie(synthetic: Path, run: Path) -> None:
    page = built(synthetic, run)
    assert "/home/secret" not in page
    assert ">first run<" in page


def test_shows_alarms_of_the_training(synthetic: Path, run: Path) -> None:
    assert "alarm &lt;script&gt;" in built(synthetic, run)


def test_is_the_same_each_time(synthetic: Path, run: Path) -> None:
    assert built(synthetic, run) == built(synthetic, run)


def test_does_without_what_is_not_there(synthetic: Path, tmp_path: Path) -> None:
    page = build_report(tmp_path / "r.html", bare(), Evidence(), synthetic=synthetic, run=tmp_path / "gone")
    assert re.findall(r'<section id="(\w+)"', page.read_text()) == ["glance", "again"]
    with pytest.raises(DataError, match=r"audit\.json does not exist"):
        built(synthetic, audit=tmp_path)


def test_shows_what_the_audit_found(synthetic: Path, tmp_path: Path) -> None:
    verdict = {"tone": "bad", "headline": f"9 cells recur {EVIL}", "because": "see the audit"}
    write_json(tmp_path / "audit.json", {"verdicts": [verdict], "facts": {"cells": 4049}})
    text = built(synthetic, audit=tmp_path)
    assert "9 cells recur &lt;script&gt;" in text
    assert "<dt>cells</dt><dd>4049</dd>" in text
    write_json(tmp_path / "audit.json", {"other": 1})
    assert 'id="audit"' not in built(synthetic, audit=tmp_path)


def test_repeats_verdicts_where_they_belong(synthetic: Path) -> None:
    text = built(synthetic)
    assert text.count("about realism") == 1
    assert text.count("about copies") == 2
    assert text.count("about classes") == 2


def test_needs_a_synthetic_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"manifest\.jsonl"):
        build_report(tmp_path / "r.html", bare(), Evidence(), synthetic=tmp_path)
