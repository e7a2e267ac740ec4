"""Labels of existing data beside those that were computed again: how far they are apart, and what was mixed up.

Codes differ in the unit and in the sign of what they write. Where labels differ by such a factor alone, it is named.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.units import Bohr, GPa, Hartree, Ry, kcal, kJ, mol

from aiida_mlip_autopipe.science.parameters import LabellingParameters

__all__ = ['differences_between', 'too_different']

ALIKE = 0.1
"""Labels that differ from those computed again by less than this fraction are the same, in another unit."""
ENERGIES_ALIKE = 1e-3
"""Of total energies, which hardly differ between structures."""

MIXED_UP = 0.2
"""Where labels are found to be in another unit, so much of the tolerance is allowed: others may be larger."""

STRESS_UNITS = {'eV/Å³': 1.0, 'GPa': GPa, 'kbar': GPa / 10, 'Ry/Bohr³': Ry / Bohr**3, 'Ha/Bohr³': Hartree / Bohr**3}
FORCE_UNITS = {'eV/Å': 1.0, 'Ry/Bohr': Ry / Bohr, 'Ha/Bohr': Hartree / Bohr}
ENERGY_UNITS = {'eV': 1.0, 'Ry': Ry, 'Ha': Hartree, 'kcal/mol': kcal / mol, 'kJ/mol': kJ / mol}
ORDERS = {'': [0, 1, 2, 3, 4, 5], 'in the order xx yy zz xy yz zx': [0, 1, 2, 4, 5, 3]}


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
        their mean; ``force_meV_A``, the RMSE over all components; ``stress_GPa``, the largest of a component (0 where
        there is none); and, where it is so, ``mixed_up``: 'energy', 'forces' or 'stress' -> in which unit, or with
        which sign, the labels of the file are the others.
    """
    again = {atoms.info['frame_id']: atoms for atoms in labelled_again}
    pairs = [(atoms, again[atoms.info['frame_id']]) for atoms in frames if atoms.info['frame_id'] in again]
    energies = [(one.info['REF_energy'] - two.info['REF_energy']) / len(one) for one, two in pairs]
    forces = np.concatenate([(one.arrays['REF_forces'] - two.arrays['REF_forces']).ravel() for one, two in pairs])
    stressed = [pair for pair in pairs if all('REF_stress' in atoms.info for atoms in pair)]
    stresses = [np.asarray(one.info['REF_stress']) - np.asarray(two.info['REF_stress']) for one, two in stressed]
    mixed_up = {
        'energy': _energies_mixed_up(pairs),
        'forces': _forces_mixed_up(pairs),
        'stress': _stress_mixed_up(stressed),
    }
    named = {name: words for name, words in mixed_up.items() if words}
    return {
        'n_frames': len(pairs),
        'energy_meV': float(np.abs(energies).max() * 1e3),
        'energy_spread_meV': float(np.abs(energies - np.mean(energies)).max() * 1e3),
        'force_meV_A': float(np.sqrt((forces**2).mean()) * 1e3),
        'stress_GPa': float(np.abs(stresses).max(initial=0.0) / GPa),
        **({'mixed_up': named} if named else {}),
    }


def too_different(differences: dict[str, Any], labelling: LabellingParameters) -> str | None:
    """Return in words why labels are not of the same level of theory as those that were computed again, or None."""
    mixed_up: Mapping[str, str] = differences.get('mixed_up', {})
    found, explained = [], []
    for name, label, what, unit, bound in (
        ('energy_meV', 'energy', 'energies by up to', 'meV/atom', labelling.max_data_energy_meV),
        ('force_meV_A', 'forces', 'forces by', 'meV/Å', labelling.max_data_force_meV_A),
        ('stress_GPa', 'stress', 'stresses by up to', 'GPa', labelling.max_data_stress_GPa),
    ):
        if bound is None or differences[name] <= bound * (MIXED_UP if label in mixed_up else 1):
            continue
        tolerance = f' (tolerance: {bound:g})' if differences[name] > bound else ''
        found.append(f'{what} {differences[name]:.3g} {unit}{tolerance}')
        explained += [f'; {mixed_up[label]}'] if label in mixed_up else []
    if not found:
        return None
    told = f'{differences["n_frames"]} of its frames were labelled again, and differ: {", ".join(found)}'
    spread_meV, off_meV_A = differences['energy_spread_meV'], differences['force_meV_A']
    energies_differ = differences['energy_meV'] > labelling.max_data_energy_meV
    forces_agree = off_meV_A <= labelling.max_data_force_meV_A
    alike = energies_differ and forces_agree and spread_meV <= labelling.max_data_energy_meV
    if alike and differences['n_frames'] > 1 and 'energy' not in mixed_up:
        told += f'; by the same in all, and forces by {off_meV_A:.3g} meV/Å alone: another zero of energy'
    return told + ''.join(explained)


