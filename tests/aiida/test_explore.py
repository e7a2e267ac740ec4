"""The exploration as a whole: jobs in turn, what failed ones leave, what happens to frames, what a second run costs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiida import engine, orm
from aiida.common.links import LinkType
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager
from aiida.manage.caching import enable_caching
from ase import Atoms
from ase.build import bulk
from plumpy import ProcessState

from aiida_mlip_autopipe.calculations.mace_md import MaceMdCalculation
from aiida_mlip_autopipe.calculations.verify import VerifyCalculation
from aiida_mlip_autopipe.data import FramesData, PotentialData
from aiida_mlip_autopipe.provenance.progress import ProgressReader
from aiida_mlip_autopipe.science.frames import read_manifest
from aiida_mlip_autopipe.science.parameters import DynamicsParameters, SamplingParameters, SoapParameters
from aiida_mlip_autopipe.workflows.exploration.explorer import ExplorerWorkChain
from aiida_mlip_autopipe.workflows.exploration.mace_md_base import MaceMdBaseWorkChain
from aiida_mlip_autopipe.workflows.exploration.mace_md_sequence import MaceMdSequenceWorkChain
from aiida_mlip_autopipe.workflows.exploration.stash import StashFramesWorkChain
from tests.support.potentials import tiny_potential as make_potential

DYNAMICS = DynamicsParameters(
    temperatures_K=[300.0], strains=[0.0, 0.01], n_steps=6, sample_interval=1, random_seed=3, n_processes=1
)
SAMPLING = SamplingParameters(n_to_select=2, descriptor=SoapParameters(n_max=2, l_max=1, r_cut=4.0))
PACKAGE = 'aiida.calculations:mlip_autopipe.*'


def silicon(number: int) -> Atoms:
    """Return two displaced atoms of silicon."""
    atoms = bulk('Si', 'diamond', a=5.43)
    atoms.rattle(0.03, seed=number)
    atoms.info.update(frame_id=f'seed-{number}', origin=f'seed-{number}', config_type='seed')
    return atoms


def as_dict(parameters: Any) -> orm.Dict:
    """Return parameters as a node."""
    return orm.Dict(parameters.model_dump(mode='json')).store()


@pytest.fixture(scope='module')
def potentials(aiida_profile, tiny_potential, tmp_path_factory) -> list[PotentialData]:
    """Return two different tiny potentials as nodes."""
    from aiida_mlip_autopipe.science.potential import inspect_potential

    other = make_potential(tmp_path_factory.mktemp('committee'), seed=1)
    return [
        PotentialData.from_file(path, inspect_potential(path), origin='file').store()
        for path in (tiny_potential, other)
    ]


@pytest.fixture
def inputs(worker_code, potentials) -> dict[str, Any]:
    """Return the inputs of a small exploration: two seeds at two strains."""
    return {
        'worker_code': worker_code,
        'potential': potentials[0],
        'seeds': FramesData.from_atoms([silicon(0), silicon(1)]).store(),
        'dynamics': as_dict(DYNAMICS),
        'sampling': as_dict(SAMPLING),
    }


def calculations(node: orm.ProcessNode, process: Any = None) -> list[orm.CalcJobNode]:
    """Return the jobs that a process called, of one kind if it is given."""
    jobs = [one for one in node.called_descendants if isinstance(one, orm.CalcJobNode)]
    return [job for job in jobs if process is None or job.process_class is process]


def assert_every_datum_has_a_creator(run: orm.WorkChainNode) -> None:
    """What has no creator is an input of the exploration, or a literal."""
    declared = {link.node.uuid for link in run.base.links.get_incoming().all()}
    literals = (orm.Int, orm.Bool, orm.Str, orm.Float, orm.AbstractCode)
    for process in run.called_descendants:
        for link in process.base.links.get_incoming().all():
            datum = link.node
            if isinstance(datum, orm.Data) and datum.creator is None and not isinstance(datum, literals):
                assert datum.uuid in declared, (process, link)


@pytest.mark.nightly
def test_jobs_run_in_sequences_with_a_committee(inputs, potentials):
    """Three jobs in two sequences; the frames of all of them are sampled, with the disagreement of two potentials."""
    outputs, node = engine.run_get_node(
        ExplorerWorkChain, n_jobs=3, max_concurrent=2, committee={'other': potentials[1]}, **inputs
    )
    assert node.is_finished_ok, node.exit_message
    sequences = [one for one in node.called if one.process_class is MaceMdSequenceWorkChain]
    assert [len(sequence.called) for sequence in sequences] == [2, 1]
    replicas = [
        [replica['replica'] for replica in job.outputs.manifest['replicas']]
        for job in calculations(node, MaceMdCalculation)
    ]
    assert sorted(replicas) == [[0, 3], [1], [2]]
    assert outputs['report']['n_frames'] == 4 * 6
    disagreement = [atoms.info['disagreement_eV_A'] for atoms in outputs['candidates'].get_atoms()]
    assert np.isfinite(disagreement).all() and min(disagreement) > 0
    assert_every_datum_has_a_creator(node)
    said = [log.message for log in orm.Log.collection.get_logs_for(node)]
    assert any('4 replicas' in message and 'in 3 MD job(s), 2 at once' in message for message in said)


@pytest.mark.nightly
def test_the_same_again_costs_nothing_until_the_folders_are_cleaned(inputs):
    """Every job of the second exploration comes from the cache; none does once the frames are gone."""
    with enable_caching(identifier=PACKAGE):
        _, first = engine.run_get_node(ExplorerWorkChain, n_jobs=2, **inputs)
        _, second = engine.run_get_node(ExplorerWorkChain, n_jobs=2, keep_frames='clean', **inputs)
        assert first.is_finished_ok and second.is_finished_ok
        assert not any(job.base.caching.is_created_from_cache for job in calculations(first))
        assert all(job.base.caching.is_created_from_cache for job in calculations(second))
        for job in [*calculations(first, MaceMdCalculation), *calculations(second, MaceMdCalculation)]:
            assert not job.base.caching.is_valid_cache
            assert not Path(job.outputs.remote_folder.get_remote_path()).exists()

        _, third = engine.run_get_node(ExplorerWorkChain, n_jobs=2, **inputs)
        assert third.is_finished_ok
        assert not any(job.base.caching.is_created_from_cache for job in calculations(third, MaceMdCalculation))


@pytest.mark.nightly
def test_frames_are_stashed_and_verified(inputs, tmp_path):
    """They can be read where they were copied to, and are gone from the scratch."""
    outputs, node = engine.run_get_node(
        ExplorerWorkChain, n_jobs=2, keep_frames='stash', stash_folder=str(tmp_path / 'stash'), **inputs
    )
    assert node.is_finished_ok, node.exit_message
    for name, copy in outputs['stash'].items():
        assert Path(copy.target_basepath).is_relative_to(tmp_path / 'stash')
        assert read_manifest(copy.target_basepath)['n_frames'] == 12, name
    assert sorted(outputs['stash']) == ['md_0', 'md_1']
    (verification,) = calculations(node, VerifyCalculation)
    assert verification.outputs.report['n_frames'] == 24 and not verification.outputs.report['problems']
    for job in calculations(node, MaceMdCalculation):
        assert job.outputs.remote_folder.is_cleaned and not job.base.caching.is_valid_cache
    assert_every_datum_has_a_creator(node)


def test_a_copy_that_differs_is_found(worker_code, inputs, tmp_path):
    """By its checksum, on the computer where it lies; where the manifest is missing there is no copy."""
    _, job = engine.run_get_node(
        MaceMdCalculation,
        code=worker_code,
        potential=inputs['potential'],
        seeds=inputs['seeds'],
        parameters=inputs['dynamics'],
    )
    folder = {'md_0': job.outputs.remote_folder}
    given = {'worker_code': worker_code, 'stash_folder': str(tmp_path), 'manifests': {'md_0': job.outputs.manifest}}
    shard = Path(folder['md_0'].get_remote_path(), job.outputs.manifest['shards'][0]['path'])
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    outputs, node = engine.run_get_node(StashFramesWorkChain, folders=folder, **given)
    assert node.exit_status == StashFramesWorkChain.exit_codes.WARNING_NOT_ALL_STASHED.status
    assert 'checksum' in node.exit_message and shard.name in node.exit_message
    assert not outputs.get('stash') and outputs['report']['n_frames'] == 0
    (verification,) = calculations(node, VerifyCalculation)
    assert verification.exit_status == VerifyCalculation.exit_codes.ERROR_STASH_DIFFERS.status

    Path(folder['md_0'].get_remote_path(), 'manifest.json').unlink()
    _, node = engine.run_get_node(StashFramesWorkChain, folders=folder, **given)
    assert node.exit_status == StashFramesWorkChain.exit_codes.WARNING_NOT_ALL_STASHED.status
    assert 'manifest.json' in node.exit_message


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'keep_frames': 'stash'}, 'needs a stash_folder'),
        ({'keep_frames': 'stash', 'stash_folder': 'here/there'}, "'here/there' is not an absolute path"),
        ({'stash_folder': '/somewhere'}, "used by keep_frames 'stash' only"),
        ({'keep_frames': 'kepe'}, "'kepe' is not one of keep, clean, stash"),
    ],
)
def test_what_becomes_of_the_frames_is_said_clearly(inputs, changes, message):
    """Refused before anything is submitted."""
    with pytest.raises(ValueError, match=message):
        engine.run(ExplorerWorkChain, **inputs, **changes)


def test_a_stash_that_cannot_be_is_found_before_the_dynamics(inputs, tmp_path):
    """Not after hours of it, and not by waiting for a folder that will never be."""
    (tmp_path / 'file').touch()
    _, node = engine.run_get_node(
        ExplorerWorkChain, keep_frames='stash', stash_folder=str(tmp_path / 'file' / 'folder'), **inputs
    )
    assert node.exit_status == ExplorerWorkChain.exit_codes.ERROR_STASH_FOLDER.status
    assert str(tmp_path / 'file') in node.exit_message
    assert not node.called


def test_seeds_that_do_not_fit_are_an_error_of_their_own(inputs):
    """A molecule cannot be explored at constant pressure."""
    molecule = Atoms('Si2', [[0, 0, 0], [2.3, 0, 0]])
    molecule.info.update(frame_id='seed-0', origin='seed-0', config_type='seed')
    given = {
        **inputs,
        'seeds': FramesData.from_atoms([molecule]),
        'dynamics': as_dict(DYNAMICS.model_copy(update={'ensemble': 'npt'})),
    }
    _, node = engine.run_get_node(ExplorerWorkChain, **given)
    assert node.exit_status == ExplorerWorkChain.exit_codes.ERROR_INVALID_SEEDS.status
    assert 'seed-0' in node.exit_message and not node.called


# ---------------------------------------------------------------------------------------- jobs that failed, as nodes


@pytest.fixture
def stage(inputs) -> ExplorerWorkChain:
    """Return an exploration that has not submitted anything."""
    return instantiate_process(get_manager().get_runner(), ExplorerWorkChain, **inputs)


def called_by(caller: orm.WorkChainNode, label: str) -> orm.WorkChainNode:
    """Return a WorkChain that another one called."""
    node = orm.WorkChainNode()
    node.base.links.add_incoming(caller, link_type=LinkType.CALL_WORK, link_label=label)
    return node.store()


@pytest.fixture
def call_job(localhost, tmp_path) -> Callable[..., orm.WorkChainNode]:
    """Return a function that adds the WorkChain of an MD job, with the frames of its attempts, to a sequence."""

    def factory(sequence: orm.WorkChainNode, index: int, exit_status: int, *attempts: int | None) -> orm.WorkChainNode:
        base = orm.WorkChainNode(process_type='aiida.workflows:mlip_autopipe.mace_md.base')
        base.base.links.add_incoming(sequence, link_type=LinkType.CALL_WORK, link_label=f'md_{index}')
        base.set_process_state(ProcessState.FINISHED)
        base.set_exit_status(exit_status)
        base.set_exit_message(f'job {index} ended so')
        base.store()
        for number, n_frames in enumerate(attempts):
            job = orm.CalcJobNode(computer=localhost, process_type='aiida.calculations:mlip_autopipe.mace_md')
            job.base.links.add_incoming(base, link_type=LinkType.CALL_CALC, link_label=f'iteration_{number}')
            n_jobs = orm.Int(4).store()
            job.base.links.add_incoming(n_jobs, link_type=LinkType.INPUT_CALC, link_label='n_jobs')
            job.set_process_state(ProcessState.FINISHED)
            job.set_exit_status(410)
            job.store()
            if n_frames is None:
                continue
            guard = {'name': 'max_temperature_K', 'step': 40, 'value': 4000.0, 'bound': 3000.0}
            told = {'n_frames': n_frames, 'origin': 'seed-0', 'temperature_K': 900.0, 'pressure_GPa': None}
            replicas = [{**told, 'replica': 0, 'guard': None}, {**told, 'replica': 1, 'guard': guard}]
            outputs = {
                'manifest': orm.Dict({'n_frames': n_frames, 'replicas': replicas}),
                'remote_folder': orm.RemoteData(remote_path=str(tmp_path / f'{index}-{number}'), computer=localhost),
            }
            for name, output in outputs.items():
                output.base.links.add_incoming(job, link_type=LinkType.CREATE, link_label=name)
                output.store()
                if number == len(attempts) - 1:
                    output.base.links.add_incoming(base, link_type=LinkType.RETURN, link_label=name)
        return base

    return factory


def test_a_failed_job_counts_with_the_frames_that_it_left(stage, call_job):
    """The sampling gets them, the report of the stage says why they are not all; a job without frames is left out."""
    sequence = called_by(stage.node, 'sequence_0')
    call_job(sequence, 0, 0, 30)
    given_up = call_job(sequence, 1, MaceMdBaseWorkChain.exit_codes.WARNING_NOT_ALL_FRAMES.status, 5, 12)
    call_job(sequence, 2, 312, None)
    call_job(called_by(stage.node, 'sequence_1'), 3, 314, 0)
    assert stage.inspect_dynamics() is None
    assert list(stage.ctx.shards) == ['md_0', 'md_1']
    assert stage.ctx.shards['md_1'].uuid == given_up.outputs.remote_folder.uuid


def test_without_any_frame_the_exploration_fails(stage, call_job):
    """With the reason of a job."""
    sequence = called_by(stage.node, 'sequence_0')
    call_job(sequence, 0, 312, None)
    call_job(sequence, 1, 314, 0)
    exit_code = stage.inspect_dynamics()
    assert exit_code.status == ExplorerWorkChain.exit_codes.ERROR_DYNAMICS_FAILED.status
    assert 'job 0 ended so' in exit_code.message


def test_progress_counts_the_last_attempt_and_the_jobs_that_wait(call_job):
    """Two of four jobs have begun; one of them was interrupted once, and its frames are not counted twice."""
    run = orm.WorkChainNode().store()
    sequence = called_by(called_by(run, 'explore_r1'), 'sequence_0')
    call_job(sequence, 0, 0, 30)
    call_job(sequence, 1, 720, 5, 12)
    (progress,) = ProgressReader(run.pk).read().stages
    assert (progress.done, progress.total, progress.unit) == (42, 84, 'frames')
    assert progress.detail == '2 replicas stopped by a guard'
