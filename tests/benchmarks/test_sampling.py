"""DIRECT on ten thousand descriptors. No time is asserted: machines differ.

``OMP_NUM_THREADS=1 pytest tests/benchmarks/test_sampling.py --benchmark-only --benchmark-timer=time.process_time``
"""

import numpy as np
import pytest

from aiida_mlip_autopipe.science.sampling import DirectSampler

N_ROWS, N_FEATURES, N_COMPONENTS = 10_000, 200, 12


@pytest.fixture(scope='module')
def rows() -> np.ndarray:
    """Return descriptors as MD makes them: a random walk in few dimensions, seen through many, with some noise."""
    rng = np.random.default_rng(0)
    walks = np.cumsum(rng.normal(size=(N_ROWS // 500, 500, N_COMPONENTS)), axis=1).reshape(N_ROWS, N_COMPONENTS)
    return walks @ rng.normal(size=(N_COMPONENTS, N_FEATURES)) + 0.1 * rng.normal(size=(N_ROWS, N_FEATURES))


@pytest.mark.parametrize('n_to_select', [100, 1000])
@pytest.mark.parametrize('selection', ['direct', 'random'])
def test_fit(benchmark, rows: np.ndarray, selection: str, n_to_select: int):
    """Time of one fit, and how far the worst represented frame is."""
    benchmark.group = f'DIRECT, {N_ROWS} rows of {N_FEATURES} features, {n_to_select} wanted'
    sampler = DirectSampler(n_to_select, selection=selection)
    benchmark.pedantic(sampler.fit, args=(rows,), rounds=3, warmup_rounds=1)
    benchmark.extra_info.update(
        {name: sampler.report_[name] for name in ('n_components', 'coverage', 'covering_radius')}
    )
    assert len(set(sampler.selected_idx_)) == n_to_select
