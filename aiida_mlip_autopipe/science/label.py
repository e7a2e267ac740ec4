"""A label: what a labelling code, or a potential, says of one structure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ['Label']


@dataclass(frozen=True)
class Label:
    """Energy, forces and stress of one structure, in ASE's units and signs: what its calculators give.

    Attributes
    ----------
    energy : float
        Total energy, in eV.
    forces : numpy.ndarray, shape (N, 3)
        Forces, in eV/Å.
    stress : numpy.ndarray, shape (6,)
        Stress in eV/Å³, in the order xx, yy, zz, yz, xz, xy; negative under pressure. NaN where unknown.
    job : str
        The first eight characters of the UUID of the job that computed it; empty where no job did.
    converged : bool
        Whether the calculation reached self-consistency.
    problem : str
        What is wrong with it beside its numbers; empty if nothing is.
    """

    energy: float
    forces: np.ndarray
    stress: np.ndarray
    job: str = ''
    converged: bool = True
    problem: str = ''

    @property
    def is_finite(self) -> bool:
        """Return whether all its numbers are."""
        return all(np.isfinite(values).all() for values in (self.energy, self.forces, self.stress))
