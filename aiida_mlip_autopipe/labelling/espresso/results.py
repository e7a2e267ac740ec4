"""What the results of one pw.x say of its electrons: moments, Fermi energy, steps, and whether the bands sufficed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from qe_tools import CONSTANTS

__all__ = ['electrons_of', 'occupied_top_band']

SITES = 'Magnetic moment per site'
SITE = re.compile(r'^ *atom:? .*?magn[:=] *(?P<moment>\S+)')
"""Of pw.x 6.7, and with an equals sign of 6.8 and later."""
MOST_IN_TOP_BAND = 0.005
"""As aiida-quantumespresso's handler has it, which then takes more bands."""


def electrons_of(output: Element, printed: Path) -> dict[str, Any]:
    """Return the fields of a label that describe its electrons.

    Parameters
    ----------
    output : Element
        ``output`` in the XML file.
    printed : Path
        What pw.x printed: the moments of the sites are only there.
    """
    found: dict[str, Any] = {}
    fermi = output.findtext('band_structure/fermi_energy')
    steps = output.findtext('convergence_info/scf_conv/n_scf_steps')
    if fermi is not None:
        found['fermi_energy_eV'] = float(fermi) * CONSTANTS.hartree_to_ev
    if steps is not None:
        found['n_scf_steps'] = int(steps)
    if (output.findtext('magnetization/lsda') or '').strip() == 'true':
        for name in ('total', 'absolute'):
            found[f'{name}_magnetization_uB'] = float(output.findtext(f'magnetization/{name}') or 'nan')
        found['site_moments_uB'] = _site_moments(printed)
    return found


def _site_moments(printed: Path) -> np.ndarray | None:
    """Return the moments of the sites at the end, (N,), in µB."""
    text = printed.read_text(errors='replace') if printed.is_file() else ''
    if SITES not in text:
        return None
    moments = []
    for line in text.rpartition(SITES)[2].splitlines()[1:]:
        match = SITE.match(line)
        if match is None:
            break
        moments.append(float(match['moment']))
    return np.array(moments)


def occupied_top_band(output: Element) -> str | None:
    """Return in words that the highest band holds electrons, at any k-point and spin; None if it is empty.

    Then electrons are missing in bands that were not computed: of a magnet those of the majority, so that its moment
    is too small, and nothing else shows it.
    """
    bands = output.find('band_structure')
    if bands is None:
        return None
    polarised = (bands.findtext('lsda') or '').strip() == 'true'
    highest = n_bands = 0.0
    for text in (one.text or '' for one in bands.findall('ks_energies/occupations')):
        channels = np.array(text.split(), dtype=float).reshape(2 if polarised else 1, -1)
        highest, n_bands = max(highest, channels[:, -1].max()), channels.shape[1]
    if highest <= MOST_IN_TOP_BAND:
        return None
    return (
        f'the highest of {n_bands} bands holds {highest:.3f} electrons per state where {MOST_IN_TOP_BAND} are '
        'allowed: the bands do not suffice; more of them are needed'
    )
