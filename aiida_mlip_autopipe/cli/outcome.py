"""Following a run to its end and telling how it ended."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from aiida_mlip_autopipe.cli.console import console, tell_command, tell_size
from aiida_mlip_autopipe.cli.display import follow
from aiida_mlip_autopipe.cli.results import (
    error_tables,
    physics_table,
    tell_what_is_next,
    tell_what_rose,
    tell_why_it_stopped,
    write_results,
)
from aiida_mlip_autopipe.cli.trained import tell_training, training_tables

if TYPE_CHECKING:
    from aiida.orm import WorkChainNode

    from aiida_mlip_autopipe.provenance.progress import RunProgress

__all__ = ['follow_to_the_end', 'tell_outcome']

INTERRUPTED = 130


def follow_to_the_end(run: WorkChainNode, output: Path | None) -> None:
    """Show the progress of a run until it ends, then its outcome; on Ctrl-C say that the run goes on."""
    from aiida_mlip_autopipe.provenance.calls import pk_of
    from aiida_mlip_autopipe.provenance.progress import ProgressReader

    try:
        progress = follow(ProgressReader(pk_of(run)))
    except KeyboardInterrupt:
        folder = f' --output {output}' if output else ''
        console.print(
            f'\nRun {run.pk} continues; only its display was closed. Watch it again with: '
            f'{tell_command(f"watch {run.pk}{folder}")}\nTo stop it: verdi process kill {run.pk}',
            soft_wrap=True,
        )
        sys.exit(INTERRUPTED)
    tell_outcome(run, progress, output)


def tell_outcome(run: WorkChainNode, progress: RunProgress, output: Path | None) -> None:
    """Print the errors of each round, what was reused and where the results are; exit 1 on failure."""
    if 'summary' in run.outputs:
        summary = run.outputs.summary.get_dict()
        if 'rounds' in summary:
            tables, risen = error_tables(summary), tell_what_rose(summary)
            words = list(filter(None, [tell_why_it_stopped(summary), tell_what_is_next(summary)]))
        else:
            tables, risen, words = training_tables(summary), [], tell_training(summary)
        for table in tables:
            console.print()
            console.print(table)
        for warning in filter(None, [summary['warning'], *risen]):
            console.print(f'\n[yellow]Warning:[/] {warning}', soft_wrap=True)
        console.print()
        for line in words:
            console.print(line, soft_wrap=True)
    if 'physics' in run.outputs:
        console.print()
        console.print(physics_table(run.outputs.physics.get_dict()))
    console.print()
    if progress.n_reused:
        console.print(
            f"{progress.n_reused} of {progress.n_processes} calculations were reused from earlier runs (AiiDA's cache)."
        )
    console.print(_tell_cost())
    if output is not None:
        written = write_results(run, progress, output)
        console.print(f'results in {output}: {", ".join(path.name for path in written)}')
    if not progress.is_ok:
        console.print(f'[bold red]run {progress.pk} failed:[/] {progress.message or progress.state}', soft_wrap=True)
        sys.exit(1)


def _tell_cost() -> str:
    from aiida_mlip_autopipe.provenance.cost import profile_cost

    cost = profile_cost()
    processes = ', '.join(f'{number} {outcome}' for outcome, number in sorted(cost.processes.items(), reverse=True))
    return (
        f'the profile contains {cost.n_nodes} nodes ({processes} processes) in {tell_size(cost.database_bytes)} of '
        f'database and {tell_size(cost.repository_bytes)} of files'
    )
