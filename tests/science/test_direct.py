"""DIRECT as its user sees it: planted clusters, edge cases, bad input, and what it reports."""

import json
import os
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
from ase import Atom
from ase.build import bulk
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from aiida_mlip_autopipe.science.descriptors import SOAP
from aiida_mlip_autopipe.science.sampling import DirectSampler
from aiida_mlip_autopipe.science.sampling.rows import RowFile, write_rows
from tests.benchmarks.md_rows import md_rows

METHODS = ['kmeans', 'birch', 'kmedoids']
SELECTIONS = ['direct', 'random', 'farthest']
FIGURES = ['coverage', 'covering_radius', 'mean_distance', 'quantisation_error']
REASONS = {'centroid', 'stratum', 'environment', 'coverage', 'fill', 'random', 'farthest'}


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


def chunks_of(X, size):
    """Return a callable that yields X in chunks of so many rows."""
    return lambda: (X[first : first + size] for first in range(0, len(X), size))


def checked(sampler, X):
    """Return a fitted sampler after a look at what holds for every one."""
    n_rows, picks = len(X), sampler.selected_idx_
    assert len(np.unique(X[picks], axis=0)) == len(picks) <= sampler.n_to_select
    assert np.isfinite(X[picks]).all()
    assert len(sampler.reasons_) == len(sampler.distances_) == len(picks)
    assert set(sampler.reasons_) <= REASONS
    assert sampler.labels_.shape == (n_rows,) and sampler.labels_.dtype == np.int32
    assert sampler.scores_.shape == (n_rows, sampler.n_components_) and sampler.scores_.dtype == np.float32
    assert (np.isfinite(sampler.scores_).all(axis=1) | (sampler.labels_ == -1)).all()
    report = sampler.report_
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert {name + suffix for name in FIGURES for suffix in ('', '_random', '_farthest')} < set(report)
    assert report['n_frames'] == n_rows
    assert report['n_selected'] == len(picks) == sum(report['n_by_reason'].values())
    assert report['n_shortfall'] == sampler.n_to_select - len(picks)
    assert report['n_clusters'] == len(np.unique(sampler.labels_[sampler.labels_ >= 0]))
    return sampler


def fitted(n_to_select, X, *, known=None, groups=None, exclude=None, environments=None, certain=None, **keywords):
    """Return a sampler after `checked`, which selected as many distinct frames as there are."""
    sampler = DirectSampler(n_to_select, **keywords).fit(X, known, groups, exclude, environments, certain)
    return checked(sampler, X)


@pytest.fixture(scope='module')
def md():
    """Return 40 000 rows like those of molecular dynamics, more than k-means takes its seeds from."""
    return np.concatenate(list(md_rows(40_000)))


@pytest.fixture(scope='module')
def md_sampler(md):
    return fitted(200, md)


# -- what is selected


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('seed', range(5))
def test_every_planted_cluster_gets_the_pick_nearest_to_its_centroid(method, seed):
    X, planted_labels = planted(seed)
    sampler = fitted(6, X, clustering=method, min_eigenvalue=0, random_state=seed, fill=0)
    picks = sampler.selected_idx_
    assert sorted(planted_labels[picks]) == list(range(6))
    assert sampler.reasons_ == ['centroid'] * 6
    scaled = in_plane(X)
    for rank, pick in enumerate(picks):
        members = np.flatnonzero(planted_labels == planted_labels[pick])
        distances = np.linalg.norm(scaled[members] - scaled[members].mean(axis=0), axis=1)
        assert pick == members[distances.argmin()]
        assert sampler.distances_[rank] == pytest.approx(distances.min(), rel=1e-5, abs=1e-6)
        assert np.unique(sampler.labels_[members]).tolist() == [sampler.labels_[pick]]


@pytest.mark.parametrize('method', METHODS)
def test_the_pick_is_the_member_nearest_to_the_mean_of_its_cluster(method):
    sampler = fitted(30, correlated(), clustering=method, fill=0)
    for rank, pick in enumerate(sampler.selected_idx_):
        members = np.flatnonzero(sampler.labels_ == sampler.labels_[pick])
        scores = sampler.scores_[members].astype(float)
        distances = np.linalg.norm(scores - scores.mean(axis=0), axis=1)
        assert pick == members[distances.argmin()]
        assert sampler.distances_[rank] == pytest.approx(distances.min(), rel=1e-5)


@pytest.mark.parametrize('method', METHODS)
def test_a_lonely_row_is_found_by_the_fill(method):
    X, _ = planted(1, members=200)
    X = np.concatenate([X, [[9.0, -5.0]]])
    sampler = fitted(10, X, clustering=method, min_eigenvalue=0)
    assert len(X) - 1 in sampler.selected_idx_
    assert sampler.reasons_.count('fill') == 1
    assert sampler.report_['n_by_reason'] == {'centroid': 9, 'fill': 1}


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('n_to_select', [1, 2, 19, 50, 100, 399, 400])
def test_exactly_as_many_distinct_picks_as_asked_for(method, n_to_select):
    sampler = fitted(n_to_select, correlated(), clustering=method)
    assert len(set(sampler.selected_idx_.tolist())) == n_to_select
    assert sampler.report_['n_shortfall'] == 0


