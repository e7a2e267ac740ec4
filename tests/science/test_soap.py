"""The SOAP kernel against dscribe, its invariances, and what it does with unusable input."""

import subprocess
import sys

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from dscribe import descriptors as dscribe_descriptors
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_mlip_autopipe.science.descriptors import SOAP, describe, numba_kernels
from aiida_mlip_autopipe.science.descriptors.soap import gto_basis
from aiida_mlip_autopipe.science.frames import FrameChunk
from aiida_mlip_autopipe.science.parameters import DescriptorParameters

#: Of the largest feature; 1e-6 is asked for, rounding alone should remain.
TOLERANCE = 1e-9


def rattled(atoms, seed=0, stdev=0.1):
    atoms = atoms.copy()
    atoms.positions += np.random.default_rng(seed).normal(scale=stdev, size=(len(atoms), 3))
    return atoms


def alloy():
    atoms = bulk('Cu', cubic=True) * (2, 1, 1)
    atoms.numbers[:] = [29, 79, 29, 13, 28, 29, 28, 13]
    return rattled(atoms)


def skewed():
    cell = [[4.0, 0.0, 0.0], [3.1, 2.9, 0.0], [-2.7, 1.6, 3.4]]
    return Atoms('SiC', scaled_positions=[[0.1, 0.2, 0.3], [0.6, 0.4, 0.9]], cell=cell, pbc=True)


def water_box():
    atoms = molecule('H2O')
    atoms.set_cell([3.3, 3.9, 4.4])
    atoms.center()
    atoms.pbc = True
    return rattled(atoms * (2, 1, 1))


def slab(pbc):
    atoms = rattled(bulk('NaCl', 'rocksalt', a=5.6, cubic=True))
    atoms.set_cell([[5.6, 0, 0], [0.4, 5.6, 0], [0.2, -0.3, 30.0]])
    atoms.pbc = pbc
    return atoms


SYSTEMS = {
    'silicon': rattled(bulk('Si', cubic=True)),
    'one atom, cell far below the cutoff': bulk('Cu'),
    'four elements': alloy(),
    'skewed cell': skewed(),
    'water box': water_box(),
    'slab': slab([True, True, False]),
    'slab across': slab([False, True, True]),
    'wire': slab([True, False, False]),
    'molecule': rattled(molecule('CH3CH2OH')),
    'isolated atom': Atoms('Si'),
}


def settings_for(atoms, **changes):
    return {'species': sorted(set(atoms.symbols)), 'r_cut': 4.0, 'n_max': 5, 'l_max': 4, 'sigma': 0.5} | changes


def relative_deviation(atoms, **changes):
    keywords = settings_for(atoms, **changes)
    wrapped = atoms.copy()
    wrapped.wrap()  # dscribe does not
    expected = dscribe_descriptors.SOAP(periodic=bool(atoms.pbc.any()), **keywords).create(wrapped)
    found = SOAP(**keywords).create(atoms)
    assert found.shape == expected.shape
    return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize('average', ['off', 'inner', 'outer'])
@pytest.mark.parametrize('name', SYSTEMS)
def test_agrees_with_dscribe(name, average):
    assert relative_deviation(SYSTEMS[name], average=average) < TOLERANCE


