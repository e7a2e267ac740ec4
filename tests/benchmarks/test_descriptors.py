"""SOAP beside dscribe and featomic, on the same frames in the same run. No time is asserted: machines differ.

``OMP_NUM_THREADS=1 RAYON_NUM_THREADS=1 pytest tests/benchmarks -k descriptors``
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.neighborlist import neighbor_list
from dscribe import descriptors as dscribe_descriptors
from featomic import SoapPowerSpectrum

from aiida_mlip_autopipe.science.descriptors import SOAP

from .conftest import cpu_time


def rattled(atoms: Atoms, n_frames: int) -> list[Atoms]:
    frames = []
    for number in range(n_frames):
        frame = atoms.copy()
        frame.positions += np.random.default_rng(number).normal(scale=0.05, size=(len(atoms), 3))
        frame.wrap()  # dscribe does not wrap
        frames.append(frame)
    return frames


def silicon(repeat: int, n_frames: int) -> list[Atoms]:
    return rattled(bulk('Si', 'diamond', a=5.43, cubic=True) * (repeat, repeat, repeat), n_frames)


def alloy() -> list[Atoms]:
    atoms = bulk('Ni', 'fcc', a=3.6, cubic=True) * (3, 3, 3)
    atoms.numbers = np.random.default_rng(0).permutation(np.resize([24, 26, 27, 28], len(atoms)))
    return rattled(atoms, 8)


def water() -> list[Atoms]:
    """64 molecules on a grid at the density of the liquid, turned at random."""
    generator = np.random.default_rng(0)
    box = Atoms(cell=[12.42] * 3, pbc=True)
    for place in np.ndindex(4, 4, 4):
        single = molecule('H2O')
        single.euler_rotate(*generator.uniform(0, 360, 3))
        single.positions += (np.array(place) + 0.5) * 12.42 / 4 - single.positions.mean(axis=0)
        box += single
    return rattled(box, 8)


CASES: dict[str, tuple[Callable[[], list[Atoms]], dict[str, Any]]] = {
    'Si, 64 atoms': (lambda: silicon(2, 16), {'n_max': 8, 'l_max': 6, 'sigma': 0.5}),
    'Si, 64 atoms, wide': (lambda: silicon(2, 16), {'n_max': 8, 'l_max': 6, 'sigma': 1.0}),
    'CrFeCoNi, 108 atoms': (alloy, {'n_max': 6, 'l_max': 4, 'sigma': 0.5}),
    'water, 64 molecules': (water, {'n_max': 8, 'l_max': 6, 'sigma': 0.5}),
    'Si, 1000 atoms': (lambda: silicon(5, 2), {'n_max': 8, 'l_max': 6, 'sigma': 0.5}),
    'Si, 64 atoms, polynomial': (lambda: silicon(2, 4), {'n_max': 8, 'l_max': 6, 'sigma': 0.5, 'rbf': 'polynomial'}),
    'CrFeCoNi, polynomial': (lambda: alloy()[:4], {'n_max': 6, 'l_max': 4, 'sigma': 0.5, 'rbf': 'polynomial'}),
}


def stacked(frames: list[Atoms]) -> tuple[np.ndarray, ...]:
    positions = np.array([frame.positions for frame in frames])
    return frames[0].numbers, positions, np.array([frame.cell.array for frame in frames]), frames[0].pbc


def featomic(settings: dict[str, Any]) -> SoapPowerSpectrum:
    """Return featomic's calculator, with r_cut as the distance up to which its neighbours count."""
    return SoapPowerSpectrum(
        cutoff={'radius': 5.0, 'smoothing': {'type': 'ShiftedCosine', 'width': 0.5}},
        density={'type': 'Gaussian', 'width': settings['sigma']},
        basis={
            'type': 'TensorProduct',
            'max_angular': settings['l_max'],
            'radial': {'type': 'Gto', 'max_radial': settings['n_max'] - 1},
        },
    )


