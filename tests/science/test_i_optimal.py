"""I-optimal frames: each lowers the mean predictive variance over all frames most."""

from __future__ import annotations

import numpy as np
import pytest

from aiida_mlip_autopipe.science.sampling import DirectSampler
from aiida_mlip_autopipe.science.sampling.pool import Pool
from aiida_mlip_autopipe.science.sampling.rules.i_optimal import IOptimal

RNG = np.random.default_rng(3)
POINTS = (RNG.normal(size=(60, 3)) * [5, 2, 1] + [1, 0, 2]).astype(np.float32)


def pool_of(points, fixed=None):
    ratio = np.array([0.7, 0.2, 0.05], np.float32)
    known = np.empty((0, 3), np.float32) if fixed is None else fixed
    return Pool(points, np.arange(len(points), dtype=np.uint64), known, ratio, 0)


def mean_variance(points, labelled):
    """Return the mean predictive variance after some labels, worked out at once."""
    variance = points.var(axis=0, dtype=float).sum()
    centred = np.column_stack([points - points.mean(axis=0, dtype=float), np.full(len(points), np.sqrt(variance))])
    rows = np.column_stack([labelled - points.mean(axis=0, dtype=float), np.full(len(labelled), np.sqrt(variance))])
    matrix = rows.T @ rows + variance * 0.05 / 0.95 * np.eye(4)
    return np.mean(np.einsum('ij,ij->i', centred @ np.linalg.inv(matrix), centred))


@pytest.mark.parametrize('fixed', [None, POINTS[:4] + 0.1])
def test_each_pick_is_the_best_of_all_that_are_left(fixed):
    picks = IOptimal().select(pool_of(POINTS, fixed), 8, DirectSampler(8)).indices.tolist()
    labelled = np.empty((0, 3)) if fixed is None else fixed
    for number, pick in enumerate(picks):
        given = np.concatenate([labelled, POINTS[picks[:number]]])
        left = [index for index in range(len(POINTS)) if index not in picks[:number]]
        after = {index: mean_variance(POINTS, np.concatenate([given, POINTS[[index]]])) for index in left}
        assert after[pick] == pytest.approx(min(after.values()), rel=1e-6)


def test_frames_of_one_point_are_taken_in_order():
    assert DirectSampler(3, selection='i-optimal').fit(np.ones((5, 2)) * [[1, 2]]).selected_idx_.tolist() == [0]


def test_of_many_frames_a_bounded_number_are_candidates():
    many = np.random.default_rng(0).normal(size=(60_000, 2))
    sampler = DirectSampler(40, selection='i-optimal', min_eigenvalue=0).fit(many)
    assert len(set(sampler.selected_idx_.tolist())) == 40 and set(sampler.reasons_) == {'variance'}
