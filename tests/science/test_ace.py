"""ACE against python-ace, the SOAP engine and a brute-force sum; its invariances; what it refuses."""

from math import comb, pi, sqrt
from pathlib import Path

import ace_reference
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from numba import njit

from aiida_mlip_autopipe.science.descriptors import couplings
from aiida_mlip_autopipe.science.descriptors.ace import ACE, chebexpcos
from aiida_mlip_autopipe.science.descriptors.compiled import products as compiled_products
from aiida_mlip_autopipe.science.descriptors.couplings import Channel, Function, list_functions, plan_products
from aiida_mlip_autopipe.science.descriptors.radial import _fit_cubics, _padded
from aiida_mlip_autopipe.science.descriptors.soap import SOAP

#: Of the largest value that a feature takes in a frame, or of 1 where that is smaller.
TOLERANCE = 1e-8

#: Made by ``make_ace_oracle.py``.
ORACLE = np.load(Path(__file__).with_name('data') / 'ace_oracle.npz')
ORACLE_SYSTEMS = sorted({key.split('/')[0] for key in ORACLE} - {'alloy'})


def rattled(atoms, seed=0, stdev=0.1):
    atoms = atoms.copy()
    atoms.positions += np.random.default_rng(seed).normal(scale=stdev, size=(len(atoms), 3))
    return atoms


def carbide():
    return rattled(bulk('SiC', 'zincblende', a=4.36, cubic=True))


def cluster():
    return Atoms('SiCSiC', positions=[[0.0, 0.0, 0.0], [1.8, 0.3, -0.2], [-0.5, 1.7, 1.1], [0.6, -1.2, 1.9]])


def settings_for(atoms, **changes):
    defaults = {'correlation_order': 4, 'n_max': (4, 3, 2, 1), 'l_max': (0, 3, 2, 2)}
    if 'max_degree' in changes:
        defaults = {'correlation_order': 4}
    return {'species': sorted(set(atoms.symbols)), 'r_cut': 4.0, **defaults, **changes}


def assert_same(found, expected, tolerance=TOLERANCE):
    scale = np.maximum(np.abs(expected).max(axis=0), 1.0) if expected.ndim > 1 else np.maximum(np.abs(expected), 1.0)
    np.testing.assert_allclose(found / scale, expected / scale, rtol=0, atol=tolerance)


def oracle_system(name):
    """Return the frame, python-ace's projections and a descriptor of what it was asked for."""
    stored = {key.split('/')[1]: ORACLE[key] for key in ORACLE if key.startswith(f'{name}/')}
    atoms = Atoms(stored['numbers'], positions=stored['positions'], cell=stored['cell'], pbc=stored['pbc'])
    ace = ACE(atoms.symbols, float(stored['r_cut']), 4, n_max=stored['n_max'], l_max=stored['l_max'])
    return atoms, stored['projections'], ace


def oracle_labels(name, number):
    """Return the channels and intermediate degrees of python-ace's functions around an element."""
    labels = []
    for row in ORACLE[f'{name}/functions_{number}'].tolist():
        order, intermediate = row[0], row[13]
        channels = tuple(Channel(*row[1 + 3 * i : 4 + 3 * i]) for i in range(order))
        labels.append(Function(channels, intermediate if order == 4 else None))
    return labels


@pytest.mark.slow
@pytest.mark.parametrize('name', ORACLE_SYSTEMS)
def test_agrees_with_python_ace(name):
    """The same functions (hence the same span), and each has the same value: orders 1 to 4, one and two species."""
    atoms, projections, ace = oracle_system(name)
    rows = ace.create(atoms)
    column_of = {function: index for index, function in enumerate(ace.functions)}
    for number in set(atoms.numbers.tolist()):
        labels = oracle_labels(name, number)
        assert set(labels) == set(ace.functions)
        around = atoms.numbers == number
        assert_same(rows[around][:, [column_of[label] for label in labels]], projections[around])


