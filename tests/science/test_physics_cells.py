"""Physics checks against references of their own: equation of state, elastic constants, and the verdict."""

import json

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.eos import EquationOfState
from scipy.optimize import minimize_scalar

from aiida_mlip_autopipe.science.evaluation.physics import (
    check_calculator,
    check_physics,
    reference_structures,
    write_physics_figures,
)
from aiida_mlip_autopipe.science.evaluation.physics.crystal import supercell_of, symmetry_of
from aiida_mlip_autopipe.science.evaluation.physics.elastic import invariant_tensors, strained_components
from aiida_mlip_autopipe.science.frames import read_extxyz, write_extxyz
from aiida_mlip_autopipe.science.parameters import PhysicsParameters
from aiida_mlip_autopipe.science.potential.load import PotentialError, load_calculator

BY_DFT = ['equation_of_state', 'elastic', 'phonons', 'vacancy']
ELASTIC = PhysicsParameters(checks=['elastic'], max_elastic_strain=0.002)


def labelled_by(calculator, frames, scale=1.0):
    """Return copies of frames with labels of a calculator that stands for DFT, made ``scale`` times as stiff."""
    labelled = []
    for frame in frames:
        atoms = frame.copy()
        calculator.calculate(Atoms(atoms), ['energy', 'forces', 'stress'], ['positions', 'numbers', 'cell', 'pbc'])
        atoms.info['REF_energy'] = scale * float(calculator.results['energy'])
        atoms.arrays['REF_forces'] = scale * calculator.results['forces'].astype(float)
        atoms.info['REF_stress'] = scale * calculator.results['stress'].astype(float)
        labelled.append(atoms)
    return labelled


def rows_of(outcome, check):
    """Return the rows of a check by name."""
    return {row['name']: row for row in outcome['checks'][check]['rows']}


def energy(atoms):
    atoms.calc = EMT()
    return atoms.get_potential_energy()


@pytest.fixture(scope='module')
def edge():
    """Return the lattice constant of copper by a line search."""
    found = minimize_scalar(lambda a: energy(bulk('Cu', a=a)), bracket=(3.5, 3.6, 3.7), tol=1e-10)
    return found.x


def judged(crystal, parameters, scale=1.0):
    labelled = labelled_by(EMT(), reference_structures(crystal, parameters), scale)
    return check_calculator(EMT(), labelled, parameters)


def test_equation_of_state_is_that_of_a_line_search_and_of_ase(edge):
    parameters = PhysicsParameters(checks=['equation_of_state'])
    crystal = bulk('Cu', a=1.01 * edge)
    rows = rows_of(judged(crystal, parameters), 'equation_of_state')
    assert rows['lattice_constant']['value'] == pytest.approx(edge, rel=1e-4)
    volumes = edge**3 / 4 * np.array([0.999, 1, 1.001])
    energies = [energy(bulk('Cu', a=(4 * volume) ** (1 / 3))) for volume in volumes]
    modulus = volumes[1] * np.diff(energies, 2)[0] / (volumes[1] * 1e-3) ** 2 / units.GPa
    assert rows['bulk_modulus']['value'] == pytest.approx(modulus, rel=5e-3)

    frames = labelled_by(EMT(), reference_structures(crystal, parameters))
    columns = [[atoms.get_volume() for atoms in frames], [atoms.info['REF_energy'] for atoms in frames]]
    volume, _, modulus = EquationOfState(*columns, eos='birchmurnaghan').fit()
    assert rows['volume']['value'] == pytest.approx(volume, rel=1e-6)
    assert rows['bulk_modulus']['value'] == pytest.approx(modulus / units.GPa, rel=1e-5)


@pytest.mark.slow
def test_the_error_bar_of_the_equation_of_state_is_that_of_repeated_noise(edge):
    parameters = PhysicsParameters(checks=['equation_of_state'], n_volumes=11)
    exact = labelled_by(EMT(), reference_structures(bulk('Cu', a=edge), parameters))
    rng, differences, errors = np.random.default_rng(0), [], []
    for _ in range(20):
        noisy = [atoms.copy() for atoms in exact]
        for atoms in noisy:
            atoms.info['REF_energy'] += rng.normal(scale=1e-3)
        row = rows_of(check_calculator(EMT(), noisy, parameters), 'equation_of_state')['volume']
        differences.append(row['difference'])
        errors.append(row['uncertainty'])
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(differences), rel=0.5)


