"""What follows from what the structures are: values that must not be a protocol's, and what cannot be asked for.

A method says itself what it needs: an ensemble whether structures must fill their cell, a physics check likewise, a
way of making seeds which of its parameters leave the cell alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ase.formula import Formula

from aiida_mlip_autopipe.science.registry import ENSEMBLES, GENERATORS, PHYSICS_CHECKS
from aiida_mlip_autopipe.science.systems.dimensionality import Dimensionality

__all__ = ['NO_STRESS', 'Consequence', 'consequences', 'refused']

ENSEMBLE, PRESSURES, STRAINS = 'exploration.ensemble', 'exploration.pressures_GPa', 'exploration.strains'
STRESS, CHECKS, BONDS = 'evaluation.max_stress_rmse_GPa', 'physics.checks', 'exploration.guards.max_bond_stretch'
MAX_BOND_STRETCH = 2.0
"""A bond of a molecule that is twice as long as the sum of the covalent radii is broken: vibration stays below 1.4."""

OF_MOLECULES = frozenset(('H', 'B', 'C', 'N', 'O', 'F', 'Si', 'P', 'S', 'Cl', 'As', 'Se', 'Br', 'I'))

NO_STRESS = 'no label has a stress, as that of a cell with vacuum depends on the cell'


class Consequence(NamedTuple):
    """A value and why it must be so."""

    value: Any
    reason: str


def consequences(found: Sequence[Dimensionality]) -> dict[str, Consequence]:
    """Return, by key of the input, the values that follow from the structures; they stand above a protocol's.

    Parameters
    ----------
    found : sequence of Dimensionality
        Of the sources of a run.
    """
    values: dict[str, Consequence] = {}
    if with_vacuum := _first(found, lambda one: bool(one.vacuum_axes)):
        fixed = next(name for name, one in ENSEMBLES.items() if not one.needs_periodic_cell)
        values[ENSEMBLE] = Consequence(fixed, f'{with_vacuum}: a barostat would close it')
        values[PRESSURES] = Consequence([0.0], 'there is no pressure with vacuum')
    if all(one.vacuum_axes for one in found):
        values[STRESS] = Consequence(None, NO_STRESS)
    if all(one.vacuum_axes == 'abc' for one in found):
        values |= {
            key: Consequence(value, 'a box of molecules has no cell to strain') for key, value in _unstrained().items()
        }
    if all(one.is_molecular and not _has_metal(one) for one in found):
        values[BONDS] = Consequence(MAX_BOND_STRETCH, f'{found[0].kind}: a bond this long is broken')
    return values


def refused(found: Sequence[Dimensionality], given: Mapping[str, Any]) -> list[str]:
    """Return what the user asks for that these structures cannot have, each with the way out.

    Parameters
    ----------
    found : sequence of Dimensionality
        Of the sources of a run.
    given : mapping
        What the user gave, flat.
    """
    with_vacuum = _first(found, lambda one: bool(one.vacuum_axes))
    problems = [] if with_vacuum is None else _refused_with_vacuum(with_vacuum, given)
    if given.get(STRESS) is not None and all(one.vacuum_axes for one in found):
        problems.append(f'{STRESS}: {given[STRESS]} can never be met: {NO_STRESS}; remove it')
    molecule = _first(found, lambda one: one.vacuum_axes == 'abc')
    if molecule is None:
        return problems
    if isinstance(given.get(STRAINS), list) and any(given[STRAINS]):
        problems.append(f'{STRAINS}: {given[STRAINS]} strains the cell, but a source is a {molecule}; remove it')
    alone = all(one.vacuum_axes == 'abc' for one in found)
    for key, value in _unstrained(makes_none=not alone).items():
        if given.get(key, value) != value:
            problems.append(f'{key}: {given[key]} strains the cell, but a source is a {molecule}; set it to {value}')
        elif not alone and key not in given:
            problems.append(
                f'{key}: a source is a {molecule}, which has no cell to strain, and others have one; set {key} to '
                f'{value}, or give molecules in a run of their own'
            )
    return problems


def _refused_with_vacuum(with_vacuum: Dimensionality, given: Mapping[str, Any]) -> list[str]:
    problems = []
    ensemble = given.get(ENSEMBLE)
    if isinstance(ensemble, str) and ensemble in ENSEMBLES and ENSEMBLES[ensemble].needs_periodic_cell:
        others = ' or '.join(name for name, one in ENSEMBLES.items() if not one.needs_periodic_cell)
        problems.append(
            f'{ENSEMBLE}: {ensemble!r} needs a cell that is filled, but a source is a {with_vacuum}, which a barostat '
            f'would close; use {others}'
        )
    if isinstance(given.get(PRESSURES), list) and any(given[PRESSURES]):
        problems.append(
            f'{PRESSURES}: {given[PRESSURES]}, but a source is a {with_vacuum}: there is no pressure; remove it, or '
            'give a source without vacuum'
        )
    checks = given.get(CHECKS)
    known = [name for name in checks if name in PHYSICS_CHECKS] if isinstance(checks, list) else []
    if bulk := [name for name in known if PHYSICS_CHECKS[name].needs_filled_cell]:
        rest = [name for name in known if name not in bulk]
        problems.append(
            f'{CHECKS}: {", ".join(bulk)} need a crystal that fills its cell, but the source is a {with_vacuum}; '
            f'{"leave these out" if rest else "remove the checks"}'
        )
    return problems


def _unstrained(makes_none: bool = False) -> dict[str, Any]:
    """Return the keys of ways of making seeds that strain the cell, and the values with which they do not.

    ``makes_none``: of those alone that make nothing then.
    """
    changes = {name: (method, method.leaving_the_cell()) for name, method in GENERATORS.items()}
    return {
        f'generation.{name}.{key}': value
        for name, (method, values) in changes.items()
        if not makes_none or method(**values).count() == 0
        for key, value in values.items()
    }


def _has_metal(found: Dimensionality) -> bool:
    """Return whether a molecule has atoms other than those of molecules: a cluster of metal changes its bonds."""
    return not {symbol for name in found.molecules for symbol in Formula(name).count()} <= OF_MOLECULES


def _first(found: Sequence[Dimensionality], is_meant: Any) -> Dimensionality | None:
    return next((one for one in found if is_meant(one)), None)
