"""What a run has cost, and what failed in it: told of a recorded run, and of nodes built for what that lacks."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from aiida import orm
from aiida.common.links import LinkType
from ase.build import bulk
from click.testing import CliRunner
from plumpy import ProcessState

from aiida_mlip_autopipe.cli.commands.cost import command as cost_command
from aiida_mlip_autopipe.cli.commands.failures import command as failures_command
from aiida_mlip_autopipe.data import FramesData
from aiida_mlip_autopipe.provenance.calls import call_tree
from aiida_mlip_autopipe.provenance.cost import RUN_ITSELF, core_hours, gpus_asked_for, run_cost
from aiida_mlip_autopipe.provenance.failures import Ending, all_failures, failures

CALCULATION, WORKFLOW = 'aiida.calculations:mlip_autopipe.', 'aiida.workflows:mlip_autopipe.'
PW, PW_BASE = 'aiida.calculations:quantumespresso.pw', 'aiida.workflows:quantumespresso.pw.base'
ONE_PROCESS = {'num_machines': 1, 'num_mpiprocs_per_machine': 1}


def call(parent: orm.WorkChainNode | None, link: str, kind: str, status: int | None = 0, **options: Any) -> Any:
    """Return a stored process that a parent called, finished with an exit status, or at work if that is None."""
    is_job = kind.startswith('aiida.calculations')
    data = options.pop('inputs', {})
    node = orm.CalcJobNode(process_type=kind, **options) if is_job else orm.WorkChainNode(process_type=kind)
    if is_job:
        node.base.attributes.set('resources', ONE_PROCESS)
    for name, value in data.items():
        input_link = LinkType.INPUT_CALC if is_job else LinkType.INPUT_WORK
        node.base.links.add_incoming(value, link_type=input_link, link_label=name)
    if parent is not None:
        call_link = LinkType.CALL_CALC if is_job else LinkType.CALL_WORK
        node.base.links.add_incoming(parent, link_type=call_link, link_label=link)
    node.set_process_label(kind.split('.')[-1])
    if status is None:
        node.set_process_state(ProcessState.WAITING)
    else:
        node.set_process_state(ProcessState.FINISHED)
        node.set_exit_status(status)
        node.set_exit_message(f'it ended with {status}' if status else '')
    return node.store()


def give(node: Any, name: str, data: orm.Data) -> orm.Data:
    """Store data as the output of a process."""
    link = LinkType.CREATE if isinstance(node, orm.CalcJobNode) else LinkType.RETURN
    if link is LinkType.RETURN:
        data.store()
    data.base.links.add_incoming(node, link_type=link, link_label=name)
    return data.store()


def manifest(guard: dict[str, Any] | None, n_bytes: int = 1000) -> orm.Dict:
    """Return the manifest of an MD job of one replica."""
    replica = {'replica': 3, 'origin': 'seed-1', 'temperature_K': 900.0, 'pressure_GPa': None, 'n_frames': 7}
    return orm.Dict({'n_frames': 7, 'shards': [{'bytes': n_bytes}], 'replicas': [{**replica, 'guard': guard}]})


def test_stages_add_up_to_the_run(finished_run):
    """Each job, node and core hour of a recorded run belongs to one stage, and the bytes are those of its files."""
    cost = run_cost(finished_run.pk)
    jobs = [node for node in finished_run.called_descendants if isinstance(node, orm.CalcJobNode)]
    assert cost.total.n_jobs == len(jobs)
    assert cost.total.core_hours == pytest.approx(sum(core_hours(finished_run.pk).values()))
    assert cost.total.core_hours > 0 and cost.total.gpu_hours == 0
    names = [stage.name for stage in cost.stages]
    assert names[0] == 'generate_seeds' and names[-1] == RUN_ITSELF
    assert names.index('explore_r1') < names.index('label_r1') < names.index('train_r1')

    (stage,) = [one for one in cost.stages if one.name == 'explore_r1']
    (explorer,) = [
        node for node in finished_run.called if node.base.links.get_incoming().all() and _link(node) == stage.name
    ]
    made = {node.uuid: node for job in explorer.called_descendants for node in _made_by(job)}
    manifests = [node for node in made.values() if isinstance(node, orm.Dict) and 'shards' in node.base.attributes.all]
    assert stage.frames_bytes == sum(one['bytes'] for node in manifests for one in node['shards']) > 0
    content = {key: size for node in made.values() for key, size in _objects(node)}
    assert sum(content.values()) == pytest.approx(stage.repository_bytes, rel=0.05)
    assert stage.n_nodes >= 1 + len(explorer.called_descendants) + len(made)


def _link(node: Any) -> str:
    return next(one.link_label for one in node.base.links.get_incoming().all() if 'CALL' in one.link_type.name)


def _made_by(process: Any) -> list[Any]:
    return process.base.links.get_outgoing(link_type=LinkType.CREATE).all_nodes()


def _objects(node: Any) -> list[tuple[str, int]]:
    repository = node.base.repository
    paths = [str(folder / name) for folder, _, names in repository.walk() for name in names]
    contents = [repository.get_object_content(path, 'rb') for path in paths]
    return [(repr(hash(content)), len(content)) for content in contents]


@pytest.mark.parametrize(
    ('header', 'resources', 'expected'),
    [
        ('', ONE_PROCESS, 0),
        ('#SBATCH --mem=4G --constraint=gpu', ONE_PROCESS, 0),
        ('#SBATCH --gres=gpu', ONE_PROCESS, 1),
        ('#SBATCH --gres=gpu:2', {'num_machines': 3}, 6),
        ('#SBATCH --gres=gpu:a100:4', ONE_PROCESS, 4),
        ('#SBATCH --gres=scratch:10,gpu:2', ONE_PROCESS, 2),
        ('#SBATCH --gpus=h100:2', {'num_machines': 2}, 2),
        ('#SBATCH -G 3', ONE_PROCESS, 3),
        ('#SBATCH --gpus-per-node=4', {'num_machines': 2}, 8),
        ('#SBATCH --gpus-per-task=1', {'num_machines': 2, 'num_mpiprocs_per_machine': 4}, 8),
        ('#PBS -l select=1:ncpus=8:ngpus=2', ONE_PROCESS, 2),
        ('#$ -l gpu=1', ONE_PROCESS, 1),
        ('#BSUB -gpu "num=2:mode=exclusive_process"', ONE_PROCESS, 2),
    ],
)
def test_gpus_asked_for(header, resources, expected):
    """The lines for Slurm, PBS, SGE and LSF, by machine, by process or for the whole job."""
    assert gpus_asked_for(header, resources) == expected


def test_gpu_hours_and_cleaned_frames(localhost):
    """GPUs are those asked for, or the one that the worker names; frames that were cleaned no longer cost anything."""
    run = call(None, '', f'{WORKFLOW}autopipe')
    stage = call(run, 'explore_r1', f'{WORKFLOW}explore')
    base = call(stage, 'md_0', f'{WORKFLOW}mace_md.base')
    job = call(base, 'iteration_01', f'{CALCULATION}mace_md', computer=localhost)
    _told(job, device='cuda')
    give(job, 'manifest', manifest(None))
    folder = give(job, 'remote_folder', orm.RemoteData(remote_path='/scratch/job', computer=localhost))
    insisted = orm.Dict({'device': 'cuda'}).store()
    training = call(run, 'train_r1', f'{WORKFLOW}train')
    trained = call(
        training, 'iteration_01', f'{CALCULATION}mace_train', computer=localhost, inputs={'parameters': insisted}
    )
    _told(trained, device=None)

    cost = run_cost(run.pk)
    assert cost.total.gpu_hours == pytest.approx(2.0) and cost.total.core_hours == pytest.approx(2.0)
    assert cost.gpu_jobs == {'device': 2}
    default = {'parameters': orm.Dict({'device': 'auto'}).store()}
    by_default = call(training, 'iteration_02', f'{CALCULATION}mace_train', computer=localhost, inputs=default)
    _told(by_default, device=None)
    assert run_cost(run.pk).gpu_jobs == {'device': 2, 'computer': 1}
    assert cost.total.frames_bytes == 1000
    folder.base.extras.set(orm.RemoteData.KEY_EXTRA_CLEANED, True)
    assert run_cost(run.pk).total.frames_bytes == 0
    trained.base.extras.set('_aiida_cached_from', job.uuid)
    cost = run_cost(run.pk)
    assert (cost.total.n_jobs, cost.total.n_cached, cost.total.gpu_hours) == (3, 1, pytest.approx(2.0))


def _told(job: orm.CalcJobNode, device: str | None) -> None:
    """Let a worker's job say that it took an hour, and where."""
    retrieved = orm.FolderData()
    result = {'wall_s': 3600.0, 'outputs': {} if device is None else {'device': device}}
    retrieved.base.repository.put_object_from_filelike(io.BytesIO(json.dumps(result).encode()), 'result.json')
    give(job, 'retrieved', retrieved)


