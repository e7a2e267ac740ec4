"""scikit-learn's manners of what has parameters, and real numbers only."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from ase.build import bulk
from sklearn.base import clone

from aiida_mlip_autopipe.science.descriptors import ACE, SOAP
from aiida_mlip_autopipe.science.sampling import DirectSampler

RNG = np.random.default_rng(5)
ROWS = RNG.normal(size=(300, 4)) @ RNG.normal(size=(4, 12))


def test_a_sampler_is_cloned_without_what_it_was_fitted_to():
    sampler = DirectSampler(7, fill=0.2, selection='farthest', n_per_cluster=2).fit(ROWS)
    copied = clone(sampler)
    assert copied.get_params() == sampler.get_params() and not hasattr(copied, 'selected_idx_')
    np.testing.assert_array_equal(copied.fit(ROWS).selected_idx_, sampler.selected_idx_)


def test_a_parameter_of_a_sampler_is_changed_and_what_was_fitted_stays():
    sampler = DirectSampler(7).fit(ROWS)
    assert sampler.set_params(n_to_select=5, weighting='maml') is sampler
    assert sampler.get_params()['n_to_select'] == sampler.n_to_select == 5 and len(sampler.selected_idx_) == 7
    assert len(sampler.fit(ROWS).selected_idx_) == 5
    sampler.n_to_select = 6
    assert sampler.get_params()['n_to_select'] == 6


@pytest.mark.parametrize(
    ('changed', 'words'), [({'n_picks': 3}, 'no parameter n_picks; it has n_to_select'), ({'fill': 2.0}, 'fill=2.0')]
)
def test_a_parameter_that_is_refused_changes_nothing(changed, words):
    sampler = DirectSampler(7)
    with pytest.raises(ValueError, match=words):
        sampler.set_params(n_to_select=5, **changed)
    assert sampler.get_params() == DirectSampler(7).get_params()


@pytest.mark.parametrize(
    'descriptor', [SOAP(['Si', 8], 4.0, 3, 2, average='inner'), ACE(['Si', 8], n_max=[3, 2, 1], average='outer')]
)
def test_a_descriptor_is_cloned_copied_and_changed(descriptor):
    atoms = bulk('Si')
    for other in (clone(descriptor), copy.deepcopy(descriptor), pickle.loads(pickle.dumps(descriptor))):
        assert other.get_params() == descriptor.get_params() and other.get_params()['species'] == ['Si', 8]
        np.testing.assert_array_equal(other.create(atoms), descriptor.create(atoms))
    other = clone(descriptor).set_params(species=['Si'], average='off')
    assert other.species.tolist() == [14] and other.create(atoms).shape == (2, other.get_number_of_features())
    with pytest.raises(ValueError, match='no parameter cutoff'):
        descriptor.set_params(cutoff=3.0)


@pytest.mark.parametrize('distinct', [1, 300])
def test_birch_makes_one_cluster(distinct):
    sampler = DirectSampler(1, clustering='birch', n_clusters=1).fit(ROWS[np.arange(300) % distinct])
    assert len(sampler.selected_idx_) == 1 and set(sampler.labels_.tolist()) == {0}


def test_complex_numbers_are_refused():
    with pytest.raises(ValueError, match='X is complex128'):
        DirectSampler(3).fit(ROWS + 1j)
    with pytest.raises(ValueError, match='known is complex64'):
        DirectSampler(3).fit(ROWS, known=ROWS.astype(np.complex64))
    with pytest.raises(ValueError, match='X is complex128'):
        DirectSampler(3).fit(lambda: [ROWS, ROWS + 0j])
    with pytest.raises(ValueError, match='X is complex128'):
        DirectSampler(3).fit(ROWS).transform(ROWS + 1j)
    atoms = bulk('Si')
    with pytest.raises(ValueError, match='positions is complex128'):
        SOAP(['Si'], 4.0).create_frames(atoms.numbers, atoms.positions[None] + 1j, atoms.cell.array, atoms.pbc)
