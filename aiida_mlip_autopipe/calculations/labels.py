"""From the output of pw.x to a label, and whether to believe it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.stress import full_3x3_to_voigt_6_stress
from ase.units import GPa

from aiida_mlip_autopipe.science.parameters import LabellingParameters

if TYPE_CHECKING:
    from aiida.orm import Data, Dict, TrajectoryData

__all__ = ['check_label', 'fingerprint', 'labelled_atoms']

LEVEL_OF_THEORY = (
    'functional',
    'ecutwfc_Ry',
    'ecutrho_Ry',
    'kpoints_distance',
    'smearing',
    'degauss_Ry',
    'spin_polarised',
)


def labelled_atoms(atoms: Atoms, parameters: Dict, trajectory: TrajectoryData) -> Atoms:
    """Return a copy of a candidate with its label.

    :param atoms: the candidate.
    :param parameters: ``output_parameters`` of pw.x; energy in eV.
    :param trajectory: ``output_trajectory``; forces in eV/Å, stress in GPa with the sign of Quantum ESPRESSO, which is
        the opposite of ASE's.
    """
    frame = atoms.copy()
    frame.info['REF_energy'] = float(parameters['energy'])
    frame.arrays['REF_forces'] = np.array(trajectory.get_array('forces')[-1])
    frame.info['REF_stress'] = full_3x3_to_voigt_6_stress(-np.array(trajectory.get_array('stress')[-1]) * GPa)
    return frame


def check_label(frame: Atoms, labelling: LabellingParameters) -> str | None:
    """Return why a label is not fit for training; None if it is."""
    values = (frame.info['REF_energy'], frame.arrays['REF_forces'], frame.info['REF_stress'])
    if not all(np.isfinite(value).all() for value in values):
        return 'energy, forces or stress are not finite'
    largest = float(np.linalg.norm(frame.arrays['REF_forces'], axis=1).max())
    if largest > labelling.max_force_eV_A:
        return f'a force of {largest:.1f} eV/Å is above max_force_eV_A ({labelling.max_force_eV_A})'
    return None


def fingerprint(labelling: LabellingParameters, pseudos: Mapping[str, Data]) -> str:
    """Return what identifies the level of theory: two sets with different ones must not be mixed.

    The pseudopotentials of elements enter by their checksum, so a set that lacks an element has another fingerprint.
    """
    settings = {name: getattr(labelling, name) for name in LEVEL_OF_THEORY}
    settings['pseudos'] = {element: pseudo.md5 for element, pseudo in sorted(pseudos.items())}  # type: ignore[attr-defined]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