@pytest.mark.parametrize('selection', SELECTIONS)
@pytest.mark.parametrize('n_to_select', [1, 40, 400, 401, 1000])
def test_no_selection_takes_more_than_there_are(selection, n_to_select):
    sampler = fitted(n_to_select, correlated(), selection=selection)
    assert len(sampler.selected_idx_) == min(n_to_select, 400)


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_repeated_rows_are_selected_once_and_the_shortfall_reported(method, dtype):
    distinct = correlated(n_rows=7).astype(dtype)
    index = np.random.default_rng(0).integers(0, 7, 60)
    index[:7] = np.arange(7)
    sampler = fitted(20, distinct[index], clustering=method)
    assert sorted(index[sampler.selected_idx_]) == list(range(7))
    assert sampler.selected_idx_.max() < 7  # the first of equal rows
    assert (sampler.report_['n_distinct'], sampler.report_['n_selected'], sampler.report_['n_shortfall']) == (7, 7, 13)
    assert sampler.report_['covering_radius'] == 0.0
    assert sampler.report_['coverage'] == 1.0
    for group in range(7):
        assert len(set(sampler.labels_[index == group].tolist())) == 1


@pytest.mark.parametrize('selection', SELECTIONS)
@pytest.mark.parametrize('n_rows', [1025, 3001])
def test_repeated_rows_are_selected_once_wherever_they_stand(n_rows, selection):
    distinct = correlated(n_rows=9, n_features=200).astype(np.float32)
    X = distinct[np.random.default_rng(0).integers(0, 9, n_rows)]
    assert len(fitted(20, X, selection=selection).selected_idx_) == 9


@pytest.mark.parametrize('selection', SELECTIONS)
@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('n_rows', [1, 30, 2000])
def test_identical_rows_give_one_pick(n_rows, method, selection):
    sampler = fitted(5, np.ones((n_rows, 4)), clustering=method, selection=selection, coverage_fill=0.2)
    assert sampler.selected_idx_.tolist() == [0]
    assert sampler.n_components_ == 1
    assert sampler.report_['explained_variance_kept'] == 0.0
    assert sampler.report_['n_distinct'] == 1


def test_rows_that_differ_only_in_what_is_dropped_are_still_all_selected():
    X = np.random.default_rng(0).normal(size=(30, 2)) * [1.0, 1e-13] + [0.0, 1.0]
    X[:, 0] = np.repeat(X[:3, 0], 10)
    for selection in SELECTIONS:
        assert len(fitted(20, X, selection=selection).selected_idx_) == 20


@pytest.mark.parametrize('n_features', [1, 2])
def test_one_column_suffices(n_features):
    X = np.random.default_rng(0).normal(size=(300, 1)) * np.ones(n_features)
    sampler = fitted(20, X)
    assert (len(sampler.selected_idx_), sampler.n_components_) == (20, 1)
    assert sampler.report_['explained_variance_kept'] == pytest.approx(1.0)


def test_labels_are_numbered_by_population_and_ranks_follow():
    sampler = fitted(20, correlated())
    populations = np.bincount(sampler.labels_)
    assert (np.diff(populations) <= 0).all()
    assert sampler.labels_[sampler.selected_idx_[:18]].tolist() == list(range(18))
    assert sampler.report_['cluster_population']['max'] == populations[0]
    assert sampler.report_['cluster_population']['min'] == populations[-1]
    assert sampler.report_['n_clusters'] == len(populations) == 18


def test_direct_covers_better_than_random():
    generator = np.random.default_rng(0)
    crowd = generator.normal(size=(2000, 10)) * 0.1
    sparse = generator.normal(size=(40, 10)) * 3
    report = fitted(30, np.concatenate([crowd, sparse])).report_
    assert report['covering_radius'] < report['covering_radius_random']
    assert report['coverage'] > report['coverage_random']


def test_what_frames_of_molecular_dynamics_are_worth(md_sampler):
    report = md_sampler.report_
    assert report['mean_distance'] < report['mean_distance_random'] < report['mean_distance_farthest']
    assert report['covering_radius'] < 0.6 * report['covering_radius_random']
    assert report['quantisation_error'] < report['quantisation_error_random']
    assert report['coverage'] > report['coverage_random']


# -- baselines


def test_random_selection_is_seeded_and_marked():
    X = correlated()
    first, again = (fitted(20, X, selection='random', random_state=1) for _ in range(2))
    other = fitted(20, X, selection='random', random_state=2)
    np.testing.assert_array_equal(first.selected_idx_, again.selected_idx_)
    assert set(first.selected_idx_.tolist()) != set(other.selected_idx_.tolist())
    assert first.reasons_ == ['random'] * 20
    assert (first.labels_ == -1).all()
    np.testing.assert_allclose(first.distances_, np.linalg.norm(first.scores_[first.selected_idx_], axis=1), rtol=1e-5)
    assert first.report_['n_clusters'] == 0
    assert first.report_['cluster_population'] is None


def test_farthest_selection_is_the_farthest_point_loop_from_the_middle():
    X = correlated()
    sampler = fitted(20, X, selection='farthest')
    distances = cdist(sampler.scores_, sampler.scores_)
    picks = [int(np.linalg.norm(sampler.scores_, axis=1).argmin())]
    while len(picks) < 20:
        picks.append(int(distances[picks].min(axis=0).argmax()))
    assert sampler.selected_idx_.tolist() == picks
    assert sampler.reasons_ == ['farthest'] * 20
    for name in FIGURES:
        assert sampler.report_[name] == sampler.report_[name + '_farthest']


def test_baselines_of_the_report_are_of_the_same_size_and_judged_alike():
    X = correlated()
    sampler = fitted(25, X)
    baselines = sampler.baselines()
    for suffix, picks in {'': sampler.selected_idx_, **baselines}.items():
        assert len(np.unique(picks)) == 25
        nearest = cdist(sampler.scores_, sampler.scores_[picks]).min(axis=1)
        assert sampler.report_['covering_radius' + suffix] == pytest.approx(nearest.max(), rel=1e-5)
        assert sampler.report_['mean_distance' + suffix] == pytest.approx(nearest.mean(), rel=1e-5)
        assert sampler.report_['quantisation_error' + suffix] == pytest.approx(np.sqrt((nearest**2).mean()), rel=1e-5)


