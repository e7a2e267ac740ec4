"""DIRECT on up to ten million frames, beside maml in the same run. No time is asserted: machines differ.

``OMP_NUM_THREADS=1 pytest tests/benchmarks -k direct`` prints the tables; 10 GB of disk, five minutes. Each selection
runs in a process of its own; CPU time includes reading the file, memory is the peak above imports. maml runs where it
is installed (see :mod:`tests.benchmarks.direct_run`), at several thresholds: the fastest counts.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree

from aiida_mlip_autopipe.science.sampling import DirectSampler
from aiida_mlip_autopipe.science.sampling.reduction import measure, project, reduce
from aiida_mlip_autopipe.science.sampling.rows import RowFile

from .md_rows import write_md_rows

ROOT = Path(__file__).parents[2]
THRESHOLDS = {100_000: (0.42, 0.35, 0.3), 1_000_000: (0.45, 0.4, 0.35)}
TIMES, QUALITY = 'DIRECT: CPU time and memory', 'DIRECT: quality'


@pytest.fixture(scope='module')
def folder() -> Iterator[Path]:
    """Return a folder for rows and picks; ten gigabytes do not stay behind."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def select(folder: Path, method: str, n_rows: int, n_to_select: int = 1000, **options: object) -> tuple[dict, Path]:
    """Return what a selection took, and its picks."""
    rows = write_md_rows(folder / f'rows_{n_rows}.npy', n_rows)
    picks = folder / f'{method}_{n_rows}_{n_to_select}_{"_".join(map(str, options.values()))}.npy'
    arguments = [method, str(rows), str(n_to_select), str(picks)]
    arguments += [text for name, value in options.items() for text in (f'--{name}', str(value))]
    command = [sys.executable, '-m', 'tests.benchmarks.direct_run', *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    taken = json.loads(done.stdout.splitlines()[-1])
    assert taken['n_picks'] == n_to_select
    return taken, picks


@cache
def spaces(rows: Path) -> dict[str, np.ndarray]:
    """Return all rows in the unweighted space and in the one weighted by explained variance."""
    source = RowFile(rows)
    moments = measure(source)
    return {weighting: project(source, reduce(moments, weighting=weighting), moments) for weighting in ('none', 'maml')}


def quality(rows: Path, picks: np.ndarray) -> dict[str, float]:
    """Judge picks by other means than ours: a k-d tree, NumPy's histogram."""
    judged = {}
    for weighting, scores in spaces(rows).items():
        parts = np.array_split(scores, max(1, len(scores) // 100_000))
        distances = np.concatenate([cKDTree(scores[picks]).query(part)[0] for part in parts])
        judged |= {f'radius, {weighting}': distances.max(), f'mean distance, {weighting}': distances.mean()}
    occupied = [
        np.count_nonzero(np.histogram(column[picks], 100, (column.min(), column.max()))[0])
        / np.count_nonzero(np.histogram(column, 100)[0])
        for column in spaces(rows)['none'].T
    ]
    return {'coverage': float(np.mean(occupied)), **judged}


def add_quality(add_row, n_rows: int, name: str, judged: dict[str, float]) -> None:
    """Add a row to the table of quality."""
    add_row(QUALITY, rows=f'{n_rows:.0e}', selection=name, **{key: f'{value:.3f}' for key, value in judged.items()})


@pytest.mark.parametrize('n_rows', [100_000, 1_000_000])
def test_direct_beside_maml(add_row, folder: Path, n_rows: int):
    """A thousand picks: time, memory and quality, beside the fastest maml, farthest-point and random selections."""
    taken, picks = min((select(folder, 'ours', n_rows) for _ in range(3)), key=lambda run: run[0]['seconds'])
    rows, mine = folder / f'rows_{n_rows}.npy', np.load(picks)
    judged = {'ours': quality(rows, mine)}
    add_row(TIMES, rows=f'{n_rows:.0e}', picks=1000, method='ours', **tell(taken))
    _, weighted = select(folder, 'ours', n_rows, weighting='maml')
    judged["ours, weighting='maml'"] = quality(rows, np.load(weighted))
    if find_spec('maml') is not None:
        runs = {threshold: select(folder, 'maml', n_rows, threshold=threshold) for threshold in THRESHOLDS[n_rows]}
        for threshold, (theirs, _) in runs.items():
            ratio = f'{theirs["seconds"] / taken["seconds"]:.1f}'
            method = f'maml, threshold {threshold}'
            add_row(TIMES, rows=f'{n_rows:.0e}', picks=1000, method=method, **tell(theirs), **{'maml / ours': ratio})
        best = min(runs, key=lambda threshold: runs[threshold][0]['seconds'])
        judged[f'maml, threshold {best}'] = quality(rows, np.load(runs[best][1]))
    for selection in ('farthest', 'random'):
        sampler = DirectSampler(1000, selection=selection).fit(RowFile(rows))
        judged[selection] = quality(rows, sampler.selected_idx_)
    for name, figures in judged.items():
        add_quality(add_row, n_rows, name, figures)
    assert judged['ours']['radius, none'] < judged['random']['radius, none']
    assert judged['ours']['mean distance, none'] < judged['random']['mean distance, none']


@pytest.mark.parametrize(('n_rows', 'n_to_select'), [(1_000_000, 10_000), (10_000_000, 1000)])
def test_direct_on_more(add_row, folder: Path, n_rows: int, n_to_select: int):
    """Ten thousand picks of a million rows; a thousand of ten million."""
    taken, picks = select(folder, 'ours', n_rows, n_to_select)
    assert 0 <= np.load(picks).min() < np.load(picks).max() < n_rows
    add_row(TIMES, rows=f'{n_rows:.0e}', picks=n_to_select, method='ours', **tell(taken))


def tell(taken: dict[str, float]) -> dict[str, str]:
    """Return time and memory as the cells of a table."""
    return {'CPU time (s)': f'{taken["seconds"]:.2f}', 'memory (MB)': f'{taken["memory_MB"]:.0f}'}


def test_direct_order(add_row, folder: Path):
    """The same rows in another order."""
    rows = np.load(write_md_rows(folder / 'rows_100000.npy', 100_000))
    order = np.random.default_rng(0).permutation(len(rows))
    straight, shuffled = (DirectSampler(1000).fit(X).selected_idx_ for X in (rows, rows[order]))
    same = len(set(straight) & set(order[shuffled]))
    add_row('DIRECT: the same rows in another order', rows='1e+05', picks=1000, **{'the same picks': same})
    assert same >= 950


def test_direct_fit(benchmark, folder: Path):
    """One fit of a hundred thousand rows, for pytest-benchmark's own table and its histories."""
    source = RowFile(write_md_rows(folder / 'rows_100000.npy', 100_000))
    sampler = benchmark.pedantic(lambda: DirectSampler(1000).fit(source), rounds=3, warmup_rounds=1)
    assert len(set(sampler.selected_idx_)) == 1000
