"""Fine-tuning of tiny foundations: it gets better, it is used like any potential, and what cannot work is refused."""

import numpy as np
import pytest
from ase.build import bulk

from aiida_mlip_autopipe.science.dynamics import single_point
from aiida_mlip_autopipe.science.evaluation import evaluate
from aiida_mlip_autopipe.science.frames import read_extxyz, write_extxyz
from aiida_mlip_autopipe.science.parameters import EvaluationParameters, TrainingParameters
from aiida_mlip_autopipe.science.potential import PotentialError, inspect_potential
from aiida_mlip_autopipe.science.potential.fine_tuning import single_head
from aiida_mlip_autopipe.science.potential.load import load_model
from aiida_mlip_autopipe.science.training import TrainingSetError, split_by_origin, train
from tests.support.labels import labelled_silicon
from tests.support.potentials import tiny_potential

pytestmark = pytest.mark.usefixtures('warm_training')

# All sizes differ from the foundation's, which they must not disturb.
NAIVE = TrainingParameters(method='naive', n_steps=12, max_continuations=0, finetune_lr=0.01, swa_fraction=0.0,
                           num_channels=16, max_L=1, r_max=6.0)  # fmt: skip
MULTIHEAD = NAIVE.model_copy(update={'method': 'multihead', 'n_steps': 24})


@pytest.fixture(scope='module')
def given(tiny_potential, tmp_path_factory):
    """Return the paths of sets of silicon, labelled, and of a foundation and a replay set of silicon and germanium."""
    folder = tmp_path_factory.mktemp('given')
    labelled = labelled_silicon(tiny_potential, 8)
    for name, indices in zip(('training', 'validation'), split_by_origin(labelled, 0.25, 0), strict=True):
        write_extxyz(folder / f'{name}.xyz', [labelled[index] for index in indices])
    replay = [bulk('Si', a=5.55) for _ in range(6)]
    for number, atoms in enumerate(replay):
        atoms.symbols[0] = 'Ge'
        atoms.rattle(0.05, seed=number)
    write_extxyz(folder / 'replay.xyz', replay)
    return {
        'training': folder / 'training.xyz',
        'validation': folder / 'validation.xyz',
        'foundation': foundation_of(folder, ('Si', 'Ge')),
        'replay': folder / 'replay.xyz',
    }


def foundation_of(folder, elements):
    """Return the file of a potential that was not made with the labels."""
    return tiny_potential(folder, elements, channels=8, seed=1)


def fine_tune(given, parameters, folder, **others):
    """Fine-tune, from what the method takes."""
    given = {name: path for name, path in given.items() if name != 'replay' or parameters.method == 'multihead'}
    return train(parameters=parameters, folder=folder, **(given | others))


def error_before(given):
    """Return the error of the forces of the foundation, in meV/Å."""
    frames = read_extxyz(given['validation'])
    return evaluate(given['foundation'], frames, EvaluationParameters()).metrics['force_rmse_meV_A']


@pytest.mark.slow
def test_naive_fine_tuning_comes_closer_to_the_labels(given, tmp_path):
    result = fine_tune(given, NAIVE, tmp_path)
    assert result.metrics['validation']['force_rmse_meV_A'] < 0.5 * error_before(given)
    assert result.info['elements'] == ['Si'] and result.info['r_max'] == inspect_potential(given['foundation'])['r_max']
    assert result.run['method'] == 'naive'
    assert result.run['foundation_sha256'] == inspect_potential(given['foundation'])['sha256']
    # The reference energy is that of the labelled atom, not the foundation's.
    atom = read_extxyz(given['training'])[0]
    assert single_point(result.potential, atom)['energy'] == pytest.approx(atom.info['REF_energy'], abs=1e-5)


