"""What went wrong, in the words that the other side knows."""

from __future__ import annotations

__all__ = ['InputError', 'error_code']


class InputError(ValueError):
    """The input file of a job is unfit."""


def error_code(error: Exception) -> str:
    """Return the code of an error; what is not foreseen is UNEXPECTED.

    A `ValueError` is the science saying which input it cannot take.
    """
    from aiida_mlip_autopipe.science.dynamics import NoFramesError
    from aiida_mlip_autopipe.science.frames import ManifestError
    from aiida_mlip_autopipe.science.training import PotentialError, TrainingError, TrainingSetError

    codes: tuple[tuple[type[Exception], str], ...] = (
        (ManifestError, 'SCRATCH_MISSING'),
        (NoFramesError, 'NO_FRAMES'),
        (PotentialError, 'POTENTIAL_UNUSABLE'),
        (TrainingSetError, 'INVALID_INPUT'),
        (TrainingError, 'TRAINING_FAILED'),
        (ValueError, 'INVALID_INPUT'),
    )
    return next((code for kind, code in codes if isinstance(error, kind)), 'UNEXPECTED')
