"""How public data sets lie on disk: one function for each layout, from a root to its cells."""

from __future__ import annotations

import csv
import json
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from cytoforge.core.errors import DataError
from cytoforge.core.files import read_json
from cytoforge.data.archive import archive_parts
from cytoforge.data.cells import Cell, Fault, Part
from cytoforge.data.images import EXTENSIONS

PARTS: Mapping[str, Part] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
# fmt: off
_FOREIGN = frozenset({
    ".gif", ".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".svg", ".eps", ".pdf", ".psd", ".ico", ".dcm",
    ".svs", ".ndpi", ".mrxs", ".czi", ".lif", ".raw", ".nef", ".cr2", ".ppm", ".pgm", ".pbm", ".npy",
})
# fmt: on
_MASK_BELOW = re.compile(r"masks/(.+/.+)")
_MASK_BESIDE = re.compile(r"(.+?)[-_.]mask", re.IGNORECASE)
_HERLEV = re.compile(r"(\d+)-(\d+)-(\d+)")
_SIPAKMED = re.compile(r"(\d+)_(\d+)")
_METADATA = ("metadata.csv", "metadata.jsonl")
SUMMARY = "masks.json"
"""Groups and split of each image of a paired folder, written by `cytoforge mask`."""


@dataclass(frozen=True)
class Found:
    """What a layout found: cells in any order, and files that cannot be used."""

    cells: list[Cell]
    faults: list[Fault]


def folders(root: Path) -> Found:
    """One folder per class; `train/`, `val/` and `test/` above the classes are kept as split.

    A mask lies beside its image as `<stem>_mask.<extension>`, or as in a synthetic set at
    `masks/<class>/<stem>.<extension>`. Each image is a group of its own.
    """
    files, faults = _image_files(root)
    images, masks, orphans = _split_off_masks(files, [fault.path for fault in faults])
    faults += [Fault(path, "mask without an image of the same name") for path in orphans]
    cells = [
        replace(cell, mask=masks.get(str(PurePosixPath(cell.name).with_suffix(""))))
        for cell in _in_class_folders(images, faults)
    ]
    return Found(cells, faults)


def _in_class_folders(images: Mapping[str, Path], faults: list[Fault]) -> list[Cell]:
    """A cell without mask for each image in a class folder; others are added to `faults`.

    Folders such as `train/` and `test/` on top are a split where nothing but them is there, or two of them.
    """
    tops = {parts[0].lower() for name in images if len(parts := PurePosixPath(name).parts) > 1}
    split_on_top = bool(tops) and (tops <= PARTS.keys() or len(tops & PARTS.keys()) > 1)
    cells = []
    for name, path in images.items():
        parts = PurePosixPath(name).parts
        if len(parts) < 2 + split_on_top or (split_on_top and parts[0].lower() not in PARTS):
            faults.append(Fault(path, "lies outside any class folder; move it into one"))
            continue
        split = PARTS[parts[0].lower()] if split_on_top else None
        cells.append(Cell(path, parts[int(split_on_top)], name, name, split))
    return cells


def sipakmed(root: Path) -> Found:
    """`im_<Class>/im_<Class>/CROPPED/NNN_MM.bmp` (or .png); the photo NNN of a class is the group.

    Contours are read from `CROPPED/NNN_MM_cyt.dat` and `_nuc.dat`, or from `NNN_cytMM.dat` and
    `NNN_nucMM.dat` beside the photo. Whole photos (`NNN.bmp`) hold many cells and are listed as not used.
    """
    files, faults = _image_files(root)
    cells = []
    for name, path in files.items():
        crop = _SIPAKMED.fullmatch(path.stem)
        label = _sipakmed_class(PurePosixPath(name))
        if label is None:
            faults.append(Fault(path, "lies outside any im_<Class> folder"))
        elif crop is not None and path.parent.name.upper() == "CROPPED":
            mask = _sipakmed_contour(path, crop[1], crop[2])
            cells.append(Cell(path, label, f"{label}/{crop[1]}", name, None, mask))
        elif path.stem.isdigit():
            faults.append(Fault(path, "whole photo, not a single cell: left out, its crops are used"))
        else:
            faults.append(Fault(path, "name is not NNN_MM in a CROPPED folder"))
    return Found(cells, faults)


def herlev(root: Path) -> Found:
    """As published, `<class>/<slide>-<photo>-<cell>.BMP` with its segmentation `...-d.bmp`, or `paired`.

    The slide is the group, or what `masks.json` says. In pairs, `images/<class>/<slide>-<photo>-<cell>.png`,
    masks have the same name.
    """
    found = paired(root) if (root / "images").is_dir() else _herlev_published(root)
    stated = _stated_cells(root / SUMMARY)
    cells, faults = [], found.faults
    for cell in found.cells:
        match = _HERLEV.fullmatch(cell.path.stem)
        if match is None:
            faults.append(Fault(cell.path, "name is not <slide>-<photo>-<cell>"))
        else:
            cells.append(cell if _plain(cell.name) in stated else replace(cell, group=match[1]))
    return Found(cells, faults)


