"""Errors that rise over a round."""

import pytest

from aiida_mlip_autopipe.science.evaluation.rises import risen_over, tell_risen
from aiida_mlip_autopipe.science.parameters import TrainingParameters

WEIGHTS = TrainingParameters().model_dump()


def errors(energy, force, spread=0.5, n_frames=8):
    return {
        'n_frames': n_frames,
        'energy_rmse_meV': energy, 'energy_rmse_standard_error_meV': spread,
        'force_rmse_meV_A': force, 'force_rmse_standard_error_meV_A': spread,
        'stress_rmse_GPa': None, 'stress_rmse_standard_error_GPa': None,
    }  # fmt: skip


def over(before, now, run=None, labels=None, **weights):
    return risen_over({'test': before, 'hot': None}, {'test': now, 'hot': None}, run or {}, WEIGHTS | weights, labels)


def test_a_rise_within_the_standard_error_is_no_rise():
    assert over(errors(2.0, 40.0), errors(2.4, 30.0)) is None
    assert over(errors(2.0, 40.0), errors(1.0, 40.5)) is None
    risen = over(errors(2.0, 40.0), errors(2.6, 30.0))
    assert risen['errors'] == {'test': {'energy_rmse_meV': {'before': 2.0, 'now': 2.6, 'standard_error': 0.5}}}


def test_a_rise_on_one_trajectory_is_told_as_uncertain():
    risen = over(errors(2.0, 40.0, None), errors(2.1, 40.0, None))
    assert 'energy from 2.00 to 2.10 (one trajectory, so of unknown uncertainty) meV/atom' in tell_risen(risen)


@pytest.mark.parametrize(
    ('arguments', 'reason'),
    [
        ({'run': {'limited_by': 'training'}}, 'the training was limited by its steps'),
        ({'run': {'learning_rates_lowered_by': 0.25}}, 'learning rates 0.25 times as high'),
        ({'labels': 'the labels are of 2 levels of theory'}, 'the labels are of 2 levels of theory'),
        ({'swa_fraction': 0.0}, 'forces, which gained, weigh more in the loss'),
        ({'swa_energy_weight': 1.0}, 'forces, which gained, weigh more in the loss'),
    ],
)
def test_the_reason_is_told_where_it_is_known(arguments, reason):
    risen = over(errors(2.0, 40.0), errors(3.0, 30.0), **arguments)
    assert len(risen['reasons']) == 1 and reason in tell_risen(risen)


def test_another_test_set_is_a_reason():
    assert over(errors(2.0, 40.0), errors(3.0, 50.0, n_frames=9))['reasons'] == [
        "the set 'test' has 9 frames, before 8"
    ]


def test_an_unknown_reason_is_told_as_such():
    """Energies weigh more than forces in the second stage, so the loss explains nothing."""
    told = tell_risen(over(errors(2.0, 40.0), errors(3.0, 30.0), {'limited_by': 'labels'}))
    assert told == (
        'errors rose: energy from 2.00 to 3.00 ± 0.50 meV/atom: the reason is not known; other random seeds of the '
        'training (training.random_seed) show whether it is chance'
    )
