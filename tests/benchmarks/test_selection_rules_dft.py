"""Which rule of selection, with or without weights, trains better potentials than a random selection, and where.

Twelve hold-outs (a fifth of each trajectory) of each set of `selection_sets`; 10, 20 and 30 % of the rest are selected
without a look at the labels, and a linear ACE is trained on them. Errors on the held-out frames are divided by those
after random selections of the same size (mean of ten draws). The three binaries count as one set, alloys, by the
geometric mean.

What is decided by it, written down before it was run:

- Weights are those of `weights_of`: a frame counts by what it represents, between 1/4 and 4 of the mean. They are on by
  default only if the errors in energy and in forces, pooled over the budgets, are not larger than without weights
  within one standard error of the difference on each of Si, Ge, Li and the alloys.
- A rule may become the default only if its errors over random's, pooled over sets and budgets, are at most 1.00 in
  energy and in forces, and on each set at most 1 plus two standard errors; so, too, in the pool of all alloys, pooled
  over the budgets, for energies alone. Of several, the one with the smallest sum of both pooled errors.
- It is confirmed only if the same holds on each of the materials of `made_sets`, which had no part in choosing it.

The first candidates (DIRECT, I-optimal with Kaiser's rule, both with and without weights, DIRECT with half of the
budget at random) all failed on germanium. So those of `selection_rules` are the second ones. The alloys are also judged
by energies alone, with a Gaussian process on the rows by which their frames were selected.

MACE is the judge of the best of them, in `selection_by_mace`.

``OMP_NUM_THREADS=1 pytest tests/benchmarks -k selection_rules_dft``
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from aiida_mlip_autopipe.science.descriptors import SOAP, make_descriptor
from aiida_mlip_autopipe.science.parameters import SoapParameters

from .kernel_model import KernelModel
from .linear_ace import LinearACE
from .made_sets import MADE, made
from .selection_rules import RULES, Select, set_covers
from .selection_sets import SETS, files_of, load, potential_of, species_of, split, trajectories_of

BUDGETS = (0.1, 0.2, 0.3)
N_SEEDS, N_RANDOM = 12, 10
ALLOYS = ('MoTa', 'NbW', 'TaW')


def study(
    potential: LinearACE | KernelModel, rows: np.ndarray, trajectories: np.ndarray, rules: dict[str, Select] = RULES
) -> dict[str, np.ndarray]:
    """Return the errors over those of random selections: name -> (N_SEEDS, budgets, 2), or 1 for energies alone."""
    errors: dict[str, list[np.ndarray]] = {name: [] for name in rules}
    for seed in range(N_SEEDS):
        pool, held_out = split(trajectories, seed)
        for budget in BUDGETS:
            n_to_select = round(budget * len(pool))
            generator = np.random.default_rng((seed, n_to_select))
            draws = [generator.choice(pool, n_to_select, replace=False) for _ in range(N_RANDOM)]
            random = np.mean([potential.errors(potential.fit(draw), held_out) for draw in draws], axis=0)
            for name, select in rules.items():
                picks = select(rows[pool], n_to_select, seed)
                assert len(set(picks.rows.tolist())) == n_to_select
                coefficients = potential.fit(pool[picks.rows], picks.weights)
                errors[name].append(potential.errors(coefficients, held_out) / random)
    return {name: np.reshape(values, (N_SEEDS, len(BUDGETS), -1)) for name, values in errors.items()}


def of_alloys(by_set: dict[str, dict[str, np.ndarray]]) -> dict[str, dict[str, np.ndarray]]:
    """Return the errors with the binaries as one set."""
    together = {
        name: np.exp(np.mean([np.log(by_set[binary][name]) for binary in ALLOYS], axis=0)) for name in by_set[ALLOYS[0]]
    }
    return {**{name: errors for name, errors in by_set.items() if name not in ALLOYS}, 'alloys': together}


def mean_and_error(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean over the hold-outs and its standard error."""
    return values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))


def test_errors_of_rules(add_row):
    """RMSE on held-out frames over that of random selections, mean over hold-outs ± its standard error."""
    missing = [str(path) for name in SETS for path in files_of(name) if not path.is_file()]
    if missing:
        pytest.skip(f'{", ".join(missing)} not there: labelled frames that must not be redistributed')
    by_set, energies_alone = {}, {}
    for name in ('Si', 'Ge', 'Li', *ALLOYS):
        frames = load(name)
        rows = make_descriptor(SoapParameters(), species_of(frames)).create(frames)
        potential, trajectories = potential_of(frames), trajectories_of(frames)
        rules = RULES | set_covers(frames, rows, species_of(frames))
        by_set[name] = study(potential, rows, trajectories, rules)
        if name in ALLOYS:
            energies_alone[name] = study(KernelModel(potential.energies, rows), rows, trajectories)
    tell(of_alloys(by_set), add_row)
    tell({name: study_made(name) for name in MADE}, add_row)
    tell_energies_alone({**of_alloys(energies_alone), 'alloys in one pool': in_one_pool()}, add_row)


def study_made(name: str) -> dict[str, np.ndarray]:
    """Return the errors on a material of `made_sets`, over those of random selections."""
    frames = made(name)
    rows = make_descriptor(SoapParameters(), species_of(frames)).create(frames)
    return study(potential_of(frames), rows, trajectories_of(frames))


def in_one_pool() -> dict[str, np.ndarray]:
    """Return the errors in energy alone where all alloys are one pool, over those of random selections."""
    frames = load('alloys in one pool')
    rows = SOAP(species_of(frames), 5.0, 4, 3, average='inner').create(frames)
    energies = np.array([atoms.get_potential_energy() / len(atoms) for atoms in frames])
    return study(KernelModel(energies, rows), rows, trajectories_of(frames))


def tell_energies_alone(by_set: dict[str, dict[str, np.ndarray]], add_row: Callable[..., None]) -> None:
    """Add the tables of errors in energy alone."""
    for name, errors in by_set.items():
        for rule, values in errors.items():
            means, standard_errors = mean_and_error(values[..., 0])
            cells = zip(BUDGETS, means, standard_errors, strict=True)
            add_row(
                f'RMSE over that of a random selection, energies alone: {name}',
                selection=rule,
                **{f'{budget:.0%}': f'{mean:.3f} ± {error:.3f}' for budget, mean, error in cells},
            )


def tell(by_set: dict[str, dict[str, np.ndarray]], add_row: Callable[..., None]) -> None:
    """Add the tables: each set by budget, and pooled over the budgets and the sets."""
    for name, errors in by_set.items():
        for rule, values in errors.items():
            means, standard_errors = mean_and_error(values)
            cells = {
                f'{quantity} {budget:.0%}': f'{means[b, q]:.3f} ± {standard_errors[b, q]:.3f}'
                for q, quantity in enumerate(('energy', 'forces'))
                for b, budget in enumerate(BUDGETS)
            }
            add_row(f'RMSE over that of a random selection: {name}', selection=rule, **cells)
    for rule in next(iter(by_set.values())):
        cells = {}
        for name, errors in by_set.items():
            means, standard_errors = mean_and_error(np.exp(np.log(errors[rule]).mean(axis=1)))
            cells[name] = f'{means[0]:.3f} ± {standard_errors[0]:.3f}, {means[1]:.3f} ± {standard_errors[1]:.3f}'
        pooled = np.exp(np.mean([np.log(errors[rule]).mean(axis=(0, 1)) for errors in by_set.values()], axis=0))
        add_row(
            'RMSE over random: energy, forces; all budgets',
            selection=rule,
            **cells,
            pooled='{:.3f}, {:.3f}'.format(*pooled),
        )
