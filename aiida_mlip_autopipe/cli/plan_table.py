"""A plan on a terminal: what runs, stage by stage, what it rests on, and what stands in its way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from aiida_mlip_autopipe.cli.console import console, tell_command, tell_size
from aiida_mlip_autopipe.pipeline.stages import Kind
from aiida_mlip_autopipe.science.systems import tell_systems

if TYPE_CHECKING:
    from aiida_mlip_autopipe.cli.examination import Examination
    from aiida_mlip_autopipe.config import Configuration
    from aiida_mlip_autopipe.config.plan import Hours, Plan, PlannedStage

__all__ = ['print_plan', 'stages_table']

COLUMNS = {
    'seeds': 'seeds',
    'replicas': 'replicas',
    'md_steps': 'MD steps',
    'frames': 'frames',
    'bytes': 'disk',
    'labels': 'labels',
    'trainings': 'trainings',
}
ROUNDS_SHOWN = 3
KINDS = {
    Kind.RELAX: 'relaxation',
    Kind.CHOOSE: 'states',
    Kind.EXPLORE: 'MD',
    Kind.LABEL: 'labels',
    Kind.TRAIN: 'trainings',
    Kind.EVALUATE: 'evaluations',
    Kind.PHYSICS: 'physics',
}
KEPT = {
    'keep': 'kept in the folders of the MD jobs (exploration.keep_frames: keep)',
    'clean': 'deleted after each selection (exploration.keep_frames: clean)',
    'stash': 'moved to exploration.stash_folder after each selection',
}


def print_plan(found: Examination) -> None:
    """Print a plan as far as there is one, then warnings and problems."""
    if found.plan is not None and found.expansion is not None:
        console.print(stages_table(found.plan, found.expansion.configuration))
        console.print()
        facts = Table.grid(padding=(0, 2))
        facts.add_column(no_wrap=True, style='bold')
        facts.add_column()
        for title, text in _facts(found, found.plan, found.expansion.configuration):
            facts.add_row(title, Text(text))
        console.print(facts)
        console.print()
    _print_marked(found.warnings, '[yellow]![/]')
    _print_marked(found.problems, '[bold red]x[/]')
    if found.problems:
        number = f'{len(found.problems)} problem{"s" if len(found.problems) > 1 else ""}'
        console.print(f'[bold red]{number}[/] to solve; nothing was submitted.')
    else:
        console.print(f'No problems found: {tell_command(f"run {found.input_file}")}', soft_wrap=True)


def stages_table(plan: Plan, configuration: Configuration) -> Table:
    """Return the stages as a table; of many rounds the first and the last are shown."""
    table = Table(box=None, pad_edge=False, title_justify='left')
    table.add_column('', no_wrap=True)
    for title in COLUMNS.values():
        table.add_column(title, no_wrap=True, justify='right')
    table.add_column('hours', no_wrap=True, justify='right')
    last_round = 0
    for stage in plan.stages:
        number = stage.stage.round
        if plan.n_rounds > ROUNDS_SHOWN and number not in (0, 1, plan.n_rounds):
            if number == 2 and last_round != number:
                table.add_row(Text(f'... r2 to r{plan.n_rounds - 1}: same', 'dim'))
        else:
            table.add_row(stage.name, *_counts({name: getattr(stage, name) for name in COLUMNS}), _told(stage))
        last_round = number
    table.add_section()
    rounds = f'all, {plan.n_rounds} round{"s" if plan.n_rounds != 1 else ""}'
    table.add_row(rounds, *_counts(plan.totals()), _sum(plan), style='bold')
    if (shortest := _shortest(plan, configuration)) is not None:
        table.add_row(f'at least, {shortest.n_rounds}', *_counts(shortest.totals()), _sum(shortest))
    return table


def _sum(plan: Plan) -> str:
    """Return all hours of a plan; a lower bound where a part was not measured."""
    if not plan.unmeasured():
        return ' + '.join(tell_hours(one) for one in plan.hours().values())
    return ' + '.join(f'> {_short(one.least)} {one.on}-h' for one in plan.hours().values() if one.least)


def _shortest(plan: Plan, configuration: Configuration) -> Plan | None:
    """Return what runs if the tolerances hold as soon as they may end the run; None if that is not sooner."""
    tolerances = [value for name, value in configuration.evaluation if name.startswith('max_') and value is not None]
    least = configuration.loop.min_rounds
    if not tolerances or least >= plan.n_rounds:
        return None
    return replace(plan, n_rounds=least, stages=tuple(stage for stage in plan.stages if stage.stage.round <= least))


def _counts(counts: dict[str, int]) -> list[str]:
    return [
        (tell_size(counts[name]) if name == 'bytes' else f'{counts[name]:,}') if counts[name] else ''
        for name in COLUMNS
    ]


def _told(stage: PlannedStage) -> str:
    if stage.hours is not None:
        return tell_hours(stage.hours)
    return '' if stage.is_measured else 'not measured'


def tell_hours(hours: Hours) -> str:
    """Return '0.13–0.35 core-h', or '≤ 3.1 GPU-h' where only an upper bound is known."""
    unit = f'{hours.on}-h'
    if hours.least == 0:
        return f'≤ {_short(hours.most)} {unit}'
    least, most = _short(hours.least), _short(hours.most)
    return f'{least} {unit}' if least == most else f'{least}–{most} {unit}'


def _short(hours: float) -> str:
    return (
        f'{hours:,.0f}'
        if hours >= 10
        else f'{hours:.1f}'
        if hours >= 1
        else f'{hours:.2f}'
        if hours >= 0.01
        else '0.01'
    )


def _facts(found: Examination, plan: Plan, configuration: Configuration) -> Iterator[tuple[str, str]]:
    if found.expansion is not None:
        yield 'system', tell_systems(found.expansion.sources, found.expansion.found)
    title = 'hours of'
    for kind, name in KINDS.items():
        stages = [stage for stage in plan.stages if stage.kind == kind]
        bases = dict.fromkeys(part for stage in stages for part in stage.basis.split('; ') if part)
        if not bases:
            continue
        measured = all(stage.is_measured for stage in stages)
        yield title, f'{name}: {"" if measured else "not measured: "}{"; ".join(bases)}'
        title = ''
    size, code = tell_size(plan.totals()['bytes']), configuration.codes.worker
    yield 'frames', f'at most {size} on the computer of {code}; {KEPT[configuration.exploration.keep_frames]}'
    there = 'the daemon is not running'
    if found.n_workers is not None and found.slots_per_worker is not None:
        n_slots = found.n_workers * found.slots_per_worker
        there = f'there are {n_slots} ({found.n_workers} workers x {found.slots_per_worker})'
    yield 'daemon', f'{found.slots_needed} processes need a slot at the same time; {there}'
    n_temperatures, hot_factor = len(configuration.exploration.temperatures_K), configuration.evaluation.hot_factor
    yield (
        'test set',
        f'{configuration.evaluation.n_test} frames, equally from each of the {n_temperatures} temperatures'
        + ('' if hot_factor is None else ' and from a hotter one'),
    )
    yield 'cache', 'results of earlier runs of this profile are reused at no cost; this is not subtracted here'
    least = configuration.loop.min_rounds
    yield 'ends', f'from round {least} on if no new frames are found' + _tolerances(configuration)


def _tolerances(configuration: Configuration) -> str:
    wanted = {name: value for name, value in configuration.evaluation if name.startswith('max_') and value is not None}
    if not wanted:
        return '; no tolerance is set that could end it'
    told = ', '.join(f'{name}: {value:g}' for name, value in wanted.items())
    return f', or the tolerances are met ({told})'


def _print_marked(lines: Iterable[str], mark: str) -> None:
    for line in lines:
        grid = Table.grid(padding=(0, 1))
        grid.add_row(mark, Text(line))
        console.print(grid)
