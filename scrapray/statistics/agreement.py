"""How far two people agree beyond chance, and how sure a share is that was counted on few cases.

Shapes: L loads, C categories, R draws.
"""

import math

import numpy as np
import numpy.typing as npt

from scrapray.statistics import bootstrap

_Z = 1.959963984540054
"""Standard normal quantile of 97.5 %."""

Interval = tuple[float, float]
Counts = npt.NDArray[np.floating] | npt.NDArray[np.integer]


def cohens_kappa(table_CC: Counts) -> float:
    """Agreement of two judges beyond chance, -1 to 1; not a number where both always said the same one thing.

        kappa = (p_o - p_e) / (1 - p_e)

    with ``p_o`` the share of cases on the diagonal, and ``p_e`` what it would be for judges who say each category as
    often as these do, but independently.

    Args:
        table_CC: Number of cases by what the first (rows) and the second (columns) said; leading axes are more tables.

    Reference: Cohen 1960, A coefficient of agreement for nominal scales, equation 1.
    """
    return float(_kappas(np.asarray(table_CC, np.float64)))


def kappa_interval(tables_LCC: Counts) -> Interval | None:
    """95 % interval of ``cohens_kappa`` over loads; None for fewer than two of them, or if all draws say the same.

    Frames of one load are near copies of each other, so loads are drawn, see ``bootstrap``.

    Args:
        tables_LCC: A table of each load.
    """
    if len(tables_LCC) < 2:
        return None
    tables = np.asarray(tables_LCC, np.float64)
    drawn = [_kappas(np.einsum("rl,lcd->rcd", num_RL, tables)) for num_RL in bootstrap.draws(len(tables))]
    found = bootstrap.interval(drawn)
    return None if found is None or found[0] == found[1] else found


def _kappas(tables: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    num = tables.sum(axis=(-2, -1))
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = np.trace(tables, axis1=-2, axis2=-1) / num
        expected = (tables.sum(axis=-1) * tables.sum(axis=-2)).sum(axis=-1) / num**2
        return np.asarray((observed - expected) / (1 - expected))


def wilson_interval(num_right: int, num: int) -> Interval | None:
    """95 % interval of a share, 0 to 1; None where nothing was counted.

        (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)

    Reference: Wilson 1927, Probable inference, the law of succession, and statistical inference; no correction for
    continuity.
    """
    if not num:
        return None
    share = num_right / num
    middle = share + _Z**2 / (2 * num)
    reach = _Z * math.sqrt(share * (1 - share) / num + _Z**2 / (4 * num**2))
    scale = 1 + _Z**2 / num
    return max(0.0, (middle - reach) / scale), min(1.0, (middle + reach) / scale)


def ratio_interval(above_L: Counts, below_L: Counts) -> Interval | None:
    """95 % interval of a ratio of sums over loads; None where fewer than two loads have anything below the line.

    Args:
        above_L: What each load adds above the line.
        below_L: What it adds below.
    """
    if np.count_nonzero(below_L) < 2:
        return None
    drawn = []
    for num_RL in bootstrap.draws(len(above_L)):
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn.append((num_RL @ np.asarray(above_L, np.float64)) / (num_RL @ np.asarray(below_L, np.float64)))
    return bootstrap.interval(drawn)
