"""The whole pipeline through the daemon with the ZeroMQ broker: real pw.x, real mace_run_train, on two atoms."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import pytest
from aiida import orm
from aiida.common.datastructures import CalcJobState
from aiida.engine import submit
from aiida.plugins import CalculationFactory
from ase.build import bulk

from aiida_mlip_autopipe.calculations.direct_sampling import DirectSamplingCalculation
from aiida_mlip_autopipe.calculations.evaluate import EvaluateCalculation
from aiida_mlip_autopipe.calculations.mace_md import MaceMdCalculation
from aiida_mlip_autopipe.calculations.mace_train import MaceTrainCalculation
from aiida_mlip_autopipe.cli.broker import call_attention
from aiida_mlip_autopipe.cli.results import write_results
from aiida_mlip_autopipe.data import FramesData, PotentialData
from aiida_mlip_autopipe.provenance.changes import ask_for_change, changes_of
from aiida_mlip_autopipe.provenance.cost import core_hours
from aiida_mlip_autopipe.provenance.failures import failures
from aiida_mlip_autopipe.provenance.lineage import frame_lineage
from aiida_mlip_autopipe.provenance.progress import ProgressReader
from aiida_mlip_autopipe.provenance.states import CandidateState, candidate_states, explored_seeds
from aiida_mlip_autopipe.science.existing_data import read_labelled
from aiida_mlip_autopipe.science.frames import write_extxyz
from aiida_mlip_autopipe.workflows.autopipe import AutoPipeWorkChain
from tests.aiida.test_label import label, silicon

PwCalculation = CalculationFactory('quantumespresso.pw')
IN_THE_ORDER_OF_THE_STAGES = (
    PwCalculation,
    MaceTrainCalculation,
    MaceMdCalculation,
    DirectSamplingCalculation,
    EvaluateCalculation,
)

TINY = {
    'generation': {
        'target_atoms': 2,
        'strained': {'n': 1},
        'rattled': {'n': 2},
        'n_test_seeds': 1,
        'isolated_atom_box_A': 6.0,
    },
    'exploration': {
        'temperatures_K': [300.0],
        'n_steps': 6,
        'n_processes': 1,
        'sample_interval': 1,
        'n_to_select': 2,
        'min_expected_error_eV_A': 0.0,
        'descriptor': {'n_max': 2, 'l_max': 1, 'r_cut': 4.0},
    },
    'labelling': {'ecutwfc_Ry': 12.0, 'ecutrho_Ry': 48.0, 'kpoints_distance': 1.5, 'conv_thr_per_atom_Ry': 1e-6},
    'training': {
        'num_channels': 4,
        'correlation': 1,
        'num_interactions': 1,
        'max_ell': 1,
        'r_max': 4.0,
        'n_steps': 4,
        'max_continuations': 0,
        'swa_fraction': 0.0,
    },
    'evaluation': {'n_test': 2},
}
PHYSICS = {'checks': ['equation_of_state', 'nve'], 'n_volumes': 5, 'supercell_atoms': 2, 'nve_steps': 100}


@pytest.fixture
def build(worker_code, pw_code, pseudo_family, tiny_surrogate) -> Callable[..., Any]:
    """Return a function that builds the tiny pipeline for two atoms of silicon."""

    def factory(max_rounds: int, bootstrap: bool = False, committee_size: int = 1, **sections: Any) -> Any:
        structure = orm.StructureData(ase=bulk('Si', 'diamond', a=5.43)).store()
        return AutoPipeWorkChain.get_builder_from_protocol(
            worker_code,
            pw_code,
            structure,
            'fast',
            {
                **TINY,
                'training': {**TINY['training'], 'committee_size': committee_size},
                'loop': {'max_rounds': max_rounds},
                **sections,
            },
            surrogate=None if bootstrap else tiny_surrogate,
        )

    return factory


def calculations_of(node: orm.WorkChainNode, process: type) -> list[orm.CalcJobNode]:
    """Return the jobs of one kind that a run called, at whatever depth."""
    return [job for job in node.called_descendants if isinstance(job, orm.CalcJobNode) and job.process_class is process]


@pytest.mark.nightly
def test_two_rounds_through_the_daemon(submit_and_wait, build, tmp_path):
    """From one structure to a potential; every datum has a creator, every training frame leads back to its origin."""
    n_labels = 5 + 2 + 2 * 2  # one isolated atom and four seeds, two test frames, two candidates in each round
    run = submit(build(max_rounds=3, committee_size=2, physics=PHYSICS))
    ask_for_change(run, {'loop': {'max_labels': n_labels + 1}})  # while it is under way
    submit_and_wait(run, timeout=900)
    assert run.is_finished_ok, run.exit_message
    assert not [node for node in run.called_descendants if not node.is_finished_ok]

    potential = run.outputs.potential
    assert potential.elements == ['Si']
    summary = run.outputs.summary.get_dict()
    assert [entry['round'] for entry in summary['rounds']] == [1, 2]
    assert all(entry['test']['force_rmse_meV_A'] > 0 for entry in summary['rounds'])
    assert summary['learning_curve'] is None  # one frame in each part of the test set says nothing of its uncertainty
    stopped = summary['stopped']
    assert (stopped['why'], stopped['n_labels'], stopped['above_tolerance']) == ('labels', n_labels, {})
    spent = [hours for stage, hours in core_hours(run.pk).items() if 'physics' not in stage]  # which come after
    assert stopped['core_hours'] == pytest.approx(sum(spent)) and min(spent) > 0
    assert len(calculations_of(run, PwCalculation)) == n_labels + PHYSICS['n_volumes']

    declared = {link.node.uuid for link in run.base.links.get_incoming().all()} | {changes_of(run)[0].uuid}
    assert_every_datum_has_a_creator(run, declared)
    assert_the_explorer_is_judged_on_what_it_found(run)
    assert_the_committee_disagrees(run)
    assert_the_test_set_is_unrelated(run)
    assert_an_origin_stays_on_its_side(run)
    assert_frames_lead_back(run)
    assert_the_physics_is_checked(run)
    assert_the_selections_are_shown(run, tmp_path)


def assert_the_physics_is_checked(run: orm.WorkChainNode) -> None:
    """The last potential is held against labels of the crystal that nothing was trained on."""
    checks = run.outputs.physics['checks']
    assert set(checks) == {'equation_of_state', 'nve'}
    curve, drift = checks['equation_of_state'], checks['nve']['rows'][0]
    assert curve['rows'] and curve['uncertainty'].startswith('jackknife')  # so all volumes have their labels
    assert (drift['name'], drift['unit']) == ('energy_drift', 'meV/atom/ps')
    trained = {atoms.info['config_type'] for atoms in run.outputs.dataset.get_atoms()}
    assert trained == {'IsolatedAtom', 'seed', 'candidate'}


def assert_the_selections_are_shown(run: orm.WorkChainNode, folder: Path) -> None:
    """The results have a folder for each selection, with its figures and their data."""
    write_results(run, ProgressReader(run.pk).read(), folder)
    for name in ('selection_test', 'selection_r1', 'selection_r2'):
        shown = sorted(path.suffix for path in (folder / name).iterdir())
        assert shown == ['.json', '.svg', '.svg', '.svg', '.svg']
    for name in ('evaluation_surrogate', 'evaluation_labels_r1', 'evaluation_r2', 'physics'):
        assert {path.suffix for path in (folder / name).iterdir()} == {'.json', '.svg'}
    assert {path.name for path in folder.glob('*.model')} == {'potential.model', 'member_1.model'}
    report = run.outputs.summary['rounds'][1]['sampling']
    assert report['n_known'] == 6  # four seeds and two candidates, without the isolated atom


def assert_the_explorer_is_judged_on_what_it_found(run: orm.WorkChainNode) -> None:
    """Each round's labels are predicted by the potential that drove its dynamics, before they are trained on."""
    stages = {link.link_label: link.node for link in run.base.links.get_outgoing(node_class=orm.WorkChainNode).all()}
    for entry in run.outputs.summary['rounds']:
        number = entry['round']
        judged = stages[f'evaluate_labels_r{number}']
        assert judged.inputs.job.potential.uuid == stages[f'explore_r{number}'].inputs.potential.uuid
        assert judged.inputs.job.frames.uuid == stages[f'label_r{number}'].outputs.labelled.uuid
        assert entry['labels'] == judged.outputs.metrics.get_dict() and entry['labels']['n_frames'] == 2


