"""What went wrong, in the words that the other side knows."""

from __future__ import annotations

import errno

__all__ = ['InputError', 'error_code']


NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class InputError(ValueError):
    """The input file of a job is unfit."""


def error_code(error: Exception) -> str:
    """Return the code of an error; what is not foreseen is UNEXPECTED.

    A `ValueError` is the science saying which input it cannot take.
    """
    from aiida_mlip_autopipe.science.dynamics import NoFramesError
    from aiida_mlip_autopipe.science.frames import ManifestError
    from aiida_mlip_autopipe.science.potential import PotentialError
    from aiida_mlip_autopipe.science.training import TrainingError, TrainingSetError

    if isinstance(error, OSError) and (error.errno in NO_SPACE or 'No space left' in str(error)):
        return 'DISK_FULL'
    if type(error).__name__ == 'OutOfMemoryError':  # torch's, of a GPU
        return 'OUT_OF_MEMORY'
    codes: tuple[tuple[type[Exception], str], ...] = (
        (MemoryError, 'OUT_OF_MEMORY'),
        (ManifestError, 'SCRATCH_MISSING'),
        (NoFramesError, 'NO_FRAMES'),
        (PotentialError, 'POTENTIAL_UNUSABLE'),
        (TrainingSetError, 'INVALID_INPUT'),
        (TrainingError, 'TRAINING_FAILED'),
        (ValueError, 'INVALID_INPUT'),
    )
    return next((code for kind, code in codes if isinstance(error, kind)), 'UNEXPECTED')
