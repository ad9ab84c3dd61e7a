"""The content of metrics.json: every number with what it must be read against.

A distance or share means nothing by itself. It is printed with the extractor and resolution it was computed
with, with its interval, and with its floor: what real cells score against other real cells in equal
numbers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from cytoforge.core.errors import ConfigError
from cytoforge.core.files import write_json
from cytoforge.core.record import Record, Tone

SIZE_FREE = ("kernel_distance", "pairwise_distance")
"""Numbers whose expectation does not depend on how many images there are."""


class Number(Record):
    """One score.

    Attributes:
        value: synthetic against holdout.
        low: lower end of its 95 % interval, where there is one.
        high: upper end.
        floor: mean of the same score, real against real, with as many images on each side.
        floor_low: lower end of what one more random division of the real cells by group would give with 95 %
            chance.
        floor_high: upper end.
        floor_repeats: number of divisions.
    """

    value: float
    low: float | None = None
    high: float | None = None
    floor: float | None = None
    floor_low: float | None = None
    floor_high: float | None = None
    floor_repeats: int = 0


class Collapse(Record):
    """Whether images are too much alike, by repetition or blur; the rule is `Metrics.rules["collapse"]`.

    Attributes:
        collapsed: the verdict.
        spread: pairwise distance as a share of real cells' in equal numbers.
        modes: effective number of different images as a share of real cells'.
        repeated: share of images with a twin: another synthetic one at less than half the usual distance
            between
            nearest real cells.
        real_repeated: the same for real cells in equal numbers.
    """

    collapsed: bool
    spread: float
    modes: float
    repeated: float
    real_repeated: float = 0.0


class Comparison(Record):
    """Real holdout cells against synthetic ones, overall or in one class.

    Attributes:
        count: synthetic images there are.
        n_real: holdout cells compared.
        n_fake: synthetic images compared; fewer than `count` where classes were matched to the holdout's
            mix, floors of equal size need it or a class has too few real cells.
        numbers: by name: frechet_distance, kernel_distance, precision, recall, density, coverage,
            pairwise_distance, effective_modes. Empty where there are too few images.
        collapse: None where there are too few images.
    """

    count: int
    n_real: int
    n_fake: int
    numbers: dict[str, Number] = Field({})
    collapse: Collapse | None = None


class Closest(Record):
    """A synthetic image with the training cell it resembles most.

    Attributes:
        file: of the synthetic image, inside its set.
        label: its class.
        seed: its seed.
        train: name of the training cell.
        score: copy score, 0 for a copy.
        p_value: share of unseen real cells that are at least as close to training.
        view: which flip or turn of the image is closest.
        flagged: p_value within the false-alarm rate.
    """

    file: str
    label: str
    seed: int
    train: str
    score: float
    p_value: float
    view: str
    flagged: bool


class ClassCopies(Record):
    """Flagged images of one class.

    Attributes:
        flagged: as many are.
        checked: of so many.
        exchanged: as many are when holdout and training change places, None where that is unknown.
        found: whether they are too many by the rule of the whole set, with both p-values below their part for
            one of so many classes.
    """

    flagged: int
    checked: int
    exchanged: int | None = None
    found: bool = False


class Copies(Record):
    """Copies of training cells, each image tested against the holdout.

    Attributes:
        found: the verdict, on all images or on those of one class; the rule is `Metrics.rules["copies"]`.
        checked: synthetic images of classes with enough training cells.
        flagged: images with p_value within `false_alarm_rate`.
        false_alarm_rate: of one image that is no copy.
        threshold: copy score below which an image is flagged.
        share: flagged / checked.
        low: lower end of its 95 % interval (Wilson).
        high: upper end.
        honest_low: flagged images that an honest generator has at least, at 95 %.
        honest_high: at most.
        p_value: chance that an honest generator has so many flagged images, of which those beside the
            training cell that most of them resemble count as one.
        exchanged_flagged: images flagged at the same rate when holdout and training change places, of classes
            with enough holdout cells; about as many as `flagged` where blur or typical images raise the
            alarm, few where copies do.
        exchanged_p_value: chance that so few of these and of `cells` would be exchanged ones, without
            copying.
        cells: training cells that flagged images of such classes resemble, None where that is unknown.
        train: training cells.
        holdout: holdout cells.
        share_nearer_to_train: mean chance that an image is nearer to training than to equally many holdout
            photos; 0.5 is honest.
        nearer_low: lower end of its 95 % interval over images and photos.
        nearer_high: upper end.
        authenticity: share of images farther from their nearest training cell than that is from its own.
        honest_authenticity: the same for holdout cells: what an honest generator has.
        holdout_repeats: share of holdout cells whose copy score is below half the holdout's median: cells
            of the
            holdout that recur in training and blunt the test.
        extractor: of the features that were searched, besides coarse pictures.
        classes: flagged images of each class.
        closest: the images with the lowest scores, lowest first, flagged ones all.
        unchecked: classes with too few training cells to tell.
        uncounted: classes with too few holdout cells: their images are flagged, but do not count for `found`.
    """

    found: bool
    checked: int
    flagged: int
    false_alarm_rate: float
    threshold: float
    share: float
    low: float
    high: float
    honest_low: int
    honest_high: int
    p_value: float
    exchanged_flagged: int
    exchanged_p_value: float
    cells: int | None = None
    train: int
    holdout: int
    share_nearer_to_train: float
    nearer_low: float
    nearer_high: float
    authenticity: float
    honest_authenticity: float
    holdout_repeats: float
    extractor: str = "efficientnet-lite0@64"
    classes: dict[str, ClassCopies]
    closest: tuple[Closest, ...]
    unchecked: tuple[str, ...] = ()
    uncounted: tuple[str, ...] = ()


class Share(Record):
    """A share with its 95 % interval (Wilson) and the number of images behind it."""

    value: float
    low: float
    high: float
    count: int


class ClassCorrectness(Record):
    """Whether images show the class asked for, by a classifier that learned from real training cells.

    Attributes:
        accuracy: share of synthetic images recognised as asked for.
        low: lower end of its 95 % interval (Wilson).
        high: upper end.
        holdout_accuracy: share of holdout cells recognised, the judge's own quality; each class weighs as
            much as among the synthetic images.
        holdout_low: lower end of its 95 % interval (bootstrap over groups).
        holdout_high: upper end.
        labels: order of rows and columns of the tables.
        confusion: synthetic images, row = asked for, column = recognised.
        holdout_confusion: holdout cells, row = true, column = recognised.
        classes: share recognised in each class.
        holdout_classes: the same for holdout cells.
    """

    accuracy: float
    low: float
    high: float
    holdout_accuracy: float | None
    holdout_low: float | None
    holdout_high: float | None
    labels: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    holdout_confusion: tuple[tuple[int, ...], ...]
    classes: dict[str, Share]
    holdout_classes: dict[str, Share]


class Measurement(Record):
    """One measurement of the cells of one class, synthetic against unseen real ones.

    Attributes:
        n_real: unseen real cells that have it.
        n_fake: synthetic cells that have it.
        real: lower quartile, median and upper quartile of the real ones.
        fake: of the synthetic ones.
        wasserstein: distance of the two distributions, in standard deviations of the real one.
        floor: mean of the same, real against real of other groups; None where there are too few.
        floor_high: 97.5th percentile over the divisions.
        ks: statistic of Kolmogorov and Smirnov, 0 to 1.
        p_value: of that test, adjusted for all measurements of the class (Benjamini and Hochberg).
        differs: the verdict; the rule is `Metrics.rules["morphometry"]`.
    """

    n_real: int
    n_fake: int
    real: tuple[float, float, float]
    fake: tuple[float, float, float]
    wasserstein: float
    floor: float | None
    floor_high: float | None
    ks: float
    p_value: float
    differs: bool


class PartShare(Record):
    """How many cells of one class have a nucleus or cytoplasm; its measurements do not count those without.

    Attributes:
        n_real: unseen real cells.
        n_fake: synthetic cells.
        real: share of the real ones that have it.
        fake: of the synthetic ones.
        floor_high: 97.5th percentile, over the divisions, of how far real cells of other groups are apart in
            equal numbers; None where there are too few.
        p_value: of Fisher's exact test, times the number of such tests, at most 1.
        differs: the verdict; the rule is `Metrics.rules["morphometry"]`.
    """

    n_real: int
    n_fake: int
    real: float
    fake: float
    floor_high: float | None
    p_value: float
    differs: bool


class Morphometry(Record):
    """Measurements of cells by their masks.

    Attributes:
        source: "given" where both sides came with masks, "unsupervised" where masks were made from the
            pictures, by the same steps on both sides.
        classes: class -> measurement -> comparison.
        parts: class -> "nucleus" or "cytoplasm" -> share of cells that have it.
    """

    source: str
    classes: dict[str, dict[str, Measurement]]
    parts: dict[str, dict[str, PartShare]] = Field({})


class Verdict(Record):
    """One line in plain language, computed by a fixed rule.

    Attributes:
        topic: "realism", "variety", "classes", "copies", or "note".
        tone: good, bad, unsure, or a note that judges nothing.
        headline: the statement.
        because: the numbers behind it.
    """

    topic: str
    tone: Tone
    headline: str
    because: str


class Counts(Record):
    """How many images there are of each kind."""

    synthetic: int
    holdout: int
    train: int
    real: int


class Metrics(Record):
    """What an evaluation found; the content of metrics.json.

    Attributes:
        extractor: whose features all numbers are of, with its input size.
        resolution: side of real and synthetic images, in pixels.
        k: neighbours in precision, recall, density and coverage.
        split_sha256: which division of the real cells was used.
        manifest_sha256: which synthetic set was evaluated.
        config_sha256: of the training that made it; None in files of older versions.
        counts: of images.
        overall: name -> number, all classes together.
        sizes: how many were compared overall.
        collapse: overall.
        classes: the same for each class.
        copies: None with fewer than `copies.FEWEST` training or held-back cells, of all or of each class.
        class_correctness: None where a classifier cannot be trained.
        morphometry: None without masks.
        verdicts: in the order in which they should be read.
        warnings: what a reader must know before quoting a number.
        rules: how verdicts, floors and intervals are computed, in words.
        seconds: time spent, by part.
    """

    format: Literal[1] = 1
    kind: Literal["metrics"] = "metrics"
    extractor: str
    resolution: int
    k: int
    split_sha256: str
    manifest_sha256: str
    config_sha256: str | None = None
    counts: Counts
    overall: dict[str, Number]
    sizes: dict[str, int]
    collapse: Collapse | None
    classes: dict[str, Comparison]
    copies: Copies | None
    class_correctness: ClassCorrectness | None
    morphometry: Morphometry | None = None
    verdicts: tuple[Verdict, ...] = ()
    warnings: tuple[str, ...] = ()
    rules: dict[str, str] = Field({})
    seconds: dict[str, float] = Field({})

    def save(self, path: Path) -> None:
        """Write as JSON, atomically."""
        write_json(path, self.model_dump(mode="json"))

    @staticmethod
    def load(path: Path) -> Metrics:
        """Read a metrics.json.

        Raises:
            ConfigError: it is none of this version.
        """
        try:
            return Metrics.model_validate_json(path.read_bytes())
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{path} is not a metrics.json that this version can read ({type(error).__name__}); "
                "run `cytoforge evaluate` again."
            ) from error


def difference(first: Metrics, second: Metrics) -> dict[str, float]:
    """How much each overall number of `second` is above that of `first`.

    Args:
        first: an evaluation.
        second: another, of the same extractor, resolution, split and k.

    Returns:
        Name -> difference. Where the numbers of images differ by more than a tenth, only those scores whose
        expectation does not depend on it.

    Raises:
        ConfigError: the two cannot be compared.
    """
    for name in ("extractor", "resolution", "split_sha256", "k"):
        ours, theirs = getattr(first, name), getattr(second, name)
        if ours != theirs:
            raise ConfigError(
                f"these evaluations cannot be compared: {name} is {ours} in one and {theirs} in the other. "
                f"Evaluate both sets with the same {name}."
            )
    alike = all(
        abs(first.sizes[side] - second.sizes[side]) <= 0.1 * max(first.sizes[side], second.sizes[side])
        for side in first.sizes
    )
    names = [name for name in first.overall if name in second.overall and (alike or name in SIZE_FREE)]
    return {name: second.overall[name].value - first.overall[name].value for name in names}
