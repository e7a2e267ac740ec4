"""The structure that a run starts from, whichever node holds it."""

from __future__ import annotations

from aiida.orm import StructureData
from ase import Atoms

from aiida_mlip_autopipe.data.frames import FramesData

__all__ = ['source_atoms']


def source_atoms(source: StructureData | FramesData) -> list[Atoms]:
    """Return the frames of a source structure.

    :raises ValueError: for a structure with partly occupied sites.
    """
    if isinstance(source, FramesData):
        return source.get_atoms()
    if source.is_alloy or source.has_vacancies:
        raise ValueError(
            f'the structure {source.get_formula()} <{source.pk}> has partly occupied sites: a calculation needs whole '
            'atoms; give ordered supercells that have this composition on average, as the frames of one file'
        )
    return [source.get_ase()]
