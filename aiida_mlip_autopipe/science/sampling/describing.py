"""Descriptors of all frames of files, written as they are computed: memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from aiida_mlip_autopipe.science.descriptors import make_descriptor, stream_rows
from aiida_mlip_autopipe.science.frames.trajectories import TrajectoryFrames
from aiida_mlip_autopipe.science.parameters import DescriptorParameters
from aiida_mlip_autopipe.science.sampling.rows import RowFile, write_rows

__all__ = ['UNITS', 'Written', 'write_descriptors']

UNITS = {'soap': 'Å³', 'ace': 'no unit', 'mace': 'no unit'}
"""Of the features. The coefficients of SOAP are integrals of a density of height 1 with functions that are normalised
in space, Å^(3/2), and its features their products; the functions of ACE have no unit."""


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes
    ----------
    shape : tuple of int
        (n_rows, n_features).
    elements : list of str
        For which the descriptor was made.
    unit : str
        Of the features.
    masked : dict
        Reason -> how many frames could not be described; their rows are NaN.
    """

    shape: tuple[int, int]
    elements: list[str]
    unit: str
    masked: dict[str, int]


def write_descriptors(
    source: TrajectoryFrames,
    parameters: DescriptorParameters,
    path: Path,
    elements: Sequence[str] | None = None,
    per_atom: bool = False,
    potential: Path | None = None,
    progress: Callable[[Mapping[str, object]], None] | None = None,
) -> Written:
    """Describe all frames and write a row for each, or for each atom.

    Parameters
    ----------
    source : TrajectoryFrames
        The frames.
    parameters : DescriptorParameters
        Kind and settings.
    path : Path
        ``.npy``: the rows, float32. ``.npz``: ``descriptors``, and of each row ``file_index`` (index into ``files``),
        ``frame`` (its number in that file, from 0) and, of rows for atoms, ``number`` (atomic number).
    elements : sequence of str, optional
        For which the descriptor is made, so that the rows of several files can be compared; those of the frames
        unless given. The potential of the descriptor ``mace`` has its own.
    per_atom : bool
        A row for each atom.
    potential, progress
        As for `select_candidates`.

    Raises
    ------
    ValueError
        If the potential is missing or does not know an element.
    """
    changes = {'average': 'off'} if per_atom else {}
    descriptor = make_descriptor(parameters, elements or source.species, potential, **changes)
    masked: dict[str, int] = {}

    def tell(state: Mapping[str, Any]) -> None:
        masked.update(state.get('frames_masked', {}))
        if progress is not None:
            progress(state)

    n_rows = int(source.n_atoms.sum()) if per_atom else source.n_frames
    rows = (chunk.reshape(-1, chunk.shape[-1]) for chunk in stream_rows(descriptor, source.chunks(), tell))
    with TemporaryDirectory(dir=path.parent, prefix='descriptors-') as folder:
        written = write_rows(Path(folder) / 'rows.npy', rows, n_rows)
        if path.suffix == '.npy':
            written.path.replace(path)
        else:
            _write_npz(path, written, source, per_atom)
    symbols = [chemical_symbols[number] for number in descriptor.species]
    return Written((n_rows, written.shape[1]), symbols, UNITS[parameters.kind], masked)


def _write_npz(path: Path, rows: RowFile, source: TrajectoryFrames, per_atom: bool) -> None:
    """Write the rows, which stay on disk meanwhile, with where each is from."""
    repeats = source.n_atoms if per_atom else np.ones(source.n_frames, np.int64)
    columns = {
        'file_index': np.repeat(source.file_index, repeats),
        'frame': np.repeat(source.frame_number, repeats),
        'files': np.array([str(one) for one in source.paths]),
    }
    if per_atom:
        columns['number'] = np.concatenate(list(_numbers(source)))
    np.savez(path, descriptors=np.load(rows.path, mmap_mode='r'), **columns)  # type: ignore[arg-type]


def _numbers(source: TrajectoryFrames) -> Iterator[np.ndarray]:
    for chunk in source.chunks():
        yield np.tile(chunk.numbers, len(chunk))
