"""What came of a training by itself, for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiida_mlip_autopipe.cli.results import error_table
from aiida_mlip_autopipe.science.evaluation import tell_missed
from aiida_mlip_autopipe.science.training.limits import tell_limit

if TYPE_CHECKING:
    from rich.table import Table

    from aiida_mlip_autopipe.calculations.functions.train_set import TrainingSummary

__all__ = ['tell_training', 'training_tables']


def training_tables(summary: TrainingSummary) -> list[Table]:
    """Return the errors on the training, the validation and the test set."""
    training = summary['training']
    rows = [('training', training['train']), ('validation', training['validation']), ('test', summary['test'])]
    frames = ((f'{name} ({errors["n_frames"]} frames)', errors) for name, errors in rows)
    return [error_table('Errors (RMSE)', frames, 'set')]


def tell_training(summary: TrainingSummary) -> list[str]:
    """Return what is above its tolerance, and what limits the potential."""
    above = tell_missed(summary['above_tolerance'])
    return [f'not clearly below the tolerance: {above}'] * bool(above) + [tell_limit(summary['training'])]
