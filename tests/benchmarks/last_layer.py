"""Fit the last layer of potentials anew and print test errors, after over before: what `refit_last_layer` is worth.

``python -m tests.benchmarks.last_layer FOLDER ...``: each folder has ``potential.model``, ``training.extxyz``,
``validation.extxyz`` and ``test.extxyz``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from aiida_mlip_autopipe.science.evaluation import evaluate
from aiida_mlip_autopipe.science.frames import read_extxyz
from aiida_mlip_autopipe.science.parameters import EvaluationParameters
from aiida_mlip_autopipe.science.training.refit import refitted

ERRORS = ('energy_rmse_meV', 'force_rmse_meV_A', 'stress_rmse_GPa')


def ratios(folder: Path) -> np.ndarray:
    """Return the errors of energy, forces and stress on the test set after the refit, over those before."""
    training, validation, test = (read_extxyz(folder / f'{name}.extxyz') for name in ('training', 'validation', 'test'))
    with TemporaryDirectory() as scratch:
        after = Path(scratch) / 'refitted.model'
        if refitted(folder / 'potential.model', training, validation, after) is None:
            return np.ones(len(ERRORS))
        found = [evaluate(path, test, EvaluationParameters()).metrics for path in (after, folder / 'potential.model')]
    return np.array([found[0][name] / found[1][name] for name in ERRORS])  # type: ignore[literal-required]


if __name__ == '__main__':
    rows = []
    for folder in map(Path, sys.argv[1:]):
        rows.append(ratios(folder))
        print(folder, *(f'{ratio:.3f}' for ratio in rows[-1]), flush=True)
    print('geometric mean', *(f'{ratio:.3f}' for ratio in np.exp(np.log(rows).mean(axis=0))))
