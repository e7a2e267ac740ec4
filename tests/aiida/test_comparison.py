"""Two runs side by side: a recorded one with itself, and with one that differs in its input and its test set."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from aiida import orm
from aiida.common.links import LinkType
from click.testing import CliRunner
from plumpy import ProcessState

from aiida_mlip_autopipe.cli.commands.compare import command
from aiida_mlip_autopipe.data import FramesData
from aiida_mlip_autopipe.provenance.comparison import compare

WORKFLOW = 'aiida.workflows:mlip_autopipe.'


def finished(node: Any, parent: Any = None, link: str = '') -> Any:
    """Store a process as finished, called by a parent."""
    if parent is not None:
        link_type = LinkType.CALL_CALC if isinstance(node, orm.CalcJobNode) else LinkType.CALL_WORK
        node.base.links.add_incoming(parent, link_type=link_type, link_label=link)
    node.set_process_state(ProcessState.FINISHED)
    node.set_exit_status(0)
    return node.store()


@pytest.fixture(scope='module')
def other_run(finished_run: orm.WorkChainNode) -> orm.WorkChainNode:
    """Return a run with another temperature and volume, the same seeds labelled, and all but one of the test frames."""
    run = orm.WorkChainNode(process_type=finished_run.process_type)
    run.base.attributes.set('version', finished_run.base.attributes.get('version'))
    values = finished_run.inputs.configuration.get_dict()
    values['exploration']['temperatures_K'] = [123.0]
    values['training'] = {**values['training'], 'random_seed': values['training']['random_seed'] + 1}
    for link in finished_run.base.links.get_incoming(link_type=LinkType.INPUT_WORK).all():
        node = orm.Dict(values).store() if link.link_label == 'configuration' else link.node
        run.base.links.add_incoming(node, link_type=LinkType.INPUT_WORK, link_label=link.link_label)
    finished(run)
    labelling = finished(orm.WorkChainNode(process_type=f'{WORKFLOW}label'), run, 'label_initial')
    first = finished_run.base.links.get_outgoing(link_label_filter='label_initial').one().node
    first.outputs.labelled.base.links.add_incoming(labelling, link_type=LinkType.RETURN, link_label='labelled')

    frames = finished_run.outputs.test_set.get_atoms()
    frames.remove(next(atoms for atoms in frames if atoms.info['split'] == 'test'))
    evaluation = finished(orm.WorkChainNode(process_type=f'{WORKFLOW}evaluate'), run, 'evaluate_surrogate')
    job = orm.CalcJobNode(process_type='aiida.calculations:mlip_autopipe.evaluate')
    test_set = FramesData.from_atoms(frames, finished_run.outputs.test_set.label_fingerprint).store()
    job.base.links.add_incoming(test_set, link_type=LinkType.INPUT_CALC, link_label='frames')
    finished(job, evaluation, 'iteration_01')
    errors = {'n_frames': len(frames), 'energy_rmse_meV': 1.0, 'force_rmse_meV_A': 2.0, 'stress_rmse_GPa': None}
    columns = {name: np.array([atoms.info[name] for atoms in frames]) for name in ('frame_id', 'split')}
    of_today = [re.sub(r'-([0-9a-f]{8})$', r'-\g<1>01234567', name) for name in columns['frame_id']]
    columns['frame_id'] = np.array(of_today)  # the names of runs of before had eight digits
    predictions = orm.ArrayData(columns)
    for name, node in (('metrics', orm.Dict({**errors, 'by_split': {'test': errors}})), ('predictions', predictions)):
        node.base.links.add_incoming(job, link_type=LinkType.CREATE, link_label=name)
        node.store()
    physics = orm.Dict(finished_run.outputs.physics.get_dict())
    physics['checks']['equation_of_state']['rows'][0]['value'] = 99.0
    physics.store().base.links.add_incoming(run, link_type=LinkType.RETURN, link_label='physics')
    return run


def test_a_run_does_not_differ_from_itself(finished_run):
    """No input differs, all errors were found on the same frames, and all labels are shared."""
    found = compare(finished_run, finished_run)
    assert found.inputs == found.configuration == found.physics == []
    assert found.same_test_set and all(row.comparable and row.first == row.second for row in found.errors)
    assert {row.stage for row in found.errors} >= {'evaluate_surrogate', 'evaluate_labels_r1', 'evaluate_r1'}
    summary = finished_run.outputs.summary
    errors = {(row.stage, row.frames): row.first['force_rmse_meV_A'] for row in found.errors}
    assert errors['evaluate_surrogate', 'test'] == summary['surrogate']['test']['force_rmse_meV_A']
    assert errors['evaluate_labels_r1', 'new labels'] == summary['rounds'][0]['labels']['force_rmse_meV_A']
    assert all(row.first == row.second == row.n_shared for row in found.labels)
    assert (
        found.label_fingerprints[0] == found.label_fingerprints[1] == [finished_run.outputs.dataset.label_fingerprint]
    )
    assert found.cost[0] == found.cost[1]


def test_what_differs_is_told(finished_run, other_run):
    """The two changed keys and no other; errors on another test set are not comparable; shared labels are counted."""
    found = compare(finished_run, other_run)
    assert found.inputs == []
    assert [one.name for one in found.configuration] == ['exploration.temperatures_K', 'training.random_seed']
    assert found.configuration[0].second == [123.0]
    assert found.same_test_set is False and not any(row.comparable for row in found.errors)
    row = next(row for row in found.errors if (row.stage, row.frames) == ('evaluate_surrogate', 'test'))
    assert row.second['force_rmse_meV_A'] == 2.0
    (figure,) = found.physics
    assert figure.name.startswith('equation_of_state: ') and figure.first['value'] != figure.second['value'] == 99.0
    initial, *others = found.labels
    assert initial.first == initial.second == initial.n_shared > 0
    assert all(row.second is None and row.n_shared == 0 for row in others)


def test_on_the_terminal(finished_run, other_run):
    """The reader is told in plain words which errors are not to be compared."""
    pks = [str(finished_run.pk), str(other_run.pk)]
    shown = CliRunner().invoke(command, pks, obj=None)
    assert shown.exit_code == 0, shown.output
    for words in ('The test sets differ', 'exploration.temperatures_K', 'Physics: potential / DFT', '99'):
        assert words in shown.output
    as_json = json.loads(CliRunner().invoke(command, [*pks, '--json'], obj=None).output)
    assert (as_json['first'], as_json['second']) == (finished_run.pk, other_run.pk)
    same = CliRunner().invoke(command, [pks[0], pks[0]], obj=None)
    assert 'the inputs are identical' in same.output and 'can be compared' in same.output


def test_only_runs_are_compared(finished_run):
    """A stage has no configuration."""
    stage = next(node for node in finished_run.called if node.process_type == f'{WORKFLOW}label')
    refused = CliRunner().invoke(command, [str(finished_run.pk), str(stage.pk)], obj=None)
    assert refused.exit_code == 2 and 'not a run of the pipeline' in refused.output