def _herlev_published(root: Path) -> Found:
    """Class folders of pictures with their segmentation beside them; `train/` and the like above are kept."""
    files, faults = _image_files(root)
    masks = {path.with_name(path.stem[:-2]): path for path in files.values() if path.stem.endswith("-d")}
    segmentations = set(masks.values())
    pictures = _in_class_folders(
        {name: path for name, path in files.items() if path not in segmentations}, faults
    )
    cells = []
    for cell in pictures:
        mask = masks.pop(cell.path.with_suffix(""), None)
        if mask is None and _HERLEV.fullmatch(cell.path.stem):
            faults.append(Fault(cell.path, f"no segmentation {cell.path.stem}-d.bmp beside it", used=True))
        cells.append(replace(cell, mask=mask))
    faults += [Fault(path, "segmentation without a picture of the same name") for path in masks.values()]
    return Found(cells, faults)


def paired(root: Path) -> Found:
    """`images/<class>/...` with `masks/<class>/...` of the same stems.

    In a phantom (`truth.json` lies beside) names are `<photo>_<cell>` and the photo of a class is the group;
    elsewhere each image is a group of its own. What `cytoforge mask` wrote keeps groups and split in
    `masks.json`.
    """
    stated = _stated_cells(root / SUMMARY)
    files, faults = _image_files(root / "images")
    mask_files, mask_faults = _image_files(root / "masks") if (root / "masks").is_dir() else ({}, [])
    masks = {str(PurePosixPath(name).with_suffix("")): path for name, path in mask_files.items()}
    photos = (root / "truth.json").is_file()
    cells = []
    for name, path in files.items():
        relative = PurePosixPath(name)
        if len(relative.parts) < 2:
            faults.append(Fault(path, "lies outside any class folder; move it into one"))
            continue
        label, mask = relative.parts[0], masks.pop(str(relative.with_suffix("")), None)
        if mask is None and mask_files:
            faults.append(Fault(path, f"no mask at masks/{relative.with_suffix('')}.*", used=True))
        group = f"{label}/{path.stem.rpartition('_')[0] or path.stem}" if photos else name
        known = stated.get(_plain(f"images/{name}"))
        if stated and known is None:
            faults.append(Fault(path, f"not in {SUMMARY}: a group of its own", used=True))
        group, split = known or (group, None)
        cells.append(Cell(path, label, group, f"images/{name}", split, mask))
    faults += [Fault(path, "mask without an image of the same name") for path in masks.values()]
    return Found(cells, faults + mask_faults)


def _stated_cells(path: Path) -> dict[str, tuple[str, Part | None]]:
    """Group and split of each image by a `masks.json`, by `_plain` name; nothing where there is none.

    Raises:
        DataError: it cannot be read, or belongs to a search that was interrupted.
    """
    if not path.is_file():
        return {}
    content = read_json(path)
    try:
        if content.get("unfinished"):
            raise DataError(f"{path.parent}: the search for masks was interrupted; run it again elsewhere.")
        return {
            _plain(name): (str(cell["group"]), PARTS.get(cell["split"] or ""))
            for name, cell in content["cells"].items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} does not say the groups of its images ({error!r}), and without them cells of one photo "
            "would be on both sides of a split; make it again with `cytoforge mask`, or remove it."
        ) from error


def _plain(name: str) -> str:
    """A name whose accents are composed: file systems change that when a folder is copied."""
    return unicodedata.normalize("NFC", name)


def medmnist(root: Path) -> Found:
    """A MedMNIST archive: `train_images`, `train_labels`, `val_...`, `test_...` in one `.npz`.

    Class names are the label numbers; the published split is kept; each image is a group of its own.
    """
    path = root if root.is_file() else _only_archive(root)
    cells = []
    for part, labels in archive_parts(path).items():
        digits = len(str(len(labels) - 1))
        for row, label in enumerate(labels):
            name = f"{path.name}#{part}/{row:0{digits}d}"
            cells.append(Cell(path, label, name, name, PARTS[part], None, row))
    return Found(cells, [])


