"""Benchmarks count CPU time, and end with tables that can be pasted into the documentation."""

import time
from collections.abc import Callable, Iterator

import pytest

TABLES = pytest.StashKey[dict[str, list[dict[str, object]]]]()


def pytest_configure(config: pytest.Config) -> None:
    """Count CPU time: what else runs on the machine matters less."""
    config.option.benchmark_timer = 'time.process_time'
    config.stash[TABLES] = {}


@pytest.fixture
def add_row(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Add a row, column by column, to the table of a title."""

    def add(title: str, **columns: object) -> None:
        request.config.stash[TABLES].setdefault(title, []).append(columns)

    return add


def cpu_time(function: Callable[[], object], rounds: int = 3) -> float:
    """Return the CPU time of a call in s: the best of some."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def _lines(rows: list[dict[str, object]]) -> Iterator[str]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    yield '| ' + ' | '.join(names) + ' |'
    yield '|' + '|'.join('---' if isinstance(rows[0].get(name), str) else '---:' for name in names) + '|'
    for row in rows:
        yield '| ' + ' | '.join(str(row.get(name, '')) for name in names) + ' |'


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the tables."""
    for title, rows in config.stash[TABLES].items():
        terminalreporter.section(title)
        for line in _lines(rows):
            terminalreporter.write_line(line)
