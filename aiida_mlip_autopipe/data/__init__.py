"""The pipeline's own AiiDA data: frames and potentials."""

from .frames import FramesData
from .potential import PotentialData

__all__ = ['FramesData', 'PotentialData']