def test_spans_what_python_ace_spans_where_it_pairs_densities_otherwise():
    """Au comes before Cu by name, after it by number: of four densities other pairs are coupled, to the same space."""
    atoms, projections, ace = oracle_system('alloy')
    rows = ace.create(atoms)
    columns, theirs = {}, {}
    for index, function in enumerate(ace.functions):
        columns.setdefault(function.channels, []).append(index)
    for number in (29, 79):
        for index, label in enumerate(oracle_labels('alloy', number)):
            theirs.setdefault(tuple(sorted(label.channels)), {}).setdefault(number, []).append(index)
    assert set(theirs) == set(columns)
    expected = np.empty_like(rows)
    for channels, of_number in theirs.items():
        for number, indices in of_number.items():
            around = np.flatnonzero(atoms.numbers == number)
            expected[np.ix_(around, columns[channels])] = projections[np.ix_(around, indices)]
        if len(channels) < 4:
            assert_same(rows[:, columns[channels]], expected[:, columns[channels]])
    for ours in columns.values():
        for one, two in ((rows[:, ours], expected[:, ours]), (expected[:, ours], rows[:, ours])):
            assert_same(one @ np.linalg.lstsq(one, two, rcond=1e-13)[0], two)


def test_the_oracle_covers_every_order_for_one_and_two_species():
    for name, n_species in (('silicon', 1), ('carbide', 2), ('cluster', 2)):
        numbers = set(ORACLE[f'{name}/numbers'].tolist())
        assert len(numbers) == n_species
        assert {label.order for number in numbers for label in oracle_labels(name, number)} == {1, 2, 3, 4}


@pytest.mark.slow
def test_order_2_is_the_soap_engine_with_another_radial_table():
    """B = (-1)^l 4 pi / sqrt(2 l + 1) sum_m A A; the power spectrum has pi sqrt(8 / (2 l + 1)) for a prefactor."""
    atoms, r_cut, n_max, l_max = carbide(), 4.0, 3, 3
    soap = SOAP(['C', 'Si'], r_cut=r_cut, n_max=n_max, l_max=l_max, weighting={'w0': 0.0})

    def over_powers(r):
        r = np.maximum(r, 0.3)[:, None, None]
        return chebexpcos(r[:, 0, 0], r_cut, n_max)[:, None] / r ** np.arange(l_max + 1)[:, None]

    table = _padded(_fit_cubics(over_powers, r_cut, 4096))
    soap._basis = soap._basis._replace(table=table, intervals_per_A=4096 / r_cut, cutoff=r_cut)
    spectra = soap.create(atoms)

    ace = ACE(['C', 'Si'], r_cut, 2, n_max=n_max, l_max=l_max)
    rows = ace.create(atoms)
    column_of = {function: index for index, function in enumerate(ace.functions)}
    place = 0
    for one, two in ((6, 6), (6, 14), (14, 14)):
        for degree in range(l_max + 1):
            for n in range(1, n_max + 1):
                for other in range(n if one == two else 1, n_max + 1):
                    column = column_of[Function((Channel(one, n, degree), Channel(two, other, degree)))]
                    identity = (-1) ** degree * 4 * pi / (pi * sqrt(8)) * spectra[:, place]
                    np.testing.assert_allclose(rows[:, column], identity, rtol=0, atol=1e-9)
                    place += 1
    assert place == spectra.shape[1]


@pytest.mark.slow
def test_order_1_is_the_sum_of_radial_functions():
    atoms = cluster()
    rows = ACE(['Si', 'C'], 5.0, 1, n_max=5).create(atoms)
    distances = atoms.get_all_distances()
    for i in range(len(atoms)):
        for column, number in ((0, 6), (5, 14)):
            others = (atoms.numbers == number) & (np.arange(len(atoms)) != i)
            expected = chebexpcos(distances[i, others], 5.0, 5).sum(axis=0)
            np.testing.assert_allclose(rows[i, column : column + 5], expected, rtol=0, atol=1e-9)


def test_order_3_is_an_explicit_sum_over_three_neighbours():
    atoms = cluster()
    ace = ACE(['Si', 'C'], 5.0, 3, n_max=(1, 1, 2), l_max=(0, 0, 3))
    rows = ace.create(atoms)
    chosen = [i for i, function in enumerate(ace.functions) if function.order == 3][::25]
    assert len(chosen) > 5
    for index in chosen:
        expected = ace_reference.triple_sum(atoms, ace.functions[index].channels, 5.0)
        np.testing.assert_allclose(rows[:, index], expected, rtol=0, atol=TOLERANCE * max(1, np.abs(expected).max()))


