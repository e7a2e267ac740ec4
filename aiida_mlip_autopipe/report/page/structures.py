"""The structures of the candidates, for the viewer: Chemiscope's own format, made by Chemiscope.

G. Fraux, R. K. Cersonsky and M. Ceriotti, J. Open Source Softw. 5, 2117 (2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ase import Atoms

__all__ = ['structures_data']

#: Atoms in all structures together, at most: each costs some 30 bytes of the page.
MAX_ATOMS = 150_000
DECIMALS = 4


def structures_data(frames: Sequence[Atoms], max_atoms: int = MAX_ATOMS) -> tuple[dict[str, Any], list[int | None]]:
    """Return a data set of Chemiscope, and where in it each frame is.

    Parameters
    ----------
    frames : sequence of Atoms
        The last ones are taken first.
    max_atoms : int
        What is more is left out: its place is None.

    Returns
    -------
    dict
        For Chemiscope's StructureVisualizer; empty where there is no frame.
    list of int or None
        Of each frame.
    """
    import chemiscope

    kept: list[int] = []
    n_atoms = 0
    for number in reversed(range(len(frames))):
        n_atoms += len(frames[number])
        if n_atoms > max_atoms:
            break
        kept.append(number)
    kept.reverse()
    places: list[int | None] = [None] * len(frames)
    for place, number in enumerate(kept):
        places[number] = place
    if not kept:
        return {}, places
    shown = [_bare(frames[number]) for number in kept]
    properties = {'number of atoms': {'target': 'structure', 'values': [len(atoms) for atoms in shown]}}
    settings = {'structure': [{'unitCell': True, 'spaceFilling': False}]}
    data = chemiscope.create_input(
        shown, properties=properties, settings=settings, metadata={'name': 'candidates of the run'}
    )
    return data, places


def _bare(atoms: Atoms) -> Atoms:
    """Return what is drawn, with few digits."""
    return Atoms(
        atoms.numbers,
        positions=atoms.positions.round(DECIMALS),
        cell=atoms.cell.array.round(DECIMALS),
        pbc=atoms.pbc,
    )
