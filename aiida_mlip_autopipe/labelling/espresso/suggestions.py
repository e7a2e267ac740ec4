"""Parameters that follow from the elements: spins, and the cutoffs that the pseudopotential family recommends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aiida_mlip_autopipe.config.elements import unpaired_electrons
from aiida_mlip_autopipe.labelling.espresso.boundary import uncorrected_dipole
from aiida_mlip_autopipe.labelling.espresso.dispersion import dispersion_remark, missing_dispersion
from aiida_mlip_autopipe.labelling.espresso.hubbard import FIRST_WITH_CARD
from aiida_mlip_autopipe.labelling.espresso.magnetic_order import unknown_order
from aiida_mlip_autopipe.labelling.espresso.version import version_tuple
from aiida_mlip_autopipe.science.systems import magnetic_elements

if TYPE_CHECKING:
    from ase import Atoms

__all__ = [
    'missing_pseudos',
    'recipe_remarks',
    'suggested_cutoffs',
    'suggested_spins',
    'suggested_syntax',
    'version_problems',
]

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


def recipe_remarks(
    sources: Sequence[Atoms], given: Mapping[str, Any], cutoffs: Cutoffs, kpoints_distance: float
) -> dict[str, str]:
    """Return what to beware of in cutoffs, k-points, charge, dispersion, magnetic order and boundary, by key.

    Parameters
    ----------
    sources : sequence of Atoms
    given : mapping
        The section ``labelling`` as the user gave it, flat, with what follows from the structures.
    cutoffs : mapping
        The family's recommendation (wavefunctions, density) for each element, in Ry.
    kpoints_distance : float
        Of the protocol that is meant for production, in 1/Å.
    """
    found = {}
    known = sorted({symbol for atoms in sources for symbol in atoms.symbols if symbol in cutoffs})
    for place, key in enumerate(('ecutwfc_Ry', 'ecutrho_Ry')):
        asked = _number(given.get(key))
        hardest = max(known, key=lambda symbol: cutoffs[symbol][place], default=None)
        if asked is not None and hardest is not None and asked < (needed := cutoffs[hardest][place]) * (1 - 1e-6):
            found[key] = (
                f"below the family's {needed:g} Ry for {hardest}: energies, stress and bulk moduli may be off by tens "
                'of GPa; check the convergence'
            )
    distance = _number(given.get('kpoints_distance'))
    if distance is not None and distance > kpoints_distance * (1 + 1e-6):
        found['kpoints_distance'] = f'coarser than the {kpoints_distance:g} 1/Å of the protocol balanced'
    if remark := dispersion_remark(given.get('dispersion')) or missing_dispersion(sources, given):
        found['dispersion'] = remark
    if remark := unknown_order(sources, given):
        found['magnetic_order'] = remark
    if remark := uncorrected_dipole(sources, given.get('boundary')):
        found['boundary'] = remark
    if given.get('charge') and str(given.get('boundary', 'auto')) in ('auto', '3d'):
        found['charge'] = (
            'that of a periodic cell, which has a uniform background: energies of cells of different size cannot be '
            'compared, and the stress is that of the background, too; keep one cell, or give boundary: 2d or 0d'
        )
    return found


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def suggested_syntax(pw_version: str | None) -> dict[str, tuple[Any, str]]:
    """Return how pw.x is told of U; nothing where its version is not known."""
    if pw_version is None:
        return {}
    return {'hubbard_syntax': (_syntax(pw_version), f'pw.x is version {pw_version}')}


def version_problems(given: Mapping[str, Any], pw_version: str | None) -> list[str]:
    """Return what is wrong with the way in which pw.x is to be told of U, by its version."""
    if not any(key.startswith('hubbard.') for key in given):
        return []
    asked = given.get('hubbard_syntax')
    if pw_version is None:
        return (
            []
            if asked
            else [
                'labelling.hubbard: the version of pw.x is not known, and before 7.1 it is told of U in another way; '
                'run `mlip-autopipe init --pw PATH` if it is on this computer, or give labelling.hubbard_syntax: '
                'namelist (before 7.1) or card'
            ]
        )
    if asked in (None, _syntax(pw_version)):
        return []
    return [
        f'labelling.hubbard_syntax: {asked}, but pw.x is version {pw_version} and reads the {_syntax(pw_version)} (the '
        'card is read from 7.1 on; an older pw.x goes on without U); leave it out'
    ]


def _syntax(pw_version: str) -> str:
    return 'card' if version_tuple(pw_version) >= FIRST_WITH_CARD else 'namelist'


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
