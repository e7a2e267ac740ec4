"""Which frames may be selected at all.

DIRECT looks for what is unlike the rest, and a collapsed or exploded frame is unlike everything: left in, it becomes a
cluster of its own and is always selected. The limits of the user are therefore put to every frame before that, and each
frame that is left out has a reason.
"""

from __future__ import annotations

import numpy as np
from ase.data import covalent_radii

from aiida_mlip_autopipe.science.frames import FrameChunk
from aiida_mlip_autopipe.science.parameters import LimitParameters

__all__ = ['ACCEPTED', 'REASONS', 'FrameLimits']

#: The code of a frame that no limit rejects.
ACCEPTED = 0

#: The code of a rejected frame, and its reason: `finite_geometry`, or the name of the limit.
REASONS = dict(enumerate(('finite_geometry', *LimitParameters.model_fields), start=1))


class FrameLimits:
    """The limits of a selection, put to one chunk of frames after the other.

    Parameters
    ----------
    parameters : LimitParameters
        Bounds.
    """

    def __init__(self, parameters: LimitParameters) -> None:
        self._parameters = parameters
        self._first_energy = np.nan
        self._n_seen = 0

    def check(self, chunk: FrameChunk) -> np.ndarray:
        """Return for each frame `ACCEPTED` or the code of what it breaks.

        Parameters
        ----------
        chunk : FrameChunk
            The next frames, in the order in which :func:`~aiida_mlip_autopipe.science.frames.iter_chunks` reads them:
            the energy of reference is that of the first frame of their replica. What a shard does not know (NaN) breaks
            no limit.

        Returns
        -------
        numpy.ndarray
            (n,), int8: a key of `REASONS`, the lowest where a frame breaks several limits.

        Raises
        ------
        ValueError
            If the frames follow neither the last ones nor begin a replica.
        """
        self._begin(chunk)
        limits = self._parameters
        ratios = _closest_ratios(chunk, limits.min_distance_factor or 0.0)
        volumes = _volumes(chunk)
        energies = np.abs(chunk.energies - self._first_energy) / len(chunk.numbers)
        broken = {
            'finite_geometry': np.isnan(ratios),
            'min_distance_factor': _below(ratios, limits.min_distance_factor),
            'min_volume_A3': _below(volumes, limits.min_volume_A3),
            'max_volume_A3': _above(volumes, limits.max_volume_A3),
            'max_force_eV_A': _above(chunk.max_forces, limits.max_force_eV_A),
            'energy_window_eV': _above(energies, limits.energy_window_eV),
        }
        return np.select([broken[reason] for reason in REASONS.values()], list(REASONS), ACCEPTED).astype(np.int8)

    def _begin(self, chunk: FrameChunk) -> None:
        """Take the energy of reference where a replica begins."""
        if chunk.first == 0:
            self._first_energy = float(chunk.energies[0])
        elif chunk.first != self._n_seen:
            raise ValueError(
                f'the chunk begins with frame {chunk.first} of its replica where {self._n_seen} would be next; '
                'check all chunks in order, each replica from its first frame'
            )
        self._n_seen = chunk.first + len(chunk)


def _closest_ratios(chunk: FrameChunk, bound: float) -> np.ndarray:
    """Return the smallest distance over the sum of the covalent radii, (n,); NaN for frames without a geometry."""
    from aiida_mlip_autopipe.science.sampling.compiled.distances import closest_ratios

    numbers, kinds = np.unique(chunk.numbers, return_inverse=True)
    positions, cells = np.ascontiguousarray(chunk.positions), np.ascontiguousarray(chunk.cells)
    return closest_ratios(positions, cells, chunk.pbc, kinds, covalent_radii[numbers], bound)


def _volumes(chunk: FrameChunk) -> np.ndarray:
    """Return the volumes per atom, (n,), in Å³; NaN where they have no meaning."""
    if not chunk.pbc.all() or chunk.shard.get('vacuum_axes'):
        return np.full(len(chunk), np.nan)
    with np.errstate(invalid='ignore'):
        return np.abs(np.linalg.det(chunk.cells)) / len(chunk.numbers)


def _below(values: np.ndarray, bound: float | None) -> np.ndarray:
    return values < (-np.inf if bound is None else bound)


def _above(values: np.ndarray, bound: float | None) -> np.ndarray:
    return values > (np.inf if bound is None else bound)