def assert_the_committee_disagrees(run: orm.WorkChainNode) -> None:
    """Two potentials are trained in each round; what they disagree on is known of each frame of the next."""
    potentials = [run.outputs.potential, run.outputs.committee.member_1]
    first, second = (node.creator for node in potentials)
    assert first.inputs.training.uuid == second.inputs.training.uuid
    assert first.inputs.parameters['random_seed'] != second.inputs.parameters['random_seed']
    assert len(calculations_of(run, MaceTrainCalculation)) == 4
    explored = [atoms.info for atoms in run.outputs.dataset.get_atoms() if atoms.info['config_type'] == 'candidate']
    disagreements = [info['disagreement_eV_A'] for info in explored if 'disagreement_eV_A' in info]
    assert len(disagreements) == 2 and min(disagreements) > 0
    rounds = run.outputs.summary['rounds']
    assert rounds[0]['labels']['calibration'] is None  # the surrogate explored alone
    assert rounds[1]['labels']['calibration']['n_frames'] == 2 and rounds[1]['labels']['calibration']['factor'] > 0
    samplings = sorted(calculations_of(run, DirectSamplingCalculation), key=lambda job: job.pk)
    factors = [job.inputs.parameters['disagreement_factor'] for job in samplings]
    assert factors == [1.0, 1.0, rounds[0]['calibration']['factor']]


