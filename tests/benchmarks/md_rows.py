"""Rows like those of molecular dynamics: trajectories that wander, at several temperatures, seen through many features.

Each trajectory is an Ornstein-Uhlenbeck process in a few collective coordinates around a centre of its own, with a
spread that grows with its temperature. A fixed smooth map turns them into features of unequal mean and scale, with a
little noise of their own. Frames follow each other in time, as they do in a shard.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.signal import lfilter

N_FEATURES, N_COORDINATES, N_HIDDEN = 200, 24, 96
FRAMES_PER_TRAJECTORY, MEMORY = 2500, 0.97


def md_rows(n_rows: int, random_seed: int = 0, n_features: int = N_FEATURES) -> Iterator[np.ndarray]:
    """Yield trajectories (at most 2500, n_features), float32, n_rows in all."""
    fixed = np.random.default_rng(12345)
    into = fixed.normal(size=(N_COORDINATES, N_HIDDEN)) / np.sqrt(N_COORDINATES)
    bend = fixed.normal(size=N_HIDDEN)
    out = fixed.normal(size=(N_HIDDEN, n_features)) / np.sqrt(N_HIDDEN)
    mean, scale = 10 * fixed.normal(size=n_features), fixed.lognormal(sigma=1.0, size=n_features)
    widths = 2.0 / (1 + np.arange(N_COORDINATES)) ** 1.5
    generator = np.random.default_rng(random_seed)
    for first in range(0, n_rows, FRAMES_PER_TRAJECTORY):
        n_frames = min(FRAMES_PER_TRAJECTORY, n_rows - first)
        centre = widths * generator.normal(size=N_COORDINATES)
        temperature = generator.choice([0.25, 0.5, 1.0, 2.0])
        kicks = generator.normal(size=(n_frames, N_COORDINATES)) * np.sqrt(1 - MEMORY**2)
        kicks[0] /= np.sqrt(1 - MEMORY**2)
        walk = lfilter([1.0], [1.0, -MEMORY], kicks, axis=0)
        coordinates = centre + np.sqrt(temperature) * widths * walk
        features = np.tanh(coordinates @ into + bend) @ out
        features += 0.02 * generator.normal(size=features.shape)
        yield (mean + scale * features).astype(np.float32)


def write_md_rows(path: Path, n_rows: int) -> Path:
    """Write rows to a .npy file, trajectory by trajectory; an existing file of that size is kept."""
    if path.exists() and np.load(path, mmap_mode='r').shape == (n_rows, N_FEATURES):
        return path
    rows = np.lib.format.open_memmap(path, mode='w+', dtype=np.float32, shape=(n_rows, N_FEATURES))
    first = 0
    for trajectory in md_rows(n_rows):
        rows[first : first + len(trajectory)] = trajectory
        first += len(trajectory)
    rows.flush()
    return path
