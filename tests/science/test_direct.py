"""DIRECT on planted clusters, its edge cases, and what it reports."""

import json

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from aiida_mlip_autopipe.science.sampling import DirectSampler
from aiida_mlip_autopipe.science.sampling.reduction import distinct_rows, reduce
from aiida_mlip_autopipe.science.sampling.selection import coverage_score, covering_radius, farthest_points

METHODS = ['kmeans', 'kmedoids']


def planted(seed, n_clusters=6, members=30, width=0.06):
    """Return well separated clusters in the plane, shuffled, and the cluster of each row."""
    generator = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(np.arange(4.0), np.arange(4.0)), axis=-1).reshape(-1, 2)
    centres = grid[generator.choice(len(grid), n_clusters, replace=False)]
    labels = generator.permutation(np.repeat(np.arange(n_clusters), members))
    return centres[labels] + generator.normal(scale=width, size=(len(labels), 2)), labels


def correlated(seed=0, n_rows=400, n_features=30, rank=5):
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(n_rows, rank)) @ generator.normal(size=(rank, n_features))
    return rows + 0.01 * generator.normal(size=rows.shape)


def in_plane(X):
    """Return rows in the space in which DIRECT measures distances when it keeps all components."""
    return (X - X.mean(axis=0)) / X.std(axis=0)


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('seed', range(5))
def test_every_planted_cluster_gets_the_pick_nearest_to_its_centroid(method, seed):
    X, planted_labels = planted(seed)
    sampler = DirectSampler(6, method, min_eigenvalue=0, random_state=seed, fill_fraction=0).fit(X)
    picks = sampler.selected_idx_
    assert sorted(planted_labels[picks]) == list(range(6))
    assert sampler.reasons_ == ['centroid'] * 6
    scaled = in_plane(X)
    for rank, pick in enumerate(picks):
        members = np.flatnonzero(planted_labels == planted_labels[pick])
        distances = np.linalg.norm(scaled[members] - scaled[members].mean(axis=0), axis=1)
        assert pick == members[distances.argmin()]
        assert sampler.distances_[rank] == pytest.approx(distances.min())
        assert np.unique(sampler.labels_[members]).tolist() == [sampler.labels_[pick]]


@pytest.mark.parametrize('method', METHODS)
def test_a_lonely_row_is_found_by_the_fill(method):
    X, _ = planted(1, members=200)
    X = np.concatenate([X, [[9.0, -5.0]]])
    sampler = DirectSampler(10, method, min_eigenvalue=0).fit(X)
    assert len(X) - 1 in sampler.selected_idx_
    assert sampler.reasons_.count('fill') == 1
    assert sampler.report_['n_fill'] == 1


def test_reduction_agrees_with_scikit_learn():
    X = correlated()
    ones = np.ones(len(X))
    reduction = reduce(X, ones, min_eigenvalue=1.0)
    pca = PCA().fit(StandardScaler().fit_transform(X))
    eigenvalues = pca.explained_variance_ * (len(X) - 1) / len(X)
    kept = (eigenvalues > 1).sum()
    assert len(reduction.components) == kept == 5
    np.testing.assert_allclose(reduction.explained_variance, eigenvalues[:kept], rtol=1e-10)
    np.testing.assert_allclose(reduction.explained_variance_ratio, pca.explained_variance_ratio_[:kept], rtol=1e-10)
    scores = pca.transform(StandardScaler().fit_transform(X))[:, :kept]
    np.testing.assert_allclose(np.abs(reduction.scores), np.abs(scores), atol=1e-9)


def test_reduction_with_fewer_rows_than_features():
    X = correlated(n_rows=12)
    reduction = reduce(X, np.ones(12), min_eigenvalue=0.0)
    assert len(reduction.components) == 11
    np.testing.assert_allclose(reduction.components @ reduction.components.T, np.eye(11), atol=1e-10)
    np.testing.assert_allclose((reduction.scores**2).mean(axis=0), reduction.explained_variance, rtol=1e-9)


def test_at_least_one_component_is_kept():
    X = np.random.default_rng(0).normal(size=(50, 4))
    assert DirectSampler(5, min_eigenvalue=100.0).fit(X).n_components_ == 1


def test_constant_columns_change_nothing():
    X = correlated()
    padded = np.insert(X, [0, 10], [0.0, 7.3], axis=1)
    plain, other = DirectSampler(20).fit(X), DirectSampler(20).fit(padded)
    np.testing.assert_array_equal(other.selected_idx_, plain.selected_idx_)
    np.testing.assert_allclose(other.explained_variance_, plain.explained_variance_)


