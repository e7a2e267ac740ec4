"""Programs on this computer, for ``init``."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ['find_executable']


def find_executable(path: Path, option: str) -> Path:
    """Return the absolute path of a program.

    Raises
    ------
    ValueError
        If it is none; the error names the option that gives another.
    """
    path = path.expanduser().absolute()
    if not path.is_file() or not os.access(path, os.X_OK):
        raise ValueError(f'{path}: not an executable file; give its path with {option}')
    return path
