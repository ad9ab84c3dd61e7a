"""What a cell of each class is made of, in micrometres and optical densities.

The ranges come from cytology texts (a nuclear area of about 35 square micrometres in intermediate cells, 50
in parabasal and metaplastic ones; pyknotic nuclei of superficial cells below 6 micrometres across) and from
looking at the five SIPaKMeD classes; no pixel of any real image is used.

Reference:
    Nayar and Wilbur (eds), The Bethesda System for Reporting Cervical Cytology, 3rd edition, 2015.
    Plissiti et al., SIPAKMED: a new dataset for feature and image based classification of normal and
    pathological cervical cells in Pap smear images, ICIP 2018.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytoforge.data.phantom.fields import (
    Outline,
    area,
    polygonal_outline,
    reach,
    rounded_outline,
    spidery_outline,
)

Range = tuple[float, float]
Mix = tuple[float, float, float, float]

CLASSES = ("Dyskeratotic", "Koilocytotic", "Metaplastic", "Parabasal", "Superficial-Intermediate")

# Hematoxylin, eosin, light green, orange G in the cytoplasm, before its density.
PALETTES: dict[str, Mix] = {
    "cyan": (0.13, 0.0, 0.95, 0.0),
    "green": (0.16, 0.04, 0.88, 0.14),
    "blue": (0.4, 0.0, 0.72, 0.0),
    "grey": (0.22, 0.2, 0.42, 0.04),
    "pink": (0.0, 0.95, 0.0, 0.06),
    "rose": (0.3, 0.62, 0.06, 0.04),
    "red": (0.06, 0.95, 0.05, 0.32),
    "orange": (0.0, 0.5, 0.0, 0.8),
    "brown": (0.34, 0.46, 0.26, 0.52),
}


@dataclass(frozen=True)
class Traits:
    """Ranges of one kind of cell; a range is (least, most), a chance is in [0, 1].

    Attributes:
        diameter: of the cell, micrometres.
        nucleus: diameter of the nucleus, micrometres.
        aspect: long axis through short axis of the cell.
        irregularity: wobble of the cell's edge.
        polygonal: chance of a polygonal outline.
        spidery: chance of an outline with processes.
        nucleus_aspect: long axis through short axis of the nucleus.
        nucleus_irregularity: wobble of the nuclear edge.
        nucleus_density: optical density of the hematoxylin in the nucleus.
        chromatin: relative contrast of the chromatin.
        grain: size of the chromatin grains, micrometres.
        membrane: extra density along the nuclear membrane.
        eccentricity: distance of the nucleus from the centre as a share of the free way.
        pyknotic: chance of a small, structureless, nearly black nucleus.
        binucleated: chance of a second nucleus.
        clumped: chance of a shattered or lobed, hyperchromatic nucleus.
        density: optical density of the cytoplasm.
        dome: how much thicker the middle is than the edge.
        edge: how far the cell's edge fades, micrometres.
        rim: extra density along the cell's edge.
        mottling: relative contrast of the cytoplasm's texture.
        granules: density of fine dark granules.
        wrinkles: density of fine crossing lines.
        folds: number of folds.
        halo: chance of a clear zone about the nucleus with a condensed edge.
        vacuoles: chance of holes in the cytoplasm.
        margin: half-width of the crop through half-width of the cell.
        neighbours: mean number of other cells that reach into the crop.
        palettes: cytoplasm colours and their weights.
    """

    diameter: Range
    nucleus: Range
    aspect: Range
    irregularity: Range
    polygonal: float
    spidery: float
    nucleus_aspect: Range
    nucleus_irregularity: Range
    nucleus_density: Range
    chromatin: Range
    grain: Range
    membrane: Range
    eccentricity: Range
    pyknotic: float
    binucleated: float
    clumped: float
    density: Range
    dome: Range
    edge: Range
    rim: Range
    mottling: Range
    granules: Range
    wrinkles: Range
    folds: tuple[int, int]
    halo: float
    vacuoles: float
    margin: Range
    neighbours: float
    palettes: dict[str, float]


# fmt: off
TRAITS: dict[str, Traits] = {
    "Dyskeratotic": Traits(
        diameter=(14.0, 27.0), nucleus=(6.8, 12.5), aspect=(1.0, 2.1), irregularity=(0.02, 0.11),
        polygonal=0.25, spidery=0.08, nucleus_aspect=(1.0, 1.8), nucleus_irregularity=(0.02, 0.11),
        nucleus_density=(0.6, 1.45), chromatin=(0.06, 0.3), grain=(1.0, 2.4), membrane=(0.0, 0.3),
        eccentricity=(0.0, 0.6), pyknotic=0.2, binucleated=0.06, clumped=0.16,
        density=(0.36, 0.95), dome=(0.1, 1.1), edge=(0.3, 1.6), rim=(0.0, 0.3), mottling=(0.04, 0.2),
        granules=(0.0, 0.06), wrinkles=(0.0, 0.3), folds=(0, 2), halo=0.05, vacuoles=0.04,
        margin=(0.74, 1.05), neighbours=3.6,
        palettes={"red": 0.27, "orange": 0.25, "brown": 0.2, "rose": 0.14, "pink": 0.06, "grey": 0.04,
                  "blue": 0.04},
    ),
    "Koilocytotic": Traits(
        diameter=(23.0, 42.0), nucleus=(9.0, 14.5), aspect=(1.0, 1.9), irregularity=(0.02, 0.1),
        polygonal=0.45, spidery=0.1, nucleus_aspect=(1.05, 1.9), nucleus_irregularity=(0.02, 0.11),
        nucleus_density=(0.5, 1.4), chromatin=(0.08, 0.34), grain=(0.9, 2.2), membrane=(0.0, 0.4),
        eccentricity=(0.1, 0.75), pyknotic=0.1, binucleated=0.22, clumped=0.04,
        density=(0.22, 0.7), dome=(-0.3, 0.4), edge=(0.25, 0.9), rim=(0.1, 0.8), mottling=(0.06, 0.24),
        granules=(0.0, 0.1), wrinkles=(0.1, 1.6), folds=(0, 3), halo=0.78, vacuoles=0.04,
        margin=(0.8, 1.1), neighbours=2.0,
        palettes={"rose": 0.24, "cyan": 0.18, "grey": 0.21, "blue": 0.15, "brown": 0.1, "green": 0.05,
                  "pink": 0.07},
    ),
    "Metaplastic": Traits(
        diameter=(21.0, 32.0), nucleus=(7.2, 10.2), aspect=(1.0, 1.6), irregularity=(0.01, 0.06),
        polygonal=0.14, spidery=0.14, nucleus_aspect=(1.0, 1.6), nucleus_irregularity=(0.005, 0.04),
        nucleus_density=(0.35, 0.95), chromatin=(0.05, 0.22), grain=(0.8, 1.6), membrane=(0.0, 0.35),
        eccentricity=(0.1, 0.75), pyknotic=0.04, binucleated=0.04, clumped=0.0,
        density=(0.32, 1.15), dome=(-0.1, 0.6), edge=(0.25, 0.9), rim=(0.05, 0.6), mottling=(0.03, 0.17),
        granules=(0.0, 0.05), wrinkles=(0.0, 0.9), folds=(0, 2), halo=0.05, vacuoles=0.3,
        margin=(0.84, 1.1), neighbours=2.4,
        palettes={"cyan": 0.36, "green": 0.22, "blue": 0.24, "grey": 0.12, "rose": 0.06},
    ),
    "Parabasal": Traits(
        diameter=(16.0, 24.0), nucleus=(7.6, 11.0), aspect=(1.0, 1.5), irregularity=(0.005, 0.04),
        polygonal=0.06, spidery=0.0, nucleus_aspect=(1.0, 1.6), nucleus_irregularity=(0.002, 0.025),
        nucleus_density=(0.2, 0.62), chromatin=(0.02, 0.12), grain=(0.8, 1.5), membrane=(0.0, 0.12),
        eccentricity=(0.0, 0.7), pyknotic=0.0, binucleated=0.02, clumped=0.0,
        density=(0.16, 0.55), dome=(0.0, 0.7), edge=(0.4, 2.0), rim=(0.0, 0.12), mottling=(0.02, 0.1),
        granules=(0.0, 0.03), wrinkles=(0.0, 0.25), folds=(0, 1), halo=0.0, vacuoles=0.05,
        margin=(0.76, 1.06), neighbours=2.6,
        palettes={"blue": 0.38, "cyan": 0.28, "grey": 0.12, "rose": 0.1, "red": 0.06, "pink": 0.06},
    ),
    "Superficial-Intermediate": Traits(
        diameter=(42.0, 62.0), nucleus=(7.0, 9.2), aspect=(1.0, 1.6), irregularity=(0.01, 0.055),
        polygonal=0.7, spidery=0.0, nucleus_aspect=(1.0, 1.6), nucleus_irregularity=(0.005, 0.05),
        nucleus_density=(0.7, 1.25), chromatin=(0.06, 0.24), grain=(0.8, 1.7), membrane=(0.0, 0.25),
        eccentricity=(0.0, 0.4), pyknotic=0.5, binucleated=0.03, clumped=0.0,
        density=(0.18, 0.5), dome=(-0.2, 0.6), edge=(0.25, 1.2), rim=(0.0, 0.3), mottling=(0.05, 0.22),
        granules=(0.0, 0.09), wrinkles=(0.1, 1.4), folds=(0, 4), halo=0.0, vacuoles=0.0,
        margin=(0.9, 1.1), neighbours=2.0,
        palettes={"pink": 0.4, "cyan": 0.17, "grey": 0.18, "blue": 0.1, "orange": 0.07, "rose": 0.08},
    ),
}
# fmt: on


@dataclass(frozen=True)
class Nucleus:
    """One nucleus; lengths in micrometres, densities optical.

    Attributes:
        centre: from the cell's centre.
        outline: radii in all directions.
        density: of its hematoxylin.
        chromatin: relative contrast of its texture.
        grain: size of the grains.
        membrane: extra density along its edge.
        eosin: share of red in its colour.
        nucleoli: centres relative to the nucleus.
    """

    centre: tuple[float, float]
    outline: Outline
    density: float
    chromatin: float
    grain: float
    membrane: float
    eosin: float
    nucleoli: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Fold:
    """A crease: line of extra density, and beyond it perhaps a flap of doubled thickness."""

    angle: float
    offset: float
    bend: float
    width: float
    strength: float
    flap: float


@dataclass(frozen=True)
class Halo:
    """Clear zone about the nucleus: outline, share of the cytoplasm that is missing, density of its edge."""

    outline: Outline
    centre: tuple[float, float]
    clearing: float
    rim: float
    softness: float


@dataclass(frozen=True)
class Anatomy:
    """One cell, whole: everything about it that does not depend on stain, light or focus.

    Attributes:
        label: class, one of `CLASSES`.
        outline: radii of the cell's edge in all directions, micrometres.
        nuclei: one or more.
        halo: of a koilocyte.
        folds: creases of a thin cell.
        vacuoles: (x, y, radius) of holes in the cytoplasm.
        palette: colour of the cytoplasm, a key of `PALETTES`.
        second_palette: colour it passes into on one side.
        density: optical density of the cytoplasm.
        dome: relative thickness of the middle.
        edge: fading of the edge, micrometres.
        rim: relative density of the edge.
        mottling: contrast of the cytoplasm's texture.
        granules: density of granules.
        wrinkles: density of fine lines.
        margin: of the crop.
    """

    label: str
    outline: Outline
    nuclei: tuple[Nucleus, ...]
    halo: Halo | None
    folds: tuple[Fold, ...]
    vacuoles: tuple[tuple[float, float, float], ...]
    palette: str
    second_palette: str
    density: float
    dome: float
    edge: float
    rim: float
    mottling: float
    granules: float
    wrinkles: float
    margin: float

    @property
    def cell_area(self) -> float:
        """Nucleus and cytoplasm together, square micrometres."""
        return area(self.outline)

    @property
    def nucleus_area(self) -> float:
        """Sum over the nuclei, square micrometres."""
        return sum(area(nucleus.outline) for nucleus in self.nuclei)

    @property
    def middle(self) -> tuple[float, float]:
        """Centre of the bounding box, micrometres from the cell's centre."""
        left, right, top, bottom = reach(self.outline)
        return (left + right) / 2, (top + bottom) / 2

    @property
    def side(self) -> float:
        """Longer side of the bounding box, micrometres."""
        left, right, top, bottom = reach(self.outline)
        return max(right - left, bottom - top)


