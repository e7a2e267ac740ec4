"""From the output of pw.x to a label, and whether to believe it."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.stress import full_3x3_to_voigt_6_stress
from ase.units import GPa

from aiida_mlip_autopipe.science.parameters import LabellingParameters
from aiida_mlip_autopipe.science.systems import is_isolated_atom

if TYPE_CHECKING:
    from aiida.orm import ArrayData, Data, Dict, TrajectoryData

__all__ = [
    'Label',
    'batch_array',
    'check_label',
    'energy_outliers',
    'fingerprint',
    'label_of_pw',
    'labelled_atoms',
    'labels_of_batch',
    'pressure_warning',
]

LEVEL_OF_THEORY = (
    'functional',
    'ecutwfc_Ry',
    'ecutrho_Ry',
    'kpoints_distance',
    'smearing',
    'degauss_Ry',
    'spin_polarised',
)
# The median of two energies lies between them, and which of the two is wrong cannot be told.
FEWEST_FOR_MEDIAN = 3
LARGE_PRESSURE_GPA = 2.0


@dataclass(frozen=True)
class Label:
    """What pw.x says of one structure, in its own conventions.

    Attributes
    ----------
    energy : float
        Total energy, in eV.
    forces : numpy.ndarray, shape (N, 3)
        Forces, in eV/Å.
    stress : numpy.ndarray, shape (3, 3)
        Stress in GPa, with the sign of Quantum ESPRESSO, which is the opposite of ASE's.
    job : str
        The first eight characters of the UUID of the pw.x calculation.
    converged : bool
        Whether the SCF cycle was.
    """

    energy: float
    forces: np.ndarray
    stress: np.ndarray
    job: str = ''
    converged: bool = True

    @property
    def is_finite(self) -> bool:
        """Return whether all its numbers are."""
        return all(np.isfinite(values).all() for values in (self.energy, self.forces, self.stress))


def label_of_pw(parameters: Dict, trajectory: TrajectoryData) -> Label:
    """Return the label in ``output_parameters`` and ``output_trajectory`` of a single pw.x calculation."""
    scf = parameters.get_dict().get('convergence_info', {}).get('scf_conv', {})
    return Label(
        float(parameters['energy']),
        np.array(trajectory.get_array('forces')[-1]),
        np.array(trajectory.get_array('stress')[-1]),
        trajectory.creator.uuid[:8],
        scf.get('convergence_achieved', True),
    )


def batch_array(labels: Mapping[int, Label], keys: Mapping[int, str], failed: Mapping[int, str]) -> ArrayData:
    """Return the labels of a batch as one node.

    Per label it costs some hundred bytes and no node of its own, where a ``TrajectoryData`` and a ``Dict`` cost 30 kB
    and 40 ms.

    :param labels: label of each candidate (by its index) that has one.
    :param keys: key of each candidate of the batch.
    :param failed: why the others have none.
    """
    from aiida.orm import ArrayData

    found = list(labels.values())
    node = ArrayData(
        {
            'energy': np.array([label.energy for label in found]),
            'forces': np.concatenate([np.empty((0, 3)), *(label.forces for label in found)]),
            'stress': np.array([label.stress for label in found]).reshape(-1, 3, 3),
            'n_atoms': np.array([len(label.forces) for label in found], dtype=int),
        }
    )
    node.base.attributes.set('index', list(labels))
    node.base.attributes.set('keys', [keys[index] for index in labels])
    node.base.attributes.set('failed', {str(index): reason for index, reason in failed.items()})
    return node


def labels_of_batch(node: ArrayData) -> dict[str, Label]:
    """Return the labels that a batch found, by their keys."""
    forces = np.split(node.get_array('forces'), np.cumsum(node.get_array('n_atoms'))[:-1])
    job = node.creator.uuid[:8]
    rows = zip(
        node.base.attributes.get('keys'), node.get_array('energy'), forces, node.get_array('stress'), strict=False
    )
    return {key: Label(float(energy), of_frame, stress, job) for key, energy, of_frame, stress in rows}


def labelled_atoms(atoms: Atoms, label: Label, label_fingerprint: str) -> Atoms:
    """Return a copy of a candidate with its label, the level of theory and the calculation that it is from."""
    frame = atoms.copy()
    frame.info['REF_energy'] = label.energy
    frame.arrays['REF_forces'] = label.forces
    frame.info['REF_stress'] = full_3x3_to_voigt_6_stress(-label.stress * GPa)
    frame.info['label_fingerprint'] = label_fingerprint
    frame.info['label_job'] = label.job
    return frame


def check_label(atoms: Atoms, label: Label, labelling: LabellingParameters) -> str | None:
    """Return why a label is not fit for training; None if it is."""
    if not label.converged:
        return 'the SCF cycle did not converge'
    if not label.is_finite:
        return 'energy, forces or stress are not finite'
    largest = float(np.linalg.norm(label.forces, axis=1).max())
    if largest > labelling.max_force_eV_A:
        return f'a force of {largest:.1f} eV/Å is above max_force_eV_A ({labelling.max_force_eV_A})'
    stress, bound = float(np.abs(label.stress).max()), labelling.max_stress_GPa
    if bound is not None and stress > bound and not is_isolated_atom(atoms):
        return f'a stress of {stress:.1f} GPa is above max_stress_GPa ({bound})'
    return None


def energy_outliers(frames: Sequence[Atoms], window_eV: float | None) -> dict[str, str]:
    """Return the frames whose energy is far from that of their composition: ``frame_id`` -> reason.

    Another SCF solution, or a structure that has come apart, shows in no force. Energies of different compositions
    cannot be compared.
    """
    if window_eV is None:
        return {}
    groups = defaultdict(list)
    for atoms in frames:
        if not is_isolated_atom(atoms):
            groups[atoms.symbols.formula.reduce()[0].format('hill')].append(atoms)
    found = {}
    for formula, group in groups.items():
        if len(group) < FEWEST_FOR_MEDIAN:
            continue
        energies = np.array([atoms.info['REF_energy'] / len(atoms) for atoms in group])
        for atoms, difference in zip(group, energies - np.median(energies), strict=True):
            if abs(difference) > window_eV:
                found[atoms.info['frame_id']] = (
                    f'its energy is {difference:+.2f} eV per atom from the median of {formula}: outside of '
                    f'energy_window_eV ({window_eV})'
                )
    return found


def pressure_warning(labelled: Sequence[Atoms]) -> str | None:
    """Return what to beware of where an undistorted seed is under pressure in its label; None if none is."""
    pressures = [
        -float(np.mean(atoms.info['REF_stress'][:3])) / GPa
        for atoms in labelled
        if atoms.info.get('method') == 'pristine'
    ]
    largest = max(pressures, key=abs, default=0.0)
    if abs(largest) < LARGE_PRESSURE_GPA:
        return None
    return (
        f'system: by its own label the undistorted structure is under {largest:.1f} GPa, so the seeds lie around a '
        'volume that is not the equilibrium of this DFT, and what is learnt does, too. Relax it with the method of the '
        'labels, or go on if that is the volume you want'
    )


def fingerprint(labelling: LabellingParameters, pseudos: Mapping[str, Data]) -> str:
    """Return what identifies the level of theory: two sets with different ones must not be mixed.

    The pseudopotentials of elements enter by their checksum, so a set that lacks an element has another fingerprint.
    """
    settings = {name: getattr(labelling, name) for name in LEVEL_OF_THEORY}
    settings['pseudos'] = {element: pseudo.md5 for element, pseudo in sorted(pseudos.items())}  # type: ignore[attr-defined]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
