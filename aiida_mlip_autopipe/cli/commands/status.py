"""``mlip-autopipe status``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from aiida_mlip_autopipe.cli.broker import call_attention
from aiida_mlip_autopipe.cli.console import UsageProblem, console, load_profile, tell_errors

if TYPE_CHECKING:
    from aiida.orm import WorkChainNode

__all__ = ['RUN', 'command', 'load_run']


class RunType(click.types.IntParamType):
    """The PK of a run; the shell completes it."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the runs of the profile that begin so, newest first, with their state and system."""
        try:
            load_profile(ctx.find_root().params.get('profile'))
        except UsageProblem:
            return []
        from aiida_mlip_autopipe.provenance.states import list_runs

        return [
            CompletionItem(str(one.pk), help=f'{one.state}, {one.description}')
            for one in list_runs()
            if str(one.pk).startswith(incomplete)
        ]


RUN: Any = RunType()


@click.command('status')
@click.argument('run', metavar='[PK]', type=RUN, required=False)
@click.option('-c', '--candidates', is_flag=True, help='List every candidate with its state.')
@click.option(
    '-o',
    '--output',
    type=click.Path(path_type=Path, file_okay=False),
    help='Write the results so far to a folder.',
)
@click.pass_obj
def command(profile_name: str | None, run: int | None, candidates: bool, output: Path | None) -> None:
    """List the runs, or show the state of the run PK.

    It shows the stages, the number of explored seeds, the number of candidates by state (unlabelled, labelling,
    labelled, failed), and the failures, all from the provenance graph. `watch` gives a live display.

    \b
    mlip-autopipe status
    mlip-autopipe status 1234 --candidates
    """
    with tell_errors():
        load_profile(profile_name)
        if run is None:
            _print_runs()
            return
        node = load_run(run)
        call_attention()
        _print_run(run, candidates)
        if output is not None:
            from aiida_mlip_autopipe.cli.results import write_results
            from aiida_mlip_autopipe.provenance.progress import ProgressReader

            written = write_results(node, ProgressReader(run).read(), output)
            console.print(f'results in {output}: {", ".join(path.name for path in written)}')


def load_run(pk: int) -> WorkChainNode:
    """Return the node of a run.

    Raises
    ------
    UsageProblem
        If there is no such node, or it is no WorkChain.
    """
    from aiida.common.exceptions import NotExistent
    from aiida.orm import WorkChainNode, load_node

    try:
        node = load_node(pk)
    except NotExistent as error:
        raise UsageProblem(f'{pk} is not a node of this profile; `mlip-autopipe status` lists the runs') from error
    if not isinstance(node, WorkChainNode):
        raise UsageProblem(f'{pk} is a {type(node).__name__}, not a run; `mlip-autopipe status` lists the runs')
    return node


def _print_runs() -> None:
    from rich.table import Table

    from aiida_mlip_autopipe.provenance.states import list_runs

    runs = list_runs()
    if not runs:
        console.print('no runs in this profile yet: mlip-autopipe run input.yaml')
        return
    table = Table(box=None, pad_edge=False)
    for title in ('PK', 'started', 'state', 'exit', 'system'):
        table.add_column(title)
    for one in runs:
        exit_status = '' if one.exit_status is None else str(one.exit_status)
        table.add_row(
            str(one.pk), f'{one.started.astimezone():%Y-%m-%d %H:%M}', one.state, exit_status, one.description
        )
    console.print(table)


def _print_run(run: int, with_candidates: bool) -> None:
    from aiida_mlip_autopipe.cli.display import progress_table
    from aiida_mlip_autopipe.provenance.progress import ProgressReader
    from aiida_mlip_autopipe.provenance.states import candidate_sets, candidate_states, explored_seeds, seeds_of

    progress = ProgressReader(run).read()
    console.print(progress_table(progress))
    seeds = seeds_of(run)
    if seeds is not None:
        explored = explored_seeds(seeds)
        console.print(f'\nseeds: {sum(map(bool, explored.values()))} of {len(explored)} explored')
    for name, frames in candidate_sets(run).items():
        states = candidate_states(frames)
        counts = Counter(one.state.value for one in states)
        console.print(f'{name}: ' + ', '.join(f'{number} {state}' for state, number in counts.items()))
        if with_candidates:
            for one in states:
                where = f'<{one.pk}>' if one.pk else ''
                console.print(f'  {one.frame_id}  {one.state.value}  {where}  {one.reason}'.rstrip(), markup=False)
    if progress.message and progress.is_terminated:
        console.print(progress.message, markup=False)
