"""Set cover of environments: few frames that together show every kind of surroundings of an atom.

The environments of all atoms are divided into cells; a frame covers the cells in which it has an atom. The frame that
covers most cells that none has covered yet is taken, one after the other (the greedy set cover). When all are covered,
they are covered once more. Cells of labelled frames count as covered.

Centres of the cells are atoms of a random sample, by farthest-point traversal: ten for each frame that is wanted, and
at most `N_SAMPLED`. An atom that is farther from all of them than any of the sample opens a cell of its own, as do
further ones that are as far from that. So there are at most `N_CELLS` cells, an atom of a rare kind has one, and each
frame is remembered by as many bits.

Sources: V. Chvátal, Math. Oper. Res. 4, 233 (1979) (greedy set cover); for environments of atoms, B. Yu, V. Lordi and
D. Schwalbe-Koda, arXiv 2511.10561 (2025).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aiida_mlip_autopipe.science.references import Reference
from aiida_mlip_autopipe.science.sampling.clustering import Centres, k_centre
from aiida_mlip_autopipe.science.sampling.environments import Environments
from aiida_mlip_autopipe.science.sampling.pool import Picks, Pool
from aiida_mlip_autopipe.science.sampling.rules.base import SelectionRule

if TYPE_CHECKING:
    from aiida_mlip_autopipe.science.parameters import SamplingParameters
    from aiida_mlip_autopipe.science.sampling.direct import DirectSampler

__all__ = ['N_CELLS', 'SetCover', 'greedy_cover']

#: Cells of the sample for each frame that is wanted, and at most; those that other atoms may open.
CELLS_PER_FRAME, N_SAMPLED, N_OPENED = 10, 512, 512
N_CELLS = N_SAMPLED + N_OPENED

#: Size of a cell where the sample has fewer kinds of atoms than cells; distances have rounding errors.
LEAST_REACH = 1e-3

CHVATAL = Reference('V. Chvátal, Math. Oper. Res. 4, 233 (1979)', 'https://doi.org/10.1287/moor.4.3.233')
YU = Reference('B. Yu, V. Lordi, D. Schwalbe-Koda, arXiv:2511.10561 (2025)', 'https://arxiv.org/abs/2511.10561')


class SetCover(SelectionRule):
    """Frames that together show every kind of surroundings of an atom, as few as possible."""

    needs_environments = True

    def select(self, pool: Pool, n_wanted: int, sampler: DirectSampler) -> Picks:
        """Take one after the other what covers most environments that are not covered yet."""
        if pool.environments is None:
            raise ValueError('the set cover needs the environments of the atoms; describe them, too')
        picks = Picks.none_of(pool)
        cells, times_covered = _cells_of(pool.environments, min(CELLS_PER_FRAME * n_wanted, N_SAMPLED))
        is_open = np.zeros(len(pool), np.bool_)
        is_open[np.unique(pool.digests, return_index=True)[1]] = True
        picks.add(greedy_cover(cells, times_covered, is_open, n_wanted), 'cover')
        return picks

    def sentence(self, parameters: SamplingParameters) -> str:
        """Return what a paper says."""
        return (
            f'Up to {parameters.n_to_select} frames of each round were selected by a greedy set cover of the '
            'environments of their atoms.'
        )

    def references(self) -> tuple[Reference, ...]:
        """Return the sources of the method."""
        return (CHVATAL, YU)


def greedy_cover(cells: np.ndarray, times_covered: np.ndarray, is_open: np.ndarray, n_wanted: int) -> np.ndarray:
    """Take the frame with most cells that are covered least often, one after the other.

    Parameters
    ----------
    cells : numpy.ndarray
        Which cells each frame has, as bits (n, n_bytes), uint8.
    times_covered : numpy.ndarray
        How often each cell is covered already (8 n_bytes,), int64.
    is_open : numpy.ndarray
        Which frames may be taken (n,), bool.
    n_wanted : int
        How many to take.

    Returns
    -------
    numpy.ndarray
        Frames in order, int64; fewer only where no more are open.
    """
    times, is_open = times_covered.copy(), is_open.copy()
    present = np.unpackbits(np.bitwise_or.reduce(cells, axis=0)).astype(np.bool_)
    taken: list[int] = []
    level = 0
    while len(taken) < n_wanted and is_open.any():
        wanted = np.packbits(present & (times <= level))
        most = np.where(is_open, _count(cells & wanted), 0)
        while len(taken) < n_wanted and (best := _largest(most, cells, wanted)) is not None:
            taken.append(best)
            is_open[best], most[best] = False, 0
            wanted = wanted & ~cells[best]
            times += np.unpackbits(cells[best])
        later = times[present & (times > level)]
        level = int(later.min()) if len(later) else level + 1
    return np.array(taken, np.int64)


def _largest(most: np.ndarray, cells: np.ndarray, wanted: np.ndarray) -> int | None:
    """Return the frame with most of the wanted cells; ``most`` is what each had of more cells, and is brought up to
    date only as far as that is needed."""
    while True:
        best = int(most.argmax())
        if most[best] == 0:
            return None
        now = int(_count(cells[best] & wanted))
        if now == most[best]:
            return best
        most[best] = now


def _count(bits: np.ndarray) -> np.ndarray:
    """Return how many bits of the last axis are set."""
    return np.bitwise_count(bits).sum(axis=-1, dtype=np.int64)


def _cells_of(atoms: Environments, n_sampled: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which cells each frame of a pool has, as bits, and how many taken or labelled frames have each cell."""
    reduction, sample = atoms.reduction()
    cells = _Cells(sample, n_sampled)
    bits = np.zeros((len(atoms.rows) + len(atoms.taken), N_CELLS // 8), np.uint8)
    for places, scores in atoms.scores(reduction):
        bits[places] = np.packbits(cells.of(scores), axis=1)
    in_pool, taken = bits[: len(atoms.rows)], bits[len(atoms.rows) :]
    times = np.unpackbits(taken, axis=1).sum(axis=0, dtype=np.int64)
    for scores in atoms.known_scores(reduction):
        times += cells.of(scores).sum(axis=0)
    return in_pool, times


class _Cells:
    """The cells into which environments are divided; further ones open as atoms come that are in none."""

    def __init__(self, sample: np.ndarray, n_sampled: int) -> None:
        picks, _, squared = k_centre(sample, n_sampled, sample[:0])
        self._centres = Centres(sample[picks])
        self._reach = max(float(np.sqrt(squared.max())), LEAST_REACH)
        self._opened = np.empty((N_OPENED, sample.shape[1]), np.float32)
        self._n_opened = 0

    def of(self, scores: np.ndarray) -> np.ndarray:
        """Return which cells frames have (n_frames, N_CELLS), bool, from the scores of their atoms."""
        n_frames, n_atoms, n_components = scores.shape
        labels, distances = self._centres.nearest(scores.reshape(-1, n_components))
        for number in np.flatnonzero(distances > self._reach):
            labels[number] = self._beyond(scores[number // n_atoms, number % n_atoms], labels[number])
        found = np.zeros((n_frames, N_CELLS), np.bool_)
        found[np.repeat(np.arange(n_frames), n_atoms), labels] = True
        return found

    def _beyond(self, score: np.ndarray, nearest: int) -> int:
        """Return the cell of an atom that is far from all of the sample: one that was opened, or a new one."""
        apart = np.linalg.norm(self._opened[: self._n_opened] - score, axis=1)
        if len(apart) and apart.min() <= self._reach:
            return N_SAMPLED + int(apart.argmin())
        if self._n_opened == N_OPENED:
            return nearest
        self._opened[self._n_opened] = score
        self._n_opened += 1
        return N_SAMPLED + self._n_opened - 1
