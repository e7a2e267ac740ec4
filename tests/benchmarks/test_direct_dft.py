"""Which frames of silicon are worth their DFT labels: errors of potentials trained on what each method selects.

Needed are the labelled frames of Zuo et al., J. Phys. Chem. A 124, 731 (2020), in ``shared/data`` beside the
repository: they are not to be redistributed. Rows of maml appear where it is installed.

A fifth of each trajectory is held out; from the rest, the pool, a share is selected without a look at the labels; on
that share a linear ACE is trained. Its errors are divided by those after a random selection of the same size, and
averaged over the hold-outs. 'all of the pool' is the floor: no selection does much better. Errors are those of the mean
held-out frame: a selection that prefers rare frames pays for it with the frequent ones, unless each selected frame
counts in the training as often as it is the nearest one to a frame of the pool ('weighted').

``OMP_NUM_THREADS=1 pytest tests/benchmarks -k direct_dft``
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from ase import Atoms
from ase.io import read

from aiida_mlip_autopipe.science.descriptors import ACE, make_descriptor
from aiida_mlip_autopipe.science.parameters import SoapParameters
from aiida_mlip_autopipe.science.sampling import DirectSampler

from .direct_run import maml_picks
from .linear_ace import LinearACE, force_features

DATA = Path(__file__).parents[3] / 'shared/data'
BUDGETS = (0.1, 0.2, 0.3, 0.5)
N_SEEDS, N_RANDOM, HELD_OUT = 30, 10, 0.2


class Picks(NamedTuple):
    """Rows of the pool, and how much each counts in the training."""

    rows: np.ndarray
    weights: np.ndarray | None = None


Select = Callable[[np.ndarray, int, int], Picks]


def whole_pool(rows: np.ndarray, n_to_select: int, seed: int) -> Picks:
    return Picks(np.arange(len(rows)))


def farthest(rows: np.ndarray, n_to_select: int, seed: int) -> Picks:
    return Picks(DirectSampler(n_to_select, random_state=seed, selection='farthest').fit(rows).selected_idx_)


def direct(rows: np.ndarray, n_to_select: int, seed: int) -> Picks:
    return Picks(DirectSampler(n_to_select, random_state=seed).fit(rows).selected_idx_)


def weighted_direct(rows: np.ndarray, n_to_select: int, seed: int) -> Picks:
    """Weigh each selected row by the rows that it is the nearest one to."""
    sampler = DirectSampler(n_to_select, random_state=seed).fit(rows)
    return Picks(sampler.selected_idx_, sampler.represents_)


def maml_default(rows: np.ndarray, n_to_select: int, seed: int) -> Picks:
    return Picks(maml_picks(rows, n_to_select))


def selections() -> dict[str, Select]:
    """Return what is compared with a random selection, by name."""
    found: dict[str, Select] = {'farthest-point': farthest}
    if find_spec('maml') is not None:
        found['maml'] = maml_default
    return found | {'DIRECT': direct, 'DIRECT, weighted': weighted_direct, 'all of the pool': whole_pool}


@pytest.fixture(scope='module')
def frames() -> list[Atoms]:
    """Return all labelled frames."""
    paths = [DATA / f'si_zuo2020_{part}.extxyz' for part in ('training', 'test')]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        pytest.skip(f'{", ".join(missing)} not there: labelled frames that must not be redistributed')
    return [atoms for path in paths for atoms in read(path, index=':')]


#: A random selection of a tenth would like a ridge of 1e-5 with forces, all of the pool one of 1e-9.
POTENTIALS: dict[str, dict[str, Any]] = {
    'energies and forces': {
        'ace': {'correlation_order': 4, 'n_max': [10, 6, 3, 2], 'l_max': [0, 5, 3, 2]},
        'force_weight': 0.01,
        'ridge': 1e-7,
    },
    'energies alone': {'ace': {}, 'force_weight': 0.0, 'ridge': 1e-3},
}


def potential_of(frames: list[Atoms], name: str) -> LinearACE:
    """Return a potential of `POTENTIALS`."""
    settings = POTENTIALS[name]
    ace = ACE(['Si'], 5.0, **settings['ace'], average='outer')
    return LinearACE(frames, ace, settings['force_weight'], settings['ridge'])


def trajectory(atoms: Atoms) -> str:
    """Return the group of a frame and, for dynamics, the temperature."""
    temperature = re.search(r'\d+ K$', atoms.info['description'])
    return atoms.info['group'] + (f' {temperature[0]}' if temperature else '')


def split(trajectories: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the frames of the pool and those held out, the same share of each trajectory."""
    generator = np.random.default_rng(seed)
    held_out = np.zeros(len(trajectories), dtype=bool)
    for name in np.unique(trajectories):
        members = generator.permutation(np.flatnonzero(trajectories == name))
        held_out[members[: round(HELD_OUT * len(members))]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def study(potential: LinearACE, rows: np.ndarray, trajectories: np.ndarray) -> dict[tuple[float, str], np.ndarray]:
    """Return the errors in energy and forces by budget and selection, (N_SEEDS, 2).

    Those of ``random`` are absolute, in eV per atom and eV/Å, and means over N_RANDOM draws; the others are relative to
    them.
    """
    errors, compared = defaultdict(list), selections()
    for seed in range(N_SEEDS):
        pool, held_out = split(trajectories, seed)
        for budget in BUDGETS:
            n_to_select = round(budget * len(pool))
            draws = random_draws(len(pool), n_to_select, seed)
            random = np.mean([potential.errors(potential.fit(pool[draw]), held_out) for draw in draws], axis=0)
            errors[budget, 'random'].append(random)
            for name, select in compared.items():
                picks = select(rows[pool], n_to_select, seed)
                check_number(name, picks, n_to_select)
                coefficients = potential.fit(pool[picks.rows], picks.weights)
                errors[budget, name].append(potential.errors(coefficients, held_out) / random)
    return {key: np.array(values) for key, values in errors.items()}


def random_draws(n_rows: int, n_to_select: int, seed: int) -> list[np.ndarray]:
    generator = np.random.default_rng((seed, n_to_select))
    return [generator.choice(n_rows, n_to_select, replace=False) for _ in range(N_RANDOM)]


def check_number(name: str, picks: Picks, n_to_select: int) -> None:
    """Every selection but the reference's, which may fall short, has exactly as many frames as were asked for."""
    n_distinct = len(set(picks.rows))
    if name not in ('maml', 'all of the pool'):
        assert n_distinct == len(picks.rows) == n_to_select, f'{name}: {n_distinct} of {n_to_select}'


def columns(errors: dict[tuple[float, str], np.ndarray]) -> Iterator[dict[str, Any]]:
    """Yield the rows of the table."""
    for (budget, name), values in errors.items():
        means, standard_errors = values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))
        yield {'budget': f'{budget:.0%}', 'selection': name} | (
            {'energy': '1', 'forces': '1', 'meV/atom': f'{1e3 * means[0]:.2f}', 'eV/Å': f'{means[1]:.4f}'}
            if name == 'random'
            else {
                quantity: f'{mean:.3f} ± {standard_error:.3f}'
                for quantity, mean, standard_error in zip(('energy', 'forces'), means, standard_errors, strict=True)
            }
        )


