"""Compute descriptors of the atoms or the frames of an extxyz file, without AiiDA.

    python examples/describe_extxyz.py trajectory.extxyz --descriptor ace --average off --output descriptors.npz

Without a file it describes increasingly disordered silicon. `off` gives a vector for each atom, `inner`
and `outer` one for each frame. Two numbers are printed: how much the frames differ, and the share of the variance in
the first principal components.
"""

import argparse
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk

from aiida_mlip_autopipe.science.descriptors import make_descriptor
from aiida_mlip_autopipe.science.frames import read_extxyz
from aiida_mlip_autopipe.science.parameters import descriptor_parameters


def disordered_silicon(n_frames: int = 100, random_seed: int = 0) -> list[Atoms]:
    """Return cubic cells of silicon, displaced by up to 0.3 Å."""
    frames = [bulk('Si', 'diamond', a=5.43, cubic=True) for _ in range(n_frames)]
    for number, atoms in enumerate(frames):
        atoms.rattle(0.3 * number / n_frames, seed=random_seed + number)
    return frames


def main(arguments: list[str] | None = None) -> np.ndarray:
    """Read or make frames, describe them, tell what was seen; return a row for each atom or frame."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('frames', nargs='?', type=Path, help='an extxyz file; by default disordered silicon')
    parser.add_argument('-d', '--descriptor', choices=['soap', 'ace', 'mace'], default='soap')
    parser.add_argument('--potential', type=Path, help='a MACE .model file, for the descriptor mace')
    parser.add_argument('--average', choices=['off', 'inner', 'outer'], default='outer')
    parser.add_argument(
        '-o', '--output', type=Path, help='an .npz file for the descriptors and the frame index of each row'
    )
    chosen = parser.parse_args(arguments)

    frames = read_extxyz(chosen.frames) if chosen.frames else disordered_silicon()
    species = sorted({symbol for atoms in frames for symbol in atoms.symbols})
    descriptor = make_descriptor(
        descriptor_parameters(chosen.descriptor), species, chosen.potential, average=chosen.average
    )
    described = [np.atleast_2d(descriptor.create(atoms)) for atoms in frames]
    rows = np.concatenate(described)
    frame = np.repeat(np.arange(len(frames)), [len(one) for one in described])

    variances = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False) ** 2
    print(f'{len(frames)} frames, {len(rows)} rows of {rows.shape[1]} features ({", ".join(species)})')
    print(f'largest distance from the mean: {np.linalg.norm(rows - rows.mean(axis=0), axis=1).max():.4g}')
    print(f'share of the variance in the first 5 directions: {variances[:5].sum() / variances.sum():.1%}')
    if chosen.output:
        np.savez_compressed(chosen.output, descriptors=rows, frame=frame)
    return rows


if __name__ == '__main__':
    main()
