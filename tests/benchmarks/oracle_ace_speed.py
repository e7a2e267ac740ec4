"""How long python-ace takes for the functions of ``test_descriptors_ace.py``, order by order: prints JSON.

Run it in python-ace's own environment (see ``tests/science/make_ace_oracle.py``), on an idle machine::

    OMP_NUM_THREADS=1 oracle/bin/python tests/benchmarks/oracle_ace_speed.py

Times are CPU times per atom, in microseconds, for 64 silicon atoms: ``evaluator`` is the evaluator alone, which gives
energy, forces and the functions (projections); ``with_neighbours`` adds its neighbour list, which ours includes. All
coefficients of the energy are 0, with which python-ace is fastest.
"""

import json
import time
from pathlib import Path

import numpy as np
from ase.build import bulk
from pyace import ACEBBasisSet, PyACECalculator
from pyace.multispecies_basisextension import create_multispecies_basis_config

R_CUT = 5.0
CASES = json.loads(Path(__file__).with_name('ace_cases.json').read_text())
REPEATS = 15


def calculator(n_max, l_max):
    configuration = create_multispecies_basis_config(
        {
            'deltaSplineBins': 0.001,
            'elements': ['Si'],
            'embeddings': {
                'ALL': {
                    'npot': 'FinnisSinclairShiftedScaled',
                    'fs_parameters': [1, 1],
                    'ndensity': 1,
                    'rho_core_cut': 200000,
                    'drho_core_cut': 250,
                }
            },
            'bonds': {
                'ALL': {
                    'radbase': 'ChebExpCos',
                    'radparameters': [5.25],
                    'rcut': R_CUT,
                    'dcut': 0.001,
                    'NameOfCutoffFunction': 'cos',
                    'core-repulsion': [0.0, 1.0],
                }
            },
            'functions': {'ALL': {'nradmax_by_orders': n_max, 'lmax_by_orders': l_max}},
        }
    )
    return PyACECalculator(ACEBBasisSet(configuration))


def fastest(call):
    """Return the smallest CPU time of a call, in seconds, of several."""
    times = []
    for _ in range(REPEATS + 1):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times[1:])


def main():
    atoms = bulk('Si', 'diamond', a=5.43, cubic=True) * (2, 2, 2)
    atoms.positions += np.random.default_rng(0).normal(scale=0.05, size=(len(atoms), 3))
    results = []
    for case in CASES:
        evaluator = calculator(case['n_max'], case['l_max'])
        environment = evaluator.get_atomic_env(atoms)
        alone = fastest(lambda: evaluator.ace.compute(environment, compute_projections=True))  # noqa: B023
        together = fastest(lambda: evaluator.ace.compute(evaluator.get_atomic_env(atoms), compute_projections=True))  # noqa: B023
        results.append(
            {
                **case,
                'functions': int(np.reshape(evaluator.ace.projections, (len(atoms), -1)).shape[1]),
                'evaluator': round(alone / len(atoms) * 1e6, 2),
                'with_neighbours': round(together / len(atoms) * 1e6, 2),
            }
        )
    print(json.dumps(results, indent=1))


if __name__ == '__main__':
    main()