# -- reduction


def test_components_and_eigenvalues_are_those_of_scikit_learn():
    X = correlated()
    sampler = fitted(20, X)
    pca = PCA().fit(StandardScaler().fit_transform(X))
    np.testing.assert_allclose(sampler.explained_variance_, pca.explained_variance_ * 399 / 400, atol=1e-10)
    np.testing.assert_allclose(sampler.explained_variance_ratio_, pca.explained_variance_ratio_, atol=1e-12)
    assert sampler.n_components_ == (sampler.explained_variance_ > 1).sum() == len(sampler.components_) == 5
    assert sampler.report_['explained_variance_kept'] == pytest.approx(pca.explained_variance_ratio_[:5].sum())


@pytest.mark.parametrize(('weighting', 'power'), [('none', 0), ('half', 0.5), ('maml', 1)])
def test_scores_are_weighted_by_the_explained_variance(weighting, power):
    X = correlated()
    plain, weighted = fitted(20, X), fitted(20, X, weighting=weighting)
    factors = plain.explained_variance_ratio_[:5] ** power
    np.testing.assert_allclose(weighted.scores_, plain.scores_ * factors, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(weighted.transform(X), weighted.scores_, rtol=1e-5, atol=1e-6)


def test_at_least_one_component_is_kept_and_at_most_so_many():
    X = np.random.default_rng(0).normal(size=(50, 4))
    assert fitted(5, X, min_eigenvalue=100.0).n_components_ == 1
    assert fitted(5, correlated(), max_components=3).n_components_ == 3


def test_constant_columns_change_nothing():
    X = correlated()
    padded = np.insert(X, [0, 10], [0.0, 7.3], axis=1)
    plain, other = fitted(20, X), fitted(20, padded)
    np.testing.assert_array_equal(other.selected_idx_, plain.selected_idx_)
    np.testing.assert_allclose(other.explained_variance_[:30], plain.explained_variance_, rtol=1e-6, atol=1e-12)


def test_rounding_errors_do_not_change_the_selection():
    X = correlated()
    noisy = X * (1 + 1e-13 * np.random.default_rng(1).normal(size=X.shape))
    np.testing.assert_array_equal(fitted(20, noisy).selected_idx_, fitted(20, X).selected_idx_)


def test_an_offset_of_1e4_spreads_does_not_change_the_selection():
    X = correlated()
    shifted = X + 1e4 * X.std(axis=0)
    plain, other = fitted(20, X), fitted(20, shifted)
    np.testing.assert_array_equal(other.selected_idx_, plain.selected_idx_)
    np.testing.assert_allclose(other.scores_, plain.scores_, rtol=1e-5, atol=1e-5)


# -- how rows arrive


@pytest.mark.parametrize('size', [1, 7, 1000, 5000])
def test_the_size_of_the_chunks_changes_nothing(md, size):
    X = md[:12_345]
    whole, parts = DirectSampler(60).fit(X), DirectSampler(60).fit(chunks_of(X, size))
    np.testing.assert_array_equal(parts.selected_idx_, whole.selected_idx_)
    np.testing.assert_array_equal(parts.labels_, whole.labels_)
    np.testing.assert_array_equal(parts.scores_, whole.scores_)
    np.testing.assert_array_equal(parts.explained_variance_, whole.explained_variance_)
    assert parts.report_ == whole.report_


def test_files_and_memory_maps_give_the_same_as_the_array(md, tmp_path):
    X = md[:5000]
    write_rows(tmp_path / 'rows.npy', chunks_of(X, 999)(), 5000)
    whole = DirectSampler(60).fit(X)
    for source in (RowFile(tmp_path / 'rows.npy'), np.load(tmp_path / 'rows.npy', mmap_mode='r'), np.asfortranarray(X)):
        other = DirectSampler(60).fit(source)
        np.testing.assert_array_equal(other.selected_idx_, whole.selected_idx_)
        np.testing.assert_array_equal(other.labels_, whole.labels_)
        assert other.report_ == whole.report_


def test_chunks_are_read_twice_one_after_the_other_and_not_kept(md):
    X, chunks, n_alive = md[:4000], [], []

    def source():
        for first in range(0, 4000, 500):
            rows = X[first : first + 500].copy()
            chunks.append(weakref.ref(rows))
            n_alive.append(sum(chunk() is not None for chunk in chunks))
            yield rows

    sampler = DirectSampler(20).fit(source)
    assert len(sampler.report_) > 0
    assert len(chunks) == 2 * 8
    assert max(n_alive) <= 2
    np.testing.assert_array_equal(sampler.selected_idx_, DirectSampler(20).fit(X).selected_idx_)


def test_a_sampler_can_be_fitted_again():
    X = correlated()
    sampler = fitted(20, correlated(seed=1))
    assert sampler.report_['n_frames'] == 400
    again = checked(sampler.fit(X[:300]), X[:300])
    assert again is sampler
    assert again.report_ == fitted(20, X[:300]).report_


# -- order, seed, threads


@pytest.mark.parametrize('method', ['kmeans', 'kmedoids'])
def test_deterministic_and_indifferent_to_the_order_of_the_rows(method):
    X = correlated()
    first, again = (fitted(30, X, clustering=method, random_state=4) for _ in range(2))
    np.testing.assert_array_equal(first.selected_idx_, again.selected_idx_)
    np.testing.assert_array_equal(first.labels_, again.labels_)
    assert first.report_ == again.report_
    order = np.random.default_rng(1).permutation(len(X))
    shuffled = fitted(30, X[order], clustering=method, random_state=4)
    clusters = [frozenset(np.flatnonzero(first.labels_ == number)) for number in range(27)]
    assert set(clusters) == {frozenset(order[shuffled.labels_ == number]) for number in range(27)}
    picks, others = set(first.selected_idx_.tolist()), set(order[shuffled.selected_idx_].tolist())
    for cluster in clusters:
        if len(cluster) > 2:  # of two, both are as near to their middle: the first is taken
            assert picks & cluster == others & cluster
    assert len(picks & others) >= 28


def test_birch_is_deterministic():
    X = correlated()
    first, again = (fitted(30, X, clustering='birch') for _ in range(2))
    np.testing.assert_array_equal(first.selected_idx_, again.selected_idx_)
    assert first.report_ == again.report_


@pytest.mark.parametrize(
    'order',
    [
        np.arange(40_000)[::-1],
        np.random.default_rng(1).permutation(40_000),
        np.random.default_rng(2).permutation(40_000),
        np.arange(40_000).reshape(16, 2500)[np.random.default_rng(3).permutation(16)].ravel(),
        np.arange(40_000).reshape(16, 2500).T.ravel(),
    ],
    ids=['reversed', 'shuffled', 'shuffled again', 'trajectories shuffled', 'trajectories interleaved'],
)
def test_the_same_frames_in_another_order_give_the_same_picks(md, md_sampler, order):
    other = DirectSampler(200).fit(md[order])
    shared = np.intersect1d(order[other.selected_idx_], md_sampler.selected_idx_)
    assert len(shared) >= 0.95 * 200


def test_another_seed_gives_other_seeds_of_the_clusters(md, md_sampler):
    again, other = DirectSampler(200).fit(md), DirectSampler(200, random_state=1).fit(md)
    np.testing.assert_array_equal(again.selected_idx_, md_sampler.selected_idx_)
    np.testing.assert_array_equal(again.labels_, md_sampler.labels_)
    assert set(other.selected_idx_.tolist()) != set(again.selected_idx_.tolist())


@pytest.mark.slow
def test_the_number_of_threads_changes_nothing():
    code = """
import numpy as np
from aiida_mlip_autopipe.science.sampling import DirectSampler
from tests.benchmarks.md_rows import md_rows
rows = np.concatenate(list(md_rows(8001)))
for X in (rows, rows.astype(np.float64)):
    sampler = DirectSampler(100).fit(X)
    print(sampler.selected_idx_.tolist(), hash(sampler.labels_.tobytes()), sampler.report_['n_by_reason'])
"""
    root = str(Path(__file__).parents[2])
    outputs = []
    for n_threads in ('1', '2'):
        names = ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS', 'NUMBA_NUM_THREADS')
        environment = os.environ | dict.fromkeys(names, n_threads) | {'PYTHONPATH': root, 'PYTHONHASHSEED': '0'}
        run = [sys.executable, '-c', code]
        outputs.append(subprocess.run(run, env=environment, capture_output=True, text=True, check=True).stdout)
    assert outputs[0].count('centroid') == 2
    assert outputs[0] == outputs[1]


# -- strata: clusters and groups


@pytest.mark.parametrize(('n_per_cluster', 'n_to_select'), [(1, 20), (2, 20), (3, 20), (5, 20), (30, 20)])
def test_so_many_frames_come_from_each_cluster(n_per_cluster, n_to_select):
    sampler = fitted(n_to_select, correlated(), n_per_cluster=n_per_cluster, fill=0)
    n_clusters = max(1, n_to_select // n_per_cluster)
    assert sampler.report_['n_clusters'] == n_clusters
    taken = np.bincount(sampler.labels_[sampler.selected_idx_], minlength=n_clusters)
    assert taken.sum() == n_to_select and taken.max() - taken.min() <= 1
    expected = {'centroid': n_clusters, 'stratum': n_to_select - n_clusters}
    assert sampler.report_['n_by_reason'] == {reason: n for reason, n in expected.items() if n}


def test_further_frames_of_a_cluster_are_those_farthest_from_its_first_ones():
    X, _ = planted(0)
    sampler = fitted(18, X, n_per_cluster=3, fill=0, min_eigenvalue=0)
    for number in range(6):
        members = np.flatnonzero(sampler.labels_ == number)
        distances = cdist(sampler.scores_[members], sampler.scores_[members])
        picks = [int(np.flatnonzero(members == pick)[0]) for pick in sampler.selected_idx_ if pick in members]
        assert [picks[1], picks[2]] == [distances[picks[0]].argmax(), distances[picks[:2]].min(axis=0).argmax()]


@pytest.mark.parametrize(('share', 'expected'), [('equal', [5, 5, 5, 5]), ('proportional', [10, 5, 3, 2])])
def test_clusters_give_equal_or_proportional_shares(share, expected):
    corners = np.array([[0.0, 0.0], [0, 9], [9, 0], [9, 9]])
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(4), [100, 50, 30, 20]))
    X = corners[labels] + 0.1 * np.random.default_rng(1).normal(size=(200, 2))
    sampler = fitted(20, X, n_clusters=4, cluster_share=share, fill=0, min_eigenvalue=0)
    assert np.bincount(labels[sampler.selected_idx_]).tolist() == expected
    assert sampler.report_['cluster_population'] == {'min': 20, 'q25': 27.5, 'median': 40, 'q75': 62.5, 'max': 100}