@pytest.mark.parametrize(
    'changes',
    [
        {'sigma': 1.0},
        {'sigma': 0.2},
        {'n_max': 1},
        {'l_max': 0},
        {'n_max': 8, 'l_max': 9, 'r_cut': 6.0},
        {'n_max': 2, 'l_max': 20},
        {'r_cut': 2.0, 'n_max': 3},
        {'species': ['C', 'Si', 'Ti']},
        {'species': [22, 14, 6, 14]},
    ],
    ids=str,
)
def test_agrees_with_dscribe_for_all_settings(changes):
    assert relative_deviation(skewed(), **changes) < TOLERANCE


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    n_atoms=st.integers(1, 5),
    pbc=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    average=st.sampled_from(['off', 'inner', 'outer']),
    n_max=st.integers(1, 6),
    l_max=st.integers(0, 5),
    sigma=st.floats(0.2, 1.0),
    skew=st.floats(0.0, 1.0),
    seed=st.integers(0, 2**32 - 1),
)
def test_agrees_with_dscribe_on_drawn_cells(n_atoms, pbc, average, n_max, l_max, sigma, skew, seed):
    generator = np.random.default_rng(seed)
    cell = generator.uniform(2.2, 7.0, size=3) * np.eye(3) + skew * np.tril(generator.uniform(-3, 3, (3, 3)), -1)
    numbers = generator.choice([1, 8, 14], n_atoms)
    atoms = Atoms(numbers, positions=generator.uniform(-8, 8, (n_atoms, 3)), cell=cell, pbc=pbc)
    changes = {'average': average, 'n_max': n_max, 'l_max': l_max, 'sigma': sigma, 'r_cut': 3.0}
    assert relative_deviation(atoms, **changes) < TOLERANCE


def assert_same(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())


@pytest.mark.parametrize('name', ['silicon', 'four elements', 'skewed cell', 'slab', 'wire', 'molecule'])
def test_invariances(name):
    atoms = SYSTEMS[name]
    soap = SOAP(**settings_for(atoms))
    rows = soap.create(atoms)
    generator = np.random.default_rng(3)

    rotated = atoms.copy()
    rotated.rotate(57.0, (1.0, 2.0, -0.5), rotate_cell=True)
    assert_same(soap.create(rotated), rows)

    translated = atoms.copy()
    translated.translate([11.3, -4.2, 0.9])
    assert_same(soap.create(translated), rows)

    shifted = atoms.copy()
    shifted.positions += (generator.integers(-4, 5, (len(atoms), 3)) * atoms.pbc) @ atoms.cell.array
    assert_same(soap.create(shifted), rows)

    order = generator.permutation(len(atoms))
    assert_same(soap.create(atoms[order]), rows[order])


def test_supercell_and_equivalent_cell_give_the_same_average():
    atoms = skewed()
    soap = SOAP(**settings_for(atoms, average='outer'))
    assert_same(soap.create(atoms * (2, 1, 3)), soap.create(atoms))
    sheared = atoms.copy()
    sheared.set_cell(np.array([[1, 0, 0], [5, 1, 0], [-3, 2, 1]]) @ atoms.cell.array)
    assert_same(soap.create(sheared), soap.create(atoms))


def test_averages_are_those_of_the_single_rows():
    atoms = alloy()
    rows = SOAP(**settings_for(atoms)).create(atoms)
    assert_same(SOAP(**settings_for(atoms, average='outer')).create(atoms), rows.mean(axis=0))


def test_stacked_frames_equal_single_frames():
    frames = [rattled(alloy(), seed) for seed in range(4)]
    for index, atoms in enumerate(frames):
        atoms.set_cell(atoms.cell * (1 + 0.01 * index), scale_atoms=True)
    for average in ('off', 'inner', 'outer'):
        soap = SOAP(**settings_for(frames[0], average=average))
        stacked = soap.create_stacked(
            np.array([atoms.positions for atoms in frames]),
            frames[0].numbers,
            np.array([atoms.cell.array for atoms in frames]),
            frames[0].pbc,
        )
        np.testing.assert_array_equal(stacked, soap.create(frames))


def test_kernel_takes_plain_arrays():
    atoms = skewed()
    features = numba_kernels.calculate_soap_descriptors_fast(
        atoms.positions[None],
        atoms.numbers.astype(np.int64),
        atoms.cell.array[None],
        atoms.pbc,
        np.array([6, 14]),
        *gto_basis(4.0, 5, 4, 0.5),
        numba_kernels.OFF,
    )
    np.testing.assert_array_equal(features[0], SOAP(**settings_for(atoms)).create(atoms))


def test_a_second_process_finds_the_compiled_kernel():
    SOAP(['Si'], 4.0, 2, 1, average='outer').create(bulk('Si'))
    script = (
        'from ase.build import bulk\n'
        'from aiida_mlip_autopipe.science.descriptors import SOAP, numba_kernels\n'
        "SOAP(['Si'], 4.0, 2, 1, average='outer').create(bulk('Si'))\n"
        'stats = numba_kernels.calculate_soap_descriptors_fast.stats\n'
        'print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))\n'
    )
    result = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ['1', '0']


