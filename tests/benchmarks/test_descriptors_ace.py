"""ACE, order by order, beside python-ace. No time is asserted: machines differ.

``OMP_NUM_THREADS=1 pytest tests/benchmarks -k descriptors``

python-ace has an academic licence and lives in an environment of its own (``tests/science/make_ace_oracle.py`` says
how to make it). Where PYACE_PYTHON names that environment's interpreter, its times, by ``oracle_ace_speed.py``, stand
in the same table.
"""

import json
import os
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

from aiida_mlip_autopipe.science.descriptors import ACE

N_FRAMES = 8
R_CUT = 5.0

#: Sets of functions, shared with ``oracle_ace_speed.py``.
CASES = json.loads(Path(__file__).with_name('ace_cases.json').read_text())


@cache
def python_ace_times() -> dict[int, dict[str, float]]:
    """Return python-ace's times in µs per atom, by order; nothing where it is not installed."""
    interpreter = os.environ.get('PYACE_PYTHON')
    if interpreter is None:
        return {}
    command = [interpreter, str(Path(__file__).with_name('oracle_ace_speed.py'))]
    rows = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return {row['order']: row for row in rows}


@pytest.mark.parametrize('average', ['off', 'outer', 'inner'])
@pytest.mark.parametrize('case', CASES, ids=lambda case: f'order {case["order"]}')
def test_ace(benchmark, add_row, case, average: str):
    """CPU time per call: eight frames of 64 silicon atoms, compilation not counted."""
    atoms = bulk('Si', 'diamond', a=5.43, cubic=True) * (2, 2, 2)
    generator = np.random.default_rng(0)
    positions = atoms.positions + generator.normal(scale=0.05, size=(N_FRAMES, len(atoms), 3))
    cells = np.array([atoms.cell.array] * N_FRAMES)
    ace = ACE(['Si'], R_CUT, case['order'], n_max=case['n_max'], l_max=case['l_max'], average=average)
    out = ace.create_frames(atoms.numbers, positions, cells, atoms.pbc)
    rows = benchmark.pedantic(
        lambda: ace.create_frames(atoms.numbers, positions, cells, atoms.pbc, out=out), rounds=20, warmup_rounds=1
    )
    theirs = python_ace_times().get(case['order'], {})
    add_row(
        'ACE: CPU time in µs per atom, Si, 64 atoms',
        **{
            'order': f'up to {case["order"]}',
            'average': average,
            'functions': ace.get_number_of_features(),
            'ours': f'{benchmark.stats.stats.min / N_FRAMES / len(atoms) * 1e6:.2f}',
            'python-ace, evaluator': f'{theirs["evaluator"]:.1f}' if theirs else '',
            'with its neighbour list': f'{theirs["with_neighbours"]:.1f}' if theirs else '',
        },
    )
    assert np.isfinite(rows).all()