def test_without_a_minimum_there_is_no_volume():
    parameters = PhysicsParameters(checks=['equation_of_state'])
    labelled = labelled_by(EMT(), reference_structures(bulk('Cu', a=3.6), parameters), scale=-1)
    outcome = check_calculator(EMT(), labelled, parameters)
    row = rows_of(outcome, 'equation_of_state')['volume']
    assert row['reference'] is None and row['difference'] is None and row['passed'] is None
    assert 'the minimum of DFT is outside' in outcome['checks']['equation_of_state']['note']
    json.dumps(outcome, allow_nan=False)
    far = judged(bulk('Cu', a=3.9), parameters)
    assert far['passed'] is None and rows_of(far, 'equation_of_state')['volume']['difference'] == 0


def test_a_potential_that_is_not_finite_is_unusable():
    class Broken(EMT):
        def calculate(self, *args, **kwargs):
            super().calculate(*args, **kwargs)
            self.results['forces'] = np.nan * self.results['forces']

    parameters = PhysicsParameters(checks=['elastic'])
    labelled = labelled_by(EMT(), reference_structures(bulk('Cu'), parameters))
    with pytest.raises(PotentialError, match='no finite energy, forces or stress for physics-pristine-'):
        check_calculator(Broken(), labelled, parameters)
    labelled[1].arrays['REF_forces'][0, 0] = np.nan
    assert 'not judged' in check_calculator(EMT(), labelled, parameters)['checks']['elastic']['note']


def second_derivative(crystal, strain, step=2e-3):
    """Return the second derivative of the energy density along a strain, in GPa."""
    energies = []
    for size in (-step, 0, step):
        atoms = crystal.copy()
        atoms.set_cell(crystal.cell.array @ (np.eye(3) + size * np.array(strain)), scale_atoms=True)
        energies.append(energy(atoms))
    return np.diff(energies, 2)[0] / step**2 / crystal.get_volume() / units.GPa


def test_cubic_constants_are_second_derivatives_of_the_energy(edge):
    crystal = bulk('Cu', a=edge)
    rows = rows_of(judged(crystal, ELASTIC), 'elastic')
    assert list(rows) == ['C11', 'C12', 'C44', 'bulk_modulus_voigt', 'shear_modulus_voigt']
    c11 = second_derivative(crystal, np.diag([1, 0, 0]))
    c12 = second_derivative(crystal, np.diag([1, 1, 0])) / 2 - c11
    c44 = second_derivative(crystal, [[0, 0, 0], [0, 0, 0.5], [0, 0.5, 0]])
    for name, expected in (('C11', c11), ('C12', c12), ('C44', c44)):
        assert rows[name]['value'] == pytest.approx(expected, rel=3e-3), name
    assert rows['bulk_modulus_voigt']['value'] == pytest.approx((c11 + 2 * c12) / 3, rel=3e-3)
    assert rows['shear_modulus_voigt']['value'] == pytest.approx((c11 - c12 + 3 * c44) / 5, rel=3e-3)


def test_constants_do_not_depend_on_how_the_crystal_lies(edge):
    turned, cubic, left_handed = bulk('Cu', a=edge), bulk('Cu', a=edge, cubic=True), bulk('Cu', a=edge)
    turned.rotate(35, (1, 2, 3), rotate_cell=True)
    left_handed.set_cell(left_handed.cell[[1, 0, 2]])
    expected = judged(bulk('Cu', a=edge), ELASTIC)['checks']['elastic']['data']['C_GPa']
    for crystal in (turned, cubic, left_handed):
        found = judged(crystal, ELASTIC)['checks']['elastic']['data']['C_GPa']
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=0.1)


