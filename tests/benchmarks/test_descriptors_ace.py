"""ACE order by order. No time is asserted: machines differ. python-ace's times come from ``oracle_ace_speed.py``.

``OMP_NUM_THREADS=1 pytest tests/benchmarks -k descriptors``
"""

import json
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

from aiida_mlip_autopipe.science.descriptors.ace import ACE

N_FRAMES = 8
R_CUT = 5.0

#: Sets of functions, shared with ``oracle_ace_speed.py``.
CASES = json.loads(Path(__file__).with_name('ace_cases.json').read_text())


@pytest.mark.parametrize('average', ['off', 'outer', 'inner'])
@pytest.mark.parametrize('case', CASES, ids=lambda case: f'order {case["order"]}')
def test_ace(benchmark, case, average: str):
    """Time per call: eight frames of 64 silicon atoms. The kernel is warmed up first, so compilation does not count."""
    atoms = bulk('Si', 'diamond', a=5.43, cubic=True) * (2, 2, 2)
    generator = np.random.default_rng(0)
    positions = atoms.positions + generator.normal(scale=0.05, size=(N_FRAMES, len(atoms), 3))
    cells = np.array([atoms.cell.array] * N_FRAMES)
    ace = ACE(['Si'], R_CUT, case['order'], n_max=case['n_max'], l_max=case['l_max'], average=average)
    out = ace.create_frames(atoms.numbers, positions, cells, atoms.pbc)
    benchmark.group = f'ACE of Si, 64 atoms, order {case["order"]}, {ace.get_number_of_features()} functions'
    benchmark.extra_info |= {'n_atoms': N_FRAMES * len(atoms), 'n_features': ace.get_number_of_features()}
    rows = benchmark.pedantic(
        lambda: ace.create_frames(atoms.numbers, positions, cells, atoms.pbc, out=out), rounds=10, warmup_rounds=1
    )
    assert np.isfinite(rows).all()
