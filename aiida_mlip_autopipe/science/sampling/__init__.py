"""DIRECT sampling: reduce, cluster, select; and the way from folders of MD frames to candidates."""

from aiida_mlip_autopipe.science.sampling.candidates import (
    Selection,
    describe_folders,
    select_candidates,
    select_frames,
)
from aiida_mlip_autopipe.science.sampling.direct import DirectSampler

__all__ = ['DirectSampler', 'Selection', 'describe_folders', 'select_candidates', 'select_frames']
