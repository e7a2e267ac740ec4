"""Which rule of selection trains better MACE potentials than a random selection, trained until they have converged.

``OMP_NUM_THREADS=1 python -m tests.benchmarks.selection_by_mace FILE --seeds 0 1 2`` trains what is not in the file
yet, a row each, seed by seed; ``... FILE OTHER ... --tell`` prints the errors over those after a random selection of
the same size, as geometric means over seeds and budgets, ± the standard error.

The sets and hold-outs are those of `selection_sets`; the rules are DIRECT, the default when this was written, the one
that the linear potentials of `test_selection_rules_dft` put first of those that did no harm, and this one with weights.
All trainings of a hold-out validate on the same ten of its held-out frames, which are not in the test. Written down
before it was run: the rule with the smallest sum of the pooled errors in energy and in forces is the default, if both
are at most 1.00 and each set's at most 1 plus two standard errors.

No set has free atoms or stresses: energies are brought to the experimental cohesive energies, below free atoms of
energy 0, and the weight of the stress is 0.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from ase import Atoms
from ase.io import write

from aiida_mlip_autopipe.science.descriptors import make_descriptor
from aiida_mlip_autopipe.science.evaluation import evaluate
from aiida_mlip_autopipe.science.parameters import EvaluationParameters, SoapParameters, TrainingParameters
from aiida_mlip_autopipe.science.training import train
from aiida_mlip_autopipe.science.training.weights import WEIGHT

from .selection_rules import RULES, Picks, Select, by_rule
from .selection_sets import load, species_of, split, trajectories_of

SETS = ('Si', 'Ge', 'Li', 'MoTa')
BUDGETS = (0.1, 0.2)
N_VALIDATION = 10

COMPARED: dict[str, Select] = {
    'random': by_rule(selection='random'),
    **{name: RULES[name] for name in ('DIRECT', 'I-optimal, half at random', 'I-optimal, half at random, weights')},
}

TRAINING = TrainingParameters(
    num_channels=16,
    r_max=4.0,
    batch_size=1,
    ema_decay=0.99,
    n_steps=2500,
    stress_weight=0.0,
    free_atom='shifted',
    max_continuations=0,
    device='cpu',
)

#: eV, C. Kittel, Introduction to Solid State Physics, 8th ed. (2005).
COHESIVE = {'Si': 4.63, 'Ge': 3.85, 'Li': 1.63, 'Mo': 6.82, 'Nb': 7.57, 'Ta': 8.10, 'W': 8.90}


def main() -> None:
    """Train what is not there yet, or tell what is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('files', type=Path, nargs='+')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--sets', nargs='+', default=SETS)
    parser.add_argument('--budgets', type=float, nargs='+', default=BUDGETS)
    parser.add_argument('--rules', nargs='+', default=COMPARED)
    parser.add_argument('--tell', action='store_true')
    given = parser.parse_args()
    rows = [json.loads(line) for path in given.files if path.exists() for line in path.read_text().splitlines()]
    if given.tell:
        return tell(rows)
    done = {(row['set'], row['rule'], row['budget'], row['seed']) for row in rows}
    for seed in given.seeds:
        for name in given.sets:
            for budget in given.budgets:
                for rule in given.rules:
                    if (name, rule, budget, seed) not in done:
                        row = {'set': name, 'rule': rule, 'budget': budget, 'seed': seed}
                        row |= judged(load(name), COMPARED[rule], budget, seed)
                        print(row, flush=True)
                        with given.files[0].open('a') as file:
                            file.write(json.dumps(row) + '\n')
    return None


def judged(frames: list[Atoms], select: Select, budget: float, seed: int) -> dict[str, float]:
    """Return the errors of a potential that is trained on a selection, on frames that are held out."""
    pool, held_out = split(trajectories_of(frames), seed)
    order = np.random.default_rng(seed).permutation(held_out)
    rows = make_descriptor(SoapParameters(), species_of(frames)).create(frames)
    picks = select(rows[pool], round(budget * len(pool)), seed)
    chosen = Picks(pool[picks.rows], picks.weights)
    labelled = _labelled(frames)
    started = time.time()
    with TemporaryDirectory() as folder:
        metrics = _trained(labelled, chosen, order[:N_VALIDATION], order[N_VALIDATION:], seed, Path(folder))
    return {**metrics, 'n_selected': len(chosen.rows), 'seconds': round(time.time() - started, 1)}


