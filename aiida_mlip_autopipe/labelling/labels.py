"""Labels as nodes and in frames, and whether to believe them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.units import GPa

from aiida_mlip_autopipe.science.charge import CHARGE
from aiida_mlip_autopipe.science.label import Label
from aiida_mlip_autopipe.science.parameters import LabellingParameters
from aiida_mlip_autopipe.science.systems import fills_its_cell, is_isolated_atom

if TYPE_CHECKING:
    from aiida.orm import ArrayData

__all__ = [
    'batch_array',
    'branch_warning',
    'check_label',
    'energy_outliers',
    'labelled_atoms',
    'labels_of_batch',
    'pressure_warning',
]

# The median of two energies lies between them, and which of the two is wrong cannot be told.
FEWEST_FOR_MEDIAN = 3
LARGE_PRESSURE_GPA = 2.0
MOST_TOLD = 3
#: Fields of a label that describe its electrons; they have the same names in ``info`` of a frame and in a batch.
SCALARS: dict[str, type] = {
    'total_magnetization_uB': float,
    'absolute_magnetization_uB': float,
    'fermi_energy_eV': float,
    'n_scf_steps': int,
}
SITES = 'site_moments_uB'
"""A frame has them as an array."""


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
            'stress': np.array([label.stress for label in found]).reshape(-1, 6),
            'n_atoms': np.array([len(label.forces) for label in found], dtype=int),
            **{name: np.array([_or_nan(getattr(label, name)) for label in found]) for name in SCALARS},
            SITES: np.concatenate([np.empty(0), *map(_sites, found)]),
        }
    )
    node.base.attributes.set('index', list(labels))
    node.base.attributes.set('keys', [keys[index] for index in labels])
    node.base.attributes.set('failed', {str(index): reason for index, reason in failed.items()})
    return node


def _or_nan(value: float | None) -> float:
    return float('nan') if value is None else float(value)


def _sites(label: Label) -> np.ndarray:
    return np.full(len(label.forces), np.nan) if label.site_moments_uB is None else label.site_moments_uB


def labels_of_batch(node: ArrayData) -> dict[str, Label]:
    """Return the labels that a batch found, by their keys."""
    places = np.cumsum(node.get_array('n_atoms'))[:-1]
    keys, job = node.base.attributes.get('keys'), node.creator.uuid[:8]
    forces = np.split(node.get_array('forces'), places)
    electrons = _electrons_of_batch(node, places)
    rows = zip(keys, node.get_array('energy'), forces, node.get_array('stress'), electrons, strict=False)
    return {key: Label(float(energy), of_frame, stress, job, **more) for key, energy, of_frame, stress, more in rows}


def _electrons_of_batch(node: ArrayData, places: np.ndarray) -> list[dict[str, Any]]:
    """Return the fields of each label that describe its electrons; of an old batch none."""
    found: list[dict[str, Any]] = [{} for _ in range(len(node.get_array('energy')))]
    names = node.get_arraynames()
    for name, as_type in SCALARS.items():
        for fields, value in zip(found, node.get_array(name) if name in names else [], strict=False):
            fields |= {name: as_type(value)} if np.isfinite(value) else {}
    for fields, sites in zip(found, np.split(node.get_array(SITES), places) if SITES in names else [], strict=False):
        fields |= {SITES: sites} if np.isfinite(sites).all() else {}
    return found


def labelled_atoms(atoms: Atoms, label: Label, label_fingerprint: str, charge: int = 0) -> Atoms:
    """Return a copy of a candidate with its label, the level of theory and the calculation that it is from.

    It is periodic in three directions, as the cell that was labelled. With vacuum, and alone in a box, it has no
    stress: the pressure of a slab in its box depends on the box. The charge of the run, in units of e, is in ``info``
    where there is one; isolated atoms are neutral.
    """
    frame = atoms.copy()
    frame.pbc = True
    frame.info['REF_energy'] = label.energy
    frame.arrays['REF_forces'] = label.forces
    if fills_its_cell(atoms) and not is_isolated_atom(atoms):
        frame.info['REF_stress'] = label.stress
    frame.info['label_fingerprint'] = label_fingerprint
    frame.info['label_job'] = label.job
    for name in SCALARS:
        if getattr(label, name) is not None:
            frame.info[name] = getattr(label, name)
    if label.site_moments_uB is not None:
        frame.arrays[SITES] = label.site_moments_uB
    if charge and not is_isolated_atom(atoms):
        frame.info[CHARGE] = charge
    return frame


def check_label(atoms: Atoms, label: Label, labelling: LabellingParameters) -> str | None:
    """Return why a label is not fit for training; None if it is."""
    if not label.converged:
        return 'the SCF cycle did not converge'
    if label.problem:
        return label.problem
    filled = fills_its_cell(atoms)
    if not label.is_usable(with_stress=filled):
        return f'energy{", forces or stress" if filled else " or forces"} are not finite'
    largest = float(np.linalg.norm(label.forces, axis=1).max())
    if largest > labelling.max_force_eV_A:
        return f'a force of {largest:.1f} eV/Å is above max_force_eV_A ({labelling.max_force_eV_A})'
    stress, bound = float(np.abs(label.stress).max()) / GPa, labelling.max_stress_GPa
    if bound is not None and stress > bound and filled and not is_isolated_atom(atoms):
        return f'a stress of {stress:.1f} GPa is above max_stress_GPa ({bound})'
    return None


def energy_outliers(frames: Sequence[Atoms], window_eV: float | None) -> dict[str, str]:
    """Return the frames whose energy is far from that of their composition: ``frame_id`` -> reason.

    Another SCF solution, or a structure that has come apart, shows in no force. Energies of different compositions
    cannot be compared, nor can those of crystals and of frames that say in ``info`` an ``energy_window_eV`` of their
    own: these are compared among themselves.
    """
    if window_eV is None:
        return {}
    groups = defaultdict(list)
    for atoms in frames:
        if not is_isolated_atom(atoms):
            formula = atoms.symbols.formula.reduce()[0].format('hill')
            groups[formula, float(atoms.info.get('energy_window_eV', window_eV))].append(atoms)
    found = {}
    for (formula, window), group in groups.items():
        if len(group) < FEWEST_FOR_MEDIAN:
            continue
        energies = np.array([atoms.info['REF_energy'] / len(atoms) for atoms in group])
        for atoms, difference in zip(group, energies - np.median(energies), strict=True):
            if abs(difference) > window:
                found[atoms.info['frame_id']] = (
                    f'its energy is {difference:+.2f} eV per atom from the median of {formula}: outside '
                    f'energy_window_eV ({window})'
                )
    return found


def branch_warning(labelled: Sequence[Atoms]) -> str | None:
    """Return what to beware of where labels are of another electronic solution than their like; None if none is."""
    told = [f'{atoms.info["frame_id"]}: {atoms.info["branch"]}' for atoms in labelled if 'branch' in atoms.info]
    if not told:
        return None
    more = f' (and {len(told) - MOST_TOLD} more)' if len(told) > MOST_TOLD else ''
    return (
        f'labelling: {len(told)} of {len(labelled)} labels may be of another electronic solution than their like '
        f'({"; ".join(told[:MOST_TOLD])}{more}), which a potential cannot tell apart. Look at their moments; give '
        'magnetic_order or initial moments, or leave these frames out'
    )


def pressure_warning(labelled: Sequence[Atoms]) -> str | None:
    """Return what to beware of where an undistorted seed is under pressure in its label; None if none is."""
    pressures = [
        -float(np.mean(atoms.info['REF_stress'][:3])) / GPa
        for atoms in labelled
        if atoms.info.get('method') == 'pristine' and fills_its_cell(atoms)
    ]
    largest = max(pressures, key=abs, default=0.0)
    if abs(largest) < LARGE_PRESSURE_GPA:
        return None
    return (
        f'system: according to its label, the undistorted structure is under {largest:.1f} GPa, so the seeds are '
        'not centred at the equilibrium volume of DFT, nor is the training set. Relax it with the method of the '
        'labels, or continue if you want this volume'
    )
