"""``mlip-autopipe export``."""

from __future__ import annotations

from pathlib import Path

import click

from aiida_mlip_autopipe.cli.commands.status import RUN, load_run
from aiida_mlip_autopipe.cli.console import console, load_profile, tell_errors, tell_size

__all__ = ['command', 'show_progress_of_archives']


@click.command('export')
@click.argument('run', metavar='PK', type=RUN)
@click.option(
    '-o',
    '--output',
    metavar='FOLDER|FILE.zip',
    type=click.Path(path_type=Path),
    help='Output path; by default bundle_UUID (the first digits of the run).',
)
@click.option('--no-provenance', is_flag=True, help='Omit the AiiDA archive: smaller, but the receiver has no lineage.')
@click.pass_obj
def command(profile_name: str | None, run: int, output: Path | None, no_provenance: bool) -> None:
    """Write a bundle of the run PK to share.

    It contains the potential and its committee, the labelled frames (training, validation, test, hot), the model card,
    the configuration, the provenance as an AiiDA archive, and checksums. For a failed run: the results so far.

    \b
    mlip-autopipe export 17 --output SiC.zip
    mlip-autopipe verify SiC.zip            # on another machine, without an AiiDA profile
    mlip-autopipe import SiC.zip            # and into a profile
    """
    with tell_errors():
        load_profile(profile_name)
        from aiida_mlip_autopipe.cli.launch import DUMP_EXTRA
        from aiida_mlip_autopipe.report.bundle.write import default_name, write_bundle

        node = load_run(run)
        show_progress_of_archives()
        target = output or Path(default_name(node))
        written = write_bundle(
            node,
            target,
            configuration=node.base.extras.get(DUMP_EXTRA, None),
            provenance=not no_provenance,
            tell=lambda words: console.print(f'{words} ...'),
        )
        for path in written:
            console.print(f'  {path}  {tell_size(path.stat().st_size)}', soft_wrap=True)
        console.print(
            f'share {target}; the receiver verifies it with: mlip-autopipe verify {target.name}', soft_wrap=True
        )


def show_progress_of_archives() -> None:
    """Let AiiDA show how far it is with an archive, where there is a terminal."""
    from aiida.common.progress_reporter import set_progress_bar_tqdm

    if console.is_terminal:
        set_progress_bar_tqdm(leave=False)
