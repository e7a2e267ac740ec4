"""What all descriptors share: how frames come in, what is refused, how rows go out.

A descriptor turns stacked frames into rows. Whatever can be wrong with a frame is found by the code that describes it
and comes back as a code per frame; here it becomes a message that names the frame, or a row of NaN where the caller
would rather go on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from aiida_mlip_autopipe.science.descriptors.compiled import neighbours
from aiida_mlip_autopipe.science.estimator import RemembersArguments, check_real

if TYPE_CHECKING:
    from ase import Atoms

    from aiida_mlip_autopipe.science.frames import FrameChunk

__all__ = ['DescribedChunk', 'Descriptor', 'OnError', 'Problem', 'atomic_numbers_of', 'center_positions']

OnError = Literal['raise', 'mask']

#: A thread gets at least so many frames: fewer are not worth its start.
MIN_FRAMES_PER_JOB = 4


class Problem(NamedTuple):
    """Why a frame cannot be described: the kind of problem, alike for many frames, and what it is in this one."""

    reason: str
    detail: str

    def __str__(self) -> str:
        return f'{self.reason}: {self.detail}'


@dataclass(frozen=True)
class DescribedChunk:
    """The rows of one chunk of frames.

    Attributes
    ----------
    rows : numpy.ndarray
        (n, features), or (n, N, features) with ``average='off'``; NaN where a frame was masked.
    masked : dict of int to Problem
        Index within the chunk, and what is wrong with that frame.
    """

    rows: np.ndarray
    masked: dict[int, Problem]


def atomic_numbers_of(species: Iterable[int | str]) -> np.ndarray:
    """Return the distinct atomic numbers of symbols or numbers, ascending, int64.

    Raises
    ------
    ValueError
        If there is none, or one is no element.
    """
    from ase.data import atomic_numbers, chemical_symbols

    numbers = set()
    for item in species:
        number = atomic_numbers.get(item) if isinstance(item, str) else int(item)
        if number is None or not 0 < number < len(chemical_symbols):
            raise ValueError(f'species holds {item!r}, which is no element; give symbols or atomic numbers')
        numbers.add(number)
    if not numbers:
        raise ValueError('species is empty; give the elements of all frames that will be described')
    return np.array(sorted(numbers), dtype=np.int64)


class Descriptor(RemembersArguments, ABC):
    """A map from frames to rows of features.

    Parameters
    ----------
    species : iterable of str or int
        All elements that will be met.
    average : str
        ``off``: a row per centre; ``inner``: averaged over the centres before products are formed; ``outer``: after.
    periodic : bool
        Whether the periodic directions of a frame are respected; otherwise it is taken as isolated.
    dtype : str
        Of the rows: ``float64`` or ``float32``. All sums are in float64 either way.

    Raises
    ------
    ValueError
        If one of them is not among the choices.
    """

    def __init__(
        self,
        species: Iterable[int | str],
        average: Literal['off', 'inner', 'outer'] = 'off',
        periodic: bool = True,
        dtype: Literal['float64', 'float32'] = 'float64',
    ) -> None:
        if average not in ('off', 'inner', 'outer'):
            raise ValueError(f"average={average!r} must be 'off', 'inner' or 'outer'")
        if dtype not in ('float64', 'float32'):
            raise ValueError(f"dtype={dtype!r} must be 'float64' or 'float32'")
        self.species = atomic_numbers_of(species)
        self.average, self.periodic, self.dtype = average, periodic, np.dtype(dtype)

    @abstractmethod
    def get_number_of_features(self) -> int:
        """Return the length of a row."""

    @abstractmethod
    def _describe(
        self,
        positions: np.ndarray,
        numbers: np.ndarray,
        cells: np.ndarray,
        pbc: np.ndarray,
        centers: np.ndarray | None,
        rows: np.ndarray,
    ) -> np.ndarray:
        """Fill rows (T, C or 1, features) and return what is wrong with each frame, (T,): 0 for nothing.

        ``centers`` is None for all atoms, else indices (C,), int64, or positions (T, C, 3), in Å.
        """

    def create(
        self,
        system: Atoms | Sequence[Atoms],
        centers: Sequence[Any] | None = None,
        n_jobs: int = 1,
        on_error: OnError = 'raise',
    ) -> np.ndarray | list[np.ndarray]:
        """Describe one frame or several.

        Parameters
        ----------
        system : ase.Atoms or sequence of ase.Atoms
            Frames.
        centers : sequence, optional
            Atoms by index, or positions in Å, around which to describe; for several frames a sequence of such
            sequences. All atoms unless given.
        n_jobs : int
            Threads over the frames.
        on_error : str
            ``raise``, or ``mask``: rows of frames that cannot be described are NaN.

        Returns
        -------
        numpy.ndarray or list of numpy.ndarray
            One frame, alone or in a list: (features,), or (C, features) with ``average='off'``. Several: stacked along
            a first axis; with ``average='off'`` and unequal numbers of centres a list.

        Raises
        ------
        ValueError
            If there is no frame, or a frame cannot be described: it is named by its index.
        """
        from ase import Atoms

        if isinstance(system, Atoms):
            return self._create_single(system, centers, on_error, 0)
        frames = list(system)
        if not frames:
            raise ValueError('the list of frames is empty; give at least one')
        if centers is None and len(frames) > 1 and _are_stackable(frames):
            positions = np.array([atoms.positions for atoms in frames])
            cells = np.array([atoms.cell.array for atoms in frames])
            return self.create_frames(
                frames[0].numbers, positions, cells, frames[0].pbc, n_jobs=n_jobs, on_error=on_error
            )
        each = [None] * len(frames) if centers is None else list(centers)
        if len(each) != len(frames):
            raise ValueError(f'{len(each)} lists of centers for {len(frames)} frames; give one list per frame')
        with ThreadPoolExecutor(max(n_jobs, 1)) as pool:
            rows = list(pool.map(self._create_single, frames, each, [on_error] * len(frames), range(len(frames))))
        if len(rows) == 1:
            return rows[0]
        return np.array(rows) if len({row.shape for row in rows}) == 1 else rows

    def create_frames(
        self,
        numbers: np.ndarray,
        positions: np.ndarray,
        cells: np.ndarray,
        pbc: np.ndarray,
        out: np.ndarray | None = None,
        n_jobs: int = 1,
        on_error: OnError = 'raise',
    ) -> np.ndarray:
        """Describe the stacked frames of one trajectory.

        Parameters
        ----------
        numbers : numpy.ndarray
            Atomic numbers (N,), the same in all frames.
        positions : numpy.ndarray
            (T, N, 3), in Å; wrapped or not.
        cells : numpy.ndarray
            (T, 3, 3), or (3, 3) for all frames, in Å; only vectors of periodic directions are read.
        pbc : numpy.ndarray
            Periodic directions (3,).
        out : numpy.ndarray, optional
            Where to write: (T, features), or (T, N, features) with ``average='off'``, C-contiguous, of the
            descriptor's dtype. A reused buffer saves the time in which the system clears a fresh one.
        n_jobs : int
            Threads over the frames.
        on_error : str
            ``raise``, or ``mask``: rows of frames that cannot be described are NaN.

        Returns
        -------
        numpy.ndarray
            ``out``, or a new array like it.

        Raises
        ------
        ValueError
            If shapes do not match, an element is not among the species, or a frame cannot be described.
        """
        rows, problems = self._describe_frames(_Frames.of(numbers, positions, cells, pbc), out, n_jobs)
        _refuse(problems, on_error)
        return rows

    def stream(
        self, chunks: Iterable[FrameChunk], n_jobs: int = 1, on_error: OnError = 'raise'
    ) -> Iterator[DescribedChunk]:
        """Describe frames chunk by chunk; never more than one chunk is held.

        Parameters
        ----------
        chunks : iterable of FrameChunk
            Frames of equal composition within a chunk, as :func:`~aiida_mlip_autopipe.science.frames.iter_chunks`
            reads them.
        n_jobs : int
            Threads over the frames of a chunk.
        on_error : str
            ``raise``, or ``mask``: rows of frames that cannot be described are NaN, and the chunk says why.

        Yields
        ------
        DescribedChunk
            In the order of the chunks. Its rows are a buffer that the next chunk overwrites: reduce or copy them.

        Raises
        ------
        ValueError
            If an element is not among the species, or a frame cannot be described.
        """
        buffer = np.empty((0, 0), self.dtype)
        first = 0
        for chunk in chunks:
            frames = _Frames.of(chunk.numbers, chunk.positions, chunk.cells, chunk.pbc)
            shape = self._shape_of(len(frames.positions), len(frames.numbers))
            if buffer.shape[1:] != shape[1:] or len(buffer) < shape[0]:
                buffer = np.empty(shape, self.dtype)
            rows, problems = self._describe_frames(frames, buffer[: shape[0]], n_jobs)
            _refuse({first + index: reason for index, reason in problems.items()}, on_error)
            first += shape[0]
            yield DescribedChunk(rows, problems)

    def _create_single(self, atoms: Atoms, centers: Sequence[Any] | None, on_error: OnError, index: int) -> np.ndarray:
        try:
            frames = _Frames.of(atoms.numbers, atoms.positions[None], atoms.cell.array, atoms.pbc)
            places = None if centers is None else _parse_centers(centers, atoms.positions)
            rows, problems = self._describe_frames(frames, None, 1, places)
        except ValueError as error:
            raise ValueError(f'frame {index}: {error}') from error
        _refuse({index: problems[0]} if problems else {}, on_error)
        return rows[0]

    def _describe_frames(
        self, frames: _Frames, out: np.ndarray | None, n_jobs: int, centers: np.ndarray | None = None
    ) -> tuple[np.ndarray, dict[int, Problem]]:
        """Return rows, with NaN for what cannot be described, and the reasons by frame."""
        self._check_species(frames.numbers)
        n_centers = len(frames.numbers) if centers is None else centers.shape[0 if centers.ndim == 1 else 1]
        shape = self._shape_of(len(frames.positions), n_centers)
        rows = np.empty(shape, self.dtype) if out is None else out
        if rows.shape != shape or rows.dtype != self.dtype or not rows.flags.c_contiguous:
            raise ValueError(f'out is {rows.dtype} {rows.shape}; give C-contiguous {self.dtype} {shape}')
        status = self._fill(frames, centers, rows if self.average == 'off' else rows[:, None], n_jobs)
        broken = np.flatnonzero(status)
        rows[broken] = np.nan
        pbc = frames.pbc & self.periodic
        return rows, {int(i): _explain(int(status[i]), frames.positions[i], frames.cells[i], pbc) for i in broken}

    def _fill(self, frames: _Frames, centers: np.ndarray | None, rows: np.ndarray, n_jobs: int) -> np.ndarray:
        """Fill rows by blocks of frames, one thread each; return the status of each frame."""
        pbc = frames.pbc & self.periodic

        def fill(block: slice) -> np.ndarray:
            some = centers[block] if centers is not None and centers.ndim == 3 else centers
            return self._describe(frames.positions[block], frames.numbers, frames.cells[block], pbc, some, rows[block])

        n_blocks = max(1, min(n_jobs, len(rows) // MIN_FRAMES_PER_JOB))
        if n_blocks == 1:
            return fill(slice(None))
        bounds = np.linspace(0, len(rows), n_blocks + 1).astype(int)
        with ThreadPoolExecutor(n_blocks) as pool:
            return np.concatenate(list(pool.map(fill, map(slice, bounds[:-1], bounds[1:]))))

    def _shape_of(self, n_frames: int, n_centers: int) -> tuple[int, ...]:
        n_features = self.get_number_of_features()
        return (n_frames, n_centers, n_features) if self.average == 'off' else (n_frames, n_features)

    def _check_species(self, numbers: np.ndarray) -> None:
        missing = sorted(set(numbers.tolist()) - set(self.species.tolist()))
        if missing:
            raise ValueError(f'atomic numbers {missing} are not among species {self.species.tolist()}; add them there')


@dataclass(frozen=True)
class _Frames:
    """Stacked frames of one trajectory, as the kernels read them."""

    numbers: np.ndarray
    positions: np.ndarray
    cells: np.ndarray
    pbc: np.ndarray

    @classmethod
    def of(cls, numbers: Any, positions: Any, cells: Any, pbc: Any) -> _Frames:
        """Convert, repeat a single cell for all frames, and check the shapes."""
        for name, values in (('positions', positions), ('cells', cells)):
            check_real(values, name)
        positions = np.ascontiguousarray(positions, dtype=np.float64)
        numbers = np.ascontiguousarray(numbers, dtype=np.int64)
        cells = np.asarray(cells, dtype=np.float64)
        if cells.shape == (3, 3):
            cells = np.tile(cells, (len(positions), 1, 1))
        flags = np.array(pbc, dtype=np.bool_)
        if (
            numbers.ndim != 1
            or positions.shape != (len(positions), len(numbers), 3)
            or cells.shape != (len(positions), 3, 3)
        ):
            raise ValueError(
                f'shapes do not match: numbers {numbers.shape}, positions {positions.shape}, cells {cells.shape}; '
                'give (N,), (T, N, 3), (T, 3, 3)'
            )
        if flags.shape != (3,):
            raise ValueError(f'pbc has the shape {flags.shape}; give three flags')
        if len(numbers) == 0:
            raise ValueError('there are no atoms; there is nothing to describe')
        return cls(numbers, positions, np.ascontiguousarray(cells), flags)


def _are_stackable(frames: Sequence[Atoms]) -> bool:
    """Return whether frames differ in positions and cells only."""
    first = frames[0]
    return len(first) > 0 and all(
        np.array_equal(atoms.numbers, first.numbers) and np.array_equal(atoms.pbc, first.pbc) for atoms in frames
    )


def _parse_centers(centers: Sequence[Any], positions: np.ndarray) -> np.ndarray:
    """Return centres as indices (C,) or, if any is a position, as positions (1, C, 3)."""
    if len(centers) == 0:
        raise ValueError('centers is an empty list; give indices or positions, or leave it out for all atoms')
    indices = [int(center) if np.ndim(center) == 0 else None for center in centers]
    for index, center in zip(indices, centers, strict=True):
        if index is None and np.shape(center) != (3,):
            raise ValueError(f'centers holds {center!r}; give indices of atoms or positions (x, y, z)')
        if index is not None and not (index == center and -len(positions) <= index < len(positions)):
            raise ValueError(f'centers holds {center!r}, but there are atoms 0 to {len(positions) - 1}')
    if None not in indices:
        return np.array(indices, dtype=np.int64) % len(positions)
    places = [center if index is None else positions[index] for index, center in zip(indices, centers, strict=True)]
    return np.array(places, dtype=np.float64)[None]


def center_positions(positions: np.ndarray, centers: np.ndarray | None) -> np.ndarray:
    """Return centres as the kernels take them, (T, C, 3), from indices, positions or None: C = 0 means all atoms."""
    if centers is None:
        return np.empty((len(positions), 0, 3))
    return positions[:, centers] if centers.ndim == 1 else centers


def _refuse(problems: dict[int, Problem], on_error: OnError) -> None:
    """Raise for the first frame with a problem, unless frames are to be masked."""
    if on_error not in ('raise', 'mask'):
        raise ValueError(f"on_error={on_error!r} must be 'raise' or 'mask'")
    if problems and on_error == 'raise':
        index, reason = min(problems.items())
        others = f' ({len(problems) - 1} more frames cannot be described)' if len(problems) > 1 else ''
        raise ValueError(f"frame {index}: {reason}{others}; mend or drop it, or pass on_error='mask'")


def _explain(status: int, positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray) -> Problem:
    """Return what is wrong with a frame, from its status: which value, and the bound."""
    if status == neighbours.NOT_FINITE:
        broken = np.flatnonzero(~np.isfinite(positions).all(axis=1))
        if len(broken) == 0:
            return Problem('a position is not finite', 'that of a centre')
        return Problem('a position is not finite', f'that of atom {broken[0]} is {positions[broken[0]].tolist()}')
    if status == neighbours.BAD_CELL:
        return Problem('the cell does not span its periodic directions', f'{cell.tolist()} with pbc={pbc.tolist()}')
    if status == neighbours.EXPLODED:
        farthest = np.abs(positions).max(axis=1).argmax()
        return Problem(
            f'an atom is more than {neighbours.MAX_COORDINATE:g} cells (or Å, where aperiodic) away',
            f'atom {farthest} at {positions[farthest].tolist()} Å',
        )
    if status == neighbours.COLLAPSED:
        return Problem(
            f'the cell is so thin that atoms have more than {neighbours.MAX_IMAGES_PER_ATOM} images each',
            f'{cell.tolist()}',
        )
    return Problem('two atoms stand on top of each other', _closest(positions, cell, pbc))


def _closest(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray) -> str:
    """Return which two atoms of a frame are closest, and how close."""
    from ase.geometry import get_distances

    distances = get_distances(positions, cell=cell, pbc=pbc)[1]
    np.fill_diagonal(distances, np.inf)
    one, two = np.unravel_index(distances.argmin(), distances.shape)
    if not distances[one, two] < neighbours.MIN_DISTANCE:
        return f'an atom and its image, by the cell {cell.tolist()}'
    return f'{one} and {two}, {distances[one, two]:.2g} Å apart, less than {neighbours.MIN_DISTANCE} Å'