@pytest.mark.slow
def test_multihead_fine_tuning_learns_and_does_not_forget(given, tmp_path):
    """Its one head that is left is the one that mace validated; what it rehearses are the foundation's own words."""
    result = fine_tune(given, MULTIHEAD, tmp_path)
    assert result.metrics['validation']['force_rmse_meV_A'] < 0.5 * error_before(given)
    assert result.info['elements'] == ['Si']  # germanium has no reference energy of this level of theory
    assert list(load_model(result.potential).heads) == ['Default']
    for atoms in read_extxyz(tmp_path / 'mace/replay.xyz'):
        expected = single_point(given['foundation'], atoms)
        np.testing.assert_allclose(atoms.arrays['REF_forces'], expected['forces'], atol=1e-5)
        assert atoms.info['REF_energy'] == pytest.approx(expected['energy'], abs=1e-5)
    both = load_model(tmp_path / 'mace/autopipe.model')
    assert list(both.heads) == ['pt_head', 'Default']
    assert_same_with_one_head(both, result, read_extxyz(given['validation'])[0], tmp_path)


def assert_same_with_one_head(both, result, atoms, folder):
    """Compare a potential of one head with the head of the model that it came from."""
    import torch
    from mace.calculators import MACECalculator

    both.load_state_dict(
        torch.load(next((folder / 'mace/checkpoints').glob(f'*-{result.run["best_epoch"]}.pt')), weights_only=False)[
            'model'
        ]
    )
    calculator = MACECalculator(models=[both], device='cpu', default_dtype='float32', head='Default')
    calculator.calculate(atoms)
    found = single_point(result.potential, atoms, dtype='float32')
    assert found['energy'] == pytest.approx(calculator.results['energy'], abs=1e-4)
    np.testing.assert_allclose(found['forces'], calculator.results['forces'], atol=1e-4)


def test_a_model_whose_heads_are_all_foreign_is_refused(given):
    model = load_model(given['foundation'])
    model.heads = ['omat', 'spice']
    with pytest.raises(PotentialError, match=r'has the heads omat, spice.*mace_select_head'):
        single_head(model, given['foundation'])


@pytest.mark.parametrize(('parameters', 'others', 'words'), [
    (NAIVE, {'foundation': None}, "foundation: missing, but training.method is 'naive'"),
    (MULTIHEAD, {'replay': None}, "replay: missing, but training.method is 'multihead'"),
    (NAIVE.model_copy(update={'method': 'scratch'}), {}, "foundation: given, but training.method is 'scratch'"),
])  # fmt: skip
def test_what_does_not_go_with_the_method_is_refused(given, tmp_path, parameters, others, words):
    with pytest.raises(TrainingSetError, match=words):
        fine_tune(given, parameters, tmp_path, **others)
    assert not (tmp_path / 'mace').exists()


@pytest.mark.slow
def test_foundations_that_do_not_fit_are_refused(given, tmp_path):
    with pytest.raises(TrainingSetError, match='foundation: knows Ge, but the labelled set has Si'):
        fine_tune(given, NAIVE, tmp_path, foundation=foundation_of(tmp_path, ['Ge']))
    with pytest.raises(TrainingSetError, match='foundation: knows C, Si, but the replay set has Ge'):
        fine_tune(given, MULTIHEAD, tmp_path, foundation=foundation_of(tmp_path, ['C', 'Si']))
    with pytest.raises(TrainingSetError, match=r"knows Si only, and mace cannot replay .*'naive'"):
        alone = {'foundation': foundation_of(tmp_path, ['Si']), 'replay': given['training']}
        fine_tune(given, MULTIHEAD, tmp_path, **alone)
    write_extxyz(tmp_path / 'one.xyz', read_extxyz(given['replay'])[:1])
    with pytest.raises(TrainingSetError, match=r'one\.xyz has 1 frame'):
        fine_tune(given, MULTIHEAD, tmp_path, replay=tmp_path / 'one.xyz')


def test_a_loss_that_mace_would_not_take_is_refused():
    with pytest.raises(
        ValueError, match="loss: 'stress', but with the method 'multihead' mace only accepts 'universal'"
    ):
        TrainingParameters(method='multihead', loss='stress')
