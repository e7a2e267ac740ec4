"""Frames in files that ASE reads, in chunks, for what reads the shards of MD jobs in chunks.

A file is read from its beginning for each pass: memory does not grow with the number of frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, cast

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import ArrayLike

from aiida_mlip_autopipe.science.frames.extxyz import iter_any
from aiida_mlip_autopipe.science.frames.reading import FrameChunk
from aiida_mlip_autopipe.science.frames.records import ShardEntry
from aiida_mlip_autopipe.science.frames.sources import FrameSource
from aiida_mlip_autopipe.science.systems.isolated_atom import is_isolated_atom
from aiida_mlip_autopipe.science.systems.vacuum import vacuum_axes

__all__ = ['FROM_FILE', 'FROM_FRAME', 'TrajectoryFrames']

#: Where a frame that was loaded comes from: the path as it was given, and its number in the file, from 0.
FROM_FILE, FROM_FRAME = 'from_file', 'from_frame'

CHUNK_SIZE = 256


class TrajectoryFrames(FrameSource):
    """The frames of one or more files, in order; a file is a trajectory.

    Isolated atoms (``config_type=IsolatedAtom``) are passed over. Energies, forces and temperatures are those of the
    file, as far as it has them: ``REF_energy`` and ``REF_forces``, else the results of a calculation.

    Parameters
    ----------
    paths : sequence of pathlib.Path
        Files of frames: extxyz, or anything else that ASE reads.
    elements : sequence of str, optional
        The only chemical symbols that may occur; those of the frames unless given.

    Attributes
    ----------
    elements : sequence of str or None
        Those allowed, as given.
    n_isolated : int
        Isolated atoms that were passed over.
    file_index, frame_number : numpy.ndarray
        Of each frame which file it is in, and its number there, counted from 0; int64 (n_frames,).
    n_atoms : numpy.ndarray
        Of each frame; int64 (n_frames,).

    Raises
    ------
    ValueError
        If a file is missing, cannot be read or has no frame, or a frame has no atom or an element that is not among
        those allowed: with the file and the number of the frame.
    """

    def __init__(self, paths: Sequence[Path], elements: Sequence[str] | None = None) -> None:
        self.paths, self.elements = [Path(path) for path in paths], elements
        self.n_isolated = 0
        places: list[tuple[int, int, int]] = []
        species: set[int] = set()
        for file_index, path in enumerate(self.paths):
            n_before = len(places) + self.n_isolated
            for number, atoms in enumerate(iter_any(path)):
                self._check(atoms, f'frame {number} of {path}')
                if is_isolated_atom(atoms):
                    self.n_isolated += 1
                    continue
                species.update(atoms.numbers.tolist())
                places.append((file_index, number, len(atoms)))
            if len(places) + self.n_isolated == n_before:
                raise ValueError(f'{path} has no frame; give a file with at least one')
        if not places:
            raise ValueError(f'{", ".join(map(str, paths))}: no frame beside isolated atoms; give a file of structures')
        self.n_frames = len(places)
        self.file_index, self.frame_number, self.n_atoms = np.array(places, dtype=np.int64).T
        self.species = sorted(species)

    def chunks(self) -> Iterator[FrameChunk]:
        """Yield all frames; a chunk ends where atoms or periodicity change."""
        for file_index, path in enumerate(self.paths):
            numbered = ((number, atoms) for number, atoms in enumerate(iter_any(path)) if not is_isolated_atom(atoms))
            for run, (_, frames) in enumerate(groupby(numbered, key=lambda one: _kind(one[1]))):
                yield from _chunks_of_run(frames, file_index, run)

    def load(self, indices: ArrayLike) -> list[Atoms]:
        """Return single frames as they are in their files, with their calculators, in the order asked for."""
        wanted = np.asarray(indices, dtype=int).reshape(-1)
        places = {(int(self.file_index[index]), int(self.frame_number[index])) for index in wanted}
        found: dict[tuple[int, int], Atoms] = {}
        for file_index in sorted({file for file, _ in places}):
            last = max(number for file, number in places if file == file_index)
            for number, atoms in enumerate(iter_any(self.paths[file_index])):
                if (file_index, number) in places:
                    atoms.info |= {FROM_FILE: str(self.paths[file_index]), FROM_FRAME: number}
                    found[file_index, number] = atoms
                if number == last:
                    break
        return [found[int(self.file_index[index]), int(self.frame_number[index])] for index in wanted]

    def groups(self, group_by: str) -> np.ndarray:
        """Return the file of each frame; of other groups a file does not tell.

        Raises
        ------
        ValueError
            If it is not ``trajectory``.
        """
        if group_by != 'trajectory':
            raise ValueError(f'group_by: {group_by!r} is not known of frames in files; give trajectory, or none')
        return self.file_index.astype(np.int32)

    def _check(self, atoms: Atoms, name: str) -> None:
        if len(atoms) == 0:
            raise ValueError(f'{name} has no atoms; leave it out')
        others = sorted(set(atoms.get_chemical_symbols()) - set(self.elements or chemical_symbols))
        if others:
            asked = ', '.join(self.elements or ())
            raise ValueError(f'{name} has {", ".join(others)}, but the elements are to be {asked}; add them, or leave '
                             'the frame out')  # fmt: skip


def _kind(atoms: Atoms) -> tuple[bytes, bytes, str]:
    """Return what is the same for all frames of a chunk."""
    return atoms.numbers.tobytes(), atoms.pbc.tobytes(), vacuum_axes(atoms)


def _chunks_of_run(frames: Iterable[tuple[int, Atoms]], file_index: int, run: int) -> Iterator[FrameChunk]:
    """Yield frames of the same atoms that follow each other, in chunks."""
    first, waiting = 0, list[tuple[int, Atoms]]()
    for frame in frames:
        waiting.append(frame)
        if len(waiting) == CHUNK_SIZE:
            yield _chunk(waiting, file_index, run, first)
            first, waiting = first + len(waiting), []
    if waiting:
        yield _chunk(waiting, file_index, run, first)


def _chunk(frames: Sequence[tuple[int, Atoms]], file_index: int, run: int, first: int) -> FrameChunk:
    numbers, structures = zip(*frames, strict=True)
    one = structures[0]
    return FrameChunk(
        numbers=one.numbers,
        positions=np.array([atoms.positions for atoms in structures]),
        cells=np.array([atoms.cell.array for atoms in structures]),
        pbc=one.pbc,
        folder_index=file_index,
        shard=cast(ShardEntry, {'replica': run, 'vacuum_axes': vacuum_axes(one)}),
        first=first,
        steps=np.array(numbers),
        energies=np.array([_energy(atoms) for atoms in structures]),
        temperatures=np.array([atoms.get_temperature() if atoms.has('momenta') else np.nan for atoms in structures]),
        max_forces=np.array([_largest_force(atoms) for atoms in structures]),
        disagreements=np.array([float(atoms.info.get('disagreement_eV_A', np.nan)) for atoms in structures]),
    )


def _results(atoms: Atoms) -> dict[str, Any]:
    return atoms.calc.results if atoms.calc is not None else {}


def _energy(atoms: Atoms) -> float:
    """Return the potential energy in eV; NaN if the file does not tell it."""
    return float(atoms.info.get('REF_energy', _results(atoms).get('energy', np.nan)))


def _largest_force(atoms: Atoms) -> float:
    """Return the norm of the largest force on an atom in eV/Å; NaN if the file does not tell it."""
    forces = atoms.arrays.get('REF_forces', _results(atoms).get('forces'))
    return float(np.linalg.norm(forces, axis=1).max()) if forces is not None else np.nan