def grow(label: str, rng: np.random.Generator, palette: str | None = None) -> Anatomy:
    """A cell of class `label`, drawn at random.

    Args:
        label: one of `CLASSES`.
        rng: source of all its measures.
        palette: colour of the cytoplasm; drawn from the class's own where None.
    """
    traits = TRAITS[label]
    radius = draw(rng, traits.diameter) / 2
    outline = _cell_outline(rng, traits, radius)
    nuclei = _grow_nuclei(rng, traits, outline)
    drawn = choose(rng, traits.palettes)
    second = choose(rng, traits.palettes)
    return Anatomy(
        label=label,
        outline=outline,
        nuclei=nuclei,
        halo=_grow_halo(rng, nuclei, outline) if rng.random() < traits.halo else None,
        folds=_fold(rng, traits, radius),
        vacuoles=_vacuoles(rng, radius) if rng.random() < traits.vacuoles else (),
        palette=palette or drawn,
        second_palette=second if rng.random() < 0.15 else palette or drawn,
        density=draw(rng, traits.density),
        dome=draw(rng, traits.dome),
        edge=draw(rng, traits.edge),
        rim=draw(rng, traits.rim),
        mottling=draw(rng, traits.mottling),
        granules=draw(rng, traits.granules),
        wrinkles=draw(rng, traits.wrinkles) * float(rng.random()),
        margin=draw(rng, traits.margin),
    )


