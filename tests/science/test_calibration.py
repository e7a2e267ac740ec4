"""A committee's disagreement against true errors."""

import numpy as np
import pytest

from aiida_mlip_autopipe.science.evaluation import calibrate


def test_the_factor_is_the_one_that_was_put_in():
    """Errors drawn from normal distributions that are three times as wide as the disagreement."""
    rng = np.random.default_rng(0)
    disagreements = rng.uniform(0.01, 0.5, 20_000)
    found = calibrate(disagreements, np.abs(rng.normal(scale=3 * disagreements)))
    assert found['n_frames'] == 20_000
    assert found['factor'] == pytest.approx(3, rel=5 / np.sqrt(2 * 20_000))
    assert 0.5 < found['rank_correlation'] < 0.8


def test_proportional_errors_are_ranked_alike():
    disagreements = [0.1, 0.4, 0.2, 0.3]
    expected = {'n_frames': 4, 'factor': pytest.approx(2.5), 'rank_correlation': pytest.approx(1)}
    assert calibrate(disagreements, [2.5 * each for each in disagreements]) == expected
    backwards = calibrate(disagreements, [1 / each for each in disagreements])
    assert backwards['rank_correlation'] == pytest.approx(-1)


@pytest.mark.parametrize(
    ('disagreements', 'errors', 'n_frames', 'factor'),
    [
        ([], [], 0, None),
        ([0.0, np.nan, 0.1], [1.0, 1.0, np.inf], 0, None),
        ([0.1, 0.2], [0.2, 0.4], 2, 2.0),
        ([0.1, 0.1, 0.1], [0.2, 0.2, 0.2], 3, 2.0),
    ],
)
def test_what_cannot_be_said_is_none(disagreements, errors, n_frames, factor):
    found = calibrate(disagreements, errors)
    assert found == {'n_frames': n_frames, 'factor': factor and pytest.approx(factor), 'rank_correlation': None}
