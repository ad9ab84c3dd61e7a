"""DICOM: one Secondary Capture image for each synthetic cell, marked as synthetic three times.

* Synthetic Data (0008,001C) is YES, the standard's own mark.
* Conversion Type (0008,0064) is SYN, "synthetic image"; Secondary Capture is the SOP class that claims no
  microscope.
* A private block "CYTOFORGE" holds class, seed and the hashes that identify the generator.

There is no patient: the name says so, the identifier derives from the set's manifest, dates and all else are
empty. UIDs derive from the manifest too, so the same set gives the same files.

Reference:
    DICOM PS3.3, A.8.1 (Secondary Capture Image IOD) and C.12.1 (SOP Common Module).
    PS3.5, B.2 (UIDs from UUIDs).
"""

from __future__ import annotations

import io
import json
import re
import uuid
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cytoforge.core.errors import ConfigError
from cytoforge.core.files import write_atomic
from cytoforge.core.png import encode_png, pixel_hash
from cytoforge.core.progress import progress
from cytoforge.exports.cards import data_card
from cytoforge.exports.synthetic_set import SyntheticSet, copy_origin, first_of_each
from cytoforge.sampling.pictures import labelled_rows
from cytoforge.sampling.provenance import Entry, set_marks

if TYPE_CHECKING:
    from pydicom.dataset import Dataset, FileDataset

PRIVATE_GROUP = 0x0009
PRIVATE_CREATOR = "CYTOFORGE"
PRIVATE = {"class": (0x01, "UT"), "seed": (0x02, "LO"), "origin": (0x03, "UT"), "pixels_sha256": (0x04, "LO")}
"""Name -> element and value representation in the private block."""

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
_NAMESPACE = uuid.UUID("6d7f3b1e-6f0c-5c57-9a0b-3f6d2c0e8a41")
_LONG_STRING = 64


def write_dicom(opened: SyntheticSet, out: Path) -> list[Path]:
    """Write `<class>/<class>_<seed>.dcm`, a picture of what was read back, and the card.

    One study holds the set, one series each class.

    Raises:
        ConfigError: pydicom is not installed.
    """
    pydicom = _library()
    numbers = dict.fromkeys(opened.header.classes, 0)
    shown: dict[str, list[NDArray[np.uint8]]] = {name: [] for name in opened.header.classes}
    files = []
    with progress("DICOM files", len(opened.images)) as advance:
        for entry in opened.images:
            numbers[entry.label] += 1
            path = out / Path(entry.file).with_suffix(".dcm")
            write_atomic(path, _file(pydicom, opened, entry, numbers[entry.label]))
            if numbers[entry.label] <= 8:
                shown[entry.label].append(pydicom.dcmread(path).pixel_array)
            files.append(path)
            advance(1)
    picture = labelled_rows(first_of_each(shown))
    write_atomic(out / "contents.png", encode_png(picture, set_marks(opened.header)))
    write_atomic(out / "README.md", data_card(opened))
    copy_origin(opened, out)
    return [files[0], out / "README.md"]


def derived_uid(*parts: str) -> str:
    """A UID that is the same for the same parts, under the root for UUIDs.

    Example:
        >>> derived_uid("a", "b") == derived_uid("a", "b") != derived_uid("a", "c")
        True
        >>> derived_uid("a").startswith("2.25.") and len(derived_uid("a")) <= 64
        True
    """
    return f"2.25.{uuid.uuid5(_NAMESPACE, json.dumps(parts)).int}"


def long_string(text: str) -> str:
    r"""Text as the value representation LO takes it: no backslash, no control characters, 64 characters.

    Example:
        >>> long_string("a\\b\n c")
        'a/b c'
    """
    plain = re.sub(r"[\x00-\x1f\x7f]+", " ", text.replace("\\", "/"))
    return " ".join(plain.split())[:_LONG_STRING].strip()


def _library() -> ModuleType:
    try:
        import pydicom
    except ImportError as error:
        raise ConfigError("DICOM needs pydicom: pip install 'cytoforge[export]'.") from error
    library: ModuleType = pydicom
    return library


def _file(pydicom: ModuleType, opened: SyntheticSet, entry: Entry, number: int) -> bytes:
    """One whole file."""
    from pydicom.dataset import FileDataset, FileMetaDataset

    instance = derived_uid(opened.sha256, "instance", entry.file)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SECONDARY_CAPTURE
    meta.MediaStorageSOPInstanceUID = instance
    meta.TransferSyntaxUID = _EXPLICIT_LITTLE_ENDIAN
    meta.ImplementationClassUID = derived_uid("implementation")
    meta.ImplementationVersionName = f"CYTOFORGE{version('cytoforge')}"[:16]
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = SECONDARY_CAPTURE
    dataset.SOPInstanceUID = instance
    dataset.SyntheticData = "YES"
    _no_patient(dataset, opened)
    _series(dataset, opened, entry)
    _image(dataset, opened, entry, number)
    _private(dataset, opened, entry)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def _no_patient(dataset: Dataset, opened: SyntheticSet) -> None:
    """Patient and study: nobody, at no time."""
    dataset.PatientName = "Synthetic^Cells"
    dataset.PatientID = f"SYNTHETIC-{opened.sha256[:16]}"
    dataset.PatientBirthDate = dataset.PatientSex = ""
    dataset.PatientComments = "No patient: all images were computed by a generator."
    dataset.StudyInstanceUID = derived_uid(opened.sha256, "study")
    dataset.StudyDate = dataset.StudyTime = dataset.AccessionNumber = ""
    dataset.ReferringPhysicianName = ""
    dataset.StudyID = "SYNTHETIC"
    dataset.StudyDescription = "Synthetic cells, not for diagnosis"


def _series(dataset: Dataset, opened: SyntheticSet, entry: Entry) -> None:
    """One for each class, by the equipment that is this program."""
    header = opened.header
    dataset.Modality = "OT"
    dataset.SeriesInstanceUID = derived_uid(opened.sha256, "series", entry.label)
    dataset.SeriesNumber = header.classes.index(entry.label) + 1
    dataset.SeriesDescription = long_string(f"SYNTHETIC {entry.label}")
    dataset.Manufacturer = "cytoforge"
    dataset.ManufacturerModelName = long_string(header.method)
    dataset.SoftwareVersions = long_string(header.generator)
    dataset.ConversionType = "SYN"


def _image(dataset: Dataset, opened: SyntheticSet, entry: Entry, number: int) -> None:
    pixels = opened.pixels(entry)
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.InstanceNumber = number
    dataset.PatientOrientation = ""
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"
    dataset.ImageComments = "SYNTHETIC: computed by a generative model, not a photograph of a patient's cell."
    dataset.DerivationDescription = f"Generated by {opened.header.method} from seed {entry.seed}."
    dataset.SamplesPerPixel = 3
    dataset.PhotometricInterpretation = "RGB"
    dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelRepresentation = 0
    content = pixels.tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset["PixelData"].VR = "OB"


def _private(dataset: FileDataset, opened: SyntheticSet, entry: Entry) -> None:
    block = dataset.private_block(PRIVATE_GROUP, PRIVATE_CREATOR, create=True)
    values = {
        "class": entry.label,
        "seed": str(entry.seed),
        "origin": json.dumps(opened.facts()),
        "pixels_sha256": pixel_hash(opened.pixels(entry)),
    }
    for name, (element, kind) in PRIVATE.items():
        block.add_new(element, kind, values[name])