def assert_every_datum_has_a_creator(run: orm.WorkChainNode, declared: set[str]) -> None:
    """Walk the graph: what has no creator is a declared input, or a setting that a WorkChain wrote for its child.

    Settings are literals (a number, a flag) and, below aiida-quantumespresso's PwBaseWorkChain, the namelists with the
    restart mode that it writes itself.
    """
    literals = (orm.Int, orm.Bool, orm.Str, orm.Float, orm.AbstractCode)
    for process in [run, *run.called_descendants]:
        for link in [*process.base.links.get_incoming().all(), *process.base.links.get_outgoing().all()]:
            node = link.node
            if not isinstance(node, orm.Data) or node.creator is not None or node.uuid in declared:
                continue
            if isinstance(node, literals):
                continue
            of_the_plugin = isinstance(process, orm.CalcJobNode) and process.process_class is PwCalculation
            assert of_the_plugin and link.link_label in ('parameters', 'settings'), (process, link)


def assert_the_test_set_is_unrelated(run: orm.WorkChainNode) -> None:
    """No origin is both in the data set and in the test set."""
    trained = {atoms.info['origin'] for atoms in run.outputs.dataset.get_atoms()}
    tested = {atoms.info['origin'] for atoms in run.outputs.test_set.get_atoms()}
    assert trained and tested and not trained & tested
    temperatures = {atoms.info['split']: atoms.info['temperature_K'] for atoms in run.outputs.test_set.get_atoms()}
    assert temperatures == {'test': 300.0, 'hot': 360.0}
    assert all(entry['hot']['n_frames'] == entry['test']['n_frames'] == 1 for entry in run.outputs.summary['rounds'])
    splits = {
        name: {atoms.info['origin'] for atoms in run.outputs.dataset.get_atoms() if atoms.info['split'] == name}
        for name in ('training', 'validation')
    }
    assert splits['training'] and splits['validation'] and not splits['training'] & splits['validation']


def assert_an_origin_stays_on_its_side(run: orm.WorkChainNode) -> None:
    """What trained in the first round trains in the second, what validated validates; recorded frame by frame."""
    trainings = sorted((node for node in run.called if 'dataset' in node.outputs), key=lambda node: node.pk)
    first, second = (node.outputs.dataset.get_atoms() for node in trainings)
    sides = {atoms.info['origin']: atoms.info['split'] for atoms in first}
    assert len(second) > len(first)
    assert sides.items() <= {atoms.info['origin']: atoms.info['split'] for atoms in second}.items()


