"""The magnetic order of the source structures: from the file, by species, or made; and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aiida_mlip_autopipe.labelling.espresso.magnetism import MOST_SPECIES, SITE_ORDERS
from aiida_mlip_autopipe.science.systems import (
    INITIAL_MOMENTS,
    dimensionality,
    has_moments,
    largest_moment,
    magnetic_elements,
    order_in_words,
)
from aiida_mlip_autopipe.science.systems.moments import antiferromagnetic_signs

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ['MOMENTS', 'ordered', 'orders_to_try', 'suggested_order', 'unknown_order', 'without_moments']

ORDER, MOMENTS = 'magnetic_order', 'magnetic_moments.'
TRIED = ('ferromagnetic', 'antiferromagnetic')


def ordered(sources: Sequence[Atoms], order: str, moments: Mapping[str, float]) -> list[Atoms]:
    """Return copies of source structures with the initial moments of an order, or without any.

    Parameters
    ----------
    sources : sequence of Atoms
    order : str
        ``magnetic_order`` of the labels.
    moments : mapping
        Element, or element and tag ('Ni1'), -> moment in µB.

    Raises
    ------
    ValueError
        If a structure does not have the moments, cannot have the order, or has another one than the others.
    """
    copies = [atoms.copy() for atoms in sources]
    by_species = {name: moment for name, moment in moments.items() if name[-1:].isdigit()}
    for number, atoms in enumerate(copies):
        try:
            found = _moments_of(atoms, order, moments, by_species)
        except ValueError as error:
            raise ValueError(f'labelling.{ORDER}: {order}; structure {number} ({atoms.symbols}): {error}') from error
        atoms.arrays.pop(INITIAL_MOMENTS, None)
        if found is not None:
            atoms.set_initial_magnetic_moments(found)
    signs = {_is_compensated(atoms) for atoms in copies if has_moments(atoms)}
    if len(signs) > 1:
        raise ValueError(
            f'labelling.{ORDER}: {order}, but some structures have parallel moments and others antiparallel ones; a '
            'potential cannot tell them apart: make one data set for each order'
        )
    return copies


def without_moments(sources: Sequence[Atoms]) -> list[Atoms]:
    """Return copies of source structures without initial moments."""
    copies = [atoms.copy() for atoms in sources]
    for atoms in copies:
        atoms.arrays.pop(INITIAL_MOMENTS, None)
    return copies


def orders_to_try(source: Atoms, moments: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """Return the parameters of each magnetic order that a crystal may have, by the name of the order.

    Raises
    ------
    ValueError
        If its cell does not hold an antiferromagnetic order, or no atom of it is expected to carry a moment.
    """
    found: dict[str, dict[str, Any]] = {}
    for order in TRIED:
        (start,) = ordered([source], order, moments)
        pattern = {'magnetic_pattern': order_in_words(start)} if has_moments(start) else {}
        found[order] = {ORDER: order, **pattern}
    return {**found, 'non_magnetic': {ORDER: 'non_magnetic', 'spin_polarised': False, 'magnetic_moments': {}}}


def _moments_of(
    atoms: Atoms, order: str, moments: Mapping[str, float], by_species: Mapping[str, float]
) -> np.ndarray | None:
    """Return the moments of the atoms, (N,), or None where those of the elements do."""
    if by_species:
        return _by_species(atoms, moments)
    symbols = sorted(set(map(str, atoms.symbols)))
    magnetic = [one for one in symbols if one in moments] or magnetic_elements(symbols)
    if order in TRIED and not magnetic:
        raise ValueError(
            f'none of its elements ({", ".join(symbols)}) is expected to carry a moment; give magnetic_moments, or '
            'leave the order out'
        )
    if order == 'from_file':
        if not has_moments(atoms):
            raise ValueError(
                f'it has no initial moments (array {INITIAL_MOMENTS}); write them into the structure file, or give '
                'magnetic_moments'
            )
        return _few_values(atoms)
    if order == 'antiferromagnetic':
        sizes = [moments.get(one, largest_moment(one)) if one in magnetic else 0.0 for one in map(str, atoms.symbols)]
        return antiferromagnetic_signs(atoms, np.abs(sizes))
    return None


def _few_values(atoms: Atoms) -> np.ndarray:
    """Return the initial moments of a structure, (N,), rounded so that pw.x has species enough for them."""
    for n_digits in (2, 1):
        moments = np.round(atoms.get_initial_magnetic_moments(), n_digits)
        n_species = len(set(zip(map(str, atoms.symbols), moments.tolist(), strict=True)))
        if n_species <= MOST_SPECIES:
            return moments
    raise ValueError(
        f'it has {n_species} different initial moments by element, to 0.1 µB; pw.x takes {MOST_SPECIES} species: give '
        'fewer values in the structure file'
    )


def _by_species(atoms: Atoms, moments: Mapping[str, float]) -> np.ndarray:
    tags = atoms.get_tags()
    names = [f'{symbol}{tag}' if tag else str(symbol) for symbol, tag in zip(atoms.symbols, tags, strict=True)]
    if unknown := sorted({name for name in moments if name[-1:].isdigit()} - set(names)):
        raise ValueError(
            f'magnetic_moments names {", ".join(unknown)}, but its species are {", ".join(sorted(set(names)))}: the '
            'number is the tag of an atom (ASE), or belongs to the name of a kind (StructureData)'
        )
    found = [moments.get(name, moments.get(str(one), 0.0)) for name, one in zip(names, atoms.symbols, strict=True)]
    return np.array(found, dtype=float)


def _is_compensated(atoms: Atoms) -> bool:
    """Return whether there are moments of both signs."""
    moments = atoms.get_initial_magnetic_moments()
    return bool((moments > 0).any() and (moments < 0).any())


def suggested_order(sources: Sequence[Atoms], given: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    """Return what follows from the moments of the sources and what is given, each with its reason.

    Parameters
    ----------
    sources : sequence of Atoms
    given : mapping
        The section ``labelling`` of the input, flat.

    Raises
    ------
    ValueError
        As `ordered`.
    """
    found: dict[str, tuple[Any, str]] = {}
    order = given.get(ORDER)
    moments = {key.removeprefix(MOMENTS): value for key, value in given.items() if key.startswith(MOMENTS)}
    moments = {name: value for name, value in moments.items() if isinstance(value, int | float)}
    if order is None and given.get('spin_polarised') is not False and any(map(has_moments, sources)):
        if moments:
            raise ValueError(
                'labelling.magnetic_moments: given, but the structure has initial moments, too; remove them to take '
                'those of the structure, or give magnetic_order (auto, ferromagnetic, antiferromagnetic) to pass them '
                'over'
            )
        order = 'from_file'
        found[ORDER] = (order, 'the structure has initial moments')
    if order in (*SITE_ORDERS, 'ferromagnetic', 'non_magnetic', 'try') or moments:
        polarised = order != 'non_magnetic'
        found['spin_polarised'] = (polarised, f'{ORDER}: {order}' if order else 'magnetic_moments are given')
    if order == 'non_magnetic' or given.get('spin_polarised') is False:
        return found
    if order == 'try':
        if len(sources) > 1:
            raise ValueError(f'labelling.{ORDER}: try, but there are {len(sources)} structures; give one, or the order')
        orders_to_try(sources[0], moments)
        return found
    copies = ordered(sources, order or 'auto', moments)
    if copies and has_moments(copies[0]):
        found['magnetic_pattern'] = (order_in_words(copies[0]), 'of the structure')
    return found


def unknown_order(sources: Sequence[Atoms], given: Mapping[str, Any]) -> str | None:
    """Return what to beware of where the moments of a solid start parallel because nothing else was asked for.

    Parameters
    ----------
    sources : sequence of Atoms
    given : mapping
        The section ``labelling`` of the input, flat, with what follows from the structures.
    """
    if given.get(ORDER, 'auto') != 'auto' or given.get('spin_polarised') is False:
        return None
    if any(key.startswith(MOMENTS) for key in given):
        return None
    for atoms in sources:
        magnetic = magnetic_elements(sorted(set(atoms.symbols)))
        if magnetic and _is_extended(atoms):
            return (
                f'a guess: the moments of {", ".join(magnetic)} start parallel, and an antiferromagnet is labelled as '
                'a ferromagnet, or without moments; give the order, or `try`, which compares the energies of three'
            )
    return None


def _is_extended(atoms: Atoms) -> bool:
    """Return whether atoms are bonded across the cell: a crystal, a layer or a chain."""
    try:
        _, chains, layers, networks = dimensionality(atoms).n_bonded
    except ValueError:  # which is told already
        return False
    return chains + layers + networks > 0
