"""When the rounds end."""

import pytest

from aiida_mlip_autopipe.science.evaluation import (
    REASONS_TO_STOP,
    has_converged,
    missed_tolerances,
    tell_missed,
    why_to_stop,
)
from aiida_mlip_autopipe.science.parameters import EvaluationParameters, LoopParameters

METRICS = {
    'energy_rmse_meV': 1.0, 'force_rmse_meV_A': 40.0, 'stress_rmse_GPa': 0.2,
    'energy_rmse_standard_error_meV': 0.0, 'force_rmse_standard_error_meV_A': 0.0,
    'stress_rmse_standard_error_GPa': 0.0,
}  # fmt: skip
BOTH = {'test': METRICS, 'hot': METRICS}
STRICT = {'max_energy_rmse_meV': 1.0, 'max_force_rmse_meV_A': 39.9, 'max_stress_rmse_GPa': 0.2}
MILD = {'max_energy_rmse_meV': 1.0, 'max_force_rmse_meV_A': 40.0}


def why(n_rounds, n_labels=0, core_hours=1.0, tolerances=None, found_nothing=False, **loop):
    """Return why to stop where another round would ask for ten labels."""
    evaluation = EvaluationParameters(**(tolerances or {}))
    return why_to_stop(
        LoopParameters(**loop),
        evaluation,
        {'test': METRICS, 'hot': METRICS},
        n_rounds=n_rounds,
        n_labels=n_labels,
        n_next=10,
        core_hours=core_hours,
        found_nothing=found_nothing,
    )


def test_only_what_was_asked_for_can_be_missed():
    assert missed_tolerances(BOTH, EvaluationParameters()) == {}
    assert missed_tolerances(BOTH, EvaluationParameters(**MILD)) == {}
    missed = missed_tolerances({'test': METRICS}, EvaluationParameters(**STRICT, hot_factor=None))
    assert missed == {'test': {'force_rmse_meV_A': {'is': 40.0, 'standard_error': 0.0, 'wanted': 39.9}}}


@pytest.mark.parametrize('spread', [2.0, None])
def test_an_error_counts_with_its_uncertainty(spread):
    """One that is below its tolerance by less than its standard error, or of one trajectory, is not within."""
    uncertain = METRICS | {'force_rmse_standard_error_meV_A': spread}
    limits = EvaluationParameters(max_force_rmse_meV_A=41.0)
    assert set(missed_tolerances({'test': METRICS, 'hot': uncertain}, limits)) == {'hot'}
    limits = EvaluationParameters(max_force_rmse_meV_A=42.0)
    assert set(missed_tolerances({'test': METRICS, 'hot': uncertain}, limits)) == (set() if spread else {'hot'})


def test_a_part_of_the_test_set_that_is_not_there_is_within_no_tolerance():
    """The hotter set was planned, and no frame of it has a label."""
    missed = missed_tolerances({'test': METRICS}, EvaluationParameters(**MILD))
    assert {key: one['is'] for key, one in missed['hot'].items()} == {'energy_rmse_meV': None, 'force_rmse_meV_A': None}
    assert missed_tolerances({'test': METRICS}, EvaluationParameters(**MILD, hot_factor=None)) == {}


def test_the_hotter_test_set_is_held_to_the_same_tolerances():
    far = {'test': METRICS, 'hot': METRICS | {'energy_rmse_meV': 1.5}}
    missed = missed_tolerances(far, EvaluationParameters(**MILD))
    assert missed == {'hot': {'energy_rmse_meV': {'is': 1.5, 'standard_error': 0.0, 'wanted': 1.0}}}


def test_what_is_missed_is_told_with_its_uncertainty():
    uncertain = METRICS | {'force_rmse_standard_error_meV_A': 2.0}
    missed = missed_tolerances({'test': uncertain}, EvaluationParameters(max_force_rmse_meV_A=41.0))
    assert tell_missed(missed) == 'forces (meV/Å) 40.0 ± 2.0 of 41, forces (meV/Å) - of 41 (hotter test set)'
    assert tell_missed({}) == ''
    assert has_converged('nothing_new', {}) and has_converged('tolerances', {})
    assert not has_converged('nothing_new', missed) and not has_converged('rounds', {})


@pytest.mark.parametrize('value', [None, float('nan')])
def test_an_error_that_is_no_number_is_above_any_tolerance(value):
    metrics = METRICS | {'stress_rmse_GPa': value}
    missed = missed_tolerances({'test': metrics}, EvaluationParameters(max_stress_rmse_GPa=1e9))
    assert list(missed['test']) == ['stress_rmse_GPa']


@pytest.mark.parametrize(
    ('reason', 'arguments'),
    [
        (None, {'n_rounds': 0}),
        (None, {'n_rounds': 1, 'tolerances': MILD}),  # two rounds at least
        ('tolerances', {'n_rounds': 2, 'tolerances': MILD, 'max_rounds': 5}),
        ('tolerances', {'n_rounds': 2, 'tolerances': MILD, 'max_rounds': 2}),
        ('tolerances', {'n_rounds': 1, 'tolerances': MILD, 'min_rounds': 1}),
        (None, {'n_rounds': 2, 'tolerances': STRICT, 'max_rounds': 5}),
        (None, {'n_rounds': 1, 'found_nothing': True, 'max_rounds': 5}),  # other random numbers may find something
        ('nothing_new', {'n_rounds': 2, 'found_nothing': True, 'max_rounds': 5}),
        ('nothing_new', {'n_rounds': 2, 'found_nothing': True, 'max_rounds': 2}),
        ('rounds', {'n_rounds': 1, 'found_nothing': True, 'max_rounds': 1}),
        ('core_hours', {'n_rounds': 1, 'found_nothing': True, 'core_hours': 2.0, 'max_core_hours': 2.0}),
        (None, {'n_rounds': 4, 'max_rounds': 5}),  # without a tolerance nothing is good enough
        ('rounds', {'n_rounds': 5, 'max_rounds': 5}),
        ('rounds', {'n_rounds': 1, 'tolerances': MILD, 'max_rounds': 1}),
        (None, {'n_rounds': 1, 'n_labels': 90, 'max_labels': 100}),
        ('labels', {'n_rounds': 1, 'n_labels': 91, 'max_labels': 100}),
        ('labels', {'n_rounds': 0, 'n_labels': 91, 'max_labels': 100}),
        (None, {'n_rounds': 1, 'core_hours': 9.9, 'max_core_hours': 10.0}),
        ('core_hours', {'n_rounds': 1, 'core_hours': 10.0, 'max_core_hours': 10.0}),
    ],
)
def test_the_first_reason_that_holds_ends_the_run(reason, arguments):
    assert why(**arguments) == reason
    assert reason is None or reason in REASONS_TO_STOP
