"""How well a selection covers all frames. No single figure predicts the error of a trained potential.

The coverage score of DIRECT (bins of each component that the selection occupies, over those that all frames occupy;
J. Qi et al., npj Comput. Mater. 10, 43 (2024)) can be bought with a few extreme frames. The covering radius is the
distance of the frame that is worst represented, the mean distance and the quantisation error (its root mean square)
are those of all frames, each counted as often as it was visited. They are to be read beside those of a random and of a
farthest-point selection of the same size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aiida_mlip_autopipe.science.sampling.clustering import Centres
from aiida_mlip_autopipe.science.sampling.selection import bins_of

__all__ = ['Coverage', 'coverage_of', 'coverage_score', 'five_numbers', 'radius_by_budget']


@dataclass(frozen=True)
class Coverage:
    """What a selection leaves uncovered; None where nothing was selected.

    Attributes
    ----------
    coverage : float
        Occupied bins of the selection over those of all frames, mean over the components; 1 is best.
    covering_radius : float
        Largest distance of a frame from the nearest selected one, in the reduced space.
    mean_distance : float
        Its mean over all frames.
    quantisation_error : float
        Its root mean square.
    """

    coverage: float | None
    covering_radius: float | None
    mean_distance: float | None
    quantisation_error: float | None


def coverage_of(points: np.ndarray, chosen: np.ndarray) -> Coverage:
    """Judge a selection.

    Parameters
    ----------
    points : numpy.ndarray
        All frames in the reduced space (n, n_components), float32.
    chosen : numpy.ndarray
        The selected ones, and what else is known, there (n_chosen, n_components), float32.
    """
    if len(chosen) == 0:
        return Coverage(None, None, None, None)
    _, distances = Centres(chosen).nearest(points)
    return Coverage(
        coverage_score(points, chosen),
        float(distances.max()),
        float(distances.mean(dtype=np.float64)),
        float(np.sqrt(np.square(distances).mean(dtype=np.float64))),
    )


def coverage_score(points: np.ndarray, chosen: np.ndarray) -> float:
    """Return the coverage score of DIRECT, see `Coverage`; chosen points outside the range of all count for nothing."""
    low, high = points.min(axis=0), points.max(axis=0)
    inside = np.maximum(low, np.minimum(high, chosen)) == chosen
    of_all, of_chosen = bins_of(points, low, high), bins_of(np.clip(chosen, low, high), low, high)
    ratios = [
        len(np.unique(of_chosen[inside[:, column], column])) / np.count_nonzero(np.bincount(of_all[:, column]))
        for column in range(points.shape[1])
    ]
    return float(np.mean(ratios))


def radius_by_budget(points: np.ndarray, picks: np.ndarray, budgets: np.ndarray, uncovered: np.ndarray) -> np.ndarray:
    """Return the covering radius of the first picks, for each budget for which there are enough.

    Parameters
    ----------
    points, picks : numpy.ndarray
        In the reduced space (n, n_components) and (n_picks, n_components), float32.
    budgets : numpy.ndarray
        Ascending, from 1.
    uncovered : numpy.ndarray
        Distance of each point from what is known (n,), float32; infinity where nothing is.
    """
    distances, radii, n_done = uncovered, [], 0
    for budget in budgets[budgets <= len(picks)]:
        distances = np.minimum(distances, Centres(picks[n_done:budget]).nearest(points)[1])
        radii.append(distances.max())
        n_done = budget
    return np.array(radii)


def five_numbers(values: np.ndarray | None) -> dict[str, float] | None:
    """Return the least, the quartiles and the largest of some numbers; None where there are none."""
    if values is None or len(values) == 0:
        return None
    names = ('min', 'q25', 'median', 'q75', 'max')
    return dict(zip(names, map(float, np.quantile(values, [0, 0.25, 0.5, 0.75, 1])), strict=True))
