"""``mlip-autopipe failures``."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from rich.tree import Tree

from aiida_mlip_autopipe.cli.commands.status import RUN, load_run
from aiida_mlip_autopipe.cli.console import console, load_profile, tell_errors

if TYPE_CHECKING:
    from aiida_mlip_autopipe.provenance.failures import Failure

__all__ = ['command']

N_SHOWN = 5
STYLES = {'unresolved': 'bold red', 'tolerated': 'yellow', 'in progress': 'cyan', 'recovered': 'green'}
NUMBER = re.compile(r'[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?')


@click.command('failures')
@click.argument('run', metavar='PK', type=RUN)
@click.option('--json', 'as_json', is_flag=True, help='Print JSON, with one entry per failure.')
@click.pass_obj
def command(profile_name: str | None, run: int, as_json: bool) -> None:
    """Show the failures of the run PK, how the pipeline handled them, and the solutions.

    Failed processes, candidates without a label, and replicas stopped by a guard. `recovered`: a later attempt
    succeeded. `tolerated`: the run continued without it. `in progress`: another attempt is running. `unresolved`: the
    run ended because of it.

    \b
    mlip-autopipe failures 1234
    mlip-autopipe failures 1234 --json > failures.json
    """
    with tell_errors():
        load_profile(profile_name)
        from aiida_mlip_autopipe.provenance.failures import all_failures

        load_run(run)
        found = all_failures(run)
        if as_json:
            click.echo(json.dumps([asdict(one) for one in found], indent=2))
            return
        if not found:
            console.print(f'no failures in run {run}')
            return
        numbers = {ending: sum(one.ending == ending for one in found) for ending in STYLES}
        told = (f'[{STYLES[name]}]{number} {name}[/]' for name, number in numbers.items() if number)
        console.print(f'run {run}: {", ".join(told)}')
        for tree in _trees(found):
            console.print(tree)


def _trees(found: list[Failure]) -> list[Tree]:
    """Return a tree for each stage: one branch for what failed alike."""
    trees: dict[str, Tree] = {}
    groups: dict[tuple, list[Failure]] = {}
    for one in found:
        key = (one.stage, one.ending, one.process, one.exit_status, NUMBER.sub('#', one.message), one.way_out)
        groups.setdefault(key, []).append(one)
    for (stage, *_), alike in groups.items():
        tree = trees.setdefault(stage, Tree(f'[bold]{stage}[/]'))
        _add(tree, alike)
    return list(trees.values())


def _add(tree: Tree, alike: list[Failure]) -> None:
    from rich.markup import escape

    first = alike[0]
    number = f'{len(alike)} × ' if len(alike) > 1 else ''
    status = '' if first.exit_status is None else f' (exit {first.exit_status})'
    branch = tree.add(f'[{STYLES[first.ending]}]{first.ending}[/]  {number}{first.process}{status}')
    for one in alike[:N_SHOWN]:
        subject = f'{one.subject} ' if one.subject else ''
        branch.add(escape(f'{subject}<{one.pk}>: {one.message}'))
    if len(alike) > N_SHOWN:
        branch.add(f'and {len(alike) - N_SHOWN} more; --json has them all')
    branch.add(escape(f'response: {first.action}'))
    if first.way_out:
        branch.add(escape(f'solution: {first.way_out}'))
