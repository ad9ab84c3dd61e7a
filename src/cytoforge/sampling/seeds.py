"""Which seeds a set takes: so many of each class, or a list in words."""

from __future__ import annotations

from collections.abc import Sequence

from cytoforge.core.errors import ConfigError

SEEDS_PER_CLASS = 1_000_000
"""Class k takes its default seeds from k times this number, so that no two images share their noise."""

_MOST_SEEDS = 10_000_000


def default_seeds(classes: Sequence[str], per_class: int) -> list[tuple[str, int]]:
    """Class and seed of `per_class` images of each class; no two images of the set share a seed.

    Raises:
        ConfigError: `per_class` is out of range.

    Example:
        >>> default_seeds(("Koilocytotic", "Parabasal"), 2)
        [('Koilocytotic', 0), ('Koilocytotic', 1), ('Parabasal', 1000000), ('Parabasal', 1000001)]
    """
    if not 1 <= per_class <= SEEDS_PER_CLASS:
        raise ConfigError(f"--per-class: expected 1 to {SEEDS_PER_CLASS}, got {per_class}.")
    return [
        (name, label * SEEDS_PER_CLASS + number)
        for label, name in enumerate(classes)
        for number in range(per_class)
    ]


def parse_seeds(text: str) -> list[int]:
    """Seeds from numbers and ranges, both ends included, each once.

    Raises:
        ConfigError: it is not such a list, or names more than ten million.

    Example:
        >>> parse_seeds("0-3,7,2")
        [0, 1, 2, 3, 7]
    """
    seeds: dict[int, None] = {}
    for part in text.split(","):
        first, dash, last = (word.strip() for word in part.partition("-"))
        low, high = first, last if dash else first
        if not (low.isdecimal() and high.isdecimal() and int(low) <= int(high) < 2**63):
            raise ConfigError(f'--seeds: expected numbers and ranges such as "0-99,200", got {text[:80]!r}.')
        if int(high) - int(low) + len(seeds) >= _MOST_SEEDS:
            raise ConfigError(f"--seeds: more than {_MOST_SEEDS} images at once; ask for fewer.")
        seeds |= dict.fromkeys(range(int(low), int(high) + 1))
    return list(seeds)
