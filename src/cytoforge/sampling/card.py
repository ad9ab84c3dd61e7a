"""The data card: what a person must know before using a synthetic set."""

from __future__ import annotations

import html
from collections import Counter
from typing import Any

from cytoforge.core.errors import DataError
from cytoforge.core.files import read_json
from cytoforge.core.run import Run
from cytoforge.sampling.provenance import CONTACT, INTERPOLATION, Header, Manifest
from cytoforge.sampling.sealed import MANIFEST


def card(manifest: Manifest, run: Run) -> str:
    """CARD.md of a set, in Markdown. It names no file of the training data, only counts and hashes.

    Args:
        manifest: all images of the set.
        run: the training that the generator comes from.
    """
    header = manifest.header
    made = Counter(entry.label for entry in manifest.images)
    rows = "\n".join(
        f"| {plain(name)} | {made[name]} | {_seeds(manifest, name)} |" for name in header.classes
    )
    side = header.preparation["resolution"]
    versions = ", ".join(f"{package} {number}" for package, number in header.versions.items())
    truncation = (
        "none: the noise is used as drawn"
        if header.truncation == 1
        else f"{header.truncation:g}: the noise is shortened by this factor, so that images are more typical "
        "and less varied than the generator could make them"
    )
    return f"""# Synthetic cells: data card

**No image in this folder is a photograph of a patient's cell.** All {len(manifest.images)} were computed
by a generator. They are for research, teaching and the testing of software. **Do not use them to diagnose,
and do not mix them into clinical records.**

## What is here
| class | images | seeds |
|---|---|---|
{rows}

Images are {side} x {side} px, RGB, PNG. `{CONTACT}` shows some of each class, `{INTERPOLATION}` how images
change from one seed to the next, with the same noise in every class. `{MANIFEST}` lists every file with
class, seed and SHA-256. Each PNG carries the text `Synthetic=true`, its class, seed and
generator.{_masks(manifest)}{_edges(manifest)}

## What it was made from
| | |
|---|---|
| method | {plain(header.method)} |
| real images in training | {training_size(run)} |
| images shown in training | {header.seen:,} (each real image counts every time it was shown) |
| truncation | {truncation} |
| settings (SHA-256) | `{header.config_sha256}` |
| network (SHA-256) | `{header.checkpoint_sha256}` |
| data split (SHA-256) | {f"`{header.split_sha256}`" if header.split_sha256 else "not recorded"} |

## Limits
* A generator can repeat cells that it was trained on. Look at the section "copies" of the evaluation report
  before you share this set, and treat it like the real data until then: synthetic does not mean anonymous.
* The class is the one that was asked for. Whether the image shows it is measured in the report, not promised.
* Rare findings, unusual stains and other laboratories than those of the training data are missing or
  underrepresented. Frequencies are those that were asked for, not those of a population.
* Sizes are in pixels. The scale of the real images was lost if they were cropped or padded to a square.

## How to make an image again
Each image depends on the network, its class and its seed only. With the run folder:

```
cytoforge generate RUN --out again --class {_shell(manifest)} --seeds {_example(manifest)} \\
    {drawing_options(header)}
```

Bits are equal with the same versions and thread count: {versions};
{header.threads} thread(s), {header.device}. `cytoforge verify SET` finds what is missing, changed or added.
"""


def drawing_options(header: Header) -> str:
    """Options of `cytoforge generate` that draw as a set was drawn, besides classes and seeds."""
    truncation = "" if header.truncation == 1 else f" --truncation {header.truncation!r}"
    masks = " --masks MASKS" if header.masks_sha256 else ""
    edges = " --edges IMAGES" if header.edges_sha256 else ""
    return f"--checkpoint {header.checkpoint}{truncation}{masks}{edges}"


def _masks(manifest: Manifest) -> str:
    if not any(entry.mask for entry in manifest.images):
        return ""
    origin = "given masks" if manifest.header.masks_sha256 else "masks that the generator drew first"
    return (
        f"\n`masks/` holds what each image was drawn from ({origin}): 0 background, 1 cytoplasm, 2 nucleus."
        "\nHow well image and mask agree must be measured, it is not promised."
    )


def _edges(manifest: Manifest) -> str:
    if manifest.header.edges_sha256 is None:
        return ""
    return (
        "\nThe outlines in each image follow those of a given image, which its seed chose: they are not new."
    )


def training_size(run: Run) -> str:
    """How many real images, in how many groups; by count only."""
    try:
        split: dict[str, Any] = read_json(run.split_path)
        names = [name for name, part in split["parts"].items() if part == "train"]
        groups = {split["groups"][name] for name in names}
    except (DataError, KeyError, TypeError, AttributeError):
        return "not recorded"
    return f"{len(names)}, from {len(groups)} photos or slides"


def _seeds(manifest: Manifest, name: str) -> str:
    """The seeds of one class as ranges, as many as a reader wants to see."""
    spans: list[list[int]] = []
    for seed in sorted(entry.seed for entry in manifest.images if entry.label == name):
        if spans and spans[-1][1] == seed - 1:
            spans[-1][1] = seed
        else:
            spans.append([seed, seed])
    shown = [str(low) if low == high else f"{low}-{high}" for low, high in spans[:6]]
    return ", ".join([*shown, "..."] if len(spans) > 6 else shown)


def _example(manifest: Manifest) -> int:
    return min(entry.seed for entry in manifest.images if entry.label == manifest.images[0].label)


def _shell(manifest: Manifest) -> str:
    """The class as one word of a shell: quoted where it must be, on one line."""
    label = manifest.images[0].label
    if label.replace("-", "").replace("_", "").isalnum():
        return label
    safe = " ".join(label.replace("'", "'\\''").replace("`", "'\\`'").split())
    return f"'{safe}'"


def plain(text: str) -> str:
    """Text that Markdown and HTML show as it is."""
    escaped = html.escape(" ".join(text.split()), quote=False)
    return "".join(f"\\{letter}" if letter in "\\`*_[]|#~$" else letter for letter in escaped)