def test_all_orders_are_the_sums_over_m_of_complex_densities():
    atoms = carbide()
    ace = ACE(**settings_for(atoms))
    chosen = list(range(0, len(ace.functions), 7))
    expected = ace_reference.features(atoms, [ace.functions[i] for i in chosen], 4.0)
    assert_same(ace.create(atoms)[:, chosen], expected)


def invariants(degrees):
    """Return the dimension of rotation invariants in products of vectors, one list of degrees per group of equal ones.

    By characters: the k-fold symmetric power has (chi^2 + chi(2 t)) / 2 and so on, averaged over all rotations.
    """
    angles = (np.arange(400) + 0.5) * np.pi / 400

    def character(degree, factor):
        return sum(np.cos(m * factor * angles) for m in range(-degree, degree + 1))

    product = np.ones_like(angles)
    for degree, count in degrees:
        power = [np.ones_like(angles)]
        for k in range(1, count + 1):
            power.append(sum(character(degree, i) * power[k - i] for i in range(1, k + 1)) / k)
        product = product * power[count]
    return round(float(((1 - np.cos(angles)) * product).mean()))


@pytest.mark.parametrize(
    ('n_max', 'l_max'), [((1, 1, 1, 1), (0, 0, 4, 4)), ((1, 1, 2, 2), (0, 0, 3, 2)), ((1, 1, 3, 3), (0, 2, 2, 1))]
)
def test_functions_are_as_many_as_there_are_independent_invariants(n_max, l_max):
    found = {}
    for function in list_functions([14], n_max, l_max):
        found[function.channels] = found.get(function.channels, 0) + 1
    for order in (2, 3, 4):
        channels = [Channel(14, n, l) for n in range(1, n_max[order - 1] + 1) for l in range(l_max[order - 1] + 1)]  # noqa: E741
        for chosen in set(couplings._choose(channels, order, None)):
            if sum(channel.l for channel in chosen) % 2 == 0:
                groups = [(channel.l, chosen.count(channel)) for channel in set(chosen)]
                assert found.get(chosen, 0) == invariants(groups), chosen


@njit
def multiply(densities, norms, values, products, out):
    for lane in range(8):
        compiled_products.place_density(densities[lane], products[0], norms, lane, values)
    compiled_products.multiply_densities(values, *products, out)


def test_functions_are_linearly_independent():
    functions = list_functions([6, 14], (2, 2, 2, 2), (0, 2, 2, 1))
    products = plan_products(functions, [6, 14], 9, 8)
    generator = np.random.default_rng(0)
    rows = np.empty((2 * len(functions), len(functions)))
    values = np.zeros(8 * (len(products.inputs) + len(products.starts)))
    out = np.empty(8 * len(functions))
    ones = np.ones(len(products.inputs))
    for i in range(0, len(rows), 8):
        multiply(generator.normal(size=(8, 2 * 9 * 8)), ones, values, tuple(vars(products).values()), out)
        rows[i : i + 8] = out.reshape(-1, 8).T[: len(rows) - i]
    rows /= np.linalg.norm(rows, axis=0)
    assert np.linalg.matrix_rank(rows, tol=1e-8) == len(functions)


@pytest.mark.parametrize('degrees', [(0, 0, 0), (1, 1, 2), (1, 2, 2), (2, 3, 4), (3, 3, 3), (5, 4, 3)])
def test_couplings_turn_with_the_vectors(degrees):
    """Coupling turned vectors gives the turned vector, and components are those of our harmonics."""
    from scipy.spatial.transform import Rotation

    symbols, phase = couplings.couple(*degrees)
    assert abs(phase) == 1
    np.testing.assert_allclose((symbols**2).sum(), 1.0)
    rotation = Rotation.random(random_state=1).as_matrix()
    vectors = np.random.default_rng(0).normal(size=(60, 3))

    def components(degree, positions):
        complex_values = np.array([ace_reference.harmonic(degree, m, positions) for m in range(degree + 1)])
        signs = sqrt(2) * (-1.0) ** np.arange(1, degree + 1)[:, None]
        return np.concatenate(
            [(signs * complex_values[1:].imag)[::-1], complex_values[:1].real, signs * complex_values[1:].real]
        )

    turns = [
        np.linalg.lstsq(components(d, vectors).T, components(d, vectors @ rotation.T).T, rcond=None)[0] for d in degrees
    ]
    np.testing.assert_allclose(np.einsum('abc,ax,by,cz->xyz', symbols, *turns), symbols, rtol=0, atol=1e-10)


