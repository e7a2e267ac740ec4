"""Existing data as it is read: frames with a name, and with their labels where a training looks for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from aiida_mlip_autopipe.science.charge import CHARGE, told_charge
from aiida_mlip_autopipe.science.existing_data.judging import contradictions, unsound
from aiida_mlip_autopipe.science.frames import read_any, structure_hash
from aiida_mlip_autopipe.science.frames.carried import carried_arrays, carry
from aiida_mlip_autopipe.science.parameters import LabellingParameters
from aiida_mlip_autopipe.science.systems import VACUUM_AXES, fills_its_cell, is_isolated_atom, recognised

__all__ = [
    'EXISTING_DATA',
    'existing_data',
    'judged_data',
    'numbered_data',
    'read_labelled',
    'spread_over',
    'unfit_frames',
]

EXISTING_DATA = 'data'
KEPT = ('temperature_K', 'pressure_GPa')
MOST_TOLD = 3
ASYMMETRY = 1e-3  # of a stress tensor, over its largest component


def read_labelled(path: str | Path, bounds: LabellingParameters | None = None) -> list[Atoms]:
    """Return the labelled frames of a file, as `existing_data` does, after each has been judged.

    Parameters
    ----------
    path : str or Path
        A file that ASE reads: extxyz, vasprun.xml, OUTCAR ...
    bounds : LabellingParameters, optional
        What is too large; by default their defaults.

    Raises
    ------
    ValueError
        If the file cannot be read, or with its `unfit_frames`.
    """
    frames = read_any(path)
    try:
        return judged_data(frames, bounds or LabellingParameters())
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error


def existing_data(frames: Iterable[Atoms]) -> list[Atoms]:
    """Return labelled frames named, and with their labels where a training looks for them.

    Labels are ``REF_energy``, ``REF_forces`` and ``REF_stress``, or else what ASE reads as the results of a
    calculation. Isolated atoms are left out, as each run computes its own, and of equal structures all but the first.
    Initial moments, charges and tags stay. Whether the labels make sense is not looked at: see `unfit_frames`.

    Parameters
    ----------
    frames : iterable of Atoms

    Returns
    -------
    list of Atoms
        With ``frame_id`` (their own; 'data-' and a hash of the structure where there is none, or one with a dot, which
        no key of ``rejected`` may have), ``origin`` and ``config_type`` in ``info``, and ``temperature_K`` and
        ``pressure_GPa`` where they have them; labels in eV, eV/Å and eV/Å³ (the sign of ASE). With vacuum there is
        ``vacuum_axes`` and no stress: as recorded, else as recognised.

    Raises
    ------
    ValueError
        With the frames that lack a label, or have one that is not finite or of another shape, or the ``frame_id`` of
        another one, or are without vacuum in a direction that is not periodic; or if there are none.
    """
    return list(_all_fit(*_examined(frames, None)).values())


def judged_data(frames: Iterable[Atoms], bounds: LabellingParameters) -> list[Atoms]:
    """Return what `existing_data` does, after each frame has been judged.

    Raises
    ------
    ValueError
        With the `unfit_frames`.
    """
    return list(numbered_data(frames, bounds).values())


def numbered_data(frames: Iterable[Atoms], bounds: LabellingParameters) -> dict[int, Atoms]:
    """Return what `judged_data` does, by the number of the frame among those given."""
    return _all_fit(*_examined(frames, bounds))


def unfit_frames(frames: Iterable[Atoms], bounds: LabellingParameters | None = None) -> dict[int, str]:
    """Return the frames of existing data that a training must not see: number (from 0) -> why, in words.

    Beside what `existing_data` asks for: atoms on top of each other, cells without a volume, energies far from what
    the composition suggests, forces and stresses beyond any sense, a structure given twice with contradictory labels.

    Parameters
    ----------
    frames : iterable of Atoms
        As ASE reads them.
    bounds : LabellingParameters, optional
        What is too large; by default their defaults.
    """
    return _examined(frames, bounds or LabellingParameters())[1]


def _examined(frames: Iterable[Atoms], bounds: LabellingParameters | None) -> tuple[dict[int, Atoms], dict[int, str]]:
    """Return the frames that have all they need, equal ones too, and what is wrong with others, both by number."""
    fit: dict[int, Atoms] = {}
    problems: dict[int, str] = {}
    contents: dict[str, str] = {}
    for number, frame in enumerate(frames):
        if is_isolated_atom(frame):
            continue
        try:
            atoms, content = _labelled(frame)
        except ValueError as error:
            problems[number] = str(error)
            continue
        name = atoms.info['frame_id']
        if contents.setdefault(name, content) != content:
            problems[number] = f'has the frame_id of another one, {name}'
        else:
            fit[number] = atoms
    if bounds is not None:
        found = unsound(fit, bounds)
        problems |= found | contradictions({n: atoms for n, atoms in fit.items() if n not in found}, bounds)
    return fit, problems


def _all_fit(frames: Mapping[int, Atoms], problems: Mapping[int, str]) -> dict[int, Atoms]:
    """Return the frames by their number, each structure once; raise if one is unfit or there is none."""
    if problems:
        told = [f'frame {number} {problems[number]}' for number in sorted(problems)[:MOST_TOLD]]
        more = f' (and {len(problems) - MOST_TOLD} more)' if len(problems) > MOST_TOLD else ''
        raise ValueError(f'{"; ".join(told)}{more}; repair these frames, or leave them out')
    first: dict[str, int] = {}
    for number, atoms in frames.items():
        first.setdefault(atoms.info['frame_id'], number)
    if not first:
        raise ValueError('there is no labelled frame beside isolated atoms; give some')
    return {number: frames[number] for number in first.values()}


def _labelled(frame: Atoms) -> tuple[Atoms, str]:
    """Return a copy with the structure, its labels and its name, and nothing else; and the hash of the structure."""
    if not np.isfinite(frame.positions).all() or not np.isfinite(frame.cell.array).all():
        raise ValueError('has positions or a cell that are not finite')
    carried = carried_arrays(frame)
    atoms = carry(carried, _periodic(frame))
    content = structure_hash(atoms)
    own = str(frame.info.get('frame_id', '.'))
    name = f'{EXISTING_DATA}-{content}' if '.' in own else own
    atoms.info |= {'frame_id': name, 'origin': EXISTING_DATA, 'config_type': EXISTING_DATA}
    atoms.info |= {key: frame.info[key] for key in KEPT if key in frame.info}
    if (charge := told_charge(frame)) is not None:
        atoms.info[CHARGE] = charge
    labels = _labels(frame, with_stress=fills_its_cell(atoms))
    atoms.arrays['REF_forces'] = labels['forces']
    atoms.info['REF_energy'] = float(labels['energy'].item())
    if 'stress' in labels:
        atoms.info['REF_stress'] = _voigt(labels['stress'])
    return atoms, content


def _periodic(frame: Atoms) -> Atoms:
    """Return the bare structure, periodic in three directions, with the vacuum that its run recorded, or its own."""
    if frame.cell.rank < 3:
        raise ValueError('has no three lattice vectors: labels are of periodic cells')
    if VACUUM_AXES not in frame.info:
        return recognised(frame)
    atoms = Atoms(numbers=frame.numbers, positions=frame.positions, cell=frame.cell, pbc=True)
    atoms.info[VACUUM_AXES] = str(frame.info[VACUUM_AXES])
    return atoms


def _labels(frame: Atoms, with_stress: bool) -> dict[str, np.ndarray]:
    """Return energy, forces and, where the cell is filled, stress of a frame: complete, finite and in their shapes."""
    results = frame.calc.results if frame.calc is not None else {}
    given: dict[str, Any] = {
        'energy': frame.info.get('REF_energy', results.get('energy')),
        'forces': frame.arrays.get('REF_forces', results.get('forces')),
    }
    if with_stress:
        given['stress'] = frame.info.get('REF_stress', results.get('stress'))
    shapes: dict[str, tuple] = {'energy': ((), (1,)), 'forces': ((len(frame), 3),), 'stress': ((6,), (9,), (3, 3))}
    labels = {}
    for name, value in given.items():
        if value is None:
            raise ValueError(f'has no {name}: neither REF_{name} nor a result of a calculation')
        labels[name] = np.asarray(value, dtype=float)
        if labels[name].shape not in shapes[name]:
            fit = ' or '.join(map(str, shapes[name]))
            raise ValueError(f'has {name} of the shape {labels[name].shape}, not {fit}')
        if not np.isfinite(labels[name]).all():
            raise ValueError(f'has {name} with values that are not finite')
    return labels


def _voigt(stress: np.ndarray) -> np.ndarray:
    """Return a stress as xx, yy, zz, yz, xz, xy."""
    if stress.size == 6:
        return stress.ravel()
    tensor = stress.reshape(3, 3)
    if np.abs(tensor - tensor.T).max() > ASYMMETRY * np.abs(tensor).max():
        raise ValueError(f'has a stress tensor that is not symmetric: {tensor.round(4).tolist()}')
    return tensor.ravel()[[0, 4, 8, 5, 2, 1]]


def spread_over(frames: Sequence[Atoms], n_frames: int) -> list[int]:
    """Return the places of so many frames, evenly from the smallest to the largest force that acts in them.

    Of three and more one is the frame with the largest stress: on small ones a wrong unit would not show.
    """
    order = np.argsort([np.linalg.norm(atoms.arrays['REF_forces'], axis=1).max() for atoms in frames], kind='stable')
    places = np.linspace(0, len(frames) - 1, min(n_frames, len(frames)))
    chosen = [int(order[place]) for place in np.unique(places.round().astype(int))]
    most_stressed = int(np.argmax([np.abs(atoms.info.get('REF_stress', 0.0)).max() for atoms in frames]))
    if len(chosen) > 2 and most_stressed not in chosen:
        chosen[len(chosen) // 2] = most_stressed
    return chosen
