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
    total_magnetization_uB, absolute_magnetization_uB : float or None
        Integral of the spin density of the cell, and of its absolute value, in µB; None without spin polarisation.
    fermi_energy_eV : float or None
        None where there is none, or one for each spin.
    n_scf_steps : int or None
        Steps to self-consistency.
    site_moments_uB : numpy.ndarray or None, shape (N,)
        Moment in a sphere around each atom, in µB: the sign tells the order, the size depends on the radius.
    """

    energy: float
    forces: np.ndarray
    stress: np.ndarray
    job: str = ''
    converged: bool = True
    problem: str = ''
    total_magnetization_uB: float | None = None
    absolute_magnetization_uB: float | None = None
    fermi_energy_eV: float | None = None
    n_scf_steps: int | None = None
    site_moments_uB: np.ndarray | None = None

    @property
    def is_finite(self) -> bool:
        """Return whether all its numbers are."""
        return self.is_usable()

    def is_usable(self, with_stress: bool = True) -> bool:
        """Return whether energy, forces and, where there is to be one, stress are finite."""
        without_stress = bool(np.isfinite(self.energy) and np.isfinite(self.forces).all())
        return without_stress and (not with_stress or bool(np.isfinite(self.stress).all()))
