"""What a selected frame stands for goes with its label into the sets of the training, if it is asked for."""

from __future__ import annotations

import numpy as np
import pytest
from aiida import orm
from ase.build import bulk

from aiida_mlip_autopipe.calculations.functions.train import split_dataset
from aiida_mlip_autopipe.data import FramesData


def labelled(name, represents):
    frames = []
    for index, number in enumerate(represents):
        atoms = bulk('Si', cubic=True)
        atoms.info = {'frame_id': f'{name}{index}', 'origin': f'{name}{index}', 'config_type': name, 'REF_energy': -1.0}
        atoms.info |= {} if number is None else {'represents': number}
        atoms.arrays['REF_forces'] = np.zeros((8, 3))
        frames.append(atoms)
    return FramesData.from_atoms(frames, 'a level of theory')


@pytest.mark.parametrize('weighs', [True, False])
def test_the_weights_of_each_round_have_the_mean_one_and_seeds_have_none(weighs):
    sets = {
        'initial': labelled('seed', [None, None]),
        'r1': labelled('first', [100, 300]),
        'r2': labelled('second', [30, 10, 20]),
    }
    made = split_dataset(orm.Dict({'weigh_by_represented': weighs}), **sets)
    weights = {atoms.info['frame_id']: atoms.info.get('training_weight') for atoms in made['dataset'].get_atoms()}
    assert len(weights) == 7 and weights['seed0'] is None
    expected = {'first0': 0.5, 'first1': 1.5, 'second0': 1.5, 'second1': 0.5, 'second2': 1.0}
    for name, weight in expected.items():
        assert weights[name] == (pytest.approx(weight) if weighs else None)
