"""MACE features: what a trained potential has learned to see around an atom.

The node features of a MACE potential, before its readouts make energies of them, describe the surroundings of each
atom; averaged over the atoms they describe a frame. This is the encoding of DIRECT's authors, who took the structure
vector of a graph network. Frames are batched: one forward pass, without gradients, sees many of them as one graph.

A layer's features are ``channels x 0e + channels x 1o + ...``: the scalars (l = 0) do not change when the frame is
rotated, the others rotate with it. The last layer of most potentials has scalars only.

Source: I. Batatia et al., Adv. Neural Inf. Process. Syst. 35, 11423 (2022); J. Qi et al., npj Comput. Mater. 10, 43
(2024).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from aiida_mlip_autopipe.science.descriptors.base import Descriptor
from aiida_mlip_autopipe.science.potential.load import PotentialError, load_model, resolve_device

if TYPE_CHECKING:
    import torch

__all__ = ['MACEFeatures']


#: Atoms in a forward pass, by device, unless the number of frames is given. On a CPU (a small potential, one thread)
#: passes of 256 took 0.24 ms per atom and passes of 1024, which no longer fit into its cache, 0.47.
ATOMS_PER_PASS = {'cpu': 256, 'cuda': 4096}


class Graph(NamedTuple):
    """One frame as a graph: positions (N, 3), edges (2, E) from sender to receiver, and how far the receiver's image
    is shifted (E, 3) and in cell vectors (E, 3); cell (3, 3); all in Å."""

    positions: np.ndarray
    edges: np.ndarray
    shifts: np.ndarray
    unit_shifts: np.ndarray
    cell: np.ndarray


class MACEFeatures(Descriptor):
    """Node features of a MACE potential.

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
    ) -> None:
        if average == 'inner':
            raise ValueError(
                "average='inner' averages before products are formed; the products of MACE features are inside the "
                "network: take 'outer' or 'off'"
            )
        if batch_size is not None and batch_size < 1:
            raise ValueError(f'batch_size={batch_size} must be at least 1')
        if model_dtype not in (None, 'float32', 'float64'):
            raise ValueError(f"model_dtype={model_dtype!r} must be 'float32', 'float64' or None")
        self.device = resolve_device(device)
        model, self._name = _opened(potential)
        self._model = _prepared(model, self.device, model_dtype)
        super().__init__(model.atomic_numbers.tolist(), average, periodic, dtype)
        self.layers, self.invariants_only, self.batch_size = layers, bool(invariants_only), batch_size
        self._max_atoms = ATOMS_PER_PASS[self.device] if batch_size is None else None
        self._columns, self._n_columns = _columns(model, layers, invariants_only, self._name)
        self._r_max = float(model.r_max)
        self._elements = np.full(int(self.species.max()) + 1, -1)
        self._elements[model.atomic_numbers.cpu().numpy()] = np.arange(len(model.atomic_numbers))
        self._lock = Lock()

    def get_number_of_features(self) -> int:
        """Return the length of a row."""
        return len(self._columns)

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
            status[frame], graph = _graph(positions[frame], cells[frame], pbc, self._r_max)
            if graph is not None:
                waiting[frame] = graph
            if waiting and (len(waiting) >= self._frames_per_pass(len(numbers)) or frame == len(positions) - 1):
                features = self._features(list(waiting.values()), numbers)
                some = features if centers is None else features[:, centers]
                rows[list(waiting)] = some if self.average == 'off' else some.mean(axis=1, keepdims=True)
                waiting.clear()
        return status

    def _features(self, graphs: list[Graph], numbers: np.ndarray) -> np.ndarray:
        """Return the features of all atoms, (T, N, features), float64, by as many passes as the memory asks for."""
        import torch

        parts = []
        done = 0
        with self._lock:  # threads would only compete for the same device
            while done < len(graphs):
                some = graphs[done : done + self._frames_per_pass(len(numbers))]
                try:
                    part = self._forward(some, numbers)
                except torch.cuda.OutOfMemoryError as error:
                    if len(some) == 1:
                        raise MemoryError(
                            f'one frame of {len(numbers)} atoms does not fit into the memory of the device '
                            f"'{self.device}' with {self._name}; take device 'cpu' or smaller cells"
                        ) from error
                    part = None
                if part is None:  # what the error held on to is free only outside of its block
                    torch.cuda.empty_cache()
                    self._max_atoms = len(some) * len(numbers) // 2
                    continue
                parts.append(part)
                done += len(some)
        features = np.concatenate(parts)
        if not np.isfinite(features).all():
            raise PotentialError(f'{self._name} gives features that are not finite: it is broken; train it again')
        return features

    def _frames_per_pass(self, n_atoms: int) -> int:
        """Return how many frames are wanted in a pass, and not more than the memory has proved to hold."""
        by_memory = None if self._max_atoms is None else max(1, self._max_atoms // n_atoms)
        return min(size for size in (self.batch_size, by_memory) if size is not None)

    def _forward(self, graphs: list[Graph], numbers: np.ndarray) -> np.ndarray:
        import torch

        with torch.no_grad(), _deterministic(self.device):
            output = self._model(self._batch(graphs, numbers), compute_force=False)
            nodes = output['node_feats']
            if nodes.shape[1] != self._n_columns:
                raise PotentialError(
                    f'{self._name} gives {nodes.shape[1]} node features where its layers promise {self._n_columns}: '
                    'it is of a kind that is not supported; take a MACE potential of mace_run_train'
                )
            columns = torch.as_tensor(self._columns, device=nodes.device)
            features = nodes.index_select(1, columns).to('cpu', torch.float64).numpy()
        return features.reshape(len(graphs), len(numbers), -1)

    def _batch(self, graphs: list[Graph], numbers: np.ndarray) -> dict[str, torch.Tensor]:
        """Return frames of the same atoms as one graph of several parts, as mace's models take it."""
        import torch

        n_frames, n_atoms = len(graphs), len(numbers)
        dtype = next(self._model.parameters()).dtype

        def joined(name: str) -> torch.Tensor:
            values = np.concatenate([getattr(graph, name) for graph in graphs])
            return torch.as_tensor(values, dtype=dtype, device=self.device)

        edges = np.concatenate([graph.edges + part * n_atoms for part, graph in enumerate(graphs)], axis=1)
        elements = torch.as_tensor(np.tile(self._elements[numbers], n_frames), device=self.device)
        parts = torch.arange(n_frames, device=self.device)
        return {
            'positions': joined('positions'),
            'node_attrs': torch.nn.functional.one_hot(elements, len(self._model.atomic_numbers)).to(dtype),
            'edge_index': torch.as_tensor(edges, dtype=torch.long, device=self.device),
            'shifts': joined('shifts'),
            'unit_shifts': joined('unit_shifts'),
            'cell': joined('cell'),
            'batch': parts.repeat_interleave(n_atoms),
            'ptr': torch.arange(n_frames + 1, device=self.device) * n_atoms,
            # of a potential with several heads the readouts differ, not the features
            'head': torch.zeros_like(parts),
            # what mace assumes where nothing is said, for potentials that are told
            'total_charge': torch.zeros(n_frames, dtype=dtype, device=self.device),
            'total_spin': torch.ones(n_frames, dtype=dtype, device=self.device),
        }

    def _check_species(self, numbers: np.ndarray) -> None:
        from ase.data import chemical_symbols

        missing = sorted(set(numbers.tolist()) - set(self.species.tolist()))
        if missing:
            unknown, known = (
                ', '.join(chemical_symbols[number] for number in part) for part in (missing, self.species)
            )
            raise PotentialError(
                f'{self._name} knows {known}, but not {unknown}: use a potential trained for these elements, '
                'or another descriptor'
            )


def _opened(potential: str | Path | torch.nn.Module) -> tuple[Any, str]:
    """Return a model that nobody else holds, and what to call it in messages."""
    if isinstance(potential, str | Path):
        return load_model(Path(potential)), f'the potential {potential}'
    return copy.deepcopy(potential), 'the potential'


def _prepared(model: Any, device: str, dtype: str | None) -> Any:
    """Return the model on its device, in its precision, ready to be run."""
    import torch

    model = model.to(device)
    if dtype is not None:
        model = model.to(getattr(torch, dtype))
    return model.eval()


def _columns(
    model: Any, layers: int | Sequence[int] | None, invariants_only: bool, name: str
) -> tuple[np.ndarray, int]:
    """Return which columns of the node features are taken, and how many there are in all."""
    from e3nn import o3

    if not (hasattr(model, 'products') and hasattr(model, 'node_embedding')):
        raise PotentialError(f'{name} is a {type(model).__name__}, which has no node features by layer')
    columns, start = [], 0
    for product in model.products:
        irreps = o3.Irreps(str(product.linear.irreps_out))
        kept = [
            np.arange(part.start, part.stop)
            for part, (_, irrep) in zip(irreps.slices(), irreps, strict=True)
            if irrep.l == 0 or not invariants_only
        ]
        columns.append(start + np.concatenate([*kept, np.empty(0, dtype=int)]))
        start += irreps.dim
    chosen = [columns[layer] for layer in _which_layers(layers, len(columns))]
    return np.concatenate(chosen), start


def _which_layers(layers: int | Sequence[int] | None, n_layers: int) -> list[int]:
    """Return the indices of the layers.

    Raises
    ------
    ValueError
        If there are not so many, or one is named twice.
    """
    if layers is None:
        return list(range(n_layers))
    which = list(range(layers)) if isinstance(layers, int) else [int(layer) for layer in layers]
    if not which or len(set(which)) < len(which) or not set(which) <= set(range(n_layers)):
        raise ValueError(
            f'layers={layers!r}, but the potential has {n_layers}: give a number from 1 to {n_layers}, or a list of '
            f'indices from 0 to {n_layers - 1}, each once'
        )
    return which


@contextmanager
def _deterministic(device: str) -> Iterator[None]:
    """Let a GPU sum up in the same order each time; a CPU does anyway."""
    import torch

    if device == 'cpu':
        yield
        return
    before, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warns)


