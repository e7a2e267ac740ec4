"""Parameters that follow from the elements: spins, and the cutoffs that the pseudopotential family recommends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiida_mlip_autopipe.config.elements import unpaired_electrons
from aiida_mlip_autopipe.science.systems import magnetic_elements

__all__ = ['missing_pseudos', 'suggested_cutoffs', 'suggested_spins']

Cutoffs = Mapping[str, tuple[float, float]]
MAX_NAMED = 12


def suggested_spins(elements: Sequence[str]) -> dict[str, tuple[Any, str]]:
    """Return whether the bulk is spin-polarised, and the unpaired electrons of each free atom."""
    magnetic = magnetic_elements(elements)
    reason = f'magnetic: {", ".join(magnetic)}' if magnetic else f'no magnetic element in {", ".join(elements)}'
    found: dict[str, tuple[Any, str]] = {'spin_polarised': (bool(magnetic), reason)}
    for symbol in elements:
        found[f'atomic_magnetization.{symbol}'] = (unpaired_electrons(symbol), 'ground state of the free atom')
    return found


def suggested_cutoffs(
    elements: Sequence[str], cutoffs: Cutoffs, factor: float, user_ecutwfc: Any
) -> dict[str, tuple[Any, str]]:
    """Return the highest of the elements' cutoffs; a density cutoff that keeps its ratio to a given wavefunction's."""
    scaled = '' if factor == 1 else f', times {factor:g}'
    hardest = max(elements, key=lambda symbol: cutoffs[symbol][0])
    densest = max(elements, key=lambda symbol: cutoffs[symbol][1])
    ecutwfc = float(cutoffs[hardest][0]) * factor
    ecutrho = float(cutoffs[densest][1]) * factor
    reason = f"the family's recommendation for {densest}{scaled}"
    if isinstance(user_ecutwfc, int | float) and not isinstance(user_ecutwfc, bool):
        ecutrho *= user_ecutwfc / ecutwfc
        reason = f"the family's ratio for {densest}, {ecutrho / user_ecutwfc:g} x ecutwfc_Ry"
    return {
        'ecutwfc_Ry': (ecutwfc, f"the family's recommendation for {hardest}{scaled}"),
        'ecutrho_Ry': (max(ecutrho, 4 * ecutwfc) if user_ecutwfc is None else ecutrho, reason),
    }


def missing_pseudos(elements: Iterable[str], cutoffs: Cutoffs, family: str) -> list[str]:
    """Return a problem if the family has no pseudopotential for an element."""
    missing = [symbol for symbol in elements if symbol not in cutoffs]
    if not missing:
        return []
    return [
        f'labelling.pseudo_family: {family!r} has no pseudopotential for {", ".join(missing)} (it has '
        f'{_some(sorted(cutoffs))}); give the label of a family that has it (`aiida-pseudo install sssp`), or a '
        'folder of UPF files to `mlip-autopipe init --pseudos`'
    ]


def _some(names: Sequence[str]) -> str:
    if not names:
        return 'none'
    return ', '.join(names[:MAX_NAMED]) + (f' and {len(names) - MAX_NAMED} more' if len(names) > MAX_NAMED else '')
