"""The second level: environments of single atoms, for frames whose average hides what is rare in them.

A vacancy among two hundred atoms changes the average of a frame by half a percent. So the atoms of the frames that were
selected first give the known environments; every frame is then represented by its most unusual atom, the one
farthest from the known ones, and frames are taken by a farthest-point traversal of these atoms. Of the frames that show
nearly the same unusual atom the one with the smallest cell is taken: it costs least to label.

Atoms are standardised and reduced as frames are. They are described twice and never held together, but for those of the
known; what is kept of each frame is one reduced vector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from aiida_mlip_autopipe.science.sampling.clustering import Centres, k_centre
from aiida_mlip_autopipe.science.sampling.reduction import Reduction, measure, reduce

__all__ = ['EnvironmentSource', 'fill_environments']

#: Known environments that are kept at most; of more, those that represent them.
MAX_ATLAS = 4000

#: Frames show the same unusual atom if theirs are closer than this fraction of the distance from the known ones.
ALIKE = 0.5

EnvironmentSource = Callable[[], Iterable[np.ndarray]]


def fill_environments(
    source: EnvironmentSource, usable: np.ndarray, taken: np.ndarray, n_more: int, min_eigenvalue: float
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

    Returns
    -------
    numpy.ndarray
        Rows of the frames, in the order in which they were taken; fewer where no environment is new.

    Raises
    ------
    ValueError
        If there are not as many frames as rows, or atoms of usable frames are not finite.
    """
    known_rows: list[np.ndarray] = []
    moments = measure(lambda: _rows(source, usable, taken, known_rows))
    if not moments.finite.all():
        raise ValueError('environments has non-finite atoms in frames that are in X; use the same descriptor')
    reduction = reduce(moments, min_eigenvalue)
    known = _centres_of(np.concatenate(known_rows), reduction)
    unusual, distances, n_atoms = _most_unusual(source, usable, reduction, known)
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


def _rows(
    source: EnvironmentSource, usable: np.ndarray, taken: np.ndarray, known_rows: list[np.ndarray]
) -> Iterator[np.ndarray]:
    """Yield the atoms of the usable frames, and keep those of the frames taken."""
    is_taken = np.zeros(len(usable), np.bool_)
    is_taken[taken] = True
    for frames, chunk in _chunks(source, len(usable)):
        n_features = chunk.shape[2]
        known_rows.append(chunk[is_taken[frames]].reshape(-1, n_features).astype(np.float32))
        yield chunk[usable[frames]].reshape(-1, n_features)


def _centres_of(rows: np.ndarray, reduction: Reduction) -> Centres:
    scores = reduction.transform(rows)
    if len(scores) == 0:  # nothing was taken yet: what is unlike the mean environment is unusual
        scores = np.zeros((1, scores.shape[1]), np.float32)
    if len(scores) > MAX_ATLAS:
        scores = scores[k_centre(scores, MAX_ATLAS, scores[:0])[0]]
    return Centres(scores)


def _most_unusual(
    source: EnvironmentSource, usable: np.ndarray, reduction: Reduction, known: Centres
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each frame's most unusual atom (scores), its distance from the known ones, and the number of atoms."""
    unusual = np.zeros((len(usable), len(reduction.components)), np.float32)
    distances, n_atoms = np.zeros(len(usable), np.float32), np.zeros(len(usable), np.int32)
    for frames, chunk in _chunks(source, len(usable)):
        n_atoms[frames] = chunk.shape[1]
        rows = np.arange(frames.start, frames.stop)[usable[frames]]
        if len(rows) == 0:
            continue
        scores = reduction.transform(chunk[usable[frames]].reshape(-1, chunk.shape[2]))
        apart = known.nearest(scores)[1].reshape(len(rows), chunk.shape[1])
        worst = apart.argmax(axis=1)
        unusual[rows] = scores.reshape(len(rows), chunk.shape[1], -1)[np.arange(len(rows)), worst]
        distances[rows] = apart[np.arange(len(rows)), worst]
    return unusual, distances, n_atoms
