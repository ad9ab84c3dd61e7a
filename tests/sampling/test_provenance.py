"""Whatever is changed in a set, `verify` finds it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cytoforge.core.errors import DataError
from cytoforge.core.files import sha256_bytes
from cytoforge.core.png import decode_png, encode_png
from cytoforge.core.run import Run
from cytoforge.sampling.generate import generate
from cytoforge.sampling.provenance import class_folders, image_file, read_manifest, verify
from cytoforge.sampling.sealed import MANIFEST

LABELS = ("Koilocytotic", "Zürich π")


@pytest.fixture
def synthetic(make_run: Callable[..., Run], tmp_path: Path) -> Path:
    wanted = [(name, seed) for name in LABELS for seed in range(2)]
    generate(make_run(classes=LABELS), tmp_path / "my set é", wanted)
    return tmp_path / "my set é"


def reasons(folder: Path) -> dict[str, str]:
    return {problem.file: problem.reason for problem in verify(folder)}


def reseal(folder: Path, change: Callable[[dict[str, object]], None]) -> None:
    """Change lines of the manifest and make its seal fit again, as a careful liar would."""
    lines = [json.loads(line) for line in (folder / MANIFEST).read_text().splitlines()][:-1]
    for line in lines:
        change(line)
    body = "".join(json.dumps(line) + "\n" for line in lines)
    seal = {"kind": "seal", "lines": len(lines), "sha256": sha256_bytes(body.encode())}
    (folder / MANIFEST).write_text(body + json.dumps(seal) + "\n")


IMAGE = "Koilocytotic/Koilocytotic_00000000.png"


class TestVerify:
    def test_an_untouched_set_has_no_problems(self, synthetic: Path) -> None:
        assert verify(synthetic) == []

    def test_finds_every_changed_byte(
        self, synthetic: Path, damages: Callable[[Path], Iterator[str]]
    ) -> None:
        for damage in damages(synthetic):
            assert reasons(synthetic), damage
        assert verify(synthetic) == []

    def test_finds_missing_and_extra_files(self, synthetic: Path) -> None:
        (synthetic / IMAGE).rename(synthetic / "Koilocytotic" / "copy.png")
        assert reasons(synthetic) == {
            IMAGE: "it is missing",
            "Koilocytotic/copy.png": "the manifest does not name it",
        }

    @pytest.mark.parametrize("name", ["manifest.jsonl", "CARD.md", "contact.png", "interpolation.png"])
    def test_finds_missing_companions(self, synthetic: Path, name: str) -> None:
        (synthetic / name).unlink()
        assert name in reasons(synthetic)

    @pytest.mark.parametrize("mark", ["Synthetic", "Generator", "Seed", "Class", "Config-SHA256", "Software"])
    def test_finds_a_missing_mark_though_hashes_fit(self, synthetic: Path, mark: str) -> None:
        image, marks = decode_png((synthetic / IMAGE).read_bytes())
        marks.pop("Pixels-SHA256")
        marks.pop(mark)
        content = encode_png(image, marks)
        (synthetic / IMAGE).write_bytes(content)
        reseal(
            synthetic,
            lambda line: line.update(sha256=sha256_bytes(content)) if line.get("file") == IMAGE else None,
        )
        assert reasons(synthetic) == {IMAGE: f'its mark "{mark}" is missing'}

    def test_finds_swapped_pixels_though_hashes_fit(self, synthetic: Path) -> None:
        first, second = (synthetic / image_file({"K": "Koilocytotic"}, "K", seed) for seed in (0, 1))
        content = second.read_bytes()
        first.write_bytes(content)
        reseal(
            synthetic,
            lambda line: line.update(sha256=sha256_bytes(content)) if line.get("file") == IMAGE else None,
        )
        assert 'mark "Seed"' in reasons(synthetic)[IMAGE]

    def test_finds_an_unmarked_picture_of_another_format(self, synthetic: Path) -> None:
        Image.new("L", (4, 4)).save(synthetic / "Koilocytotic" / "cell.bmp")
        assert reasons(synthetic) == {"Koilocytotic/cell.bmp": "the manifest does not name it"}

    @pytest.mark.parametrize("file", ["../outside.png", "/etc/passwd", "Koilocytotic/../../x.png"])
    def test_never_reads_outside_the_set(self, synthetic: Path, file: str) -> None:
        reseal(synthetic, lambda line: line.update(file=file) if line.get("file") == IMAGE else None)
        assert "not where class" in reasons(synthetic)[file]

    def test_does_not_follow_links(self, synthetic: Path, tmp_path: Path) -> None:
        outside = tmp_path / "outside.png"
        (synthetic / IMAGE).rename(outside)
        (synthetic / IMAGE).symlink_to(outside)
        assert reasons(synthetic) == {IMAGE: "it is missing"}

    def test_finds_an_image_that_is_named_twice(self, synthetic: Path) -> None:
        lines = (synthetic / MANIFEST).read_text().splitlines()[:-1]
        body = "".join(line + "\n" for line in [*lines, lines[1]])
        seal = {"kind": "seal", "lines": len(lines) + 1, "sha256": sha256_bytes(body.encode())}
        (synthetic / MANIFEST).write_text(body + json.dumps(seal) + "\n")
        assert "twice" in reasons(synthetic)[IMAGE]

    @pytest.mark.parametrize("content", [b"", b"\n", b"{}\n", b"not json\n", b"[1]\n[2]\n", b"\xff\xfe\n"])
    def test_a_broken_manifest_is_a_problem_not_a_crash(self, synthetic: Path, content: bytes) -> None:
        (synthetic / MANIFEST).write_bytes(content)
        assert list(reasons(synthetic)) == [MANIFEST]

    def test_a_missing_folder_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="not a folder"):
            verify(tmp_path / "nothing")
        with pytest.raises(DataError, match=MANIFEST):
            read_manifest(tmp_path)


class TestClassFolders:
    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.text(max_size=90), min_size=1, max_size=8, unique=True))
    def test_are_different_safe_and_short(self, classes: list[str]) -> None:
        try:
            "".join(classes).encode()
        except UnicodeEncodeError:
            return
        folders = class_folders(classes)
        assert len({folder.casefold() for folder in folders.values()}) == len(classes)
        for folder in folders.values():
            assert 0 < len(folder.encode()) <= 60
            assert not set(folder) & set('/\\:*?"<>|\0\n')
            assert folder[0] not in ". "
            assert folder[-1] not in ". "
            assert folder.casefold() not in {"masks", "manifest.jsonl", "card.md", "contact.png"}

    def test_keep_ordinary_names(self) -> None:
        names = ["Superficial-Intermediate", "carcinoma in situ", "Zürich", "NILM_2.1"]
        assert class_folders(names) == {name: name for name in names}

    def test_escape_what_file_systems_and_browsers_mind(self) -> None:
        folders = class_folders(["<script>", "../up", "a/b", "CON.txt", "masks", "", "x" * 300])
        assert folders["<script>"] == "%3Cscript%3E"
        assert folders["../up"] == "%2E.%2Fup"
        assert folders["CON.txt"].startswith("CON.txt~")
        assert folders["masks"].startswith("masks~")
        assert folders[""].startswith("~")
