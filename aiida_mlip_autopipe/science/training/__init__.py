"""Training of a potential: sets that do not leak, what is refused before, and what came out."""

from aiida_mlip_autopipe.science.training.once import TrainingResult
from aiida_mlip_autopipe.science.training.run import train
from aiida_mlip_autopipe.science.training.sets import TrainingError, TrainingSetError
from aiida_mlip_autopipe.science.training.split import split_by_origin

__all__ = ['TrainingError', 'TrainingResult', 'TrainingSetError', 'split_by_origin', 'train']