def _energies_mixed_up(pairs: Sequence[tuple[Atoms, Atoms]]) -> str:
    """Return in which unit the energies of the file are those computed again, or that they are per atom."""
    given, true = (np.array([pair[side].info['REF_energy'] for pair in pairs]) for side in (0, 1))
    sizes = np.array([len(one) for one, _ in pairs])
    ways: dict[str, tuple[float, Any]] = {f'in {unit}': (factor, 1.0) for unit, factor in ENERGY_UNITS.items()}
    if (sizes > 1).any():
        ways |= {f'per atom{_in(unit, "eV")}': (factor, sizes) for unit, factor in ENERGY_UNITS.items()}
    scaled = {words: given * factor * size for words, (factor, size) in ways.items()}
    words = _best(scaled, 'in eV', true, ENERGIES_ALIKE)
    return f'its energies are {words}: it needs total energies in eV' if words else ''


def _forces_mixed_up(pairs: Sequence[tuple[Atoms, Atoms]]) -> str:
    """Return in which unit, and with which sign, the forces of the file are those computed again."""
    given, true = (np.concatenate([pair[side].arrays['REF_forces'] for pair in pairs]) for side in (0, 1))
    scaled, factors = {}, {}
    for (unit, factor), sign in itertools.product(FORCE_UNITS.items(), (1, -1)):
        words = f'in {unit}' + (' and have the opposite sign (gradients)' if sign < 0 else '')
        scaled[words], factors[words] = sign * factor * given, sign * factor
    found = _best(scaled, 'in eV/Å', true, ALIKE)
    return f'its forces are {found}: multiply them by {factors[found]:.6g}' if found else ''


def _stress_mixed_up(pairs: Sequence[tuple[Atoms, Atoms]]) -> str:
    """Return in which unit, order and sign the stresses of the file are those computed again."""
    if not pairs:
        return ''
    given, true = (np.array([pair[side].info['REF_stress'] for pair in pairs]) for side in (0, 1))
    volumes = np.array([[atoms.cell.volume] for atoms, _ in pairs])
    scaled, ways_out = {}, {}
    for (order, places), sign in itertools.product(ORDERS.items(), (1, -1)):
        for unit, factor in STRESS_UNITS.items():
            opposite = 'with the opposite sign (compression positive)' if sign < 0 else ''
            words = ', '.join(filter(None, (f'in {unit}', order, opposite)))
            scaled[words] = sign * factor * given[:, places]
            ways_out[words] = f': multiply it by {sign * factor:.6g}' if sign * factor != 1 else ''
        words = ', '.join(filter(None, ('a virial in eV', order, 'with the opposite sign' if sign > 0 else '')))
        scaled[words] = sign * given[:, places] / volumes
        ways_out[words] = f': divide it by {"minus " if sign < 0 else ""}the volume of the cell'
    found = _best(scaled, 'in eV/Å³', true, ALIKE)
    return f'its stress is {found}{ways_out[found]}' if found else ''


def _in(unit: str, usual: str) -> str:
    return '' if unit == usual else f' and in {unit}'


def _best(scaled: Mapping[str, np.ndarray], as_it_should: str, true: np.ndarray, alike: float) -> str | None:
    """Return the way of reading labels that gives those computed again; None where no way does, or the usual one."""
    errors = {words: float(np.linalg.norm(values - true)) for words, values in scaled.items()}
    words = min(errors, key=errors.__getitem__)  # of equal ones the first
    enough = errors[words] <= alike * float(np.linalg.norm(true)) and errors[words] < alike * errors[as_it_should]
    return words if enough and words != as_it_should else None
