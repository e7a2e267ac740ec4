"""``mlip-autopipe submit``."""

from __future__ import annotations

from pathlib import Path

import click

from aiida_mlip_autopipe.cli.console import console, load_profile, tell_command, tell_errors

__all__ = ['command']


@click.command('submit')
@click.argument('input_file', metavar='INPUT', type=click.Path(path_type=Path))
@click.pass_obj
def command(profile_name: str | None, input_file: Path) -> None:
    """Submit the pipeline that INPUT describes and return; `watch` follows it.

    \b
    mlip-autopipe submit input.yaml
    """
    with tell_errors():
        profile = load_profile(profile_name)
        from aiida_mlip_autopipe.cli.launch import prepare, submit

        run = submit(prepare(input_file), profile)
    console.print(f'submitted run {run.pk}; watch it with: {tell_command(f"watch {run.pk}")}')
