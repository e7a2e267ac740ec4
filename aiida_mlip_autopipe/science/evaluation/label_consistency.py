"""Whether labels agree with each other: energies of deformed copies of a crystal, and the stress in them.

With plane waves the stress is the derivative of the energy at a fixed number of waves, while the energies of two cells
have a fixed cutoff. The two agree where the cutoff is converged (the Pulay stress, as in G. P. Francis, M. C. Payne,
J. Phys.: Condens. Matter 2, 4395 (1990)). So labels themselves show a cutoff that is too low.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress
from ase.units import GPa
from scipy.linalg import logm

__all__ = ['LARGEST_MISMATCH_GPA', 'RAISE', 'cutoff_warning', 'stress_mismatch']

LARGEST_MISMATCH_GPA = 3.0
LEAST_VOLUME_STRAIN = 0.01
LEAST_SHARE_OF_VOLUME = 0.5
THIRD_ORDER = 1.0  # (B' + 1) / 12 is 0.5 of most crystals
RAISE = 'the cutoff of the labels is too low, or the k-points are too few: raise the cutoffs and label again'


def stress_mismatch(first: Atoms, second: Atoms) -> float | None:
    """Return by how much the stress in two labels misses the difference of their energies, as a pressure in GPa.

    The work along a path of constant strain rate from one cell to the other is that of the mean stress of both, to
    second order in the strain; what the third may be is taken off. None if the two are not one crystal in two cells,
    their volumes hardly differ or the strain is mostly one of shape, or one has no stress.

    Parameters
    ----------
    first, second : Atoms
        With ``REF_energy`` (eV) and ``REF_stress`` (6,) (eV/Å³) in ``info``.
    """
    if len(first) != len(second) or (first.numbers != second.numbers).any():
        return None
    if not all(np.isfinite(atoms.info.get('REF_stress', np.nan)).all() for atoms in (first, second)):
        return None
    shift = second.get_scaled_positions(wrap=False) - first.get_scaled_positions(wrap=False)
    if np.abs(shift - shift.round()).max() > 1e-4:
        return None
    gradient = np.linalg.solve(first.cell.array, second.cell.array)
    strain = 0.5 * np.real(logm(gradient.T @ gradient))
    change, size = abs(np.trace(strain)), float(np.linalg.norm(strain))
    if change < max(LEAST_VOLUME_STRAIN, LEAST_SHARE_OF_VOLUME * size):
        return None
    stresses = [voigt_6_to_full_3x3_stress(np.asarray(atoms.info['REF_stress'])) for atoms in (first, second)]
    volumes = [first.get_volume(), second.get_volume()]
    work = 0.5 * sum(volume * np.sum(one * strain) for volume, one in zip(volumes, stresses, strict=True))
    missed = abs(second.info['REF_energy'] - first.info['REF_energy'] - work) / (np.mean(volumes) * change)
    third_order = THIRD_ORDER * size * float(np.abs(stresses[1] - stresses[0]).max())
    return float(max(0.0, missed - third_order) / GPa)


def cutoff_warning(labelled: Sequence[Atoms]) -> str | None:
    """Return what to beware of where the labels of deformed seeds disagree with those of undeformed ones, else None."""
    plain = [atoms for atoms in labelled if atoms.info.get('method') == 'pristine']
    deformed = [atoms for atoms in labelled if atoms.info.get('method') == 'strained']
    found = [stress_mismatch(one, other) for one in plain for other in deformed]
    largest = max((mismatch for mismatch in found if mismatch is not None), default=0.0)
    if largest < LARGEST_MISMATCH_GPA:
        return None
    return f'labelling: energies and stress of the labels disagree by {largest:.0f} GPa; {RAISE}'