@pytest.mark.filterwarnings('ignore:Number of subclusters')  # maml starts with too wide a threshold
@pytest.mark.parametrize('trained_on', POTENTIALS)
def test_errors_of_selections(benchmark, add_row, frames: list[Atoms], trained_on: str):
    """RMSE on held-out frames relative to a random selection, mean over hold-outs ± its standard error."""
    potential = potential_of(frames, trained_on)
    rows = make_descriptor(SoapParameters(), ['Si']).create(frames)
    trajectories = np.array([trajectory(atoms) for atoms in frames])
    errors = benchmark.pedantic(study, args=(potential, rows, trajectories), rounds=1)
    for row in columns(errors):
        if not potential.force_weight:
            row = {name: cell for name, cell in row.items() if name not in ('forces', 'eV/Å')}
        add_row(f'RMSE over that of a random selection: Si, {N_SEEDS} hold-outs, trained on {trained_on}', **row)
    trained = slice(None) if potential.force_weight else slice(1)
    assert (errors[0.1, 'DIRECT'].mean(axis=0)[trained] < 1).all()
    energy, forces = (errors[0.5, 'random'] * errors[0.5, 'all of the pool']).mean(axis=0)
    assert energy < (0.01 if potential.force_weight else 0.015)
    assert forces < 0.15 or not potential.force_weight


def test_step_of_the_differences(frames: list[Atoms]):
    """Gradients of the features do not depend on the displacement."""
    ace = ACE(['Si'], 5.0, **POTENTIALS['energies and forces']['ace'], average='outer')
    atoms = max(frames, key=lambda atoms: np.abs(atoms.get_forces()).max())
    gradients = force_features(atoms, ace)
    for step in (1e-4, 1e-3):
        assert np.abs(force_features(atoms, ace, step) - gradients).max() < 1e-4 * np.abs(gradients).max()
