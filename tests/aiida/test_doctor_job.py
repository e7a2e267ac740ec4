"""The doctor as a job: its report is a node, what fails is a warning, and nothing is taken from the cache."""

from __future__ import annotations

import pytest
from aiida import engine, orm
from click.testing import CliRunner
from plumpy import ProcessState

from aiida_mlip_autopipe.calculations.doctor import DoctorCalculation
from aiida_mlip_autopipe.cli.commands.doctor import command
from aiida_mlip_autopipe.data import PotentialData
from aiida_mlip_autopipe.science.parameters import DoctorParameters
from aiida_mlip_autopipe.science.potential import inspect_potential

SMALL = DoctorParameters(n_atoms=[8], n_steps=2, write_megabytes=1.0, dtype='float64').model_dump(mode='json')


@pytest.mark.nightly
def test_report(worker_code, tiny_potential):
    """With a potential: the report is complete, says what was timed, and is no source for the cache."""
    potential = PotentialData.from_file(tiny_potential, inspect_potential(tiny_potential), origin='file').store()
    outputs, node = engine.run_get_node(
        DoctorCalculation, code=worker_code, potential=potential, parameters=orm.Dict(SMALL)
    )
    assert node.is_finished_ok, node.exit_message
    report = outputs['report'].get_dict()
    assert report['failed'] == {} and report['potential']['sha256'] == potential.sha256
    (step,) = report['md_steps']
    assert (step['formula'], step['dtype']) == ('Si8', 'float64') and step['ms_per_step'] > 0
    assert not node.base.caching.is_valid_cache


@pytest.mark.nightly
def test_what_failed_is_a_warning_with_the_report(worker_code, tmp_path):
    """A potential that cannot be loaded there: exit code 740 names it, everything else was examined."""
    noise = tmp_path / 'noise.model'
    noise.write_bytes(b'noise')
    said = {'sha256': '0' * 64, 'elements': ['Si'], 'r_max': 5.0, 'dtype': 'float32'}
    potential = PotentialData.from_file(noise, said, origin='file')
    outputs, node = engine.run_get_node(
        DoctorCalculation, code=worker_code, potential=potential, parameters=orm.Dict(SMALL)
    )
    assert node.exit_status == DoctorCalculation.exit_codes.WARNING_PROBE_FAILED.status == 740
    assert 'potential: PotentialError' in node.exit_message
    report = outputs['report'].get_dict()
    assert set(report['failed']) == {'potential'} and report['cpu']['cores'] >= 1 and report['md_steps'] == []


def test_inputs(worker_code):
    """Everything but the code has a default, and a parameter out of bounds is refused before submission."""
    default = DoctorCalculation.spec().inputs['parameters'].default().get_dict()
    assert default == DoctorParameters().model_dump(mode='json')
    with pytest.raises(ValueError, match=r'n_steps: .*greater than or equal to 1.*0'):
        engine.run(DoctorCalculation, code=worker_code, parameters=orm.Dict({'n_steps': 0}))


def test_a_paused_job_is_not_waited_for(localhost):
    """A job that the scheduler refused five times is paused by AiiDA: it is told, with the way out."""
    job = orm.CalcJobNode(computer=localhost, process_type='aiida.calculations:mlip_autopipe.doctor')
    job.set_process_state(ProcessState.WAITING)
    job.store()
    job.pause()
    job.set_process_status('Pausing after failed transport task: submit_calculation failed 5 times')
    done = CliRunner().invoke(command, ['--job', str(job.pk)])
    assert done.exit_code == 2
    assert 'submit_calculation failed' in done.output and f'verdi process play {job.pk}' in done.output
