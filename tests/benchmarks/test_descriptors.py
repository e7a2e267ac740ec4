"""SOAP beside dscribe, on the same frames in the same run. No time is asserted: machines differ, the ratio tells.

``OMP_NUM_THREADS=1 pytest tests/benchmarks/test_descriptors.py --benchmark-only --benchmark-timer=time.process_time``
"""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from dscribe import descriptors as dscribe_descriptors

from aiida_mlip_autopipe.science.descriptors import SOAP

N_FRAMES = 8


def rattled(atoms: Atoms) -> list[Atoms]:
    frames = []
    for number in range(N_FRAMES):
        frame = atoms.copy()
        frame.positions += np.random.default_rng(number).normal(scale=0.05, size=(len(atoms), 3))
        frame.wrap()  # dscribe does not wrap
        frames.append(frame)
    return frames


def silicon() -> list[Atoms]:
    return rattled(bulk('Si', 'diamond', a=5.43, cubic=True) * (2, 2, 2))


def alloy() -> list[Atoms]:
    atoms = bulk('Ni', 'fcc', a=3.6, cubic=True) * (3, 3, 3)
    atoms.numbers = np.random.default_rng(0).permutation(np.resize([24, 26, 27, 28], len(atoms)))
    return rattled(atoms)


CASES = {
    'Si, 64 atoms': (silicon, {'r_cut': 5.0, 'n_max': 8, 'l_max': 6, 'sigma': 0.5}),
    'CrFeCoNi, 108 atoms': (alloy, {'r_cut': 5.0, 'n_max': 6, 'l_max': 4, 'sigma': 0.5}),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest):
    make, settings = CASES[request.param]
    frames = make()
    return request.param, frames, {'species': sorted({*frames[0].symbols}), 'periodic': True, **settings}


@pytest.mark.parametrize('average', ['off', 'outer', 'inner'])
@pytest.mark.parametrize('package', ['dscribe', 'ours'])
def test_soap(benchmark, case, average: str, package: str):
    """Time per call: eight frames. Both are warmed up first, so compilation does not count."""
    name, frames, settings = case
    benchmark.group = f'{name}, average={average!r}'
    reference = dscribe_descriptors.SOAP(**settings, average=average)
    soap = SOAP(**settings, average=average)
    if package == 'dscribe':
        rows = benchmark.pedantic(lambda: reference.create(frames), rounds=3, warmup_rounds=1)
        expected = soap.create(frames)
    else:
        stacked = np.array([frame.positions for frame in frames])
        cells = np.array([frame.cell.array for frame in frames])
        numbers, pbc = frames[0].numbers, frames[0].pbc
        create = soap.create_stacked
        rows = benchmark.pedantic(lambda: create(stacked, numbers, cells, pbc), rounds=3, warmup_rounds=1)
        expected = reference.create(frames)
    benchmark.extra_info['n_atoms'] = sum(map(len, frames))
    np.testing.assert_allclose(rows, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
