"""Small labelled sets for tests: silicon, labelled by a potential."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk

from aiida_mlip_autopipe.science.dynamics import single_point

__all__ = ['labelled_silicon']


def labelled_silicon(potential: Path, n_frames: int, n_origins: int = 4, seed: int = 0) -> list[Atoms]:
    """Return an isolated atom and ``n_frames`` displaced two-atom cells that descend from ``n_origins`` seeds."""
    rng = np.random.default_rng(seed)
    frames = [Atoms('Si', positions=[[4, 4, 4]], cell=[8, 8, 8], pbc=True)]
    frames[0].info = {'frame_id': 'atom-Si', 'origin': 'atom-Si', 'config_type': 'IsolatedAtom'}
    for i in range(n_frames):
        atoms = bulk('Si', a=5.43 * rng.uniform(0.97, 1.03))
        atoms.positions += rng.normal(scale=0.1, size=(2, 3))
        origin = f'seed-{i % n_origins:08x}'
        atoms.info = {'frame_id': f'frame-{seed}-{i}', 'origin': origin, 'config_type': 'candidate'}
        frames.append(atoms)
    for atoms in frames:
        labels = single_point(potential, atoms)
        atoms.info['REF_energy'] = labels['energy']
        atoms.arrays['REF_forces'] = labels['forces']
        atoms.info['REF_stress'] = labels['stress']
    return frames
