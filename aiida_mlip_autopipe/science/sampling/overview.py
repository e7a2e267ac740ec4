"""What a selection chose from: some of the frames, where they lie, and which candidate stands for each.

Enough for a picture of what was explored and for the course of each replica, and small for any number of frames. Frames
are thinned evenly; the candidates are always among them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aiida_mlip_autopipe.science.frames import FrameChunk
from aiida_mlip_autopipe.science.sampling.clustering import Centres
from aiida_mlip_autopipe.science.sampling.direct import DirectSampler

__all__ = ['MAX_FRAMES', 'note', 'overview']

#: Of more frames than this, each second, third ... is told.
MAX_FRAMES = 20_000

#: So many components are told.
N_COMPONENTS = 3

NOTE = np.dtype(
    [
        ('folder', np.int32),
        ('replica', np.int32),
        ('step', np.int64),
        ('n_atoms', np.int32),
        ('temperature_K', np.float32),
        ('energy_eV', np.float64),
        ('max_force_eV_A', np.float32),
        ('disagreement_eV_A', np.float32),
    ]
)


def note(chunk: FrameChunk) -> np.ndarray:
    """Return what is told of each frame of a chunk, structured (n,): where it comes from and how it was there."""
    notes = np.empty(len(chunk), NOTE)
    notes['folder'] = chunk.folder_index
    notes['replica'] = chunk.shard['replica']
    notes['step'] = chunk.steps
    notes['n_atoms'] = len(chunk.numbers)
    notes['temperature_K'] = chunk.temperatures
    notes['energy_eV'] = chunk.energies
    notes['max_force_eV_A'] = chunk.max_forces
    notes['disagreement_eV_A'] = chunk.disagreements
    return notes


def overview(
    notes: Sequence[np.ndarray], sampler: DirectSampler, max_frames: int = MAX_FRAMES
) -> dict[str, np.ndarray]:
    """Return some of the frames that a fitted sampler has chosen from.

    Parameters
    ----------
    notes : sequence of numpy.ndarray
        Of `note`, together an entry for each row that the sampler was fitted to.
    sampler : DirectSampler
        Fitted.
    max_frames : int
        About so many frames, and those selected.

    Returns
    -------
    dict of numpy.ndarray
        Arrays of equal length n, in the order of the rows: ``index`` (the row), ``folder`` (which of the MD jobs),
        ``replica``, ``step``, ``n_atoms``, ``temperature_K`` (of the velocities), ``energy_eV``, ``max_force_eV_A``,
        ``disagreement_eV_A`` (NaN without a committee), ``components`` (n, at most 3; NaN for frames left out),
        ``cluster`` (-1 in none), ``rank`` (-1 unless it was selected), ``represented_by`` (the rank of the nearest
        selected frame; -1 for frames left out, or if none was selected).
    """
    table = np.concatenate(notes)
    every = max(1, -(-len(table) // max_frames))
    index = np.union1d(np.arange(0, len(table), every), sampler.selected_idx_).astype(np.int64)
    scores = sampler.scores_[index]
    rank = np.full(len(table), -1, np.int32)
    rank[sampler.selected_idx_] = np.arange(len(sampler.selected_idx_))
    return {
        'index': index,
        **{name: table[name][index] for name in NOTE.names or ()},
        'components': scores[:, :N_COMPONENTS].copy(),
        'cluster': sampler.labels_[index],
        'rank': rank[index],
        'represented_by': _nearest(scores, sampler.scores_[sampler.selected_idx_]),
    }


def _nearest(scores: np.ndarray, selected: np.ndarray) -> np.ndarray:
    """Return which selected frame is nearest to each frame in all components; -1 for frames without any."""
    nearest = np.full(len(scores), -1, np.int32)
    usable = np.isfinite(scores[:, 0])
    if len(selected) and usable.any():
        nearest[usable] = Centres(selected).nearest(np.ascontiguousarray(scores[usable]))[0]
    return nearest
