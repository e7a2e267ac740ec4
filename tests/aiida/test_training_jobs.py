"""Trainings through AiiDA: what is interrupted goes on, what cannot work is refused, and a potential knows its data."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiida import engine, orm
from aiida.common.links import LinkType
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager

from aiida_mlip_autopipe.calculations.mace_train import MaceTrainCalculation
from aiida_mlip_autopipe.data import FramesData, PotentialData
from aiida_mlip_autopipe.provenance.lineage import potential_lineage
from aiida_mlip_autopipe.science.parameters import TrainingParameters
from aiida_mlip_autopipe.science.potential import inspect_potential
from aiida_mlip_autopipe.science.potential.training_files import WORK, read_results
from aiida_mlip_autopipe.science.training import split_by_origin
from aiida_mlip_autopipe.workflows.training.engine import TrainingEngineWorkChain, n_lost
from aiida_mlip_autopipe.workflows.training.mace_train_base import MaceTrainBaseWorkChain
from tests.support.faults import wait_for
from tests.support.labels import labelled_silicon
from tests.support.potentials import tiny_potential as tiny_potential_of

N_EPOCHS = 25
NAIVE = TrainingParameters(
    method='naive', batch_size=1, n_steps=7 * N_EPOCHS, max_continuations=0, finetune_lr=0.003, swa_fraction=0
)


def as_dict(**changes: Any) -> orm.Dict:
    """Return parameters as a node."""
    return orm.Dict(NAIVE.model_copy(update=changes).model_dump(mode='json'))


@pytest.fixture(scope='module')
def labelled(aiida_profile, tiny_potential) -> dict[str, FramesData]:
    """Return the training and the validation set."""
    frames = labelled_silicon(tiny_potential, 8)
    sets = zip(('training', 'validation'), split_by_origin(frames, 0.25, 0), strict=True)
    return {name: FramesData.from_atoms([frames[i] for i in indices], 'tiny').store() for name, indices in sets}


@pytest.fixture(scope='module')
def foundation_of(aiida_profile, tmp_path_factory) -> Callable[..., PotentialData]:
    """Return a function that gives a foundation for some elements."""
    folder = tmp_path_factory.mktemp('foundations')

    def factory(*elements: str) -> PotentialData:
        path = tiny_potential_of(folder, elements, seed=1)
        return PotentialData.from_file(path, inspect_potential(path), origin='file', licence='ASL')

    return factory


@contextmanager
def terminated_in_the_middle(workdir: Path) -> Iterator[None]:
    """Terminate the first ``mace_run_train`` below a folder once it has done three epochs."""

    def process_in_the_middle() -> psutil.Process | None:
        time.sleep(0.2)  # to look through all processes costs what the training needs
        for process in psutil.process_iter(['cmdline', 'cwd']):
            cwd, command = process.info['cwd'] or '', process.info['cmdline'] or []
            is_training = cwd.startswith(str(workdir)) and 'aiida_mlip_autopipe.science.potential.child' in command
            if is_training and len(read_results(Path(cwd))[0]) >= 3:
                return process
        return None

    def terminate() -> None:
        wait_for(process_in_the_middle, 'a training has done three epochs').terminate()

    thread = threading.Thread(target=terminate, daemon=True)
    thread.start()
    yield
    thread.join(60)
    assert not thread.is_alive()


def epochs_of(job: orm.CalcJobNode) -> list[int]:
    """Return the epochs that are told of in the folder of a job."""
    return [entry.epoch for entry in read_results(Path(job.outputs.remote_folder.get_remote_path()) / WORK)[0]]


@pytest.mark.nightly
def test_an_interrupted_training_is_finished_by_the_next_job(installed_worker_code, labelled, foundation_of):
    """The signal reaches ``mace_run_train`` first; and the potential knows its data, its foundation and its errors."""
    foundation = foundation_of('Si', 'Ge').store()
    with terminated_in_the_middle(Path(installed_worker_code.computer.get_workdir())):
        outputs, node = engine.run_get_node(
            TrainingEngineWorkChain,
            worker_code=installed_worker_code,
            parameters=as_dict(),
            labelled=labelled,
            foundation=foundation,
        )
    assert node.is_finished_ok, node.exit_message
    jobs = [one for one in node.called_descendants if isinstance(one, orm.CalcJobNode)]
    first, second = sorted(jobs, key=lambda job: job.pk)
    assert first.exit_status == MaceTrainCalculation.exit_codes.ERROR_INCOMPLETE.status
    assert second.inputs.continue_from.pk == first.outputs.remote_folder.pk
    run = outputs['metrics']['run']
    assert 2 <= run['continued_from_epoch'] <= len(epochs_of(first)) < N_EPOCHS
    assert epochs_of(second) == outputs['history'].get_array('epoch').tolist() == list(range(N_EPOCHS))

    knows = outputs['potential'].base.attributes.all
    for name in ('training', 'validation'):
        frames = second.inputs[name]
        assert knows[f'{name}_sha256'] == sha256_of(frames) and knows[f'n_{name}'] == frames.n_frames
    assert knows['foundation_sha256'] == foundation.sha256 and knows['licence'] == 'ASL'
    assert knows['method'] == 'naive' and knows['label_fingerprint'] == 'tiny'
    errors = outputs['metrics']['validation']
    assert knows['validation_errors']['force_rmse_meV_A'] == errors['force_rmse_meV_A'] > 0
    assert set(knows['validation_errors']) == {'energy_rmse_meV', 'force_rmse_meV_A', 'stress_rmse_GPa'}


def sha256_of(frames: FramesData) -> str:
    """Return the checksum of the file of a node."""
    return hashlib.sha256(frames.get_content(mode='rb')).hexdigest()


def test_a_folder_without_checkpoints_is_not_gone_on_from(worker_code, labelled, foundation_of, tmp_path):
    """Where an attempt was cut before it brought anything over, the folder before it is kept."""
    job = {'code': worker_code, 'parameters': as_dict(), 'foundation': foundation_of('Si'), **labelled}
    process = instantiate_process(get_manager().get_runner(), MaceTrainBaseWorkChain, job=job)
    process.setup()
    for name in ('empty', 'full', 'cleaned'):
        (tmp_path / name / WORK / 'checkpoints').mkdir(parents=True)
    for name in ('full', 'cleaned'):
        (tmp_path / name / WORK / 'checkpoints/autopipe_run-0_epoch-1.pt').touch()
    for name, expected in (('empty', None), ('full', 'full'), ('empty', 'full'), ('cleaned', 'full')):
        process.run_an_incomplete_job_again(incomplete_job(worker_code.computer, tmp_path / name))
        folder = process.ctx.inputs.get('continue_from')
        assert (None if folder is None else Path(folder.get_remote_path()).name) == expected


def incomplete_job(computer: orm.Computer, path: Path) -> orm.CalcJobNode:
    """Return a job that left this folder, which may have been cleaned, and no result."""
    node = orm.CalcJobNode(computer=computer, process_type='aiida.calculations:mlip_autopipe.mace_train').store()
    folder = orm.RemoteData(computer=computer, remote_path=str(path))
    folder.base.links.add_incoming(node, link_type=LinkType.CREATE, link_label='remote_folder')
    folder.store()
    if path.name == 'cleaned':
        folder.base.extras.set(orm.RemoteData.KEY_EXTRA_CLEANED, True)
    node.set_exit_status(400)
    return node


@pytest.mark.parametrize(
    ('method', 'elements', 'has_replay', 'words'),
    [
        ('naive', (), False, "foundation: missing, but training.method is 'naive'"),
        ('multihead', ('Ge', 'Si'), False, "replay: missing, but training.method is 'multihead'"),
        ('scratch', ('Si',), False, "foundation: given, but training.method is 'scratch'"),
        ('naive', ('Ge',), False, 'foundation: knows Ge, but the labelled set has Si'),
        ('multihead', ('Si',), True, 'knows Si only, and mace cannot replay'),
    ],
)
def test_what_cannot_be_trained_is_refused_before_submission(
    worker_code, labelled, foundation_of, method, elements, has_replay, words
):
    """By the job, and by the stage before it splits anything."""
    given: dict[str, Any] = {'foundation': foundation_of(*elements)} if elements else {}
    given |= {'replay': labelled['training']} if has_replay else {}
    given['parameters'] = as_dict(method=method)
    with pytest.raises(ValueError, match=words):
        engine.run(MaceTrainCalculation, code=worker_code, **labelled, **given)
    with pytest.raises(ValueError, match=words):
        engine.run(TrainingEngineWorkChain, worker_code=worker_code, labelled={'all': labelled['training']}, **given)


def potential_of(tiny_potential, level: str) -> PotentialData:
    """Return a potential that was trained on labels of this level of theory."""
    potential = PotentialData.from_file(tiny_potential, inspect_potential(tiny_potential), origin='trained')
    potential.base.attributes.set('label_fingerprint', level)
    return potential.store()


@pytest.mark.parametrize(
    ('method', 'level', 'has_data_set', 'words'),
    [
        ('naive', 'tiny', True, r"previous: given, but training\.method is 'naive'"),
        ('scratch', 'other', True, r'trained on labels of another level of theory \(other\) than these \(tiny\)'),
        ('scratch', 'tiny', False, 'frames that they were trained on may validate'),
    ],
)
def test_weights_that_a_training_may_not_begin_with_are_refused_before_submission(
    worker_code, labelled, tiny_potential, method, level, has_data_set, words
):
    """By the stage; and by the job, which has no data set of the round before."""
    potential, parameters = potential_of(tiny_potential, level), as_dict(method=method)
    given = {'previous': labelled['training']} if has_data_set else {}
    with pytest.raises(ValueError, match=words):
        engine.run(
            TrainingEngineWorkChain,
            worker_code=worker_code,
            labelled={'all': labelled['training']},
            previous_potentials={'member_0': potential},
            parameters=parameters,
            **given,
        )
    if has_data_set:
        with pytest.raises(ValueError, match=words):
            engine.run(
                MaceTrainCalculation,
                code=worker_code,
                previous_potential=potential,
                parameters=parameters,
                **labelled,
            )


def test_frames_that_left_the_data_or_changed_sides_are_counted(labelled):
    """Only where there are none does a training begin with earlier weights."""
    frames = [atoms for name in ('training', 'validation') for atoms in sided(labelled[name].get_atoms(), name)]
    whole = FramesData.from_atoms(frames, 'tiny')
    moved = sided([frames[1].copy()], 'validation') + frames[2:]
    assert n_lost(FramesData.from_atoms(frames[:4], 'tiny'), whole) == 0
    assert n_lost(whole, FramesData.from_atoms(moved, 'tiny')) == 2


def sided(frames: list[Any], side: str) -> list[Any]:
    """Return frames with the side of the split that they are on."""
    for atoms in frames:
        atoms.info['split'] = side
    return frames


@pytest.mark.nightly
def test_a_second_round_begins_with_the_weights_of_the_first(worker_code, labelled, tiny_potential):
    """And with none of them where a frame of the first is not there any more; the graph knows both potentials."""
    parameters = as_dict(
        method='scratch', num_channels=4, r_max=4.0, correlation=2, max_ell=2, num_interactions=1, n_steps=7
    )
    common = {'worker_code': worker_code, 'parameters': parameters}
    first, _ = engine.run_get_node(TrainingEngineWorkChain, labelled=labelled, **common)
    before = {'previous': first['dataset'], 'previous_potentials': {'member_0': first['potential']}}
    more = {'more': FramesData.from_atoms(labelled_silicon(tiny_potential, 3, seed=5)[1:], 'tiny')}
    second, _ = engine.run_get_node(TrainingEngineWorkChain, labelled=labelled | more, **before, **common)
    told = second['metrics']['run']['warm_start']
    assert told['previous_sha256'] == first['potential'].sha256 and told['refused'] is None
    assert second['potential'].base.attributes.get('warm_start') == told
    assert second['potential'].base.attributes.get('licence') == 'of its maker'
    lineage = potential_lineage(second['potential'])
    assert lineage.previous_pk == first['potential'].pk in [one.pk for one in lineage.parents]
    fewer = {'training': FramesData.from_atoms(labelled['training'].get_atoms()[:-1], 'tiny')}
    third, _ = engine.run_get_node(TrainingEngineWorkChain, labelled={**labelled, **fewer}, **before, **common)
    assert 'warm_start' not in third['metrics']['run']
