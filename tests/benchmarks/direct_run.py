"""One selection in a process of its own: CPU time, reading included, and memory above what imports take.

``python -m tests.benchmarks.direct_run ours rows.npy 1000 picks.npy`` prints a line of JSON and writes the picks.

maml's parts are put together as its ``DIRECTSampler`` does, without the structure encoder. Its sampling needs no more
than scikit-learn: ``pip install --no-deps maml==2025.4.3``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np


def ours(path: Path, n_to_select: int, weighting: str) -> np.ndarray:
    """Select with DirectSampler, from the file."""
    from aiida_mlip_autopipe.science.sampling import DirectSampler
    from aiida_mlip_autopipe.science.sampling.rows import RowFile

    return DirectSampler(n_to_select, weighting).fit(RowFile(path)).selected_idx_


def maml(path: Path, n_to_select: int, threshold: float) -> np.ndarray:
    """Select with maml, from the array in memory."""
    return maml_picks(np.load(path), n_to_select, threshold)


def maml_picks(rows: np.ndarray, n_to_select: int, threshold: float = 0.5) -> np.ndarray:
    """Return what maml selects of rows (n, features); the threshold is its default unless given."""
    import logging

    from maml.sampling.clustering import BirchClustering
    from maml.sampling.pca import PrincipalComponentAnalysis
    from maml.sampling.stratified_sampling import SelectKFromClusters
    from sklearn.preprocessing import StandardScaler

    logging.disable(logging.INFO)
    scores = PrincipalComponentAnalysis().fit_transform(StandardScaler().fit_transform(rows))
    clusters = BirchClustering(n=n_to_select, threshold_init=threshold).fit_transform(scores)
    return np.array(SelectKFromClusters(k=1).fit_transform(clusters)['selected_indexes'])


def memory_in_mb(entry: str) -> float:
    """Return an entry of the process's status: VmRSS, resident memory, or VmHWM, its peak."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return int(next(line for line in lines if line.startswith(entry)).split()[1]) / 1024


def main() -> None:
    """Warm up, select, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('method', choices=['ours', 'maml'])
    parser.add_argument('rows', type=Path)
    parser.add_argument('n_to_select', type=int)
    parser.add_argument('picks', type=Path)
    parser.add_argument('--weighting', default='none')
    parser.add_argument('--threshold', type=float, default=0.5)
    chosen = parser.parse_args()
    method, setting = (ours, chosen.weighting) if chosen.method == 'ours' else (maml, chosen.threshold)

    small = chosen.picks.with_suffix('.warm.npy')
    np.save(small, np.random.default_rng(0).normal(size=(200, 20)).astype(np.float32))
    method(small, 5, setting)  # imports, and compiles or loads what was compiled
    Path('/proc/self/clear_refs').write_text('5')  # the peak is counted anew
    before, start = memory_in_mb('VmRSS'), time.process_time()
    picks = method(chosen.rows, chosen.n_to_select, setting)
    seconds = time.process_time() - start
    np.save(chosen.picks, picks)
    print(json.dumps({'seconds': seconds, 'memory_MB': memory_in_mb('VmHWM') - before, 'n_picks': len(set(picks))}))


if __name__ == '__main__':
    main()
