"""What ``mace_run_train`` is asked and what came out; splits that do not leak; potentials as files."""

from aiida_mlip_autopipe.science.potential.foundation import FOUNDATIONS, FoundationError, load_foundation
from aiida_mlip_autopipe.science.potential.load import PotentialError, inspect_potential, load_calculator
from aiida_mlip_autopipe.science.training.mace_train import TrainingError, TrainingResult, TrainingSetError, train
from aiida_mlip_autopipe.science.training.split import split_by_origin

__all__ = [
    'FOUNDATIONS',
    'FoundationError',
    'PotentialError',
    'TrainingError',
    'TrainingResult',
    'TrainingSetError',
    'inspect_potential',
    'load_calculator',
    'load_foundation',
    'split_by_origin',
    'train',
]
