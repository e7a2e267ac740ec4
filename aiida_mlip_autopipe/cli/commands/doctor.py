"""``mlip-autopipe doctor``."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiida_mlip_autopipe.cli.console import UsageProblem, console, load_profile, tell_errors

if TYPE_CHECKING:
    from aiida.manage.configuration.profile import Profile
    from aiida.orm import CalcJobNode, InstalledCode

__all__ = ['command']

PROCESS = 'mlip_autopipe.doctor'
DEFAULT_OPTIONS = {'max_wallclock_seconds': 1800}
INTERVAL_S = 1.0
INTERRUPTED = 130


@click.command('doctor')
@click.argument('code_label', metavar='[CODE]', required=False)
@click.option(
    '--potential',
    'potential_path',
    type=click.Path(path_type=Path),
    help='MACE .model file used to time MD steps; by default a small untrained potential is built.',
)
@click.option(
    '--options',
    'options_path',
    type=click.Path(path_type=Path),
    help='YAML file with the options of the job, as in options.worker of input.yaml.',
)
@click.option('--job', 'job_pk', type=int, metavar='PK', help='Show the result of an earlier job, instead of CODE.')
@click.pass_obj
def command(
    profile_name: str | None,
    code_label: str | None,
    potential_path: Path | None,
    options_path: Path | None,
    job_pk: int | None,
) -> None:
    """Test the computer of the worker CODE, such as mlip-worker@cluster. Run this first on a new computer.

    One job reports the available resources: packages, cores, memory, GPUs, the engine that would be chosen, the time
    of an MD step, the speed of the disk; and it recommends changes. The daemon runs it: Ctrl-C closes the display, the
    job goes on. Exit status 1 if a test failed.

    \b
    mlip-autopipe doctor mlip-worker@cluster --options gpu.yaml
    """
    if (code_label is None) == (job_pk is None):
        raise UsageProblem('give either a CODE to test, such as mlip-worker@localhost, or the --job to show')
    with tell_errors():
        profile = load_profile(profile_name)
        if job_pk is not None:
            job = _load_job(job_pk)
        else:
            code = _load_code(str(code_label))
            job = _submit(code, potential_path, _read_options(options_path), profile)
    _wait(job)
    _tell(job)


def _load_job(pk: int) -> CalcJobNode:
    from aiida.common.exceptions import NotExistent
    from aiida.orm import CalcJobNode, load_node

    try:
        node = load_node(pk)
    except NotExistent:
        raise ValueError(f'--job: {pk} is not a node of this profile') from None
    if not isinstance(node, CalcJobNode) or node.process_type != f'aiida.calculations:{PROCESS}':
        raise ValueError(f'--job: {pk} is a {type(node).__name__}, not a doctor job')
    return node


def _load_code(label: str) -> InstalledCode:
    from aiida.common.exceptions import MultipleObjectsError, NotExistent
    from aiida.orm import load_code

    try:
        code: Any = load_code(label)
    except (NotExistent, MultipleObjectsError, ValueError) as error:
        raise ValueError(
            f'CODE: {label!r} is not a code of this profile ({error}); `verdi code list` shows them'
        ) from None
    return code


def _read_options(path: Path | None) -> dict[str, Any]:
    """Return all options of the job: those that the file gives over the defaults."""
    from pydantic import ValidationError

    from aiida_mlip_autopipe.config.loader import load_yaml, read_text
    from aiida_mlip_autopipe.config.schema import JobOptions

    given = load_yaml(read_text(path), str(path)) if path else {}
    try:
        return JobOptions(**{**DEFAULT_OPTIONS, **given}).model_dump(mode='json')
    except ValidationError as error:
        problems = [f'{".".join(map(str, one["loc"]))}: {one["msg"]} (got {one["input"]!r})' for one in error.errors()]
        raise ValueError('\n'.join([f'--options {path}:', *problems])) from error


def _submit(code: InstalledCode, potential: Path | None, options: dict[str, Any], profile: Profile) -> CalcJobNode:
    from aiida.engine import submit
    from aiida.plugins import CalculationFactory

    from aiida_mlip_autopipe.cli.launch import running_daemon

    running_daemon(profile)
    builder: Any = CalculationFactory(PROCESS).get_builder()
    builder.code = code
    builder.metadata.options = options
    if potential is not None:
        from aiida_mlip_autopipe.data import PotentialData
        from aiida_mlip_autopipe.science.potential import inspect_potential

        builder.potential = PotentialData.from_file(potential, inspect_potential(potential), origin='file')
    job: Any = submit(builder)
    return job


def _wait(job: CalcJobNode) -> None:
    """Wait until the job has ended; on Ctrl-C say that it goes on.

    Raises
    ------
    UsageProblem
        If AiiDA paused it, as after five attempts that the scheduler refused.
    """
    try:
        with console.status('') as status:
            while not job.is_terminated:
                if job.paused:
                    raise UsageProblem(
                        f'job {job.pk} is paused. {job.process_status or ""}\nReason: verdi process report '
                        f'{job.pk}\nTo resume it: verdi process play {job.pk}, then mlip-autopipe doctor --job '
                        f'{job.pk}. To cancel it: verdi process kill {job.pk}'
                    )
                state = job.get_scheduler_state()
                where = f'{state.value} on {job.computer.label}' if state and job.computer else 'being submitted'
                status.update(f'job {job.pk}: {where}')
                time.sleep(INTERVAL_S)
    except KeyboardInterrupt:
        console.print(
            f'\nJob {job.pk} continues in the daemon. To show its result: mlip-autopipe doctor --job {job.pk}\n'
            f'To cancel it: verdi process kill {job.pk}'
        )
        sys.exit(INTERRUPTED)


def _tell(job: CalcJobNode) -> None:
    from aiida_mlip_autopipe.cli.doctor_report import print_report

    if 'report' in job.outputs:
        code = job.inputs.code.full_label
        console.print(f'[bold]{code}[/], job {job.pk} of {job.ctime.astimezone():%Y-%m-%d %H:%M}', soft_wrap=True)
        _tell_coverage()
        print_report(job.outputs.report.get_dict(), code, _given_options(job))
    if not job.is_finished_ok:
        console.print(f'[bold red]job {job.pk}:[/] ', end='')
        console.print(job.exit_message or f'{job.process_state}', markup=False)
        sys.exit(1)


def _tell_coverage() -> None:
    """Tell which elements the profile can label."""
    from aiida_mlip_autopipe.science.parameters.labelling import LABELLERS

    for _, labeller in LABELLERS.items():
        for source, words in labeller.coverage():
            console.print(f'[bold]elements to label[/] with {source}: {words}', soft_wrap=True)


def _given_options(job: CalcJobNode) -> dict[str, Any]:
    """Return the options of a job that are not the default."""
    from aiida_mlip_autopipe.config.schema import JobOptions

    defaults = JobOptions(**DEFAULT_OPTIONS).model_dump(mode='json')
    options = (job.get_metadata_inputs() or {}).get('metadata', {}).get('options', {})
    return {name: value for name, value in options.items() if value != defaults.get(name)}
