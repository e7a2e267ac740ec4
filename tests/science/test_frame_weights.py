"""Selected frames count in a training by how many frames they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk

from aiida_mlip_autopipe.science.frames import read_extxyz, write_extxyz
from aiida_mlip_autopipe.science.parameters import TrainingParameters
from aiida_mlip_autopipe.science.potential.frame_weights import write_weighted
from aiida_mlip_autopipe.science.training import split_by_origin, train
from aiida_mlip_autopipe.science.training.weights import WEIGHT, weigh, weights_in, weights_of
from tests.support.labels import labelled_silicon

pytestmark = pytest.mark.usefixtures('warm_training')


def labelled(represents):
    frames = []
    for number in represents:
        atoms = bulk('Si', cubic=True)
        atoms.info = {'REF_energy': -1.0, 'REF_stress': np.full(6, 0.01)}
        atoms.info |= {} if number is None else {'represents': number}
        atoms.arrays['REF_forces'] = np.full((8, 3), 0.1)
        frames.append(atoms)
    return frames


def test_weights_follow_what_a_frame_represents_with_bounds_and_a_mean_of_one():
    np.testing.assert_allclose(weights_of(np.array([1, 2, 3])), [0.5, 1.0, 1.5])
    weights = weights_of(np.array([1] * 9 + [991]))
    assert weights.mean() == pytest.approx(1) and weights.max() / weights.min() == pytest.approx(16)
    assert weights_of(np.array([])).shape == (0,) and weights_of(np.array([0, 0])).tolist() == [1, 1]


def test_frames_that_were_not_selected_count_one_and_each_selection_is_weighed_by_itself():
    first, second = labelled([None, 10, 30]), labelled([1000, 3000])
    for frames in (first, second):
        weigh(frames)
    assert weights_in(first + second) == pytest.approx([1.0, 0.5, 1.5, 0.5, 1.5])
    assert WEIGHT not in first[0].info


def test_a_set_without_weights_is_weighed_as_one_selection():
    assert weights_in(labelled([None, 10, 30])) == pytest.approx([1.0, 0.5, 1.5])
    assert weights_in(labelled([None, None])) == [1.0, 1.0]


@pytest.mark.parametrize('loss', ['universal', 'stress'])
def test_the_loss_of_mace_follows_the_weights(loss, tmp_path):
    """Small errors of a frame with the weight 3 count three times those of one with 1, in each quantity."""
    frames = labelled([None, None])
    write_extxyz(tmp_path / 'plain.xyz', frames)
    for atoms, weights in zip(frames, ([1.0], [3.0]), strict=False):
        path = write_weighted([atoms], weights, loss, tmp_path / f'{weights[0]}.xyz')
        assert {name for name in read_extxyz(path)[0].info if name.startswith('REF')} == {'REF_energy', 'REF_stress'}
    by_weight = {weight: losses_of(tmp_path / f'{weight}.xyz', loss) for weight in (1.0, 3.0)}
    plain = losses_of(tmp_path / 'plain.xyz', loss)[:1]
    np.testing.assert_allclose(by_weight[3.0], 3 * by_weight[1.0], rtol=1e-6)
    np.testing.assert_allclose(by_weight[1.0][:1], plain, rtol=1e-6)


@pytest.mark.nightly
def test_a_training_with_weights_gives_another_potential_and_the_same_frames_without_represents_do_not(
    tiny_potential, tmp_path
):
    frames = labelled_silicon(tiny_potential, 8)
    training, validation = split_by_origin(frames, 0.25, 0)
    tiny = TrainingParameters(num_channels=4, correlation=1, num_interactions=1, max_ell=1, r_max=4.0, n_steps=4,
                              max_continuations=0, swa_fraction=0, batch_size=50)  # fmt: skip
    found = {}
    for name, represents, weighs in (('off', (1, 99), False), ('on', (1, 99), True), ('none', None, True)):
        folder = tmp_path / name
        folder.mkdir()
        parts = [[frames[i].copy() for i in part] for part in (training, validation)]
        for atoms, number in zip(parts[0][-2:], represents or (), strict=False):
            atoms.info['represents'] = number
        for part, file in zip(parts, ('training.xyz', 'validation.xyz'), strict=True):
            write_extxyz(folder / file, part)
        asked = tiny.model_copy(update={'weigh_by_represented': weighs})
        result = train(folder / 'training.xyz', folder / 'validation.xyz', asked, folder)
        found[name] = result.metrics['train']['force_rmse_meV_A']
    assert found['on'] != pytest.approx(found['off'], rel=1e-6)
    assert found['none'] == pytest.approx(found['off'], rel=1e-6)


def losses_of(path, loss):
    """Return mace's loss of predictions that are a little off in energy, in forces and in stress (3,)."""
    import torch
    from mace.data import AtomicData, KeySpecification, config_from_atoms
    from mace.modules import UniversalLoss, WeightedEnergyForcesStressLoss
    from mace.tools import torch_geometric
    from mace.tools.utils import AtomicNumberTable

    torch.set_default_dtype(torch.float64)
    keys = KeySpecification(
        info_keys={'energy': 'REF_energy', 'stress': 'REF_stress'}, arrays_keys={'forces': 'REF_forces'}
    )
    data = [
        AtomicData.from_config(config_from_atoms(atoms, keys), z_table=AtomicNumberTable([14]), cutoff=3.0)
        for atoms in read_extxyz(path)
    ]
    batch = next(iter(torch_geometric.dataloader.DataLoader(data, batch_size=len(data))))
    loss_of = (UniversalLoss if loss == 'universal' else WeightedEnergyForcesStressLoss)(1.0, 1.0, 1.0)
    found = []
    for quantity, off in (('energy', 1e-3), ('forces', 1e-4), ('stress', 1e-4)):
        predicted = {name: batch[name].clone() for name in ('energy', 'forces', 'stress')}
        predicted[quantity] += off
        found.append(float(loss_of(batch, predicted)))
    return np.array(found)