def test_hexagonal_constants_are_central_differences_of_all_stresses():
    crystal = bulk('Cu', 'hcp', a=2.54, c=4.15)
    columns = []
    for i, j in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):
        stresses = []
        for size in (-1e-3, 1e-3):
            strain = np.zeros((3, 3))
            strain[i, j] += size / 2
            strain[j, i] += size / 2
            atoms = crystal.copy()
            atoms.set_cell(crystal.cell.array @ (np.eye(3) + strain), scale_atoms=True)
            atoms.calc = EMT()
            stresses.append(atoms.get_stress())
        columns.append((stresses[1] - stresses[0]) / 2e-3 / units.GPa)
    expected = np.array(columns).T
    outcome = judged(crystal, ELASTIC)
    found = np.array(outcome['checks']['elastic']['data']['C_GPa'])
    assert list(rows_of(outcome, 'elastic'))[:5] == ['C11', 'C12', 'C13', 'C33', 'C44']
    np.testing.assert_allclose(found, (expected + expected.T) / 2, atol=0.02 * expected.max())


CRYSTALS = {
    'cubic': (bulk('Cu'), 3, 2),
    'diamond': (bulk('Si'), 3, 2),
    'hexagonal': (bulk('Ti'), 5, 3),
    'trigonal': (bulk('Bi', 'rhombohedral', a=4.7, alpha=57), 6, 2),
    'tetragonal': (Atoms('Cu', cell=[3, 3, 4], pbc=True), 6, 4),
    'orthorhombic': (Atoms('Cu', cell=[3, 3.5, 4], pbc=True), 9, 6),
    'triclinic': (Atoms('Cu', cell=[[3, 0, 0], [0.5, 3.5, 0], [0.3, 0.9, 4]], pbc=True), 21, 6),
}


@pytest.mark.slow
def test_the_error_bar_of_constants_is_that_of_repeated_noise(edge):
    parameters = PhysicsParameters(checks=['elastic'], n_elastic_strains=4)
    exact = labelled_by(EMT(), reference_structures(bulk('Cu', a=edge), parameters))
    rng, found = np.random.default_rng(0), []
    for _ in range(20):
        noisy = [atoms.copy() for atoms in exact]
        for atoms in noisy:
            atoms.info['REF_stress'] = atoms.info['REF_stress'] + rng.normal(scale=0.02 * units.GPa, size=6)
        rows = rows_of(check_calculator(EMT(), noisy, parameters), 'elastic')
        found.append([(row['difference'], row['uncertainty']) for row in rows.values()])
    differences, errors = np.array(found).transpose(2, 0, 1)
    np.testing.assert_allclose(np.sqrt((errors**2).mean(axis=0)), differences.std(axis=0), rtol=0.5)


@pytest.mark.parametrize(('crystal', 'n_constants', 'n_strained'), CRYSTALS.values(), ids=CRYSTALS.keys())
def test_symmetry_says_how_many_constants_there_are(crystal, n_constants, n_strained):
    basis = invariant_tensors(crystal, PhysicsParameters())
    assert len(basis) == n_constants
    assert len(strained_components(basis)) == n_strained
    np.testing.assert_allclose(basis, basis.swapaxes(1, 2), atol=1e-12)


@pytest.mark.slow
def test_a_potential_is_right_about_itself(tiny_potential, tmp_path):
    parameters = PhysicsParameters(checks=BY_DFT, supercell_atoms=16)
    frames = reference_structures(bulk('Si', a=5.84), parameters)
    write_extxyz(tmp_path / 'labelled.xyz', labelled_by(load_calculator(tiny_potential, device='cpu'), frames))
    outcome = check_physics(tiny_potential, read_extxyz(tmp_path / 'labelled.xyz'), parameters)
    assert outcome['passed'] is True and list(outcome['checks']) == BY_DFT
    for check in outcome['checks'].values():
        assert check['passed'] and check['rows']
        for row in check['rows']:
            assert abs(row['difference']) < 1e-6, row
            assert row['uncertainty'] is None or row['uncertainty'] < 1e-6
    paths = write_physics_figures(outcome['figures'], tmp_path / 'figures')
    assert [path.name for path in paths] == ['equation_of_state.svg', 'phonons.svg', 'figures.json']
    assert sum(path.stat().st_size for path in paths) < 300_000


