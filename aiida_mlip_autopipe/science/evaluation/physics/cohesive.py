"""The energy that holds a crystal together: that of its isolated atoms less its own, per atom.

Errors on a test set say nothing of it: they are of frames that all hold together, and a potential may be exact on them
with a free atom that is electronvolts off. The atoms are the ones that fix the reference energies of the potential, so
nothing but the crystal needs a label. The energies of the free atoms stand beside it and tell which of the two is off.

The tolerance is a fraction of the cohesive energy, by default a third of the 6 % by which density functionals are off
on average (G.-X. Zhang et al., New J. Phys. 20, 063020 (2018)): a potential within it adds little to the error of DFT.
"""

from __future__ import annotations

from collections.abc import Mapping

from ase import Atoms

from aiida_mlip_autopipe.science.charge import told_charge
from aiida_mlip_autopipe.science.evaluation.physics.base import (
    Check,
    Context,
    Judgement,
    Label,
    MissingLabelsError,
    percent_of,
    row,
)
from aiida_mlip_autopipe.science.parameters import PhysicsParameters
from aiida_mlip_autopipe.science.references import Reference

__all__ = ['CHECK']


def structures(crystal: Atoms, parameters: PhysicsParameters) -> list[Atoms]:
    """Return nothing: crystal and isolated atoms have their labels."""
    return []


def judge(context: Context) -> Judgement:
    """Compare the cohesive energies, and those of the free atoms."""
    crystal = context.frames('pristine')
    if not crystal:
        raise MissingLabelsError('the crystal has no label')
    if charge := told_charge(crystal[0]):
        raise MissingLabelsError(f'the crystal has a charge of {charge:+g} e and its isolated atoms are neutral')
    atoms = context.isolated_atoms
    if missing := sorted(set(crystal[0].symbols) - set(atoms)):
        raise MissingLabelsError(f'the isolated atoms of {", ".join(missing)} have no label')
    predicted, reference = (_cohesive(crystal[0], atoms, side) for side in context.sides)
    free = {symbol: [side[atom.info['frame_id']].energy for side in context.sides] for symbol, atom in atoms.items()}
    tolerance = percent_of(context.parameters.max_cohesive_error_percent, reference)
    return Judgement(
        rows=[
            row('cohesive_energy', 'eV/atom', predicted, reference, tolerance=tolerance),
            *(row(f'free_atom_{symbol}', 'eV', *free[symbol]) for symbol in sorted(set(crystal[0].symbols))),
        ],
        uncertainty='none: differences of energies, without a fit',
        note='' if reference > 0 else 'by its labels the crystal is not bound: look at those of the isolated atoms',
    )


def _cohesive(crystal: Atoms, atoms: Mapping[str, Atoms], side: Mapping[str, Label]) -> float:
    """Return the cohesive energy of one side, in eV per atom; positive where the crystal is bound."""
    apart = sum(side[atoms[symbol].info['frame_id']].energy for symbol in crystal.symbols)
    return (apart - side[crystal.info['frame_id']].energy) / len(crystal)


def sentence(parameters: PhysicsParameters) -> str:
    """Return what a paper says."""
    return 'The cohesive energy, from the crystal and its isolated atoms, was compared with DFT.'


CHECK = Check(
    structures,
    judge,
    sentence,
    about='The cohesive energy, and the energies of the free atoms.',
    references=(
        Reference(
            'G.-X. Zhang, A. M. Reilly, A. Tkatchenko, M. Scheffler, New J. Phys. 20, 063020 (2018)',
            'https://doi.org/10.1088/1367-2630/aac7f0',
        ),
    ),
    needs_filled_cell=False,
    needs_isolated_atoms=True,
    rank=35,
)