def test_more_clusters_than_picks_leave_out_the_smallest():
    sampler = fitted(10, correlated(), n_clusters=40, fill=0)
    assert sampler.report_['n_clusters'] == 40
    assert sampler.labels_[sampler.selected_idx_].tolist() == list(range(10))


@pytest.mark.parametrize('fills', [{}, {'fill': 0.4}, {'coverage_fill': 0.4}])
def test_small_clusters_give_nothing(fills):
    X, _ = planted(0, n_clusters=4, members=50)
    X = np.concatenate([X, [[30.0, 30.0], [30.1, 30.0], [-30.0, 0.0]]])
    everything = fitted(10, X, min_eigenvalue=0, n_clusters=6, **fills)
    assert (everything.selected_idx_ >= 200).any()
    sampler = fitted(10, X, min_eigenvalue=0, n_clusters=6, min_cluster_size=5, **fills)
    assert len(sampler.selected_idx_) == 10
    assert (sampler.selected_idx_ < 200).all()
    assert sampler.report_['cluster_population']['min'] < 5


def test_where_all_clusters_are_too_small_nothing_is_selected():
    sampler = fitted(10, correlated(), min_cluster_size=1000, coverage_fill=0.2)
    assert len(sampler.selected_idx_) == 0
    assert sampler.report_['n_shortfall'] == 10
    assert sampler.report_['coverage'] is sampler.report_['covering_radius_random'] is None