def test_a_soft_potential_fails_by_as_much_as_it_is_soft(edge):
    parameters = PhysicsParameters(checks=BY_DFT, supercell_atoms=16)
    outcome = judged(bulk('Cu', a=edge), parameters, scale=1.2)
    assert outcome['passed'] is False
    assert not any(check['passed'] for check in outcome['checks'].values())
    expected = {
        ('equation_of_state', 'volume'): 1,
        ('equation_of_state', 'bulk_modulus'): 1 / 1.2,
        ('elastic', 'C11'): 1 / 1.2,
        ('elastic', 'C44'): 1 / 1.2,
        ('phonons', 'highest_frequency'): 1 / np.sqrt(1.2),
        ('vacancy', 'formation_energy_Cu0'): 1 / 1.2,
    }
    for (check, name), ratio in expected.items():
        row = rows_of(outcome, check)[name]
        assert row['value'] / row['reference'] == pytest.approx(ratio, rel=1e-6), name


@pytest.mark.parametrize(
    ('crystal', 'n_atoms', 'expected'),
    [
        (bulk('Si'), 64, 64),
        (bulk('Cu'), 32, 32),
        (bulk('Ti'), 54, 64),
        (bulk('Si', cubic=True), 64, 64),
        (bulk('Cu'), 25, 32),
    ],
)
def test_supercells_keep_the_symmetry(crystal, n_atoms, expected):
    parameters = PhysicsParameters(supercell_atoms=n_atoms)
    supercell = supercell_of(crystal, parameters)
    assert len(supercell) == expected
    assert symmetry_of(supercell, parameters).pointgroup == symmetry_of(crystal, parameters).pointgroup
    assert np.bincount(supercell.arrays['site']).tolist() == [expected // len(crystal)] * len(crystal)
    assert np.linalg.det(supercell.cell.array) > 0


def test_structures_say_what_they_are_and_come_once():
    parameters = PhysicsParameters(checks=BY_DFT, supercell_atoms=8)
    frames = reference_structures(bulk('Cu'), parameters)
    names = [atoms.info['frame_id'] for atoms in frames]
    assert len(set(names)) == len(names)
    assert all(atoms.info['origin'] == names[0] and atoms.info['config_type'] == 'physics' for atoms in frames)
    checks = [atoms.info['check'] for atoms in frames]
    counts = {check: checks.count(check) for check in dict.fromkeys(checks)}
    assert counts == {'pristine': 1, 'equation_of_state': 6, 'elastic': 4, 'supercell': 1, 'phonons': 1, 'vacancy': 1}
    assert sorted(atoms.info['volume_ratio'] for atoms in frames[1:7]) == pytest.approx(
        [0.94, 0.96, 0.98, 1.02, 1.04, 1.06]
    )
    assert len(reference_structures(bulk('Cu'), PhysicsParameters())) == 1


def test_what_has_no_label_is_not_judged(edge):
    parameters = PhysicsParameters(checks=BY_DFT, supercell_atoms=8)
    frames = reference_structures(bulk('Cu', a=edge), parameters)
    outcome = check_calculator(EMT(), [*labelled_by(EMT(), frames[:4]), *frames[4:]], parameters)
    assert outcome['passed'] is None
    notes = [check['note'] for check in outcome['checks'].values()]
    assert all(note.startswith('not judged') for note in notes)
    assert '4 of 7 volumes' in notes[0] and '0 of 4 strained' in notes[1]
    without_stress = labelled_by(EMT(), frames)
    del without_stress[9].info['REF_stress']
    outcome = check_calculator(EMT(), without_stress, parameters)
    assert 'no stress' in outcome['checks']['elastic']['note'] and outcome['checks']['phonons']['passed']


def test_inputs_that_do_not_fit_are_named(edge):
    parameters = PhysicsParameters(checks=['phonons'], supercell_atoms=8)
    with pytest.raises(ValueError, match='need a crystal'):
        reference_structures(Atoms('Cu', cell=[3, 3, 9], pbc=[True, True, False]), parameters)
    labelled = labelled_by(EMT(), reference_structures(bulk('Cu', a=edge), parameters))
    with pytest.raises(ValueError, match="0 of 2 frames have check = 'pristine'"):
        check_calculator(EMT(), labelled[1:], parameters)
    with pytest.raises(ValueError, match='displacement 0 of these parameters'):
        check_calculator(EMT(), labelled, parameters.model_copy(update={'displacement_A': 0.05}))
    for name, value in (('n_volumes', 6), ('n_elastic_strains', 3), ('checks', ['nve', 'nve'])):
        with pytest.raises(ValueError, match=name):
            PhysicsParameters(**{name: value})