@pytest.mark.parametrize('average', ['off', 'outer', 'inner'])
@pytest.mark.parametrize('name', CASES)
def test_soap(benchmark, add_row, name: str, average: str):
    """CPU time per atom, compilation not counted, and the largest deviation from dscribe.

    The packages take turns, so that a machine that is slow for a while is slow for all.
    """
    make, settings = CASES[name]
    frames = make()
    common = {'species': sorted({*frames[0].symbols}), 'r_cut': 5.0, 'average': average, 'periodic': True, **settings}
    soap, reference = SOAP(**common), dscribe_descriptors.SOAP(**common)
    arrays = stacked(frames)
    out = soap.create_frames(*arrays)
    expected = reference.create(frames)
    calls = [lambda: soap.create_frames(*arrays, out=out), lambda: reference.create(frames)]
    if average == 'off' and 'rbf' not in settings:
        calculator = featomic(settings)
        calls.append(lambda: calculator.compute(frames, use_native_system=True))
    times = np.array([[cpu_time(call, 3 if call is calls[0] else 1) for call in calls] for _ in range(6)])
    ours, theirs, *others = times.min(axis=0) / sum(map(len, frames)) * 1e6
    benchmark.pedantic(calls[0], rounds=3)
    deviation = np.abs(out - expected).max() / np.abs(expected).max()
    add_row(
        'SOAP: CPU time in µs per atom',
        **{
            'frames': name,
            'average': average,
            'sigma (Å)': settings['sigma'],
            'features': soap.get_number_of_features(),
            'neighbours': round(len(neighbor_list('i', frames[0], soap.cutoff)) / len(frames[0])) + 1,
            'ours': f'{ours:.2f}',
            'dscribe': f'{theirs:.1f}',
            'featomic': f'{others[0]:.1f}' if others else '',
            'dscribe / ours': f'{theirs / ours:.1f}',
            'largest deviation': f'{deviation:.0e}',
        },
    )
    assert deviation < 1e-6


@pytest.mark.parametrize(('average', 'n_frames'), [('off', 256), ('inner', 2048)])
def test_two_threads(benchmark, add_row, average: str, n_frames: int):
    """Wall time of one thread over that of two, over frames."""
    arrays = stacked(silicon(2, n_frames))
    soap = SOAP(['Si'], 5.0, 8, 6, 0.5, average=average)
    out = soap.create_frames(*arrays)

    def wall_time(n_jobs: int) -> float:
        times = []
        for _ in range(8):
            start = time.perf_counter()
            soap.create_frames(*arrays, out=out, n_jobs=n_jobs)
            times.append(time.perf_counter() - start)
        return min(times)

    one, two = wall_time(1), wall_time(2)
    benchmark.pedantic(lambda: soap.create_frames(*arrays, out=out, n_jobs=2), rounds=1)
    per_atom = 1e6 / out.shape[0] / 64
    add_row(
        'SOAP: two threads over frames of Si, 64 atoms',
        **{
            'average': average,
            'frames': n_frames,
            'one (µs/atom, wall)': f'{one * per_atom:.2f}',
            'two': f'{two * per_atom:.2f}',
            'speed-up': f'{one / two:.2f}',
        },
    )


FIRST_CALL = """
import time
from ase.build import bulk
from aiida_mlip_autopipe.science.descriptors import ACE, SOAP
start = time.perf_counter()
{descriptor}.create(bulk('Si'))
print(time.perf_counter() - start)
"""


@pytest.mark.parametrize(
    'descriptor', ["SOAP(['Si'], 5.0, 8, 6, 0.5)", "SOAP(['C', 'H', 'O', 'Si'], 5.0, 6, 4, 0.5)", "ACE(['Si'])"]
)
def test_first_call(benchmark, add_row, tmp_path, monkeypatch, descriptor: str):
    """Wall time from the constructor to the first row: compiled afresh, and by a new process from the cache."""
    monkeypatch.setenv('NUMBA_CACHE_DIR', str(tmp_path))
    command = [sys.executable, '-c', FIRST_CALL.format(descriptor=descriptor)]

    def first_call() -> float:
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    compiled = first_call()
    cached = benchmark.pedantic(first_call, rounds=1)
    add_row(
        'First call', descriptor=f'`{descriptor}`', **{'compiled (s)': f'{compiled:.1f}', 'cached (s)': f'{cached:.2f}'}
    )
