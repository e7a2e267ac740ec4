"""What further labels are said to be worth."""

import numpy as np
import pytest

from aiida_mlip_autopipe.science.evaluation.learning_curve import fit_learning_curve


def test_a_power_law_is_found_again():
    n = np.array([20, 40, 80, 160, 320])
    curve = fit_learning_curve(n, 300 * n**-0.4, 0.001 * n, n_more=50)
    assert curve['exponent'] == pytest.approx(0.4, abs=2 * curve['exponent_std'])
    assert curve['now'] == pytest.approx(300 * 320**-0.4, rel=0.05)
    assert curve['low'] < 300 * 370**-0.4 < curve['high']
    assert curve['gain_percent'] == pytest.approx(100 * (1 - (370 / 320) ** -0.4), abs=2.5)


def test_a_floor_is_seen_where_the_errors_fall_no_more():
    """Of errors that stay, little is said to be gained, whatever exponent is usual."""
    n = [20, 40, 80, 160]
    flat, falling = (fit_learning_curve(n, errors, np.full(4, 0.5)) for errors in ([80, 50, 45, 44], [80, 57, 40, 28]))
    assert flat['floor'] > 1.5 * falling['floor']
    assert flat['gain_percent'] < 0.5 * falling['gain_percent']


def test_the_truth_lies_within_the_uncertainty_as_often_as_it_should():
    """Of curves drawn as the method believes, about two thirds end within its bounds."""
    rng = np.random.default_rng(0)
    n, within, n_curves = np.array([15, 25, 35]), 0, 500
    for _ in range(n_curves):
        exponent, floor = rng.normal(0.5, 0.5), 100 * rng.uniform(0, 1)
        true = floor + (100 - floor) * (n / 35.0) ** -exponent
        noisy = true * np.exp(rng.normal(0, np.hypot(0.1, 0.13), 3))
        curve = fit_learning_curve(n, noisy, 0.1 * noisy, n_more=50)
        within += curve['low'] < floor + (100 - floor) * (85 / 35) ** -exponent < curve['high']
    assert within / n_curves == pytest.approx(0.683, abs=4 * np.sqrt(0.683 * 0.317 / n_curves))


def test_two_points_do_not_claim_much():
    """The exponent of two noisy points stays near what is known of other potentials, with a wide margin."""
    curve = fit_learning_curve([20, 22], [100.0, 60.0], [20.0, 12.0])
    assert 0.4 < curve['exponent'] < 0.8 and curve['exponent_std'] > 0.3
    assert curve['low'] < curve['expected'] < curve['high']
    assert curve['gain_low_percent'] < curve['gain_percent'] < curve['gain_high_percent']


def test_more_frames_in_the_test_set_make_it_surer():
    widths = [
        (curve := fit_learning_curve([20, 40, 80], [90, 60, 45], np.full(3, error)))['high'] - curve['low']
        for error in (20, 5, 1)
    ]
    assert widths[0] > widths[1] > widths[2] > 0


def test_one_point_is_no_curve_and_nonsense_is_refused():
    assert fit_learning_curve([20], [90], [1]) is None
    assert fit_learning_curve([20, 20], [90, 80], [1, 1]) is None
    with pytest.raises(ValueError, match='must be positive'):
        fit_learning_curve([20, 40], [90, -1], [1, 1])
