"""Draw the time of a description against the number of atoms and of frames: both should be straight lines.

``OMP_NUM_THREADS=1 python -m tests.benchmarks.plot_descriptor_scaling docs/_static/descriptor_scaling.svg``
"""

from __future__ import annotations

import argparse

import matplotlib as mpl
import numpy as np
from ase.build import bulk

from aiida_mlip_autopipe.science.descriptors import ACE, SOAP, Descriptor

from .conftest import cpu_time

mpl.use('svg')
mpl.rcParams['svg.hashsalt'] = 'descriptors'

REPEATS = (1, 2, 3, 4, 6, 8)
FRAMES = (8, 16, 32, 64, 128, 256, 512, 1024)
DESCRIPTORS: dict[str, Descriptor] = {
    "SOAP, 'off'": SOAP(['Si'], 5.0, 8, 6, 0.5),
    "SOAP, 'inner'": SOAP(['Si'], 5.0, 8, 6, 0.5, average='inner'),
    "ACE order 4, 'off'": ACE(['Si'], 5.0, 4),
}


def seconds(descriptor: Descriptor, repeat: int, n_frames: int) -> tuple[int, float]:
    """Return the number of atoms of a frame, and the CPU time of all frames in s."""
    atoms = bulk('Si', 'diamond', a=5.43, cubic=True) * (repeat, repeat, repeat)
    noise = np.random.default_rng(0).normal(scale=0.05, size=(n_frames, len(atoms), 3))
    cells = np.array([atoms.cell.array] * n_frames)
    out = descriptor.create_frames(atoms.numbers, atoms.positions + noise, cells, atoms.pbc)
    return len(atoms), cpu_time(
        lambda: descriptor.create_frames(atoms.numbers, atoms.positions + noise, cells, atoms.pbc, out=out), rounds=5
    )


def main() -> None:
    """Measure, print and draw."""
    from matplotlib import pyplot

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('target')
    target = parser.parse_args().target
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.6), layout='constrained')
    for (name, descriptor), marker in zip(DESCRIPTORS.items(), 'os^', strict=True):
        by_atoms = np.array([seconds(descriptor, repeat, 2) for repeat in REPEATS])
        by_frames = np.array([seconds(descriptor, 2, n_frames)[1] for n_frames in FRAMES])
        left.loglog(by_atoms[:, 0], by_atoms[:, 1] / 2 * 1e3, marker=marker, label=name)
        right.loglog(FRAMES, by_frames * 1e3, marker=marker, label=name)
        slopes = [
            np.polyfit(np.log(n), np.log(times), 1)[0]
            for n, times in ((by_atoms[1:, 0], by_atoms[1:, 1]), (FRAMES, by_frames))
        ]
        print(f'{name}: time ~ atoms^{slopes[0]:.2f}, ~ frames^{slopes[1]:.2f}')
    left.set(xlabel='atoms in a frame', ylabel='CPU time of a frame (ms)', title='silicon, one thread')
    right.set(xlabel='frames of 64 atoms', ylabel='CPU time (ms)')
    for axes in (left, right):
        axes.grid(alpha=0.3)
    left.legend()
    figure.savefig(target, metadata={'Date': None})


if __name__ == '__main__':
    main()