@pytest.mark.parametrize(('share', 'expected'), [('equal', [10, 10, 10]), ('proportional', [15, 9, 6])])
@pytest.mark.parametrize('selection', SELECTIONS)
def test_groups_give_equal_or_proportional_shares(share, expected, selection):
    groups = np.random.default_rng(0).permutation(np.repeat(['a', 'b', 'c'], [200, 120, 80]))
    sampler = fitted(30, correlated(), groups=groups.tolist(), group_share=share, selection=selection)
    assert [np.count_nonzero(groups[sampler.selected_idx_] == name) for name in 'abc'] == expected


def test_a_small_group_gives_all_it_has_and_the_others_the_rest():
    groups = np.array([0] * 3 + [1] * 197 + [2] * 200)
    sampler = fitted(30, correlated(), groups=groups)
    assert np.bincount(groups[sampler.selected_idx_]).tolist() == [3, 13, 14]
    assert len(fitted(500, correlated(), groups=groups).selected_idx_) == 400


@pytest.mark.parametrize('selection', SELECTIONS)
def test_a_frame_that_several_groups_hold_is_selected_once(selection):
    X = correlated(n_rows=30)
    groups = ['first'] * 30 + ['second'] * 30
    sampler = fitted(50, np.concatenate([X, X[::-1]]), groups=groups, selection=selection)
    assert len(sampler.selected_idx_) == 30
    partly = fitted(40, np.concatenate([X, X[:20]]), groups=groups[:50], selection=selection)
    assert len(partly.selected_idx_) == 30


def test_each_group_keeps_away_from_what_the_others_gave():
    X, labels = planted(0, members=40)
    groups = np.arange(len(X)) % 2
    sampler = fitted(6, X, groups=groups, min_eigenvalue=0, fill=0)
    assert np.bincount(groups[sampler.selected_idx_]).tolist() == [3, 3]
    assert sorted(labels[sampler.selected_idx_]) == list(range(6))


# -- frames that are known already


def test_certain_rows_count_but_are_not_selected():
    X, labels = planted(0)
    sampler = fitted(3, X, certain=labels < 3, min_eigenvalue=0, fill=0)
    assert sorted(labels[sampler.selected_idx_]) == [3, 4, 5]
    np.testing.assert_allclose(sampler.scores_, fitted(3, X, min_eigenvalue=0, fill=0).scores_)
    assert sampler.report_['n_certain'] == np.count_nonzero(labels < 3) and sampler.report_['n_not_new'] == 0
    everything = fitted(3, X, certain=np.ones(len(X), bool))
    assert everything.selected_idx_.size == 0
    with pytest.raises(ValueError, match='certain'):
        fitted(3, X, certain=np.ones(len(X) - 1, bool))


def test_the_selection_keeps_away_from_what_is_known():
    X, labels = planted(0)
    known = X[labels < 3]
    sampler = fitted(3, X, known=known, min_eigenvalue=0, fill=0)
    assert sorted(labels[sampler.selected_idx_]) == [3, 4, 5]
    assert (sampler.labels_[labels < 3] == -1).all()
    assert sampler.report_['n_known'] == len(known) == sampler.report_['n_not_new']


@pytest.mark.parametrize('selection', SELECTIONS)
def test_novelty_is_the_distance_from_the_nearest_known_row(selection):
    X = correlated()
    X[[3, 50]] = np.nan
    known = correlated(seed=5, n_rows=20)
    sampler = fitted(20, X, known=known, selection=selection)
    assert np.flatnonzero(np.isnan(sampler.novelty_)).tolist() == [3, 50]
    usable = np.delete(np.arange(400), [3, 50])
    expected = cdist(sampler.scores_[usable], sampler.transform(known)).min(axis=1)
    np.testing.assert_allclose(sampler.novelty_[usable], expected, rtol=1e-5, atol=1e-6)
    assert sampler.report_['novelty']['max'] == pytest.approx(expected.max(), rel=1e-5)
    assert sampler.report_['novelty']['median'] == pytest.approx(np.median(expected), rel=1e-5)


@pytest.mark.parametrize('selection', SELECTIONS)
@pytest.mark.parametrize('keywords', [{}, {'coverage_fill': 0.3}, {'groups': np.arange(400) % 3}])
def test_nothing_new_is_a_result(selection, keywords):
    X = correlated()
    sampler = fitted(20, X, known=chunks_of(X[::-1], 77), selection=selection, **keywords)
    assert sampler.selected_idx_.tolist() == sampler.reasons_ == []
    assert (sampler.labels_ == -1).all()
    report = sampler.report_
    assert (report['n_not_new'], report['n_distinct'], report['n_selected'], report['n_shortfall']) == (400, 0, 0, 20)
    assert report['novelty']['max'] <= sampler.min_novelty
    assert report['covering_radius'] == pytest.approx(report['novelty']['max'])


