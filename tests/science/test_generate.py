"""Seeds: how many, how far apart, how large, and the same ones again from the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.data import covalent_radii

from aiida_mlip_autopipe.science.generate import (
    StructureGenerator,
    build_prototype,
    isolated_atoms,
    isotropic_supercell,
    lattice_constant,
)
from aiida_mlip_autopipe.science.parameters import GenerationParameters
from aiida_mlip_autopipe.science.registry import GENERATORS


def shortest_ratio(atoms: Atoms) -> float:
    """Return the smallest distance over the covalent sum by brute force over images: independent of the code tested."""
    shifts = np.stack(np.meshgrid(*[range(-2, 3)] * 3), -1).reshape(-1, 3) @ np.array(atoms.cell)
    positions = atoms.positions
    distances = np.linalg.norm(positions[:, None, None] + shifts - positions[None, :, None], axis=-1)
    sums = covalent_radii[atoms.numbers][:, None, None] + covalent_radii[atoms.numbers][None, :, None]
    ratios = distances / sums
    return float(ratios[distances > 1e-6].min())


@pytest.mark.parametrize('target', [3, 8])
def test_two_atom_diamond_gives_the_cubic_cell(target):
    cell = isotropic_supercell(bulk('Si'), 8)
    assert len(cell) == 8
    np.testing.assert_allclose(np.array(cell.cell), 5.43 * np.eye(3), atol=1e-9)
    assert len(isotropic_supercell(cell, target)) == 8


@pytest.mark.parametrize(('symbol', 'target', 'edge'), [('Si', 64, 10.86), ('Al', 32, 8.10), ('Fe', 16, 5.74)])
def test_larger_targets_give_cubes(symbol, target, edge):
    atoms = isotropic_supercell(bulk(symbol), target)
    assert len(atoms) == target
    np.testing.assert_allclose(atoms.cell.cellpar(), [edge] * 3 + [90] * 3, atol=1e-6)


def test_supercell_does_not_depend_on_the_orientation():
    rotated = bulk('Si')
    rotated.rotate(37, (1, 2, 3), rotate_cell=True)
    np.testing.assert_allclose(isotropic_supercell(rotated, 8).cell.cellpar(), [5.43] * 3 + [90] * 3, atol=1e-6)


@pytest.mark.parametrize('target', [5, 7, 30, 100, 300])
@pytest.mark.parametrize('symbol', ['Si', 'Mg', 'Al'])
def test_supercell_holds_the_atoms_asked_for_and_keeps_the_density(symbol, target):
    primitive = bulk(symbol)
    atoms = isotropic_supercell(primitive, target)
    assert target <= len(atoms) <= 1.25 * target + len(primitive)
    assert atoms.get_volume() / len(atoms) == pytest.approx(primitive.get_volume() / len(primitive))
    lengths = atoms.cell.lengths()
    assert lengths.max() / lengths.min() < 1.8
    assert np.linalg.det(np.array(atoms.cell)) > 0


def test_counts_order_and_names():
    parameters = GenerationParameters(strained={'n': 2}, rattled={'n': 3})
    seeds = StructureGenerator(parameters).generate([bulk('Si')])
    assert [seed.info['method'] for seed in seeds] == ['pristine'] + ['strained'] * 2 + ['rattled'] * 3
    assert [name for name, _ in GENERATORS.items()] == ['pristine', 'strained', 'rattled']
    for seed in seeds:
        assert seed.info['config_type'] == 'seed'
        assert seed.info['origin'] == seed.info['frame_id']
        assert seed.info['frame_id'].startswith('seed-') and len(seed.info['frame_id']) == len('seed-') + 16
    assert len({seed.info['frame_id'] for seed in seeds}) == 6


def test_rattled_keep_their_centre_and_strained_their_fractions():
    parameters = GenerationParameters(strained={'n': 4, 'max_strain': 0.03}, rattled={'n': 4, 'max_strain': 0.015})
    seeds = StructureGenerator(parameters).generate([bulk('Si')])
    pristine = seeds[0]
    for seed in seeds[1:]:
        strain = np.linalg.solve(np.array(pristine.cell), np.array(seed.cell)) - np.eye(3)
        np.testing.assert_allclose(strain, strain.T, atol=1e-12)
        assert np.abs(strain).max() <= (0.03 if seed.info['method'] == 'strained' else 0.015) + 1e-12
        shifts = seed.positions - pristine.positions @ (np.eye(3) + strain)
        np.testing.assert_allclose(shifts.mean(axis=0), 0, atol=1e-12)
        if seed.info['method'] == 'strained':
            np.testing.assert_allclose(shifts, 0, atol=1e-12)
        else:
            assert 0.03 < shifts.std() < 0.15


def test_same_seed_same_structures_other_seed_others():
    def positions(seed, **changes):
        generator = StructureGenerator(GenerationParameters(random_seed=seed, **changes))
        return {a.info['frame_id'] for a in generator.generate([bulk('Si')])}

    assert positions(1) == positions(1)
    assert len(positions(1) & positions(2)) == 1  # the pristine one


def test_methods_have_streams_of_their_own():
    few = StructureGenerator(GenerationParameters(strained={'n': 1})).generate([bulk('Si')])
    many = StructureGenerator(GenerationParameters(strained={'n': 5})).generate([bulk('Si')])
    for a, b in zip(few[-4:], many[-4:], strict=True):
        assert a.info['method'] == 'rattled'
        assert a.info['frame_id'] == b.info['frame_id']


def test_test_seeds_are_apart_from_the_seeds():
    generator = StructureGenerator(GenerationParameters())
    tests = generator.generate_test_seeds([bulk('Si')])
    assert [atoms.info['config_type'] for atoms in tests] == ['test_seed'] * 2
    names = {atoms.info['frame_id'] for atoms in tests}
    assert len(names) == 2
    assert not names & {atoms.info['frame_id'] for atoms in generator.generate([bulk('Si')])}


def test_a_source_given_twice_gives_its_pristine_cell_once():
    seeds = StructureGenerator(GenerationParameters()).generate([bulk('Si'), bulk('Si')])
    assert sum(seed.info['method'] == 'pristine' for seed in seeds) == 1
    assert len(seeds) == 15


def test_shortest_distances_hold_under_violent_rattling():
    parameters = GenerationParameters(strained={'n': 0}, rattled={'n': 5, 'stdev_A': 0.6}, min_distance_factor=0.8)
    for seed in StructureGenerator(parameters).generate([bulk('Si')]):
        assert shortest_ratio(seed) >= 0.8


def test_distances_count_periodic_images():
    parameters = GenerationParameters(target_atoms=1, strained={'n': 10, 'max_strain': 0.3}, rattled={'n': 0})
    for seed in StructureGenerator(parameters).generate([Atoms('Si', cell=[2.0] * 3, pbc=True)]):
        assert shortest_ratio(seed) >= 0.7


def test_isolated_atoms():
    atoms = StructureGenerator(GenerationParameters(isolated_atom_box_A=11)).isolated_atoms(['Si', 'C', 'Si'])
    assert [a.get_chemical_formula() for a in atoms] == ['C', 'Si']
    for a in atoms:
        assert a.info['config_type'] == 'IsolatedAtom'
        assert a.info['frame_id'] == a.info['origin'] == f'atom-{a.symbols[0]}'
        assert a.pbc.all()
        np.testing.assert_allclose(np.array(a.cell), 11 * np.eye(3))
    with pytest.raises(ValueError, match="'Sj' is not an element"):
        isolated_atoms(['Sj'], 9.0)


@pytest.mark.parametrize(
    ('prototype', 'composition', 'numbers', 'volume'),
    [
        ('diamond', 'Si', [14, 14], 5.43**3 / 4),
        ('rocksalt', 'NaCl', [11, 17], 5.36**3 / 4),
        ('fluorite', 'F2Ca', [20, 9, 9], None),
        ('wurtzite', 'ZnO', [30, 8, 30, 8], None),
    ],
)
def test_prototypes(prototype, composition, numbers, volume):
    atoms = build_prototype(prototype, composition)
    assert atoms.numbers.tolist() == numbers
    assert shortest_ratio(atoms) > 0.95
    if volume is not None:
        assert atoms.get_volume() == pytest.approx(volume)


def test_prototype_lattice_constant_can_be_given_and_says_its_source():
    assert build_prototype('diamond', 'Si', 5.5).get_volume() == pytest.approx(5.5**3 / 4)
    assert lattice_constant('diamond', 'Si') == (5.43, 'experimental lattice constant of Si')
    assert 'covalent radii' in lattice_constant('bcc', 'Si')[1]


@pytest.mark.parametrize(
    ('prototype', 'composition', 'message'),
    [
        ('dimond', 'Si', "did you mean 'diamond'"),
        ('diamond', 'SiC', 'does not fit diamond'),
        ('diamond', 'Sj', "'Sj' is not an element"),
        ('diamond', 'si!', 'is not a chemical formula'),
    ],
)
def test_bad_prototypes(prototype, composition, message):
    with pytest.raises(ValueError, match=message):
        build_prototype(prototype, composition)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('source', 'changes', 'message'),
    [
        (Atoms('Si2', positions=[[0, 0, 0], [0, 0, 1]], cell=[9] * 3, pbc=True), {}, 'Si-Si at 1.000 Å, below 1.554'),
        (Atoms('Si', pbc=True), {}, 'has no volume'),
        (Atoms('Si', cell=[5] * 3), {}, 'pbc says that a is not periodic'),
        (Atoms('X', cell=[9] * 3, pbc=True), {}, 'atoms without an element'),
        (Atoms('Si', positions=[[np.nan, 0, 0]], cell=[9] * 3, pbc=True), {}, 'not finite'),
        (bulk('Si'), {'strained': {'max_strain': 0.0}}, 'raise max_strain'),
        (bulk('Si'), {'strained': {'n': 0}, 'rattled': {'max_strain': 0, 'stdev_A': 0}}, 'raise one of them'),
        (
            Atoms('Si', cell=[1.56] * 3, pbc=True),
            {'target_atoms': 1, 'strained': {'n': 30, 'max_strain': 0.45}},
            'no strain',
        ),
    ],
)
def test_bad_sources_and_parameters(source, changes, message):
    generator = StructureGenerator(GenerationParameters(**changes))
    with pytest.raises(ValueError, match=message):
        generator.generate([source])


def test_no_source():
    with pytest.raises(ValueError, match='no structure was given'):
        StructureGenerator().generate([])
