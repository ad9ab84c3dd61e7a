"""How fast training, answers and scores are, beside what one would use instead: docs/results/speed.md.

    python benchmarks/speed.py docs/results/speed.md --machine "two cores of ..." [--run RUN] [--notes NOTES]

Everything is measured here and now, each pair in turns in one process of its own, so that a busy machine
slows both. RUN is a calibrated classifier, by which the whole of `classify predict` is timed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from metrics import measured

from cytoforge.core.files import write_atomic

PAGE = """# Speed

`python benchmarks/speed.py docs/results/speed.md`

{machine}

| what | cytoforge | beside it | times as fast |
|---|---|---|---|
{rows}

* Training: one critic and one generator step of `wgan-gp`, preset `cpu`, 64 px, batches of 64,
  {precision}; beside it the same networks as a tutorial writes them (float32, NCHW, default Adam).
  {share:.0%} of the fastest convolution measured here.
* Answers: from files to logits as in `classify predict` with the recipe `lite0`, by {engine}: pictures are
  read, decoded, prepared and go through the network, whose last layer is random. Opening the classifier,
  sets, unknown kinds and what `predict` writes are not timed. Beside it the same network as timm gives it,
  eager. The same class in {same:.1%} of pictures, probabilities within {difference:.0e}.
* Scores: {images:,} against {images:,} images with {width:,} features. Ours are the Fréchet and kernel
  distance with an interval, precision, recall, density, coverage, pairwise distance and effective modes;
  torch-fidelity's are the two distances, precision and recall, torchmetrics' the two distances.
"""

WHOLE = """* All of `classify predict`: from the command to the written files, with opening, sets, unknown
  kinds, table and picture, by a calibrated classifier of {views} views on {threads} threads; timm's
  network is open already and writes nothing. The same class in {same:.1%} of pictures, probabilities
  within {difference:.0e}.
"""


def bench(*words: str) -> dict[str, Any]:
    """What `cytoforge bench` says, in a fresh process: what ran before changes the speed of both sides."""
    command = [sys.executable, "-m", "cytoforge", "bench", *words, "--json"]
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("page", type=Path)
    parser.add_argument("--machine", default="", help="a sentence on where it was measured")
    parser.add_argument("--run", type=Path, help="calibrated classifier")
    parser.add_argument("--notes", type=Path, help="Markdown that ends the page")
    given = parser.parse_args()
    whole = None if given.run is None else bench("predict", "--run", str(given.run), "--rounds", "3")
    step, once, eight = bench("step"), bench("predict"), bench("predict", "--views", "8", "--rounds", "3")
    scores = measured()
    seconds = {name: scores[name]["total_seconds"] for name in ("ours", "torch_fidelity", "torchmetrics")}
    speeds = ("training, images/s", step, "plain PyTorch"), ("answers, pictures/s", once, "timm")
    more = [("the same, mean of 8 views", eight, "timm")]
    if whole is not None:
        more.append(("all of `classify predict`, pictures/s", whole, "timm"))
    rows = [
        f"| {what} | {found['ours']:.1f} | {other} {found['plain']:.1f} | {found['ratio']:.2f} |"
        for what, found, other in (*speeds, *more)
    ]
    for name, word in (("torch_fidelity", "torch-fidelity"), ("torchmetrics", "torchmetrics")):
        ratio = scores["faster_than"][name]
        own, other = f"{seconds['ours']:.1f}", f"{word} {seconds[name]:.1f}"
        rows.append(f"| scores, seconds | {own} | {other} | {ratio:.2f} |")
    page = PAGE.format(
        machine=given.machine,
        rows="\n".join(rows),
        precision=step["precision"],
        share=step["share_of_peak"],
        engine=once["engine"],
        same=min(once["same"], eight["same"]),
        difference=max(once["difference"], eight["difference"]),
        images=scores["images"],
        width=scores["width"],
    )
    if whole is not None:
        page += WHOLE.format(**whole)
    notes = "" if given.notes is None else given.notes.read_text(encoding="utf-8")
    write_atomic(given.page, page + notes)


if __name__ == "__main__":
    main()
