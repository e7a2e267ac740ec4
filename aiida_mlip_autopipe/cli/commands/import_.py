"""``mlip-autopipe import``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from aiida_mlip_autopipe.cli.console import console, load_profile, tell_command, tell_errors

__all__ = ['command']


@click.command('import')
@click.argument('bundle', metavar='BUNDLE', type=click.Path(path_type=Path))
@click.pass_obj
def command(profile_name: str | None, bundle: Path) -> None:
    """Import a bundle, a folder or a zip file, into this profile.

    It is verified first; an incomplete one is refused. Nodes are identified by their UUID, so importing a bundle again
    changes nothing. From a bundle without provenance, only the potential is imported.

    \b
    mlip-autopipe import SiC.zip
    """
    import zipfile

    from aiida_mlip_autopipe.cli.commands.export import show_progress_of_archives
    from aiida_mlip_autopipe.cli.commands.verify import checked
    from aiida_mlip_autopipe.report.bundle.check import open_bundle

    with tell_errors():
        load_profile(profile_name)
        from aiida_mlip_autopipe.report.bundle.load import import_bundle

        try:
            with open_bundle(bundle) as folder:
                if not all(check.passed for check in checked(folder)):
                    sys.exit(1)
                show_progress_of_archives()
                imported = import_bundle(folder)
        except zipfile.BadZipFile as error:
            console.print(f'[bold red]wrong[/]  {bundle}: the zip file is broken: {error}', soft_wrap=True)
            sys.exit(1)
    run, potential = imported.run, imported.potential
    console.print(f'\n{imported.n_new or "no"} new nodes in this profile')
    if run is not None:
        console.print(f'run <{run.pk}>, its potential <{potential.pk}>')
        console.print(f'origin:            {tell_command(f"lineage {potential.pk}")}')
        console.print(f'results:           {tell_command(f"report {run.pk}")}, {tell_command(f"status {run.pk}")}')
    else:
        console.print(f'potential <{potential.pk}>, without its provenance')
    console.print(f'use it:            surrogate: node:{potential.uuid}    (a line of your input.yaml)', soft_wrap=True)
