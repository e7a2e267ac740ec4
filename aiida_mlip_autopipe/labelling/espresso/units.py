"""From the units and signs of Quantum ESPRESSO to those of ASE."""

from __future__ import annotations

import numpy as np
from ase.stress import full_3x3_to_voigt_6_stress
from ase.units import GPa

__all__ = ['ase_stress']


def ase_stress(stress_GPa: np.ndarray) -> np.ndarray:
    """Return a stress (3, 3) that is positive under pressure, in GPa, as ASE has it: (6,), in eV/Å³, negative there."""
    voigt: np.ndarray = full_3x3_to_voigt_6_stress(-stress_GPa * GPa)
    return voigt
