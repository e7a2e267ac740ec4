"""The structure that a run starts from, whichever node holds it."""

from __future__ import annotations

from aiida.orm import StructureData
from ase import Atoms

from aiida_mlip_autopipe.data.frames import FramesData

__all__ = ['source_atoms']


def source_atoms(source: StructureData | FramesData) -> list[Atoms]:
    """Return the frames of a source structure."""
    return source.get_atoms() if isinstance(source, FramesData) else [source.get_ase()]
