"""What every selection rule must hold, whoever wrote it: each that is registered is asked."""

from __future__ import annotations

import numpy as np
import pytest

from aiida_mlip_autopipe.science.parameters import SamplingParameters
from aiida_mlip_autopipe.science.registry import SELECTION_RULES
from aiida_mlip_autopipe.science.sampling import DirectSampler
from tests.support.conformance import check_references, check_sentence

RNG = np.random.default_rng(7)
FRAMES = RNG.normal(size=(400, 6)) * [4, 3, 2, 1, 1, 1] + RNG.integers(0, 3, (400, 1)) * 9
GROUPS = np.arange(400) // 100


@pytest.fixture(params=list(SELECTION_RULES))
def name(request):
    return request.param


def fitted(name, frames=FRAMES, n=12, seed=3, random_fraction=0.0, **given):
    """Return a sampler after it selected; where the rule looks at atoms, each frame has one and a common one."""
    sampler = DirectSampler(n, selection=name, random_state=seed, random_fraction=random_fraction)
    if SELECTION_RULES[name].needs_environments and 'environments' not in given:
        given['environments'] = lambda: [np.stack([frames, np.zeros_like(frames)], axis=1)]
    return sampler.fit(frames.astype(np.float32), **given)


def test_rules_that_look_at_atoms_are_refused_without_and_with_groups(name):
    if SELECTION_RULES[name].needs_environments:
        for given in ({'environments': None}, {'groups': GROUPS}):
            with pytest.raises(ValueError, match=f'selection={name!r} needs the environments, and no groups'):
                fitted(name, **given)
        with pytest.raises(ValueError, match='uses all frames at once, group_by'):
            SamplingParameters(selection=name, group_by='trajectory')
    else:
        assert fitted(name, environments=None).report_['n_selected'] == 12
        SamplingParameters(selection=name, group_by='trajectory')


@pytest.mark.parametrize('n', [1, 2, 12, 57])
def test_it_takes_as_many_as_asked_for_each_once_and_says_why(name, n):
    sampler = fitted(name, n=n)
    assert len(sampler.selected_idx_) == len(set(sampler.selected_idx_.tolist())) == len(sampler.reasons_) == n
    assert all(0 <= row < len(FRAMES) for row in sampler.selected_idx_)
    assert all(reason.isidentifier() for reason in sampler.reasons_)
    assert sampler.report_['n_selected'] == n and len(sampler.distances_) == n


def test_the_same_seed_gives_the_same_picks_in_the_same_order(name):
    assert np.array_equal(fitted(name).selected_idx_, fitted(name).selected_idx_)


def test_equal_frames_are_taken_once_and_all_that_differ_at_most(name):
    sampler = fitted(name, np.repeat(FRAMES[:8], 5, axis=0), n=30)
    assert sorted(sampler.selected_idx_ // 5) == list(range(8))


def test_it_takes_no_frame_that_is_known(name):
    for row in fitted(name, known=FRAMES[:200], n=150).selected_idx_:
        assert row >= 200


def test_it_takes_no_frame_that_is_left_out(name):
    certain, broken = np.arange(400) % 2 == 0, np.arange(400) % 3 == 0
    for row in fitted(name, certain=certain, exclude={'broken': broken}, n=40).selected_idx_:
        assert not certain[row] and not broken[row]


def test_each_group_gives_its_share(name):
    if not SELECTION_RULES[name].needs_environments:
        picked = fitted(name, groups=GROUPS).selected_idx_
        assert np.bincount(GROUPS[picked]).tolist() == [3, 3, 3, 3]


def test_a_fraction_is_drawn_at_random_and_the_rule_takes_others(name):
    sampler, other = (fitted(one, n=20, random_fraction=0.25) for one in (name, 'farthest'))
    assert len(set(sampler.selected_idx_.tolist())) == 20
    assert sampler.reasons_[:5] == ['random'] * 5 and np.array_equal(sampler.selected_idx_[:5], other.selected_idx_[:5])
    assert name == 'random' or 'random' not in sampler.reasons_[5:]


def test_of_each_group_a_fraction_is_drawn_at_random():
    sampler = DirectSampler(20, random_fraction=0.5).fit(FRAMES, groups=GROUPS)
    drawn = [row for row, reason in zip(sampler.selected_idx_, sampler.reasons_, strict=True) if reason == 'random']
    assert np.bincount(GROUPS[sampler.selected_idx_]).tolist() == [5, 5, 5, 5]
    assert np.bincount(GROUPS[drawn]).tolist() == [2, 2, 2, 2]


def test_what_is_drawn_at_random_counts_as_taken(name):
    twice = np.repeat(FRAMES[:8], 5, axis=0)
    for seed in range(5):
        sampler = fitted(name, twice, n=8, seed=seed, random_fraction=0.5)
        assert sorted(sampler.selected_idx_ // 5) == list(range(8))


def test_it_says_what_it_does(name):
    rule, parameters = SELECTION_RULES[name](), SamplingParameters(selection=name)
    check_sentence(rule.sentence(parameters))
    check_references(rule.references())
    assert str(parameters.n_to_select) in rule.sentence(parameters) and (type(rule).__doc__ or '').strip()


def test_what_suits_a_rule_is_its_default_and_what_is_given_counts(name):
    fresh, rule = SamplingParameters(selection=name), SELECTION_RULES[name]
    asked = {'min_eigenvalue': 1.0, 'random_fraction': 0.0} | rule.defaults
    assert {key: getattr(fresh, key) for key in asked} == asked
    given = SamplingParameters(selection=name, min_eigenvalue=0.3, random_fraction=0.25)
    assert (given.min_eigenvalue, given.random_fraction) == (0.3, 0.25)
    assert SamplingParameters(**given.model_dump(mode='json')) == given


def test_the_default_is_i_optimal_with_half_at_random():
    default = SamplingParameters()
    assert (default.selection, default.min_eigenvalue, default.random_fraction) == ('i-optimal', 0.01, 0.5)


def test_settings_that_only_another_rule_reads_are_refused(name):
    for setting, value in {
        'fill': 0.3,
        'n_clusters': 4,
        'clustering': 'birch',
        'cluster_share': 'proportional',
    }.items():
        if name == 'direct':
            assert getattr(SamplingParameters(selection=name, **{setting: value}), setting) == value
        else:
            with pytest.raises(ValueError, match=f'{setting}: direct alone looks at it, but selection is {name}'):
                SamplingParameters(selection=name, **{setting: value})


def test_a_rule_that_there_is_not_is_refused():
    known = "'direct', 'farthest', 'i-optimal', 'random', 'set-cover'"
    with pytest.raises(ValueError, match=f"selection='best' must be one of {known}"):
        DirectSampler(3, selection='best')
    with pytest.raises(ValueError, match="Input should be 'direct', 'farthest', 'i-optimal', 'random' or 'set-cover'"):
        SamplingParameters(selection='best')
