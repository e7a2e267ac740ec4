"""How a physics check is written, and what all of them share: labels, the rows of tables, the names of structures.

A check is one `Check` in a module of its own: the structures that need a label, and the comparison. Its name is that
of its entry point in the group ``aiida_mlip_autopipe.physics_checks`` and one of ``physics.checks``. It takes sizes and
tolerances from the parameters of the physics. One of another package::

    def structures(crystal, parameters):
        doubled = crystal.repeat((2, 1, 1))
        return [named(doubled, 'doubled', crystal.info['frame_id'])]

    def judge(context):
        (doubled,) = context.frames('doubled')
        energies = [side[doubled.info['frame_id']].energy / len(doubled) for side in context.sides]
        return Judgement([row('energy', 'eV/atom', *energies)], uncertainty='none')

    def sentence(parameters):
        return 'The energy of a doubled cell was compared with DFT.'

    CHECK = Check(structures, judge, sentence, about='Energy of a doubled cell.')

and in its ``pyproject.toml``::

    [project.entry-points."aiida_mlip_autopipe.physics_checks"]
    doubled = "my_package.doubled:CHECK"
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from aiida_mlip_autopipe.science.drawing import Drawing
from aiida_mlip_autopipe.science.evaluation.records import Row
from aiida_mlip_autopipe.science.frames import structure_hash
from aiida_mlip_autopipe.science.label import Label
from aiida_mlip_autopipe.science.parameters import PhysicsParameters
from aiida_mlip_autopipe.science.references import Reference
from aiida_mlip_autopipe.science.systems import is_isolated_atom

__all__ = [
    'Check',
    'Context',
    'Judgement',
    'Label',
    'MissingLabelsError',
    'jackknife',
    'named',
    'percent_of',
    'row',
    'strained',
]


class MissingLabelsError(ValueError):
    """Too few structures of a check have a label, so that it cannot be made."""


@dataclass(frozen=True)
class Context:
    """What a check has to go by.

    Attributes
    ----------
    calculator : Calculator
        The potential.
    pristine : Atoms
        The crystal.
    labelled : sequence of Atoms
        All structures that have a label, with ``check`` and ``frame_id`` in ``info``; and isolated atoms.
    predicted, reference : mapping
        ``frame_id`` -> what the potential and DFT say of it.
    parameters : PhysicsParameters
        Sizes and tolerances.
    """

    calculator: Calculator
    pristine: Atoms
    labelled: Sequence[Atoms]
    predicted: Mapping[str, Label]
    reference: Mapping[str, Label]
    parameters: PhysicsParameters

    @property
    def sides(self) -> tuple[Mapping[str, Label], Mapping[str, Label]]:
        """Return the labels of the potential and of DFT, in this order."""
        return self.predicted, self.reference

    def frames(self, check: str) -> list[Atoms]:
        """Return the labelled structures that were made for a check."""
        return [atoms for atoms in self.labelled if atoms.info.get('check') == check]

    @property
    def isolated_atoms(self) -> dict[str, Atoms]:
        """Return the isolated atoms that have a label, by their elements."""
        return {atoms.symbols[0]: atoms for atoms in self.labelled if is_isolated_atom(atoms)}


@dataclass(frozen=True)
class Judgement:
    """The outcome of a check.

    Attributes
    ----------
    rows : list of dict
        As `row` makes them.
    uncertainty : str
        Where the error bars come from.
    data : dict
        Further numbers.
    figure : dict
        What the figure of the check shows; empty: none.
    note : str
        What a reader must know.
    """

    rows: list[Row]
    uncertainty: str
    data: dict[str, object] = field(default_factory=dict)
    figure: dict[str, object] = field(default_factory=dict)
    note: str = ''


@dataclass(frozen=True)
class Check:
    """A check.

    Attributes
    ----------
    structures : callable
        The crystal and the parameters -> the structures that need a label beside the crystal itself.
    judge : callable
        The comparison. It may raise `MissingLabelsError`, and is then told as not judged.
    sentence : callable
        What the methods section of a paper says.
    about : str
        What is checked, in a line.
    references : tuple of Reference
        The publications that the sentence cites.
    n_steps : callable
        Steps of molecular dynamics with the potential, with ``supercell_atoms`` atoms.
    draw : callable, optional
        Draws the ``figure`` of a `Judgement` on axes of matplotlib.
    needs_filled_cell : bool
        Whether the crystal must fill its cell: not a slab, nor molecules in a box.
    needs_isolated_atoms : bool
        Whether it takes the labels of isolated atoms, which a run has of each element.
    rank : int
        Checks are made in this order.
    """

    structures: Callable[[Atoms, PhysicsParameters], list[Atoms]]
    judge: Callable[[Context], Judgement]
    sentence: Callable[[PhysicsParameters], str]
    about: str
    references: tuple[Reference, ...] = ()
    n_steps: Callable[[PhysicsParameters], int] = lambda parameters: 0
    draw: Drawing | None = None
    needs_filled_cell: bool = True
    needs_isolated_atoms: bool = False
    rank: int = 100


def row(
    name: str,
    unit: str,
    value: float | None,
    reference: float | None = None,
    *,
    difference: float | None = None,
    uncertainty: float | None = None,
    tolerance: float | None = None,
    passed: bool | None = None,
) -> Row:
    """Return a row of the table of a check.

    Parameters
    ----------
    name, unit : str
        Of the property.
    value, reference : float or None
        Of the potential, and of DFT; None: there is none.
    difference : float, optional
        By default value - reference.
    uncertainty : float, optional
        Error bar of the difference (one standard deviation).
    tolerance : float, optional
        Bound of the absolute difference, or of the value where there is no reference.
    passed : bool, optional
        By default whether the tolerance holds; None without a tolerance.
    """
    if difference is None and value is not None and reference is not None:
        difference = value - reference
    judged = difference if difference is not None else value
    if passed is None and tolerance is not None:
        passed = judged is not None and abs(judged) <= tolerance
    return {
        'name': name,
        'value': _plain(value),
        'reference': _plain(reference),
        'difference': _plain(difference),
        'uncertainty': _plain(uncertainty),
        'tolerance': _plain(tolerance),
        'passed': None if passed is None else bool(passed),
        'unit': unit,
    }


def _plain(number: float | None) -> float | None:
    return None if number is None or not np.isfinite(number) else float(number)


def percent_of(percent: float | None, reference: float | None) -> float | None:
    """Return a tolerance in percent in the unit of its reference."""
    return None if percent is None or reference is None else percent / 100 * abs(reference)


def jackknife(estimate: Callable[[np.ndarray], np.ndarray], n_parts: int) -> np.ndarray:
    """Return the standard errors of an estimate by leaving out one part of the data after the other.

    Parameters
    ----------
    estimate : callable
        Takes the indices of the parts that are kept; returns an array.
    n_parts : int
        Number of parts.

    Notes
    -----
    B. Efron, The Jackknife, the Bootstrap and Other Resampling Plans (1982), chapter 3.
    """
    parts = np.arange(n_parts)
    left_out = np.array([estimate(np.delete(parts, part)) for part in parts])
    return np.sqrt((n_parts - 1) * left_out.var(axis=0))


def strained(atoms: Atoms, check: str, crystal: Atoms, **where: object) -> Atoms:
    """Return a strained crystal with its identity in ``info``, and the lengths that its k-points follow.

    They are those of the reciprocal vectors of the crystal (1/Å, with 2 pi): each strain gets the same mesh, as
    energies and stresses of different ones do not lie on one curve.
    """
    lengths = 2 * np.pi * np.linalg.norm(crystal.cell.reciprocal(), axis=1)
    return named(atoms, check, crystal.info['frame_id'], reciprocal_lengths=lengths, **where)


def named(atoms: Atoms, check: str, origin: str, **where: object) -> Atoms:
    """Return the structure of a check with its identity in ``info``.

    Parameters
    ----------
    atoms : Atoms
        Structure.
    check : str
        What it is for.
    origin : str
        ``frame_id`` of the crystal.
    **where
        What finds it again: strain, displacement.
    """
    digest = structure_hash(atoms)
    atoms.info = {
        'frame_id': f'physics-{check}-{digest}',
        'origin': origin,
        'config_type': 'physics',
        'check': check,
        **where,
    }
    return atoms
