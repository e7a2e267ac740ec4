"""The last layer of a potential, fitted in closed form: what is known to lie in it is found."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from aiida_mlip_autopipe.science.evaluation import evaluate
from aiida_mlip_autopipe.science.frames import write_extxyz
from aiida_mlip_autopipe.science.generate.isolated import isolated_atom
from aiida_mlip_autopipe.science.parameters import EvaluationParameters, TrainingParameters
from aiida_mlip_autopipe.science.potential.last_layer import last_weights, responses, save_with
from aiida_mlip_autopipe.science.potential.load import load_calculator
from aiida_mlip_autopipe.science.systems import recognised
from aiida_mlip_autopipe.science.training import train
from aiida_mlip_autopipe.science.training.refit import joint_error, refitted, tell_refit
from tests.science.test_training_limits import copper


def silicon(n_frames, seed, vacuum=0.0):
    """Return displaced and strained cells; with vacuum in c, slabs."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(n_frames):
        atoms = bulk('Si', cubic=True, a=5.43 * rng.uniform(0.96, 1.04))
        atoms.positions += rng.normal(scale=0.1, size=(len(atoms), 3))
        if vacuum:
            atoms.cell[2, 2] += vacuum
        recorded = recognised(atoms).info
        atoms.info.update(recorded, config_type='candidate')
        frames.append(atoms)
    return frames


def labelled(potential, frames, noise=0.0):
    """Give frames the labels of a potential, in double precision, with noise in the forces (eV/Å)."""
    calculator, rng = load_calculator(potential, 'float64', 'cpu'), np.random.default_rng(9)
    for atoms in frames:
        calculator.calculate(Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc))
        atoms.info['REF_energy'] = float(calculator.results['energy'])
        forces = np.array(calculator.results['forces'])
        atoms.arrays['REF_forces'] = forces + noise * rng.normal(size=forces.shape)
        if 'vacuum_axes' not in atoms.info or not atoms.info['vacuum_axes']:
            atoms.info['REF_stress'] = np.array(calculator.results['stress'])
    return frames


@pytest.fixture
def other(tiny_potential, tmp_path):
    """Return a potential that differs in its last layer alone."""
    weights = last_weights(tiny_potential)
    path = tmp_path / 'other.model'
    save_with(tiny_potential, weights + np.random.default_rng(3).normal(scale=0.5, size=len(weights)), path)
    return path


def errors_of(potential, frames):
    return evaluate(potential, frames, EvaluationParameters()).metrics


def test_responses_add_up_to_what_the_potential_predicts(tiny_potential, other):
    """Energies, forces and stresses by evaluating the model are those of its weights times the responses."""
    frames = labelled(other, silicon(3, 0) + silicon(1, 1, vacuum=12.0))
    found = responses(tiny_potential, frames)
    assert list(np.bincount(found.kinds)) == [4, 4 * 24, 3 * 6]  # the slab has no stress
    energy, forces, stress = found.rmse(last_weights(tiny_potential))
    metrics = errors_of(tiny_potential, frames)
    assert 1e3 * energy == pytest.approx(metrics['energy_rmse_meV'], rel=1e-6)
    assert 1e3 * forces == pytest.approx(metrics['force_rmse_meV_A'], rel=1e-6)
    assert stress / 0.006241509 == pytest.approx(metrics['stress_rmse_GPa'], rel=1e-4)
    np.testing.assert_allclose(found.errors(last_weights(other)), 0, atol=1e-6)


def test_a_difference_in_the_last_layer_is_found(tiny_potential, other, tmp_path):
    """The labels are those of other weights: nearly all of the errors goes, also on frames that are not in the fit."""
    target = tmp_path / 'refitted.model'
    prior = refitted(tiny_potential, labelled(other, silicon(6, 0)), labelled(other, silicon(4, 1)), target)
    assert prior is not None
    unseen = labelled(other, silicon(4, 2))
    before, after = (errors_of(potential, unseen) for potential in (tiny_potential, target))
    assert after['force_rmse_meV_A'] < 0.05 * before['force_rmse_meV_A']
    assert joint_error(after) < 1e-3 * joint_error(before)


def test_what_does_not_help_unseen_frames_is_not_kept(tiny_potential, other, tmp_path):
    """The training labels are of another potential than those that validate."""
    target = tmp_path / 'refitted.model'
    training, validation = labelled(other, silicon(6, 0)), labelled(tiny_potential, silicon(4, 1), noise=1e-3)
    assert refitted(tiny_potential, training, validation, target) is None
    assert not target.exists()


def test_a_free_atom_keeps_its_energy(tiny_potential, other):
    """Without a neighbour there are no features for the weights to act on."""
    atom = isolated_atom('Si', 12.0)
    energies = []
    for potential in (tiny_potential, other):
        calculator = load_calculator(potential, 'float64', 'cpu')
        calculator.calculate(atom)
        energies.append(float(calculator.results['energy']))
    assert energies[0] == energies[1]


@pytest.mark.nightly
@pytest.mark.usefixtures('warm_training')
def test_a_training_hands_over_the_potential_that_was_fitted_anew(tmp_path):
    """What it tells of its errors is of that potential; without the refit they are larger; its free atom is exact."""
    training, validation = copper(10, 1), copper(6, 2)[1:]
    write_extxyz(tmp_path / 'training.xyz', training)
    write_extxyz(tmp_path / 'validation.xyz', validation)
    small = TrainingParameters(
        num_channels=8, correlation=2, max_ell=2, num_interactions=1, r_max=4.0, n_steps=60, max_continuations=0
    )
    results = {}
    for asked in (True, False):
        parameters = small.model_copy(update={'refit_last_layer': asked})
        files = (tmp_path / 'training.xyz', tmp_path / 'validation.xyz')
        results[asked] = train(*files, parameters, tmp_path / str(asked))
    told = results[True].run['refit']
    assert told['kept'] and 'refit' not in results[False].run
    with_it, without = (results[asked].metrics['validation'] for asked in (True, False))
    assert joint_error(with_it) < joint_error(without)
    assert with_it['force_rmse_meV_A'] == told['force_rmse_meV_A']
    assert errors_of(results[True].potential, validation)['force_rmse_meV_A'] == pytest.approx(told['force_rmse_meV_A'])
    assert 'fitted anew' in tell_refit(results[True].run) and tell_refit(results[False].run) is None
    calculator = load_calculator(results[True].potential, 'float64', 'cpu')
    calculator.calculate(training[0])
    assert calculator.results['energy'] == pytest.approx(training[0].info['REF_energy'], abs=1e-5)
