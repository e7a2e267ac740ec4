"""``mlip-autopipe cost``."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING

import click
from rich.table import Table

from aiida_mlip_autopipe.cli.commands.status import RUN, load_run
from aiida_mlip_autopipe.cli.console import console, load_profile, tell_errors, tell_size

if TYPE_CHECKING:
    from aiida_mlip_autopipe.provenance.cost import RunCost, StageCost

__all__ = ['command', 'in_bytes', 'in_hours', 'in_time']

GPUS_TOLD_BY = {
    'scheduler': 'requested GPUs in custom_scheduler_commands',
    'device': 'ran on one CUDA device, according to the worker or its parameters',
    'computer': 'counted as using one: device auto, on a computer where another job found one',
}


@click.command('cost')
@click.argument('run', metavar='PK', type=RUN)
@click.option('--json', 'as_json', is_flag=True, help='Print JSON instead of a table.')
@click.pass_obj
def command(profile_name: str | None, run: int, as_json: bool) -> None:
    """Show the cost of the run PK by stage.

    Core and GPU hours are wall time times the requested resources; cached jobs cost nothing. `time` is
    from the start of a stage to its end, including waiting. `frames` are stored on the computer of the dynamics.

    \b
    mlip-autopipe cost 1234
    mlip-autopipe cost 1234 --json > cost.json
    """
    with tell_errors():
        load_profile(profile_name)
        from aiida_mlip_autopipe.provenance.cost import run_cost

        load_run(run)
        cost = run_cost(run)
        if as_json:
            click.echo(json.dumps(asdict(cost), indent=2))
            return
        console.print(_table(cost))
        console.print(_tell_gpus(cost), soft_wrap=True)


def _table(cost: RunCost) -> Table:
    table = Table(title=f'run {cost.pk}', title_justify='left', box=None, pad_edge=False)
    table.add_column('stage')
    for title in ('core hours', 'GPU hours', 'time', 'jobs', 'from cache', 'nodes', 'files', 'frames'):
        table.add_column(title, justify='right', no_wrap=True)
    for stage in cost.stages:
        table.add_row(*_row(stage))
    table.add_section()
    table.add_row(*_row(cost.total), style='bold')
    return table


def _row(stage: StageCost) -> list[str]:
    return [
        stage.name,
        in_hours(stage.core_hours),
        in_hours(stage.gpu_hours),
        in_time(stage.elapsed_s),
        str(stage.n_jobs or ''),
        str(stage.n_cached or ''),
        str(stage.n_nodes),
        in_bytes(stage.repository_bytes),
        in_bytes(stage.frames_bytes),
    ]


def in_hours(hours: float) -> str:
    """Return hours with three digits or so; nothing for none."""
    return '' if not hours else f'{hours:.3f}' if hours < 10 else f'{hours:,.0f}'


def in_time(seconds: float) -> str:
    """Return seconds as 1:23:45; nothing for none."""
    return str(timedelta(seconds=round(seconds))) if seconds else ''


def in_bytes(size: int) -> str:
    """Return bytes in the unit that suits them; nothing for none."""
    return tell_size(size) if size else ''


def _tell_gpus(cost: RunCost) -> str:
    if not cost.gpu_jobs:
        return 'No job requested a GPU, and none reported running on one.'
    return 'GPUs: ' + '; '.join(f'{number} job(s) {GPUS_TOLD_BY[how]}' for how, number in cost.gpu_jobs.items())