def huggingface(root: Path) -> Found:
    """A Hugging Face ImageFolder: `metadata.csv` or `.jsonl` with columns `file_name` and `label`.

    Columns `group`, `split` and `mask` are read where there are any. The table lies in the root, or one in
    each of `train/`, `validation/` and `test/`, which are then the split.
    """
    files, faults = _image_files(root)
    listed = {fault.path for fault in faults}
    cells: dict[Path, Cell] = {}
    mentioned: set[Path] = set()
    tables = _metadata_files(root)
    for table in tables:
        for row in _metadata_rows(table):
            path, mask = (_inside(root, table, row.get(column, "")) for column in ("file_name", "mask"))
            mentioned.update(place for place in (path, mask) if place is not None)
            reason = _row_refusal(table, row, path)
            if path is None or reason is not None:
                if path not in listed:
                    faults.append(Fault(path or table, str(reason)))
            elif path in cells:
                faults.append(Fault(path, f"named twice in {table.name}: the first row counts", used=True))
            else:
                cells[path] = _cell_of_row(root, table, row, path, mask)
                if row.get("mask") and cells[path].mask is None:
                    faults.append(Fault(path, f"its mask {row['mask']!r} does not exist", used=True))
    unnamed = [path for path in files.values() if path not in mentioned]
    faults += [Fault(path, f"no row in {tables[0].name}") for path in unnamed]
    return Found(list(cells.values()), faults)


LAYOUTS: Mapping[str, Callable[[Path], Found]] = {
    "folders": folders,
    "sipakmed": sipakmed,
    "herlev": herlev,
    "paired": paired,
    "medmnist": medmnist,
    "huggingface": huggingface,
}


def detect(root: Path) -> str:
    """Which of `LAYOUTS` a data folder (or archive) follows; `folders` where nothing else fits."""
    if root.suffix.lower() == ".npz":
        return "medmnist"
    if _metadata_files(root):
        return "huggingface"
    if any(entry.name.startswith("im_") and entry.is_dir() for entry in root.iterdir()):
        return "sipakmed"
    if (root / "images").is_dir() and any(entry.is_dir() for entry in (root / "images").iterdir()):
        stems = [path.stem for path in _image_files(root / "images")[0].values()]
        herlev_names = bool(stems) and all(_HERLEV.fullmatch(stem) for stem in stems)
        return "herlev" if herlev_names else "paired"
    if _looks_published_by_herlev(root):
        return "herlev"
    has_archive = any(entry.suffix.lower() == ".npz" for entry in root.iterdir())
    has_folder = any(entry.is_dir() and not _hidden(entry.name) for entry in root.iterdir())
    return "medmnist" if has_archive and not has_folder else "folders"


def _looks_published_by_herlev(root: Path) -> bool:
    """Whether pictures are named as Herlev's, half of them with a segmentation; ends at the first other."""
    pictures = segmented = 0
    for path in _walk(root):
        if path.suffix.lower() not in EXTENSIONS or _refusal(path, path.name) is not None:
            continue
        if not _HERLEV.fullmatch(path.stem.removesuffix("-d")):
            return False
        segmented += path.stem.endswith("-d")
        pictures += not path.stem.endswith("-d")
    return 2 * segmented >= pictures > 0


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _walk(root: Path) -> Iterator[Path]:
    """All files below `root`, through linked folders too, each real folder once."""
    seen: set[str] = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not _hidden(name))
        yield from (Path(folder, name) for name in sorted(files) if not _hidden(name))


def _image_files(root: Path) -> tuple[dict[str, Path], list[Fault]]:
    """Images below `root` by posix path relative to it, and files that are images but cannot be used."""
    images: dict[str, Path] = {}
    faults = []
    for path in _walk(root):
        suffix, name = path.suffix.lower(), path.relative_to(root).as_posix()
        if suffix in _FOREIGN:
            faults.append(Fault(path, f"format {suffix} is not supported; save it as PNG"))
        elif suffix in EXTENSIONS:
            reason = _refusal(path, name)
            if reason is None:
                images[name] = path
            else:
                faults.append(Fault(path, reason))
    return images, faults


def _refusal(path: Path, name: str) -> str | None:
    """Why a file cannot be an image, as far as its name and size tell."""
    try:
        name.encode()
        if path.stat().st_size == 0:
            return "the file is empty (0 bytes); copy it again from its source"
    except UnicodeEncodeError:
        return "the file name is not valid text; rename it"
    except OSError as error:
        return f"cannot be read ({error.strerror}); a broken link, or no permission"
    return None


