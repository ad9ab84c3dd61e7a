"""A folder for each class and a table: torchvision's `ImageFolder`, Hugging Face's `imagefolder`.

```
out/images/<class>/<class>_<seed>.png    as in the set, with all marks
    masks/<class>/<class>_<seed>.png     where there are masks
    metadata.csv                         file_name, label, seed, synthetic, sha256, mask
    README.md                            data card; its head tells Hugging Face what to read
    origin-manifest.jsonl                manifest of the set
```
"""

from __future__ import annotations

from pathlib import Path

from cytoforge.core.files import write_atomic
from cytoforge.core.progress import progress
from cytoforge.core.table import csv_text
from cytoforge.exports.cards import data_card
from cytoforge.exports.synthetic_set import SyntheticSet, copy_origin

METADATA = "metadata.csv"
COLUMNS = ("file_name", "label", "seed", "synthetic", "sha256", "mask")


def write_image_folder(opened: SyntheticSet, out: Path) -> list[Path]:
    """Copy the images byte for byte and describe them.

    Args:
        opened: the set.
        out: new or empty folder.

    Returns:
        The files that a reader begins with.
    """
    write_images(opened, out)
    configs = [
        {"config_name": "default", "data_files": [{"split": "train", "path": [METADATA, "images/**"]}]}
    ]
    write_atomic(out / "README.md", data_card(opened, configs))
    return [out / METADATA, out / "README.md"]


def write_images(opened: SyntheticSet, out: Path) -> None:
    """Images, masks, table and origin."""
    rows = []
    with progress("images", len(opened.images)) as advance:
        for entry in opened.images:
            file = f"images/{entry.file}"
            write_atomic(out / file, (opened.folder / entry.file).read_bytes())
            if entry.mask is not None:
                write_atomic(out / entry.mask, (opened.folder / entry.mask).read_bytes())
            rows.append((file, entry.label, entry.seed, "true", entry.sha256, entry.mask))
            advance(1)
    count = len(COLUMNS) if opened.masked else len(COLUMNS) - 1
    write_atomic(out / METADATA, csv_text(COLUMNS[:count], [row[:count] for row in rows]))
    copy_origin(opened, out)
