"""The level of theory in words: for a paper, and as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from aiida_mlip_autopipe.labelling.espresso.functionals import input_dft
from aiida_mlip_autopipe.labelling.espresso.magnetism import order_words
from aiida_mlip_autopipe.labelling.espresso.parameters import EspressoParameters
from aiida_mlip_autopipe.labelling.espresso.recipe_words import recipe_references, recipe_rows, recipe_words
from aiida_mlip_autopipe.labelling.espresso.upf import header_of
from aiida_mlip_autopipe.science.references import Reference

if TYPE_CHECKING:
    from aiida_pseudo.data.pseudo import UpfData

__all__ = ['references', 'rows', 'sentence']

DOI = 'https://doi.org/'
PROGRAM = (
    Reference(
        'P. Giannozzi et al., J. Phys.: Condens. Matter 21, 395502 (2009)', f'{DOI}10.1088/0953-8984/21/39/395502'
    ),
    Reference('P. Giannozzi et al., J. Phys.: Condens. Matter 29, 465901 (2017)', f'{DOI}10.1088/1361-648X/aa8f79'),
)
FUNCTIONALS = {
    'pbe': Reference(
        'J. P. Perdew, K. Burke, M. Ernzerhof, Phys. Rev. Lett. 77, 3865 (1996)', f'{DOI}10.1103/PhysRevLett.77.3865'
    ),
    'pbesol': Reference(
        'J. P. Perdew et al., Phys. Rev. Lett. 100, 136406 (2008)', f'{DOI}10.1103/PhysRevLett.100.136406'
    ),
}
COLD_SMEARING = Reference(
    'N. Marzari, D. Vanderbilt, A. De Vita, M. C. Payne, Phys. Rev. Lett. 82, 3296 (1999)',
    f'{DOI}10.1103/PhysRevLett.82.3296',
)
SSSP = Reference(
    'G. Prandini, A. Marrazzo, I. E. Castelli, N. Mounet, N. Marzari, npj Comput. Mater. 4, 72 (2018)',
    f'{DOI}10.1038/s41524-018-0127-2',
)
DOJO = Reference('M. J. van Setten et al., Comput. Phys. Commun. 226, 39 (2018)', f'{DOI}10.1016/j.cpc.2018.01.012')
PSLIBRARY = Reference('A. Dal Corso, Comput. Mater. Sci. 95, 337 (2014)', f'{DOI}10.1016/j.commatsci.2014.07.043')


def sentence(asked: EspressoParameters, pseudos: Mapping[str, UpfData]) -> str:
    """Return what the methods section of a paper says of the labels."""
    return (
        f'Labels (energy, forces, stress) are from pw.x of Quantum ESPRESSO, {_functional(asked, pseudos)}, '
        f'{order_words(asked)}, '
        f'{asked.smearing} smearing of {asked.degauss_Ry:g} Ry, cutoffs of {asked.ecutwfc_Ry:g} and '
        f'{asked.ecutrho_Ry:g} Ry, k-points at most {asked.kpoints_distance:g} Å⁻¹ apart, {recipe_words(asked)}'
        f'with the pseudopotentials {_files(pseudos)} of the family {asked.pseudo_family}.'
    )


def references(asked: EspressoParameters, pseudos: Mapping[str, UpfData]) -> tuple[Reference, ...]:
    """Return the publications of the program, the functional, the smearing and the pseudopotentials."""
    found = list(PROGRAM)
    if asked.functional.lower() in FUNCTIONALS:
        found.append(FUNCTIONALS[asked.functional.lower()])
    if asked.smearing == 'cold':
        found.append(COLD_SMEARING)
    found += recipe_references(asked)
    signs = ((SSSP, 'SSSP' in asked.pseudo_family), (DOJO, 'PseudoDojo' in asked.pseudo_family))
    found += [reference for reference, is_there in signs if is_there]
    return (*found, PSLIBRARY) if '_psl.' in _files(pseudos) else tuple(found)


def rows(asked: EspressoParameters, pseudos: Mapping[str, UpfData]) -> list[tuple[str, str]]:
    """Return the level of theory as the rows of a table."""
    return [
        ('functional', asked.functional),
        ('cutoffs', f'{asked.ecutwfc_Ry:g} Ry (wavefunctions), {asked.ecutrho_Ry:g} Ry (density)'),
        ('k-points', f'at most {asked.kpoints_distance:g} 1/Å apart'),
        ('smearing', f'{asked.smearing}, {asked.degauss_Ry:g} Ry'),
        ('spin', order_words(asked) if asked.spin_polarised else 'isolated atoms only'),
        *recipe_rows(asked),
        *(
            (f'pseudopotential of {element}', f'{pseudo.filename}, md5 {pseudo.md5}')
            for element, pseudo in sorted(pseudos.items())
        ),
    ]


def _functional(asked: EspressoParameters, pseudos: Mapping[str, UpfData]) -> str:
    """Return the functional, and those of the pseudopotentials where they have others."""
    headers = {element: header_of(pseudo) for element, pseudo in pseudos.items()}
    if input_dft(asked.functional, headers) is None:
        return asked.functional
    own = sorted({header.functional for header in headers.values() if header.functional})
    return f'{asked.functional} on pseudopotentials made with {" and ".join(own)}'


def _files(pseudos: Mapping[str, UpfData]) -> str:
    return ', '.join(pseudo.filename for _, pseudo in sorted(pseudos.items()))
