"""``mlip-autopipe report``."""

from __future__ import annotations

from pathlib import Path

import click

from aiida_mlip_autopipe.cli.commands.status import RUN, load_run
from aiida_mlip_autopipe.cli.console import console, load_profile, tell_errors, tell_size

__all__ = ['command']


@click.command('report')
@click.argument('run', metavar='PK', type=RUN)
@click.option(
    '-o',
    '--output',
    type=click.Path(path_type=Path, dir_okay=False),
    help='The HTML file; by default report_PK.html in this folder.',
)
@click.pass_obj
def command(profile_name: str | None, run: int, output: Path | None) -> None:
    """Write a report of the run PK as one HTML file: verdict, errors, map, failures, cost, methods.

    The file needs no network and no other file. The report of a run that is running or has failed shows the results
    so far.

    \b
    mlip-autopipe report 1234 -o silicon.html
    """
    with tell_errors():
        load_profile(profile_name)
        from aiida_mlip_autopipe.report.page import write_report

        node = load_run(run)
        path = write_report(node, output or Path(f'report_{run}.html'))
    console.print(f'{path}: {tell_size(path.stat().st_size)}, open it in a browser')
