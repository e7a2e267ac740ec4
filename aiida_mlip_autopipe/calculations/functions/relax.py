"""From a source to the inputs of its relaxation, and from the results to the relaxed source."""

from __future__ import annotations

import re

import numpy as np
from aiida import orm
from aiida.engine import calcfunction
from ase import Atoms

from aiida_mlip_autopipe.calculations.functions.label import labeller_inside, source_for
from aiida_mlip_autopipe.data import FramesData
from aiida_mlip_autopipe.data.source import source_atoms
from aiida_mlip_autopipe.science.frames.carried import carried_arrays, carry

__all__ = ['collect_relaxed', 'pick_source', 'relaxation_result']

RESULT = re.compile(r'relaxed_(?P<index>\d+)_(?P<name>.+)')


def relaxation_result(index: int, name: str) -> str:
    """Return the name of an output of the process that relaxed one structure."""
    return f'relaxed_{index}_{name}'


@calcfunction
def pick_source(
    structure: orm.Data, index: orm.Int, what: orm.Str, parameters: orm.Dict, **nodes: orm.Data
) -> dict[str, orm.Data]:
    """Turn one structure into the inputs of its relaxation.

    :param structure: ``StructureData`` or ``FramesData``.
    :param index: which of its frames.
    :param what: what is relaxed.
    :param parameters: those of the labelling code.
    :param nodes: ``node_NAME``, what the labelling code has of the profile, but its code.
    """
    labeller = labeller_inside(parameters, nodes)
    atoms = source_for(labeller, structure, index.value)
    atoms.info |= {'frame_id': f'source-{index.value}'}
    return labeller.pick_relaxation(atoms, what.value)


@calcfunction
def collect_relaxed(structure: orm.Data, parameters: orm.Dict, **results: orm.Data) -> dict[str, orm.Data]:
    """Put the relaxed positions and cells into the place of those of a source.

    :param structure: the source.
    :param parameters: those of the labelling code.
    :param results: of each structure I ``relaxed_I_NAME``, the outputs of its process; ``node_NAME``, what the
        labelling code has of the profile, but its code.
    :returns: ``structure``; ``report``, how far each has moved.
    """
    labeller = labeller_inside(parameters, results)
    outputs: dict[int, dict[str, orm.Data]] = {}
    for link, node in results.items():
        if match := RESULT.fullmatch(link):
            outputs.setdefault(int(match['index']), {})[match['name']] = node
    sources = source_atoms(structure)
    relaxed = [_in_place(source, labeller.relaxed(outputs[index])) for index, source in enumerate(sources)]
    moved = [_moved(source, atoms) for source, atoms in zip(sources, relaxed, strict=True)]
    return {'structure': FramesData.from_atoms(relaxed), 'report': orm.Dict({'structures': moved})}


def _in_place(source: Atoms, found: Atoms) -> Atoms:
    """Return a source at the positions and in the cell that were found, with what its atoms carry."""
    atoms = Atoms(numbers=source.numbers, positions=found.positions, cell=found.cell, pbc=source.pbc)
    return carry(carried_arrays(source), atoms)


def _moved(source: Atoms, atoms: Atoms) -> dict[str, object]:
    shifts = atoms.get_scaled_positions(wrap=False) - source.get_scaled_positions(wrap=False)
    shifts -= np.rint(shifts)
    return {
        'formula': source.get_chemical_formula(),
        'volume_A3': float(atoms.cell.volume),
        'volume_ratio': float(atoms.cell.volume / source.cell.volume),
        'largest_shift_A': float(np.linalg.norm(shifts @ atoms.cell.array, axis=1).max()),
    }
