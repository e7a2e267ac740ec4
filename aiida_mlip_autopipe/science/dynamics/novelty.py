"""Has a replica shown anything new? It ends when chunk after chunk of its frames resembles what it showed before.

Two measures, of which either suffices: the distance of the descriptor of a frame from those of the start and of the new
frames before it (leader clustering, J. A. Hartigan, Clustering Algorithms (1975), chapter 3), and the disagreement of
a committee of potentials. The memory is the replica's own, so that its length does not depend on its neighbours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ase import Atoms

    from aiida_mlip_autopipe.science.parameters import EarlyStopParameters

__all__ = ['Novelty']

MAX_KNOWN = 4096
"""Leaders kept; a replica that has shown so many different frames is told to end by its number of steps alone."""


class Novelty:
    """The memory of one replica.

    Parameters
    ----------
    atoms : Atoms
        Starting structure.
    parameters : EarlyStopParameters
        Measures and patience.
    state : dict, optional
        What `state` returned, to go on from there.
    """

    def __init__(self, atoms: Atoms, parameters: EarlyStopParameters, state: dict[str, Any] | None = None) -> None:
        self._parameters = parameters
        self._atoms = atoms.copy()
        self._descriptor: Any = None
        if parameters.min_novelty > 0:
            from aiida_mlip_autopipe.science.descriptors import make_descriptor

            self._descriptor = make_descriptor(parameters.descriptor, sorted(set(atoms.numbers.tolist())))
        if state:
            self._known = np.asarray(state['known'], dtype=float)
            self._frames, self._stale, self._fresh = (int(value) for value in state['counts'])
        else:
            self._known = self._describe(atoms.positions, atoms.cell.array)[np.newaxis]
            self._frames = self._stale = self._fresh = 0
        self._radius = parameters.min_novelty * float(np.linalg.norm(self._known[0]))

    @property
    def asked(self) -> bool:
        """Whether a measure is on at all."""
        return self._descriptor is not None or self._parameters.min_disagreement_eV_A > 0

    def exhausted(self, positions: np.ndarray, cell: np.ndarray, disagreement: float) -> bool:
        """Take a frame; return whether the replica has shown nothing new for ``patience`` chunks."""
        if not self.asked:
            return False
        self._fresh |= self._is_new(positions, cell, disagreement)
        self._frames += 1
        if self._frames % self._parameters.chunk_frames == 0:
            self._stale = 0 if self._fresh else self._stale + 1
            self._fresh = 0
        return self._stale >= self._parameters.patience

    def state(self) -> dict[str, np.ndarray]:
        """Return what a checkpoint must hold."""
        return {'known': self._known, 'counts': np.array([self._frames, self._stale, self._fresh])}

    def _is_new(self, positions: np.ndarray, cell: np.ndarray, disagreement: float) -> bool:
        if 0 < self._parameters.min_disagreement_eV_A < disagreement:
            return True
        if self._descriptor is None:
            return False
        row = self._describe(positions, cell)
        if np.linalg.norm(self._known - row, axis=1).min() <= self._radius:
            return False
        if len(self._known) < MAX_KNOWN:
            self._known = np.vstack([self._known, row])
        return True

    def _describe(self, positions: np.ndarray, cell: np.ndarray) -> np.ndarray:
        if self._descriptor is None:
            return np.zeros(0)
        self._atoms.set_cell(cell)
        self._atoms.positions = positions
        return np.asarray(self._descriptor.create(self._atoms), dtype=float).reshape(-1)
