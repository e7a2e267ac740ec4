"""What a structure is, whoever made it: an isolated atom or not. Its dimensionality, vacuum and moments belong here."""

from aiida_mlip_autopipe.science.systems.isolated_atom import is_isolated_atom

__all__ = ['is_isolated_atom']
