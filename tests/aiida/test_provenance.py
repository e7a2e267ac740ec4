"""What the graph tells of seeds and candidates after a real exploration and real labels."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from aiida import engine, orm
from aiida.common.links import LinkType
from ase.build import bulk
from plumpy import ProcessState

from aiida_mlip_autopipe.cli.display import progress_table
from aiida_mlip_autopipe.data import FramesData, PotentialData
from aiida_mlip_autopipe.labelling.espresso.parameters import EspressoParameters
from aiida_mlip_autopipe.labelling.labels import batch_array
from aiida_mlip_autopipe.provenance.calls import call_tree
from aiida_mlip_autopipe.provenance.cost import core_hours, profile_cost
from aiida_mlip_autopipe.provenance.failures import failures
from aiida_mlip_autopipe.provenance.lineage import frame_lineage, potential_lineage
from aiida_mlip_autopipe.provenance.progress import ProgressReader
from aiida_mlip_autopipe.provenance.states import (
    CandidateState,
    candidate_states,
    count_states,
    explored_seeds,
    states_in_stage,
)
from aiida_mlip_autopipe.science.label import Label
from aiida_mlip_autopipe.science.parameters import (
    DynamicsParameters,
    SamplingParameters,
    SoapParameters,
)
from aiida_mlip_autopipe.workflows.exploration.explorer import ExplorerWorkChain
from aiida_mlip_autopipe.workflows.labelling.engine import LabellingEngineWorkChain

DYNAMICS = DynamicsParameters(temperatures_K=[300.0], n_steps=5, sample_interval=1, random_seed=11)
SAMPLING = SamplingParameters(n_to_select=2, descriptor=SoapParameters(n_max=2, l_max=1, r_cut=4.0))
LABELLING = EspressoParameters(
    ecutwfc_Ry=12, ecutrho_Ry=48, kpoints_distance=1.5, conv_thr_per_atom_Ry=1e-6, min_success_fraction=0.5
)


def as_dict(parameters: Any) -> orm.Dict:
    """Return parameters as a node."""
    return orm.Dict(parameters.model_dump(mode='json'))


@pytest.fixture(scope='module')
def potential(aiida_profile, tiny_potential) -> PotentialData:
    """Return the tiny potential as a node."""
    from aiida_mlip_autopipe.science.potential import inspect_potential

    return PotentialData.from_file(tiny_potential, inspect_potential(tiny_potential), origin='file').store()


def two_seeds() -> FramesData:
    """Return two seeds, stored."""
    frames = []
    for number in range(2):
        atoms = bulk('Si', 'diamond', a=5.43)
        atoms.rattle(0.02, seed=number)
        atoms.info.update(frame_id=f'seed-{number}', origin=f'seed-{number}', config_type='seed')
        frames.append(atoms)
    return FramesData.from_atoms(frames).store()


@pytest.fixture(scope='module')
def once() -> dict[str, orm.WorkChainNode]:
    """Return what the tests of this module share: codes are made for each test, the exploration for all of them."""
    return {}


@pytest.fixture
def exploration(worker_code, potential, once) -> orm.WorkChainNode:
    """Return a finished exploration of two seeds."""
    if 'exploration' not in once:
        _, once['exploration'] = engine.run_get_node(
            ExplorerWorkChain,
            worker_code=worker_code,
            potential=potential,
            seeds=two_seeds(),
            dynamics=as_dict(DYNAMICS),
            sampling=as_dict(SAMPLING),
        )
        assert once['exploration'].is_finished_ok, once['exploration'].exit_message
    return once['exploration']


def label(candidates, pw_code, pseudo_family, **changes) -> orm.WorkChainNode:
    """Label candidates with pw.x."""
    _, node = engine.run_get_node(
        LabellingEngineWorkChain,
        candidates=candidates,
        parameters=as_dict(LABELLING.model_copy(update=changes)),
        labelling={
            'code': pw_code,
            **{f'pseudo_{name}': pseudo_family.get_pseudo(name) for name in candidates.elements},
        },
        options={'resources': {'num_machines': 1, 'num_mpiprocs_per_machine': 1}, 'withmpi': False},
    )
    return node


def test_a_seed_without_a_job_is_not_explored():
    """Nothing happened, so nothing is explored."""
    assert explored_seeds(two_seeds()) == {'seed-0': [], 'seed-1': []}


def test_from_seeds_to_labels(exploration, potential, pw_code, pseudo_family):
    """Explored seeds, unlabelled candidates, labels; each leads to its pw.x calculation, MD job, replica and step."""
    (md_job,) = [one for one in exploration.called_descendants if one.process_label == 'MaceMdCalculation']
    assert explored_seeds(exploration.inputs.seeds) == {'seed-0': [md_job.pk], 'seed-1': [md_job.pk]}
    candidates = exploration.outputs.candidates
    assert [one.state for one in candidate_states(candidates)] == [CandidateState.UNLABELLED] * 2

    stage = label(candidates, pw_code, pseudo_family)
    assert stage.is_finished_ok, stage.exit_message
    assert [one.state for one in candidate_states(candidates)] == [CandidateState.LABELLED] * 2

    atoms = candidates.get_atoms()[1]
    lineage = frame_lineage(atoms.info['frame_id'])
    assert lineage.index == 1
    assert lineage.candidates_pk == candidates.pk
    assert lineage.origin in ('seed-0', 'seed-1')
    assert orm.load_node(lineage.md_job_pk).uuid == md_job.uuid
    assert lineage.potential_pk == potential.pk
    assert lineage.info['temperature_K'] == 300.0
    assert {'replica', 'step', 'cluster', 'rank', 'reason', 'distance'} <= set(lineage.info)
    pw = orm.load_node(lineage.label_job_pk)
    assert pw.inputs.structure.label == atoms.info['frame_id']
    labelled = stage.outputs.labelled.get_atoms()[1]
    assert lineage.energy_eV == pytest.approx(labelled.info['REF_energy'])
    assert lineage.potentials == {}


def test_a_label_of_a_batch_leads_to_its_job(exploration, pw_code, pseudo_family):
    """The newest label of each frame is that of the batch, which is one of the jobs behind the labelled set."""
    candidates = exploration.outputs.candidates
    stage = label(candidates, pw_code, pseudo_family, batch_size=2, max_concurrent=1)
    (batch,) = [node for node in stage.called_descendants if isinstance(node, orm.CalcJobNode)]
    for atoms in stage.outputs.labelled.get_atoms():
        lineage = frame_lineage(atoms.info['frame_id'])
        assert (lineage.state, lineage.label_job_pk) == (CandidateState.LABELLED, batch.pk)
        assert lineage.energy_eV == atoms.info['REF_energy']


def test_failed_labels_keep_their_reasons(exploration, pw_code, pseudo_family):
    """A label that is refused, and one whose pw.x failed, are failed candidates with a reason."""
    frames = exploration.outputs.candidates.get_atoms()
    sound = FramesData.from_atoms(frames).store()
    refused = label(sound, pw_code, pseudo_family, max_force_eV_A=1e-9)
    assert not refused.is_finished_ok
    states = candidate_states(sound)
    assert [one.state for one in states] == [CandidateState.FAILED] * 2
    assert all('max_force_eV_A' in one.reason for one in states)

    frames[0].positions[1] = frames[0].positions[0]
    broken = FramesData.from_atoms(frames).store()
    stage = label(broken, pw_code, pseudo_family)
    first, second = candidate_states(broken)
    assert first.state is CandidateState.FAILED and first.reason
    assert second.state is CandidateState.LABELLED
    found = failures(stage.pk)
    assert found and all(one.message for one in found)


def test_the_call_tree_has_every_process(exploration):
    """Level by level, nothing is lost and parents come first."""
    tree = call_tree(exploration.pk)
    assert {call.pk for call in tree[1:]} == {node.pk for node in exploration.called_descendants}
    seen = {0}
    for call in tree:
        assert call.parent in seen
        seen.add(call.pk)


def test_the_cost_counts_all(exploration):
    """Nodes and processes are counted, and both stores have a size, whatever the database."""
    cost = profile_cost()
    assert cost.n_nodes == orm.QueryBuilder().append(orm.Node).count()
    assert sum(cost.processes.values()) == orm.QueryBuilder().append(orm.ProcessNode).count()
    assert cost.processes['ok'] >= 1 + len(exploration.called_descendants)
    assert cost.database_bytes > 10_000 and cost.repository_bytes > 1_000


def test_computing_time_is_that_of_the_jobs_that_ran(exploration, potential):
    """A worker says how long it took; a run whose jobs all came from the cache has cost nothing."""
    jobs = [node for node in exploration.called_descendants if isinstance(node, orm.CalcJobNode)]
    told = [
        json.loads(job.outputs.retrieved.base.repository.get_object_content('result.json'))['wall_s'] for job in jobs
    ]
    assert sum(core_hours(exploration.pk).values()) == pytest.approx(sum(told) / 3600)
    for job in jobs:
        job.base.extras.set('_aiida_cached_from', job.uuid)
    try:
        assert core_hours(exploration.pk) == {}
    finally:
        for job in jobs:
            job.base.extras.delete('_aiida_cached_from')


def test_a_potential_from_a_file_has_no_past(potential):
    """A given potential is where the lineage ends."""
    lineage = potential_lineage(potential)
    assert lineage.training_pk is None
    assert lineage.sets == [] and lineage.parents == []


def test_unknown_frames_and_processes_are_named():
    """What does not exist is an error that names it."""
    with pytest.raises(ValueError, match='no-such-frame'):
        frame_lineage('no-such-frame')
    with pytest.raises(ValueError, match='987654'):
        call_tree(987654)


def job_in_a_stage(localhost, name: str, link: str) -> tuple[orm.WorkChainNode, orm.CalcJobNode]:
    """Return a run and the job that its exploration calls under a name; the job is not stored yet."""
    run, stage, base = (orm.WorkChainNode() for _ in range(3))
    job = orm.CalcJobNode(computer=localhost, process_type=f'aiida.calculations:mlip_autopipe.{name}')
    for caller, called, label in ((run, stage, 'explore_r1'), (stage, base, link), (base, job, 'iteration_01')):
        caller.store()
        link_type = LinkType.CALL_CALC if called is job else LinkType.CALL_WORK
        called.base.links.add_incoming(caller, link_type=link_type, link_label=label)
    return run, job


def test_the_candidates_of_a_batch_at_work_are_being_labelled(localhost):
    """Those of the batch are, those that wait for the next one are not; what it leaves goes on with its sequence."""
    stage, sequence = (orm.WorkChainNode() for _ in range(2))
    batch = orm.CalcJobNode(computer=localhost, process_type='aiida.calculations:mlip_autopipe.pw_batch')
    batch.base.links.add_incoming(orm.List([0, 2]).store(), link_type=LinkType.INPUT_CALC, link_label='indices')
    stage.store()
    sequence.base.links.add_incoming(stage, link_type=LinkType.CALL_WORK, link_label='sequence_0')
    sequence.store()
    batch.base.links.add_incoming(sequence, link_type=LinkType.CALL_CALC, link_label='batch_0')
    batch.set_process_state(ProcessState.WAITING)
    batch.store()
    labelling, unlabelled = CandidateState.LABELLING, CandidateState.UNLABELLED
    names = ['a', 'b', 'c']
    assert [one.state for one in states_in_stage(stage.pk, names)] == [labelling, unlabelled, labelling]
    assert count_states(stage.pk, 3) == {labelling: 2, unlabelled: 1}

    labels = batch_array({0: Label(-1.0, np.zeros((1, 3)), np.zeros(6))}, {0: 'k0', 2: 'k2'}, {2: 'it did not'})
    labels.base.links.add_incoming(batch, link_type=LinkType.CREATE, link_label='labels')
    labels.store()
    batch.set_process_state(ProcessState.FINISHED)
    batch.set_exit_status(730)
    assert [one.state for one in states_in_stage(stage.pk, names)] == [CandidateState.LABELLED, unlabelled, labelling]
    sequence.set_process_state(ProcessState.KILLED)
    assert states_in_stage(stage.pk, names)[2].state is CandidateState.FAILED


def test_a_sampling_job_at_work_tells_how_far_it_is(localhost, tmp_path):
    """The frames described so far, and those left out, as the worker's progress file says."""
    said = {'frames_described': 120, 'frames_total': 600, 'frames_masked': {'not finite': 2, 'collapsed': 1}}
    (tmp_path / 'progress.json').write_text(json.dumps(said))
    run, job = job_in_a_stage(localhost, 'direct_sampling', 'sampling')
    job.set_process_state(ProcessState.WAITING)
    job.set_remote_workdir(str(tmp_path))
    job.store()
    (progress,) = ProgressReader(run.pk).read().stages
    assert progress.detail == 'selecting candidates (120 of 600 frames described), 3 broken frames left out'


def test_a_job_that_is_finished_before_it_has_its_outputs(localhost):
    """A job from the cache is, for a moment, finished and without outputs: its stage is still running then."""
    run, job = job_in_a_stage(localhost, 'mace_md', 'md_0')
    job.set_process_state(ProcessState.FINISHED)
    job.set_exit_status(0)
    job.store()
    (progress,) = ProgressReader(run.pk).read().stages
    assert (progress.name, progress.state) == ('explore_r1', 'running')


def test_a_paused_job_is_told_with_the_way_out(localhost):
    """AiiDA pauses a job whose computer it cannot reach: until someone plays it again the run stands still."""
    run, job = job_in_a_stage(localhost, 'mace_md', 'md_0')
    job.set_process_state(ProcessState.WAITING)
    job.store()
    job.pause()
    job.set_process_status('Pausing after failed transport task: upload failed 5 times')
    progress = ProgressReader(run.pk).read()
    assert [call.pk for call in progress.paused] == [job.pk]
    caption = str(progress_table(progress).caption)
    assert 'upload failed 5 times' in caption and f'verdi process play {job.pk}' in caption
    job.unpause()
    assert ProgressReader(run.pk).read().paused == []
