"""What a training is refused for, before anything is started.

``mace_run_train`` takes much in silence: labels that are not finite end with exit status 0 and a model, a missing
isolated atom puts cohesion into the reference energies, a replay that is not there is left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aiida_mlip_autopipe.science.frames import read_extxyz
from aiida_mlip_autopipe.science.parameters import TrainingParameters
from aiida_mlip_autopipe.science.systems import fills_its_cell, is_isolated_atom

if TYPE_CHECKING:
    from ase import Atoms

__all__ = [
    'DivergedError',
    'Sets',
    'TrainingError',
    'TrainingSetError',
    'check_foundation',
    'elements_problem',
    'free_atom_energies',
    'previous_problem',
    'read_sets',
    'start_problem',
    'symbols',
]

MIN_REPLAY = 2
"""One to train on and one to validate: mace splits the replay at random."""


class TrainingError(ValueError):
    """The training failed or its result is not to be trusted."""


class DivergedError(TrainingError):
    """The errors are no longer finite."""


class TrainingSetError(TrainingError):
    """What the training is to start from is unfit; nothing was started."""


Sets = dict[str, list['Atoms']]
"""Frames by the names 'training', 'validation' and, for a replay, 'replay'."""


def read_sets(training: Path, validation: Path, replay: Path | None) -> Sets:
    """Return the frames of a training.

    Raises
    ------
    TrainingSetError
        If a set cannot be read, a label is missing or not finite, or an isolated atom is missing.
    """
    sets = {'training': _read_set(training, 'training'), 'validation': _read_set(validation, 'validation')}
    _check_isolated_atoms(sets)
    if replay is not None:
        frames = [atoms for atoms in _read(replay, 'replay') if not is_isolated_atom(atoms)]
        if len(frames) < MIN_REPLAY:
            raise TrainingSetError(
                f'the replay set {replay} has {len(frames)} frame(s) besides isolated atoms, but at least {MIN_REPLAY} '
                'are needed, for training and validation'
            )
        sets['replay'] = frames
    return sets


def start_problem(method: str, has_foundation: bool, has_replay: bool) -> str | None:
    """Return in words which input a training method lacks or would not look at, or None."""
    for name, is_given, methods, what in (
        ('foundation', has_foundation, ('naive', 'multihead'), 'the potential to fine-tune'),
        ('replay', has_replay, ('multihead',), "frames similar to the foundation's training data"),
    ):
        if is_given and method not in methods:
            return f'{name}: given, but training.method is {method!r}: choose a method that uses it, or remove it'
        if not is_given and method in methods:
            return f'{name}: missing, but training.method is {method!r}: give {what}, or choose another method'
    return None


def previous_problem(method: str) -> str | None:
    """Return in words why a training with this method does not begin with the potential of an earlier one, or None."""
    if method == 'scratch':
        return None
    return f'previous: given, but training.method is {method!r}, which begins with its foundation; remove it'


def elements_problem(method: str, foundation: set[str], needed: set[str], replay: set[str]) -> str | None:
    """Return in words what a foundation does not know, or None."""
    for name, elements in (('labelled', needed), ('replay', replay)):
        if unknown := sorted(elements - foundation):
            return (
                f'foundation: knows {", ".join(sorted(foundation))}, but the {name} set has {", ".join(unknown)}; '
                'choose a foundation for these elements'
            )
    if method == 'multihead' and len(foundation) < 2:
        return (
            f'foundation: knows {", ".join(foundation)} only, and mace cannot replay with a foundation of one '
            "element; use training.method 'naive'"
        )
    return None


def check_foundation(parameters: TrainingParameters, elements: list[str], sets: Sets) -> None:
    """Refuse a foundation that does not know the elements of the sets.

    Raises
    ------
    TrainingSetError
    """
    needed, replay = symbols(sets['training'] + sets['validation']), symbols(sets.get('replay', []))
    if problem := elements_problem(parameters.method, set(elements), needed, replay):
        raise TrainingSetError(problem)


def free_atom_energies(frames: list[Atoms]) -> dict[str, float]:
    """Return the energy of the isolated atom of each element among labelled frames, in eV."""
    return {
        atoms.get_chemical_symbols()[0]: float(atoms.info['REF_energy']) for atoms in frames if is_isolated_atom(atoms)
    }


def symbols(frames: list[Atoms]) -> set[str]:
    """Return the chemical symbols that occur."""
    return {symbol for atoms in frames for symbol in atoms.get_chemical_symbols()}


def _read(path: Path, name: str) -> list[Atoms]:
    try:
        return read_extxyz(path)
    except ValueError as error:
        raise TrainingSetError(f'the {name} set: {error}') from error


def _read_set(path: Path, name: str) -> list[Atoms]:
    frames = _read(path, name)
    if all(map(is_isolated_atom, frames)):
        raise TrainingSetError(f'the {name} set {path} has no frame besides isolated atoms: label more structures')
    for index, atoms in enumerate(frames):
        if problem := _label_problem(atoms):
            raise TrainingSetError(
                f'frame {index} ({atoms.info.get("frame_id", "unnamed")}) of the {name} set '
                f'{problem}; label it again or remove it'
            )
    return frames


def _label_problem(atoms: Atoms) -> str | None:
    """Return what is wrong with the labels of a frame. With vacuum, or without periodicity, there is no stress."""
    labels = {'REF_energy': atoms.info.get('REF_energy')}
    if not is_isolated_atom(atoms):
        labels['REF_forces'] = atoms.arrays.get('REF_forces')
        if fills_its_cell(atoms):
            labels['REF_stress'] = atoms.info.get('REF_stress')
    for key, value in labels.items():
        if value is None:
            return f'has no {key}'
        values = np.asarray(value)
        if values.dtype.kind not in 'fi' or not np.isfinite(values).all():
            return f'has a non-finite {key}'
    return None


def _check_isolated_atoms(sets: Sets) -> None:
    isolated = free_atom_energies(sets['training'])
    if missing := sorted(symbols(sets['training'] + sets['validation']) - isolated.keys()):
        raise TrainingSetError(
            f'the training set has no isolated atom of {", ".join(missing)}: label one atom of each '
            'element in a large box, with config_type=IsolatedAtom'
        )
