"""k-medoids by its two packages: kmedoids, and scikit-learn-extra, which `make test` builds (extra sklearn-extra)."""

import sys

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from aiida_mlip_autopipe.science.sampling import DirectSampler
from aiida_mlip_autopipe.science.sampling.clustering import cluster

MAX_BYTES = 1e9


def inertia(points, labels):
    """Return the sum of the distances from the medoid of each cluster, which k-medoids minimises."""
    members = (points[labels == label] for label in np.unique(labels))
    return sum(cdist(some, some).sum(axis=0).min() for some in members)


def clusters(points, n_clusters, method, random_state=0):
    return cluster(points, n_clusters, method, None, points[:0], random_state, MAX_BYTES)


def gathered(n_centres, seed, n=400):
    """Return points around well separated centres."""
    generator = np.random.default_rng(seed)
    centres = 8 * generator.normal(size=(n_centres, 5))
    return (centres[generator.integers(n_centres, size=n)] + generator.normal(size=(n, 5))).astype(np.float32)


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize(('n_centres', 'n_clusters'), [(12, 12), (1, 20)])
def test_both_packages_find_clusters_of_equal_quality(n_centres, n_clusters, seed):
    points = gathered(n_centres, seed)
    ours, theirs = (clusters(points, n_clusters, method) for method in ('kmedoids', 'sklearn_extra'))
    assert len(np.unique(ours)) == len(np.unique(theirs)) == n_clusters
    assert inertia(points, theirs) == pytest.approx(inertia(points, ours), rel=0.05)


def test_separated_clusters_are_the_same():
    points = gathered(5, seed=3) * np.float32(20)
    ours, theirs = (clusters(points, 5, method) for method in ('kmedoids', 'sklearn_extra'))
    assert len(set(zip(ours, theirs, strict=True))) == len(set(ours)) == 5


def test_scikit_learn_extra_selects_as_many_frames_as_asked():
    sampler = DirectSampler(20, clustering='sklearn_extra').fit(gathered(4, seed=0))
    assert len(set(sampler.selected_idx_)) == 20


@pytest.mark.parametrize('method', ['kmedoids', 'sklearn_extra'])
def test_neither_is_tried_where_the_distances_of_all_pairs_would_not_fit(method):
    """8 N² bytes: 400 points need 1.28 MB."""
    with pytest.raises(ValueError, match=rf"clustering='{method}'.*1\.3 MB for 400 frames.*choose 'kmeans'"):
        DirectSampler(20, clustering=method, max_bytes=1.2e6).fit(gathered(4, seed=0))


def test_where_scikit_learn_extra_does_not_import_the_way_out_is_named(monkeypatch):
    """Its wheel, which was built for NumPy 1, raises on import."""
    monkeypatch.setitem(sys.modules, 'sklearn_extra.cluster', None)
    with pytest.raises(ValueError, match=r"clustering='sklearn_extra'.*does not import here.*choose 'kmedoids'"):
        DirectSampler(20, clustering='sklearn_extra').fit(gathered(4, seed=0))
