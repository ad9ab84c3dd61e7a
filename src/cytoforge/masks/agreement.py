"""How well two regions agree."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def dice(found: NDArray[np.bool_], true: NDArray[np.bool_], known: NDArray[np.bool_] | None = None) -> float:
    """Twice the common area over the sum of both areas; 1 where both are empty.

    Args:
        found: (...) region.
        true: (...) region that it should be.
        known: (...) pixels that count; all where None.

    Returns:
        0 to 1.

    Example:
        >>> dice(np.array([True, True, False]), np.array([False, True, False]))
        0.6666666666666666

    Reference:
        Dice, Measures of the amount of ecologic association between species, Ecology 26, 1945.
    """
    common, both = _overlap(found, true, known)
    return 2 * common / both if both else 1.0


def iou(found: NDArray[np.bool_], true: NDArray[np.bool_], known: NDArray[np.bool_] | None = None) -> float:
    """Common area over the area of the union; 1 where both are empty. Arguments as for `dice`.

    Example:
        >>> iou(np.array([True, True, False]), np.array([False, True, False]))
        0.5
    """
    common, both = _overlap(found, true, known)
    return common / (both - common) if both else 1.0


def _overlap(
    found: NDArray[np.bool_], true: NDArray[np.bool_], known: NDArray[np.bool_] | None
) -> tuple[int, int]:
    if known is not None:
        found, true = found & known, true & known
    return int(np.count_nonzero(found & true)), int(np.count_nonzero(found) + np.count_nonzero(true))
