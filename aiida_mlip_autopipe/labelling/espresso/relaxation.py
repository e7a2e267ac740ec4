"""The source of the seeds relaxed by pw.x, with the level of theory of the labels.

pw.x keeps its plane waves while the cell changes; aiida-quantumespresso's WorkChain therefore starts again with those
of the new cell until the pressure is below its threshold there, which is the pressure that a label would have with the
same mesh of k-points. The mesh is that of the cell from which it started; where the relaxed cell asks for another, the
stage relaxes once more from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from aiida_mlip_autopipe.labelling.answers import Task

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ['relaxation_inputs', 'relaxation_namelists', 'relaxation_problem', 'relaxation_task']

PRESSURE_KBAR = 0.5
FORCE_RY_BOHR, ENERGY_RY = 5e-4, 1e-5
CELL_DOFREE = {'cell': 'all', 'in-plane': '2Dxy'}
MOST_STARTS = 5


def relaxation_problem(
    what: str, atoms: Atoms, given: Mapping[str, Any], recommended: Mapping[str, tuple[float, float]] | None
) -> str | None:
    """Return why pw.x is not to relax this of a structure; None if it may.

    With too few plane waves the stress is wrong by as much as tens of GPa, and the cell with it: NiO is at -130 GPa
    with 45 and 300 Ry, at -2.5 with 80 and 640.
    """
    if what == 'in-plane' and not _lies_in_plane(atoms):
        return 'the two vectors of the plane must have no z component, and the third none in the plane, for pw.x'
    if what not in CELL_DOFREE or recommended is None:
        return None
    for column, name in enumerate(('ecutwfc_Ry', 'ecutrho_Ry')):
        known = {symbol: recommended[symbol][column] for symbol in set(atoms.symbols) if symbol in recommended}
        hardest = max(known, key=known.__getitem__, default=None)
        value = given.get(name)
        if hardest is not None and value is not None and value < known[hardest]:
            return (
                f'labelling.{name} ({value:g}) is below the {known[hardest]:g} that the pseudopotential of {hardest} '
                'asks for, where the stress is wrong, and the cell would be, too'
            )
    return None


def _lies_in_plane(atoms: Atoms) -> bool:
    cell = atoms.cell.array
    return bool(np.allclose(cell[:2, 2], 0, atol=1e-6) and np.allclose(cell[2, :2], 0, atol=1e-6))


def relaxation_namelists(single: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Return the namelists of a relaxation, from those of a single point of the same structure."""
    namelists = {name: dict(values) for name, values in single.items()}
    moves_cell = what in CELL_DOFREE
    namelists['CONTROL'] |= {
        'calculation': 'vc-relax' if moves_cell else 'relax',
        'forc_conv_thr': FORCE_RY_BOHR,
        'etot_conv_thr': max(ENERGY_RY, 10 * namelists['ELECTRONS']['conv_thr']),
    }
    if moves_cell:
        namelists['CELL'] = {'press_conv_thr': PRESSURE_KBAR, 'cell_dofree': CELL_DOFREE[what]}
    return namelists


def relaxation_inputs(single: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Return the nodes that are made for a relaxation, from those for a single point of the same structure."""
    from aiida import orm

    return {**single, 'parameters': orm.Dict(relaxation_namelists(single['parameters'].get_dict(), what))}


def relaxation_task(single: Mapping[str, Any]) -> Task:
    """Return the WorkChain that relaxes, from the inputs of the one for a single point."""
    from aiida import orm
    from aiida.plugins import WorkflowFactory

    pw = dict(single['pw'])
    inputs = {
        'structure': pw.pop('structure'),
        'base_relax': {'pw': pw, 'kpoints': single['kpoints']},
        'max_meta_convergence_iterations': orm.Int(MOST_STARTS),
        'clean_workdir': orm.Bool(True),
    }
    return Task(WorkflowFactory('quantumespresso.pw.relax'), inputs)
