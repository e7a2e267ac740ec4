"""The functional of the labels, and that of the pseudopotentials."""

from __future__ import annotations

from collections.abc import Mapping

from aiida_mlip_autopipe.labelling.espresso.upf import Header

__all__ = ['functional_problem', 'input_dft']

#: Semilocal functionals that pw.x computes with forces and stress, whatever the pseudopotentials were made with.
SEMILOCAL = ('PBE', 'PBESOL', 'REVPBE', 'BLYP', 'LDA', 'PW91', 'WC')
ALIASES = {'PZ': 'LDA'}


def _name(functional: str) -> str:
    return ALIASES.get(functional.upper(), functional.upper())


def input_dft(functional: str, headers: Mapping[str, Header]) -> str | None:
    """Return the functional for pw.x; None where all pseudopotentials have it as their own.

    Parameters
    ----------
    functional : str
        ``labelling.functional``.
    headers : mapping
        Header of the pseudopotential of each element.
    """
    name = _name(functional)
    own = {header.functional for header in headers.values()}
    return None if own <= {name, None} else name.lower()


def functional_problem(functional: str, headers: Mapping[str, Header]) -> str | None:
    """Return why labels of a functional cannot be had from some pseudopotentials, and the way out."""
    if input_dft(functional, headers) is None or _name(functional) in SEMILOCAL:
        return None
    own = ', '.join(f'{element}: {header.functional}' for element, header in sorted(headers.items()))
    return (
        f'labelling.functional: {functional} is not that of the pseudopotentials ({own}), nor one that pw.x is told '
        f'here ({", ".join(SEMILOCAL)}); give one of these, or a family that was made with {functional}'
    )
