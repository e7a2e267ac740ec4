"""The pipeline's own AiiDA data: frames and potentials."""

from aiida_mlip_autopipe.data.frames import FramesData
from aiida_mlip_autopipe.data.potential import PotentialData

__all__ = ['FramesData', 'PotentialData']
