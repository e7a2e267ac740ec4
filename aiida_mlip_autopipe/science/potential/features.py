"""What a trained potential has learned to see around an atom: the node features of MACE, or those of its last layer.

The node features, before the readouts make energies of them, describe the surroundings of each atom. A layer's are
``channels x 0e + channels x 1o + ...``: the scalars (l = 0) do not change when the frame is rotated, the others rotate
with it. The last layer of most potentials has scalars only. The features of the last layer are what the readouts
multiply with their last weights: the energy of an atom is linear in them, so that a linear model of their principal
components has the predictive variance of the potential itself (LLPR). Frames are batched: one forward pass, without
gradients, sees many of them as one graph.

Sources: I. Batatia et al., Adv. Neural Inf. Process. Syst. 35, 11423 (2022); F. Bigi, S. Chong, M. Ceriotti and
F. Grasselli, Mach. Learn.: Sci. Technol. 5, 045018 (2024) (LLPR).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from aiida_mlip_autopipe.science.potential.last_layer import last_maps
from aiida_mlip_autopipe.science.potential.load import PotentialError, load_model, resolve_device

if TYPE_CHECKING:
    import torch

__all__ = ['Graph', 'NodeFeatures', 'edges_within']

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


class NodeFeatures:
    """A potential that is asked for its node features.

    Parameters
    ----------
    potential, layers, invariants_only, device, batch_size, model_dtype, of_last_layer
        As `~aiida_mlip_autopipe.science.descriptors.MACEFeatures` takes them.

    Attributes
    ----------
    numbers : list of int
        Atomic numbers that it knows, in its own order.
    n_features : int
    r_max : float
        Cutoff, in Å.
    device : str
        ``cpu`` or ``cuda``.
    name : str
        What messages call it.

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
        device: str = 'auto',
        batch_size: int | None = None,
        model_dtype: str | None = None,
        of_last_layer: bool = False,
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise ValueError(f'batch_size={batch_size} must be at least 1')
        if model_dtype not in (None, 'float32', 'float64'):
            raise ValueError(f"model_dtype={model_dtype!r} must be 'float32', 'float64' or None")
        self.device = resolve_device(device)
        model, self.name = _opened(potential)
        self._model = _prepared(model, self.device, model_dtype)
        if of_last_layer:
            self._features_of = _inputs_of_last_maps
            self._columns, self._n_columns = _columns_of_last_maps(self._model, layers, self.name)
        else:
            self._features_of = _nodes
            self._columns, self._n_columns = _columns(model, layers, invariants_only, self.name)
        self.n_features, self.r_max = len(self._columns), float(model.r_max)
        self.numbers: list[int] = model.atomic_numbers.tolist()
        self._elements = np.full(max(self.numbers) + 1, -1)
        self._elements[self.numbers] = np.arange(len(self.numbers))
        self._batch_size = batch_size
        self._max_atoms = ATOMS_PER_PASS[self.device] if batch_size is None else None
        self._lock = Lock()

    def __call__(self, graphs: list[Graph], numbers: np.ndarray) -> np.ndarray:
        """Return the features of all atoms, (T, N, features), float64, by as many passes as the memory asks for.

        Parameters
        ----------
        graphs : list of Graph
            T frames of the same atoms.
        numbers : ndarray of int, shape (N,)
            Their atomic numbers.

        Raises
        ------
        MemoryError
            If a single frame does not fit into the memory of the device.
        PotentialError
            If a feature is not finite.
        """
        import torch

        parts: list[np.ndarray] = []
        done = 0
        with self._lock:  # threads would only compete for the same device
            while done < len(graphs):
                some = graphs[done : done + self.frames_per_pass(len(numbers))]
                try:
                    part = self._forward(some, numbers)
                except torch.cuda.OutOfMemoryError as error:
                    if len(some) == 1:
                        raise MemoryError(
                            f'one frame of {len(numbers)} atoms does not fit into the memory of the device '
                            f"'{self.device}' with {self.name}; take device 'cpu' or smaller cells"
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
            raise PotentialError(f'{self.name} gives features that are not finite: it is broken; train it again')
        return features

    def frames_per_pass(self, n_atoms: int) -> int:
        """Return how many frames are wanted in a pass, and not more than the memory has proved to hold."""
        by_memory = None if self._max_atoms is None else max(1, self._max_atoms // n_atoms)
        return min(size for size in (self._batch_size, by_memory) if size is not None)

    def _forward(self, graphs: list[Graph], numbers: np.ndarray) -> np.ndarray:
        import torch

        with torch.no_grad(), _deterministic(self.device):
            found = self._features_of(self._model, self._batch(graphs, numbers))
            if found.shape[1] != self._n_columns:
                raise PotentialError(
                    f'{self.name} gives {found.shape[1]} features where its layers promise {self._n_columns}: '
                    'it is of a kind that is not supported; take a MACE potential of mace_run_train'
                )
            columns = torch.as_tensor(self._columns, device=found.device)
            features = found.index_select(1, columns).to('cpu', torch.float64).numpy()
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
    if not (hasattr(model, 'products') and hasattr(model, 'node_embedding')):
        raise PotentialError(f'{name} is a {type(model).__name__}, which has no node features by layer')
    columns, n_columns = _kept_columns([product.linear.irreps_out for product in model.products], invariants_only)
    return np.concatenate([columns[layer] for layer in _which_layers(layers, len(columns))]), n_columns


def _columns_of_last_maps(model: Any, layers: int | Sequence[int] | None, name: str) -> tuple[np.ndarray, int]:
    """Return which columns of what the last linear maps are given are scalars, and how many there are in all."""
    if layers is not None:
        raise ValueError(f'layers={layers!r} chooses node features; the last layer is one, leave layers out')
    if not hasattr(model, 'readouts'):
        raise PotentialError(f'{name} is a {type(model).__name__}, which has no readouts')
    columns, n_columns = _kept_columns([one.irreps_in for one in last_maps(model)], invariants_only=True)
    return np.concatenate(columns), n_columns


def _kept_columns(every: Sequence[Any], invariants_only: bool) -> tuple[list[np.ndarray], int]:
    """Return which columns are taken of features that stand side by side, for each of their irreps, and how many there
    are in all."""
    from e3nn import o3

    columns, start = [], 0
    for irreps in (o3.Irreps(str(one)) for one in every):
        kept = [
            np.arange(part.start, part.stop)
            for part, (_, irrep) in zip(irreps.slices(), irreps, strict=True)
            if irrep.l == 0 or not invariants_only
        ]
        columns.append(start + np.concatenate([*kept, np.empty(0, dtype=int)]))
        start += irreps.dim
    return columns, start


def _nodes(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the node features of all layers (n_nodes, n_columns)."""
    found: torch.Tensor = model(batch, compute_force=False)['node_feats']
    return found


def _inputs_of_last_maps(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return what the linear map that ends each readout is given (n_nodes, n_columns)."""
    import torch

    seen: list[torch.Tensor] = []
    hooks = [one.register_forward_pre_hook(lambda _, given: seen.append(given[0])) for one in last_maps(model)]
    try:
        model(batch, compute_force=False)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.cat(seen, dim=1)


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


def edges_within(positions: np.ndarray, cell: np.ndarray, r_max: float) -> Graph:
    """Return a frame that is periodic in all directions as a graph, with the edges that mace gives it."""
    from mace.data.neighborhood import get_neighborhood

    edges, shifts, unit_shifts, _ = get_neighborhood(positions, r_max, (True, True, True), cell)
    return Graph(positions, edges, shifts, unit_shifts, cell)