def test_a_run_that_lost_little_tells_all_of_it(localhost):
    """Mended by a restart, set aside, ended by a guard: each with what was done and the way out; only one stands."""
    frames = []
    for number in range(3):
        atoms = bulk('Si', 'diamond', a=5.43)
        atoms.info.update(frame_id=f'seed-0000000{number}', origin='seed-00000000', config_type='seed')
        frames.append(atoms)
    candidates = FramesData.from_atoms(frames).store()
    run = call(None, '', f'{WORKFLOW}autopipe', status=350)

    stage = call(run, 'label_r1', f'{WORKFLOW}label', inputs={'candidates': candidates})
    sequence = call(stage, 'sequence_0', f'{WORKFLOW}label.sequence')
    mended = call(sequence, 'label_0', PW_BASE)
    first = call(mended, 'iteration_01', PW, 410, computer=localhost)
    second = call(mended, 'iteration_02', PW, computer=localhost)
    lost = call(sequence, 'label_1', PW_BASE, 300)
    pw = call(lost, 'iteration_01', PW, 400, computer=localhost)
    ledger = {
        'seed-00000001': f'PwCalculation<{pw.pk}> [400]: out of time',
        'seed-00000002': 'a force of 99.0 eV/Å is above max_force_eV_A (50.0)',
    }
    give(stage, 'rejected', orm.Dict(ledger))

    explore = call(run, 'explore_r1', f'{WORKFLOW}explore')
    md_sequence = call(explore, 'sequence_0', f'{WORKFLOW}mace_md.sequence')
    base = call(md_sequence, 'md_0', f'{WORKFLOW}mace_md.base')
    md = call(base, 'iteration_01', f'{CALCULATION}mace_md', computer=localhost)
    give(md, 'manifest', manifest({'name': 'max_temperature_K', 'step': 40, 'value': 3000.0, 'bound': 2700.0}))

    train = call(run, 'train_r1', f'{WORKFLOW}train')
    member = call(train, 'member_1', f'{WORKFLOW}mace_train.base', 313)
    training = call(member, 'iteration_01', f'{CALCULATION}mace_train', 313, computer=localhost)
    again = call(run, 'evaluate_r1', f'{WORKFLOW}evaluate', None)
    cut = call(again, 'iteration_01', f'{CALCULATION}evaluate', 400, computer=localhost)
    last = call(run, 'train_r2', f'{WORKFLOW}train', 341)

    found = {one.pk: one for one in all_failures(run.pk)}
    assert found[first.pk].ending is Ending.RECOVERED and f'<{second.pk}>' in found[first.pk].action
    assert found[first.pk].way_out == ''
    assert found[pw.pk].ending is Ending.TOLERATED and found[pw.pk].subject == 'frame seed-00000001'
    assert found[pw.pk].way_out == f'mlip-autopipe resubmit {run.pk} --wallclock SECONDS'
    refused = found[stage.pk]
    assert 'max_force_eV_A' in refused.message and refused.way_out.split(',')[0] == 'labelling.max_force_eV_A'
    guard = found[md.pk]
    assert (
        guard.message == 'guard max_temperature_K at step 40: 3000 (bound 2700)' and '7 earlier frames' in guard.action
    )
    assert found[training.pk].ending is Ending.TOLERATED and 'committee' in found[training.pk].action
    assert found[cut.pk].ending is Ending.IN_PROGRESS
    assert found[last.pk].ending is Ending.UNRESOLVED and not found[last.pk].handled
    assert [one.pk for one in failures(run.pk) if not one.handled] == [last.pk]
    assert len(found) == 7

    shown = CliRunner().invoke(failures_command, [str(run.pk)], obj=None)
    assert shown.exit_code == 0, shown.output
    assert '1 unresolved' in shown.output and 'seed-00000002' in shown.output
    as_json = json.loads(CliRunner().invoke(failures_command, [str(run.pk), '--json'], obj=None).output)
    assert {one['pk'] for one in as_json} == set(found)


