"""Seed structures for exploration and for the first labels: supercells, strained, rattled, isolated atoms.

A method is one file, registered by an entry point: ``base.py`` says how one is written.
"""

from aiida_mlip_autopipe.science.generate.base import SeedGenerator
from aiida_mlip_autopipe.science.generate.generator import StructureGenerator
from aiida_mlip_autopipe.science.generate.isolated import isolated_atoms
from aiida_mlip_autopipe.science.generate.prototype import PROTOTYPES, build_prototype, lattice_constant
from aiida_mlip_autopipe.science.generate.supercell import isotropic_supercell

__all__ = [
    'PROTOTYPES',
    'SeedGenerator',
    'StructureGenerator',
    'build_prototype',
    'isolated_atoms',
    'isotropic_supercell',
    'lattice_constant',
]