def test_only_what_is_farther_than_the_bound_is_selected():
    X = correlated()
    sampler = fitted(300, X, known=X[:100], min_novelty=1.5)
    new = np.flatnonzero(sampler.novelty_ > 1.5)
    assert 0 < len(new) < 300
    assert sorted(sampler.selected_idx_) == new.tolist()
    assert fitted(20, X).novelty_ is fitted(20, X).report_['novelty'] is None


def test_one_known_row_or_none_changes_little():
    X = correlated()
    assert len(fitted(20, X, known=X[:1]).selected_idx_) == 20
    empty = fitted(20, X, known=X[:0])
    np.testing.assert_array_equal(empty.selected_idx_, fitted(20, X).selected_idx_)
    assert empty.novelty_ is None


# -- rows that are left out


@pytest.mark.parametrize('selection', SELECTIONS)
def test_rows_that_are_not_finite_are_left_out_and_indices_mapped_back(selection):
    X = correlated()
    bad = [0, 17, 399, 402]
    with_bad = np.insert(X, [0, 16, 397, 399], np.nan, axis=0)
    with_bad[17, 1:] = np.inf
    assert np.flatnonzero(~np.isfinite(with_bad).all(axis=1)).tolist() == bad
    plain, masked = fitted(20, X, selection=selection), fitted(20, with_bad, selection=selection)
    np.testing.assert_array_equal(with_bad[masked.selected_idx_], X[plain.selected_idx_])
    np.testing.assert_array_equal(np.delete(masked.labels_, bad), plain.labels_)
    assert (masked.labels_[bad] == -1).all()
    assert np.isnan(masked.scores_[bad]).all()
    assert np.isfinite(np.delete(masked.scores_, bad, axis=0)).all()
    for name, value in (plain.report_ | {'n_frames': 404}).items():
        assert masked.report_[name] == (pytest.approx(value, rel=1e-5) if isinstance(value, float) else value)
    assert masked.report_['n_finite'] == 400