@pytest.mark.parametrize('atoms', [carbide(), cluster()], ids=['periodic', 'cluster'])
def test_invariances(atoms):
    ace = ACE(**settings_for(atoms))
    rows = ace.create(atoms)
    generator = np.random.default_rng(3)

    rotated = atoms.copy()
    rotated.rotate(57.0, (1.0, 2.0, -0.5), rotate_cell=True)
    assert_same(ace.create(rotated), rows)

    inverted = atoms.copy()
    inverted.set_cell(-atoms.cell.array)
    inverted.positions = -atoms.positions
    assert_same(ace.create(inverted), rows)

    moved = atoms.copy()
    moved.translate([11.3, -4.2, 0.9])
    moved.positions += (generator.integers(-4, 5, (len(atoms), 3)) * atoms.pbc) @ atoms.cell.array
    assert_same(ace.create(moved), rows)

    order = generator.permutation(len(atoms))
    assert_same(ace.create(atoms[order]), rows[order])

    mirrored = atoms.copy()
    mirrored.positions[:, 0] *= -1
    mirrored.set_cell(atoms.cell.array * [-1, 1, 1])
    assert_same(ace.create(mirrored), rows)


def test_averages():
    atoms = carbide()
    off = ACE(**settings_for(atoms))
    rows = off.create(atoms)
    assert_same(ACE(**settings_for(atoms, average='outer')).create(atoms), rows.mean(axis=0))
    chosen = list(range(0, len(off.functions), 11))
    functions = [off.functions[i] for i in chosen]
    densities = {
        channel: np.mean(
            [
                [ace_reference.density(*each, 4.0, channel, m) for m in range(-channel.l, channel.l + 1)]
                for each in ace_reference.environments(atoms, 4.0)
            ],
            axis=0,
        )
        for function in functions
        for channel in function.channels
    }
    expected = np.array([ace_reference.value_of(*function, densities) for function in functions])
    assert_same(ACE(**settings_for(atoms, average='inner')).create(atoms)[chosen], expected)


def test_supercell_has_the_same_average():
    atoms = carbide()
    for average in ('outer', 'inner'):
        ace = ACE(**settings_for(atoms, average=average))
        assert_same(ace.create(atoms * (2, 1, 3)), ace.create(atoms))


def test_features_vanish_smoothly_at_the_cutoff():
    ace = ACE(['Si'], 4.0, 2, n_max=3, l_max=2)
    inside, outside = (ace.create(Atoms('Si2', positions=[[0, 0, 0], [0, 0, r]])) for r in (4 - 1e-4, 4 + 1e-4))
    assert np.abs(inside).max() < 1e-8
    assert not outside.any()


@pytest.mark.slow
@pytest.mark.parametrize('n_max', [1, 2, 8, 20])
@pytest.mark.parametrize('r_cut', [3.0, 6.0])
def test_radial_functions_and_their_table(r_cut, n_max):
    distances = np.linspace(0.5, r_cut, 57)
    expected = np.array([ace_reference.radial(distances, r_cut, n) for n in range(1, n_max + 1)]).T
    np.testing.assert_allclose(chebexpcos(distances, r_cut, n_max), expected, rtol=0, atol=1e-13)
    ace = ACE(['Si'], r_cut, 1, n_max=n_max)
    pairs = [Atoms('Si2', positions=[[0, 0, 0], [0.6 * r, 0, 0.8 * r]]) for r in distances]
    np.testing.assert_allclose(ace.create(pairs)[:, 0], expected, rtol=0, atol=2e-9)


def test_functions_are_sorted_and_bounded():
    ace = ACE(['Si', 'C'], 4.0, 4, max_degree=(4, 4, 3, 2))
    keys = [(f.order, f.channels, -1 if f.intermediate is None else f.intermediate) for f in ace.functions]
    assert keys == sorted(keys)
    assert len(set(ace.functions)) == len(ace.functions) == ace.get_number_of_features()
    every = list_functions([6, 14], (5, 5, 4, 3), (0, 5, 4, 3))
    expected = [f for f in every if sum(c.n - 1 + c.l for c in f.channels) <= (4, 4, 3, 2)[f.order - 1]]
    assert ace.functions == expected
    assert all(c.number in (6, 14) and list(f.channels) == sorted(f.channels) for f in every for c in f.channels)


