"""What further labels are likely to be worth.

The error of a potential falls as a power of the number of labels (B. Huang and O. A. von Lilienfeld, J. Chem. Phys.
145, 161102 (2016)), down to a floor that no label lowers, that of the network, the training and the noise of the
labels: e = e_now (g + (1 - g) (n / n_now)^-b). Rounds are few, so all three are found by Bayesian inference on a grid,
and what is known of other potentials keeps two points from claiming too much: the exponent b is 0.5, give or take 0.5,
and the floor g anywhere below the present error, before anything was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from scipy.stats import norm

__all__ = ['LearningCurve', 'fit_learning_curve']

EXPONENT, EXPONENT_SPREAD = 0.5, 0.5
#: Trainings on the same frames from other random seeds differ by about so much (on silicon 26.9 and 36.0 meV/Å).
TRAINING_SPREAD = 0.13
FLOORS = np.linspace(0.025, 0.975, 20)
DEVIATES = norm.ppf((np.arange(25) + 0.5) / 25)
"""Of a standard normal distribution, of equal weight."""


class LearningCurve(TypedDict):
    """A fitted curve: where it is now, after ``n_labels`` (the most so far), and after ``n_more`` further labels.

    ``low`` and ``high`` bound the error ``expected`` then (68 %), and likewise ``gain_percent``, what is expected to be
    gained over ``now``. ``exponent`` is that of what lies above the ``floor``.
    """

    floor: float

    exponent: float
    exponent_std: float
    n_labels: int
    n_more: int
    now: float
    expected: float
    low: float
    high: float
    gain_low_percent: float
    gain_percent: float
    gain_high_percent: float


def fit_learning_curve(
    n_labels: Sequence[int], errors: Sequence[float], standard_errors: Sequence[float], n_more: int = 50
) -> LearningCurve | None:
    """Fit a power law and tell what the next labels are likely to bring.

    Parameters
    ----------
    n_labels : sequence of int
        Labels that each potential was trained on.
    errors, standard_errors : sequence of float
        Its error on the test set, and how uncertain this is because the test set is finite; in one unit, positive.
    n_more : int
        How many labels to look ahead.

    Returns
    -------
    LearningCurve or None
        None with fewer than two different numbers of labels.

    Raises
    ------
    ValueError
        If an error or a number of labels is not positive.
    """
    n, error, spread = (np.asarray(values, dtype=float) for values in (n_labels, errors, standard_errors))
    if not (n > 0).all() or not (error > 0).all():
        raise ValueError(f'n_labels {list(n_labels)} and errors {list(errors)} must be positive')
    if len(np.unique(n)) < 2:
        return None
    variance = (spread / error) ** 2 + TRAINING_SPREAD**2
    floor, exponent = (axis.ravel() for axis in np.meshgrid(FLOORS, EXPONENT + EXPONENT_SPREAD * DEVIATES))
    levels = np.log(error) - np.log(_shape(floor, exponent, n[:, None] / n.max()).T)  # of the present error, by point
    precision = np.sum(1 / variance)
    level = levels @ (1 / variance) / precision
    misfit = ((levels - level[:, None]) ** 2 / variance).sum(axis=1)
    weights = np.exp(-(misfit - misfit.min()) / 2)
    weights = np.tile(weights / weights.sum(), len(DEVIATES)) / len(DEVIATES)
    now = np.exp(level + DEVIATES[:, None] / np.sqrt(precision)).ravel()
    ratio = np.tile(_shape(floor, exponent, 1 + n_more / n.max()), len(DEVIATES))
    mean, square = (float(weights @ np.tile(values, len(DEVIATES))) for values in (exponent, exponent**2))
    low, expected, high = _quantiles(now * ratio, weights)
    gain_low, gain_expected, gain_high = _quantiles(100 * (1 - ratio), weights)
    return {
        'exponent': mean,
        'exponent_std': float(np.sqrt(square - mean**2)),
        'floor': _quantiles(now * np.tile(floor, len(DEVIATES)), weights)[1],
        'n_labels': int(n.max()),
        'n_more': n_more,
        'now': _quantiles(now, weights)[1],
        'expected': expected,
        'low': low,
        'high': high,
        'gain_low_percent': gain_low,
        'gain_percent': gain_expected,
        'gain_high_percent': gain_high,
    }


def _shape(floor: np.ndarray, exponent: np.ndarray, n: np.ndarray | float) -> np.ndarray:
    """Return the error with n labels over that with one, in units of the latest number of labels."""
    return floor + (1 - floor) * n**-exponent


def _quantiles(values: np.ndarray, weights: np.ndarray) -> tuple[float, float, float]:
    """Return the bounds of the central 68 % and the median, as lower bound, median, upper bound."""
    order = np.argsort(values)
    position = np.cumsum(weights[order]) - 0.5 * weights[order]
    low, middle, high = np.interp([0.16, 0.5, 0.84], position, values[order])
    return float(low), float(middle), float(high)
