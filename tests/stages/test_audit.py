from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image

from cytoforge.cli.main import run
from cytoforge.data.phantom.faults import FAULTS
from cytoforge.stages.audit import audit
from cytoforge.stages.phantom import phantom

EVIL = "<img src=x onerror=alert(1)>"


def pictures(root, label, count, rng, start=0):
    (root / label).mkdir(parents=True, exist_ok=True)
    for i in range(start, start + count):
        cells = np.kron(rng.integers(0, 255, (8, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
        Image.fromarray(cells).save(root / label / f"{i:02d}.png")


def by_check(found):
    return {finding.check: finding for finding in found.findings}


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for label in ("a", EVIL):
        pictures(tmp_path / "data", label, 6, rng)
    return tmp_path / "data"


def test_bad_files_are_listed_with_reasons(folder, tmp_path):
    good = (folder / "a" / "00.png").read_bytes()
    (folder / "a" / "zero.png").write_bytes(b"")
    (folder / "a" / "half.png").write_bytes(good[: len(good) // 2])
    Image.new("RGB", (1, 1)).save(folder / "a" / "dot.png")
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (40, 40, 4)).astype(np.uint8), "CMYK").save(
        folder / "a" / "cmyk.jpg"
    )
    finding = by_check(audit(folder, tmp_path / "out", extractor="none"))["unreadable files"]
    reasons = {shown.names[0]: shown.caption for shown in finding.shown}
    assert finding.tone == "bad"
    assert finding.numbers["unusable"] == 3
    assert "empty" in reasons["a/zero.png"]
    assert "damaged" in reasons["a/half.png"]
    assert {"a/dot.png", "a/cmyk.jpg"} <= set(reasons)


def test_names_are_escaped_and_the_page_asks_for_nothing(folder, tmp_path):
    copy = folder / EVIL / "<script>alert(2)<.png"
    copy.write_bytes((folder / "a" / "00.png").read_bytes())
    found = audit(folder, tmp_path / "out", extractor="none")
    page = (tmp_path / "out" / "audit.html").read_text()
    assert EVIL not in page
    assert "<script" not in page
    assert "&lt;script&gt;alert(2)&lt;.png" in page
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert by_check(found)["contradicting labels"].tone == "bad"
    assert "data:image/jpeg" in page


def test_a_page_without_pictures(folder, tmp_path):
    (folder / "a" / "copy.png").write_bytes((folder / "a" / "00.png").read_bytes())
    audit(folder, tmp_path / "out", extractor="none", pictures=False)
    page = (tmp_path / "out" / "audit.html").read_text()
    assert "image/jpeg" not in page
    assert "a/copy.png" in page


def test_a_class_with_one_image_blocks(tmp_path, capsys):
    rng = np.random.default_rng(0)
    pictures(tmp_path / "data", "a", 5, rng)
    pictures(tmp_path / "data", "b", 1, rng)
    code = run(
        ["audit", str(tmp_path / "data"), "--out", str(tmp_path / "out"), "--extractor", "none", "--json"]
    )
    assert code == 3
    facts = json.loads(capsys.readouterr().out)
    assert "fewer than two" in facts["blocking"][0]


def test_copies_across_a_published_split_block(tmp_path):
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        for label in ("a", "b"):
            pictures(tmp_path / "data" / part, label, 5, rng)
    clean = audit(tmp_path / "data", tmp_path / "out", extractor="none")
    assert by_check(clean)["leaks between parts"].tone == "good"
    assert not clean.blocking
    copy = Image.open(tmp_path / "data" / "train" / "a" / "02.png").transpose(Image.Transpose.ROTATE_90)
    copy.save(tmp_path / "data" / "test" / "a" / "stray.png")
    found = audit(tmp_path / "data", tmp_path / "out", extractor="none")
    assert [finding.check for finding in found.blocking] == ["leaks between parts"]
    assert set(found.blocking[0].shown[0].names) == {"train/a/02.png", "test/a/stray.png"}


def test_json_holds_what_the_report_needs(folder, tmp_path):
    audit(folder, tmp_path / "out", extractor="none")
    content = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert all(set(verdict) == {"tone", "headline", "because"} for verdict in content["verdicts"])
    assert content["facts"]["images"] == "12"


def test_a_seed_may_be_negative(folder, tmp_path):
    found = audit(folder, tmp_path / "out", extractor="none", seed=-1)
    assert "sharpness shortcut" in by_check(found)


def test_the_command_prints_and_exits_with_zero(folder, tmp_path, capsys):
    assert run(["audit", str(folder), "--out", str(tmp_path / "out"), "--extractor", "none"]) == 0
    assert "Every image can be read." in capsys.readouterr().out
    assert run(["split", str(folder), "--out", str(tmp_path / "out"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (
        facts["counts"]["train"]["cells"] + facts["counts"]["val"]["cells"] + facts["counts"]["test"]["cells"]
        == 12
    )
    assert run(["audit", str(tmp_path / "nowhere")]) == 2


def found_and_false(root, found):
    """Planted faults that were missed, and faultless cells that were flagged, by check."""
    truth = json.loads((root / "truth.json").read_text())
    flagged: dict[str, set[str]] = {}
    for finding in found.findings:
        if finding.tone in ("bad", "unsure"):
            for shown in finding.shown:
                for name in shown.names:
                    flagged.setdefault(name, set()).add(finding.check)
    planted: dict[str, set[str]] = {}
    missed: dict[str, list[list[str]]] = {}
    for fault, entry in truth["faults"].items():
        for case in entry["found_in"]:
            for name in case["files"]:
                planted.setdefault(name, set()).add(fault)
            if not set(case["files"]) <= flagged.keys():
                missed.setdefault(fault, []).append(case["files"])
    clean = len(truth["cells"]) - len(planted)
    false = {"any check": len(flagged.keys() - planted.keys()) / clean}
    for name, checks in flagged.items():
        if name not in planted:
            for check in checks:
                false[check] = false.get(check, 0) + 1 / clean
    return missed, false


def test_planted_faults_of_a_small_phantom(tmp_path):
    phantom(
        tmp_path / "data",
        per_class=30,
        size=96,
        seed=0,
        faults=["duplicate", "flipped", "recurring", "truncated", "leak"],
    )
    found = audit(tmp_path / "data", tmp_path / "out", extractor="none")
    missed, false = found_and_false(tmp_path / "data", found)
    assert not missed
    assert not {
        check: share
        for check, share in false.items()
        if check in ("copies", "recurring cells") and share > 0.01
    }
    assert [finding.check for finding in found.blocking] == ["leaks between parts"]


@pytest.mark.slow
def test_planted_faults_of_a_phantom_are_found_with_few_false_alarms(tmp_path):
    phantom(
        tmp_path / "data", per_class=200, size=96, seed=0, faults=[name for name in FAULTS if name != "leak"]
    )
    missed, false = found_and_false(tmp_path / "data", audit(tmp_path / "data", tmp_path / "out"))
    assert not missed
    assert max(false.values()) <= 0.01


@pytest.mark.slow
def test_real_sets(real_data, tmp_path):
    herlev = by_check(audit(real_data / "herlev", tmp_path / "herlev", extractor="none"))
    assert herlev["masks"].numbers["masks"] == 917
    assert herlev["masks"].numbers["without nucleus"] == 2
    found = audit(real_data / "sipakmed", tmp_path / "sipakmed")
    assert found.merged_groups < found.groups
    assert found.probe is not None
    assert found.probe.random > found.probe.grouped > found.probe.merged
    assert by_check(found)["recurring cells"].numbers["pairs"] >= 128
    assert by_check(found)["sharpness shortcut"].tone == "unsure"
    assert by_check(found)["size shortcut"].tone == "unsure"
