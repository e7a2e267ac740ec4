"""The energy of forming a vacancy, unrelaxed: an atom is taken out of the supercell, the others stay.

Of an element, the atom goes to the perfect crystal: ``E(N - 1) - (N - 1) / N E(N)``, for each kind of site. In a
compound that depends on chemical potentials, so that all atoms of a formula unit are taken out, far from each other,
and become a formula unit of the perfect crystal (a Schottky defect).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd

import numpy as np
from ase import Atoms

from aiida_mlip_autopipe.science.evaluation.physics.base import (
    Check,
    Context,
    Judgement,
    Label,
    MissingLabelsError,
    named,
    row,
)
from aiida_mlip_autopipe.science.evaluation.physics.crystal import supercell_of, symmetry_of
from aiida_mlip_autopipe.science.parameters import PhysicsParameters

__all__ = ['CHECK']


def structures(crystal: Atoms, parameters: PhysicsParameters) -> list[Atoms]:
    """Return the perfect supercell, and for each kind of site one without an atom."""
    perfect = supercell_of(crystal, parameters)
    sites = perfect.arrays.pop('site')
    origin = crystal.info['frame_id']
    frames = [named(perfect, 'supercell', origin)]
    for site in np.unique(symmetry_of(crystal, parameters).equivalent_atoms):
        atoms = perfect.copy()
        del atoms[int(np.flatnonzero(sites == site)[0])]
        element = crystal.symbols[site]
        frames.append(named(atoms, 'vacancy', origin, vacancy_site=int(site), vacancy_element=element))
    return frames


def judge(context: Context) -> Judgement:
    """Compare the energies of both sides."""
    kinds = symmetry_of(context.pristine, context.parameters).equivalent_atoms
    perfect = context.frames('supercell')
    vacancies = {atoms.info['vacancy_site']: atoms for atoms in context.frames('vacancy')}
    n_needed, n_labelled = len(np.unique(kinds)) + 1, len(vacancies) + len(perfect)
    if n_labelled < n_needed:
        raise MissingLabelsError(f'{n_labelled} of {n_needed} supercells have a label: all are needed')
    costs = [_costs(perfect[0], vacancies, side) for side in context.sides]
    if len(set(context.pristine.numbers)) == 1:
        values = [{f'formation_energy_{_site(vacancies, site)}': cost for site, cost in side.items()} for side in costs]
    else:
        values = [{'schottky_energy': _schottky(context.pristine, kinds, side)} for side in costs]
    tolerance = context.parameters.max_vacancy_error_eV
    return Judgement(
        rows=[row(name, 'eV', values[0][name], values[1][name], tolerance=tolerance) for name in values[0]],
        uncertainty='none: differences of energies, without a fit',
        note='unrelaxed',
    )


def _site(vacancies: Mapping[int, Atoms], site: int) -> str:
    return f'{vacancies[site].info["vacancy_element"]}{site}'


def _costs(perfect: Atoms, vacancies: Mapping[int, Atoms], side: Mapping[str, Label]) -> dict[int, float]:
    """Return the energy of taking an atom of each kind of site to the perfect crystal, in eV.

    In a compound "an atom of the crystal" is an average one; over a formula unit they add up to what they are.
    """
    whole = side[perfect.info['frame_id']].energy
    per_atom = whole / len(perfect)
    return {site: side[atoms.info['frame_id']].energy - whole + per_atom for site, atoms in sorted(vacancies.items())}


def _schottky(crystal: Atoms, kinds: np.ndarray, costs: Mapping[int, float]) -> float:
    """Return the energy of taking out a formula unit, the mean over the formula units of the crystal."""
    counts = np.unique(crystal.numbers, return_counts=True)[1]
    return sum(costs[int(kind)] for kind in kinds) / gcd(*map(int, counts))


def sentence(parameters: PhysicsParameters) -> str:
    """Return what a paper says."""
    return (
        'The energy of forming an unrelaxed vacancy was compared with DFT in a supercell of at least '
        f'{parameters.supercell_atoms} atoms.'
    )


CHECK = Check(
    structures,
    judge,
    sentence,
    about='The energy of forming a vacancy, unrelaxed.',
    rank=30,
)