def _trained(
    frames: list[Atoms], chosen: Picks, validation: np.ndarray, test: np.ndarray, seed: int, folder: Path
) -> dict[str, float]:
    """Train on what was chosen, and return the errors on the test frames, in meV per atom and meV/Å."""
    training = [frames[index].copy() for index in chosen.rows]
    if chosen.weights is not None:
        for atoms, weight in zip(training, chosen.weights, strict=True):
            atoms.info[WEIGHT] = float(weight)
    write(folder / 'training.xyz', [*_free_atoms(frames), *training])
    write(folder / 'validation.xyz', [frames[index] for index in validation])
    weighs = chosen.weights is not None
    parameters = TRAINING.model_copy(update={'random_seed': seed, 'weigh_by_represented': weighs})
    trained = train(folder / 'training.xyz', folder / 'validation.xyz', parameters, folder)
    metrics = evaluate(trained.potential, [frames[index] for index in test], EvaluationParameters()).metrics
    names = {'energy': 'energy_rmse_meV', 'forces': 'force_rmse_meV_A'}
    told = {name: round(metrics[key], 3) for name, key in names.items()}
    return told | {f'training_{name}': round(trained.metrics['train'][key], 3) for name, key in names.items()}


def _labelled(frames: list[Atoms]) -> list[Atoms]:
    """Return frames with the labels that a training reads, energies below those of free atoms."""
    cohesive = np.array([sum(COHESIVE[symbol] for symbol in atoms.symbols) for atoms in frames])
    sizes = np.array([len(atoms) for atoms in frames])
    energies = np.array([atoms.get_potential_energy() for atoms in frames])
    lowest = float(np.min(energies / sizes)) if len(species_of(frames)) == 1 else 0.0
    labelled = []
    for atoms, energy in zip(frames, energies - lowest * sizes - cohesive, strict=True):
        one = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
        one.info |= {'REF_energy': float(energy), 'REF_stress': np.zeros(6)}
        one.arrays['REF_forces'] = atoms.get_forces()
        labelled.append(one)
    return labelled


def _free_atoms(frames: list[Atoms]) -> list[Atoms]:
    """Return an isolated atom of each element, with energy 0."""
    atoms = [Atoms(symbol, cell=[12.0] * 3, pbc=True) for symbol in species_of(frames)]
    for one in atoms:
        one.info |= {'REF_energy': 0.0, 'config_type': 'IsolatedAtom'}
        one.arrays['REF_forces'] = np.zeros((1, 3))
    return atoms


def tell(rows: list[dict[str, float | str]]) -> None:
    """Print the errors over those after random selections, by set and pooled."""
    errors = {(row['set'], row['rule'], row['budget'], row['seed']): row for row in rows}
    ratios: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for (name, rule, budget, seed), row in errors.items():
        random = errors.get((name, 'random', budget, seed))
        if rule != 'random' and random is not None:
            for quantity in ('energy', 'forces'):
                ratios[str(rule), str(name), quantity].append(float(np.log(row[quantity] / random[quantity])))
    for (rule, name, quantity), logs in sorted(ratios.items()):
        deviation = np.std(logs, ddof=1) / np.sqrt(len(logs)) if len(logs) > 1 else np.nan
        print(f'{rule:40s} {name:6s} {quantity:8s} {np.exp(np.mean(logs)):.3f} ± {deviation:.3f} ({len(logs)})')
    for rule, quantity in sorted({(rule, quantity) for rule, _, quantity in ratios}):
        means = [np.mean(logs) for (one, _, what), logs in ratios.items() if (one, what) == (rule, quantity)]
        print(f'{rule:40s} pooled {quantity:8s} {np.exp(np.mean(means)):.3f}')


if __name__ == '__main__':
    main()
