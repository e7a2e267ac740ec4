"""``mlip-autopipe watch``."""

from __future__ import annotations

from pathlib import Path

import click

from aiida_mlip_autopipe.cli.broker import call_attention
from aiida_mlip_autopipe.cli.commands.status import RUN, load_run
from aiida_mlip_autopipe.cli.console import UsageProblem, load_profile, tell_errors

__all__ = ['command']


@click.command('watch')
@click.argument('run', metavar='[PK]', type=RUN, required=False)
@click.option(
    '-o',
    '--output',
    type=click.Path(path_type=Path, file_okay=False),
    help='Write the results to a folder when the run has ended.',
)
@click.pass_obj
def command(profile_name: str | None, run: int | None, output: Path | None) -> None:
    """Watch the run PK until it ends, by default the newest running one.

    For each round and stage it shows counts and rates, the remaining time, the errors as soon as they are known,
    failures and their reasons, and paused processes. On a terminal the display is live; otherwise one line is printed
    for each change. Only the graph and the progress of the jobs are read, so the daemon may run elsewhere. Ctrl-C
    closes the display, with exit status 130; the run goes on. Exit status 1 if the run fails.

    \b
    mlip-autopipe watch
    mlip-autopipe watch 1234 --output results
    """
    with tell_errors():
        load_profile(profile_name)
        node = load_run(_newest() if run is None else run)
        call_attention()
    from aiida_mlip_autopipe.cli.outcome import follow_to_the_end

    follow_to_the_end(node, output)


def _newest() -> int:
    """Return the PK of the newest run that has not ended.

    Raises
    ------
    UsageProblem
        If there is none.
    """
    from aiida_mlip_autopipe.provenance.states import list_runs

    runs = list_runs()
    for run in runs:
        if run.state not in ('finished', 'excepted', 'killed'):
            return run.pk
    if not runs:
        raise UsageProblem('no runs in this profile yet: mlip-autopipe run input.yaml')
    raise UsageProblem(f'no run is running; the last was {runs[0].pk}: mlip-autopipe status {runs[0].pk}')