def assert_frames_lead_back(run: orm.WorkChainNode) -> None:
    """Each explored frame of the data set leads to its MD job, replica, step, temperature and pw.x calculation."""
    explored = [atoms for atoms in run.outputs.dataset.get_atoms() if atoms.info['config_type'] == 'candidate']
    assert len(explored) == 4
    md_jobs = {node.uuid[:8]: node for node in calculations_of(run, MaceMdCalculation)}
    for atoms in explored:
        story = frame_lineage(atoms.info['frame_id'])
        assert story.md_job_pk == md_jobs[atoms.info['md_job']].pk
        assert story.state is CandidateState.LABELLED
        assert story.info['temperature_K'] == 300.0
        assert {'replica', 'step', 'cluster', 'reason'} <= set(story.info)
        assert run.outputs.potential.pk in story.potentials
        pw = orm.load_node(story.label_job_pk)
        assert pw.process_class is PwCalculation and pw.is_finished_ok
        assert pw.outputs.output_parameters['energy'] == pytest.approx(atoms.info['REF_energy'])


@pytest.mark.nightly
def test_killed_workers_lose_and_double_nothing(submit_and_wait, daemon, build):
    """`kill -9` of every daemon worker in each kind of stage: the run ends as if nothing had been.

    In one sequence, so that no job is being submitted when its worker dies: AiiDA would start that one once more.
    """
    run = submit(build(max_rounds=1, bootstrap=True, labelling={**TINY['labelling'], 'max_concurrent': 1}))
    for process in IN_THE_ORDER_OF_THE_STAGES:
        wait_for_running(run, process)
        kill_workers(daemon)
        call_attention()  # as following the run does: without it one kill in ten was left unnoticed by the broker
    submit_and_wait(run, timeout=900)

    assert run.is_finished_ok, run.exit_message
    assert failures(run.pk) == []
    # one isolated atom and four seeds, two test frames, two candidates; MD for the test set and for one round
    assert len(calculations_of(run, PwCalculation)) == 5 + 2 + 2
    assert len(calculations_of(run, MaceMdCalculation)) == 2
    assert len(calculations_of(run, MaceTrainCalculation)) == 2
    identifiers = [atoms.info['frame_id'] for atoms in run.outputs.dataset.get_atoms()]
    assert len(identifiers) == len(set(identifiers)) == 7


@pytest.fixture
def data(pw_code, pseudo_family) -> FramesData:
    """Return four frames of silicon that were labelled as the tiny pipeline labels."""
    outputs, _ = label(
        [silicon(f'shift-{percent}', percent / 100) for percent in (2, 5, 8, 10)], pw_code, pseudo_family
    )
    return outputs['labelled']


def read_back(data: FramesData, energy_shift_eV: float = 0.0) -> FramesData:
    """Return labelled frames as they are read from a file; their energies shifted, as another program would have it."""
    frames = data.get_atoms()
    for atoms in frames:
        atoms.info['REF_energy'] += energy_shift_eV
    with TemporaryDirectory() as folder:
        write_extxyz(Path(folder) / 'data.extxyz', frames)
        return FramesData.from_atoms(read_labelled(Path(folder) / 'data.extxyz'))


@pytest.mark.nightly
def test_a_run_with_data_that_finds_nothing_new_is_done(submit_and_wait, build, data):
    """Existing data that proves to fit is trained on; finding nothing new twice (loop.min_rounds) ends the run.

    Of the checks, the cohesive energy takes the isolated atom of the first labels.
    """
    builder = build(max_rounds=3, bootstrap=True, physics={'checks': ['cohesive']})
    builder.data = read_back(data)
    builder.configuration = orm.Dict(
        {
            **builder.configuration.get_dict(),
            'exploration': {**builder.configuration['exploration'], 'min_novelty': 1e6},
        }
    )
    run = submit_and_wait(builder, timeout=900)
    assert run.is_finished_ok, run.exit_message
    stopped = run.outputs.summary['stopped']
    assert run.outputs.summary['rounds'] == [] and stopped['why'] == 'nothing_new'
    assert (stopped['n_rounds'], stopped['empty_rounds']) == (2, [1, 2])
    explored = {link.link_label for link in run.base.links.get_outgoing().all() if 'explore_r' in link.link_label}
    assert explored == {'explore_r1', 'explore_r2'}
    assert run.outputs.potential.elements == ['Si']
    assert len(calculations_of(run, MaceTrainCalculation)) == 1
    energy, atom = run.outputs.physics['checks']['cohesive']['rows']
    (isolated,) = [atoms for atoms in run.outputs.dataset.get_atoms() if len(atoms) == 1]
    assert atom['reference'] == pytest.approx(isolated.info['REF_energy']) and energy['difference'] is not None

    given = [atoms for atoms in run.outputs.dataset.get_atoms() if atoms.info['config_type'] == 'data']
    assert len(given) == 4 and {atoms.info['split'] for atoms in given} == {'training'}
    assert {atoms.info['label_fingerprint'] for atoms in given} == {run.outputs.dataset.label_fingerprint}
    assert run.outputs.summary['stopped']['n_labels'] == 3 + 5 + 2  # of the data, atom and seeds, the test set
    story = frame_lineage(given[0].info['frame_id'])
    assert (story.config_type, story.state, story.source_pk) == ('data', CandidateState.LABELLED, None)
    assert story.potentials == {run.outputs.potential.pk: 'training'}
    assert story.energy_eV == pytest.approx(data.get_atoms()[0].info['REF_energy'])


