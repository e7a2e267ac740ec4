"""Errors of a potential against the labels that it is trained on, and against the steps of its training.

``OMP_NUM_THREADS=1 python -m tests.benchmarks.labels_or_training RESULTS docs/figures/labels_or_training.json``

RESULTS is what ``mlip-autopipe run examples/silicon/input.yaml --output RESULTS`` wrote. Steps are varied on all
training frames, labels at some numbers of steps; a seed draws the smaller sets, each a part of the next, and the
weights that the training begins with. One row of the file is one training; those that are there are not done again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from ase import Atoms
from ase.io import read, write

from aiida_mlip_autopipe.science.evaluation import evaluate
from aiida_mlip_autopipe.science.parameters import EvaluationParameters, TrainingParameters
from aiida_mlip_autopipe.science.systems import is_isolated_atom
from aiida_mlip_autopipe.science.training import train

STEPS = (400, 800, 1600, 3200)
STEPS_OF_LABELS = (400, 1600)
FRACTIONS_OF_LABELS = (0.5, 0.25, 1.0)
HOTTER_THAN_K = 1800.0
KEYS = ('energy_rmse_meV', 'force_rmse_meV_A')


def main() -> None:
    """Train what is not there yet, seed by seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('results', type=Path)
    parser.add_argument('file', type=Path)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1])
    given = parser.parse_args()
    dataset, tested = (read(given.results / f'{name}.extxyz', ':') for name in ('dataset', 'test_set'))
    rows = json.loads(given.file.read_text()) if given.file.exists() else []
    done = {(row['labels'], row['steps'], row['seed']) for row in rows}
    validation = [atoms for atoms in dataset if atoms.info['split'] == 'validation']
    for training, steps, seed in _trainings(dataset, given.seeds):
        labels = sum(not is_isolated_atom(atoms) for atoms in training)
        if (labels, steps, seed) not in done:
            rows.append(
                {'labels': labels, 'steps': steps, 'seed': seed, **_train(training, validation, tested, steps, seed)}
            )
            print(rows[-1], flush=True)
            given.file.write_text('[\n' + ',\n'.join(f'  {json.dumps(row)}' for row in rows) + '\n]\n')


def _trainings(dataset: list[Atoms], seeds: list[int]) -> Iterator[tuple[list[Atoms], int, int]]:
    """Yield training set, steps and seed, the shorter trainings first."""
    isolated = [atoms for atoms in dataset if is_isolated_atom(atoms)]
    labelled = [atoms for atoms in dataset if atoms.info['split'] == 'training' and not is_isolated_atom(atoms)]
    for steps in STEPS:
        for seed in seeds:
            order = np.random.default_rng(seed).permutation(len(labelled))
            for fraction in FRACTIONS_OF_LABELS if steps in STEPS_OF_LABELS else (1.0,):
                some = [labelled[index] for index in order[: round(fraction * len(labelled))]]
                yield isolated + some, steps, seed


def _train(
    training: list[Atoms], validation: list[Atoms], tested: list[Atoms], steps: int, seed: int
) -> dict[str, dict[str, float] | float]:
    """Return the errors in meV per atom and meV/Å by set, and the time in s."""
    parameters = TrainingParameters(
        lr=0.02, swa_lr=0.001, ema_decay=0.99, n_steps=steps, random_seed=seed, max_continuations=0, device='cpu'
    )
    hot = [atoms for atoms in tested if atoms.info['temperature_K'] > HOTTER_THAN_K]
    cooler = [atoms for atoms in tested if atoms.info['temperature_K'] <= HOTTER_THAN_K]
    started = time.time()
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write(folder / 'training.xyz', training)
        write(folder / 'validation.xyz', validation)
        trained = train(folder / 'training.xyz', folder / 'validation.xyz', parameters, folder)
        seconds = time.time() - started
        judged = {
            name: evaluate(trained.potential, frames, EvaluationParameters()).metrics
            for name, frames in (('test', cooler), ('hot', hot))
        }
    judged |= {name: trained.metrics[name] for name in ('train', 'validation')}
    errors = {name: {key: round(metrics[key], 2) for key in KEYS} for name, metrics in judged.items()}
    return {**errors, 'seconds': round(seconds, 1)}


if __name__ == '__main__':
    main()
