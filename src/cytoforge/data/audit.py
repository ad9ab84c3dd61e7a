"""What is wrong with a data set, found before anything is trained on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cytoforge.core.randomness import unsigned
from cytoforge.data.checks import (
    class_sizes,
    contradictions,
    copies,
    masks,
    published_leaks,
    recurring,
    unreadable,
)
from cytoforge.data.duplicates import Repeats
from cytoforge.data.findings import Audit, ClassCount, Probe, Verdict
from cytoforge.data.outliers import blurred, exposure, stain, strangers
from cytoforge.data.probes import (
    can_probe,
    group_leak,
    probe_features,
    sharpness_shortcut,
    size_shortcut,
    suspicious_labels,
)
from cytoforge.data.scan import Scan
from cytoforge.data.split import merge_sets

Floats = NDArray[np.float64]


def audit_cells(
    scan: Scan,
    repeats: Repeats,
    features: Floats | None = None,
    extractor: str = "",
    seed: int = 0,
    measurements: Floats | None = None,
) -> Audit:
    """Run every check.

    Args:
        scan: what was seen of each cell.
        repeats: cells that are shown more than once.
        features: (N, D) of the usable cells in their order, or None to leave out the checks that need them.
        extractor: name of what computed the features.
        seed: of the division into folds.
        measurements: (N, M) of nucleus and cytoplasm by the data set's masks, or None; they sharpen the eye
            for wrong labels.
    """
    seed, cells = unsigned(seed), scan.cells
    roots = merged_groups(scan, repeats)
    findings = [
        unreadable(scan),
        class_sizes(scan),
        published_leaks(scan, repeats),
        contradictions(scan, repeats),
        copies(scan, repeats),
        recurring(scan, repeats),
        blurred(scan),
        exposure(scan),
        stain(scan),
        strangers(scan),
        size_shortcut(scan, roots, seed),
        sharpness_shortcut(scan, roots, seed),
        masks(scan),
    ]
    probe = None
    if features is not None and can_probe(scan, roots):
        probe, opinion = probe_features(scan, roots, features, extractor, seed, measurements)
        findings += [group_leak(probe), suspicious_labels(scan, opinion)]
    order = {"bad": 0, "unsure": 1, "note": 2, "good": 3}
    findings.sort(key=lambda finding: (not finding.blocking, order[finding.tone]))
    classes = tuple(_class_count(scan, label) for label in cells.classes)
    return Audit(
        root=str(cells.root),
        layout=cells.layout,
        images=len(cells),
        groups=len(set(cells.groups)),
        merged_groups=len(set(roots)),
        classes=classes,
        probe=probe,
        verdicts=tuple(Verdict(tone=f.tone, headline=f.headline, because=f.because) for f in findings),
        facts=_facts(scan, roots, probe),
        findings=tuple(findings),
    )


def merged_groups(scan: Scan, repeats: Repeats) -> list[str]:
    """(N) group of each usable cell after groups that show the same cell were made one."""
    own = dict(zip(scan.cells.names, scan.cells.groups, strict=True))
    root = merge_sets(((own[p.first], own[p.second]) for p in repeats.pairs), own.values())
    return [root[group] for group in scan.cells.groups]


def _class_count(scan: Scan, label: str) -> ClassCount:
    own = [index for index, cell in enumerate(scan.cells.cells) if cell.label == label]
    return ClassCount(
        label=label,
        images=len(own),
        groups=len({scan.cells.cells[index].group for index in own}),
        width=float(np.median(scan.measure("width")[own])) if own else 0.0,
        height=float(np.median(scan.measure("height")[own])) if own else 0.0,
    )


def _facts(scan: Scan, roots: Sequence[str], probe: Probe | None) -> dict[str, str]:
    counts: Mapping[str, int] = Counter(cell.label for cell in scan.cells.cells)
    facts = {
        "images": str(len(scan.cells)),
        "classes": ", ".join(f"{label} {counts[label]}" for label in scan.cells.classes),
        "groups": f"{len(set(scan.cells.groups))}, {len(set(roots))} after merging those that share a cell",
        "files not usable": str(sum(not fault.used for fault in scan.faults)),
    }
    if probe is not None:
        facts["linear probe"] = (
            f"{probe.random:.3f} random split, {probe.merged:.3f} grouped ({probe.extractor})"
        )
    return facts
