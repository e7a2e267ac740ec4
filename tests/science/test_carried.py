"""Initial moments, charges and tags of a structure stay with its atoms up to the label."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from aiida_mlip_autopipe.science.dynamics import run_replicas
from aiida_mlip_autopipe.science.evaluation.physics.checks import reference_structures
from aiida_mlip_autopipe.science.existing_data import existing_data
from aiida_mlip_autopipe.science.frames import content_hash, load_frames, read_extxyz, write_extxyz
from aiida_mlip_autopipe.science.frames.carried import CARRIED, carried_arrays
from aiida_mlip_autopipe.science.frames.shards import ShardReader, adopt_parts
from aiida_mlip_autopipe.science.generate import StructureGenerator
from aiida_mlip_autopipe.science.parameters import (
    DynamicsParameters,
    GenerationParameters,
    PhysicsParameters,
)


def two_sublattices() -> Atoms:
    """Return silicon whose two atoms carry opposite moments, and other charges and tags."""
    atoms = bulk('Si')
    atoms.set_initial_magnetic_moments([1.5, -1.5])
    atoms.set_initial_charges([0.25, -0.25])
    atoms.set_tags([1, 2])
    return atoms


def belongs_to(atoms: Atoms) -> np.ndarray:
    """Return for each atom of a crystal, little displaced, which of the two sublattices is nearer: 0 or 1."""
    source = bulk('Si')
    lattice = source.cell.array

    def off(position: np.ndarray) -> np.ndarray:
        fractions = (atoms.positions - position) @ np.linalg.inv(lattice)
        return np.linalg.norm((fractions - np.rint(fractions)) @ lattice, axis=1)

    return (off(source.positions[1]) < off(source.positions[0])).astype(int)


def assert_each_atom_has_its_own(atoms: Atoms) -> None:
    """The atoms of one sublattice carry what its atom did, those of the other what the other did."""
    place = belongs_to(atoms)
    assert set(place) == {0, 1}
    source = two_sublattices()
    for name in CARRIED:
        np.testing.assert_array_equal(atoms.arrays[name], source.arrays[name][place])


def test_seeds_carry_what_their_source_does():
    """Supercells, strained and rattled ones, and those of the test set; through a file, too."""
    generator = StructureGenerator(GenerationParameters(target_atoms=8, strained={'n': 2}, rattled={'n': 2}))
    seeds = [*generator.generate([two_sublattices()]), *generator.generate_test_seeds([two_sublattices()])]
    assert len(seeds) == 1 + 2 + 2 + 2
    for seed in seeds:
        assert_each_atom_has_its_own(seed)


def test_what_is_zero_on_all_atoms_is_not_carried():
    """Readers of some files fill in zeros; and a structure without moments keeps the name it has."""
    atoms = bulk('Si')
    atoms.set_initial_magnetic_moments([0, 0])
    assert carried_arrays(atoms) == {}
    parts = (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)
    assert content_hash(*parts) == content_hash(*parts, carried_arrays(atoms))
    assert content_hash(*parts) != content_hash(*parts, carried_arrays(two_sublattices()))


def test_dynamics_carry_them_to_candidates(tiny_potential, tmp_path):
    """From a seed through the shards of a replica to the frames that a selection loads, in a file, too."""
    pristine = GenerationParameters(strained={'n': 0}, rattled={'n': 0})
    (seed,) = StructureGenerator(pristine).generate([two_sublattices()])
    dynamics = DynamicsParameters(
        temperatures_K=[300.0], n_steps=8, sample_interval=1, equilibration_steps=0, n_processes=1, device='cpu'
    )
    manifest = run_replicas(tiny_potential, [seed], dynamics, tmp_path / 'md', md_job='aaaaaaaa')
    write_extxyz(tmp_path / 'candidates.extxyz', load_frames([tmp_path / 'md'], [1, 4, 7]))
    for atoms in read_extxyz(tmp_path / 'candidates.extxyz'):
        assert_each_atom_has_its_own(atoms)
        assert atoms.arrays['tags'].dtype.kind == 'i'
    part = manifest['shards'][0] | {'n_frames': 5, 'sha256': ''}
    adopt_parts(tmp_path / 'md', tmp_path / 'next', [part])
    with ShardReader(tmp_path / 'next' / part['path']) as reader:
        assert reader.n_frames == 5
        np.testing.assert_array_equal(reader.carried['initial_magmoms'], seed.arrays['initial_magmoms'])


def test_structures_of_physics_checks_carry_them():
    """The crystal, strained ones, supercells with a displacement or a vacancy."""
    checks = PhysicsParameters(checks=['equation_of_state', 'phonons', 'vacancy'], supercell_atoms=16)
    frames = reference_structures(two_sublattices(), checks)
    assert {atoms.info['check'] for atoms in frames} >= {'pristine', 'supercell', 'vacancy', 'phonons'}
    for atoms in frames:
        assert set(carried_arrays(atoms)) == set(CARRIED)
        if len(atoms) % 2 == 0:
            assert_each_atom_has_its_own(atoms)


def test_existing_data_carries_them():
    """A structure with other moments is another one."""
    frames = [two_sublattices(), two_sublattices()]
    frames[1].set_initial_magnetic_moments([1.5, 1.5])
    for atoms in frames:
        atoms.info |= {'REF_energy': -10.0, 'REF_stress': np.zeros(6)}
        atoms.arrays['REF_forces'] = np.zeros((2, 3))
    first, second = existing_data(frames)
    assert first.info['frame_id'] != second.info['frame_id']
    assert second.get_initial_magnetic_moments().tolist() == [1.5, 1.5]
    assert first.get_initial_magnetic_moments() == pytest.approx([1.5, -1.5])
