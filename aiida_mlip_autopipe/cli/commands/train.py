"""``mlip-autopipe train``."""

from __future__ import annotations

from pathlib import Path

import click

from aiida_mlip_autopipe.cli.console import console, load_profile, tell_command, tell_errors

__all__ = ['command']


@click.command('train')
@click.argument('input_file', metavar='INPUT', type=click.Path(path_type=Path))
@click.option(
    '-o',
    '--output',
    type=click.Path(path_type=Path, file_okay=False),
    default=Path('results'),
    show_default=True,
    help='Folder for the results.',
)
@click.option('--check', is_flag=True, help='Tell what would be trained on what, and submit nothing.')
@click.option('--no-wait', is_flag=True, help='Submit and return; `watch` follows it.')
@click.pass_obj
def command(profile_name: str | None, input_file: Path, output: Path, check: bool, no_wait: bool) -> None:
    """Train a potential on the labelled set that INPUT names, follow it, and write its results to a folder.

    The set is judged and divided by origin into training, validation and test frames before anything is submitted.
    The daemon runs it: Ctrl-C closes the display, the training goes on; `watch` displays it again.

    \b
    mlip-autopipe train input.yaml --output results
    """
    with tell_errors():
        profile = load_profile(profile_name)
        from aiida_mlip_autopipe.cli.train_launch import prepare_training, submit_training, tell

        with console.status(f'checking {input_file}'):
            launch = prepare_training(input_file)
        tell(launch)
        if check:
            return
        run = submit_training(launch, profile)
        output.mkdir(parents=True, exist_ok=True)
    console.print(f'submitted training {run.pk} to the daemon of profile {profile.name}')
    if no_wait:
        console.print(f'watch it with: {tell_command(f"watch {run.pk} --output {output}")}')
        return
    from aiida_mlip_autopipe.cli.outcome import follow_to_the_end

    follow_to_the_end(run, output)
