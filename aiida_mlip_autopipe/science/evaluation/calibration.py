"""How far a committee's disagreement can be taken for an error.

Potentials that were trained alike err alike, so that their disagreement is too small; it is in proportion to the error
at best. F. Musil et al., J. Chem. Theory Comput. 15, 906 (2019): the factor that makes the errors most likely is the
root mean square of their ratio.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from aiida_mlip_autopipe.science.evaluation.records import Calibration

__all__ = ['calibrate']


def calibrate(disagreements: ArrayLike, errors: ArrayLike) -> Calibration:
    """Compare disagreements with errors.

    Parameters
    ----------
    disagreements, errors : array_like
        Of the same frames, in the same unit. Frames where one is not finite, or nothing disagreed, are left out.

    Returns
    -------
    dict
        ``n_frames``: how many were compared; ``factor``: by which a disagreement is to be multiplied for an error;
        ``rank_correlation``: Spearman's, which says whether frames with a larger disagreement have a larger error. Each
        is None where there are too few frames (one, three) or all are alike.
    """
    from scipy.stats import spearmanr

    pairs = np.array([disagreements, errors], dtype=float).reshape(2, -1)
    disagreement, error = pairs[:, np.isfinite(pairs).all(axis=0) & (pairs[0] > 0)]
    n_frames = len(error)
    factor = float(np.sqrt(np.mean((error / disagreement) ** 2))) if n_frames else None
    ranked = n_frames >= 3 and np.ptp(disagreement) > 0 and np.ptp(error) > 0
    correlation = float(spearmanr(disagreement, error).statistic) if ranked else None
    return {'n_frames': n_frames, 'factor': factor, 'rank_correlation': correlation}
