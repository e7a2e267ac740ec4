"""The parts of DIRECT: nearest centres and farthest points against brute force, clusters, quotas, fills, coverage."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from aiida_mlip_autopipe.science.sampling.clustering import (
    TOLERANCE,
    Centres,
    by_population,
    centroids,
    cluster,
    k_centre,
    sample_size,
    subsample,
)
from aiida_mlip_autopipe.science.sampling.coverage import coverage_of, coverage_score, radius_by_budget
from aiida_mlip_autopipe.science.sampling.environments import fill_environments
from aiida_mlip_autopipe.science.sampling.pool import Picks, count_distinct, draw
from aiida_mlip_autopipe.science.sampling.selection import (
    N_BINS,
    bins_of,
    fill,
    fill_bins,
    quotas,
    representatives,
    unlike,
)

NONE = np.empty((0, 2), np.float32)
METHODS = ['kmeans', 'birch', 'kmedoids']


def points_of(n, n_components, seed=0, scale=1.0):
    return (scale * np.random.default_rng(seed).normal(size=(n, n_components))).astype(np.float32)


def on_a_grid(n, n_components, seed=0):
    """Return points with whole coordinates: all distances are exact, and many are equal."""
    return np.random.default_rng(seed).integers(-2, 3, (n, n_components)).astype(np.float32)


def squared_distances(points, centres):
    return cdist(points.astype(float), centres.astype(float), 'sqeuclidean')


def assigned(points, centres, guess, follow=False):
    labels, squared = guess.astype(np.int32), np.empty(len(points), np.float32)
    Centres(centres).assign(points, labels, squared, follow)
    return labels, squared


def farthest_points(points, n_more, given):
    """Return what a farthest-point loop without any pruning takes."""
    picks = []
    if len(given) == 0:
        picks.append(int(np.linalg.norm(points - points.mean(axis=0, dtype=float), axis=1).argmin()))
        given = points[picks]
    nearest = squared_distances(points, given).min(axis=1)
    while len(picks) < n_more and nearest.max() > 0:
        picks.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, squared_distances(points, points[picks[-1:]])[:, 0])
    return picks


# -- the nearest centre


@pytest.mark.parametrize('n_components', [1, 2, 3, 4, 5, 8, 13, 31, 70])
@pytest.mark.parametrize('n_centres', [1, 2, 15, 16, 17, 100, 256, 257, 300])
def test_the_nearest_centre_is_that_of_a_full_search(n_components, n_centres):
    points, centres = points_of(400, n_components), points_of(n_centres, n_components, seed=1)
    guess = np.random.default_rng(2).integers(0, n_centres, 400)
    exact = squared_distances(points, centres)
    for follow in (False, True):
        labels, squared = assigned(points, centres, guess, follow)
        np.testing.assert_array_equal(labels, exact.argmin(axis=1))
        np.testing.assert_allclose(squared, exact.min(axis=1), rtol=2e-6, atol=1e-12)
    labels, distances = Centres(centres).nearest(points)
    np.testing.assert_array_equal(labels, exact.argmin(axis=1))
    np.testing.assert_allclose(distances, np.sqrt(exact.min(axis=1)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('n_components', [1, 2, 4, 6])
@pytest.mark.parametrize('n_centres', [3, 40, 300])
def test_of_equally_near_centres_the_first_is_taken(n_components, n_centres):
    points, centres = on_a_grid(500, n_components), on_a_grid(n_centres, n_components, seed=1)
    expected = squared_distances(points, centres).argmin(axis=1)
    for seed in range(3):
        guess = np.random.default_rng(seed).integers(0, n_centres, 500)
        np.testing.assert_array_equal(assigned(points, centres, guess)[0], expected)
    np.testing.assert_array_equal(assigned(points, centres, guess, follow=True)[0], expected)


@pytest.mark.parametrize('n_components', [1, 3, 5, 9, 33, 70])
@pytest.mark.parametrize('n_centres', [2, 34, 300])
def test_of_equal_centres_the_first_is_taken_whatever_was_guessed(n_components, n_centres):
    centres = np.tile(points_of(n_centres // 2, n_components), (2, 1))
    points = np.concatenate([points_of(500, n_components, seed=1), centres])
    expected = squared_distances(points, centres[: n_centres // 2]).argmin(axis=1)
    guess = np.random.default_rng(2).integers(0, n_centres, len(points))
    labels, squared = assigned(points, centres, guess)
    np.testing.assert_array_equal(labels, expected)
    assert (squared[500:] == 0).all()
    again, same = assigned(points, centres, expected)
    np.testing.assert_array_equal(again, labels)
    np.testing.assert_array_equal(same, squared)


def test_clumps_far_apart_and_of_unequal_width_are_no_obstacle():
    clumps = np.repeat(points_of(12, 7, scale=1e3), 25, axis=0)
    widths = np.repeat(np.logspace(-4, 2, 12), 25)[:, None]
    centres = (clumps + widths * points_of(300, 7, seed=1)).astype(np.float32)
    points = (np.repeat(clumps, 3, axis=0) + np.repeat(widths, 3, axis=0) * points_of(900, 7, seed=2)).astype('f4')
    exact = squared_distances(points, centres)
    labels, squared = assigned(points, centres, np.zeros(900))
    np.testing.assert_array_equal(labels, exact.argmin(axis=1))
    np.testing.assert_allclose(squared, exact.min(axis=1), rtol=2e-6)


def test_no_point_needs_no_centre():
    labels, distances = Centres(points_of(3, 2)).nearest(NONE)
    assert len(labels) == len(distances) == 0


# -- farthest points


@pytest.mark.parametrize('n_components', [1, 2, 5, 16, 70])
@pytest.mark.parametrize(('n', 'n_more'), [(1, 1), (5, 5), (300, 1), (300, 60), (300, 300), (2000, 100)])
@pytest.mark.parametrize('n_given', [0, 1, 20, 300])
def test_farthest_points_are_those_of_a_full_search(n, n_more, n_given, n_components):
    points, given = points_of(n, n_components), points_of(n_given, n_components, seed=1)
    picks, labels, squared = k_centre(points, n_more, given)
    assert picks.tolist() == farthest_points(points, n_more, given)
    exact = squared_distances(points, np.concatenate([given, points[picks]]))
    np.testing.assert_array_equal(labels, exact.argmin(axis=1))
    np.testing.assert_allclose(squared, exact.min(axis=1), rtol=2e-6, atol=1e-12)


@pytest.mark.parametrize('n_components', [1, 2, 3, 6])
@pytest.mark.parametrize('n_given', [0, 1, 7])
def test_of_equally_far_points_the_first_is_taken_and_none_twice(n_given, n_components):
    points, given = on_a_grid(400, n_components), on_a_grid(n_given, n_components, seed=1)
    points = np.concatenate([points, points])
    picks, labels, squared = k_centre(points, 150, given)
    assert picks.tolist() == farthest_points(points, 150, given)
    assert len(np.unique(points[picks], axis=0)) == len(picks)
    exact = squared_distances(points, np.concatenate([given, points[picks]]))
    np.testing.assert_array_equal(labels, exact.argmin(axis=1))
    np.testing.assert_array_equal(squared, exact.min(axis=1))


def test_farthest_points_end_where_nothing_else_is_left():
    points = np.repeat(points_of(4, 3), 10, axis=0)
    assert len(k_centre(points, 30, points[:0])[0]) == 4
    assert len(k_centre(points, 30, points[:1])[0]) == 3
    assert len(k_centre(points, 30, points)[0]) == 0
    assert len(k_centre(points, 0, points[:1])[0]) == 0
    assert len(k_centre(points[:0], 5, points[:1])[0]) == 0


def test_farthest_points_on_a_line():
    line = np.array([[0.0], [1.0], [2.0], [5.0], [9.0]], np.float32)
    assert k_centre(line, 3, line[:1])[0].tolist() == [4, 3, 2]
    assert k_centre(np.array([[0.0], [1.0], [-1.0]], np.float32), 1, line[:1])[0].tolist() == [1]


@pytest.mark.parametrize('follow', [False, True])
def test_a_guess_changes_nothing(follow):
    points, given = points_of(500, 6), points_of(30, 6, seed=1)
    guess = np.random.default_rng(2).integers(0, 30, 500)
    for plain, guessed in zip(k_centre(points, 40, given), k_centre(points, 40, given, guess), strict=True):
        np.testing.assert_array_equal(plain, guessed)


# -- clusters


def test_the_subsample_depends_on_content_and_seed_alone():
    digests = np.random.default_rng(0).integers(0, 2**64, 5000, dtype=np.uint64)
    order = np.random.default_rng(1).permutation(5000)
    some, again = subsample(digests, 700, 3), subsample(digests[order], 700, 3)
    assert len(some) == 700 and (np.diff(some) > 0).all()
    assert set(some) == set(order[again])
    assert set(some) != set(subsample(digests, 700, 4))
    assert subsample(digests, 5000, 3) is None
    assert sample_size(10) == 30_000 and sample_size(100_000) == 1_000_000


@pytest.mark.parametrize('fixed', [0, 1, 30])
@pytest.mark.parametrize(('n', 'n_components', 'n_clusters'), [(500, 3, 20), (3000, 8, 150), (2000, 2, 1)])
def test_clusters_of_kmeans_are_a_fixed_point_up_to_the_tolerance(n, n_components, n_clusters, fixed):
    points, fixed = points_of(n, n_components), points_of(fixed, n_components, seed=1)
    labels = cluster(points, n_clusters, 'kmeans', None, fixed, 0, 1e9)
    centres = np.concatenate([fixed, centroids(points, labels, labels.max() + 1)[0]]).astype(np.float32)
    exact = squared_distances(points, centres)
    own = np.where(labels < 0, exact[:, : len(fixed)].min(axis=1, initial=np.inf), 0.0)
    inside = labels >= 0
    own[inside] = exact[inside, labels[inside] + len(fixed)]
    assert own.mean() >= exact.min(axis=1).mean() >= (1 - TOLERANCE) * own.mean()


@pytest.mark.parametrize('method', METHODS)
def test_planted_clusters_are_found(method):
    centres = np.array([[0, 0], [0, 9], [9, 0], [9, 9], [4, 4]], np.float32)
    planted = np.random.default_rng(0).permutation(np.repeat(np.arange(5), [50, 40, 30, 20, 10]))
    points = centres[planted] + points_of(150, 2, scale=0.1)
    labels = cluster(points, 5, method, None, NONE, 0, 1e9)
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, planted)  # numbered by population


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('n_clusters', [1, 6, 7, 8, 60])
def test_equal_points_are_in_one_cluster_and_no_more_come_out_than_differ(method, n_clusters):
    which = np.random.default_rng(0).integers(0, 7, 60)
    labels = cluster(points_of(7, 3)[which], n_clusters, method, None, points_of(0, 3), 0, 1e9)
    assert np.unique(labels).tolist() == list(range(min(n_clusters, 7)))
    for number in range(7):
        assert len(np.unique(labels[which == number])) == 1


def test_birch_ends_where_no_threshold_tells_neighbours_apart():
    points = points_of(50, 3)
    points = np.concatenate([points, np.nextafter(points, np.float32(np.inf))])
    labels = cluster(points, 90, 'birch', None, points[:0], 0, 1e9)
    assert 45 <= labels.max() + 1 <= 90


def test_clusters_keep_away_from_what_is_represented_already():
    points = np.concatenate([points_of(100, 2, scale=0.1), 9 + points_of(100, 2, seed=1, scale=0.1)])
    labels = cluster(points, 4, 'kmeans', None, np.zeros((1, 2), np.float32), 0, 1e9)
    assert (labels[:100] == -1).all()
    assert (labels[100:] >= 0).all()


def test_centres_seeded_from_a_subsample_serve_all_points():
    points = points_of(5000, 4)
    some = np.arange(0, 5000, 5)
    labels = cluster(points, 30, 'kmeans', some, points[:0], 0, 1e9)
    means, counts = centroids(points, labels, 30)
    assert counts.min() > 0 and counts.sum() == 5000
    exact = squared_distances(points, means)
    assert exact[np.arange(5000), labels].mean() <= 1.1 * exact.min(axis=1).mean()


def test_labels_are_numbered_by_population_without_gaps():
    assert by_population(np.array([7, 7, 2, 2, 2, 9, -1, 0, 0])).tolist() == [2, 2, 0, 0, 0, 3, -1, 1, 1]
    assert by_population(np.array([1, 0])).tolist() == [1, 0]
    assert by_population(np.array([-1, -1])).tolist() == [-1, -1]


def test_centroids_are_the_means_of_the_members():
    points, labels = points_of(300, 5), np.random.default_rng(1).integers(-1, 6, 300).astype(np.int32)
    labels[labels == 3] = 2
    means, counts = centroids(points, labels, 6)
    for number in (0, 1, 2, 4, 5):
        members = points[labels == number].astype(float)
        assert counts[number] == len(members)
        np.testing.assert_allclose(means[number], members.mean(axis=0), rtol=1e-12, atol=1e-15)
    assert counts[3] == 0 and (means[3] == 0).all()


# -- quotas


populations_of = st.lists(st.integers(0, 60), min_size=1, max_size=30).map(np.array)


@settings(max_examples=300, deadline=None)
@given(
    populations=populations_of,
    budget=st.integers(0, 2000),
    share=st.sampled_from(['equal', 'proportional']),
    min_size=st.integers(1, 20),
)
def test_quotas_use_the_budget_up_and_no_one_gives_more_than_it_has(populations, budget, share, min_size):
    given_out = quotas(populations, budget, share, min_size)
    large = populations >= min_size
    assert given_out.sum() == min(budget, populations[large].sum())
    assert (given_out >= 0).all() and (given_out <= populations).all()
    assert (given_out[~large] == 0).all()
    np.testing.assert_array_equal(given_out, quotas(populations, budget, share, min_size))
    unsated = large & (given_out < populations)
    if share == 'equal' and unsated.any():
        assert given_out[unsated].max() - given_out[unsated].min() <= 1
        assert given_out[large].max() <= given_out[unsated].min() + 1


@settings(max_examples=300, deadline=None)
@given(populations=populations_of, fraction=st.floats(0, 1))
def test_proportional_quotas_differ_from_the_exact_share_by_less_than_one(populations, fraction):
    budget = int(fraction * populations.sum())
    exact = populations / max(populations.sum(), 1) * budget
    assert (np.abs(quotas(populations, budget, 'proportional') - exact) < 1).all()


@pytest.mark.parametrize(
    ('populations', 'budget', 'share', 'expected'),
    [
        ([31, 21, 18], 7, 'proportional', [3, 2, 2]),  # the largest remainder
        ([50, 25, 25], 4, 'proportional', [2, 1, 1]),
        ([10, 10, 10], 10, 'equal', [4, 3, 3]),  # of equals, the first
        ([5, 10, 8], 4, 'equal', [1, 2, 1]),  # the largest cluster
        ([1, 100, 2], 30, 'equal', [1, 27, 2]),
        ([1000, 1, 1], 3, 'proportional', [3, 0, 0]),
        ([3, 2], 99, 'equal', [3, 2]),
        ([], 5, 'equal', []),
    ],
)
def test_quotas_of_a_few_clusters(populations, budget, share, expected):
    assert quotas(np.array(populations, int), budget, share).tolist() == expected


# -- representatives and fills


@pytest.mark.parametrize('n_components', [1, 3, 20])
def test_the_first_of_each_cluster_is_the_member_nearest_to_the_mean_of_its_members(n_components):
    points = points_of(600, n_components)
    labels = np.random.default_rng(1).integers(-1, 9, 600).astype(np.int32)
    picks, order = representatives(points, labels, np.array([1, 3, 0, 1, 2, 1, 1, 1, 1]))
    assert order.tolist() == [0] * 8 + [1, 1, 2]
    assert labels[picks].tolist() == [0, 1, 3, 4, 5, 6, 7, 8, 1, 4, 1]
    for pick in picks[:8]:
        members = np.flatnonzero(labels == labels[pick])
        distances = np.linalg.norm(points[members] - points[members].mean(axis=0, dtype=float), axis=1)
        assert pick == members[distances.argmin()]
    members = np.flatnonzero(labels == 1)
    expected = farthest_points(points[members], 2, points[picks[[1]]])
    assert members[expected].tolist() == picks[order > 0][[0, 2]].tolist()


def test_of_members_equally_near_to_the_centroid_the_first_is_taken():
    picks, _ = representatives(np.array([[1.0], [-1.0], [1.0]], np.float32), np.array([0, 0, -1], 'i4'), np.array([1]))
    assert picks.tolist() == [0]


def test_the_fill_is_the_farthest_point_loop():
    points, given = points_of(3000, 4), points_of(10, 4, seed=1)
    bounds = squared_distances(points, given).min(axis=1).astype(np.float32) * 1.5
    assert fill(points, 25, given, bounds, np.ones(4, 'f4')).tolist() == farthest_points(points, 25, given)
    weights = np.array([1, 0.5, 0.1, 0], 'f4')
    expected = farthest_points(points * weights, 25, given * weights)
    assert fill(points, 25, given, bounds, weights).tolist() == expected


def test_the_fill_leaves_closed_points_alone():
    points = points_of(200, 3)
    bounds = np.where(np.arange(200) < 150, np.inf, -1).astype(np.float32)
    picks = fill(points, 170, points[:1], bounds, np.ones(3, 'f4'))
    assert sorted(picks) == list(range(1, 150))
    assert len(fill(points, 5, points[:1], np.full(200, -1, 'f4'), np.ones(3, 'f4'))) == 0


def test_bins_divide_the_range_of_each_component_equally():
    points = np.column_stack([np.linspace(-3, 5, 1000), np.full(1000, 7.0)]).astype(np.float32)
    bins = bins_of(points, points.min(axis=0), points.max(axis=0))
    assert np.unique(bins[:, 0]).tolist() == list(range(N_BINS))
    assert np.bincount(bins[:, 0]).min() >= 9
    assert (bins[:, 1] == 0).all()


def test_picks_from_empty_bins_raise_the_coverage_to_one():
    points = points_of(400, 3)
    taken, everything = np.arange(20), np.ones(400, bool)
    picks = fill_bins(points, 400, taken, everything)
    assert len(set(picks.tolist()) | set(range(20))) == 20 + len(picks)
    assert coverage_score(points, points[[*taken, *picks]]) == 1.0
    scores = [coverage_score(points, points[[*taken, *picks[:n]]]) for n in range(len(picks) + 1)]
    assert (np.diff(scores) > 0).all()
    np.testing.assert_array_equal(fill_bins(points, 7, taken, everything), picks[:7])


def test_closed_points_fill_no_bin():
    points = points_of(400, 3)
    is_open = np.arange(400) % 2 == 0
    picks = fill_bins(points, 400, np.arange(0, 20, 2), is_open)
    assert is_open[picks].all()
    chosen = points[[*range(0, 20, 2), *picks]]
    assert coverage_score(points, chosen) == coverage_score(points, points[is_open]) < 1.0


def test_rows_unlike_those_taken_are_the_first_of_their_content():
    digests = np.array([5, 3, 5, 8, 3, 1], np.uint64)
    assert unlike(digests, 9, digests[:0]).tolist() == [0, 1, 3, 5]
    assert unlike(digests, 2, digests[[2]]).tolist() == [1, 3]
    assert count_distinct(digests) == 4
    assert count_distinct(digests[:0]) == 0
    assert count_distinct(digests[:1]) == 1


def test_a_draw_takes_distinct_rows_whatever_their_order():
    digests = np.random.default_rng(0).integers(0, 50, 400).astype(np.uint64)
    order = np.random.default_rng(1).permutation(400)
    drawn, again = draw(digests, 20, (1,)), draw(digests[order], 20, (1,))
    assert len(np.unique(digests[drawn])) == 20
    np.testing.assert_array_equal(digests[drawn], digests[order][again])
    assert len(draw(digests, 99, (1,))) == 50
    assert set(digests[draw(digests, 20, (2,))]) != set(digests[drawn])


def test_distances_are_from_the_centroid_of_the_cluster_or_of_all_points():
    points = points_of(60, 3)
    labels = np.repeat([0, 1, -1], 20).astype(np.int32)
    picks = Picks(np.array([3, 25, 50]), ['centroid', 'centroid', 'fill'], labels, np.ones(60, np.bool_))
    found = picks.distances_from_centroids(points)
    means = [points[:20].mean(axis=0), points[20:40].mean(axis=0), points.mean(axis=0)]
    np.testing.assert_allclose(found, np.linalg.norm(points[[3, 25, 50]] - means, axis=1), rtol=1e-5)


# -- coverage


def test_coverage_counts_occupied_bins():
    points = np.column_stack([np.arange(200) / 2, np.zeros(200)]).astype(np.float32)
    assert coverage_score(points, points) == 1.0
    assert coverage_score(points, points[::8]) == pytest.approx((0.25 + 1) / 2)
    outside = np.array([[-50.0, 0.0], [500.0, 1.0]], np.float32)
    assert coverage_score(points, np.concatenate([points[::8], outside])) == pytest.approx((0.25 + 1) / 2)


def test_coverage_figures_are_those_of_brute_force():
    points, chosen = points_of(500, 6), points_of(40, 6, seed=1)
    distances = cdist(points, chosen).min(axis=1)
    coverage = coverage_of(points, chosen)
    assert coverage.covering_radius == pytest.approx(distances.max(), rel=1e-5)
    assert coverage.mean_distance == pytest.approx(distances.mean(), rel=1e-5)
    assert coverage.quantisation_error == pytest.approx(np.sqrt((distances**2).mean()), rel=1e-5)


def test_the_covering_radius_by_budget_is_that_of_brute_force():
    points, chosen, budgets = points_of(500, 6), points_of(40, 6, seed=1), np.array([1, 2, 7, 40, 60])
    distances = cdist(points, chosen)
    expected = np.array([distances[:, :n].min(axis=1).max() for n in (1, 2, 7, 40)])
    found = radius_by_budget(points, chosen, budgets, np.full(500, np.inf, 'f4'))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    capped = radius_by_budget(points, chosen, budgets, np.full(500, 2.0, 'f4'))
    np.testing.assert_allclose(capped, np.minimum(expected, 2.0), rtol=1e-5)


def test_nothing_chosen_covers_nothing():
    coverage = coverage_of(points_of(5, 2), NONE)
    assert coverage.coverage is coverage.covering_radius is coverage.quantisation_error is None


# -- unusual atoms


def atoms_with(odd_frames, n_frames=20, n_atoms=16, n_features=6):
    """Return environments of frames (n_frames, n_atoms, n_features), some with one odd atom."""
    rows = np.random.default_rng(0).normal(size=(n_frames, n_atoms, n_features))
    rows[odd_frames, 3] = 50.0 + 0.1 * rows[odd_frames, 3]
    return rows


def test_a_frame_with_an_unusual_atom_is_taken_first_and_of_two_alike_the_smaller_one():
    large, small = atoms_with([4, 11], n_atoms=30), atoms_with([7])
    everything = np.ones(40, bool)
    taken = np.array([0, 1, 21])
    picks = fill_environments(lambda: [large[:9], large[9:], small], everything, taken, 3, 0.0)
    assert picks[0] == 27
    assert not {4, 11} & set(picks[1:].tolist())
    assert fill_environments(lambda: [large, small], everything, np.array([0, 27]), 1, 0.0)[0] not in (4, 11)
    unusable = everything & (np.arange(40) != 27)
    assert fill_environments(lambda: [large, small], unusable, taken, 1, 0.0)[0] in (4, 11)


def test_an_atom_that_a_labelled_frame_has_is_not_unusual():
    rows = atoms_with([4, 11])
    for known, is_new in ((None, True), (lambda: [atoms_with([0], 1)], False)):
        first = fill_environments(lambda: [rows], np.ones(20, bool), np.arange(2), 1, 0.0, known)[0]
        assert (first in (4, 11)) is is_new


def test_of_two_frames_with_the_same_environments_one_is_taken():
    rows = atoms_with([2, 5])
    rows[5] = rows[2]
    picks = fill_environments(lambda: [rows], np.ones(20, bool), np.arange(2), 18, 0.0)
    assert picks[0] == 2 and 5 not in picks
    assert len(set(picks.tolist())) == len(picks) == 17


@pytest.mark.parametrize(
    ('chunks', 'words'),
    [
        ([atoms_with([0])[:19]], 'environments has 19 frames, X has 20 rows'),
        ([atoms_with([0])[0]], r'environments has a chunk of shape \(16, 6\)'),
        ([np.where(atoms_with([0]) > 40, np.nan, atoms_with([0]))], 'environments has non-finite atoms'),
    ],
)
def test_environments_that_do_not_fit_the_rows_are_refused(chunks, words):
    with pytest.raises(ValueError, match=words):
        fill_environments(lambda: chunks, np.ones(20, bool), np.arange(2), 1, 1.0)
