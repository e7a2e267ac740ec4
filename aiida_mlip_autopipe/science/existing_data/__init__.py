"""Labelled frames of earlier work: how they are read, whether they are sound, and of the level of theory at hand.

A potential learns energy differences of meV. Two sets whose cutoffs, k-points or pseudopotentials differ cannot share a
training set, and a file does not say how it was computed. So each frame is judged by itself and among the others
(`judging`), some are labelled again, and what was found then is held against what the file says (`comparing`).
"""

from aiida_mlip_autopipe.science.existing_data.comparing import differences_between, too_different
from aiida_mlip_autopipe.science.existing_data.reading import (
    EXISTING_DATA,
    existing_data,
    judged_data,
    numbered_data,
    read_labelled,
    spread_over,
    unfit_frames,
)

__all__ = [
    'EXISTING_DATA',
    'differences_between',
    'existing_data',
    'judged_data',
    'numbered_data',
    'read_labelled',
    'spread_over',
    'too_different',
    'unfit_frames',
]
