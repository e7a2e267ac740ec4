"""What a structure is, whoever made it: an isolated atom, bulk, a slab, molecules; and what follows from that."""

from aiida_mlip_autopipe.science.systems.dimensionality import Dimensionality, dimensionality, tell_systems
from aiida_mlip_autopipe.science.systems.isolated_atom import is_isolated_atom
from aiida_mlip_autopipe.science.systems.vacuum import (
    VACUUM_AXES,
    filled_axes,
    filled_space,
    fills_its_cell,
    recognised,
    vacuum_axes,
)

__all__ = [
    'VACUUM_AXES',
    'Dimensionality',
    'dimensionality',
    'filled_axes',
    'filled_space',
    'fills_its_cell',
    'is_isolated_atom',
    'recognised',
    'tell_systems',
    'vacuum_axes',
]
