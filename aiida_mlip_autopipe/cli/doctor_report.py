"""What the doctor found, for a terminal: the facts as a table, then what to change."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

import yaml
from rich.table import Table
from rich.text import Text

from aiida_mlip_autopipe.cli.console import console

if TYPE_CHECKING:
    from aiida_mlip_autopipe.worker.advice import Suggestion
    from aiida_mlip_autopipe.worker.doctor import Report
    from aiida_mlip_autopipe.worker.probes import Cpu, Examined, Gpu, MdStep, Memory

__all__ = ['facts_table', 'print_report']


def print_report(report: Report, code: str, options: dict[str, object]) -> None:
    """Print facts, findings, and the lines for ``input.yaml``: the options of this job with what is suggested."""
    console.print(facts_table(report))
    console.print()
    for finding in report['findings']:
        line = Table.grid(padding=(0, 1))
        line.add_row('[yellow]![/]', Text(finding))
        console.print(line)
    if not report['findings']:
        console.print('No changes recommended.')
    text = yaml.safe_dump(_for_input(report['suggestion'], code, options), sort_keys=False, width=1000)
    console.print('\nFor input.yaml:')
    console.print(Text(textwrap.indent(text.rstrip(), '  ')), soft_wrap=True)


def facts_table(report: Report) -> Table:
    """Return what was found as a table; what could not be examined is in it with its message."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True, style='bold')
    table.add_column()
    for title, text in _rows(report):
        table.add_row(title, text)
    return table


def _rows(report: Report) -> Iterator[tuple[str, Text]]:
    failed, parts = dict(report['failed']), cast(dict[str, Any], report)
    for key, (title, words) in _PARTS.items():
        if key in parts:
            for number, text in enumerate(words(parts[key])):
                yield '' if number else title, Text(text)
        elif key in failed:
            yield title, Text(failed.pop(key), style='red')
    for number, step in enumerate(report['md_steps']):
        yield '' if number else 'MD step', Text(_md_step(step))
    for key, message in failed.items():
        yield key.replace('_', ' '), Text(message, style='red')


def _packages(versions: dict[str, str]) -> list[str]:
    there = [f'{name} {version}' for name, version in versions.items() if version != 'not installed']
    missing = [name for name, version in versions.items() if version == 'not installed']
    return [', '.join(there), *(['not installed: ' + ', '.join(missing)] if missing else [])]


def _cpu(cpu: Cpu) -> list[str]:
    return [f'{cpu["cores"]} of {cpu["cores_of_node"]} ({cpu["model"]})']


def _memory(memory: Memory) -> list[str]:
    limited_by = memory['limited_by']
    limit = f'{memory["limit_GiB"]:.1f} GiB ({limited_by}) of ' if limited_by else ''
    return [f'{limit}{memory["total_GiB"]:.1f} GiB']


def _gpu(gpu: Gpu) -> list[str]:
    built_for = f'torch for {gpu["torch_built_for"]}' if gpu['torch_built_for'] else 'torch for CPUs'
    if not gpu['cards']:
        return [f'none: {gpu["reason"]} ({built_for})']
    cards = [f'{one["name"]}, {one["memory_GiB"]:g} GiB' for one in gpu['cards']]
    driver = f', driver {gpu["driver"]}' if gpu['driver'] else ''
    return [*cards, f'{built_for}{driver}']


def _engine(engine: dict[str, str]) -> list[str]:
    return [f'{engine["engine"]} on {engine["device"]} ({engine["reason"]})']


def _disk(disk: dict[str, float]) -> list[str]:
    return [f'{disk["write_MB_per_s"]:g} MB/s written to the disk, {disk["free_GB"]:g} GB free']


def _potential(potential: Examined) -> list[str]:
    kinds = {'given': 'as given', 'untrained': 'untrained, built to measure the time of a step'}
    elements = ' '.join(potential['elements'][:8]) + (' ...' if len(potential['elements']) > 8 else '')
    size = f'{potential["n_parameters"]:,} parameters, r_max {potential["r_max"]:g} Å'
    return [f'{kinds[potential["kind"]]}: {size}, {elements}']


def _md_step(step: MdStep) -> str:
    return (
        f'{step["formula"]}: {step["ms_per_step"]:.3g} ms, {step["atom_steps_per_s"]:,.0f} atom-steps/s '
        f'({step["device"]}, {step["dtype"]}, a single replica)'
    )


#: The keys of the report: what they are called here, and how they are told.
_PARTS: dict[str, tuple[str, Callable[[Any], list[str]]]] = {
    'packages': ('packages', _packages),
    'cpu': ('cores', _cpu),
    'memory': ('memory', _memory),
    'gpu': ('GPU', _gpu),
    'engine': ('engine', _engine),
    'disk': ('disk', _disk),
    'potential': ('potential', _potential),
}


def _for_input(suggestion: Suggestion, code: str, options: dict[str, object]) -> dict[str, object]:
    """Return the code, and the options of this job with what is suggested put over them."""
    worker = {**options, **suggestion.get('options', {}).get('worker', {})}
    return {
        'codes': {'worker': code},
        **({'options': {'worker': worker}} if worker else {}),
        **{name: value for name, value in suggestion.items() if name != 'options'},
    }
