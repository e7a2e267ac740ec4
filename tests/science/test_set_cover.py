"""The set cover of environments: few frames that together show every kind of surroundings of an atom."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from aiida_mlip_autopipe.science.sampling import DirectSampler
from aiida_mlip_autopipe.science.sampling.rules.set_cover import greedy_cover

RNG = np.random.default_rng(5)
KINDS = RNG.normal(size=(12, 5)) * 20


def frames_of(kinds, n_atoms=6, noise=0.0, seed=0):
    """Return the atoms of frames, (n, n_atoms, 5): each of one of the kinds that its frame has."""
    generator = np.random.default_rng(seed)
    which = np.array([np.resize(generator.permutation(list(some)), n_atoms) for some in kinds])
    return KINDS[which] + noise * generator.normal(size=(*which.shape, 5))


def taken(atoms, n, known=None, chunk=7, **settings):
    sampler = DirectSampler(n, selection='set-cover', min_eigenvalue=0.0, **settings)
    chunks = [atoms[first : first + chunk] for first in range(0, len(atoms), chunk)]
    rows = atoms.mean(axis=1) + 1e-3 * np.random.default_rng(1).normal(size=(len(atoms), 5))
    sampler.fit(rows, environments=lambda: chunks, known_environments=known)
    return sampler.selected_idx_.tolist()


def bits_of(sets, n_cells=16):
    cells = np.zeros((len(sets), n_cells), np.bool_)
    for number, some in enumerate(sets):
        cells[number, list(some)] = True
    return np.packbits(cells, axis=1)


def step_by_step(sets, n, covered=()):
    """Return a greedy cover worked out with sets: most cells of the lowest level that any frame left has."""
    times = dict.fromkeys(range(16), 0) | dict(covered)
    picks = []
    while len(picks) < n:
        left = [number for number in range(len(sets)) if number not in picks]
        for level in sorted(set(times.values())):
            gains = [sum(times[cell] <= level for cell in sets[number]) for number in left]
            if max(gains) > 0:
                break
        picks.append(left[int(np.argmax(gains))])
        times.update({cell: times[cell] + 1 for cell in sets[picks[-1]]})
    return picks


@pytest.mark.parametrize('seed', range(5))
def test_the_greedy_cover_is_that_of_sets(seed):
    generator = np.random.default_rng(seed)
    sets = [set(generator.choice(16, generator.integers(1, 6), replace=False).tolist()) for _ in range(40)]
    covered = {int(cell): int(generator.integers(0, 4)) for cell in generator.choice(16, 5, replace=False)}
    times = np.array([covered.get(cell, 0) for cell in range(16)])
    found = greedy_cover(bits_of(sets), times, np.ones(40, bool), 25)
    assert found.tolist() == step_by_step(sets, 25, covered)


def test_it_ends_where_no_frame_is_open():
    is_open = np.array([True, False, True])
    assert greedy_cover(bits_of([{1}, {1, 2}, {3}]), np.zeros(16, int), is_open, 9).tolist() == [0, 2]


def test_all_kinds_of_atoms_are_covered_before_one_is_covered_twice():
    kinds = [(0, 1)] * 20 + [(2, 3, 4), (0, 5), (6, 7, 8), (9, 10, 11), (1,)]
    assert taken(frames_of(kinds), 5) == [20, 22, 23, 0, 21]
    assert set(taken(frames_of(kinds), 8)) > {0, 20, 21, 22, 23}


def test_kinds_that_labelled_frames_have_are_covered():
    kinds = [some for some in combinations(range(6), 2)]
    known = frames_of([(0, 1, 2, 3)], seed=1)
    first = taken(frames_of(kinds), 1, known=lambda: [known])
    assert kinds[first[0]] == (4, 5)


def test_a_kind_that_the_sample_lacks_has_a_cell_of_its_own():
    kinds = [(0, 1, 2)] * 900
    atoms = frames_of(kinds, noise=1.0)
    atoms[[17, 417, 800], 3] += np.array([[80.0], [-80.0], [150.0]])
    assert {17, 417, 800} <= set(taken(atoms, 450))


@pytest.mark.parametrize('chunk', [1, 13, 900])
def test_the_size_of_the_chunks_does_not_matter(chunk):
    atoms = frames_of([(0, 1, 2)] * 900, noise=1.0)
    atoms[[5, 600]] += RNG.normal(size=(2, 6, 5)) * 40
    assert taken(atoms, 20, chunk=chunk) == taken(atoms, 20, chunk=100)


def test_what_was_drawn_at_random_covers_too():
    kinds = [(0,)] * 6 + [(1,)] * 6
    for seed in range(8):
        drawn, chosen = taken(frames_of(kinds), 2, random_fraction=0.5, random_state=seed)
        assert (drawn < 6) != (chosen < 6)
