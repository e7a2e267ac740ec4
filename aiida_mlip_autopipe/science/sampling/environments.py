"""The second level: environments of single atoms, for frames whose average hides what is rare in them.

A vacancy among two hundred atoms changes the average of a frame by half a percent. So the atoms of labelled frames and
of those that were selected first give the known environments; every frame is then represented by its most unusual atom,
the one farthest from the known ones, and frames are taken by a farthest-point traversal of these atoms. Of the frames
that show nearly the same unusual atom the one with the smallest cell is taken: it costs least to label.

Atoms are standardised and reduced as frames are. They are described twice and never held together, but for those of the
known; what is kept of each frame is one reduced vector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from aiida_mlip_autopipe.science.sampling.clustering import Centres, k_centre
from aiida_mlip_autopipe.science.sampling.reduction import Moments, Reduction, measure, reduce

__all__ = ['EnvironmentSource', 'Environments', 'fill_environments']

#: Known environments that are kept at most; of more, those that represent them.
MAX_ATLAS = 4000

#: Frames show the same unusual atom if theirs are closer than this fraction of the distance from the known ones.
ALIKE = 0.5

EnvironmentSource = Callable[[], Iterable[np.ndarray]]
"""Yields atoms at each call, described one by one: of frames in order, in chunks of (n_frames, n_atoms, n_features)."""


@dataclass(frozen=True)
class Environments:
    """The atoms of the frames of a pool.

    Attributes
    ----------
    source : callable
        Yields those of all frames, whether they are in the pool or not.
    rows : numpy.ndarray
        Which of all frames each frame of the pool is (n,), ascending.
    n_rows : int
        How many frames there are in all.
    min_eigenvalue : float
        As for the frames.
    known : callable, optional
        Yields those of labelled frames.
    taken : numpy.ndarray
        Frames outside of the pool that were taken (n_taken,), as rows.
    """

    source: EnvironmentSource
    rows: np.ndarray
    n_rows: int
    min_eigenvalue: float
    known: EnvironmentSource | None = None
    taken: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    def part(self, members: np.ndarray, taken: np.ndarray) -> Environments:
        """Return the atoms of some frames of the pool, of which others were taken."""
        return replace(self, rows=self.rows[members], taken=np.concatenate([self.taken, self.rows[taken]]))

    def unusual(self, taken: np.ndarray, n_more: int) -> np.ndarray:
        """Return at most so many frames of the pool with unusual atoms, besides those taken, by their place in it."""
        all_taken = np.concatenate([self.taken, self.rows[taken]])
        usable = np.zeros(self.n_rows, np.bool_)
        usable[self.rows] = usable[all_taken] = True
        found = fill_environments(self.source, usable, all_taken, n_more, self.min_eigenvalue, self.known)
        return np.searchsorted(self.rows, found[np.isin(found, self.rows)])

    def reduction(self) -> tuple[Reduction, np.ndarray]:
        """Return the principal components of the atoms of the pool, and the scores of some atoms."""
        usable = np.zeros(self.n_rows, np.bool_)
        usable[self.rows] = True
        moments = _measure(lambda: (chunk[usable[frames]] for frames, chunk in _chunks(self.source, self.n_rows)))
        reduction = reduce(moments, self.min_eigenvalue)
        return reduction, reduction.transform(moments.sample)

    def scores(self, reduction: Reduction) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the places of frames, in the pool or, after these, among those taken, and the scores of their atoms."""
        places = np.full(self.n_rows, -1)
        places[self.rows] = np.arange(len(self.rows))
        places[self.taken] = len(self.rows) + np.arange(len(self.taken))
        for frames, chunk in _chunks(self.source, self.n_rows):
            used = places[frames] >= 0
            if used.any():
                yield places[frames][used], _scores(chunk[used], reduction)

    def known_scores(self, reduction: Reduction) -> Iterator[np.ndarray]:
        """Yield the scores of the atoms of labelled frames, (n_frames, n_atoms, n_components)."""
        return _known_scores(self.known, reduction)


