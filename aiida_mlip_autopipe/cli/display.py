"""The progress of a run on a terminal, or as lines where there is none."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from aiida_mlip_autopipe.cli.broker import ATTENTION_INTERVAL_S, call_attention
from aiida_mlip_autopipe.cli.console import console, tell_command

if TYPE_CHECKING:
    from aiida_mlip_autopipe.provenance.calls import Call
    from aiida_mlip_autopipe.provenance.failures import Failure
    from aiida_mlip_autopipe.provenance.progress import ProgressReader, RunProgress, StageProgress

__all__ = ['follow', 'progress_table', 'tell_reasons']

INTERVAL_S = 2.0
LINE_INTERVAL_S = 20.0
#: At most this part of the time is spent on reading the progress: the cores belong to the run.
READING_SHARE = 0.1
STATE_STYLES = {'running': 'cyan', 'done': 'green', 'failed': 'bold red'}
#: Unit -> what its rate is told for: a name and its seconds.
RATES = {'frames': ('s', 1), 'labels': ('h', 3600), 'epochs': ('min', 60)}
ROUNDS_IN_FULL, REASONS_SHOWN = 2, 5
NUMBER = re.compile(r'<\d+>|\d[\d.]*(?:e[-+]?\d+)?')


def follow(reader: ProgressReader) -> RunProgress:
    """Show the progress of a run until it ends."""
    return _follow_live(reader) if console.is_terminal else _follow_in_lines(reader)


def _readings(reader: ProgressReader) -> Iterator[RunProgress]:
    """Yield the progress of a run again and again until it has ended; meanwhile see that no process stands still."""
    called = began = time.monotonic()
    while not (progress := reader.read()).is_terminated:
        took = time.monotonic() - began
        yield progress
        time.sleep(max(INTERVAL_S, took / READING_SHARE))
        began = time.monotonic()
        if time.monotonic() - called > ATTENTION_INTERVAL_S:
            call_attention()
            called = time.monotonic()
    yield progress


def _follow_live(reader: ProgressReader) -> RunProgress:
    progress = reader.read()
    with Live(progress_table(progress), console=console, auto_refresh=False) as live:
        for progress in _readings(reader):
            # What is above the last rows of a terminal cannot be written again: earlier rounds make room for this one.
            live.update(progress_table(progress, in_full=progress.is_terminated), refresh=True)
    return progress


def _follow_in_lines(reader: ProgressReader) -> RunProgress:
    """Print a line when a stage changes its state, when another reason to fail or a pause comes up, and now and then
    one for what the running stage has counted since."""
    printed: dict[int, tuple[str, int | None, float]] = {}
    told: set[str] = set()
    for progress in _readings(reader):
        if not told:
            told.add(_title(progress))
            console.print(_title(progress), soft_wrap=True)
        for stage in progress.stages:
            state, count, when = printed.get(stage.pk, ('', None, 0.0))
            due = stage.done != count and time.monotonic() - when > LINE_INTERVAL_S
            if stage.state != state or due:
                console.print(_line(stage), soft_wrap=True, markup=False)
                printed[stage.pk] = (stage.state, stage.done, time.monotonic())
        news = [
            line
            for line in [*tell_reasons(progress.failures, numbers=False), *_pauses(progress.paused)]
            if line not in told
        ]
        for line in news:
            console.print(line, soft_wrap=True, markup=False)
        told.update(news)
    return progress


def _line(stage: StageProgress) -> str:
    parts = [
        f'{stage.name:<20}',
        f'{stage.state:<8}',
        _count(stage),
        _rate(stage),
        _to_go(stage),
        stage.detail,
        _reuse(stage),
    ]
    return '  '.join(part for part in parts if part) + f'  ({_duration(stage.seconds)})'


def progress_table(progress: RunProgress, in_full: bool = True) -> Table:
    """Return the stages of a run as a table, with what failed and what is paused below it.

    Unless ``in_full``, of earlier rounds only how they ended.
    """
    reasons = tell_reasons(progress.failures)
    notes = [f'failed: {line}' for line in reasons[:REASONS_SHOWN]]
    if reasons:
        notes.append(f'Responses and solutions: {tell_command(f"failures {progress.pk}")}')
    notes += _pauses(progress.paused)
    # Title and caption are folded at the width of the table.
    table = Table(
        title=_title(progress), title_justify='left', box=None, pad_edge=False, show_header=False, expand=True
    )
    if notes:
        table.caption, table.caption_justify = Text('\n'.join(notes), 'yellow'), 'left'
    for column in ('stage', 'state', 'bar', 'count'):
        table.add_column(column, no_wrap=True)
    table.add_column('rate', no_wrap=True, justify='right')
    table.add_column('detail', ratio=1)
    table.add_column('time', no_wrap=True, justify='right')
    newest = max((stage.round for stage in progress.stages), default=0)
    for number, stages in _by_round(progress.stages):
        if not in_full and 0 < number <= newest - ROUNDS_IN_FULL:
            table.add_row(
                f'round {number}',
                '[green]done[/]',
                '',
                '',
                '',
                stages[-1].detail,
                _duration(sum(one.seconds for one in stages)),
            )
            continue
        for stage in stages:
            table.add_row(*_row(stage))
    return table


def _row(stage: StageProgress) -> list[RenderableType]:
    bar: RenderableType = ''
    if stage.state == 'running' and stage.done is not None and stage.total:
        bar = ProgressBar(total=stage.total, completed=stage.done, width=10)
    detail = '  '.join(part for part in (_to_go(stage), stage.detail, _reuse(stage)) if part)
    state = Text(stage.state, STATE_STYLES[stage.state])
    return [stage.name, state, bar, _count(stage), _rate(stage), Text(detail), _duration(stage.seconds)]


def _title(progress: RunProgress) -> str:
    newest = max((stage.round for stage in progress.stages), default=0)
    rounds = f', round {newest} of at most {progress.max_rounds}' if newest and progress.max_rounds else ''
    left = _to_go_of(progress)
    to_go = f', at most {_duration(left)} left' if left is not None else ''
    state = progress.state if progress.is_terminated else 'running'
    return f'run {progress.pk}: {state}{rounds}, {_duration(progress.seconds)}{to_go}'


def _to_go_of(progress: RunProgress) -> float | None:
    """Return how long a run still takes if each stage takes what it took in the round before; None in the first."""
    newest = max((stage.round for stage in progress.stages), default=0)
    before = {stage.name_in_round: stage.seconds for stage in progress.stages if stage.round == newest - 1}
    if progress.is_terminated or newest < 2 or progress.max_rounds is None:
        return None
    left = dict(before)
    for stage in progress.stages:
        name = stage.name_in_round
        if stage.round == newest and name in left:
            left[name] = max(before[name] - stage.seconds, 0.0) if stage.state == 'running' else 0.0
    return sum(left.values()) + (progress.max_rounds - newest) * sum(before.values())


def _by_round(stages: Iterable[StageProgress]) -> Iterator[tuple[int, list[StageProgress]]]:
    """Yield the stages in order, those of a round together."""
    together: list[StageProgress] = []
    for stage in stages:
        if together and together[0].round != stage.round:
            yield together[0].round, together
            together = []
        together.append(stage)
    if together:
        yield together[0].round, together


def tell_reasons(failures: Iterable[Failure], numbers: bool = True) -> list[str]:
    """Return what failed by its reason: messages that differ in numbers only are one."""
    reasons: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], Failure] = {}
    for one in failures:
        key = (one.process, NUMBER.sub('#', one.message))
        reasons[key] += 1
        examples.setdefault(key, one)
    return [
        (f'{number} × ' if numbers and number > 1 else '')
        + f'{examples[key].process}: {examples[key].message} ({examples[key].stage}, {examples[key].ending})'
        for key, number in reasons.most_common()
    ]


def _pauses(paused: list[Call]) -> list[str]:
    """Say what stands still until the user wants it to go on: AiiDA pauses jobs whose computer it cannot reach."""
    return [
        f'{call.label} <{call.pk}> is paused. {call.paused}'.strip() + f' To resume: verdi process play {call.pk}'
        for call in paused
    ]


def _count(stage: StageProgress) -> str:
    if stage.done is None:
        return ''
    total = f'/{stage.total}' if stage.total is not None and stage.total != stage.done else ''
    return f'{stage.done}{total} {stage.unit}'


def _rate(stage: StageProgress) -> str:
    if stage.unit not in RATES or stage.per_second is None:
        return ''
    name, seconds = RATES[stage.unit]
    return f'{stage.per_second * seconds:.3g}/{name}'


def _to_go(stage: StageProgress) -> str:
    return '' if stage.to_go_s is None else f'{_duration(stage.to_go_s)} left'


def _reuse(stage: StageProgress) -> str:
    if not stage.n_reused:
        return ''
    return (
        'reused'
        if stage.n_reused == stage.n_processes
        else f'{stage.n_reused} of {stage.n_processes} calculations reused'
    )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02d}:{rest:02d}' if hours else f'{minutes}:{rest:02d}'
