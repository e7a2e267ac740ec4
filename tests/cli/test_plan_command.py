"""``mlip-autopipe plan``: what it foretold is what a recorded run did; all that is wrong is told at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiida import orm
from ase import Atoms
from ase.build import bulk, make_supercell
from click.testing import CliRunner, Result

from aiida_mlip_autopipe.cli import main
from aiida_mlip_autopipe.cli.plan_table import tell_hours
from aiida_mlip_autopipe.config import Configuration
from aiida_mlip_autopipe.config.plan import Hours, Plan, PlannedStage, make_plan
from aiida_mlip_autopipe.data import FramesData
from aiida_mlip_autopipe.data.source import source_atoms
from aiida_mlip_autopipe.labelling import PastLabel
from aiida_mlip_autopipe.labelling.espresso.labeller import EspressoLabeller
from aiida_mlip_autopipe.labelling.espresso.parameters import EspressoParameters
from aiida_mlip_autopipe.pipeline.outline import stages_that_run
from aiida_mlip_autopipe.pipeline.stages import EXPLORE, Kind, Stage
from aiida_mlip_autopipe.provenance.calls import call_tree, in_time, stage_of
from aiida_mlip_autopipe.provenance.speed import label_rate, measured_speeds

SILICON = 'system: {prototype: diamond, composition: Si}\n'
WRONG = (
    SILICON
    + """
