"""MACE features as a descriptor: what a trained potential has learned to see around an atom.

Averaged over the atoms, the node features of a potential describe a frame. This is the encoding of DIRECT's authors,
who took the structure vector of a graph network.

Source: J. Qi et al., npj Comput. Mater. 10, 43 (2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from aiida_mlip_autopipe.science.descriptors.base import Descriptor
from aiida_mlip_autopipe.science.descriptors.compiled import neighbours as checks
from aiida_mlip_autopipe.science.potential.features import Graph, NodeFeatures, edges_within
from aiida_mlip_autopipe.science.potential.load import PotentialError

if TYPE_CHECKING:
    import torch

__all__ = ['MACEFeatures']


class MACEFeatures(Descriptor):
    """Features of a MACE potential.

    Parameters
    ----------
    potential : path or torch.nn.Module
        A ``.model`` file, or the model that is in one (it is copied).
    layers : int or sequence of int, optional
        Message-passing layers whose features are taken: so many from the first, or which ones (0 is the first). All
        unless given.
    invariants_only : bool
        Only scalars. Otherwise the vectors and tensors (l > 0) of each layer follow its scalars, as e3nn orders them
        (by l, then channel, then m): these rotate with the frame, and a turned copy has another row.
    average : str
        ``off``: a row per atom; ``outer``: averaged over the atoms. ``inner`` has no meaning here.
    device : str
        ``auto`` (the GPU where there is one), ``cpu`` or ``cuda``.
    batch_size : int, optional
        Frames in a forward pass; unless given, as many as make 4096 atoms on a GPU and 256 on a CPU, whose cache holds
        no more. Halved for good where the memory of the GPU does not suffice.
    model_dtype : str, optional
        Precision of the potential, ``float32`` or ``float64``; that of the file unless given.
    periodic : bool
        Whether the periodic directions of a frame are respected; otherwise it is taken as isolated.
    dtype : str
        Of the rows: ``float64`` or ``float32``.
    of_last_layer : bool
        Instead of node features, what the readouts multiply with their last weights: the energy is linear in them.

    Raises
    ------
    PotentialError
        If the potential is unusable.
    ValueError
        If a parameter is out of bounds.
    """

    def __init__(
        self,
        potential: str | Path | torch.nn.Module,
        layers: int | Sequence[int] | None = None,
        invariants_only: bool = True,
        average: Literal['off', 'outer'] = 'off',
        device: Literal['auto', 'cpu', 'cuda'] = 'auto',
        batch_size: int | None = None,
        model_dtype: Literal['float32', 'float64'] | None = None,
        periodic: bool = True,
        dtype: Literal['float64', 'float32'] = 'float64',
        of_last_layer: bool = False,
    ) -> None:
        if average == 'inner':
            raise ValueError(
                "average='inner' averages before products are formed; the products of MACE features are inside the "
                "network: take 'outer' or 'off'"
            )
        self._potential = NodeFeatures(
            potential, layers, invariants_only, device, batch_size, model_dtype, bool(of_last_layer)
        )
        super().__init__(self._potential.numbers, average, periodic, dtype)
        self.layers, self.invariants_only, self.batch_size = layers, bool(invariants_only), batch_size
        self.of_last_layer = bool(of_last_layer)

    def get_number_of_features(self) -> int:
        """Return the length of a row."""
        return self._potential.n_features

    def _describe(
        self,
        positions: np.ndarray,
        numbers: np.ndarray,
        cells: np.ndarray,
        pbc: np.ndarray,
        centers: np.ndarray | None,
        rows: np.ndarray,
    ) -> np.ndarray:
        """Fill rows (T, C or 1, features) and return what is wrong with each frame, (T,): 0 for nothing."""
        if centers is not None and centers.ndim == 3:
            raise ValueError('centers holds positions, but MACE features exist at atoms only; give indices of atoms')
        status = np.zeros(len(positions), dtype=np.uint8)
        waiting: dict[int, Graph] = {}
        for frame in range(len(positions)):
            status[frame], graph = _graph(positions[frame], cells[frame], pbc, self._potential.r_max)
            if graph is not None:
                waiting[frame] = graph
            is_last = frame == len(positions) - 1
            if waiting and (is_last or len(waiting) >= self._potential.frames_per_pass(len(numbers))):
                features = self._potential(list(waiting.values()), numbers)
                some = features if centers is None else features[:, centers]
                rows[list(waiting)] = some if self.average == 'off' else some.mean(axis=1, keepdims=True)
                waiting.clear()
        return status

    def _check_species(self, numbers: np.ndarray) -> None:
        from ase.data import chemical_symbols

        missing = sorted(set(numbers.tolist()) - set(self.species.tolist()))
        if missing:
            unknown, known = (
                ', '.join(chemical_symbols[number] for number in part) for part in (missing, self.species)
            )
            raise PotentialError(
                f'{self._potential.name} knows {known}, but not {unknown}: use a potential trained for these elements, '
                'or another descriptor'
            )


def _graph(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, r_max: float) -> tuple[int, Graph | None]:
    """Return what is wrong with a frame, or 0 and its graph.

    The frame is wrapped first, so that no digits are lost in single precision. Where it is not periodic, its cell is
    made so large that no image is within the cutoff; then it can be treated as periodic, whatever its orientation.
    """
    status, full, dual, wrapped, coordinates, _, _ = checks.wrap_frame(positions, positions[:1], cell, pbc)
    if status != checks.FINE:
        return status, None
    low = np.where(pbc, 0.0, coordinates.min(axis=0))
    spans = np.where(pbc, 1.0, np.ptp(coordinates, axis=0) + 2 * r_max)
    wrapped, full = wrapped - low @ full, full * spans[:, None]
    images = np.prod(1 + 2 * r_max * np.linalg.norm(dual, axis=1) / spans)
    if images > checks.MAX_IMAGES_PER_ATOM:
        return checks.COLLAPSED, None
    graph = edges_within(wrapped, full, r_max)
    vectors = wrapped[graph.edges[1]] - wrapped[graph.edges[0]] + graph.shifts
    if len(vectors) and (vectors**2).sum(axis=1).min() < checks.MIN_DISTANCE**2:
        return checks.COINCIDENT, None
    return checks.FINE, graph
