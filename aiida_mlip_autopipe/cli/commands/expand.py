"""``mlip-autopipe expand``."""

from __future__ import annotations

from pathlib import Path

import click

from aiida_mlip_autopipe.cli.console import UsageProblem, console, load_profile, tell_errors

__all__ = ['command']


@click.command('expand')
@click.argument('input_file', metavar='INPUT', type=click.Path(path_type=Path))
@click.option('-o', '--output', type=click.Path(path_type=Path), help='Write to a file instead of the terminal.')
@click.option('--no-profile', is_flag=True, help='Do not ask the AiiDA profile for cutoffs and nodes.')
@click.pass_obj
def command(profile_name: str | None, input_file: Path, output: Path | None, no_profile: bool) -> None:
    """Show the full configuration of INPUT.

    Each value is followed by its origin: the user, the protocol, a heuristic, or the default.

    \b
    mlip-autopipe expand input.yaml --output full.yaml
    """
    with tell_errors():
        if no_profile:
            from aiida_mlip_autopipe.config import ConfigExpander

            expansion = ConfigExpander(input_file).expand()
        else:
            load_profile(profile_name)
            from aiida_mlip_autopipe.cli.launch import expand_in_profile

            expansion = expand_in_profile(input_file)
    if output is None:
        click.echo(expansion.dump())
        return
    try:
        output.write_text(expansion.dump(), encoding='utf-8')
    except OSError as error:
        raise UsageProblem(f'--output: cannot write {output} ({error.strerror})') from error
    console.print(f'written to {output}')
