"""What pw.x is asked for one candidate.

One electronic single point with forces and stress, made so that no label runs its SCF twice: smearing (fixed
occupations may never converge on displaced atoms) and an explicit number of bands, with room above the occupied ones.
"""

from __future__ import annotations

from math import ceil
from typing import Any

import numpy as np
from ase import Atoms

from aiida_mlip_autopipe.science.parameters import LabellingParameters

__all__ = ['kpoints_mesh', 'pw_parameters']

SPARE_BANDS = 1.2
LEAST_SPARE_BANDS = 4
STARTING_MAGNETIZATION = 0.5


def pw_parameters(atoms: Atoms, labelling: LabellingParameters, z_valence: dict[str, int]) -> dict[str, Any]:
    """Return the namelists of a single point.

    :param atoms: the candidate; ``info['config_type'] == 'IsolatedAtom'`` makes it spin-polarised with the number of
        unpaired electrons that ``labelling.atomic_magnetization`` gives.
    :param labelling: level of theory.
    :param z_valence: valence electrons of each element's pseudopotential.
    """
    n_electrons = sum(z_valence[symbol] for symbol in atoms.symbols)
    system: dict[str, Any] = {
        'ecutwfc': labelling.ecutwfc_Ry,
        'ecutrho': labelling.ecutrho_Ry,
        'occupations': 'smearing',
        'smearing': labelling.smearing,
        'degauss': labelling.degauss_Ry,
        'nbnd': ceil(SPARE_BANDS * n_electrons / 2) + LEAST_SPARE_BANDS,
    }
    system.update(_spin(atoms, labelling))
    return {
        'CONTROL': {'calculation': 'scf', 'tprnfor': True, 'tstress': True},
        'SYSTEM': system,
        'ELECTRONS': {
            'conv_thr': labelling.conv_thr_per_atom_Ry * len(atoms),
            'mixing_beta': 0.4,
            'electron_maxstep': 120,
        },
    }


def _spin(atoms: Atoms, labelling: LabellingParameters) -> dict[str, Any]:
    symbols = sorted(set(atoms.symbols))
    if atoms.info.get('config_type') == 'IsolatedAtom':
        unpaired = labelling.atomic_magnetization.get(symbols[0], 0)
        return {'nspin': 2, 'tot_magnetization': unpaired} if unpaired else {}
    if labelling.spin_polarised:
        return {'nspin': 2, 'starting_magnetization': dict.fromkeys(symbols, STARTING_MAGNETIZATION)}
    return {}


def kpoints_mesh(atoms: Atoms, distance: float) -> list[int]:
    """Return the Monkhorst-Pack mesh whose points lie at most ``distance`` (1/Å, with 2 pi) apart; an isolated atom
    gets the zone centre alone."""
    if atoms.info.get('config_type') == 'IsolatedAtom':
        return [1, 1, 1]
    lengths = 2 * np.pi * np.linalg.norm(atoms.cell.reciprocal(), axis=1)
    return [max(1, ceil(length / distance - 1e-6)) for length in lengths]