def fill_environments(
    source: EnvironmentSource,
    usable: np.ndarray,
    taken: np.ndarray,
    n_more: int,
    min_eigenvalue: float,
    known: EnvironmentSource | None = None,
) -> np.ndarray:
    """Take the frames whose most unusual atoms are farthest from all environments of the frames taken already.

    Parameters
    ----------
    source : callable
        Yields, at each call, the environments of all frames in order, in chunks of (n_frames, n_atoms, n_features).
    usable : numpy.ndarray
        Which frames count (n_rows,), bool.
    taken : numpy.ndarray
        Frames taken already, as rows.
    n_more : int
        How many to take.
    min_eigenvalue : float
        As for the frames.
    known : callable, optional
        Yields the environments of labelled frames.

    Returns
    -------
    numpy.ndarray
        Rows of the frames, in the order in which they were taken; fewer where no environment is new.

    Raises
    ------
    ValueError
        If there are not as many frames as rows, or atoms of usable frames are not finite.
    """
    taken_rows: list[np.ndarray] = []
    reduction = reduce(_measure(lambda: _frames(source, usable, taken, taken_rows)), min_eigenvalue)
    atlas = _centres_of(reduction.transform(np.concatenate(taken_rows)), _known_scores(known, reduction))
    unusual, distances, n_atoms = _most_unusual(source, usable, reduction, atlas)
    distances[taken] = 0.0
    picks: list[int] = []
    for _ in range(n_more):
        farthest = int(np.argmax(distances))
        if distances[farthest] <= 0:
            break
        apart = np.linalg.norm(unusual - unusual[farthest], axis=1)
        alike = np.flatnonzero((apart <= ALIKE * distances[farthest]) & (distances > 0))
        picks.append(int(alike[np.lexsort((apart[alike], n_atoms[alike]))[0]]))
        distances = np.minimum(distances, np.linalg.norm(unusual - unusual[picks[-1]], axis=1))
        distances[picks[-1]] = 0.0
    return np.array(picks, np.int64)


def _chunks(source: EnvironmentSource, n_frames: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield chunks with the place of their frames; make sure that there are as many frames as rows."""
    first = 0
    for chunk in source():
        if chunk.ndim != 3:
            raise ValueError(f'environments has a chunk of shape {chunk.shape}; give (n_frames, n_atoms, n_features)')
        yield slice(first, first + len(chunk)), chunk
        first += len(chunk)
    if first != n_frames:
        raise ValueError(f'environments has {first} frames, X has {n_frames} rows; give the atoms of each frame')


def _measure(frames: EnvironmentSource) -> Moments:
    """Return the moments of the atoms of some frames, all finite."""
    moments = measure(lambda: (chunk.reshape(-1, chunk.shape[2]) for chunk in frames()))
    if not moments.finite.all():
        raise ValueError('environments has non-finite atoms in frames that are in X; use the same descriptor')
    return moments


def _scores(chunk: np.ndarray, reduction: Reduction) -> np.ndarray:
    return reduction.transform(chunk.reshape(-1, chunk.shape[2])).reshape(*chunk.shape[:2], -1)


def _frames(
    source: EnvironmentSource, usable: np.ndarray, taken: np.ndarray, taken_rows: list[np.ndarray]
) -> Iterator[np.ndarray]:
    """Yield the usable frames, and keep the atoms of those taken."""
    is_taken = np.zeros(len(usable), np.bool_)
    is_taken[taken] = True
    for frames, chunk in _chunks(source, len(usable)):
        taken_rows.append(chunk[is_taken[frames]].reshape(-1, chunk.shape[2]).astype(np.float32))
        yield chunk[usable[frames]]


def _known_scores(known: EnvironmentSource | None, reduction: Reduction) -> Iterator[np.ndarray]:
    for chunk in known() if known else ():
        yield _scores(chunk, reduction)


def _centres_of(scores: np.ndarray, known: Iterable[np.ndarray]) -> Centres:
    """Return the environments that are taken or known, or what represents them."""
    for more in known:
        scores = _representatives(np.concatenate([scores, *more]), 4 * MAX_ATLAS)
    if len(scores) == 0:  # nothing was taken yet: what is unlike the mean environment is unusual
        scores = np.zeros((1, scores.shape[1]), np.float32)
    return Centres(_representatives(scores, MAX_ATLAS))


def _representatives(scores: np.ndarray, at_most: int) -> np.ndarray:
    """Return the scores, or where they are more than so many, `MAX_ATLAS` of them."""
    return scores if len(scores) <= at_most else scores[k_centre(scores, MAX_ATLAS, scores[:0])[0]]


def _most_unusual(
    source: EnvironmentSource, usable: np.ndarray, reduction: Reduction, atlas: Centres
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each frame's most unusual atom (scores), its distance from the known ones, and the number of atoms."""
    unusual = np.zeros((len(usable), len(reduction.components)), np.float32)
    distances, n_atoms = np.zeros(len(usable), np.float32), np.zeros(len(usable), np.int32)
    for frames, chunk in _chunks(source, len(usable)):
        n_atoms[frames] = chunk.shape[1]
        rows = np.arange(frames.start, frames.stop)[usable[frames]]
        if len(rows) == 0:
            continue
        scores = _scores(chunk[usable[frames]], reduction)
        apart = atlas.nearest(scores.reshape(-1, scores.shape[2]))[1].reshape(scores.shape[:2])
        worst = apart.argmax(axis=1)
        unusual[rows] = scores[np.arange(len(rows)), worst]
        distances[rows] = apart[np.arange(len(rows)), worst]
    return unusual, distances, n_atoms
