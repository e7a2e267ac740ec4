"""A set of labelled frames that is trained on by itself: its origins, its reference energies, and what to beware of.

Frames of one trajectory resemble each other. Each therefore says from which structure it descends; where it does not,
it counts as an origin of its own, and the user is told. Reference energies are those of isolated atoms, in the set or
as the user tells them: a fit to the set puts cohesion into them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from aiida_mlip_autopipe.science.charge import told_charge
from aiida_mlip_autopipe.science.existing_data import EXISTING_DATA, numbered_data
from aiida_mlip_autopipe.science.frames import structure_hash
from aiida_mlip_autopipe.science.generate.isolated import isolated_atom
from aiida_mlip_autopipe.science.parameters import LabellingParameters
from aiida_mlip_autopipe.science.systems import is_isolated_atom
from aiida_mlip_autopipe.science.training.split import split_by_origin

__all__ = ['FIT', 'TrainingSet', 'hold_out', 'test_frames', 'training_set']

FIT = 'fit'
"""In place of energies of isolated atoms: what a fit to the compositions gives."""
BOX_A = 25.0
"""Edge of the cell of an isolated atom, in Å: above any cutoff radius."""
SAME_EV = 1e-3
OWN = 'own_origin'
FINGERPRINT = 'label_fingerprint'
BINDING_EV = (-1.0, 15.0)
"""Binding energy per atom, in eV, that is believed: tungsten has 8.9, more beside atoms without spin."""


@dataclass(frozen=True)
class TrainingSet:
    """Labelled frames, with isolated atoms first, and what to beware of when they are trained on, in words.

    ``label_fingerprint`` is what the frames say of their level of theory; None if they say nothing.
    """

    frames: list[Atoms]
    warnings: list[str]
    label_fingerprint: str | None


def training_set(
    frames: Sequence[Atoms],
    isolated_atoms: Mapping[str, float] | str | None = None,
    origin: str = 'origin',
    bounds: LabellingParameters | None = None,
) -> TrainingSet:
    """Return a set to train on, each frame judged as existing data is; of its own result it returns the same.

    Parameters
    ----------
    frames : sequence of Atoms
        Labelled with ``REF_energy`` (eV), ``REF_forces`` (eV/Å) and ``REF_stress`` (eV/Å³), or by a calculator.
    isolated_atoms : mapping, 'fit' or None
        Energy of the isolated atom of each element, in eV; None: of those in the set (``config_type=IsolatedAtom``).
    origin : str
        The entry of ``info`` that names the structure or trajectory from which a frame descends.
    bounds : LabellingParameters, optional
        What is too large.

    Raises
    ------
    ValueError
        With the unfit frames; if an isolated atom is missing, has two energies or one with which the frames are bound
        as nothing is; if frames differ in their charge or level of theory.
    """
    judged = numbered_data(frames, bounds or LabellingParameters())
    warnings = []
    for number, atoms in judged.items():
        given = frames[number].info
        is_own = origin not in given or OWN in given
        atoms.info['origin'] = atoms.info['frame_id'] if is_own else str(given[origin])
        atoms.info['config_type'] = str(given.get('config_type', EXISTING_DATA))
        atoms.info |= {OWN: True} if is_own else {}
        atoms.info |= {FINGERPRINT: given[FINGERPRINT]} if FINGERPRINT in given else {}
    labelled = list(judged.values())
    if n_own := sum(OWN in atoms.info for atoms in labelled):
        warnings.append(
            f"{n_own} of {len(labelled)} frames have no info['{origin}'], and each counts as an origin of its own: "
            'where several are of one trajectory, the errors on validation and test set come out too small. Name their '
            'trajectory there, or give a test set of other trajectories (test)'
        )
    _check_charges(labelled)
    level = _level_of_theory(frames)
    elements = sorted({symbol for atoms in labelled for symbol in atoms.symbols})
    energies, fitted = _energies_of_atoms(frames, elements, isolated_atoms, labelled)
    _check_binding(labelled, energies)
    if fitted:
        told = ', '.join(f'{symbol} {energies[symbol]:.3f} eV' for symbol in elements)
        warnings.append(
            f'the reference energies are a fit to the set ({told}), not those of isolated atoms: cohesive energies and '
            'energies of atoms far apart mean nothing'
        )
    atoms_alone = [_atom(symbol, energies[symbol], fitted) for symbol in elements]
    return TrainingSet([*atoms_alone, *labelled], warnings, level)


def hold_out(frames: Sequence[Atoms], fraction: float, random_seed: int) -> tuple[list[Atoms], list[Atoms]]:
    """Divide a set into what is trained on, isolated atoms among it, and test frames of other origins.

    Raises
    ------
    ValueError
        If there are fewer than three origins: one each to train, to validate and to test.
    """
    origins = {atoms.info['origin'] for atoms in frames if not is_isolated_atom(atoms)}
    if len(origins) < 3:
        raise ValueError(
            f'the frames descend from {len(origins)} structure(s) or trajectories; training, validation and test set '
            'need one each: give more, or a test set of its own (test)'
        )
    rest, tested = split_by_origin(frames, min(fraction, 1 - 2 / len(origins)), random_seed)
    return [frames[index] for index in rest], [frames[index] for index in tested]


def test_frames(
    frames: Sequence[Atoms], trained_on: Iterable[Atoms], origin: str, bounds: LabellingParameters | None = None
) -> list[Atoms]:
    """Return the labelled frames of a test set, judged, without isolated atoms.

    Raises
    ------
    ValueError
        With the unfit frames; if a structure, or an origin, is among those that are trained on, or the level of theory
        is another.
    """
    judged = numbered_data(frames, bounds or LabellingParameters())
    for number, atoms in judged.items():
        given = frames[number].info
        atoms.info['origin'] = str(given.get(origin, atoms.info['frame_id']))
    known = [atoms for atoms in trained_on if not is_isolated_atom(atoms)]
    _level_of_theory([*frames, *known])
    contents, origins = {structure_hash(atoms) for atoms in known}, {atoms.info['origin'] for atoms in known}
    same = [number for number, atoms in judged.items() if structure_hash(atoms) in contents]
    kin = [number for number, atoms in judged.items() if atoms.info['origin'] in origins]
    if same or kin:
        told = f'are structures of data ({same[:3]} ...)' if same else f'share an origin with data ({kin[:3]} ...)'
        raise ValueError(
            f'test: {len(same or kin)} of its {len(judged)} frames {told}: errors on them say nothing of others; leave '
            'them out of one of the two'
        )
    return list(judged.values())


def _energies_of_atoms(
    frames: Iterable[Atoms],
    elements: Sequence[str],
    told: Mapping[str, float] | str | None,
    labelled: Sequence[Atoms],
) -> tuple[dict[str, float], bool]:
    """Return the energy of each isolated atom, in eV, and whether they are a fit."""
    found: dict[str, float] = {}
    is_fit = False
    for atoms in filter(is_isolated_atom, frames):
        symbol, energy = atoms.get_chemical_symbols()[0], _energy(atoms)
        if abs(found.setdefault(symbol, energy) - energy) > SAME_EV:
            raise ValueError(f'two isolated atoms of {symbol} have {found[symbol]:.6g} and {energy:.6g} eV; keep one')
        is_fit |= FIT in atoms.info
    if told == FIT and found and not is_fit:
        raise ValueError(
            f'isolated_atoms: fit, but the set has isolated atoms ({", ".join(found)}), whose energies are better: '
            'remove isolated_atoms'
        )
    if told == FIT:
        return _fitted(labelled, elements), True
    for symbol, energy in told.items() if isinstance(told, Mapping) else ():
        if abs(found.get(symbol, energy) - energy) > SAME_EV:
            raise ValueError(
                f'isolated_atoms: {symbol} is told as {energy:.6g} eV, but the isolated atom of the set has '
                f'{found[symbol]:.6g} eV; keep one of them'
            )
        found[symbol] = float(energy)
    if missing := [symbol for symbol in elements if symbol not in found]:
        raise ValueError(
            f'there is no isolated atom of {", ".join(missing)}: give a frame of one atom in a large box with '
            f"config_type=IsolatedAtom and its energy, or 'isolated_atoms: {{{missing[0]}: ENERGY_IN_EV}}' as the code "
            "of the labels gives it; without either 'isolated_atoms: fit' takes a fit to the set, with which cohesive "
            'energies mean nothing'
        )
    return found, is_fit


def _energy(atoms: Atoms) -> float:
    results = atoms.calc.results if atoms.calc is not None else {}
    energy = atoms.info.get('REF_energy', results.get('energy'))
    if energy is None or not np.isfinite(energy):
        raise ValueError(f'the isolated atom of {atoms.get_chemical_symbols()[0]} has no finite energy; give one')
    return float(energy)


def _fitted(labelled: Sequence[Atoms], elements: Sequence[str]) -> dict[str, float]:
    """Return the energies of atoms whose sums are nearest to the energies per atom of the frames (least squares)."""
    fractions = np.array([[np.mean(atoms.symbols == symbol) for symbol in elements] for atoms in labelled])
    per_atom = np.array([atoms.info['REF_energy'] / len(atoms) for atoms in labelled])
    found, *_ = np.linalg.lstsq(fractions, per_atom, rcond=None)
    return dict(zip(elements, map(float, found), strict=True))


def _atom(symbol: str, energy: float, is_fit: bool) -> Atoms:
    atoms = isolated_atom(symbol, BOX_A)
    atoms.info |= {FIT: True} if is_fit else {}
    atoms.info['REF_energy'] = energy
    atoms.arrays['REF_forces'] = np.zeros((1, 3))
    return atoms


def _check_charges(labelled: Iterable[Atoms]) -> None:
    charges = {told_charge(atoms) or 0.0 for atoms in labelled}
    if len(charges) > 1:
        told = ', '.join(f'{one:+g}' for one in sorted(charges))
        raise ValueError(
            f'the frames have total charges of {told}: a potential is not told of a charge, so a set has one; keep the '
            'frames of one charge'
        )


def _check_binding(labelled: Sequence[Atoms], energies: Mapping[str, float]) -> None:
    """Refuse reference energies with which the frames are not bound, or as no matter is: of another code or unit."""
    of_atoms = [sum(energies[symbol] for symbol in atoms.symbols) for atoms in labelled]
    totals = [atoms.info['REF_energy'] for atoms in labelled]
    per_atom = [
        (one - all_of_it) / len(atoms) for one, all_of_it, atoms in zip(of_atoms, totals, labelled, strict=True)
    ]
    binding = float(np.median(per_atom))
    if not BINDING_EV[0] <= binding <= BINDING_EV[1]:
        told = ', '.join(f'{symbol} {energy:.6g} eV' for symbol, energy in energies.items())
        raise ValueError(
            f'with isolated atoms of {told} the frames are bound by {binding:.3g} eV per atom (median), not between '
            f'{BINDING_EV[0]:g} and {BINDING_EV[1]:g}: the energies of the atoms are of another code, pseudopotential '
            'or unit; give those of the level of theory of the labels'
        )


def _level_of_theory(frames: Iterable[Atoms]) -> str | None:
    """Return the level of theory that labelled frames name; None if they name none."""
    found = sorted({str(atoms.info[FINGERPRINT]) for atoms in frames if FINGERPRINT in atoms.info})
    if len(found) > 1:
        raise ValueError(
            f'the labels are of {len(found)} levels of theory (label_fingerprint {", ".join(found)}); keep those of one'
        )
    return found[0] if found else None
