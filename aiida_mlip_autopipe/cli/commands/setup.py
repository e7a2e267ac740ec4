"""``mlip-autopipe init``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from aiida_mlip_autopipe.cli.console import UsageProblem, console, tell_command, tell_errors
from aiida_mlip_autopipe.science.parameters.labelling import DEFAULT_LABELLER, LABELLERS

__all__ = ['command']


def _options_of_labellers(function: Any) -> Any:
    """Add the options of each labelling code."""
    for _, labeller in LABELLERS.items():
        for option in labeller.setup_options():
            function = click.option(
                f'--{option.name}',
                type=click.Path(path_type=Path),
                default=option.default,
                show_default=option.default is not None,
                help=option.help,
            )(function)
    return function


@click.command('init')
@click.option('--yes', '-y', is_flag=True, help='Create a profile without asking.')
@click.option('--workers', type=click.IntRange(1), default=2, show_default=True, help='Number of daemon workers.')
@click.option(
    '--worker',
    'worker_path',
    type=click.Path(path_type=Path),
    help='mlip-autopipe-worker; by default the one of this environment.',
)
@click.option(
    '--labelling',
    'kinds',
    type=click.Choice(list(LABELLERS)),
    multiple=True,
    default=(DEFAULT_LABELLER,),
    show_default=True,
    help='Labelling code to set up; may be given several times.',
)
@_options_of_labellers
@click.pass_obj
def command(
    profile_name: str | None, yes: bool, workers: int, worker_path: Path | None, kinds: tuple[str, ...], **given: Any
) -> None:
    """Set up or repair the pipeline on this computer.

    This creates an AiiDA profile (SQLite, ZeroMQ: no service) if there is none, the computer localhost, the code
    mlip-worker@localhost, and the code of the labelling code with all that it needs, such as pseudopotentials; and it
    starts the daemon. A second run repairs a broken setup and does not change a working one. AIIDA_PATH sets the
    location of the profile.

    \b
    mlip-autopipe init --yes
    mlip-autopipe init --pw /opt/qe/bin/pw.x --workers 4
    """
    with tell_errors():
        from aiida_mlip_autopipe.cli import setup

        labellers = [LABELLERS[kind] for kind in kinds]
        codes = [code for labeller in labellers if (code := labeller.code_setup(given)) is not None]
        worker = setup.find_worker(worker_path)
        report = setup.Report()
        if not yes:
            _ask(profile_name)
        with console.status('setting up'):
            profile = setup.ensure_profile(profile_name, report)
            restart = setup.ensure_options(profile, {labeller.job_type for labeller in labellers}, report)
            computer = setup.ensure_computer(report)
            setup.ensure_code(computer, 'mlip-worker', worker, report)
            for code in codes:
                made = setup.ensure_code(
                    computer, code.label, code.executable, report, plugin=code.plugin, prepend=code.prepend
                )
                setup.keep_version(made, code)
            for part, text, is_new in (one for labeller in labellers for one in labeller.install(given)):
                (report.did if is_new else report.found)(part, text)
            setup.ensure_daemon(profile, workers, restart, report)
    _show(report)


def _ask(profile_name: str | None) -> None:
    """Ask before a profile is made; nothing to ask where one is there."""
    from aiida.manage.configuration import get_config

    config = get_config(create=True)
    if (profile_name or config.default_profile_name) not in config.profile_names:
        if not sys.stdin.isatty():
            raise UsageProblem(
                f'no terminal to ask whether to create a new AiiDA profile in {config.dirpath}; give --yes'
            )
        click.confirm(f'Create a new AiiDA profile in {config.dirpath}?', default=True, abort=True)


def _show(report: object) -> None:
    from rich.table import Table

    from aiida_mlip_autopipe.cli.setup import Report

    assert isinstance(report, Report)
    table = Table(box=None, show_header=False, pad_edge=False)
    for part, state, text in report.lines:
        table.add_row(part, f'[{"green" if state == "done" else "dim"}]{state}[/]', text)
    console.print(table)
    console.print(
        'Nothing to do.' if report.n_done == 0 else f'Ready: {tell_command("run input.yaml --output results")}'
    )
