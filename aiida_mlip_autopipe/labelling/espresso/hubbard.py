"""DFT+U: the manifolds, what each version of pw.x can be asked, and how it is asked.

Up to version 7.0 the namelist SYSTEM has U by species and the manifold is built in; from 7.1 on there is a card
HUBBARD, which an older pw.x ignores with a line in its output. So the form is chosen by the version.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ase.data import atomic_numbers

__all__ = [
    'FIRST_WITH_CARD',
    'U_IGNORED',
    'hubbard_card',
    'hubbard_entries',
    'hubbard_problems',
    'manifolds',
    'missing_orbitals',
    'refused_projector',
]

FIRST_WITH_CARD = (7, 1)
U_IGNORED = (
    'pw.x computed it without U: its version does not know the way in which it is told (labelling.hubbard_syntax: card '
    'is for 7.1 and newer, namelist for older ones)'
)
FORM = re.compile(r'(?P<element>[A-Z][a-z]?)-(?P<manifold>[1-7][spdf])')
NOBLE = (2, 10, 18, 36, 54, 86, 118)
D_BLOCK = {4: 21, 5: 39, 6: 57, 7: 89}  # the first element of a period with d electrons
F_BLOCK = {6: 57, 7: 89}
#: The manifolds that pw.x 6.7 has built in (set_hubbard_l.f90, set_hubbard_n.f90).
BUILT_IN = {
    '1s': 'H',
    '2p': 'C N O',
    '3d': 'Ti V Cr Mn Fe Co Ni Cu Zn Ga',
    '4d': 'Zr Nb Mo Tc Ru Rh Pd Ag Cd In',
    '5d': 'Hf Ta W Re Os Ir Pt Au Hg',
    '4f': 'Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu',
    '5f': 'Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr',
}
NO_FORCES = 'pw.x has no forces with it, and labels need them; give atomic or ortho-atomic'
REFUSED_PROJECTORS = dict.fromkeys(('norm-atomic', 'file', 'pseudo', 'wannier', 'wannier-functions'), NO_FORCES)


def refused_projector(value: Any) -> Any:
    """Refuse by its name a projector without forces."""
    if isinstance(value, str) and value.lower() in REFUSED_PROJECTORS:
        raise ValueError(f'{value!r}: {REFUSED_PROJECTORS[value.lower()]}')
    return value


def manifolds(hubbard: Mapping[str, float]) -> dict[str, tuple[str, float]]:
    """Return the manifold ('3d') and U (eV) of each element, of ``{'Ni-3d': 6.0}``."""
    parts = ((key.split('-'), value) for key, value in hubbard.items())
    return {element: (manifold, value) for (element, manifold), value in parts}


def hubbard_problems(hubbard: Mapping[str, float], syntax: str) -> Iterator[str]:
    """Yield what is wrong with the values of U: the form, the element, its valence, and what the version can."""
    from aiida_mlip_autopipe.config.elements import element_problems

    seen: dict[str, str] = {}
    for key in hubbard:
        match = FORM.fullmatch(key)
        if match is None:
            yield f"{key}: write it as ELEMENT-MANIFOLD, as in 'Ni-3d: 6.0'"
            continue
        element, manifold = match['element'], match['manifold']
        if unknown := element_problems([element]):
            yield f'{key}: {unknown[0]}'
        elif manifold not in (valence := _valence(element)):
            yield f'{key}: {manifold} is no valence shell of {element}; it has {", ".join(valence)}'
        elif element in seen:
            yield f'{key}: {seen[element]} is given, too; give one manifold for each element'
        elif syntax == 'namelist' and element not in BUILT_IN.get(manifold, '').split():
            yield f'{key}: {_not_built_in(element)}'
        seen[element] = key


def _valence(element: str) -> list[str]:
    """Return the shells of an element that bonds are made of."""
    number = atomic_numbers[element]
    period = next(one for one, last in enumerate(NOBLE, start=1) if number <= last)
    found = [f'{period}s'] + ([f'{period}p'] if period > 1 else [])
    found += [f'{period - 1}d'] if number >= D_BLOCK.get(period, 999) else []
    return found + ([f'{period - 2}f'] if number >= F_BLOCK.get(period, 999) else [])


def _not_built_in(element: str) -> str:
    own = next((manifold for manifold, names in BUILT_IN.items() if element in names.split()), None)
    what = f'has only {own} for {element}' if own else f'has none for {element}'
    return (
        f'pw.x before 7.1 has the manifold built in, and {what}; change it, or use pw.x 7.1 or newer (`mlip-autopipe '
        'init --pw PATH` finds the version)'
    )


def missing_orbitals(hubbard: Mapping[str, float], orbitals: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Return the manifolds that a pseudopotential has no atomic orbital for: pw.x would have nothing to project on.

    Parameters
    ----------
    hubbard : mapping
        Manifold, as 'Ni-3d' -> U, in eV.
    orbitals : mapping
        Element -> orbitals in the file of its pseudopotential.
    """
    return [
        f'labelling.hubbard.{element}-{manifold}: the pseudopotential of {element} has no orbital {manifold} (it has '
        f'{", ".join(orbitals[element]) or "none"}); choose a family whose file has it'
        for element, (manifold, _) in manifolds(hubbard).items()
        if element in orbitals and manifold not in orbitals[element]
    ]


def hubbard_entries(
    hubbard: Mapping[str, float], projector: str, syntax: str, species: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Return the entries of namelists for one structure; none where the card says it, or no element has a U."""
    given = manifolds(hubbard)
    values = {name: given[element][1] for name, element in species.items() if element in given}
    if syntax == 'card' or not values:
        return {}
    return {'SYSTEM': {'lda_plus_u': True, 'u_projection_type': projector, 'hubbard_u': values}}


def hubbard_card(hubbard: Mapping[str, float], projector: str, syntax: str, species: Mapping[str, str]) -> list[str]:
    """Return the lines of the card HUBBARD for one structure; none for a pw.x that does not know it."""
    given = manifolds(hubbard)
    lines = [
        f'U {name}-{given[element][0]} {given[element][1]}' for name, element in species.items() if element in given
    ]
    return [f'HUBBARD {projector}', *lines] if lines and syntax == 'card' else []
