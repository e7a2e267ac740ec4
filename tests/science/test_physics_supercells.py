"""Physics checks of supercells: phonons against ASE's, vacancies by hand, and molecular dynamics."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.phonons import Phonons
from ase.units import _e, _hplanck

from aiida_mlip_autopipe.science.evaluation.physics import check_calculator, reference_structures
from aiida_mlip_autopipe.science.evaluation.physics.crystal import phonopy_of
from aiida_mlip_autopipe.science.evaluation.physics.phonons import frequencies
from aiida_mlip_autopipe.science.evaluation.physics.stability import N_BINS, R_MAX_A, pair_counts
from aiida_mlip_autopipe.science.parameters import GuardParameters, PhysicsParameters
from tests.science.test_physics_cells import labelled_by, rows_of

EDGE_A = 3.59
THz = 1e12 * _hplanck / _e


def neighbours_only():
    """Return Lennard-Jones pairs of nearest neighbours: no supercell of three cells sees its image."""
    return LennardJones(sigma=EDGE_A / np.sqrt(2) / 2 ** (1 / 6), epsilon=0.4, rc=0.85 * EDGE_A, smooth=False)


def test_phonons_are_those_of_ase(tmp_path):
    crystal = bulk('Cu', a=EDGE_A)
    parameters = PhysicsParameters(checks=['phonons'], supercell_atoms=32, displacement_A=0.005)
    frames = labelled_by(neighbours_only(), reference_structures(crystal, parameters))
    assert len(frames) == 3 and len(frames[1]) == 32
    phonopy = phonopy_of(crystal, parameters)
    phonopy.generate_displacements(distance=parameters.displacement_A)
    found, weights = frequencies(phonopy, np.array([frames[2].arrays['REF_forces'] - frames[1].arrays['REF_forces']]))
    assert weights.sum() == pytest.approx(1)

    phonons = Phonons(crystal, neighbours_only(), supercell=(3, 3, 3), delta=0.005, name=tmp_path / 'phonons')
    phonons.run()
    phonons.read(acoustic=True)
    cartesian = np.linalg.inv(phonopy.primitive.cell) @ phonopy.mesh.qpoints.T
    expected = phonons.band_structure((crystal.cell.array @ cartesian).T, verbose=False) / THz
    np.testing.assert_allclose(found, np.sort(expected, axis=1), atol=2e-3 * expected.max())


def test_an_unstable_potential_fails():
    class Upside(EMT):
        def calculate(self, *args, **kwargs):
            super().calculate(*args, **kwargs)
            self.results['forces'] = -self.results['forces']

    parameters = PhysicsParameters(checks=['phonons'], supercell_atoms=8, max_phonon_rmse_THz=None)
    labelled = labelled_by(EMT(), reference_structures(bulk('Cu', a=EDGE_A), parameters))
    outcome = check_calculator(Upside(), labelled, parameters)
    rows = rows_of(outcome, 'phonons')
    assert outcome['passed'] is False and rows['imaginary_fraction']['passed'] is False
    assert rows['imaginary_fraction']['value'] > 0.9 and rows['lowest_frequency']['value'] < -1
    assert rows['frequencies_rmse']['passed'] is None


def energy(atoms):
    atoms.calc = EMT()
    return atoms.get_potential_energy()


def test_the_vacancy_of_an_element():
    parameters = PhysicsParameters(checks=['vacancy'], supercell_atoms=32)
    labelled = labelled_by(EMT(), reference_structures(bulk('Cu', a=EDGE_A), parameters))
    row = rows_of(check_calculator(EMT(), labelled, parameters), 'vacancy')['formation_energy_Cu0']
    cell = bulk('Cu', a=EDGE_A, cubic=True) * (2, 2, 2)
    whole = energy(cell)
    del cell[5]
    assert row['value'] == pytest.approx(energy(cell) - 31 / 32 * whole, abs=1e-8) and row['value'] > 0.5


def test_the_vacancies_of_a_compound():
    crystal = bulk('CuAu', 'cesiumchloride', a=3.1)
    parameters = PhysicsParameters(checks=['vacancy'], supercell_atoms=16)
    frames = reference_structures(crystal, parameters)
    assert [atoms.info['vacancy_element'] for atoms in frames if atoms.info['check'] == 'vacancy'] == ['Cu', 'Au']
    outcome = check_calculator(EMT(), labelled_by(EMT(), frames), parameters)
    cell = make_supercell(crystal, np.diag([2, 2, 2]))
    whole, without = energy(cell.copy()), []
    for symbol in ('Cu', 'Au'):
        defect = cell.copy()
        del defect[next(atom.index for atom in defect if atom.symbol == symbol)]
        without.append(energy(defect))
    expected = sum(without) - 2 * whole + 2 / 16 * whole
    assert rows_of(outcome, 'vacancy')['schottky_energy']['value'] == pytest.approx(expected, abs=1e-8)


class Curl(EMT):
    """Copper with forces that are no gradient: each atom is pushed around its site."""

    def __init__(self, sites):
        super().__init__()
        self._sites = sites

    def calculate(self, atoms=None, *args, **kwargs):
        super().calculate(atoms, *args, **kwargs)
        moved = atoms.positions - self._sites if len(atoms) == len(self._sites) else np.zeros((len(atoms), 3))
        self.results['forces'] = self.results['forces'] + 0.4 * np.cross([0, 0, 1], moved)


def crystal_alone(**settings):
    parameters = PhysicsParameters(supercell_atoms=16, **settings)
    return reference_structures(bulk('Cu', a=EDGE_A), parameters), parameters


@pytest.mark.slow
def test_energy_is_conserved_by_gradients_only():
    frames, parameters = crystal_alone(checks=['nve'], nve_steps=400, timestep_fs=2.0)
    row = rows_of(outcome := check_calculator(EMT(), frames, parameters), 'nve')['energy_drift']
    assert outcome['passed'] is True and abs(row['value']) < 0.05 and row['uncertainty'] < 0.1
    assert len(outcome['figures']['nve']['times_ps']) == 400
    sites = reference_structures(frames[0], PhysicsParameters(checks=['vacancy'], supercell_atoms=16))[1].positions
    row = rows_of(outcome := check_calculator(Curl(sites), frames, parameters), 'nve')['energy_drift']
    assert outcome['passed'] is False and row['value'] > 1 and row['value'] > 2 * row['uncertainty']


def test_stability_ends_where_a_guard_does():
    frames, parameters = crystal_alone(checks=['stability'], stability_steps=200, timestep_fs=2.0)
    outcome = check_calculator(EMT(), frames, parameters)
    rows = rows_of(outcome, 'stability')
    assert outcome['passed'] is True and rows['time']['value'] == pytest.approx(0.4)
    assert 150 < rows['mean_temperature']['value'] < 450
    again = check_calculator(EMT(), frames, parameters)
    assert again == outcome

    narrow = parameters.model_copy(update={'guards': GuardParameters(energy_window_eV=0.01)})
    outcome = check_calculator(EMT(), frames, narrow)
    assert outcome['passed'] is False and 'energy_window_eV' in outcome['checks']['stability']['note']
    assert rows_of(outcome, 'stability')['time']['value'] < 0.4 and outcome['figures'] == {}


def test_the_first_shell_of_the_radial_distribution_has_twelve_atoms():
    crystal = bulk('Cu', a=EDGE_A)
    width = R_MAX_A / N_BINS
    r = (np.arange(N_BINS) + 0.5) * width
    shells = 4 / 3 * np.pi * ((r + width / 2) ** 3 - (r - width / 2) ** 3) / crystal.get_volume()
    for atoms in (crystal, crystal * (2, 2, 2), Atoms(crystal)):
        assert (pair_counts(atoms) * shells)[r < 3].sum() == pytest.approx(12)