def draw(rng: np.random.Generator, bounds: Range) -> float:
    """A number between two bounds, more often near their middle than near either."""
    low, high = bounds
    return low + (high - low) * float(rng.beta(1.6, 1.6))


def choose(rng: np.random.Generator, weights: dict[str, float]) -> str:
    """One key, by weight."""
    names = sorted(weights)
    chances = np.array([weights[name] for name in names])
    return names[int(rng.choice(len(names), p=chances / chances.sum()))]


def _cell_outline(rng: np.random.Generator, traits: Traits, radius: float) -> Outline:
    aspect, irregularity = draw(rng, traits.aspect), draw(rng, traits.irregularity)
    kind = rng.random()
    if kind < traits.polygonal:
        return polygonal_outline(rng, radius, aspect, irregularity)
    if kind < traits.polygonal + traits.spidery:
        return spidery_outline(rng, radius, aspect, irregularity)
    return rounded_outline(rng, radius, aspect, irregularity)


def _grow_nuclei(rng: np.random.Generator, traits: Traits, outline: Outline) -> tuple[Nucleus, ...]:
    free = float(outline.min())
    pyknotic = rng.random() < traits.pyknotic
    diameter = draw(rng, traits.nucleus) * (draw(rng, (0.68, 0.82)) if pyknotic else 1.0)
    radius = min(diameter / 2, 0.78 * free)
    direction = rng.uniform(-np.pi, np.pi)
    way = draw(rng, traits.eccentricity) * max(free - 1.1 * radius, 0.0)
    centre = np.array([np.cos(direction), np.sin(direction)]) * way
    if rng.random() < traits.binucleated:
        return _pair(rng, traits, centre, min(0.82 * radius, 0.45 * free))
    if rng.random() < traits.clumped:
        return _clump(rng, traits, centre, radius)
    return (_nucleus(rng, traits, centre, radius, pyknotic),)


