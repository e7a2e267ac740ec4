"""What further labels are likely to be worth.

The error of a potential falls as a power of the number of labels, e = a n^-b (B. Huang and O. A. von Lilienfeld, J.
Chem. Phys. 145, 161102 (2016)): a straight line in logarithms. Rounds are few, so the line is fitted by Bayesian linear
regression (C. M. Bishop, Pattern Recognition and Machine Learning (2006), chapter 3.3), where what is known of other
potentials keeps two points from claiming too much: the exponent is 0.5, give or take 0.5, before anything was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

__all__ = ['LearningCurve', 'fit_learning_curve']

EXPONENT, EXPONENT_SPREAD = 0.5, 0.5
FLAT_PRIOR = 1e3
#: Two trainings on the same frames from other random seeds differ by about so much of their error.
TRAINING_SPREAD = 0.05


class LearningCurve(TypedDict):
    """A fitted power law: where it is now, after ``n_labels`` (the most so far), and after ``n_more`` further labels.

    ``low`` and ``high`` bound the error ``expected`` then (68 %), and likewise ``gain_percent``, what is expected to be
    gained over ``now``.
    """

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
    latest = n.max()
    design = np.column_stack([np.ones_like(n), -np.log(n / latest)])  # the first coefficient is that of the latest
    variance = (spread / error) ** 2 + TRAINING_SPREAD**2
    prior = np.diag([FLAT_PRIOR**-2, EXPONENT_SPREAD**-2])
    covariance = np.linalg.inv(prior + design.T @ (design / variance[:, None]))
    coefficients = covariance @ (prior @ [0.0, EXPONENT] + design.T @ (np.log(error) / variance))
    level, exponent = coefficients
    ahead = float(np.log1p(n_more / latest))
    step = np.array([1.0, -ahead])
    width = float(np.sqrt(step @ covariance @ step))
    exponent_std = float(np.sqrt(covariance[1, 1]))
    gain = [100 * (1 - float(np.exp(-ahead * (exponent + sign * exponent_std)))) for sign in (-1, 0, 1)]
    expected = level - exponent * ahead
    return {
        'exponent': float(exponent),
        'exponent_std': exponent_std,
        'n_labels': int(latest),
        'n_more': n_more,
        'now': float(np.exp(level)),
        'expected': float(np.exp(expected)),
        'low': float(np.exp(expected - width)),
        'high': float(np.exp(expected + width)),
        'gain_low_percent': gain[0],
        'gain_percent': gain[1],
        'gain_high_percent': gain[2],
    }
