"""What a structure is, whoever made it: an isolated atom or not. Its dimensionality, vacuum and moments belong here."""

from aiida_mlip_autopipe.science.systems.isolated_atom import is_isolated_atom, isolated_atom_id
from aiida_mlip_autopipe.science.systems.moments import (
    INITIAL_MOMENTS,
    has_moments,
    largest_moment,
    lost_order,
    magnetic_elements,
    order_in_words,
    with_moments_of,
)

__all__ = [
    'INITIAL_MOMENTS',
    'has_moments',
    'is_isolated_atom',
    'isolated_atom_id',
    'largest_moment',
    'lost_order',
    'magnetic_elements',
    'order_in_words',
    'with_moments_of',
]