def test_a_candidate_that_was_labelled_since_is_mended(localhost):
    """A later labelling stage of the same set makes up for the ledger of the first."""
    atoms = bulk('Si', 'diamond', a=5.43)
    atoms.info.update(frame_id='seed-00000007', origin='seed-00000007', config_type='seed')
    candidates = FramesData.from_atoms([atoms]).store()
    run = call(None, '', f'{WORKFLOW}autopipe')
    stage = call(run, 'label_r1', f'{WORKFLOW}label', inputs={'candidates': candidates})
    give(stage, 'rejected', orm.Dict({'seed-00000007': 'the SCF cycle did not converge'}))
    assert [one.ending for one in all_failures(run.pk)] == [Ending.TOLERATED]
    give(call(None, '', f'{WORKFLOW}label', inputs={'candidates': candidates}), 'rejected', orm.Dict({}))
    assert [one.ending for one in all_failures(run.pk)] == [Ending.RECOVERED]


def test_the_ledgers_of_a_recorded_run(finished_run):
    """Every candidate in a ledger and every replica that a guard ended is told, and nothing else."""
    told = [one for one in all_failures(finished_run.pk) if one.subject]
    stages = [node for node in finished_run.called if node.process_type == f'{WORKFLOW}label']
    rejected = {f'frame {name}' for stage in stages for name in stage.outputs.rejected.get_dict()}
    assert {one.subject for one in told if one.subject.startswith('frame')} == rejected
    jobs = [call.pk for call in call_tree(finished_run.pk) if call.process_type == f'{CALCULATION}mace_md']
    replicas = [one for pk in jobs for one in orm.load_node(pk).outputs.manifest['replicas']]
    assert len(told) - len(rejected) == sum(one['guard'] is not None for one in replicas)


def test_cost_on_the_terminal(finished_run):
    """A row for each stage and the sum; the same numbers as JSON."""
    shown = CliRunner().invoke(cost_command, [str(finished_run.pk)], obj=None)
    assert shown.exit_code == 0, shown.output
    lines = {line.split()[0]: line for line in shown.output.splitlines() if line.strip()}
    assert {'explore_r1', 'label_r1', 'total'} <= set(lines)
    as_json = json.loads(CliRunner().invoke(cost_command, [str(finished_run.pk), '--json'], obj=None).output)
    assert np.isclose(as_json['total']['core_hours'], sum(one['core_hours'] for one in as_json['stages']))
    assert str(as_json['total']['n_nodes']) in lines['total'].split()


def test_what_is_no_run_is_refused(finished_run):
    """A node that is no WorkChain has no cost and no failures."""
    for command in (cost_command, failures_command):
        refused = CliRunner().invoke(command, [str(finished_run.inputs.configuration.pk)], obj=None)
        assert refused.exit_code == 2
