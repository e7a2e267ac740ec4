"""How a frame becomes a vector: SOAP, compiled with Numba."""

from aiida_mlip_autopipe.science.descriptors.soap import SOAP, describe

__all__ = ['SOAP', 'describe']