exploration: {temprature_K: [3], n_to_select: 0}
labelling: {pseudo_family: none/such}
surrogate: ./no.model
codes: {labelling: qe@nowhere}
"""
)


@pytest.fixture
def plan(tmp_path: Path) -> Callable[..., Result]:
    """Return a function that plans the text of an input."""

    def factory(text: str, *options: str) -> Result:
        path = tmp_path / 'input.yaml'
        path.write_text(text)
        return CliRunner().invoke(main, ['plan', str(path), *options])

    return factory


def test_labels_of_other_sizes_are_scaled():
    """From 8 to 16 atoms between twice and eight times; the points of the mesh in proportion; others are not taken."""
    crystal = bulk('Si', cubic=True)
    labeller = EspressoLabeller(EspressoParameters(kpoints_distance=0.6))
    one_core: dict[str, int] = {'num_machines': 1}
    silicon, carbon = frozenset({'Si'}), frozenset({'C'})
    rate = label_rate([PastLabel(silicon, 8, 8, 40.0, one_core), PastLabel(silicon, 8, 8, 60.0, one_core)], labeller)
    same = rate(crystal)  # 2 pi / 5.43 Å over 0.6/Å: two points along each axis
    assert (same.least_s, same.most_s) == (40.0, 60.0)
    larger = rate(make_supercell(crystal, [[2, 0, 0], [0, 1, 0], [0, 0, 1]]))
    assert (larger.least_s, larger.most_s) == (pytest.approx(2 * 40 * 4 / 8), pytest.approx(8 * 60 * 4 / 8))
    assert 'scaled to 16' in larger.basis
    assert label_rate([PastLabel(carbon, 8, 8, 40.0, one_core)], labeller)(crystal) is None
    isolated = bulk('Si')[:1]
    isolated.info['config_type'] = 'IsolatedAtom'
    assert rate(isolated) is None


@pytest.mark.usefixtures('worker_code', 'pw_code', 'pseudo_family')
def test_all_that_is_wrong_is_told_at_once(plan):
    """Keys, values, family, surrogate, code and daemon: exit code 2, a way out each, nothing stored, no traceback."""
    before = orm.QueryBuilder().append(orm.Node).count()
    done = plan(WRONG)
    assert done.exit_code == 2 and isinstance(done.exception, SystemExit)
    told = ' '.join(done.output.split())
    for words in (
        'did you mean exploration.temperatures_K',
        'exploration.n_to_select: 0 is not >= 1; give a value',
        "'none/such' is not installed",
        'there is no file',
        "codes.labelling: 'qe@nowhere' is not the label of one code",
        '`mlip-autopipe init` sets up codes',
        'has no broker',
        '6 problems to solve; nothing was submitted',
    ):
        assert words in told, told
    assert orm.QueryBuilder().append(orm.Node).count() == before


@pytest.mark.usefixtures('worker_code', 'pw_code', 'pseudo_family')
def test_a_plan_as_json(plan):
    """Stable keys with units; what is not measured is null; the profile of these tests has no broker."""
    done = plan(SILICON + 'loop: {max_rounds: 4, max_labels: 45}\n', '--json')
    assert done.exit_code == 2
    data = json.loads(done.output)
    assert [problem for problem in data['problems'] if 'has no broker' not in problem] == []
    assert ['loop.max_labels' in warning for warning in data['warnings']] == [True]
    assert data['slots'] == {'needed': 8, 'workers': None, 'per_worker': None}
    totals = data['plan']['totals']
    assert (data['plan']['n_rounds'], totals['seeds'], totals['labels']) == (2, 10, 9 + 12 + 2 * 10)
    assert {'md_steps', 'frames', 'bytes', 'trainings', 'training_steps', 'core_hours', 'gpu_hours'} <= set(totals)
    assert set(data['plan']['stages'][0]) == {'name', 'kind', 'basis'} | set(totals)


@pytest.mark.usefixtures('pseudo_family', 'worker_code')
def test_what_cannot_be_run_is_told(plan, localhost, pw_code):
    """A computer that is switched off, and an executable that is not there."""
    user = orm.User.collection.get_default()
    orm.InstalledCode(
        label='gone',
        computer=localhost,
        filepath_executable='/nowhere/pw.x',
        default_calc_job_plugin='core.arithmetic.add',
    ).store()
    told = ' '.join(plan(f'{SILICON}codes: {{labelling: gone@{localhost.label}}}\n').output.split())
    assert '/nowhere/pw.x` does not exist' in told and f'verdi computer test {localhost.label}' in told
    localhost.get_authinfo(user).enabled = False
    try:
        told = ' '.join(plan(SILICON).output.split())
    finally:
        localhost.get_authinfo(user).enabled = True
    assert f"{pw_code.full_label}: computer '{localhost.label}' is disabled" in told
    assert f'`verdi computer enable {localhost.label}`' in told


@pytest.mark.usefixtures('worker_code', 'pw_code', 'pseudo_family')
def test_the_table_tells_rounds_that_are_alike_once(plan):
    """Of many rounds the first and the last are shown."""
    told = plan(SILICON + 'loop: {max_rounds: 9}\nevaluation: {max_force_rmse_meV_A: 50}\n').output
    assert 'explore_r1' in told and 'explore_r9' in told and 'explore_r2' not in told
    assert 'r2 to r8: same' in told and 'all, 9 rounds' in told and 'at least, 2' in told
    assert 'max_force_rmse_meV_A: 50' in told
    assert '\x1b[' not in told


@pytest.mark.usefixtures('worker_code', 'pw_code', 'pseudo_family')
def test_data_of_a_node_is_planned_as_it_is_trained_on(plan):
    """Isolated atoms in it do not count, and need no forces."""
    frames = [bulk('Si', a=5.43 + 0.01 * number) for number in range(5)]
    frames.append(Atoms('Si', cell=[6.0] * 3, pbc=True, info={'config_type': 'IsolatedAtom'}))
    for number, atoms in enumerate(frames):
        atoms.info |= {'frame_id': f'frame-{number}', 'REF_energy': -1.0, 'REF_stress': np.zeros(6)}
    for number, atoms in enumerate(frames[:5]):
        atoms.arrays['REF_forces'] = np.full((len(atoms), 3), 0.1 * number)
    node = FramesData.from_atoms(frames).store()
    done = plan(f'{SILICON}data: node:{node.pk}\n', '--json')
    stages = {stage['name']: stage for stage in json.loads(done.stdout)['plan']['stages']}
    assert stages['label_data']['labels'] == 3


def test_hours_in_words():
    """A range, one figure where both ends are the same to the reader, an upper bound."""
    assert tell_hours(Hours(0.131, 0.35)) == '0.13–0.35 core-h'
    assert tell_hours(Hours(1.23, 1.24)) == '1.2 core-h'
    assert tell_hours(Hours(0.0, 12.4, 'GPU')) == '≤ 12 GPU-h'
    assert Plan((PlannedStage(EXPLORE.in_round(1), basis='ask'),), 1, ()).unmeasured() == {'explore': 'ask'}


@pytest.fixture(scope='module')
def foretold(finished_run: orm.WorkChainNode) -> Plan:
    """Return the plan of the configuration that the recorded run had, with the speeds that it left."""
    configuration = Configuration(**finished_run.inputs.configuration.get_dict())
    speeds = measured_speeds(configuration, finished_run.inputs.worker_code, finished_run.inputs.labelling.code)
    return make_plan(configuration, source_atoms(finished_run.inputs.structure), speeds)


@pytest.fixture(scope='module')
def jobs(finished_run: orm.WorkChainNode) -> dict[str, list[orm.CalcJobNode]]:
    """Return the jobs of each stage of the recorded run."""
    tree = {call.pk: call for call in call_tree(finished_run.pk)}
    found: dict[str, list[orm.CalcJobNode]] = {}
    for call in tree.values():
        node = orm.load_node(call.pk)
        if isinstance(node, orm.CalcJobNode):
            found.setdefault(stage_of(call, tree, finished_run.pk), []).append(node)
    return found


def stages_of(run: orm.WorkChainNode) -> dict[str, orm.ProcessNode]:
    """Return what a run called, by the label of its link."""
    return {link.link_label: link.node for link in run.base.links.get_outgoing().all() if 'CALL' in link.link_type.name}


def manifests_of(stage: str, jobs: dict[str, list[orm.CalcJobNode]]) -> list[dict[str, Any]]:
    """Return the replicas in the manifests of the MD jobs of a stage."""
    outputs = [node.outputs for node in jobs[stage] if node.process_label == 'MaceMdCalculation']
    return [replica for one in outputs for replica in one.manifest['replicas']]


def test_plan_and_run_follow_the_outline(finished_run, foretold):
    """The stages of the plan, those that ran and those of the outline are the same in the same order."""
    calls = in_time(call for call in call_tree(finished_run.pk) if call.parent == finished_run.pk)
    ran = [stage for call in calls if (stage := Stage.parse(call.link)) is not None]
    n_rounds = len(finished_run.outputs.summary['rounds'])
    rounds = iter([True] * n_rounds)
    facts = {'found_something_new': True, 'should_check_physics': True}
    held = stages_that_run(lambda name: next(rounds, False) if name == 'should_continue' else facts.get(name, False))
    assert ran == [stage.stage for stage in foretold.stages] == list(held)
    assert foretold.n_rounds == n_rounds == 2


def test_seeds_and_labels_are_those_that_ran(finished_run, foretold):
    """Seeds as they were generated; labels as they were asked for, stage by stage."""
    ran, planned = stages_of(finished_run), {stage.name: stage for stage in foretold.stages}
    structures = ran['generate_seeds'].outputs
    assert planned['generate_seeds'].seeds == structures.seeds.n_frames + structures.test_seeds.n_frames
    labelled = [name for name in planned if (stage := Stage.parse(name)) and stage.kind is Kind.LABEL]
    assert len(labelled) == 5
    for name in labelled:
        assert planned[name].labels == ran[name].inputs.candidates.n_frames, name
    asked_for = foretold.totals()['labels'] - planned['label_physics'].labels
    assert asked_for == finished_run.outputs.summary['stopped']['n_labels']


def test_dynamics_is_what_ran(foretold, jobs):
    """Replicas and their steps; a replica that no guard stopped has so many frames as were foretold."""
    explored = [stage for stage in foretold.stages if stage.kind == 'explore']
    assert len(explored) == 3
    for stage in explored:
        replicas = manifests_of(stage.name, jobs)
        whole = [replica for replica in replicas if replica['guard'] is None]
        assert len(replicas) == stage.replicas and whole
        assert {replica['n_steps'] for replica in whole} == {stage.md_steps // stage.replicas}
        assert {replica['n_frames'] for replica in whole} == {stage.frames // stage.replicas}
        assert sum(replica['n_frames'] for replica in replicas) <= stage.frames


def test_frames_take_the_room_that_was_foretold(foretold, jobs):
    """Bytes of the shards, within a third."""
    for stage in (one for one in foretold.stages if one.kind == 'explore'):
        nodes = [node for node in jobs[stage.name] if node.process_label == 'MaceMdCalculation']
        there = sum(shard['bytes'] for node in nodes for shard in node.outputs.manifest['shards'])
        n_files = sum(len(node.outputs.manifest['shards']) for node in nodes)
        assert there / n_files == pytest.approx(stage.bytes / stage.replicas, rel=0.35)


def test_trainings_are_those_that_ran(foretold, jobs):
    """Members and steps, which the epochs come to within one."""
    for stage in (one for one in foretold.stages if one.kind == 'train'):
        trained = [node for node in jobs[stage.name] if node.process_label == 'MaceTrainCalculation']
        assert len(trained) == stage.trainings
        runs = [node.outputs.metrics['run'] for node in trained]
        for run in runs:
            assert run['n_steps'] == pytest.approx(
                stage.training_steps / len(runs), abs=run['n_steps'] / run['n_epochs']
            )


def test_speeds_are_those_of_the_run(foretold):
    """The run itself is what its configuration was measured by: all hours are known, and their basis is told."""
    assert foretold.unmeasured() == {}
    hours = foretold.hours()['core']
    assert 0 < hours.least < hours.most
    basis = {stage.kind: stage.basis for stage in foretold.stages}
    assert 'earlier MD jobs' in basis['explore'] and 'earlier trainings' in basis['train']
    assert 'earlier evaluations' in basis['evaluate'] and 'pw.x of 2 Si atoms' in basis['label']