def _graph(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, r_max: float) -> tuple[int, Graph | None]:
    """Return what is wrong with a frame, or 0 and its graph.

    The frame is wrapped first, so that no digits are lost in single precision. Where it is not periodic, its cell is
    made so large that no image is within the cutoff; then it can be treated as periodic, whatever its orientation.
    """
    from mace.data.neighborhood import get_neighborhood

    from aiida_mlip_autopipe.science.descriptors.compiled import neighbours as checks

    status, full, dual, wrapped, coordinates, _, _ = checks.wrap_frame(positions, positions[:1], cell, pbc)
    if status != checks.FINE:
        return status, None
    low = np.where(pbc, 0.0, coordinates.min(axis=0))
    spans = np.where(pbc, 1.0, np.ptp(coordinates, axis=0) + 2 * r_max)
    wrapped, full = wrapped - low @ full, full * spans[:, None]
    images = np.prod(1 + 2 * r_max * np.linalg.norm(dual, axis=1) / spans)
    if images > checks.MAX_IMAGES_PER_ATOM:
        return checks.COLLAPSED, None
    edges, shifts, unit_shifts, _ = get_neighborhood(wrapped, r_max, (True, True, True), full)
    vectors = wrapped[edges[1]] - wrapped[edges[0]] + shifts
    if len(vectors) and (vectors**2).sum(axis=1).min() < checks.MIN_DISTANCE**2:
        return checks.COINCIDENT, None
    return checks.FINE, Graph(wrapped, edges, shifts, unit_shifts, full)
