"""What the audit finds in real cells and in simulated cells with planted faults.

    python benchmarks/audit.py DATA [--first 10] [--seeds 3] [--out docs/results/audit.md]

DATA holds sipakmed/ and herlev/. Writes a page of numbers; no picture of a cell is in it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from pathlib import Path

from cytoforge.core.files import write_atomic
from cytoforge.data.findings import Audit
from cytoforge.data.phantom.faults import FAULTS
from cytoforge.stages.audit import audit
from cytoforge.stages.phantom import phantom

INTRODUCTION = """# Audit: what it finds

Made by `python benchmarks/audit.py DATA`. SIPaKMeD is the share of 3,252 crops that leaves some photos out.
"""
PLANTED = """## Simulated cells with planted faults

{count} phantoms of 1,000 cells each (`cytoforge phantom`, 200 a class, seeds {first} on, which no limit was
set on; all faults but a published split).
A fault counts as found when every file of it is named by some finding. False alarms are faultless cells
named by a check, as a share of all faultless cells.

"""


def real(name: str, folder: Path, out: Path) -> list[str]:
    """A table of findings of one real set."""
    start = time.process_time()
    found = audit(folder, out)
    seconds = time.process_time() - start
    lines = [
        f"## {name}",
        "",
        f"{found.images} images, {found.groups} groups, {found.merged_groups} after merging. "
        f"{seconds:.0f} s of processor time with an empty cache.",
        "",
        "| check | finding | numbers |",
        "|---|---|---|",
    ]
    for finding in found.findings:
        numbers = ", ".join(f"{key} {value:g}" for key, value in finding.numbers.items())
        lines.append(f"| {finding.check} | {finding.headline} | {numbers} |")
    if found.probe is not None:
        probe = found.probe
        lines += [
            "",
            f"Linear probe on {probe.extractor}, five folds: **{probe.random:.3f}** with cells divided at "
            f"random, **{probe.grouped:.3f}** by photo or slide, **{probe.merged:.3f}** with photos that "
            "share a cell merged.",
        ]
    return [*lines, ""]


def planted(folder: Path, found: Audit) -> tuple[Counter[str], Counter[str], Counter[str], int]:
    """Planted and found faults by kind, false alarms by check, and the number of faultless cells."""
    truth = json.loads((folder / "truth.json").read_text())
    flagged: dict[str, set[str]] = {}
    for finding in found.findings:
        if finding.tone in ("bad", "unsure"):
            for shown in finding.shown:
                for name in shown.names:
                    flagged.setdefault(name, set()).add(finding.check)
    all_cases, hits, faulty = Counter[str](), Counter[str](), set()
    for fault, entry in truth["faults"].items():
        for case in entry["found_in"]:
            faulty |= set(case["files"])
            all_cases[fault] += 1
            hits[fault] += set(case["files"]) <= flagged.keys()
    false = Counter(check for name, checks in flagged.items() if name not in faulty for check in checks)
    false["any check"] = len(flagged.keys() - faulty)
    return all_cases, hits, false, len(truth["cells"]) - len(faulty)


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--first", type=int, default=10, help="seed of the first phantom")
    parser.add_argument("--seeds", type=int, default=3, help="number of phantoms")
    parser.add_argument("--out", type=Path, default=Path("docs/results/audit.md"))
    options = parser.parse_args()
    lines = [INTRODUCTION]
    with tempfile.TemporaryDirectory() as place:
        for name, folder in (("SIPaKMeD", "sipakmed"), ("Herlev", "herlev")):
            lines += real(name, options.data / folder, Path(place) / folder)
        cases, hits, false, clean = Counter[str](), Counter[str](), Counter[str](), 0
        for seed in range(options.first, options.first + options.seeds):
            folder = Path(place) / f"phantom-{seed}"
            phantom(
                folder, per_class=200, size=96, seed=seed, faults=[name for name in FAULTS if name != "leak"]
            )
            here = planted(folder, audit(folder, folder.with_suffix(".audit")))
            cases, hits, false, clean = cases + here[0], hits + here[1], false + here[2], clean + here[3]
    lines += [PLANTED.format(count=options.seeds, first=options.first)]
    lines += ["| fault | planted | found |", "|---|---|---|"]
    lines += [f"| {fault} | {count} | {hits[fault]} |" for fault, count in cases.items()]
    lines += ["", f"| check | false alarms among {clean} faultless cells |", "|---|---|"]
    lines += [f"| {check} | {count} ({100 * count / clean:.2f} %) |" for check, count in false.most_common()]
    write_atomic(options.out, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
