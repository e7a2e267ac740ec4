"""The frames to choose from, and those taken so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aiida_mlip_autopipe.science.sampling.clustering import centroids, sample_size, subsample
from aiida_mlip_autopipe.science.sampling.environments import Environments

__all__ = ['Picks', 'Pool', 'count_distinct', 'draw', 'members_of']


@dataclass(frozen=True)
class Pool:
    """Frames to choose from.

    Attributes
    ----------
    points : numpy.ndarray
        In the reduced space (n, n_components), float32.
    digests : numpy.ndarray
        Equal for equal frames (n,), uint64.
    fixed : numpy.ndarray
        Points that are represented already (n_fixed, n_components).
    weights : numpy.ndarray
        What turns the components into those that are weighted by explained variance (n_components,).
    random_state : int
        Seed of the subsample.
    environments : Environments, optional
        Their atoms, where these were described, too.
    """

    points: np.ndarray
    digests: np.ndarray
    fixed: np.ndarray
    weights: np.ndarray
    random_state: int
    environments: Environments | None = None

    def __len__(self) -> int:
        """Return how many frames there are."""
        return len(self.points)

    def sample(self, n_wanted: int) -> np.ndarray | None:
        """Return the frames from which so many are seeded; None for all frames."""
        return subsample(self.digests, sample_size(n_wanted), self.random_state)

    def part(self, members: np.ndarray, taken: np.ndarray) -> Pool:
        """Return some of the frames, away from those taken of the others."""
        fixed = np.concatenate([self.fixed, self.points[taken]])
        atoms = None if self.environments is None else self.environments.part(members, taken)
        return Pool(self.points[members], self.digests[members], fixed, self.weights, self.random_state, atoms)


@dataclass
class Picks:
    """Frames taken so far, by their place in the pool.

    Attributes
    ----------
    indices : numpy.ndarray
        The frames, in order.
    reasons : list of str
        Why each was taken.
    labels : numpy.ndarray
        The cluster of every frame of the pool (n,), int32; -1 for none.
    is_open : numpy.ndarray
        Which frames may be taken (n,), bool.
    """

    indices: np.ndarray
    reasons: list[str]
    labels: np.ndarray
    is_open: np.ndarray

    @classmethod
    def none_of(cls, pool: Pool) -> Picks:
        """Return no pick yet."""
        return cls(np.empty(0, np.int64), [], np.full(len(pool), -1, np.int32), np.ones(len(pool), np.bool_))

    def __len__(self) -> int:
        """Return how many frames were taken."""
        return len(self.indices)

    def add(self, indices: np.ndarray, reason: str) -> None:
        """Take further frames for a reason."""
        self.indices = np.concatenate([self.indices, indices])
        self.reasons += [reason] * len(indices)

    def add_part(self, part: Picks, members: np.ndarray) -> None:
        """Take what was taken of some of the frames; their clusters are numbered on."""
        self.labels[members] = np.where(part.labels < 0, -1, part.labels + self.labels.max(initial=-1) + 1)
        self.indices = np.concatenate([self.indices, members[part.indices]])
        self.reasons += part.reasons

    def bounds(self, points: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the squared weighted distance of each point from the first pick of its cluster; infinity without."""
        from aiida_mlip_autopipe.science.sampling.compiled.clusters import distances_to_own

        targets = np.full((int(self.labels.max(initial=-1)) + 1, points.shape[1]), np.inf, np.float32)
        firsts = self.indices[[reason == 'centroid' for reason in self.reasons]]
        targets[self.labels[firsts]] = points[firsts]
        squared = np.empty(len(points), np.float32)
        distances_to_own(points, self.labels, targets, weights, squared)
        return squared

    def distances_from_centroids(self, points: np.ndarray) -> np.ndarray:
        """Return the distance of each pick from the centroid of its cluster, of all points where it is in none."""
        if len(self) == 0:
            return np.empty(0)
        labels = self.labels[self.indices]
        centres, _ = centroids(points, self.labels, int(self.labels.max(initial=-1)) + 1)
        if (labels < 0).any():
            centres = np.concatenate([centres, points.mean(axis=0, dtype=np.float64, keepdims=True)])
        return np.linalg.norm(points[self.indices] - centres[labels], axis=1)


def count_distinct(digests: np.ndarray) -> int:
    """Return how many frames differ."""
    in_order = np.sort(digests)
    return int(np.count_nonzero(in_order[1:] != in_order[:-1])) + min(len(digests), 1)


def draw(digests: np.ndarray, n_wanted: int, seed: tuple[int, ...]) -> np.ndarray:
    """Draw so many distinct frames at random, or all that differ; which ones does not depend on their order."""
    _, first = np.unique(digests, return_index=True)
    return np.random.default_rng(seed).choice(first, min(n_wanted, len(first)), replace=False)


def members_of(
    groups: Sequence[object] | np.ndarray | None, usable: np.ndarray, rows: np.ndarray, digests: np.ndarray
) -> list[np.ndarray] | None:
    """Return the members of each group, the groups sorted, as places among the rows to choose from; None without.

    A frame that several groups hold belongs to the first of them: it is not to be selected twice.

    Raises
    ------
    ValueError
        If there is not a group for each row.
    """
    if groups is None:
        return None
    names = np.asarray(groups)
    if names.shape != usable.shape:
        raise ValueError(f'groups has shape {names.shape}, X has {len(usable)} rows; give one group for each row')
    present, numbers = np.unique(names[rows], return_inverse=True)
    _, contents = np.unique(digests, return_inverse=True)
    first = np.full(len(rows), len(present))
    np.minimum.at(first, contents, numbers)
    order = np.argsort(numbers, kind='stable')
    order = order[first[contents[order]] == numbers[order]]
    return np.split(order, np.cumsum(np.bincount(numbers[order], minlength=len(present)))[:-1])