def _split_off_masks(
    files: Mapping[str, Path], refused: Iterable[Path]
) -> tuple[dict[str, Path], dict[str, Path], list[Path]]:
    """Images by name, their masks by the name of the image without extension, and masks without an image.

    What is named like a mask is one where its image is there, or was `refused`, or where others in the same
    folder are masks.
    """
    stems = {str(PurePosixPath(name).with_suffix("")): name for name in files}
    images, masks = dict(files), dict[str, Path]()
    lost = {path.stem for path in refused}
    orphans: list[Path] = []
    for pattern in (_MASK_BELOW, _MASK_BESIDE):
        matches = {stem: match[1] for stem in stems if (match := pattern.fullmatch(stem)) is not None}
        known = {PurePosixPath(stem).parent for stem, image in matches.items() if image in stems}
        for stem, image in matches.items():
            if image in stems and stems[stem] in images:
                masks[image] = images.pop(stems[stem])
            elif stems[stem] in images and (
                PurePosixPath(stem).parent in known or PurePosixPath(image).name in lost
            ):
                orphans.append(images.pop(stems[stem]))
    return images, masks, orphans


def _sipakmed_class(name: PurePosixPath) -> str | None:
    folders_above = [part for part in name.parts[:-1] if part.startswith("im_")]
    return folders_above[0].removeprefix("im_") if folders_above else None


def _sipakmed_contour(crop: Path, photo: str, cell: str) -> Path | None:
    """The contour file of a crop: of the cytoplasm, else of the nucleus, else None."""
    for part in ("cyt", "nuc"):
        for path in contour_names(crop, photo, cell, part):
            if path.is_file():
                return path
    return None


def contour_names(crop: Path, photo: str, cell: str, part: str) -> tuple[Path, ...]:
    """Where the contour of `part` ("cyt" or "nuc") may lie: beside the crop, or beside its photo."""
    photo_folder = crop.parent.parent
    return (
        crop.with_name(f"{photo}_{cell}_{part}.dat"),
        crop.with_name(f"{photo}_{part}{cell}.dat"),
        photo_folder / f"{photo}_{part}{cell}.dat",
        photo_folder / f"{photo}_{cell}_{part}.dat",
    )


def _only_archive(root: Path) -> Path:
    archives = sorted(root.glob("*.npz"))
    if len(archives) != 1:
        raise DataError(
            f"{root}: expected one .npz archive, found {len(archives)}; give the path of the one to use."
        )
    return archives[0]


def _metadata_files(root: Path) -> list[Path]:
    places = [root, *(root / part for part in PARTS)]
    return [place / name for place in places for name in _METADATA if (place / name).is_file()]


def _metadata_rows(table: Path) -> Iterable[dict[str, str]]:
    """Rows of a metadata table, values as text, missing ones as ''."""
    try:
        text = table.read_text(encoding="utf-8-sig")
        if table.suffix == ".csv":
            rows = list(csv.DictReader(text.splitlines(), strict=True))
        else:
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (OSError, ValueError, csv.Error, RecursionError) as error:
        raise DataError(
            f"{table}: not a readable table ({error}); save it as UTF-8 {table.suffix[1:]}."
        ) from error
    if not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{table}: each line must be a JSON object with file_name and label.")
    columns = sorted({str(key) for row in rows for key in row if key is not None})
    for needed in ("file_name", "label"):
        if needed not in columns:
            raise DataError(f"{table}: expected a column {needed!r}, found {', '.join(columns) or 'none'}.")
    return [
        {str(key): "" if value is None else str(value).strip() for key, value in row.items()} for row in rows
    ]


def _row_refusal(table: Path, row: Mapping[str, str], path: Path | None) -> str | None:
    """Why a row of a metadata table gives no cell, or None."""
    name, split = row.get("file_name", ""), row.get("split", "")
    if path is None:
        return f"file_name {name!r} leads outside the data folder" if name else "a row without file_name"
    checks = (
        (not row.get("label"), f"no label in {table.name}"),
        (bool(split) and split.lower() not in PARTS, f"split {split!r} is none of {', '.join(PARTS)}"),
        (not path.is_file(), f"named in {table.name} but does not exist"),
        (path.suffix.lower() not in EXTENSIONS, f"format {path.suffix!r} is not supported; save it as PNG"),
    )
    return next((reason for wrong, reason in checks if wrong), None) or _refusal(path, path.name)


def _cell_of_row(root: Path, table: Path, row: Mapping[str, str], path: Path, mask: Path | None) -> Cell:
    name = path.relative_to(root).as_posix()
    split = PARTS.get((row.get("split") or table.parent.relative_to(root).as_posix()).lower())
    existing = mask if mask is not None and mask.is_file() else None
    return Cell(path, row["label"], row.get("group") or name, name, split, existing)


def _inside(root: Path, table: Path, name: str) -> Path | None:
    """The file that a table names, or None where the name leads outside the data folder."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or ".." in parts or "\0" in name or PurePosixPath(name).is_absolute() or ":" in parts[0]:
        return None
    path = table.parent.joinpath(*(part for part in parts if part != "."))
    return path if path.is_relative_to(root) else None
