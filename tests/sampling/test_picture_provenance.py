"""Translated and drawn pictures are marked, listed and checked like sets."""

import json

import numpy as np
import pytest

from cytoforge.core.errors import ConfigError, DataError
from cytoforge.core.files import sha256_file
from cytoforge.core.png import decode_png, encode_png
from cytoforge.sampling.picture_provenance import Origin, PictureFolder, read_pictures
from cytoforge.sampling.provenance import read_manifest
from cytoforge.sampling.sealed import MANIFEST
from cytoforge.stages.verify import verify

ORIGIN = Origin(command="translate", marks={"Generator": "cyclegan"}, facts={"into": "blue"})
PIXELS = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)


@pytest.fixture
def folder(tmp_path):
    pictures = PictureFolder(tmp_path / "out é", ORIGIN)
    pictures.draw("blue/a.png", PIXELS, {"Class": "blue"})
    pictures.draw("all.png", PIXELS)
    pictures.add_json("translate.json", {"images": 1})
    pictures.seal()
    return pictures.path


def reasons(folder):
    return {problem.file: problem.reason for problem in verify(folder)}


def test_an_untouched_folder_is_whole_and_its_pictures_say_what_they_are(folder):
    assert verify(folder) == []
    pixels, text = decode_png((folder / "blue" / "a.png").read_bytes())
    np.testing.assert_array_equal(pixels, PIXELS)
    assert text["Synthetic"] == "true"
    assert text["Software"].startswith("cytoforge ")
    assert (text["Generator"], text["Class"]) == ("cyclegan", "blue")
    assert json.loads((folder / MANIFEST).read_text().splitlines()[0])["synthetic"] is True


def test_every_changed_byte_missing_and_extra_file_is_found(folder, damages):
    for damage in damages(folder):
        assert reasons(folder), damage
    assert verify(folder) == []
    (folder / "blue" / "a.png").rename(folder / "blue" / "b.png")
    assert reasons(folder) == {
        "blue/a.png": "it is missing",
        "blue/b.png": "the manifest does not name it",
    }


def test_a_picture_without_marks_is_found_though_its_hash_fits(folder):
    pictures = PictureFolder(folder, ORIGIN)
    (folder / "all.png").write_bytes(encode_png(PIXELS, {"Generator": "cyclegan"}))
    pictures._noted("all.png", sha256_file(folder / "all.png"), {})
    pictures.seal()
    assert reasons(folder) == {"all.png": 'its mark "Synthetic" is missing'}


def test_the_same_origin_adds_and_another_is_refused(folder, tmp_path):
    again = PictureFolder(folder, ORIGIN)
    again.draw("blue/b.png", PIXELS, {"Class": "blue"})
    again.seal()
    assert verify(folder) == []
    assert len(read_pictures(folder)[1]) == 4
    with pytest.raises(ConfigError, match="made otherwise"):
        PictureFolder(folder, ORIGIN.model_copy(update={"facts": {"into": "red"}}))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not an empty folder"):
        PictureFolder(tmp_path / "mine", ORIGIN)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_what_was_interrupted_is_seen_and_can_go_on(tmp_path):
    PictureFolder(tmp_path, ORIGIN).draw("a.png", PIXELS)
    assert reasons(tmp_path) == {"a.png": "the manifest does not name it"}
    again = PictureFolder(tmp_path, ORIGIN)
    again.draw("a.png", PIXELS)
    again.seal()
    assert verify(tmp_path) == []


def test_pictures_are_no_set(folder):
    with pytest.raises(DataError, match="translated or drawn pictures"):
        read_manifest(folder)
