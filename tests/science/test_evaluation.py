"""Evaluation: errors that can be worked out by hand, and their breakdown."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk

from aiida_mlip_autopipe.science.dynamics import single_point
from aiida_mlip_autopipe.science.evaluation import calibrate, evaluate
from aiida_mlip_autopipe.science.evaluation.breakdown import overall
from aiida_mlip_autopipe.science.parameters import EvaluationParameters
from aiida_mlip_autopipe.science.potential import PotentialError
from tests.support.labels import labelled_silicon
from tests.support.potentials import tiny_potential as tiny_potential_of


@pytest.fixture(scope='module')
def labelled(tiny_potential):
    """Return an isolated atom and three cells, labelled by the potential itself."""
    return labelled_silicon(tiny_potential, 3)


def test_a_potential_makes_no_error_on_its_own_labels(tiny_potential, labelled):
    result = evaluate(tiny_potential, labelled, EvaluationParameters())
    assert result.metrics['n_frames'] == 3 and result.metrics['n_atoms'] == 6
    errors = [value for key, value in result.metrics.items() if key.endswith(('meV', 'meV_A', 'GPa'))]
    assert len(errors) == 9 and max(errors) < 1e-6
    assert result.metrics['calibration'] is None and np.isnan(result.predictions['disagreement']).all()
    assert result.metrics['force_slope'] == pytest.approx(1)
    predictions = result.predictions
    assert predictions['energy'].shape == (3,) and predictions['forces'].shape == (6, 3)
    assert predictions['stress'].shape == (3, 6)
    assert predictions['frame_id'].tolist() == ['frame-0-0', 'frame-0-1', 'frame-0-2']


def test_errors_are_those_put_in(tiny_potential, labelled):
    shifted = [atoms.copy() for atoms in labelled]
    for atoms, sign in zip(shifted[1:], (1, -1, 1), strict=True):
        atoms.info['REF_energy'] += sign * 0.004
        atoms.arrays['REF_forces'] = atoms.arrays['REF_forces'] + np.array([0.03, 0, 0])
        atoms.info['REF_stress'] = atoms.info['REF_stress'] - 0.5 * units.GPa
    shifted[0].info['REF_energy'] += 100  # isolated atoms do not count
    metrics = evaluate(tiny_potential, shifted, EvaluationParameters()).metrics
    assert metrics['energy_rmse_meV'] == pytest.approx(2) and metrics['energy_mae_meV'] == pytest.approx(2)
    assert metrics['force_rmse_meV_A'] == pytest.approx(30 / np.sqrt(3))
    assert metrics['force_mae_meV_A'] == pytest.approx(10)
    assert metrics['stress_rmse_GPa'] == pytest.approx(0.5) and metrics['stress_mae_GPa'] == pytest.approx(0.5)


def test_without_periodicity_there_is_no_stress(tiny_potential):
    molecule = Atoms('Si2', positions=[[0, 0, 0], [2.3, 0, 0]])
    molecule.info['REF_energy'] = 0.0
    molecule.arrays['REF_forces'] = np.zeros((2, 3))
    metrics = evaluate(tiny_potential, [molecule], EvaluationParameters()).metrics
    assert metrics['stress_rmse_GPa'] is None and metrics['energy_rmse_meV'] > 0


def test_what_cannot_be_evaluated_is_named(tiny_potential, labelled):
    with pytest.raises(ValueError, match='no frame to evaluate'):
        evaluate(tiny_potential, labelled[:1], EvaluationParameters())
    with pytest.raises(ValueError, match=r'frame 0 .* has no REF_energy'):
        evaluate(tiny_potential, [bulk('Si')], EvaluationParameters())
    carbide = bulk('SiC', 'zincblende', a=4.36)
    carbide.info['REF_energy'] = 0.0
    carbide.arrays['REF_forces'] = np.zeros((2, 3))
    with pytest.raises(PotentialError, match='hold C'):
        evaluate(tiny_potential, [carbide], EvaluationParameters())


def test_the_slope_of_softened_forces(tiny_potential, labelled):
    stiffer = [atoms.copy() for atoms in labelled]
    for atoms in stiffer:
        atoms.arrays['REF_forces'] = 1.25 * atoms.arrays['REF_forces']
    assert evaluate(tiny_potential, stiffer, EvaluationParameters()).metrics['force_slope'] == pytest.approx(0.8)
    for atoms in stiffer:
        atoms.arrays['REF_forces'] = np.zeros_like(atoms.positions)
    assert evaluate(tiny_potential, stiffer, EvaluationParameters()).metrics['force_slope'] is None


@pytest.fixture(scope='module')
def mixed(tmp_path_factory):
    """Return a potential for two elements and frames with wrong labels, of several conditions."""
    potential = tiny_potential_of(tmp_path_factory.mktemp('sige'), ('Si', 'Ge'))
    rng = np.random.default_rng(5)
    conditions = [{'temperature_K': 300.0}, {'temperature_K': 300.0, 'pressure_GPa': 2.0},
                  {'temperature_K': 1200.0, 'temperature_end_K': 2000.0}, {}, {'temperature_K': 1000.0}]  # fmt: skip
    frames = []
    for number, condition in enumerate(conditions):
        atoms = bulk('Si', cubic=number % 2 == 0)
        atoms.symbols[number % 2 :: 2] = 'Ge'
        atoms.rattle(0.1, rng=rng)
        split = 'hot' if number > 2 else 'test'
        atoms.info = {'origin': f'seed-{number % 2}', 'config_type': 'candidate', 'split': split, **condition}
        labels = single_point(potential, atoms)
        atoms.info['REF_energy'] = labels['energy'] + rng.normal()
        atoms.arrays['REF_forces'] = labels['forces'] + rng.normal(size=(len(atoms), 3))
        atoms.info['REF_stress'] = labels['stress'] + 0.01 * rng.normal(size=6)
        frames.append(atoms)
    del frames[3].info['origin'], frames[4].info['REF_stress']
    return potential, frames


def test_squares_of_all_groups_add_up(mixed):
    evaluation = evaluate(*mixed, EvaluationParameters())
    whole, parts = evaluation.metrics, evaluation.breakdown
    kinds = ('element', 'temperature', 'pressure', 'origin', 'config_type', 'split')
    assert set(parts) == {f'by_{kind}' for kind in kinds}
    weights = {'energy_rmse_meV': 'n_frames', 'force_rmse_meV_A': 'n_atoms'}
    for name, groups in parts.items():
        for key, weight in weights.items():
            if key == 'energy_rmse_meV' and name == 'by_element':
                continue
            squares = sum(group[weight] * group[key] ** 2 for group in groups.values())
            assert squares == pytest.approx(whole[weight] * whole[key] ** 2), name
        assert sum(group['n_atoms'] for group in groups.values()) == whole['n_atoms']


def test_groups_are_named_by_what_the_frames_say(mixed):
    parts = evaluate(*mixed, EvaluationParameters()).breakdown
    assert list(parts['by_element']) == ['Si', 'Ge']
    assert parts['by_element']['Ge']['n_frames'] == 5
    assert list(parts['by_temperature']) == ['300', '1000', '1200..2000', 'unknown']
    assert parts['by_temperature']['300']['n_frames'] == 2
    assert parts['by_temperature']['1000']['stress_rmse_GPa'] is None
    assert list(parts['by_pressure']) == ['2', 'unknown'] and list(parts['by_origin']) == [
        'seed-0',
        'seed-1',
        'unknown',
    ]
    assert list(parts['by_config_type']) == ['candidate']
    bare = [atoms.copy() for atoms in mixed[1]]
    for atoms in bare:
        for name in ('temperature_K', 'temperature_end_K'):
            atoms.info.pop(name, None)
    assert evaluate(mixed[0], bare, EvaluationParameters()).breakdown['by_temperature'] == {}


def test_by_element_compares_the_forces_of_its_atoms(mixed):
    evaluation = evaluate(*mixed, EvaluationParameters())
    predictions = evaluation.predictions
    of_ge = predictions['numbers'] == 32
    errors = (predictions['forces'] - predictions['REF_forces'])[of_ge] * 1e3
    shown = evaluation.breakdown['by_element']['Ge']
    assert shown['force_rmse_meV_A'] == pytest.approx(np.sqrt((errors**2).mean()))
    assert shown['force_mae_meV_A'] == pytest.approx(np.abs(errors).mean())
    assert shown['n_atoms'] == of_ge.sum()


@pytest.mark.slow
def test_a_committee_disagrees_as_its_forces_say(labelled, tmp_path):
    """By hand: of two forces, each is half their distance from the mean."""
    potentials = [tiny_potential_of(tmp_path, seed=seed) for seed in (1, 2)]  # labelled by a third
    frames = labelled[1:]
    result = evaluate(potentials[0], frames, EvaluationParameters(), committee=potentials[1:])
    forces = [np.array([single_point(potential, atoms)['forces'] for atoms in frames]) for potential in potentials]
    expected = np.linalg.norm(forces[0] - forces[1], axis=2).max(axis=1) / 2
    np.testing.assert_allclose(result.predictions['disagreement'], expected, rtol=1e-6)
    references = np.array([atoms.arrays['REF_forces'] for atoms in frames])
    errors = np.linalg.norm(forces[0] - references, axis=2).max(axis=1)
    assert result.metrics['calibration'] == pytest.approx(calibrate(expected, errors), rel=1e-5)


def test_the_standard_error_is_the_spread_of_test_sets():
    """The error of 40 frames, drawn again and again, spreads as the standard error of one draw says."""
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(400):
        size = rng.gamma(2.0, size=40)  # some frames are harder than others
        forces = np.repeat(size, 2)[:, None] * rng.normal(size=(80, 3))
        zeros = {name: np.zeros(40) for name in ('energy', 'REF_energy')}
        zeros |= {name: np.full((40, 6), np.nan) for name in ('stress', 'REF_stress')}
        zeros |= {'origin': np.arange(40).astype(str), 'temperature_K': np.full(40, 300.0)}
        zeros['temperature_end_K'] = np.full(40, np.nan)
        draws.append(overall({'forces': forces, 'REF_forces': 0 * forces, 'n_atoms': np.full(40, 2), **zeros}))
    spread = np.std([draw['force_rmse_meV_A'] for draw in draws])
    told = np.mean([draw['force_rmse_standard_error_meV_A'] for draw in draws])
    assert told == pytest.approx(spread, rel=0.15)


def test_frames_of_one_trajectory_are_one_piece_of_evidence():
    """Ten frames of each of eight trajectories, alike within one: the spread is that of the trajectories."""
    rng = np.random.default_rng(1)
    draws = []
    for _ in range(200):
        size = np.repeat(rng.gamma(2.0, size=8), 10)
        energy = size * rng.normal(size=80)
        nothing = np.full((80, 6), np.nan)
        columns = {'temperature_K': np.full(80, 300.0), 'temperature_end_K': np.full(80, np.nan)}
        columns |= {'energy': energy, 'REF_energy': np.zeros(80), 'stress': nothing, 'REF_stress': nothing}
        columns |= {'forces': np.ones((80, 3)), 'REF_forces': np.zeros((80, 3)), 'n_atoms': np.ones(80, dtype=int)}
        draws.append(overall(columns | {'origin': np.repeat(np.arange(8), 10).astype(str)}))
    spread = np.std([draw['energy_rmse_meV'] for draw in draws])
    told = np.mean([draw['energy_rmse_standard_error_meV'] for draw in draws])
    assert told == pytest.approx(spread, rel=0.2)
    alone = overall(columns | {'origin': np.full(80, 'one')})
    assert alone['energy_rmse_standard_error_meV'] is None and alone['stress_rmse_standard_error_GPa'] is None
