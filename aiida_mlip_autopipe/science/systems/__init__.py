"""What a structure is, whoever made it: an isolated atom, bulk, a slab, molecules; and what follows from that."""

from aiida_mlip_autopipe.science.systems.dimensionality import Dimensionality, dimensionality, tell_systems
from aiida_mlip_autopipe.science.systems.isolated_atom import is_isolated_atom, isolated_atom_id
from aiida_mlip_autopipe.science.systems.moments import (
    INITIAL_MOMENTS,
    has_moments,
    largest_moment,
    lost_order,
    magnetic_elements,
    order_in_words,
)
from aiida_mlip_autopipe.science.systems.vacuum import (
    VACUUM_AXES,
    filled_axes,
    filled_space,
    fills_its_cell,
    recognised,
    vacuum_axes,
)

__all__ = [
    'INITIAL_MOMENTS',
    'VACUUM_AXES',
    'Dimensionality',
    'dimensionality',
    'filled_axes',
    'filled_space',
    'fills_its_cell',
    'has_moments',
    'is_isolated_atom',
    'isolated_atom_id',
    'largest_moment',
    'lost_order',
    'magnetic_elements',
    'order_in_words',
    'recognised',
    'tell_systems',
    'vacuum_axes',
]
