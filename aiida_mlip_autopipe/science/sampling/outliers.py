"""Rows that are far from all others do not decide what the others are compared by.

One row at 300 spreads in all features makes the standard deviations ten times as large and all features alike: of
eight principal components one is left. So rows that lie outside the bounds of a feature are set apart: mean and
covariance are those of the others. They are still projected, and may be selected: whether such a frame is worth a
label is a question for the limits.

The bounds are the median plus or minus `REACH` times half the range of the central 99 % (some ten standard deviations
of a normal distribution), in a sample of the rows that depends on their content alone. Where no row is outside, which
is known after the first reading, nothing is read again and nothing changes. Where more than `MOST` of the rows are,
they are a population, and nothing changes either.

Quantiles instead of moments for what is not to be spoilt: P. J. Huber, Robust Statistics, Wiley (1981).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from aiida_mlip_autopipe.science.sampling.reduction import Moments, Reduction, read_again
from aiida_mlip_autopipe.science.sampling.rows import RowSource

__all__ = ['Outliers', 'set_apart', 'warning_of']

#: Half-ranges of the central 99 % from the median; fraction of the rows that may be set apart.
REACH, MOST = 4.0, 0.05

#: Fraction of the sample above, and below, the central part; and where the sample is small, at least so many rows.
TRIMMED, LEAST_TRIMMED, ROWS_PER_TRIMMED = 0.005, 2, 20


@dataclass(frozen=True)
class Outliers:
    """Rows that were set apart.

    Attributes
    ----------
    rows : numpy.ndarray
        Rows of X (n_outliers,), int64.
    half_ranges : float
        How far the farthest is from the median of the feature in which it is farthest, in half-ranges of the central
        99 %; 0 without any.
    """

    rows: np.ndarray
    half_ranges: float


def set_apart(source: RowSource, moments: Moments) -> tuple[Moments, Outliers]:
    """Return the moments of the rows without those that are far from all others.

    Parameters
    ----------
    source : RowSource
        The rows, read once more where one is outside the bounds.
    moments : Moments
        Of all usable rows.

    Raises
    ------
    ValueError
        If they are not the rows that were read first.
    """
    nothing = Outliers(np.empty(0, np.int64), 0.0)
    middle, half = _central_part(moments.sample)
    low, high = moments.extremes
    reach = np.where(half > 0, REACH * half, np.inf)
    if not ((low < middle - reach) | (high > middle + reach)).any():
        return moments, nothing
    is_outside, total, products = [], np.zeros(len(low)), np.zeros((len(low), len(low)))
    for whole, n_staged in read_again(source, moments, middle):
        staged = whole[:n_staged]
        outside = (np.abs(staged) > reach).any(axis=1)
        inside = staged[~outside]
        total += np.ones(len(inside), inside.dtype) @ inside
        products += inside.T @ inside
        is_outside.append(outside)
    outside = np.concatenate(is_outside)
    n_inside = int(np.count_nonzero(~outside))
    if n_inside < (1 - MOST) * len(outside):
        return moments, nothing
    offset = total / n_inside
    farthest = float((np.maximum(high - middle, middle - low) / np.where(half > 0, half, np.inf)).max())
    others = replace(moments, mean=middle + offset, covariance=products / n_inside - np.outer(offset, offset))
    return others, Outliers(np.flatnonzero(moments.usable)[outside], farthest)


def warning_of(outliers: Outliers, classical: Reduction, reduction: Reduction) -> str | None:
    """Return what to beware of where outliers would have changed the number of components by a factor of two."""
    before, after = len(classical.components), len(reduction.components)
    if max(before, after) < 2 * min(before, after):
        return None
    rows = outliers.rows
    named = ', '.join(map(str, rows[:3])) + (', ...' if len(rows) > 3 else '')
    return (
        f'X has {len(rows)} outlying row{"s" if len(rows) > 1 else ""} ({named}), up to {outliers.half_ranges:.0f} '
        f'times as far from the median as 99 % of the rows: with them the number of principal components would be '
        f'{before} instead of {after}. They do not count in the reduction, but may be selected: look at these frames, '
        'and exclude them (limits) if they are broken'
    )


def _central_part(sample: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the median and half the central range of each feature (n_features,); 0 where there are too few rows."""
    n_rows = len(sample)
    n_trimmed = max(int(np.ceil(TRIMMED * n_rows)), LEAST_TRIMMED)
    if n_rows < n_trimmed * ROWS_PER_TRIMMED:
        return sample.mean(axis=0), np.zeros(sample.shape[1])
    places = [n_trimmed, n_rows // 2, n_rows - 1 - n_trimmed]
    low, middle, high = np.partition(sample, places, axis=0)[places]
    return middle, 0.5 * (high - low)
