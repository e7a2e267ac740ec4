"""What the figures of a selection show, for every kind of result, and that they are drawn alike each time."""

import json

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from aiida_mlip_autopipe.science.sampling import DirectSampler
from aiida_mlip_autopipe.science.sampling.coverage import coverage_of
from aiida_mlip_autopipe.science.sampling.figures import draw_figures, figure_data

NAMES = ['explained_variance.svg', 'selection_map.svg', 'cluster_populations.svg', 'radius_by_budget.svg']
CURVES = ['selected', 'random', 'farthest']


def correlated(seed=0, n_rows=600, n_features=30, rank=6):
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(n_rows, rank)) @ generator.normal(size=(rank, n_features))
    return rows + 0.01 * generator.normal(size=rows.shape)


def with_nan():
    rows = correlated()
    rows[::7, 3] = np.nan
    return rows


X = correlated()
CASES = {
    'clusters': lambda: DirectSampler(40).fit(X),
    'all reasons': lambda: DirectSampler(40, coverage_fill=0.1, n_per_cluster=2).fit(X),
    'known': lambda: DirectSampler(40).fit(X, known=correlated(1)[:50]),
    'groups': lambda: DirectSampler(40).fit(X, groups=np.arange(len(X)) % 3),
    'not finite': lambda: DirectSampler(40).fit(with_nan()),
    'random': lambda: DirectSampler(40, selection='random').fit(X),
    'half at random': lambda: DirectSampler(40, random_fraction=0.5).fit(X),
    'farthest': lambda: DirectSampler(40, selection='farthest').fit(X),
    'one component': lambda: DirectSampler(40, max_components=1).fit(X, known=X[:5]),
    'one pick': lambda: DirectSampler(1).fit(X),
    'everything': lambda: DirectSampler(1000).fit(X),
    'one frame': lambda: DirectSampler(5).fit(X[:1]),
    'equal frames': lambda: DirectSampler(5).fit(np.ones((20, 3))),
    'nothing new': lambda: DirectSampler(5).fit(X, known=X),
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys(), scope='module')
def sampler(request):
    return request.param()


def test_data_are_plain_numbers_that_agree_with_the_sampler(sampler):
    data = json.loads(json.dumps(figure_data(sampler), allow_nan=False))
    density, picks = data['density'], data['picks']
    counts = np.array(density['counts'])
    assert counts.shape == (len(density['x_edges']) - 1, len(density['y_edges']) - 1)
    assert counts.sum() == np.isfinite(sampler.scores_[:, 0]).sum()
    assert picks['reason'] == sampler.reasons_
    assert picks['rank'] == list(range(len(sampler.selected_idx_)))
    np.testing.assert_allclose(picks['x'], sampler.scores_[sampler.selected_idx_, 0], rtol=1e-4)
    assert len(data['known']['x']) == len(data['known']['y']) == sampler.report_['n_known']
    assert sum(data['cluster_populations']['population']) == np.count_nonzero(sampler.labels_ >= 0)
    assert data['explained_variance']['kept'] == sampler.report_['explained_variance_kept']


def test_the_radius_falls_to_that_of_the_selection(sampler):
    shown = figure_data(sampler)['radius_by_budget']
    n_selected, budgets = len(sampler.selected_idx_), shown['budgets']
    assert shown['n_selected'] == n_selected
    for name in CURVES:
        assert np.all(np.diff(shown[name]) <= 0)
    if n_selected == 0:
        assert budgets == shown['selected'] == shown['random'] == shown['farthest'] == []
        return
    assert budgets == sorted(set(budgets)) and budgets[0] == 1 and budgets[-1] == 2 * n_selected
    assert len(shown['selected']) == len(shown['random']) == budgets.index(n_selected) + 1
    picks = np.concatenate([sampler.known_scores_, sampler.scores_[sampler.selected_idx_]])
    points = sampler.scores_[np.isfinite(sampler.scores_[:, 0])][sampler.subsample()]
    assert shown['selected'][-1] == pytest.approx(coverage_of(points, picks).covering_radius, rel=1e-4)


@pytest.mark.slow
def test_figures_are_written_alike_each_time(sampler, tmp_path):
    data = figure_data(sampler)
    first = draw_figures(data, tmp_path / 'a' / 'b')
    again = draw_figures(json.loads(json.dumps(data)), tmp_path / 'c')
    assert [path.name for path in first] == NAMES
    for one, other in zip(first, again, strict=True):
        assert one.read_bytes() == other.read_bytes()
        assert one.read_text().startswith('<?xml')


def test_radii_are_those_of_adding_one_pick_after_the_other():
    sampler = CASES['known']()
    shown = figure_data(sampler)['radius_by_budget']
    points, picks = sampler.scores_, sampler.scores_[sampler.selected_idx_]
    uncovered = cdist(points, sampler.known_scores_).min(axis=1)
    between = cdist(picks, sampler.known_scores_).min(axis=1)
    assert shown['radius_of_known'] == pytest.approx(uncovered.max(), rel=1e-4)
    radii = []
    for _ in picks:
        farthest = picks[between.argmax()]
        between = np.minimum(between, np.linalg.norm(picks - farthest, axis=1))
        uncovered = np.minimum(uncovered, np.linalg.norm(points - farthest, axis=1))
        radii.append(uncovered.max())
    up_to_now = [budget - 1 for budget in shown['budgets'] if budget <= shown['n_selected']]
    np.testing.assert_allclose(shown['selected'], np.array(radii)[up_to_now], rtol=1e-4)


def test_a_farthest_selection_covers_as_a_farthest_point_traversal_does():
    shown = figure_data(CASES['farthest']())['radius_by_budget']
    assert shown['selected'] == shown['farthest'][: len(shown['selected'])]


def test_the_density_is_that_of_a_histogram():
    generator = np.random.default_rng(0)
    sampler = DirectSampler(5, min_eigenvalue=0).fit(generator.normal(size=(25_000, 2)))
    density = figure_data(sampler)['density']
    expected, _, _ = np.histogram2d(*sampler.scores_.astype(float).T, bins=100)
    assert np.abs(np.array(density['counts']) - expected).sum() <= 20  # rounding at the edges of bins


@pytest.mark.slow
def test_many_frames_and_picks_stay_small(tmp_path):
    rows = np.random.default_rng(0).normal(size=(60_000, 3)).astype(np.float32)
    sampler = DirectSampler(3000, min_eigenvalue=0).fit(rows, known=rows[:2500] + 0.05)
    data = figure_data(sampler)
    assert len(json.dumps(data)) < 200_000
    assert len(data['radius_by_budget']['budgets']) <= 100
    assert len(data['picks']['x']) == len(data['known']['x']) == len(data['cluster_populations']['rank']) == 1500
    assert data['picks']['rank'][-1] == 2999
    assert data['picks']['n_by_reason'] == sampler.report_['n_by_reason']
    assert sum(path.stat().st_size for path in draw_figures(data, tmp_path)) < 1_000_000