def test_a_column_that_varies_by_rounding_alone_is_constant():
    X = correlated()
    noisy = np.column_stack([X, 1e3 * (1 + 1e-15 * np.random.default_rng(0).normal(size=len(X)))])
    np.testing.assert_allclose(DirectSampler(20).fit(noisy).components_[:, -1], 0.0, atol=1e-12)


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('n_to_select', [1, 2, 19, 50, 100, 399, 400])
def test_exactly_as_many_distinct_picks_as_asked_for(method, n_to_select):
    sampler = DirectSampler(n_to_select, method).fit(correlated())
    assert len(set(sampler.selected_idx_.tolist())) == n_to_select
    assert len(sampler.reasons_) == len(sampler.distances_) == n_to_select
    assert sampler.report_['n_selected'] == n_to_select
    assert sampler.report_['n_shortfall'] == 0


@pytest.mark.parametrize('method', METHODS)
def test_repeated_rows_are_selected_once_and_the_shortfall_reported(method):
    distinct = correlated(n_rows=7)
    index = np.random.default_rng(0).integers(0, 7, 60)
    index[:7] = np.arange(7)
    sampler = DirectSampler(20, method).fit(distinct[index])
    assert sorted(index[sampler.selected_idx_]) == list(range(7))
    assert sampler.selected_idx_.max() < 7  # the first of equal rows
    assert (sampler.report_['n_distinct'], sampler.report_['n_selected'], sampler.report_['n_shortfall']) == (7, 7, 13)
    assert sampler.report_['covering_radius'] == 0.0
    assert sampler.report_['coverage'] == 1.0
    for group in range(7):
        assert len(set(sampler.labels_[index == group].tolist())) == 1


@pytest.mark.parametrize('selection', ['direct', 'random'])
@pytest.mark.parametrize('n_rows', [1, 30])
def test_identical_rows_give_one_pick(n_rows, selection):
    sampler = DirectSampler(5, selection=selection).fit(np.ones((n_rows, 4)))
    assert sampler.selected_idx_.tolist() == [0]
    assert sampler.n_components_ == 1
    assert sampler.report_['explained_variance_kept'] == 0.0
    assert sampler.report_['n_distinct'] == 1


def test_rows_that_differ_only_in_what_is_dropped_are_still_all_selected():
    X = np.random.default_rng(0).normal(size=(30, 2)) * [1.0, 1e-13] + [0.0, 1.0]
    X[:, 0] = np.repeat(X[:3, 0], 10)
    sampler = DirectSampler(20).fit(X)
    assert len(set(sampler.selected_idx_.tolist())) == 20


@pytest.mark.parametrize('selection', ['direct', 'random'])
def test_rows_that_are_not_finite_are_left_out_and_indices_mapped_back(selection):
    X = correlated()
    bad = [0, 17, 399, 402]
    with_bad = np.insert(X, [0, 16, 397, 399], np.nan, axis=0)
    with_bad[17, 1:] = np.inf
    assert np.flatnonzero(~np.isfinite(with_bad).all(axis=1)).tolist() == bad
    plain, masked = DirectSampler(20, selection=selection).fit(X), DirectSampler(20, selection=selection).fit(with_bad)
    np.testing.assert_array_equal(with_bad[masked.selected_idx_], X[plain.selected_idx_])
    assert (masked.labels_[bad] == -1).all()
    assert np.isnan(masked.scores_[bad]).all()
    assert np.isfinite(np.delete(masked.scores_, bad, axis=0)).all()
    assert masked.report_ == {**plain.report_, 'n_frames': 404}
    assert masked.report_['n_finite'] == 400


@pytest.mark.parametrize('method', METHODS)
def test_deterministic_and_indifferent_to_the_order_of_the_rows(method):
    X = correlated()
    first, again = DirectSampler(30, method, random_state=4).fit(X), DirectSampler(30, method, random_state=4).fit(X)
    np.testing.assert_array_equal(first.selected_idx_, again.selected_idx_)
    assert first.report_ == again.report_
    order = np.random.default_rng(1).permutation(len(X))
    shuffled = DirectSampler(30, method, random_state=4).fit(X[order])
    np.testing.assert_array_equal(order[shuffled.selected_idx_], first.selected_idx_)


def test_labels_are_numbered_by_population_and_ranks_follow():
    sampler = DirectSampler(20).fit(correlated())
    populations = np.bincount(sampler.labels_)
    assert (np.diff(populations) <= 0).all()
    assert sampler.labels_[sampler.selected_idx_[:18]].tolist() == list(range(18))
    assert sampler.report_['cluster_population_max'] == populations[0]
    assert sampler.report_['n_clusters'] == len(populations) == 18