@pytest.mark.parametrize('selection', SELECTIONS)
def test_excluded_rows_are_counted_never_selected_and_have_no_influence(selection):
    X, odd = correlated(), 1e5 * correlated(seed=2, n_rows=40)
    order = np.random.default_rng(0).permutation(440)
    both = np.concatenate([X, odd])[order]
    exclude = {'close': order >= 410, 'hot': (order >= 400) & (order < 415), 'never': np.zeros(440, bool)}
    sampler = fitted(20, both, exclude=exclude, selection=selection)
    kept = np.flatnonzero(order < 400)
    plain = fitted(20, both[kept], selection=selection)
    np.testing.assert_array_equal(sampler.selected_idx_, kept[plain.selected_idx_])
    np.testing.assert_array_equal(sampler.labels_[kept], plain.labels_)
    np.testing.assert_allclose(sampler.explained_variance_, plain.explained_variance_, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(sampler.scores_[kept], plain.scores_, rtol=1e-5, atol=1e-6)
    assert (sampler.labels_[order >= 400] == -1).all()
    assert np.isnan(sampler.scores_[order >= 400]).all()
    assert sampler.report_['n_excluded'] == {'close': 30, 'hot': 15, 'never': 0}
    assert (sampler.report_['n_frames'], sampler.report_['n_finite'], sampler.report_['n_distinct']) == (440, 440, 400)


# -- fills


def test_the_coverage_fill_takes_frames_from_empty_bins():
    X = correlated(n_rows=3000)
    plain, filled = fitted(50, X), fitted(50, X, coverage_fill=0.2)
    assert filled.report_['n_by_reason'] == {'centroid': 35, 'coverage': 10, 'fill': 5}
    assert filled.report_['coverage'] > plain.report_['coverage']


def test_without_a_fill_all_picks_are_of_clusters():
    assert fitted(50, correlated(), fill=0).reasons_ == ['centroid'] * 50


def silicon(kind, stdev, seed, n_frames=60, odd=30):
    """Return rattled silicon of 216 atoms with one lone defect, after the same defect in one of some of 64 atoms."""
    generator = np.random.default_rng(seed)

    def rattled(repeats, is_odd):
        atoms = bulk('Si', cubic=True).repeat(repeats)
        if is_odd and kind == 'vacancy':
            del atoms[0]
        elif is_odd:
            atoms.append(Atom('Si', atoms.positions[0] + 5.43 / 2))
        atoms.positions += generator.normal(scale=stdev, size=(len(atoms), 3))
        return atoms

    return [rattled(2, i == 5) for i in range(10)], [rattled(3, i == odd) for i in range(n_frames)]


def described(frames):
    """Return the rows of frames and the environments of their atoms, frame by frame."""
    keywords = {'species': ['Si'], 'r_cut': 4.0, 'n_max': 3, 'l_max': 2, 'sigma': 0.5}
    rows = np.array([SOAP(**keywords, average='outer').create(atoms) for atoms in frames])
    atoms_of = [SOAP(**keywords).create(atoms)[None] for atoms in frames]
    return rows, lambda: atoms_of


@pytest.mark.slow
def test_a_lone_vacancy_that_averages_may_hide_is_found_by_its_atoms():
    found = []
    for seed in range(5):
        X, environments = described(silicon('vacancy', 0.15, seed)[1])
        plain = fitted(8, X)
        sampler = fitted(8, X, environment_fill=0.25, environments=environments)
        assert sampler.reasons_.count('environment') == 2
        assert 30 in sampler.selected_idx_
        found.append(30 in plain.selected_idx_)
    assert not all(found)


@pytest.mark.parametrize('kind', ['vacancy', 'interstitial'])
def test_of_the_same_defect_in_two_cells_the_smaller_one_is_taken(kind):
    small, large = silicon(kind, 0.05, 0)
    X, environments = described([*large, *small])
    sampler = fitted(2, X, fill=0, environment_fill=0.5, environments=environments)
    assert sampler.reasons_ == ['centroid', 'environment']
    assert sampler.selected_idx_[1] == 65
    alone = described(large)
    assert fitted(2, alone[0], fill=0, environment_fill=0.5, environments=alone[1]).selected_idx_[1] == 30


def test_unusual_atoms_of_frames_that_are_left_out_do_not_count():
    rows = np.random.default_rng(0).normal(size=(100, 8, 6))
    rows[[10, 20, 30], 0] += 40
    rows[10, 1] = np.nan
    X = rows.mean(axis=1)
    exclude = {'hot': np.arange(100) == 20}
    keywords = {'fill': 0, 'environment_fill': 0.1, 'environments': lambda: [rows[:33], rows[33:]]}
    sampler = fitted(10, X, exclude=exclude, known=X[[30]], **keywords)
    assert not {10, 20, 30} & set(sampler.selected_idx_.tolist())
    sampler = fitted(2, X, exclude=exclude, n_clusters=1, **(keywords | {'environment_fill': 0.5}))
    assert sampler.selected_idx_[1] == 30 or sampler.selected_idx_[0] == 30


def test_unusual_atoms_are_found_where_no_cluster_gives_anything():
    rows = np.random.default_rng(0).normal(size=(100, 8, 6))
    rows[10, 0] += 40
    X = rows.mean(axis=1)
    sampler = fitted(10, X, min_cluster_size=1000, environment_fill=0.1, environments=lambda: [rows])
    assert sampler.selected_idx_.tolist() == [10]


@pytest.mark.parametrize('seed', range(6))
def test_unusual_atoms_are_found_beside_what_is_drawn_at_random(seed):
    rows = np.random.default_rng(0).normal(size=(100, 8, 6))
    rows[10, 0] += 40
    keywords = {'fill': 0, 'environment_fill': 0.2, 'environments': lambda: [rows]}
    sampler = fitted(10, rows.mean(axis=1), random_state=seed, random_fraction=0.5, **keywords)
    assert sampler.reasons_[:5] == ['random'] * 5 and len(set(sampler.selected_idx_.tolist())) == 10
    assert sampler.reasons_.count('environment') == 1 and 10 in sampler.selected_idx_


# -- bad input


@pytest.mark.parametrize(
    ('keywords', 'words'),
    [
        ({'n_to_select': 0}, 'n_to_select=0 must be at least 1'),
        ({'n_to_select': -3}, 'n_to_select=-3'),
        ({'n_clusters': 0}, 'n_clusters=0'),
        ({'n_per_cluster': 0}, 'n_per_cluster=0'),
        ({'min_cluster_size': 0}, 'min_cluster_size=0'),
        ({'max_components': 0}, 'max_components=0'),
        ({'weighting': 'all'}, "weighting='all' must be one of 'none', 'half', 'maml'"),
        ({'clustering': 'dbscan'}, "clustering='dbscan' must be one of 'kmeans', 'birch'"),
        ({'cluster_share': 'most'}, "cluster_share='most'"),
        ({'group_share': 'most'}, "group_share='most'"),
        ({'selection': 'best'}, "selection='best'"),
        ({'min_eigenvalue': -1.0}, 'min_eigenvalue=-1.0'),
        ({'min_eigenvalue': float('nan')}, 'min_eigenvalue=nan'),
        ({'min_novelty': -1.0}, 'min_novelty=-1.0'),
        ({'fill': 1.0}, 'fill=1.0 must be at least 0 and below 1'),
        ({'fill': -0.1}, 'fill=-0.1'),
        ({'coverage_fill': float('nan')}, 'coverage_fill=nan'),
        ({'environment_fill': 2.0}, 'environment_fill=2.0'),
        ({'random_fraction': 1.0}, 'random_fraction=1.0 must be at least 0 and below 1'),
        ({'fill': 0.5, 'coverage_fill': 0.5}, r'fill \+ coverage_fill \+ environment_fill = 1.0 leaves no frames'),
    ],
)
def test_bad_parameters_are_named(keywords, words):
    with pytest.raises(ValueError, match=words):
        DirectSampler(**({'n_to_select': 5} | keywords))


@pytest.mark.parametrize(
    ('shape', 'words'), [((0, 3), 'X has no row'), ((3, 0), 'X has a chunk'), ((3,), 'X has shape')]
)
def test_input_without_rows_or_features_is_refused(shape, words):
    with pytest.raises(ValueError, match=words):
        DirectSampler(2).fit(np.zeros(shape))


@pytest.mark.parametrize('chunks', [[], [np.zeros((0, 3))]])
def test_chunks_without_rows_are_refused(chunks):
    with pytest.raises(ValueError, match='X has no row; give at least one'):
        DirectSampler(2).fit(lambda: chunks)


def test_input_without_a_usable_row_is_refused():
    with pytest.raises(ValueError, match='none of the 3 rows of X is finite and not excluded'):
        DirectSampler(2).fit(np.full((3, 2), np.nan))
    with pytest.raises(ValueError, match='none of the 400 rows'):
        DirectSampler(2).fit(correlated(), exclude={'hot': np.ones(400, bool)})


def test_chunks_with_another_number_of_features_are_refused():
    with pytest.raises(ValueError, match=r'X has a chunk of shape \(5, 2\); give at least one feature, \(n_rows, 3\)'):
        DirectSampler(2).fit(lambda: [np.ones((5, 3)), np.ones((5, 2))])


@pytest.mark.parametrize(
    ('known', 'words'),
    [
        (np.zeros((3, 29)), 'known has 29 features, X has 30'),
        (np.full((3, 30), np.nan), 'known has rows that are not finite'),
        (np.full((3, 30), np.inf), 'known has rows that are not finite'),
        (np.full((3, 30), 1e25), r'known has rows more than 1e\+18 standard deviations from those of X'),
        (np.full((3, 30), 1e200), r'known has rows more than 1e\+18 standard deviations from those of X'),
    ],
)
@pytest.mark.filterwarnings('ignore:overflow')
def test_bad_known_rows_are_refused(known, words):
    with pytest.raises(ValueError, match=words):
        DirectSampler(2).fit(correlated(), known=known)


@pytest.mark.filterwarnings('ignore:overflow', 'ignore:invalid')
@pytest.mark.parametrize(('dtype', 'value'), [(np.float32, 1e25), (np.float64, 1e200)])
def test_values_whose_squares_overflow_are_refused(dtype, value):
    X = correlated().astype(dtype)
    X[7] = value
    with pytest.raises(ValueError, match=f'X has values whose squares are too large for {np.dtype(dtype)}; exclude'):
        DirectSampler(10).fit(X)
    assert 7 not in fitted(10, X, exclude={'hot': np.arange(400) == 7}).selected_idx_


@pytest.mark.parametrize('n', [0, 1, 399, 401])
def test_groups_and_exclusions_of_another_length_are_refused(n):
    with pytest.raises(ValueError, match=rf'groups has shape \({n},\), X has 400 rows'):
        DirectSampler(2).fit(correlated(), groups=[0] * n)
    with pytest.raises(ValueError, match=f'exclude has {n} entries, X has (400|more) rows'):
        DirectSampler(2).fit(correlated(), exclude={'hot': np.zeros(n, bool)})
    with pytest.raises(ValueError, match='exclude has entries of lengths'):
        DirectSampler(2).fit(correlated(), exclude={'hot': np.zeros(n, bool), 'close': np.zeros(400, bool)})


@pytest.mark.parametrize('mask', [np.arange(400), np.zeros((400, 1), bool)])
def test_exclusions_that_are_no_truth_values_are_refused(mask):
    with pytest.raises(ValueError, match=r"exclude\['hot'\] is .* give a bool for each row"):
        DirectSampler(2).fit(correlated(), exclude={'hot': mask})


@pytest.mark.parametrize('keywords', [{}, {'environments': lambda: [], 'groups': [0] * 400}])
def test_the_environment_fill_needs_environments_and_no_groups(keywords):
    with pytest.raises(ValueError, match=r'environment_fill=0.2 needs the environments, and no groups'):
        DirectSampler(10, environment_fill=0.2).fit(correlated(), **keywords)


@pytest.mark.parametrize(
    ('second', 'words'),
    [
        (lambda X: [X[:-1]], '399 rows instead of the 400'),
        (lambda X: [], '0 rows instead of the 400'),
        (lambda X: [X, X[:1]], 'more than the 400 rows'),
        (lambda X: [X[:200], X[:200]], 'row 200 has changed'),
        (lambda X: [X[:, :7]], 'row 0 has changed'),
        (lambda X: [X[:200], np.full((200, 30), np.nan)], 'row 200 has changed'),
    ],
)
def test_a_source_that_gives_other_rows_when_read_again_is_refused(second, words):
    X = correlated()
    readings = iter([[X], second(X)])
    with pytest.raises(ValueError, match=f'X gave other rows when it was read again: .*{words}'):
        DirectSampler(20).fit(lambda: next(readings))


def test_a_generator_that_is_used_up_is_refused():
    chunks = chunks_of(correlated(), 50)()
    with pytest.raises(ValueError, match='it has 0 rows instead of the 400 of the first pass'):
        DirectSampler(20).fit(lambda: chunks)


@pytest.mark.parametrize('interrupted_at', [1, 2])
def test_an_interrupted_fit_leaves_what_was_there_and_can_be_repeated(interrupted_at):
    X, before = correlated(), correlated(seed=1, n_rows=300)
    n_readings = 0

    def source():
        nonlocal n_readings
        n_readings += 1
        yield X[:200]
        if n_readings == interrupted_at:
            raise KeyboardInterrupt
        yield X[200:]

    fresh, used = DirectSampler(20), fitted(20, before)
    for sampler in (fresh, used):
        n_readings = 0
        with pytest.raises(KeyboardInterrupt):
            sampler.fit(source)
    assert not hasattr(fresh, 'selected_idx_') and not hasattr(fresh, 'labels_')
    expected = fitted(20, before)
    np.testing.assert_array_equal(used.selected_idx_, expected.selected_idx_)
    np.testing.assert_array_equal(used.scores_, expected.scores_)
    assert used.report_ == expected.report_
    expected = fitted(20, X)
    for sampler in (fresh, used):
        sampler.fit(source)
        np.testing.assert_array_equal(sampler.selected_idx_, expected.selected_idx_)
        assert sampler.report_ == expected.report_


# -- clusterings that do not fit, or do not import


def test_kmedoids_is_refused_where_the_distances_would_not_fit():
    with pytest.raises(ValueError, match=r'distances of all pairs: 1\.3 MB for 400 frames, above the 1\.0 MB'):
        DirectSampler(20, clustering='kmedoids', max_bytes=1e6).fit(correlated())


@pytest.mark.parametrize(
    ('max_bytes', 'words'),
    [
        (10_000, r"clustering='birch' needs 0\.0 MB for a tree over 400 frames, above the 0\.0 MB"),
        (2e5, r"clustering='birch' needs \d\.\d MB to join \d+ subclusters of 400 frames into 270"),
    ],
)
def test_birch_is_refused_where_it_would_not_fit(max_bytes, words):
    with pytest.raises(ValueError, match=words):
        DirectSampler(300, clustering='birch', max_bytes=max_bytes).fit(correlated())


def test_kmeans_needs_no_such_memory():
    assert len(DirectSampler(20, max_bytes=1.0).fit(correlated()).selected_idx_) == 20
