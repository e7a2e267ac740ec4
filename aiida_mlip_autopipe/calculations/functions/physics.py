"""The structures of the physics checks, as a node."""

from __future__ import annotations

from aiida import orm
from aiida.engine import calcfunction

from aiida_mlip_autopipe.data import FramesData
from aiida_mlip_autopipe.data.source import source_atoms
from aiida_mlip_autopipe.labelling.base import labeller_of
from aiida_mlip_autopipe.science.parameters import PhysicsParameters
from aiida_mlip_autopipe.science.systems import is_isolated_atom

__all__ = ['join_isolated_atoms', 'physics_structures']


@calcfunction
def physics_structures(structure: orm.Data, parameters: orm.Dict, labelling: orm.Dict | None = None) -> FramesData:
    """Make the structures that need a label for the physics checks.

    :param structure: ``StructureData``, or ``FramesData`` of one frame: the crystal.
    :param parameters: ``PhysicsParameters``.
    :param labelling: those of the labelling code, which prepares the crystal for its labels.
    :returns: the crystal, and its strained, displaced and defective copies.
    :raises ValueError: if there are several structures.
    """
    from aiida_mlip_autopipe.science.evaluation.physics import reference_structures

    sources = source_atoms(structure)
    if labelling is not None:
        sources = labeller_of(labelling.get_dict()).prepare(sources)
    if len(sources) != 1:
        raise ValueError(f'structure: {len(sources)} frames; the physics checks take one crystal: give one for each')
    return FramesData.from_atoms(reference_structures(sources[0], PhysicsParameters(**parameters.get_dict())))


@calcfunction
def join_isolated_atoms(labelled: FramesData, initial: FramesData) -> FramesData:
    """Put the isolated atoms of the first labels beside the structures of the physics checks.

    :param labelled: the structures of ``physics_structures`` with their labels.
    :param initial: labelled frames, isolated atoms among them.
    :raises ValueError: if their levels of theory differ.
    """
    if labelled.label_fingerprint != initial.label_fingerprint:
        raise ValueError(
            f'labelled has the level of theory {labelled.label_fingerprint}, initial {initial.label_fingerprint}: '
            'energies can only be subtracted at one; label the isolated atoms as the crystal'
        )
    atoms = [frame for frame in initial.get_atoms() if is_isolated_atom(frame)]
    return FramesData.from_atoms([*labelled.get_atoms(), *atoms], labelled.label_fingerprint)
