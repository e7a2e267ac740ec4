"""``mlip-autopipe run``."""

from __future__ import annotations

from pathlib import Path

import click

from aiida_mlip_autopipe.cli.console import console, load_profile, tell_errors

__all__ = ['command']


@click.command('run')
@click.argument('input_file', metavar='INPUT', type=click.Path(path_type=Path))
@click.option(
    '-o',
    '--output',
    type=click.Path(path_type=Path, file_okay=False),
    default=Path('results'),
    show_default=True,
    help='Folder for the results.',
)
@click.pass_obj
def command(profile_name: str | None, input_file: Path, output: Path) -> None:
    """Submit the pipeline that INPUT describes, follow it, and write its results to a folder.

    The daemon runs it: Ctrl-C closes the display, the run goes on; `watch` displays it again.

    \b
    mlip-autopipe run input.yaml --output results
    """
    with tell_errors():
        profile = load_profile(profile_name)
        from aiida_mlip_autopipe.cli.launch import prepare, submit

        with console.status(f'checking {input_file}'):
            launch = prepare(input_file)
        run = submit(launch, profile)
        output.mkdir(parents=True, exist_ok=True)
    from aiida_mlip_autopipe.cli.outcome import follow_to_the_end

    console.print(f'submitted run {run.pk} to the daemon of profile {profile.name}')
    follow_to_the_end(run, output)
