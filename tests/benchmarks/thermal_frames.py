"""Frames like those of molecular dynamics, at no cost: atoms that swing about their sites and remember where they were.

Each replica has a strain, a temperature and a seed of its own. The displacement of each atom from its site is an
Ornstein-Uhlenbeck process with the spread of silicon in the harmonic approximation (0.075 Å at 300 K along each axis).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase import Atoms
from ase.build import bulk
from scipy.signal import lfilter

SPREAD_A, MEMORY, BLOCK = 0.075, 0.7, 1000


def silicon(repeat: int) -> Atoms:
    """Return silicon, 8 repeat^3 atoms."""
    return bulk('Si', 'diamond', a=5.43, cubic=True) * (repeat, repeat, repeat)


def thermal_blocks(
    atoms: Atoms, n_frames: int, *, temperature_K: float = 300.0, strain: float = 0.0, random_seed: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield positions (at most 1000, N, 3), in Å, block by block, and the cell (3, 3)."""
    generator = np.random.default_rng(random_seed)
    sites, cell = atoms.positions * (1 + strain), atoms.cell.array * (1 + strain)
    spread = SPREAD_A * np.sqrt(temperature_K / 300)
    state = MEMORY * generator.normal(size=(1, sites.size))
    for first in range(0, n_frames, BLOCK):
        kicks = generator.normal(scale=np.sqrt(1 - MEMORY**2), size=(min(BLOCK, n_frames - first), sites.size))
        walk, state = lfilter([1.0], [1.0, -MEMORY], kicks, axis=0, zi=state)
        yield sites + spread * walk.reshape(-1, *sites.shape), cell