def test_data_of_another_level_of_theory_ends_the_run_at_once(submit_and_wait, build, data):
    """A constant in the energy, as between two programs, is found by labelling some of the frames again."""
    builder = build(max_rounds=1, bootstrap=True)
    builder.data = read_back(data, energy_shift_eV=0.1)
    run = submit_and_wait(builder)
    assert run.exit_status == 352
    assert '3 of its frames' in run.exit_message and 'another zero of energy' in run.exit_message
    assert len(calculations_of(run, PwCalculation)) == 3


def wait_for_running(run: orm.WorkChainNode, process: type, timeout: float = 400) -> None:
    """Wait until a job of a kind is with the scheduler."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        jobs = [job for job in calculations_of(run, process) if not job.is_terminated]
        if any(job.get_state() is CalcJobState.WITHSCHEDULER for job in jobs):
            return
        assert not run.is_terminated, f'the run ended early: {run.exit_message}'
        time.sleep(0.1)
    raise TimeoutError(f'no {process.__name__} came to run')


def kill_workers(daemon: Any) -> None:
    """Kill all workers of the daemon without a warning."""
    processes = psutil.Process(daemon.get_daemon_pid()).children()  # the daemon itself may be too busy to answer
    workers = [process for process in processes if 'worker' in process.cmdline()]  # the broker is another of them
    assert workers
    for worker in workers:
        worker.kill()


@pytest.mark.nightly
def test_states_come_from_the_graph(submit_and_wait, daemon, tiny_surrogate, worker_code):
    """After an exploration the seeds are explored and the candidates unlabelled, without a flag being set anywhere."""
    from aiida_mlip_autopipe.config import Configuration
    from aiida_mlip_autopipe.workflows.exploration.explorer import ExplorerWorkChain

    frames = []
    for number in range(2):
        atoms = bulk('Si', 'diamond', a=5.43)
        atoms.rattle(0.05, seed=number)
        atoms.info.update(frame_id=f'seed-{number}', origin=f'seed-{number}', config_type='seed')
        frames.append(atoms)
    seeds = FramesData.from_atoms(frames).store()
    assert explored_seeds(seeds) == {'seed-0': [], 'seed-1': []}
    exploration = Configuration(system={'prototype': 'diamond', 'composition': 'Si'}, **TINY).exploration
    node = submit_and_wait(
        ExplorerWorkChain,
        worker_code=worker_code,
        potential=tiny_surrogate,
        seeds=seeds,
        dynamics=exploration.dynamics().model_dump(mode='json'),
        sampling=exploration.sampling().model_dump(mode='json'),
    )
    assert node.is_finished_ok, node.exit_message
    (md_job,) = calculations_of(node, MaceMdCalculation)
    assert explored_seeds(seeds) == {'seed-0': [md_job.pk], 'seed-1': [md_job.pk]}
    states = [candidate.state for candidate in candidate_states(node.outputs.candidates)]
    assert states == [CandidateState.UNLABELLED] * 2


@pytest.fixture
def tiny_surrogate(daemon, tiny_potential) -> PotentialData:
    """Return the untrained tiny potential as a stored node."""
    from aiida_mlip_autopipe.science.potential import inspect_potential

    return PotentialData.from_file(tiny_potential, inspect_potential(tiny_potential), origin='file').store()
