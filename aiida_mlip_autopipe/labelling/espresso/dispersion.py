"""Dispersion corrections: which there are, for which functionals and pseudopotentials, and what pw.x is told.

Forces and stress of D2 and D3, alone and with the three-body term, agree with finite differences of the energy in pw.x
6.7 (displaced silicon: 0.05 meV/Å, 0.01 kbar). XDM takes its coefficients as constant in both, and in displaced diamond
they are off by 5 meV/Å and 2.4 GPa. Tkatchenko-Scheffler leaves its stress out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aiida_mlip_autopipe.science.references import Reference
from aiida_mlip_autopipe.science.systems import dimensionality

if TYPE_CHECKING:
    from ase import Atoms

__all__ = [
    'DISPERSION_NAMES',
    'dispersion_entries',
    'dispersion_problem',
    'dispersion_references',
    'dispersion_remark',
    'missing_dispersion',
    'refused_dispersion',
    'xdm_problem',
]

DOI = 'https://doi.org/'
DISPERSION_NAMES = {
    'd2': 'Grimme-D2 dispersion',
    'd3': 'Grimme-D3 dispersion with zero damping',
    'd3bj': 'Grimme-D3 dispersion with Becke-Johnson damping',
    'xdm': 'exchange-hole dipole moment dispersion (XDM)',
}
ENTRIES: dict[str, dict[str, Any]] = {
    'none': {},
    'd2': {'vdw_corr': 'dft-d'},
    'd3': {'vdw_corr': 'dft-d3', 'dftd3_version': 3},
    'd3bj': {'vdw_corr': 'dft-d3', 'dftd3_version': 4},
    'xdm': {'vdw_corr': 'xdm'},
}
#: The functionals that each correction has parameters for, of those that this package knows by name.
FITTED = {
    'd2': {'pbe'},
    'd3': {'pbe', 'pbesol', 'revpbe', 'blyp'},
    'd3bj': {'pbe', 'pbesol', 'revpbe', 'blyp'},
    'xdm': {'pbe', 'blyp'},
}
TS = (
    'Tkatchenko-Scheffler is not implemented with ultrasoft or PAW pseudopotentials, and with norm-conserving ones its '
    'stress is left out; give d3bj, or d3'
)
REFUSED = {
    **dict.fromkeys(('ts', 'ts-vdw', 'mbd', 'many-body'), TS),
    **dict.fromkeys(('d3m', 'd3mbj', 'd4'), 'pw.x or its interface here has no such correction; give d3bj, or d3'),
}
REFERENCES = {
    'd2': Reference('S. Grimme, J. Comput. Chem. 27, 1787 (2006)', f'{DOI}10.1002/jcc.20495'),
    'd3': Reference(
        'S. Grimme, J. Antony, S. Ehrlich, H. Krieg, J. Chem. Phys. 132, 154104 (2010)', f'{DOI}10.1063/1.3382344'
    ),
    'd3bj': Reference('S. Grimme, S. Ehrlich, L. Goerigk, J. Comput. Chem. 32, 1456 (2011)', f'{DOI}10.1002/jcc.21759'),
    'xdm': Reference(
        'A. Otero-de-la-Roza, E. R. Johnson, J. Chem. Phys. 136, 174109 (2012)', f'{DOI}10.1063/1.4705760'
    ),
}


def refused_dispersion(value: Any) -> Any:
    """Refuse by its name a correction that cannot give energies, forces and stress here."""
    if isinstance(value, str) and value.lower() in REFUSED:
        raise ValueError(f'{value!r}: {REFUSED[value.lower()]}')
    return value


def dispersion_remark(dispersion: Any) -> str | None:
    """Return what to beware of with a correction; None if nothing."""
    if dispersion != 'xdm':
        return None
    return (
        'a correction whose forces and stress in pw.x are not the derivatives of its energy, as its coefficients are '
        'taken as constant (diamond: 5 meV/Å and 2.4 GPa); d3bj has both'
    )


def missing_dispersion(sources: Sequence[Atoms], given: Mapping[str, Any]) -> str | None:
    """Return what to beware of where parts that are not bonded to each other are labelled without dispersion.

    Parameters
    ----------
    sources : sequence of Atoms
    given : mapping
        The section ``labelling`` of the input, flat.
    """
    if given.get('dispersion', 'none') != 'none':
        return None
    for atoms in sources:
        try:
            found = dimensionality(atoms)
        except ValueError:  # which is told already
            continue
        atoms_alone, chains, layers, networks = found.n_bonded
        parts = len(found.molecules) + chains + layers + networks
        if parts > 1 or (not networks and not found.vacuum_axes) or (not parts and atoms_alone > 1):
            return (
                f'no van der Waals attraction between the parts of a source ({found}): distances and energies between '
                'them are those of a functional that lacks it; give dispersion: d3bj'
            )
    return None


def dispersion_entries(dispersion: str, three_body: bool) -> dict[str, dict[str, Any]]:
    """Return the entries of namelists; the three-body term is always written, as versions differ in its default."""
    entries = dict(ENTRIES[dispersion])
    if 'dftd3_version' in entries:
        entries['dftd3_threebody'] = three_body
    return {'SYSTEM': entries}


def dispersion_problem(dispersion: str, three_body: bool, functional: str) -> str | None:
    """Return what is wrong with a correction for a functional."""
    if three_body and not dispersion.startswith('d3'):
        return f'dispersion_three_body: the three-body term is one of d3 and d3bj, but dispersion is {dispersion}'
    if dispersion == 'none' or functional.lower() in FITTED[dispersion]:
        return None
    fitted = ', '.join(sorted(name.upper() for name in FITTED[dispersion]))
    return (
        f'dispersion: {dispersion} has no parameters for {functional} here (it has for {fitted}); change the '
        'functional or the correction'
    )


def xdm_problem(types: Mapping[str, str]) -> str | None:
    """Return the elements that keep XDM from being computed.

    Parameters
    ----------
    types : mapping
        Type of each element's pseudopotential, as its header has it: 'NC', 'USPP', 'PAW'.
    """
    others = [f'{element} ({kind})' for element, kind in sorted(types.items()) if kind != 'PAW']
    if not others:
        return None
    return (
        'labelling.dispersion: xdm integrates the all-electron density, which PAW pseudopotentials alone give back, '
        f'and {", ".join(others)} is not PAW: pw.x would go on with a pseudo-density. Give d3bj, or PAW files'
    )


def dispersion_references(dispersion: str) -> list[Reference]:
    """Return the publications of a correction."""
    found = [REFERENCES['d3']] if dispersion == 'd3bj' else []
    return found + ([REFERENCES[dispersion]] if dispersion in REFERENCES else [])
