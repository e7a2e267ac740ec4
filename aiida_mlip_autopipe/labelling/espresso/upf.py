"""What the header of a pseudopotential file tells: functional, type, cutoffs and atomic orbitals."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ase.data import atomic_numbers

__all__ = ['Header', 'header_of', 'read_element', 'read_header']

FUNCTIONALS = {
    'SLA PW PBX PBC': 'PBE',
    'SLA PW PBE PBE': 'PBE',
    'SLA PW PSX PSC': 'PBESOL',
    'SLA PW RPB PBC': 'REVPBE',
    'SLA PW REVX PBC': 'REVPBE',
    'SLA PZ NOGX NOGC': 'LDA',
    'PZ': 'LDA',
    'SLA LYP B88 BLYP': 'BLYP',
    'SLA PW TPSS TPSS': 'TPSS',
}


@dataclass(frozen=True)
class Header:
    """What a pseudopotential file says of itself.

    Attributes
    ----------
    functional : str or None
        Short name in capitals ('PBE', 'PBESOL', 'LDA'); as it stands there if it has none; None if it says nothing.
    kind : str
        'NC', 'USPP' or 'PAW'; '' if it says nothing.
    ecutwfc_Ry, ecutrho_Ry : float or None
        The suggested minimum of the cutoffs, in Ry; None if it suggests none.
    orbitals : tuple of str
        The atomic orbitals, as '3d'.
    """

    functional: str | None
    kind: str
    ecutwfc_Ry: float | None
    ecutrho_Ry: float | None
    orbitals: tuple[str, ...]

    def cutoffs(self) -> tuple[float, float] | None:
        """Return both suggested cutoffs (wavefunctions, density), in Ry; None where they are not both known."""
        if self.ecutwfc_Ry is None or (self.ecutrho_Ry is None and self.kind != 'NC'):
            return None
        return self.ecutwfc_Ry, max(self.ecutrho_Ry or 0.0, 4 * self.ecutwfc_Ry)


def read_element(text: str) -> str | None:
    """Return the element of a file in the format UPF; None if it names none."""
    symbol = (_attribute(text, 'element') or _line(text, 'Element')).strip().capitalize()
    return symbol if atomic_numbers.get(symbol, 0) > 0 else None


def read_header(text: str) -> Header:
    """Return what a file in the format UPF, version 1 or 2, says of itself."""
    is_paw = (_attribute(text, 'is_paw') or '').lower() in ('t', 'true', '.true.')
    told = _attribute(text, 'pseudo_type') or _line(text, '(?:Norm|Ultrasoft|Projector)')
    kind = 'PAW' if is_paw else told.strip().upper()
    orbitals = re.findall(r'<PP_CHI\.\d+[^>]*?label="\s*(\w+)\s*"', text, re.DOTALL)
    orbitals += re.findall(r'^\s*(\d[SPDF])\s+\d+\s+-?[\d.]+\s+Wavefunction', text, re.MULTILINE)
    return Header(
        _functional(_attribute(text, 'functional') or _line(text, 'Exchange-Correlation')),
        {'US': 'USPP', 'SL': 'NC'}.get(kind, kind),
        _cutoff(text, 'wfc_cutoff', 'wavefunctions'),
        _cutoff(text, 'rho_cutoff', 'charge density'),
        tuple(dict.fromkeys(name.lower() for name in orbitals)),
    )


def header_of(pseudo: Any) -> Header:
    """Return what the file of an ``UpfData`` says of itself; each file is read once."""
    if pseudo.md5 not in _headers:
        _headers[pseudo.md5] = read_header(pseudo.get_content())
    return _headers[pseudo.md5]


_headers: dict[str, Header] = {}
"""By MD5 and not by node, which would outlive the profile that it is from."""


def _attribute(text: str, name: str) -> str | None:
    found = re.search(rf'\b{name}\s*=\s*"([^"]*)"', text)
    return found[1] if found else None


def _line(text: str, meaning: str) -> str:
    """Return what stands before its meaning in a line of a header of version 1."""
    found = re.search(rf'^\s*(.+?)\s+{meaning}', text, re.MULTILINE)
    return found[1] if found else ''


def _functional(told: str) -> str | None:
    """Return the short name of a functional that is told as four words, with or without a short name behind them."""
    words = re.split(r'[\s+-]+', told.strip().upper())
    name = ' '.join(words)
    return FUNCTIONALS.get(' '.join(words[:4]), name) or None


def _cutoff(text: str, attribute: str, of: str) -> float | None:
    """Return a suggested cutoff, in Ry: that of the remarks, rounded by who made the file, else of the header."""
    found = re.search(rf'Suggested minimum cutoff for {of}:\s*([\d.]+)', text)
    both = re.search(r'^\s*([\d.]+)\s+([\d.]+)\s+Suggested cutoff for wfc and rho', text, re.MULTILINE)
    first = both[1 if attribute == 'wfc_cutoff' else 2] if both else _attribute(text, attribute)
    value = float(found[1]) if found else float(first or 0.0)
    return value or None
