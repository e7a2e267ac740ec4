"""``mlip-autopipe init``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from aiida_mlip_autopipe.cli.console import UsageProblem, console, tell_command, tell_errors
from aiida_mlip_autopipe.labelling.espresso.pseudos import DEBIAN_FOLDER, FAMILY_LABEL

__all__ = ['command']


@click.command('init')
@click.option('--yes', '-y', is_flag=True, help='Create a profile without asking.')
@click.option('--workers', type=click.IntRange(1), default=2, show_default=True, help='Number of daemon workers.')
@click.option('--pw', 'pw_path', type=click.Path(path_type=Path), help='pw.x; by default the one on PATH.')
@click.option(
    '--worker',
    'worker_path',
    type=click.Path(path_type=Path),
    help='mlip-autopipe-worker; by default the one of this environment.',
)
@click.option(
    '--pseudos',
    'pseudo_folder',
    type=click.Path(path_type=Path),
    default=DEBIAN_FOLDER,
    show_default=True,
    help=f'Folder of UPF files for the family {FAMILY_LABEL}.',
)
@click.pass_obj
def command(
    profile_name: str | None,
    yes: bool,
    workers: int,
    pw_path: Path | None,
    worker_path: Path | None,
    pseudo_folder: Path,
) -> None:
    """Set up or repair the pipeline on this computer.

    This creates an AiiDA profile (SQLite, ZeroMQ: no service) if there is none, the computer localhost, the codes
    mlip-worker@localhost and pw@localhost, the pseudopotential family autopipe/pbe, and starts the daemon. A second run
    repairs a broken setup and does not change a working one. AIIDA_PATH sets the location of the profile.

    \b
    mlip-autopipe init --yes
    mlip-autopipe init --pw /opt/qe/bin/pw.x --workers 4
    """
    with tell_errors():
        from aiida_mlip_autopipe.cli import setup
        from aiida_mlip_autopipe.labelling.espresso.pseudos import install_family, read_table

        pw, worker = setup.find_pw(pw_path), setup.find_worker(worker_path)
        read_table(pseudo_folder)
        report = setup.Report()
        if not yes:
            _ask(profile_name)
        with console.status('setting up'):
            profile = setup.ensure_profile(profile_name, report)
            restart = setup.ensure_options(profile, report)
            computer = setup.ensure_computer(report)
            setup.ensure_code(computer, 'mlip-worker', worker, report)
            setup.ensure_code(
                computer, 'pw', pw, report, plugin='quantumespresso.pw', prepend='export OMP_NUM_THREADS=1'
            )
            family, added = install_family(pseudo_folder)
            note = report.did if added else report.found
            note('pseudopotentials', f'{family.label}: {" ".join(sorted(family.elements))}')
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
