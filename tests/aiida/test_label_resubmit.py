"""``mlip-autopipe resubmit`` through the daemon: what failed is labelled again, what was labelled is not."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiida import engine, orm
from aiida.engine import ToContext, WorkChain
from ase import Atoms
from ase.build import bulk
from click.testing import CliRunner

from aiida_mlip_autopipe.cli import main
from aiida_mlip_autopipe.data import FramesData
from aiida_mlip_autopipe.labelling.espresso.batch import PwBatchCalculation
from aiida_mlip_autopipe.labelling.espresso.parameters import EspressoParameters
from aiida_mlip_autopipe.provenance.states import CandidateState, candidate_states, count_states
from aiida_mlip_autopipe.workflows.labelling.engine import LabellingEngineWorkChain
from tests.support.pw_stand_in import write_guarded_pw

LABELLING = EspressoParameters(
    ecutwfc_Ry=12,
    ecutrho_Ry=48,
    kpoints_distance=1.5,
    conv_thr_per_atom_Ry=1e-6,
    batch_size=2,
    max_concurrent=1,
    min_success_fraction=1,
)
OPTIONS = {'resources': {'num_machines': 1, 'num_mpiprocs_per_machine': 1}, 'withmpi': False}
LABELLED, FAILED = CandidateState.LABELLED, CandidateState.FAILED


def silicon(frame_id: str, shift: float) -> Atoms:
    """Return two atoms of silicon, the second displaced by ``shift`` Å along x, y and z."""
    atoms = bulk('Si', 'diamond', a=5.43)
    atoms.positions[1] += shift
    atoms.info.update(frame_id=frame_id, origin=frame_id, config_type='candidate')
    return atoms


class Run(WorkChain):
    """A run with one labelling stage."""

    @classmethod
    def define(cls, spec):
        """Take the inputs of the stage."""
        super().define(spec)
        spec.expose_inputs(LabellingEngineWorkChain)
        spec.outline(cls.label, cls.end)

    def label(self):
        """Submit the stage."""
        return ToContext(stage=self.submit(LabellingEngineWorkChain, **self.exposed_inputs(LabellingEngineWorkChain)))

    def end(self):
        """Be there: the jobs of a last step are not waited for."""


@pytest.fixture(scope='module', autouse=True)
def profile_of_the_daemon(daemon):
    """Load the profile of the daemon before a test makes its code in another one."""


@pytest.fixture
def resubmit(daemon_profile):
    """Return a function that calls ``mlip-autopipe resubmit`` and returns what it prints."""

    def call(*arguments: object) -> str:
        done = CliRunner().invoke(main, ['--profile', daemon_profile.name, 'resubmit', *map(str, arguments)])
        assert done.exit_code == 0, done.output
        return done.output

    return call


def test_only_what_failed_is_labelled_again(submit_and_wait, resubmit, localhost, pseudo_family, tmp_path):
    """A batch in which one pw.x dies, alone too; once its cause is mended, `resubmit` labels that candidate alone."""
    frames = [silicon('calm', 0.0), silicon('shaken', 0.1)]
    program, mended = write_guarded_pw(tmp_path, f'{frames[1].positions[1, 0]:.10f}')
    _, run = engine.run_get_node(Run, **_inputs(FramesData.from_atoms(frames), program, localhost, pseudo_family))
    (stage,) = run.called
    candidates = stage.inputs.candidates
    assert stage.exit_status == LabellingEngineWorkChain.exit_codes.ERROR_TOO_FEW_LABELS.status
    assert [one.state for one in candidate_states(candidates)] == [LABELLED, FAILED]
    assert count_states(stage.pk, 2) == Counter({LABELLED: 1, FAILED: 1})

    mended.touch()
    said = resubmit(run.pk, '--wallclock', 123)
    assert f'1 of 2 candidates of stage <{stage.pk}>' in said
    (again,) = (orm.load_node(int(word.strip('<>:'))) for word in said.split()[1:2])
    submit_and_wait(again)
    assert again.is_finished_ok, again.exit_message
    assert again.inputs.only.get_list() == [1] and again.inputs.candidates.uuid == candidates.uuid
    (frame,) = again.outputs.labelled.get_atoms()
    assert frame.info['frame_id'] == 'shaken'
    assert again.outputs.labelled.label_fingerprint == stage.outputs.labelled.label_fingerprint
    assert [one.state for one in candidate_states(candidates)] == [LABELLED, LABELLED]
    assert count_states(again.pk, 2) == Counter({LABELLED: 1})
    (job,) = [node for node in again.called_descendants if isinstance(node, orm.CalcJobNode)]
    assert job.process_class is PwBatchCalculation and job.get_option('max_wallclock_seconds') == 123
    assert 'every candidate' in resubmit(stage.pk)


def _inputs(candidates: FramesData, program: Path, computer: orm.Computer, pseudo_family: orm.Group) -> dict[str, Any]:
    """Return the inputs of a labelling stage in batches of two."""
    pw_code = orm.InstalledCode(
        label='guarded-pw',
        computer=computer,
        filepath_executable=str(program),
        default_calc_job_plugin='quantumespresso.pw',
        with_mpi=False,
    ).store()
    return {
        'candidates': candidates,
        'parameters': LABELLING.model_dump(mode='json'),
        'labelling': {'code': pw_code, 'pseudo_Si': pseudo_family.get_pseudo('Si')},
        'options': OPTIONS,
    }
