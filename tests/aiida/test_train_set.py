"""A training by itself: from a file of labelled frames to a potential with errors and card, and what is refused before.

Real mace_run_train on two atoms, for a few steps.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from aiida import engine, orm
from click.testing import CliRunner

from aiida_mlip_autopipe.cli import main
from aiida_mlip_autopipe.cli.outcome import tell_outcome
from aiida_mlip_autopipe.cli.results import write_results
from aiida_mlip_autopipe.cli.train_launch import prepare_training
from aiida_mlip_autopipe.data import FramesData
from aiida_mlip_autopipe.pipeline.exit_codes import DATASET
from aiida_mlip_autopipe.provenance.progress import ProgressReader
from aiida_mlip_autopipe.provenance.states import list_runs
from aiida_mlip_autopipe.report.bundle.write import write_bundle
from aiida_mlip_autopipe.science.frames import write_extxyz
from aiida_mlip_autopipe.workflows.training.train_set import TrainSetWorkChain
from tests.support.labels import labelled_silicon

TINY = (
    'training: {num_channels: 4, max_L: 0, r_max: 4.0, correlation: 1, max_ell: 1, num_interactions: 1, n_steps: 8, '
    'max_continuations: 0, committee_size: 1, swa_fraction: 0}\n'
)


@pytest.fixture
def write(tmp_path: Path, tiny_potential):
    """Return a function that writes a set and an input with some lines more, and returns the path of the input."""

    def factory(text: str = '') -> Path:
        write_extxyz(tmp_path / 'labelled.extxyz', labelled_silicon(tiny_potential, 10, n_origins=5))
        path = tmp_path / 'input.yaml'
        path.write_text(f'data: labelled.extxyz\n{TINY}{text}')
        return path

    return factory


def test_a_set_becomes_a_potential_with_errors_limit_and_card(write, worker_code, tmp_path, capsys):
    launch = prepare_training(write('test_fraction: 0.2\nevaluation: {max_force_rmse_meV_A: 0.001}\n'))
    assert launch.told[0] == '7 frames train (isolated atoms among them), 2 validate, 2 test (1 origins)'
    assert [warning.partition(':')[0] for warning in launch.warnings] == ['validation', 'test']
    launch.builder.worker_code = worker_code
    outputs, node = engine.run_get_node(launch.builder)
    assert node.is_finished_ok, node.exit_message
    summary = outputs['summary'].get_dict()
    assert summary['test']['n_frames'] == 2 and summary['training']['run']['limited_by'] in ('labels', 'neither')
    assert 'force_rmse_meV_A' in summary['above_tolerance']['test']
    sides = {atoms.info['frame_id']: atoms.info['split'] for atoms in outputs['dataset'].get_atoms()}
    tested = {atoms.info['frame_id'] for atoms in outputs['test_set'].get_atoms()}
    assert len(sides) == 9 and not tested & set(sides)

    progress = ProgressReader(node.pk).read()
    assert [(stage.name, stage.state) for stage in progress.stages] == [('train_r1', 'done'), ('evaluate_r1', 'done')]
    assert node.pk in [one.pk for one in list_runs()]
    tell_outcome(node, progress, tmp_path / 'results')
    told = capsys.readouterr().out
    assert 'test (2 frames)' in told and 'not clearly below the tolerance' in told
    limits = {'labels': 'the labels limit the potential', 'neither': 'what limits the potential is not seen'}
    assert limits[summary['training']['run']['limited_by']] in told
    card = json.loads((tmp_path / 'results/potential.json').read_text())
    assert card['limited_by'] == summary['training']['run']['limited_by']
    assert card['errors']['test']['force_rmse_meV_A'] == summary['test']['force_rmse_meV_A']
    assert {name: part['n_frames'] for name, part in card['data'].items()} == {
        'training': 7,
        'validation': 2,
        'test': 2,
    }
    assert {'potential.model', 'dataset.extxyz', 'test_set.extxyz', 'summary.json', 'evaluation_r1'} <= {
        path.name for path in write_results(node, progress, tmp_path / 'again')
    }
    with pytest.raises(ValueError, match='is a training by itself'):
        write_bundle(node, tmp_path / 'bundle')


def test_a_node_that_cannot_be_divided_ends_the_training_with_the_reason(worker_code, tiny_potential):
    data = FramesData.from_atoms(labelled_silicon(tiny_potential, 4, n_origins=2))
    builder = TrainSetWorkChain.get_builder_from_protocol(worker_code, data, overrides={'training': {'n_steps': 1}})
    _, node = engine.run_get_node(builder)
    assert node.exit_status == DATASET.status and 'descend from 2 structure' in node.exit_message


def test_the_builder_takes_the_protocol_and_what_is_to_differ(worker_code, tiny_potential):
    data = FramesData.from_atoms(labelled_silicon(tiny_potential, 4))
    builder = TrainSetWorkChain.get_builder_from_protocol(
        worker_code, data, 'balanced', overrides={'isolated_atoms': {'Si': -1.0}, 'training': {'n_steps': 7}}
    )
    configuration = builder.configuration.get_dict()
    assert configuration['protocol'] == 'balanced' and configuration['training']['n_steps'] == 7
    assert configuration['isolated_atoms'] == {'Si': -1.0} and configuration['evaluation']['hot_factor'] is None
    assert isinstance(builder.data, FramesData) and isinstance(builder.worker_code, orm.AbstractCode)


@pytest.mark.usefixtures('worker_code')
@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('trainig: {n_steps: 3}\n', 'trainig: unknown key; did you mean training?'),
        ('test: nowhere.extxyz\n', "test: 'nowhere.extxyz': there is no file"),
        ('test: labelled.extxyz\n', 'are structures of data'),
        ('test_fraction: 0\n', 'test_fraction: 0 is not > 0'),
        ('isolated_atoms: {Si: -7.5}\n', 'Si is told as -7.5 eV, but the isolated atom of the set has'),
        ('labelling: {max_force_eV_A: 1.0e-9}\n', 'above labelling.max_force_eV_A'),
        ('evaluation: {n_test: 4}\n', 'evaluation.n_test: the test set of a training is test or test_fraction'),
        ('surrogate: nowhere.model\n', 'there is no file'),
        ('codes: {worker: nothing@localhost}\n', "codes.worker: 'nothing@localhost' is not the label"),
    ],
)
def test_what_cannot_be_trained_is_told_before_submission(write, text, words):
    done = CliRunner().invoke(main, ['train', '--check', str(write(text))])
    assert done.exit_code == 2, done.output
    assert words in ' '.join(done.output.split())


@pytest.mark.usefixtures('worker_code')
def test_a_check_says_what_would_be_trained_and_submits_nothing(write):
    n_before = orm.QueryBuilder().append(orm.Node).count()
    done = CliRunner().invoke(main, ['train', '--check', str(write())])
    assert done.exit_code == 0, done.output
    assert 'scratch: 8 steps of 2 frames' in done.output
    assert orm.QueryBuilder().append(orm.Node).count() == n_before
