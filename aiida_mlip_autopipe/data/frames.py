"""Frames as one node: seeds, candidates, labelled sets.

A set of frames is one extxyz file in the repository. Single frames never become nodes: a million of them would cost
gigabytes of database. What is asked often (how many, which elements, which level of theory) is an attribute.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from aiida.common.exceptions import ValidationError
from aiida.orm import SinglefileData
from ase import Atoms

from aiida_mlip_autopipe.science.frames import read_extxyz, write_extxyz

__all__ = ['FramesData']


class FramesData(SinglefileData):
    """An extxyz file of frames.

    Each frame carries ``frame_id`` and ``origin`` (the ``frame_id`` of the seed structure that it descends from) in
    its ``info``. Attributes: ``n_frames``, ``elements`` and, on labelled sets, ``label_fingerprint``.
    """

    FILENAME = 'frames.extxyz'

    @classmethod
    def from_atoms(cls, frames: Sequence[Atoms], label_fingerprint: str | None = None) -> FramesData:
        """Return an unstored node that holds ``frames``.

        :param frames: the frames; units Å, eV, eV/Å, eV/Å^3.
        :param label_fingerprint: what identifies the level of theory of the labels, if there are any.
        :raises ValueError: without a frame.
        """
        if not frames:
            raise ValueError('frames: an empty list; a FramesData contains at least one frame')
        with TemporaryDirectory() as folder:
            path = Path(folder) / cls.FILENAME
            write_extxyz(path, frames)
            node = cls(path)
        node._describe(frames)
        if label_fingerprint is not None:
            node.base.attributes.set('label_fingerprint', label_fingerprint)
        return node

    def get_atoms(self) -> list[Atoms]:
        """Return all frames; labels stay in ``info`` and ``arrays`` under their ``REF_`` names."""
        with self.as_path() as path:
            return read_extxyz(path)

    @property
    def n_frames(self) -> int:
        """Return the number of frames."""
        return self.base.attributes.get('n_frames')

    @property
    def elements(self) -> list[str]:
        """Return the chemical symbols that occur, sorted."""
        return self.base.attributes.get('elements')

    @property
    def label_fingerprint(self) -> str | None:
        """Return what identifies the level of theory of the labels; None on an unlabelled set."""
        return self.base.attributes.get('label_fingerprint', None)

    def store(self) -> Self:
        """Store the node, and count its frames first if it was made from a file."""
        if not self.is_stored and 'n_frames' not in self.base.attributes.all:
            self._describe(self.get_atoms())
        return super().store()

    def _describe(self, frames: Sequence[Atoms]) -> None:
        self.base.attributes.set('n_frames', len(frames))
        self.base.attributes.set('elements', sorted({symbol for atoms in frames for symbol in atoms.symbols}))

    def _validate(self) -> None:
        super()._validate()
        if self.base.attributes.get('n_frames', 0) < 1:
            raise ValidationError('n_frames: 0; a FramesData contains at least one frame')
