"""Labelled frames of earlier work: how they are read, and whether they are of the level of theory at hand.

A potential learns energy differences of meV. Two sets whose cutoffs, k-points or pseudopotentials differ cannot share a
training set, and a file does not say how it was computed. So some of its frames are labelled again, and what was found
then is held against what the file says.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.units import GPa

from aiida_mlip_autopipe.science.charge import CHARGE, told_charge
from aiida_mlip_autopipe.science.frames import content_hash, read_any
from aiida_mlip_autopipe.science.parameters import LabellingParameters
from aiida_mlip_autopipe.science.systems import is_isolated_atom

__all__ = ['EXISTING_DATA', 'differences_between', 'existing_data', 'read_labelled', 'spread_over', 'too_different']

EXISTING_DATA = 'data'
KEPT = ('temperature_K', 'pressure_GPa')
MOST_TOLD = 3


def read_labelled(path: str | Path) -> list[Atoms]:
    """Return the labelled frames of a file, as `existing_data` does.

    Parameters
    ----------
    path : str or Path
        A file that ASE reads: extxyz, vasprun.xml, OUTCAR ...

    Raises
    ------
    ValueError
        If the file cannot be read, or as `existing_data`.
    """
    frames = read_any(path)
    try:
        return existing_data(frames)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error


def existing_data(frames: Iterable[Atoms]) -> list[Atoms]:
    """Return labelled frames named, and with their labels where a training looks for them.

    Labels are ``REF_energy``, ``REF_forces`` and ``REF_stress``, or else what ASE reads as the results of a
    calculation. Isolated atoms are left out, as each run computes its own, and of equal structures all but the first.

    Parameters
    ----------
    frames : iterable of Atoms

    Returns
    -------
    list of Atoms
        With ``frame_id`` (their own; 'data-' and a hash of the structure where there is none, or one with a dot, which
        no key of ``rejected`` may have), ``origin`` and ``config_type`` in ``info``, and ``temperature_K`` and
        ``pressure_GPa`` where they have them; labels in eV, eV/Å and eV/Å³ (the sign of ASE).

    Raises
    ------
    ValueError
        With the frames that lack a label, or have one that is not finite, or the ``frame_id`` of another one, or are
        not periodic in all directions; or if there are none.
    """
    named: dict[str, Atoms] = {}
    problems = []
    for number, frame in enumerate(frames):
        if is_isolated_atom(frame):
            continue
        try:
            atoms = _labelled(frame)
        except ValueError as error:
            problems.append(f'frame {number} {error}')
        else:
            first = named.setdefault(atoms.info['frame_id'], atoms)
            if first != atoms:
                problems.append(f'frame {number} has the frame_id of another one, {atoms.info["frame_id"]}')
    if problems:
        more = f' (and {len(problems) - MOST_TOLD} more)' if len(problems) > MOST_TOLD else ''
        raise ValueError(f'{"; ".join(problems[:MOST_TOLD])}{more}; repair these frames, or leave them out')
    if not named:
        raise ValueError('there is no labelled frame beside isolated atoms; give some')
    return list(named.values())


def _labelled(frame: Atoms) -> Atoms:
    """Return a copy that holds the structure, its labels and its name, and nothing else."""
    if not frame.pbc.all() or frame.cell.rank < 3:
        raise ValueError('is not periodic in all directions, as labels are')
    atoms = Atoms(numbers=frame.numbers, positions=frame.positions, cell=frame.cell, pbc=True)
    results = frame.calc.results if frame.calc is not None else {}
    labels: dict[str, Any] = {
        'energy': frame.info.get('REF_energy', results.get('energy')),
        'forces': frame.arrays.get('REF_forces', results.get('forces')),
        'stress': frame.info.get('REF_stress', results.get('stress')),
    }
    for name, value in labels.items():
        if value is None:
            raise ValueError(f'has no {name}: neither REF_{name} nor a result of a calculation')
        if not np.isfinite(np.asarray(value, dtype=float)).all():
            raise ValueError(f'has {name} that is not finite')
    stress = np.asarray(labels['stress'], dtype=float).ravel()
    name = f'{EXISTING_DATA}-{content_hash(atoms.numbers, atoms.positions, np.array(atoms.cell), atoms.pbc)}'
    own = str(frame.info.get('frame_id', '.'))
    atoms.info = {'frame_id': name if '.' in own else own, 'origin': EXISTING_DATA, 'config_type': EXISTING_DATA}
    atoms.info |= {key: frame.info[key] for key in KEPT if key in frame.info}
    if (charge := told_charge(frame)) is not None:
        atoms.info[CHARGE] = charge
    atoms.info['REF_energy'] = float(labels['energy'])
    atoms.info['REF_stress'] = stress if len(stress) == 6 else stress[[0, 4, 8, 5, 2, 1]]
    atoms.arrays['REF_forces'] = np.asarray(labels['forces'], dtype=float)
    return atoms


def spread_over(frames: Sequence[Atoms], n_frames: int) -> list[int]:
    """Return the places of so many frames, evenly from the smallest to the largest force that acts in them."""
    order = np.argsort([np.linalg.norm(atoms.arrays['REF_forces'], axis=1).max() for atoms in frames], kind='stable')
    places = np.linspace(0, len(frames) - 1, min(n_frames, len(frames)))
    return [int(order[place]) for place in np.unique(places.round().astype(int))]


def differences_between(frames: Sequence[Atoms], labelled_again: Sequence[Atoms]) -> dict[str, Any]:
    """Return how far the labels of a file are from those that were computed again.

    Parameters
    ----------
    frames, labelled_again : sequence of Atoms
        Paired by ``frame_id``; frames that were not labelled again are passed over.

    Returns
    -------
    dict
        ``n_frames``; ``energy_meV``, the largest difference per atom; ``energy_spread_meV``, the largest of these from
        their mean; ``force_meV_A``, the RMSE over all components; ``stress_GPa``, the largest of a component.
    """
    again = {atoms.info['frame_id']: atoms for atoms in labelled_again}
    pairs = [(atoms, again[atoms.info['frame_id']]) for atoms in frames if atoms.info['frame_id'] in again]
    energies = [(one.info['REF_energy'] - two.info['REF_energy']) / len(one) for one, two in pairs]
    forces = np.concatenate([(one.arrays['REF_forces'] - two.arrays['REF_forces']).ravel() for one, two in pairs])
    stresses = [np.asarray(one.info['REF_stress']) - np.asarray(two.info['REF_stress']) for one, two in pairs]
    return {
        'n_frames': len(pairs),
        'energy_meV': float(np.abs(energies).max() * 1e3),
        'energy_spread_meV': float(np.abs(energies - np.mean(energies)).max() * 1e3),
        'force_meV_A': float(np.sqrt((forces**2).mean()) * 1e3),
        'stress_GPa': float(np.abs(stresses).max() / GPa),
    }


def too_different(differences: dict[str, Any], labelling: LabellingParameters) -> str | None:
    """Return in words why labels are not of the same level of theory as those that were computed again, or None."""
    found = [
        f'{what} {differences[name]:.3g} {unit} (tolerance: {bound:g})'
        for name, what, unit, bound in (
            ('energy_meV', 'energies by up to', 'meV/atom', labelling.max_data_energy_meV),
            ('force_meV_A', 'forces by', 'meV/Å', labelling.max_data_force_meV_A),
        )
        if differences[name] > bound
    ]
    if not found:
        return None
    told = f'{differences["n_frames"]} of its frames were labelled again, and differ: {", ".join(found)}'
    spread_meV, off_meV_A = differences['energy_spread_meV'], differences['force_meV_A']
    forces_agree = off_meV_A <= labelling.max_data_force_meV_A
    if forces_agree and spread_meV <= labelling.max_data_energy_meV and differences['n_frames'] > 1:
        told += f'; by the same in all, and forces by {off_meV_A:.3g} meV/Å alone: another zero of energy'
    return told
