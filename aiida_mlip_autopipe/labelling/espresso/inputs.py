"""What pw.x is asked for one candidate.

One electronic single point with forces and stress, made so that no label runs its SCF twice: smearing (fixed
occupations may never converge on displaced atoms) and an explicit number of bands, with room above the occupied ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from copy import deepcopy
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers

from aiida_mlip_autopipe.labelling.espresso.functionals import input_dft
from aiida_mlip_autopipe.labelling.espresso.magnetism import element_of, n_bands, species_of, spin_of
from aiida_mlip_autopipe.labelling.espresso.parameters import EspressoParameters
from aiida_mlip_autopipe.labelling.espresso.recipe import cards, given_parts, total_charge, with_recipe
from aiida_mlip_autopipe.labelling.espresso.upf import header_of
from aiida_mlip_autopipe.science.systems import filled_axes, fills_its_cell, is_isolated_atom

if TYPE_CHECKING:
    from aiida_pseudo.data.pseudo import UpfData

__all__ = ['PSEUDO_FOLDER', 'dft_of', 'kpoints_mesh', 'label_key', 'pseudo_file', 'pw_input', 'pw_parameters']

PSEUDO_FOLDER = 'pseudo'


def pw_parameters(
    atoms: Atoms, labelling: EspressoParameters, z_valence: Mapping[str, float], dft: str | None = None
) -> dict[str, Any]:
    """Return the namelists of a single point.

    :param atoms: the candidate; ``info['config_type'] == 'IsolatedAtom'`` makes it spin-polarised with the number of
        unpaired electrons that ``labelling.atomic_magnetization`` gives.
    :param labelling: level of theory.
    :param z_valence: valence electrons of each element's pseudopotential.
    :param dft: the functional, where it is not that of the pseudopotentials.
    """
    n_electrons = sum(z_valence[symbol] for symbol in atoms.symbols) - total_charge(atoms, labelling)
    system: dict[str, Any] = {
        'ecutwfc': labelling.ecutwfc_Ry,
        'ecutrho': labelling.ecutrho_Ry,
        'occupations': 'smearing',
        'smearing': labelling.smearing,
        'degauss': labelling.degauss_Ry,
        'nbnd': n_bands(atoms, labelling, n_electrons),
    }
    system.update(spin_of(atoms, labelling, z_valence))
    namelists = {
        'CONTROL': {'calculation': 'scf', 'tprnfor': True, 'tstress': fills_its_cell(atoms)},
        'SYSTEM': system,
        'ELECTRONS': {
            'conv_thr': labelling.conv_thr_per_atom_Ry * len(atoms),
            'mixing_beta': 0.4,
            'electron_maxstep': 120,
        },
    }
    return with_recipe(namelists, atoms, labelling, dft)


def kpoints_mesh(atoms: Atoms, distance: float) -> list[int]:
    """Return the Monkhorst-Pack mesh whose points lie at most ``distance`` (1/Å, with 2 pi) apart.

    Along vacuum there is one, as bands have no dispersion there; an isolated atom gets the zone centre alone. A
    strained crystal (``info['reciprocal_lengths']``) has the mesh of the crystal before: energies of different meshes
    do not lie on one curve.
    """
    if is_isolated_atom(atoms):
        return [1, 1, 1]
    own = 2 * np.pi * np.linalg.norm(atoms.cell.reciprocal(), axis=1)
    lengths = atoms.info.get('reciprocal_lengths', own)
    along = zip(lengths, filled_axes(atoms), strict=True)
    return [max(1, ceil(length / distance - 1e-6)) if filled else 1 for length, filled in along]


def pseudo_file(element: str) -> str:
    """Return the name of an element's pseudopotential in the job's folder."""
    return f'{element}.upf'


def pw_input(
    atoms: Atoms,
    labelling: EspressoParameters,
    z_valence: Mapping[str, float],
    outdir: str = 'out',
    prefix: str = 'pw',
    dft: str | None = None,
) -> str:
    """Return the input file of pw.x for one candidate: what aiida-quantumespresso would write for the same namelists.

    :param outdir: folder for what pw.x writes; each candidate of a batch has its own.
    :param prefix: name of what it writes.
    :param dft: the functional, where it is not that of the pseudopotentials.
    """
    from aiida_quantumespresso.utils.convert import convert_input_to_namelist_entry

    kinds = species_of(atoms, labelling)
    names = sorted(set(kinds))
    namelists = pw_parameters(atoms, labelling, z_valence, dft)
    namelists['CONTROL'] |= {'outdir': f'./{outdir}/', 'prefix': prefix, 'pseudo_dir': f'./{PSEUDO_FOLDER}/'}
    namelists['SYSTEM'] |= {'ibrav': 0, 'nat': len(atoms), 'ntyp': len(names)}
    species = {symbol: number for number, symbol in enumerate(names, start=1)}
    lines = []
    for name, values in namelists.items():
        entries = (
            convert_input_to_namelist_entry(key, deepcopy(value), mapping=species) for key, value in values.items()
        )
        lines += [f'&{name}', *(entry.rstrip('\n') for entry in entries), '/']
    elements = {kind: element_of(kind) for kind in names}
    masses = {kind: atomic_masses[atomic_numbers[element]] for kind, element in elements.items()}
    lines += ['ATOMIC_SPECIES']
    lines += [f'{kind} {masses[kind]:.4f} {pseudo_file(element)}' for kind, element in elements.items()]
    lines += ['ATOMIC_POSITIONS angstrom']
    lines += [f'{kind} {_row(position)}' for kind, position in zip(kinds, atoms.positions, strict=True)]
    lines += ['K_POINTS automatic', ' '.join(map(str, [*kpoints_mesh(atoms, labelling.kpoints_distance), 0, 0, 0]))]
    lines += ['CELL_PARAMETERS angstrom', *map(_row, atoms.cell.array), *cards(atoms, labelling)]
    return '\n'.join(lines) + '\n'


def _row(vector: np.ndarray) -> str:
    return ' '.join(f'{value:17.10f}' for value in vector)


def dft_of(labelling: EspressoParameters, pseudos: Mapping[str, UpfData]) -> str | None:
    """Return the functional that pw.x is told; None where it is that of all the pseudopotentials of the run."""
    return input_dft(labelling.functional, {element: header_of(pseudo) for element, pseudo in pseudos.items()})


def label_key(atoms: Atoms, labelling: EspressoParameters, pseudos: Mapping[str, UpfData]) -> str:
    """Return what identifies a label before it is computed: the input of pw.x and the pseudopotentials that it names.

    Two candidates with the same key ask for the same calculation, whichever sets they are in.
    """
    elements = sorted(set(atoms.symbols))
    z_valence = {element: pseudos[element].z_valence for element in elements}
    text = pw_input(atoms, labelling, z_valence, dft=dft_of(labelling, pseudos))
    checksums = ''.join(pseudos[element].md5 for element in elements)
    if parts := given_parts(labelling):
        text += json.dumps(parts, sort_keys=True)
    return hashlib.sha256((text + checksums).encode()).hexdigest()[:24]