@pytest.mark.parametrize('value', [np.nan, np.inf, 1e30, 1e300])
@pytest.mark.parametrize('pbc', [(True, True, True), (True, False, False), (False, False, False)])
def test_an_exploded_frame_gives_nan_and_leaves_its_neighbours_alone(value, pbc):
    atoms = skewed()
    soap = SOAP(**settings_for(atoms, average='outer'))
    positions = np.array([atoms.positions] * 3)
    positions[1, 0, 2] = value
    rows = soap.create_stacked(positions, atoms.numbers, np.array([atoms.cell.array] * 3), np.array(pbc))
    assert np.isnan(rows[1]).all()
    assert np.isfinite(rows[[0, 2]]).all()


@pytest.mark.parametrize('scale', [0.0, 1e-4, np.nan, 1e200])
def test_a_cell_without_a_usable_volume_gives_nan(scale):
    atoms = skewed()
    soap = SOAP(**settings_for(atoms, average='inner'))
    cells = atoms.cell.array[None] * np.array([1.0, scale])[:, None, None]
    rows = soap.create_stacked(np.array([atoms.positions] * 2), atoms.numbers, cells, atoms.pbc)
    assert np.isfinite(rows[0]).all()
    assert np.isnan(rows[1]).all()


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'r_cut': 1.0}, 'r_cut=1.0'),
        ({'sigma': 0.0}, 'sigma=0.0'),
        ({'n_max': 0}, 'n_max=0'),
        ({'l_max': 21}, 'l_max=21'),
        ({'average': 'all'}, "average='all'"),
        ({'species': ['Xx']}, "'Xx'"),
        ({'species': []}, 'species is empty'),
        ({'n_max': 40}, 'n_max=40'),
    ],
)
@pytest.mark.filterwarnings('ignore::scipy.linalg.LinAlgWarning')
def test_bad_settings_are_named(changes, words):
    with pytest.raises(ValueError, match=words):
        SOAP(**settings_for(bulk('Si'), **changes))


def test_bad_frames_are_named():
    soap = SOAP(['Si'], 4.0, 2, 1)
    with pytest.raises(ValueError, match=r'\[6\]'):
        soap.create(skewed())
    with pytest.raises(ValueError, match='does not span'):
        soap.create(Atoms('Si', pbc=True))
    with pytest.raises(ValueError, match='no atoms'):
        soap.create(Atoms())
    with pytest.raises(ValueError, match='shapes do not match'):
        soap.create_stacked(np.zeros((1, 2, 3)), np.array([14]), np.eye(3)[None], np.array([True] * 3))


def chunk_of(frames):
    n = len(frames)
    return FrameChunk(
        numbers=frames[0].numbers,
        positions=np.array([atoms.positions for atoms in frames]),
        cells=np.array([atoms.cell.array for atoms in frames]),
        pbc=frames[0].pbc,
        folder_index=0,
        shard={},
        first=0,
        steps=np.arange(n),
        energies=np.zeros(n),
        temperatures=np.zeros(n),
    )


@pytest.mark.parametrize('average', ['inner', 'outer'])
def test_describe_gives_one_row_per_frame_in_order(average):
    parameters = DescriptorParameters(r_cut=4.0, n_max=3, l_max=2, average=average)
    frames = [rattled(bulk('Si'), 1), rattled(bulk('Si'), 2), skewed()]
    told = []
    rows = describe([chunk_of(frames[:2]), chunk_of(frames[2:])], ['Si', 'C'], parameters, told.append)
    soap = SOAP(['C', 'Si'], 4.0, 3, 2, 0.5, average=average)
    np.testing.assert_array_equal(rows, soap.create(frames))
    assert rows.shape == (3, soap.get_number_of_features())
    assert told == [{'frames_described': 2}, {'frames_described': 3}]
