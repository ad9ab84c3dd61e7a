"""`cytoforge mask`: masks for cells that have none."""

from __future__ import annotations

from pathlib import Path

from cytoforge.cli.console import Outcome


def mask(
    data: Path,
    /,
    *,
    out: Path,
    layout: str = "auto",
    group: str | None = None,
    fields: bool = False,
) -> Outcome:
    """Find nucleus and cytoplasm in each image without annotation and write a folder with images and masks.

    Writes images/, masks/ (0 background, 1 cytoplasm, 2 nucleus), gallery.png to look at, and masks.json with
    the agreement (Dice, IoU) where the data have true masks.

    Args:
        data: folder with one subfolder of images per class, or another layout that is recognised.
        out: folder to write, missing or empty.
        layout: how the data lies on disk; auto recognises it.
        group: regular expression with one (bracket) that finds the photo, slide or patient in a file's path.
        fields: images are fields with many nuclei instead of crops with one cell in the middle.
    """
    from cytoforge.data.layouts import SUMMARY
    from cytoforge.stages.mask import mask as find

    found = find(data, out, layout=layout, group=group, fields=fields)
    lines = [f"{found['images']} masks in {out}. Look at {out / 'gallery.png'} before you train on them."]
    if found["without_nucleus"]:
        lines.append(f"In {len(found['without_nucleus'])} images no nucleus was found.")
    if found["faults"]:
        lines.append(f"{len(found['faults'])} files could not be used, see {SUMMARY}.")
    for label, scores in found["agreement"].items():
        nucleus, cell = scores["nucleus_dice"], scores["cell_dice"]
        lines.append(
            f"{label}: Dice of the nucleus {nucleus['value']:.3f} ({nucleus['low']:.3f} to "
            f"{nucleus['high']:.3f}), of the cell {cell['value']:.3f}, {scores['images']} true masks."
        )
    return Outcome({"folder": out, "summary": out / SUMMARY, **found}, "\n".join(lines))
