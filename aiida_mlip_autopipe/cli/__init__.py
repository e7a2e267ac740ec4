"""``mlip-autopipe``: the pipeline from a terminal.

A command is imported when it is called, so that ``--help`` and completion stay fast: AiiDA and torch cost seconds.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import click

from aiida_mlip_autopipe import __version__

__all__ = ['main']

COMMANDS = {
    'init': ('setup', 'Set up or repair the profile, codes, pseudopotentials and daemon.'),
    'doctor': ('doctor', 'Test the computer of a worker and recommend changes.'),
    'expand': ('expand', 'Show the full configuration of an input.'),
    'plan': ('plan', 'Show what a pipeline would run, its cost, and any problems.'),
    'run': ('run', 'Submit a pipeline, follow it, and write its results.'),
    'submit': ('submit', 'Submit a pipeline and return.'),
    'train': ('train', 'Train a potential on a labelled set, and judge it.'),
    'status': ('status', 'Show the state of a pipeline, or list all pipelines.'),
    'watch': ('watch', 'Watch a running pipeline.'),
    'change': ('change', 'Change the budget or the tolerances of a running pipeline.'),
    'resubmit': ('resubmit', 'Repeat the failed labels of a pipeline.'),
    'failures': ('failures', 'Show the failures of a pipeline, and their reasons.'),
    'cost': ('cost', 'Show the cost of a pipeline by stage.'),
    'lineage': ('lineage', 'Show the origin of a frame or a potential.'),
    'compare': ('compare', 'Compare two pipelines: inputs, errors, labels.'),
    'report': ('report', 'Write a report of a pipeline as one HTML file.'),
    'export': ('export', 'Write a bundle to share: potential, data, card, provenance.'),
    'verify': ('verify', 'Verify the checksums and the card of a bundle.'),
    'import': ('import_', 'Import a bundle into this profile.'),
    'select': ('select', 'Select frames worth a label from trajectory files.'),
    'describe': ('describe', 'Write descriptors of the frames of trajectory files.'),
}
WITHOUT_AIIDA = ('select', 'describe')


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands, in the order in which they are used."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a command and return the command."""
        if cmd_name not in COMMANDS:
            return None
        if cmd_name not in WITHOUT_AIIDA and find_spec('aiida') is None:
            raise click.ClickException(
                f'{cmd_name} needs AiiDA, which this environment does not have (mlip-autopipe-worker runs without it). '
                "Install the extra that brings it: pip install 'aiida-mlip-autopipe[aiida]', or in a clone: "
                "pip install '.[aiida]'"
            )
        return importlib.import_module(f'{__name__}.commands.{COMMANDS[cmd_name][0]}').command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; name the nearest one if there is none."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            if near:
                error.message += f' Did you mean {near[0]!r}?'
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing one."""
        with formatter.section('Commands'):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(cls=LazyGroup, context_settings={'help_option_names': ['-h', '--help']})
@click.version_option(__version__, '-V', '--version', prog_name='mlip-autopipe')
@click.option('-p', '--profile', metavar='NAME', help='AiiDA profile; by default the default profile.')
@click.pass_context
def main(context: click.Context, profile: str | None) -> None:
    """Train a MACE potential from a ten-line input.yaml, with its provenance in AiiDA.

    \b
    mlip-autopipe init
    mlip-autopipe run input.yaml --output results
    """
    context.obj = profile
    warnings.filterwarnings('ignore', message='Creating AiiDA configuration folder')
    # AiiDA starts its daemon with the `verdi` that it finds on PATH, and looks when it is imported: it must be the one
    # of this environment, activated or not.
    os.environ['PATH'] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get('PATH', os.defpath)])
