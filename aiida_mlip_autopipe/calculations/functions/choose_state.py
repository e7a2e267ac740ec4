"""Which of the states that a labelling code leaves open has the lowest energy: its inputs, and the choice."""

from __future__ import annotations

from aiida import orm
from aiida.engine import calcfunction

from aiida_mlip_autopipe.calculations.functions.label import source_for
from aiida_mlip_autopipe.data import FramesData
from aiida_mlip_autopipe.data.source import source_atoms
from aiida_mlip_autopipe.labelling.base import labeller_of
from aiida_mlip_autopipe.science.frames import structure_hash

__all__ = ['ask_states', 'choose_state']

SOURCE, PARAMETERS, LABELLED, REJECTED = 'source', 'parameters_', 'labelled_', 'rejected_'


@calcfunction
def ask_states(structure: orm.Data, parameters: orm.Dict) -> dict[str, orm.Data]:
    """Make the inputs of the labels of a source in each state that is left open.

    :param structure: ``StructureData`` or ``FramesData``, one source.
    :param parameters: those of the labelling code.
    :returns: of each state ``parameters_NAME`` and ``source_NAME``, the structure with what that state starts from.
    """
    (source,) = source_atoms(structure)
    asked = parameters.get_dict()
    inputs: dict[str, orm.Data] = {}
    for name, choice in labeller_of(asked).states(source).items():
        values = {**asked, **choice}
        atoms = source_for(labeller_of(values), structure)
        frame_id = f'source-{structure_hash(atoms)}'
        atoms.info |= {'frame_id': frame_id, 'origin': frame_id, 'config_type': 'source'}
        inputs |= {PARAMETERS + name: orm.Dict(values), f'{SOURCE}_{name}': FramesData.from_atoms([atoms])}
    return inputs


@calcfunction
def choose_state(parameters: orm.Dict, **nodes: orm.Data) -> dict[str, orm.Dict]:
    """Choose the state with the lowest energy.

    :param parameters: those of the labelling code, with what was left open.
    :param nodes: of each state ``parameters_NAME``, and ``labelled_NAME`` or ``rejected_NAME``.
    :returns: ``report``, the energies in eV per atom, the reasons of those without, and the choice; ``change``, what
        the configuration becomes. No ``change`` if there is no label.
    """
    energies, rejected = {}, {}
    for link, node in nodes.items():
        if link.startswith(LABELLED):
            (atoms,) = node.get_atoms()
            energies[link.removeprefix(LABELLED)] = atoms.info['REF_energy'] / len(atoms)
        elif link.startswith(REJECTED):
            rejected[link.removeprefix(REJECTED)] = '; '.join(map(str, node.get_dict().values()))
    report: dict[str, object] = {'energies_eV_atom': energies, 'rejected': rejected}
    if not energies:
        return {'report': orm.Dict(report)}
    chosen = min(energies, key=energies.__getitem__)
    before, values = parameters.get_dict(), nodes[PARAMETERS + chosen].get_dict()
    change = {key: value for key, value in values.items() if before.get(key) != value}
    return {'report': orm.Dict({**report, 'chosen': chosen}), 'change': orm.Dict({'labelling': change})}
