"""Evaluation: errors that can be worked out by hand."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk

from aiida_mlip_autopipe.science.evaluation import evaluate
from aiida_mlip_autopipe.science.parameters import EvaluationParameters
from aiida_mlip_autopipe.science.training import PotentialError
from tests.labels import labelled_silicon


@pytest.fixture(scope='module')
def labelled(tiny_potential):
    """Return an isolated atom and three cells, labelled by the potential itself."""
    return labelled_silicon(tiny_potential, 3)


def test_a_potential_makes_no_error_on_its_own_labels(tiny_potential, labelled):
    result = evaluate(tiny_potential, labelled, EvaluationParameters())
    assert result.metrics['n_frames'] == 3 and result.metrics['n_atoms'] == 6
    errors = [value for key, value in result.metrics.items() if not key.startswith('n_')]
    assert len(errors) == 6 and max(errors) < 1e-6
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
