"""How a frame becomes a vector: SOAP and ACE, compiled with Numba, and the learned features of a MACE potential."""

from aiida_mlip_autopipe.science.descriptors.ace import ACE
from aiida_mlip_autopipe.science.descriptors.base import DescribedChunk, Descriptor
from aiida_mlip_autopipe.science.descriptors.describe import make_descriptor, stream_rows
from aiida_mlip_autopipe.science.descriptors.mace import MACEFeatures
from aiida_mlip_autopipe.science.descriptors.soap import SOAP

__all__ = ['ACE', 'SOAP', 'DescribedChunk', 'Descriptor', 'MACEFeatures', 'make_descriptor', 'stream_rows']
