"""A row that is far from all others changes neither the components nor the picks of the others."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from aiida_mlip_autopipe.science.sampling import DirectSampler
from aiida_mlip_autopipe.science.sampling.outliers import set_apart
from aiida_mlip_autopipe.science.sampling.reduction import SAMPLE, measure

RNG = np.random.default_rng(11)
CLEAN = RNG.normal(size=(3000, 8)) @ RNG.normal(size=(8, 40)) + 0.1 * RNG.normal(size=(3000, 40))


def spoilt(place=1234, spreads=300.0):
    rows = CLEAN.copy()
    rows[place] += spreads * CLEAN.std(axis=0)
    return rows


@pytest.mark.parametrize('place', [0, 1234])
def test_one_row_at_300_spreads_changes_neither_the_components_nor_the_other_picks(place):
    clean = DirectSampler(100).fit(np.delete(CLEAN, place, axis=0))
    with pytest.warns(UserWarning, match=rf'X has 1 outlying row \({place}\).*would be 1 instead of 8'):
        sampler = DirectSampler(100).fit(spoilt(place))
    assert sampler.n_components_ == clean.n_components_ == 8
    np.testing.assert_allclose(sampler.components_, clean.components_, atol=1e-6)
    before = set((clean.selected_idx_ + (clean.selected_idx_ >= place)).tolist())
    assert place in sampler.selected_idx_ and len(before & set(sampler.selected_idx_.tolist())) >= 80
    assert sampler.report_['n_outliers'] == 1 and sampler.report_['n_components_with_outliers'] == 1


def test_where_no_row_is_far_from_the_others_nothing_is_read_again_and_nothing_changes():
    readings = []

    def source():
        readings.append(1)
        return [CLEAN[:1500], CLEAN[1500:]]

    with warnings.catch_warnings():
        warnings.simplefilter('error')
        sampler = DirectSampler(100).fit(source)
    assert len(readings) == 2 and sampler.report_['n_outliers'] == 0
    assert 'n_components_with_outliers' not in sampler.report_
    moments = measure(CLEAN)
    assert set_apart(CLEAN, moments)[0] is moments


def test_a_second_population_is_no_outlier_and_a_feature_that_seldom_varies_has_none():
    rare = CLEAN.copy()
    rare[:60] += 30 * CLEAN.std(axis=0)
    assert DirectSampler(50).fit(rare).report_['n_outliers'] == 0
    seldom = np.column_stack([CLEAN, np.arange(3000) % 1000 == 0])
    assert DirectSampler(50).fit(seldom).report_['n_outliers'] == 0


def test_few_rows_are_all_believed():
    rows = spoilt()[1220:1250]
    assert DirectSampler(5).fit(rows).report_['n_outliers'] == 0


def test_outliers_do_not_depend_on_the_order_or_the_chunks_and_a_known_one_is_not_taken_again():
    rows, order = spoilt(), RNG.permutation(3000)
    with pytest.warns(UserWarning, match='outlying row'):
        straight = DirectSampler(60).fit(rows.astype(np.float32), known=rows[1234:1235])
        chunks = DirectSampler(60).fit(lambda: np.array_split(rows[order].astype(np.float32), 7), known=rows[1234:1235])
    assert 1234 not in straight.selected_idx_ and straight.n_components_ == chunks.n_components_ == 8
    np.testing.assert_allclose(straight.explained_variance_, chunks.explained_variance_, rtol=1e-4, atol=1e-6)


def test_a_warning_is_not_given_where_the_number_of_components_hardly_changes():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        sampler = DirectSampler(20).fit(spoilt(spreads=16.0))
    assert sampler.report_['n_outliers'] == 1


def test_the_sample_of_rows_is_bounded_and_does_not_depend_on_their_order():
    many = np.random.default_rng(0).normal(size=(9 * SAMPLE, 3))
    ordered = [np.unique(measure(rows).sample, axis=0) for rows in (many, many[::-1], np.repeat(many, 2, axis=0))]
    assert ordered[0].shape == (SAMPLE, 3)
    for other in ordered[1:]:
        np.testing.assert_allclose(other, ordered[0], atol=1e-12)


def test_rows_that_change_between_the_readings_are_refused():
    readings = iter([spoilt(), CLEAN])
    with pytest.raises(ValueError, match='row 1234 has changed'):
        DirectSampler(5).fit(lambda: [next(readings)])
