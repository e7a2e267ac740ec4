"""Where frames to choose from are: in the shards of MD jobs, or in files. Each way gives the same chunks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from aiida_mlip_autopipe.science.frames.manifest import read_manifest
from aiida_mlip_autopipe.science.frames.reading import FrameChunk, iter_chunks, load_frames

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ['FrameSource', 'ShardFrames']

#: What the frames of a group have in common, and which entries of a shard say it.
GROUPS = {
    'trajectory': ('folder_index', 'replica'),
    'temperature': ('temperature_K', 'temperature_end_K'),
    'pressure': ('pressure_GPa',),
    'seed': ('seed_id',),
}


class FrameSource(ABC):
    """Frames that are read in chunks, again and again, and loaded one by one.

    Attributes
    ----------
    n_frames : int
        At least one.
    species : list of int
        All atomic numbers that occur, ascending.
    """

    n_frames: int
    species: list[int]

    @abstractmethod
    def chunks(self) -> Iterator[FrameChunk]:
        """Yield all frames in order, never more than a chunk of them held."""

    @abstractmethod
    def load(self, indices: ArrayLike) -> list[Atoms]:
        """Return single frames by their place in that order, with ``info`` that tells where they come from."""

    @abstractmethod
    def groups(self, group_by: str) -> np.ndarray:
        """Return the group of each frame as a number, (n_frames,), int32."""


class ShardFrames(FrameSource):
    """The frames of MD jobs: folders in order, shards in the manifest's order, frames in time.

    Parameters
    ----------
    folders : sequence of pathlib.Path
        Each with a manifest.

    Raises
    ------
    ManifestError
        If a manifest or a shard is missing or differs from what was written.
    ValueError
        If there is no frame.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._shards: list[dict[str, Any]] = [
            {**shard, 'folder_index': index}
            for index, folder in enumerate(folders)
            for shard in read_manifest(folder)['shards']
        ]
        self.n_frames = sum(shard['n_frames'] for shard in self._shards)
        if not self.n_frames:
            raise ValueError(
                f'the {len(folders)} folders {[Path(folder).name for folder in folders]} hold no frame; run the MD '
                'for longer or look at the guards that ended it'
            )
        self.species = self._species()

    def chunks(self) -> Iterator[FrameChunk]:
        """Yield all frames in chunks."""
        return iter_chunks(self._folders)

    def load(self, indices: ArrayLike) -> list[Atoms]:
        """Return single frames as candidates."""
        return load_frames(self._folders, indices)

    def groups(self, group_by: str) -> np.ndarray:
        """Return the group of each frame, as its shard tells it."""
        names = [str([shard[entry] for entry in GROUPS[group_by]]) for shard in self._shards]
        _, numbers = np.unique(names, return_inverse=True)
        return np.repeat(numbers.astype(np.int32), [shard['n_frames'] for shard in self._shards])

    def _species(self) -> list[int]:
        """Return the atomic numbers of all shards: those of the first frame of each."""
        ends = np.cumsum([shard['n_frames'] for shard in self._shards])
        starts = [
            int(end - shard['n_frames']) for end, shard in zip(ends, self._shards, strict=True) if shard['n_frames']
        ]
        return sorted({int(number) for atoms in self.load(starts) for number in atoms.numbers})