def test_number_of_functions_of_low_orders():
    ace = ACE(['Si', 'C', 'O'], 4.0, 2, n_max=(5, 3), l_max=(0, 4))
    assert ace.get_number_of_features() == 3 * 5 + comb(3 * 3 + 1, 2) * 5


@pytest.mark.slow
def test_single_precision_threads_and_stacks_change_nothing():
    frames = [rattled(carbide(), seed) for seed in range(9)]
    ace = ACE(**settings_for(frames[0]))
    rows = ace.create(frames, n_jobs=2)
    for frame, row in zip(frames, rows, strict=True):
        np.testing.assert_array_equal(ace.create(frame), row)
    single = ACE(**settings_for(frames[0], dtype='float32')).create(frames)
    assert single.dtype == np.float32
    np.testing.assert_array_equal(single, rows.astype(np.float32))


def test_centers():
    atoms = carbide()
    ace = ACE(**settings_for(atoms))
    rows = ace.create(atoms)
    assert_same(ace.create(atoms, centers=[5, 2]), rows[[5, 2]])
    assert_same(ace.create(atoms, centers=[atoms.positions[3].tolist()]), rows[[3]])
    # An interstitial site sees all atoms: what an atom of any element would see there.
    site = [1.0, 1.3, 2.2]
    added = Atoms('C', positions=[site]) + atoms
    added.set_cell(atoms.cell)
    added.pbc = True
    lonely = ACE(**settings_for(atoms, r_cut=2.1))
    assert_same(lonely.create(atoms, centers=[site]), lonely.create(added)[:1])


@pytest.mark.slow
def test_an_isolated_atom_has_no_correlations():
    assert not ACE(['Si'], 5.0, 4, max_degree=3).create(Atoms('Si')).any()


@pytest.mark.slow
@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'r_cut': 0.0}, 'r_cut=0.0'),
        ({'r_cut': np.inf}, 'r_cut=inf'),
        ({'correlation_order': 5}, 'correlation_order=5'),
        ({'correlation_order': 2}, 'n_max=.* has 4 values for correlation_order=2'),
        ({'n_max': (4, 3, 0, 1)}, 'for order 3 it must be an integer between 1 and 32'),
        ({'l_max': (0, 3, 12, 2)}, 'for order 3 it must be an integer between 0 and 11'),
        ({'l_max': (0, 3, 2, 6)}, 'for order 4 it must be an integer between 0 and 5'),
        ({'l_max': (1, 3, 2, 1)}, 'for order 1 it must be an integer between 0 and 0'),
        ({'n_max': 2.5}, 'n_max=2.5'),
        ({'max_degree': -1}, 'max_degree=-1'),
        ({'max_degree': 24}, 'max_degree=24.* between 0 and 23'),
        ({'max_degree': 4, 'n_max': 3}, 'leave out one or the other'),
        ({'n_max': 9, 'l_max': 5}, 'more than 200000 functions'),
        ({'radial': 'gto'}, "radial='gto'"),
        ({'average': 'all'}, "average='all'"),
        ({'species': ['Xx']}, "'Xx'"),
    ],
    ids=str,
)
def test_bad_settings_are_named(changes, words):
    with pytest.raises(ValueError, match=words):
        ACE(**settings_for(bulk('Si'), **changes))


def test_bad_frames_are_named():
    ace = ACE(['Si'], 4.0, 2)
    with pytest.raises(ValueError, match=r'\[6\]'):
        ace.create(carbide())
    with pytest.raises(ValueError, match='frame 0'):
        ace.create(Atoms('Si2', positions=[[0, 0, 0], [0, 0, 1e-5]]))
    with pytest.raises(ValueError, match='couple'):
        couplings.couple(8, 8, 12)


def test_broken_frames_are_masked_and_leave_the_others_alone():
    frames = [rattled(carbide(), seed) for seed in range(3)]
    ace = ACE(**settings_for(frames[0], average='outer'))
    expected = ace.create(frames)
    frames[1].positions[0, 1] = np.nan
    rows = ace.create(frames, on_error='mask')
    assert np.isnan(rows[1]).all()
    np.testing.assert_array_equal(rows[[0, 2]], expected[[0, 2]])
