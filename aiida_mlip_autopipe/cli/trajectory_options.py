"""What `select` and `describe` share: files of frames, a descriptor by options, progress. None of it needs AiiDA."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiida_mlip_autopipe.cli.console import console

if TYPE_CHECKING:
    from aiida_mlip_autopipe.science.frames.trajectories import TrajectoryFrames

__all__ = ['descriptor_options', 'open_frames', 'settings', 'showing_progress']

Command = Callable[..., Any]
Progress = Callable[[Mapping[str, object]], None]

_FILES = click.argument('files', metavar='FILE...', nargs=-1, required=True, type=click.Path(path_type=Path))
_OPTIONS = (
    click.option(
        '-d',
        '--descriptor',
        type=click.Choice(['soap', 'ace', 'mace']),
        default='soap',
        show_default=True,
        help='How a frame becomes a vector.',
    ),
    click.option('--r-cut', metavar='Å', help='Cutoff radius of soap and ace, in Å.'),
    click.option(
        '--n-max', metavar='N', help='Number of radial functions; of ace a list, one for each order: [8,4,2].'
    ),
    click.option('--l-max', metavar='L', help='Largest degree of the harmonics; of ace a list: [0,4,2].'),
    click.option(
        '--potential', type=click.Path(path_type=Path), help='MACE .model file, whose features are the descriptor mace.'
    ),
    click.option(
        '--elements', metavar='Si,O', help='The only elements that may occur; by default those of the frames.'
    ),
    click.option(
        '-s',
        '--set',
        'further',
        metavar='KEY=VALUE',
        multiple=True,
        help='Any other parameter, with its key in the section exploration of input.yaml: '
        '--set descriptor.sigma=0.4; may be given several times.',
    ),
)


def descriptor_options(command: Command) -> Command:
    """Add the files and the options of the descriptor to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return _FILES(command)


def settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the options of the descriptor say, as keys and values of the section ``exploration``.

    Raises
    ------
    ValueError
        If a setting is not KEY=VALUE, or comes twice; if there is a potential that the descriptor does not use.
    """
    if options['potential'] is not None and options['descriptor'] != 'mace':
        raise ValueError(f'--potential: the descriptor {options["descriptor"]} uses none; add -d mace, or leave it out')
    found: dict[str, Any] = {'descriptor': {'kind': options['descriptor']}}
    given = [(f'descriptor.{name}', options[name]) for name in ('r_cut', 'n_max', 'l_max') if options[name] is not None]
    for item in options['further']:
        key, equals, value = item.partition('=')
        if not key or not equals:
            raise ValueError(f'--set {item}: give a key and a value, such as --set descriptor.sigma=0.4')
        given.append((key.strip(), value))
    for key, value in given:
        *parents, name = key.split('.')
        section = found
        for parent in parents:
            section = section.setdefault(parent, {})
        if name in section and key != 'descriptor.kind':
            raise ValueError(f'{key} is given twice; give it once')
        section[name] = _plain(key, value)
    return found


def open_frames(files: Sequence[Path], elements: str | None) -> TrajectoryFrames:
    """Read all files once: how many frames, of which elements.

    Raises
    ------
    ValueError
        As `TrajectoryFrames`, or if ``elements`` names what is no element.
    """
    from ase.data import atomic_numbers

    from aiida_mlip_autopipe.science.frames.trajectories import TrajectoryFrames

    allowed = None if elements is None else [symbol.strip() for symbol in elements.split(',')]
    for symbol in allowed or ():
        if atomic_numbers.get(symbol, 0) < 1:
            raise ValueError(f'--elements: {symbol!r} is not an element; give symbols and commas, such as Si,O')
    with console.status('counting frames'):
        return TrajectoryFrames(files, allowed)


@contextlib.contextmanager
def showing_progress(n_frames: int) -> Iterator[Progress]:
    """Show on a terminal how many frames have been described; the bar is gone afterwards."""
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task('describing frames', total=n_frames)
        yield lambda state: bar.update(task, completed=int(str(state['frames_described'])))


def _plain(key: str, value: str) -> Any:
    """Return the value of a setting as YAML reads it."""
    from aiida_mlip_autopipe.config.loader import load_yaml

    return load_yaml(f'value: {value}', f'--set {key}={value}')['value']
