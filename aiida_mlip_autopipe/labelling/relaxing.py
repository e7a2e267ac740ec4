"""What of a labelling code relaxes the source of the seeds; a code without it leaves the source where it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from aiida_mlip_autopipe.labelling.answers import Task

if TYPE_CHECKING:
    from aiida.orm import Data, Dict
    from ase import Atoms

__all__ = ['Relaxing']


class Relaxing:
    """The part of a labelling code that relaxes structures, by default none.

    Attributes
    ----------
    relaxation_results : tuple of str
        The outputs of the process of `relaxation` that `relaxed` reads.
    """

    kind: ClassVar[str]
    relaxation_results: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def relaxation_problem(cls, what: str, atoms: Atoms, given: Mapping[str, Any], recommended: Any) -> str | None:
        """Return why it cannot relax what it is asked to of a structure, in words; None if it can.

        Parameters
        ----------
        what : str
            'cell' (and the positions in it), 'in-plane' (the cell in the plane of its periodic directions, and
            positions) or 'positions'.
        atoms : Atoms
            The structure.
        given : mapping
            The section ``labelling``.
        recommended : any
            As for `problems`.
        """
        return f'the labelling code {cls.kind} relaxes no structures'

    def pick_relaxation(self, atoms: Atoms, what: str) -> dict[str, Data]:
        """Return the inputs that are made for the relaxation of one structure, as new nodes that are not stored."""
        raise NotImplementedError(f'{self.kind} relaxes no structures')

    def relaxation_sampling(self, picked: Mapping[str, Data]) -> str | None:
        """Return the k-points among the inputs of a relaxation, in words; None if nothing follows from the cell."""
        return None

    def relaxation(self, picked: Mapping[str, Data], what: str, parameters: Dict, options: Mapping[str, Any]) -> Task:
        """Return the process that relaxes one structure; parameters are those of `single`."""
        raise NotImplementedError(f'{self.kind} relaxes no structures')

    def relaxed(self, outputs: Mapping[str, Data]) -> Atoms:
        """Return the structure in the `relaxation_results` of a process that ended well, its atoms in their order."""
        raise NotImplementedError(f'{self.kind} relaxes no structures')
