from __future__ import annotations

import json

import numpy as np
import pytest

from cytoforge.core.files import sha256_file
from cytoforge.exports.dicom import PRIVATE, PRIVATE_CREATOR, PRIVATE_GROUP, SECONDARY_CAPTURE, write_dicom

pydicom = pytest.importorskip("pydicom")


@pytest.fixture(scope="module")
def files(opened, tmp_path_factory):
    out = tmp_path_factory.mktemp("dicom")
    write_dicom(opened, out)
    return {path.relative_to(out).with_suffix(".png").as_posix(): path for path in out.rglob("*.dcm")}


def test_pydicom_reads_every_file_and_every_file_is_marked(opened, files) -> None:
    assert set(files) == {entry.file for entry in opened.images}
    for entry in opened.images:
        data = pydicom.dcmread(files[entry.file])  # strict: not force
        assert data[0x0008, 0x001C].value == data.SyntheticData == "YES"
        assert data.ConversionType == "SYN"
        assert data.SOPClassUID == data.file_meta.MediaStorageSOPClassUID == SECONDARY_CAPTURE
        assert data.SOPInstanceUID == data.file_meta.MediaStorageSOPInstanceUID
        assert np.array_equal(data.pixel_array, opened.pixels(entry))
        block = data.private_block(PRIVATE_GROUP, PRIVATE_CREATOR)
        stated = {name: block[element].value for name, (element, _) in PRIVATE.items()}
        assert (stated["class"], stated["seed"]) == (entry.label, str(entry.seed))
        assert json.loads(stated["origin"])["synthetic"] is True


def test_every_value_is_valid_by_pydicom(files, monkeypatch) -> None:
    monkeypatch.setattr(pydicom.config.settings, "reading_validation_mode", pydicom.config.RAISE)
    for path in files.values():
        assert all(element.VR for element in pydicom.dcmread(path).iterall())


def test_the_modules_of_secondary_capture_are_complete(files) -> None:
    """Types 1 and 2 of every mandatory module, by the tables of the standard that highdicom carries."""
    pytest.importorskip("highdicom")
    from highdicom._standard_utils import get_iod_module_map, get_module_attribute_map, get_sop_class_iod_map

    modules = get_iod_module_map()[get_sop_class_iod_map()[SECONDARY_CAPTURE]]
    mandatory = [module["key"] for module in modules if module["usage"] == "M"]
    assert {"patient", "general-study", "general-series", "sc-equipment", "sop-common"} <= set(mandatory)
    data = pydicom.dcmread(next(iter(files.values())))
    for module in mandatory:
        for attribute in get_module_attribute_map()[module]:
            if attribute["path"] or attribute["type"] not in ("1", "2"):
                continue
            assert attribute["keyword"] in data, (module, attribute)
            if attribute["type"] == "1":
                assert data[attribute["keyword"]].value not in ("", None), (module, attribute)


def test_nobody_is_in_it_and_nothing_of_this_machine(opened, files) -> None:
    for path in files.values():
        data = pydicom.dcmread(path)
        assert str(data.PatientName) == "Synthetic^Cells"
        assert data.PatientID.startswith("SYNTHETIC-")
        assert not data.PatientBirthDate
        assert not data.PatientSex
        assert not data.StudyDate
        assert not [element for element in data if element.VR in ("DA", "TM", "DT") and element.value]
        assert b"secret" not in path.read_bytes()


def test_uids_derive_from_the_set(opened, files, tmp_path) -> None:
    data = [pydicom.dcmread(path) for path in files.values()]
    assert len({item.SOPInstanceUID for item in data}) == len(data)
    assert len({item.StudyInstanceUID for item in data}) == 1
    assert len({item.SeriesInstanceUID for item in data}) == len(opened.header.classes)
    assert all(pydicom.uid.UID(item.SOPInstanceUID).is_valid for item in data)
    write_dicom(opened, tmp_path)
    name = opened.images[3].file
    assert sha256_file((tmp_path / name).with_suffix(".dcm")) == sha256_file(files[name])