def test_random_selection_is_seeded_and_marked():
    X = correlated()
    first = DirectSampler(20, selection='random', random_state=1).fit(X)
    again = DirectSampler(20, selection='random', random_state=1).fit(X)
    other = DirectSampler(20, selection='random', random_state=2).fit(X)
    np.testing.assert_array_equal(first.selected_idx_, again.selected_idx_)
    assert set(first.selected_idx_.tolist()) != set(other.selected_idx_.tolist())
    assert first.reasons_ == ['random'] * 20
    assert (first.labels_ == -1).all()
    np.testing.assert_allclose(first.distances_, np.linalg.norm(first.scores_[first.selected_idx_], axis=1), rtol=1e-6)
    assert first.report_['n_clusters'] == 0


def test_direct_covers_better_than_random():
    generator = np.random.default_rng(0)
    crowd = generator.normal(size=(2000, 10)) * 0.1
    sparse = generator.normal(size=(40, 10)) * 3
    report = DirectSampler(30).fit(np.concatenate([crowd, sparse])).report_
    assert report['covering_radius'] < report['covering_radius_random']
    assert report['coverage'] > report['coverage_random']


def test_report_holds_plain_numbers():
    report = DirectSampler(10).fit(correlated()).report_
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert {type(value) for value in report.values()} == {int, float}


def test_coverage_counts_occupied_bins():
    scores = np.column_stack([np.arange(200) / 2, np.zeros(200)])
    assert coverage_score(scores, np.arange(200)) == 1.0
    assert coverage_score(scores, np.arange(0, 200, 8)) == pytest.approx((0.25 + 1) / 2)


def test_farthest_points_and_covering_radius_on_a_line():
    line = np.array([[0.0], [1.0], [2.0], [5.0], [9.0]])
    order = np.arange(5)
    assert farthest_points(line, np.array([0]), 3, order).tolist() == [4, 3, 2]
    assert covering_radius(line, np.array([0, 4])) == 4.0
    assert farthest_points(np.array([[0.0], [1.0], [-1.0]]), np.array([0]), 1, np.arange(3)).tolist() == [1]
    assert farthest_points(np.array([[0.0], [1.0], [-1.0]]), np.array([0]), 1, np.array([0, 2, 1])).tolist() == [2]


def test_distinct_rows_are_told_apart_by_value():
    rows = np.array([[1.0, 2.0], [0.0, -0.0], [1.0, 2.0], [0.0, 0.0], [3.0, 4.0]])
    first, group, counts = distinct_rows(rows)
    assert first.tolist() == [0, 1, 4]
    assert group.tolist() == [0, 1, 0, 1, 2]
    assert counts.tolist() == [2, 2, 1]


def test_rounding_errors_do_not_change_the_selection():
    X = correlated()
    noisy = X * (1 + 1e-13 * np.random.default_rng(1).normal(size=X.shape))
    np.testing.assert_array_equal(DirectSampler(20).fit(noisy).selected_idx_, DirectSampler(20).fit(X).selected_idx_)


@pytest.mark.parametrize(
    ('keywords', 'words'),
    [
        ({'n_to_select': 0}, 'n_to_select=0'),
        ({'clustering': 'birch'}, "clustering='birch'"),
        ({'selection': 'best'}, "selection='best'"),
        ({'min_eigenvalue': -1.0}, 'min_eigenvalue=-1.0'),
        ({'min_eigenvalue': float('nan')}, 'min_eigenvalue=nan'),
        ({'fill_fraction': 1.0}, 'fill_fraction=1.0'),
    ],
)
def test_bad_parameters_are_named(keywords, words):
    with pytest.raises(ValueError, match=words):
        DirectSampler(**({'n_to_select': 5} | keywords))


@pytest.mark.parametrize('shape', [(0, 3), (3, 0), (3,)])
def test_input_without_rows_or_features_is_refused(shape):
    with pytest.raises(ValueError, match='X has shape'):
        DirectSampler(2).fit(np.zeros(shape))


def test_input_without_a_finite_row_is_refused():
    with pytest.raises(ValueError, match='none of the 3 rows'):
        DirectSampler(2).fit(np.full((3, 2), np.nan))


def test_kmedoids_is_refused_where_the_distances_would_not_fit():
    with pytest.raises(ValueError, match=r'1\.3 MB for 400 distinct frames, above the 1\.0 MB'):
        DirectSampler(20, 'kmedoids', max_bytes=1e6).fit(correlated())
