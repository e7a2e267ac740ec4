"""Two atoms alone, from well inside their bond to beyond it: whether a potential repels where DFT does.

Frames of a crystal hold few short distances, so that below them a potential is extrapolated. One that does not rise
there has a hole into which atoms fall at high temperature or pressure, and errors on a test set say nothing of it.

Energies are counted from those of the free atoms, on both sides. Their sizes are told without a verdict: a potential
that was trained on crystals knows no dimer, and the labels are those of the settings of the crystal, which need not be
the ground state of the molecule. The verdict: each step inwards from DFT's lowest point must cost energy.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.symbols import symbols2numbers

from aiida_mlip_autopipe.science.charge import told_charge
from aiida_mlip_autopipe.science.evaluation.physics.base import (
    Check,
    Context,
    Judgement,
    Label,
    MissingLabelsError,
    named,
    row,
)
from aiida_mlip_autopipe.science.evaluation.physics.figures import POTENTIAL, REFERENCE
from aiida_mlip_autopipe.science.evaluation.records import Row
from aiida_mlip_autopipe.science.parameters import PhysicsParameters
from aiida_mlip_autopipe.science.references import Reference
from aiida_mlip_autopipe.science.systems import recognised

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ['CHECK']

DISTANCES = (0.75, 0.85, 0.95, 1.05, 1.2, 1.4)
"""In units of the sum of the covalent radii."""
FEWEST = 3
BOX_A = 12.0
"""Edge of the box beyond the distance of the atoms, in Å: none of them sees an image."""
WINDOW_EV = 50.0
"""Energies of dimers differ by as much as they may, per atom."""


def structures(crystal: Atoms, parameters: PhysicsParameters) -> list[Atoms]:
    """Return each pair of elements of a crystal at each distance, each alone in a box."""
    return [_dimer(pair, factor, crystal.info['frame_id']) for pair in _pairs(crystal) for factor in DISTANCES]


def _pairs(crystal: Atoms) -> list[tuple[str, str]]:
    return list(combinations_with_replacement(sorted(set(crystal.symbols)), 2))


def _dimer(pair: tuple[str, str], factor: float, origin: str) -> Atoms:
    distance = round(factor * float(covalent_radii[symbols2numbers(''.join(pair))].sum()), 3)
    edge = BOX_A + distance
    atoms = Atoms(''.join(pair), [[-distance / 2, 0, 0], [distance / 2, 0, 0]], cell=[edge] * 3, pbc=True)
    atoms.positions += edge / 2
    where = {'pair': '-'.join(pair), 'distance_A': distance, 'energy_window_eV': WINDOW_EV}
    return named(atoms, 'dimers', origin, **recognised(atoms).info, **where)


def judge(context: Context) -> Judgement:
    """Compare the two curves of each pair."""
    if told_charge(context.pristine):
        raise MissingLabelsError('the crystal has a charge, and so would its dimers')
    rows: list[Row] = []
    curves: dict[str, object] = {}
    missing = []
    for pair in _pairs(context.pristine):
        name = '-'.join(pair)
        frames = sorted(
            (atoms for atoms in context.frames('dimers') if atoms.info['pair'] == name),
            key=lambda atoms: atoms.info['distance_A'],
        )
        if len(frames) < FEWEST or not set(pair) <= set(context.isolated_atoms):
            missing.append(name)
            continue
        distances = [atoms.info['distance_A'] for atoms in frames]
        energies = [_binding(frames, context.isolated_atoms, side) for side in context.sides]
        rows += _rows(name, distances, *energies)
        curves[name] = {'distances': distances, 'potential': energies[0].tolist(), 'reference': energies[1].tolist()}
    if not curves:
        raise MissingLabelsError(f'of {", ".join(missing)} fewer than {FEWEST} distances or free atoms have a label')
    return Judgement(
        rows=rows,
        uncertainty='none: energies without a fit',
        figure=curves,
        note=f'not judged for want of labels: {", ".join(missing)}' if missing else '',
    )


def _binding(frames: list[Atoms], free: Mapping[str, Atoms], side: Mapping[str, Label]) -> np.ndarray:
    """Return the energy of each dimer less that of its free atoms, in eV."""
    apart = sum(side[free[symbol].info['frame_id']].energy for symbol in frames[0].symbols)
    return np.array([side[atoms.info['frame_id']].energy - apart for atoms in frames])


def _rows(name: str, distances: list[float], predicted: np.ndarray, reference: np.ndarray) -> list[Row]:
    """Return the wall, from DFT's lowest point to the shortest distance, with its verdict; then each energy."""
    lowest = int(np.argmin(reference))
    walls = [float(energies[0] - energies[lowest]) for energies in (predicted, reference)]
    rises = bool((np.diff(predicted[: lowest + 1]) < 0).all()) if lowest else None
    return [
        row(f'wall_{name}', 'eV', *walls, passed=rises),
        *(
            row(f'energy_{name}_{distance:.2f}_A', 'eV', *energies)
            for distance, *energies in zip(distances, predicted, reference, strict=True)
        ),
    ]


def sentence(parameters: PhysicsParameters) -> str:
    """Return what a paper says."""
    return (
        f'Dimers were compared with DFT at {len(DISTANCES)} distances from {DISTANCES[0]:g} to {DISTANCES[-1]:g} times '
        'the sum of the covalent radii.'
    )


def draw(axes: Axes, shown: Mapping[str, Any]) -> None:
    """Draw the figure: DFT dashed, the potential solid, a marker for each pair."""
    for marker, (name, curve) in zip('os^Dv<>Ph' * len(shown), shown.items(), strict=False):
        axes.plot(curve['distances'], curve['reference'], f'{marker}--', color=REFERENCE, label=f'{name}, DFT')
        axes.plot(curve['distances'], curve['potential'], f'{marker}-', color=POTENTIAL, label=f'{name}, potential')
    axes.set(xlabel='distance (Å)', ylabel='energy above the free atoms (eV)', title='Dimers')
    axes.legend()


CHECK = Check(
    structures,
    judge,
    sentence,
    about='Dimers from short to long distances: whether the potential repels where DFT does.',
    references=(
        Reference(
            'B. Cordero, V. Gómez, A. E. Platero-Prats, M. Revés, J. Echeverría, E. Cremades, F. Barragán, S. Alvarez, '
            'Dalton Trans. 2832 (2008)',
            'https://doi.org/10.1039/b801115j',
        ),
    ),
    draw=draw,
    needs_filled_cell=False,
    needs_isolated_atoms=True,
    rank=36,
)