def _nucleus(
    rng: np.random.Generator,
    traits: Traits,
    centre: NDArray[np.float64],
    radius: float,
    pyknotic: bool = False,
) -> Nucleus:
    outline = rounded_outline(
        rng, radius, draw(rng, traits.nucleus_aspect), draw(rng, traits.nucleus_irregularity)
    )
    nucleoli = rng.uniform(-0.45, 0.45, (int(rng.integers(0, 3)), 2)) * radius
    return Nucleus(
        centre=(float(centre[0]), float(centre[1])),
        outline=outline,
        density=draw(rng, traits.nucleus_density) * (1.35 if pyknotic else 1.0),
        chromatin=draw(rng, traits.chromatin) * (0.35 if pyknotic else 1.0),
        grain=draw(rng, traits.grain),
        membrane=draw(rng, traits.membrane),
        eosin=float(rng.beta(1.0, 3.0)),
        nucleoli=() if pyknotic else tuple((float(x), float(y)) for x, y in nucleoli),
    )


def _pair(
    rng: np.random.Generator, traits: Traits, centre: NDArray[np.float64], radius: float
) -> tuple[Nucleus, ...]:
    direction = rng.uniform(-np.pi, np.pi)
    apart = np.array([np.cos(direction), np.sin(direction)]) * radius * draw(rng, (0.8, 1.15))
    sizes = draw(rng, (0.85, 1.0)), draw(rng, (0.75, 1.0))
    return (
        _nucleus(rng, traits, centre + apart, radius * sizes[0]),
        _nucleus(rng, traits, centre - apart, radius * sizes[1]),
    )


