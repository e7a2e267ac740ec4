"""How far potentials disagree that were trained alike: what they have not learnt, each makes up for itself.

Source: L. Zhang, D.-Y. Lin, H. Wang, R. Car and W. E, Phys. Rev. Mater. 3, 023804 (2019).
"""

from __future__ import annotations

import numpy as np

__all__ = ['disagreement']


def disagreement(forces: np.ndarray) -> np.ndarray:
    """Return how far potentials disagree on the force on each atom.

    Parameters
    ----------
    forces : ndarray, shape (n_potentials, n_atoms, 3)
        In eV/Å.

    Returns
    -------
    ndarray, shape (n_atoms,)
        Root mean square, over the potentials, of the distance of their force from the mean force, in eV/Å.
    """
    deviations = np.linalg.norm(forces - forces.mean(axis=0), axis=2)
    return np.sqrt((deviations**2).mean(axis=0))
