"""The progress of a run on a terminal, or as lines where there is none."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .broker import ATTENTION_INTERVAL_S, call_attention
from .console import console

if TYPE_CHECKING:
    from aiida_mlip_autopipe.provenance.calls import Call
    from aiida_mlip_autopipe.provenance.progress import ProgressReader, RunProgress, StageProgress

__all__ = ['follow', 'progress_table']

INTERVAL_S = 2.0
LINE_INTERVAL_S = 20.0
STATE_STYLES = {'running': 'cyan', 'done': 'green', 'failed': 'bold red'}


def follow(reader: ProgressReader) -> RunProgress:
    """Show the progress of a run until it ends."""
    return _follow_live(reader) if console.is_terminal else _follow_in_lines(reader)


def _readings(reader: ProgressReader) -> Iterator[RunProgress]:
    """Yield the progress of a run again and again until it has ended; meanwhile see that no process stands still."""
    called = time.monotonic()
    while not (progress := reader.read()).is_terminated:
        yield progress
        time.sleep(INTERVAL_S)
        if time.monotonic() - called > ATTENTION_INTERVAL_S:
            call_attention()
            called = time.monotonic()
    yield progress


def _follow_live(reader: ProgressReader) -> RunProgress:
    progress = reader.read()
    with Live(progress_table(progress), console=console, auto_refresh=False) as live:
        for progress in _readings(reader):
            live.update(progress_table(progress), refresh=True)
    return progress


def _follow_in_lines(reader: ProgressReader) -> RunProgress:
    """Print a line when a stage changes its state, and one for the running stage every now and then."""
    printed: dict[int, tuple[str, float]] = {}
    told: set[int] = set()
    for progress in _readings(reader):
        for stage in progress.stages:
            state, when = printed.get(stage.pk, ('', 0.0))
            due = stage.state == 'running' and time.monotonic() - when > LINE_INTERVAL_S
            if stage.state != state or due:
                console.print(_line(stage), soft_wrap=True)
                printed[stage.pk] = (stage.state, time.monotonic())
        paused = [call for call in progress.paused if call.pk not in told]
        if paused:
            console.print(_pauses(paused), soft_wrap=True, markup=False)
            told.update(call.pk for call in paused)
    return progress


def _line(stage: StageProgress) -> str:
    parts = [f'{stage.name:<20}', f'{stage.state:<8}', _count(stage), stage.detail, _reuse(stage)]
    return '  '.join(part for part in parts if part) + f'  ({_duration(stage.seconds)})'


def progress_table(progress: RunProgress) -> Table:
    """Return the stages of a run as a table."""
    title = f'run {progress.pk}: {progress.state}, {_duration(progress.seconds)}'
    table = Table(title=title, title_justify='left', box=None, pad_edge=False, show_header=False)
    if progress.paused:
        table.caption, table.caption_justify = Text(_pauses(progress.paused), 'yellow'), 'left'
    for column in ('stage', 'state', 'bar', 'count'):
        table.add_column(column, no_wrap=True)
    table.add_column('detail')
    table.add_column('time', no_wrap=True, justify='right')
    for stage in progress.stages:
        bar: RenderableType = ''
        if stage.state == 'running' and stage.done is not None and stage.total:
            bar = ProgressBar(total=stage.total, completed=stage.done, width=16)
        detail = '  '.join(part for part in (stage.detail, _reuse(stage)) if part)
        style = STATE_STYLES[stage.state]
        table.add_row(stage.name, f'[{style}]{stage.state}[/]', bar, _count(stage), detail, _duration(stage.seconds))
    return table


def _pauses(paused: list[Call]) -> str:
    """Say what stands still until the user wants it to go on: AiiDA pauses jobs whose computer it cannot reach."""
    lines = [f'{call.label} <{call.pk}> is paused. {call.paused}'.strip() for call in paused]
    return '\n'.join([*lines, 'To go on: verdi process play ' + ' '.join(str(call.pk) for call in paused)])


def _count(stage: StageProgress) -> str:
    if stage.done is None:
        return ''
    total = f'/{stage.total}' if stage.total is not None and stage.total != stage.done else ''
    return f'{stage.done}{total} {stage.unit}'


def _reuse(stage: StageProgress) -> str:
    if not stage.n_reused:
        return ''
    return 'reused' if stage.n_reused == stage.n_processes else f'{stage.n_reused} of {stage.n_processes} reused'


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02d}:{rest:02d}' if hours else f'{minutes}:{rest:02d}'
