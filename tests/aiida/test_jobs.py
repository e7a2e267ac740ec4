"""The worker's jobs and their in-process twins, on a tiny real potential."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiida import engine, orm
from aiida.common.links import LinkType
from aiida.manage.caching import enable_caching
from aiida.plugins import ParserFactory
from ase import Atoms
from ase.build import bulk

from aiida_mlip_autopipe.calculations.direct_sampling import DirectSamplingCalculation
from aiida_mlip_autopipe.calculations.evaluate import EvaluateCalculation
from aiida_mlip_autopipe.calculations.functions.explore import calculate_descriptors, direct_sampling_local, run_mace_md
from aiida_mlip_autopipe.calculations.mace_md import MaceMdCalculation
from aiida_mlip_autopipe.data import FramesData, PotentialData
from aiida_mlip_autopipe.provenance.calls import call_tree
from aiida_mlip_autopipe.provenance.failures import failures
from aiida_mlip_autopipe.science.parameters import (
    AceParameters,
    DynamicsParameters,
    EvaluationParameters,
    MaceFeaturesParameters,
    SamplingParameters,
    SoapParameters,
    TrainingParameters,
)
from aiida_mlip_autopipe.workflows.exploration.direct_sampling_base import DirectSamplingBaseWorkChain
from aiida_mlip_autopipe.workflows.exploration.explorer import ExplorerWorkChain
from aiida_mlip_autopipe.workflows.training.engine import TrainingEngineWorkChain

DESCRIPTOR = SoapParameters(n_max=2, l_max=1, r_cut=4.0)
DYNAMICS = DynamicsParameters(
    temperatures_K=[300.0, 600.0], n_steps=10, sample_interval=1, random_seed=7, n_processes=1
)
SAMPLING = SamplingParameters(n_to_select=3, descriptor=DESCRIPTOR)
MACE_FEATURES = MaceFeaturesParameters(model_dtype='float64', batch_size=4)
ACE = AceParameters(r_cut=4.0, n_max=[3, 2, 1], l_max=[0, 2, 1])


def as_dict(parameters: Any) -> orm.Dict:
    """Return parameters as a node."""
    return orm.Dict(parameters.model_dump(mode='json'))


def silicon(number: int) -> Atoms:
    """Return two displaced atoms of silicon."""
    atoms = bulk('Si', 'diamond', a=5.43)
    atoms.rattle(0.03, seed=number)
    atoms.info.update(frame_id=f'seed-{number}', origin=f'seed-{number}', config_type='seed')
    return atoms


@pytest.fixture(scope='module')
def potential(aiida_profile, tiny_potential) -> PotentialData:
    """Return the tiny potential as a node."""
    from aiida_mlip_autopipe.science.potential import inspect_potential

    return PotentialData.from_file(tiny_potential, inspect_potential(tiny_potential), origin='file').store()


@pytest.fixture(scope='module')
def shared() -> dict[str, orm.CalcJobNode]:
    """Hold what several tests of this module read."""
    return {}


@pytest.fixture
def md_job(worker_code, potential, shared) -> orm.CalcJobNode:
    """Return a finished MD job of two seeds at two temperatures, to be left as it is."""
    if 'md_job' not in shared:
        shared['md_job'] = run_md(worker_code, potential)
    return shared['md_job']


@pytest.fixture
def own_md_job(worker_code, potential) -> orm.CalcJobNode:
    """Return the same, for a test that spoils it."""
    return run_md(worker_code, potential)


def run_md(worker_code: orm.AbstractCode, potential: PotentialData) -> orm.CalcJobNode:
    """Run two seeds at two temperatures."""
    seeds = FramesData.from_atoms([silicon(0), silicon(1)])
    _, node = engine.run_get_node(
        MaceMdCalculation, code=worker_code, potential=potential, seeds=seeds, parameters=as_dict(DYNAMICS)
    )
    assert node.is_finished_ok, node.exit_message
    return node


def without_job(frame_id: str) -> str:
    """Return a frame_id without the name of the MD job."""
    return frame_id.split('-', 1)[1]


def test_job_and_calcfunction_give_the_same_answers(worker_code, potential, md_job):
    """MD and sampling are the same science in a job on a computer and in the process at hand."""
    local_md = run_mace_md(potential=potential, seeds=md_job.inputs.seeds, parameters=as_dict(DYNAMICS))
    manifest, twin = md_job.outputs.manifest.get_dict(), local_md['manifest'].get_dict()
    assert manifest['n_frames'] == twin['n_frames'] > 0
    assert manifest['replicas'] == twin['replicas']

    local = direct_sampling_local(shards=local_md['shards'], parameters=as_dict(SAMPLING))
    remote, _ = engine.run_get_node(
        DirectSamplingCalculation,
        code=worker_code,
        parameters=as_dict(SAMPLING),
        shards={'md_0': md_job.outputs.remote_folder},
    )
    assert_same_selection(remote, local)


@pytest.mark.parametrize('descriptor', [ACE, MACE_FEATURES], ids=lambda parameters: parameters.kind)
def test_job_and_calcfunction_agree_for_each_descriptor(worker_code, potential, md_job, descriptor):
    """The frames of one MD job, sampled beside the shards and in this process."""
    given = {'potential': potential} if descriptor.kind == 'mace' else {}
    sampling = SAMPLING.model_copy(update={'descriptor': descriptor})
    remote_folder = md_job.outputs.remote_folder
    shards = orm.FolderData(tree=remote_folder.get_remote_path())
    features = calculate_descriptors(shards=shards, parameters=as_dict(descriptor), **given).get_array('features')
    assert len(features) == md_job.outputs.manifest['n_frames']
    assert np.isfinite(features).all()
    assert len(np.unique(features, axis=0)) == len(features)

    local = direct_sampling_local(shards=shards, parameters=as_dict(sampling), **given)
    remote, node = engine.run_get_node(
        DirectSamplingCalculation,
        code=worker_code,
        parameters=as_dict(sampling),
        shards={'md_0': remote_folder},
        **given,
    )
    assert node.is_finished_ok, node.exit_message
    assert_same_selection(remote, local)


def assert_same_selection(remote: dict[str, Any], local: dict[str, Any]) -> None:
    """Compare what a job and its twin selected, up to the name of the MD job."""
    for one, other in zip(remote['candidates'].get_atoms(), local['candidates'].get_atoms(), strict=True):
        assert without_job(one.info['frame_id']) == without_job(other.info['frame_id'])
        np.testing.assert_array_equal(one.positions, other.positions)
    for name in ('index', 'cluster', 'distance'):
        np.testing.assert_allclose(remote['selection'].get_array(name), local['selection'].get_array(name))
    for name in ('index', 'step', 'energy_eV', 'components', 'represented_by', 'rank'):
        np.testing.assert_allclose(remote['frames'].get_array(name), local['frames'].get_array(name))
    reports = [outputs['report'].get_dict() for outputs in (remote, local)]
    assert [report.pop('frames_masked') for report in reports] == [{}, {}]
    assert flat(reports[0]) == pytest.approx(flat(reports[1]))


def flat(report: dict[str, Any]) -> dict[str, Any]:
    """Return a report without nesting."""
    nested = {
        f'{name}.{key}': value for name, part in report.items() if isinstance(part, dict) for key, value in part.items()
    }
    return nested | {name: value for name, value in report.items() if not isinstance(value, dict)}


@pytest.mark.nightly
def test_several_jobs_and_what_is_labelled_already(worker_code, potential, md_job):
    """Over the frames of two MD jobs, away from labelled ones: the same in a job and in this process."""
    _, other = engine.run_get_node(
        MaceMdCalculation,
        code=worker_code,
        potential=potential,
        seeds=FramesData.from_atoms([silicon(2)]),
        parameters=as_dict(DYNAMICS.model_copy(update={'random_seed': 8})),
    )
    folders = [job.outputs.remote_folder for job in (md_job, other)]
    sampling = SAMPLING.model_copy(update={'n_to_select': 5, 'group_by': 'temperature', 'min_novelty': 0.3})
    first, _ = engine.run_get_node(
        DirectSamplingCalculation,
        code=worker_code,
        parameters=as_dict(SAMPLING),
        shards={'md_0': folders[0], 'md_1': folders[1]},
    )
    known = first['candidates']
    remote, job = engine.run_get_node(
        DirectSamplingCalculation,
        code=worker_code,
        parameters=as_dict(sampling),
        shards={'md_0': folders[0], 'md_1': folders[1]},
        known={'round_1': known},
    )
    assert job.is_finished_ok, job.exit_message
    shards = [orm.FolderData(tree=folder.get_remote_path()) for folder in folders]
    local = direct_sampling_local(shards=shards[0], more_1=shards[1], known=known, parameters=as_dict(sampling))
    assert_same_selection(remote, local)

    labelled = {atoms.info['frame_id'] for atoms in known.get_atoms()}
    candidates = remote['candidates'].get_atoms()
    assert not labelled & {atoms.info['frame_id'] for atoms in candidates}
    assert min(atoms.info['novelty'] for atoms in candidates) > 0.3
    assert {atoms.info['md_job'] for atoms in candidates} == {md_job.uuid[:8], other.uuid[:8]}
    assert remote['report']['n_known'] == len(labelled) <= remote['report']['n_not_new']
    temperatures = [atoms.info['temperature_K'] for atoms in candidates]
    assert sorted([temperatures.count(300.0), temperatures.count(600.0)]) == [2, 3]


def test_the_figures_lie_beside_the_results(worker_code, md_job):
    """As data and as pictures, in what came back from the job and in a folder of the calcfunction."""
    _, job = engine.run_get_node(
        DirectSamplingCalculation,
        code=worker_code,
        parameters=as_dict(SAMPLING),
        shards={'md_0': md_job.outputs.remote_folder},
    )
    shards = orm.FolderData(tree=md_job.outputs.remote_folder.get_remote_path())
    local = direct_sampling_local(shards=shards, parameters=as_dict(SAMPLING))
    retrieved = job.outputs.retrieved.base.repository.list_object_names('figures')
    assert retrieved == local['figures'].base.repository.list_object_names()
    assert 'figures.json' in retrieved
    assert sum(name.endswith('.svg') for name in retrieved) == 4


def test_nothing_new_is_a_result(worker_code, md_job):
    """A selection that finds nothing to label ends with a warning and says how far everything is from what is known."""
    _, node = engine.run_get_node(
        DirectSamplingBaseWorkChain,
        job={
            'code': worker_code,
            'parameters': as_dict(SAMPLING.model_copy(update={'min_novelty': 1e6})),
            'shards': {'md_0': md_job.outputs.remote_folder},
            'known': {'seeds': md_job.inputs.seeds},
        },
    )
    assert node.exit_status == DirectSamplingCalculation.exit_codes.WARNING_NOTHING_NEW.status == 700
    assert '40 are within min_novelty (1000000.0) of a labelled one' in node.exit_message
    assert 'candidates' not in node.outputs
    report = node.outputs.report
    assert report['n_selected'] == 0 and report['n_not_new'] == report['n_frames'] == 40
    assert 0 < report['novelty']['max'] < 1e6
    stage = call_tree(node.pk)[0]
    assert stage.is_ok and failures(node.pk) == []


def test_the_potential_of_a_sampling_job(worker_code, potential, md_job):
    """Needed for its own features, and an input that changes nothing is refused: both before submission."""
    inputs = {'code': worker_code, 'shards': {'md_0': md_job.outputs.remote_folder}}
    with pytest.raises(ValueError, match='potential: missing, but the descriptor is mace'):
        engine.run(DirectSamplingCalculation, parameters=orm.Dict({'descriptor': 'mace'}), **inputs)
    with pytest.raises(ValueError, match='potential: the descriptor soap needs none'):
        engine.run(DirectSamplingCalculation, parameters=as_dict(SAMPLING), potential=potential, **inputs)


@pytest.mark.nightly
def test_exploration_hands_its_potential_on_where_it_describes(worker_code, potential):
    """With soap the sampling job does not depend on the potential, so that it can be taken from the cache."""
    with enable_caching(identifier='aiida.calculations:mlip_autopipe.*'):
        for descriptor in (DESCRIPTOR, MACE_FEATURES):
            _, node = engine.run_get_node(
                ExplorerWorkChain,
                worker_code=worker_code,
                potential=potential,
                seeds=FramesData.from_atoms([silicon(0)]),
                dynamics=as_dict(DYNAMICS),
                sampling=as_dict(SAMPLING.model_copy(update={'descriptor': descriptor})),
            )
            assert node.is_finished_ok, node.exit_message
            (job,) = [one for one in node.called_descendants if one.process_label == 'DirectSamplingCalculation']
            assert ('potential' in job.inputs) == (descriptor.kind == 'mace')


def test_descriptors_of_a_folder_of_shards(potential):
    """A row for each frame."""
    seeds = FramesData.from_atoms([silicon(0)])
    parameters = DYNAMICS.model_copy(update={'temperatures_K': [300.0]})
    md = run_mace_md(potential=potential, seeds=seeds, parameters=as_dict(parameters))
    features = calculate_descriptors(shards=md['shards'], parameters=as_dict(DESCRIPTOR)).get_array('features')
    assert features.shape[0] == md['manifest']['n_frames']
    assert np.isfinite(features).all() and (features != 0).any()


def test_a_wiped_scratch_folder_is_never_a_success(worker_code, own_md_job):
    """Between MD and sampling the frames vanish: the sampling has its own exit code, the MD job is no cache hit."""
    assert MaceMdCalculation.is_valid_cache(own_md_job)
    folder = Path(own_md_job.outputs.remote_folder.get_remote_path())
    shutil.rmtree(folder)
    folder.mkdir()
    _, node = engine.run_get_node(
        DirectSamplingBaseWorkChain,
        job={
            'code': worker_code,
            'parameters': as_dict(SAMPLING),
            'shards': {'md_0': own_md_job.outputs.remote_folder},
        },
    )
    assert node.exit_status == DirectSamplingCalculation.exit_codes.ERROR_SCRATCH_MISSING.status
    assert 'manifest' in node.exit_message
    assert not MaceMdCalculation.is_valid_cache(own_md_job)


def test_a_changed_shard_is_refused(worker_code, own_md_job):
    """One flipped byte in a shard is found by its checksum."""
    shard = Path(own_md_job.outputs.remote_folder.get_remote_path()) / 'shards' / 'r000.0.h5'
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    _, node = engine.run_get_node(
        DirectSamplingCalculation,
        code=worker_code,
        parameters=as_dict(SAMPLING),
        shards={'md_0': own_md_job.outputs.remote_folder},
    )
    assert node.exit_status == DirectSamplingCalculation.exit_codes.ERROR_SCRATCH_MISSING.status


def test_a_job_without_a_result_file_is_incomplete(worker_code, potential, md_job):
    """A worker that was killed leaves no result file, and the parser says so, whatever else it left."""
    retrieved = orm.FolderData()
    retrieved.base.repository.put_object_from_bytes(
        md_job.outputs.retrieved.base.repository.get_object_content('manifest.json', 'rb'), 'manifest.json'
    )
    node = orm.CalcJobNode(computer=worker_code.computer, process_type=md_job.process_type).store()
    retrieved.base.links.add_incoming(node, link_type=LinkType.CREATE, link_label='retrieved')
    retrieved.store()
    exit_code = ParserFactory('mlip_autopipe.mace_md')(node).parse()
    assert exit_code == MaceMdCalculation.exit_codes.ERROR_INCOMPLETE
    assert exit_code.invalidates_cache
    node.set_exit_status(110)  # what AiiDA does where the scheduler says that the memory did not suffice
    assert ParserFactory('mlip_autopipe.mace_md')(node).parse() is None


def labelled_by(potential_file: Path, n_frames: int) -> list[Atoms]:
    """Return an isolated atom and displaced crystals, labelled with a potential."""
    from aiida_mlip_autopipe.science.dynamics import single_point

    atom = Atoms('Si', cell=[8.0] * 3, pbc=True)
    atom.info.update(frame_id='atom-Si', origin='atom-Si', config_type='IsolatedAtom')
    frames = [atom, *map(silicon, range(n_frames))]
    for atoms in frames:
        results = single_point(potential_file, atoms)
        atoms.info['REF_energy'] = float(results['energy'])
        atoms.arrays['REF_forces'] = np.asarray(results['forces'])
        atoms.info['REF_stress'] = np.asarray(results['stress'])
    return frames


def test_train_and_evaluate(worker_code, tiny_potential):
    """Two epochs of a tiny network: the potential loads, knows its data, and its errors are those it was given."""
    frames = labelled_by(tiny_potential, 6)
    labelled = FramesData.from_atoms(frames, label_fingerprint='tiny')
    parameters = TrainingParameters(
        num_channels=4,
        correlation=1,
        num_interactions=1,
        max_ell=1,
        r_max=4.0,
        n_steps=4,
        max_continuations=0,
        swa_fraction=0,
        validation_fraction=0.3,
    )
    outputs, node = engine.run_get_node(
        TrainingEngineWorkChain, worker_code=worker_code, parameters=as_dict(parameters), labelled={'first': labelled}
    )
    assert node.is_finished_ok, node.exit_message
    potential = outputs['potential']
    assert potential.elements == ['Si']
    assert potential.base.attributes.get('label_fingerprint') == 'tiny'
    assert len(outputs['history'].get_array('epoch')) >= 2

    evaluated, node = engine.run_get_node(
        EvaluateCalculation,
        code=worker_code,
        potential=potential,
        frames=labelled,
        parameters=as_dict(EvaluationParameters()),
    )
    assert node.is_finished_ok, node.exit_message
    assert evaluated['metrics']['n_frames'] == 6
    assert evaluated['metrics']['force_rmse_meV_A'] > 0


def test_sets_of_different_levels_of_theory_are_not_mixed(worker_code, tiny_potential):
    """The message says how many levels there are and what to do."""
    frames = labelled_by(tiny_potential, 3)
    sets = {name: FramesData.from_atoms(frames, label_fingerprint=name) for name in ('one', 'two')}
    _, node = engine.run_get_node(
        TrainingEngineWorkChain, worker_code=worker_code, parameters=as_dict(TrainingParameters()), labelled=sets
    )
    assert node.exit_status == TrainingEngineWorkChain.exit_codes.ERROR_DATASET.status
    assert 'levels of theory' in node.exit_message


def test_an_element_that_the_potential_does_not_know(worker_code, potential):
    """Refused before anything is submitted."""
    frame = silicon(0)
    frame.symbols[0] = 'Ge'
    with pytest.raises(ValueError, match='knows Si, but the seeds contain Ge'):
        engine.run(
            MaceMdCalculation,
            code=worker_code,
            potential=potential,
            seeds=FramesData.from_atoms([frame]),
            parameters=as_dict(DYNAMICS),
        )


def test_parameters_out_of_bounds_are_refused(worker_code, potential):
    """The message of the port names the key and the value."""
    wrong = DYNAMICS.model_dump(mode='json') | {'timestep_fs': -1}
    with pytest.raises(ValueError, match=r'timestep_fs: .*greater than 0.*-1'):
        engine.run(
            MaceMdCalculation,
            code=worker_code,
            potential=potential,
            seeds=FramesData.from_atoms([silicon(0)]),
            parameters=orm.Dict(wrong),
        )