def _clump(
    rng: np.random.Generator, traits: Traits, centre: NDArray[np.float64], radius: float
) -> tuple[Nucleus, ...]:
    lobes = int(rng.integers(2, 4))
    places = centre + rng.normal(0, 0.5 * radius, (lobes, 2)).clip(-0.6 * radius, 0.6 * radius)
    return tuple(_nucleus(rng, traits, place, radius * draw(rng, (0.45, 0.72)), True) for place in places)


def _grow_halo(rng: np.random.Generator, nuclei: tuple[Nucleus, ...], outline: Outline) -> Halo:
    centres = np.array([nucleus.centre for nucleus in nuclei])
    middle = centres.mean(0)
    spread = float(np.hypot(*(centres - middle).T).max())
    nuclear = spread + max(float(nucleus.outline.max()) for nucleus in nuclei)
    most = 0.86 * float(outline.min()) - 0.3 * float(np.hypot(*middle))
    radius = min(nuclear * draw(rng, (1.2, 1.9)), max(most, 1.08 * nuclear))
    aside = rng.normal(0, 0.12, 2) * radius
    return Halo(
        outline=rounded_outline(rng, radius, draw(rng, (1.0, 1.4)), draw(rng, (0.02, 0.09))),
        centre=(float(middle[0] + aside[0]), float(middle[1] + aside[1])),
        clearing=draw(rng, (0.15, 0.85)),
        rim=draw(rng, (0.0, 0.9)),
        softness=draw(rng, (0.25, 1.3)),
    )


def _fold(rng: np.random.Generator, traits: Traits, radius: float) -> tuple[Fold, ...]:
    count = int(rng.integers(traits.folds[0], traits.folds[1] + 1))
    return tuple(
        Fold(
            angle=rng.uniform(-np.pi, np.pi),
            offset=radius * draw(rng, (0.15, 0.95)),
            bend=rng.normal(0, 0.35) / radius,
            width=draw(rng, (0.35, 1.3)),
            strength=draw(rng, (0.15, 0.8)),
            flap=draw(rng, (0.1, 0.6)) if rng.random() < 0.45 else 0.0,
        )
        for _ in range(count)
    )


def _vacuoles(rng: np.random.Generator, radius: float) -> tuple[tuple[float, float, float], ...]:
    places = rng.normal(0, 0.42 * radius, (int(rng.integers(1, 6)), 2))
    return tuple((float(x), float(y), draw(rng, (0.05, 0.17)) * radius) for x, y in places)
