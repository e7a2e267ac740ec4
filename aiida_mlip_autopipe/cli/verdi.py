"""The commands of ``mlip-autopipe`` below ``verdi data``, for those who look there: with the profile of ``verdi``."""

from __future__ import annotations

import click

from aiida_mlip_autopipe.cli import LazyGroup

__all__ = ['command']


@click.command('mlip-autopipe', cls=LazyGroup, context_settings={'help_option_names': ['-h', '--help']})
@click.pass_context
def command(context: click.Context) -> None:
    """Train a MACE potential from a ten-line input.yaml: the same commands as `mlip-autopipe`.

    \b
    verdi data mlip-autopipe plan input.yaml
    verdi -p PROFILE data mlip-autopipe watch
    """
    profile = context.obj.profile
    context.obj = None if profile is None else profile.name
