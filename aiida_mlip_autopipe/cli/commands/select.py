"""``mlip-autopipe select``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiida_mlip_autopipe.cli.console import console, tell_errors
from aiida_mlip_autopipe.cli.trajectory_options import (
    descriptor_options,
    open_frames,
    settings,
    showing_progress,
)

if TYPE_CHECKING:
    from aiida_mlip_autopipe.science.frames.trajectories import TrajectoryFrames
    from aiida_mlip_autopipe.science.parameters import SamplingParameters
    from aiida_mlip_autopipe.science.sampling import Selection

__all__ = ['command']

ROWS_SHOWN = 30
COVERAGE = {
    'covering_radius': 'largest distance from the nearest pick',
    'mean_distance': 'mean distance from the nearest pick',
    'coverage': 'occupied bins of the components',
}


@click.command('select')
@descriptor_options
@click.option('-n', '--number', type=int, default=10, show_default=True, help='Number of frames to select.')
@click.option('--rule', metavar='NAME', default='i-optimal', show_default=True, help='Rule of selection.')
@click.option('--seed', type=int, default=0, show_default=True, help='Seed of all random numbers.')
@click.option(
    '-k', '--known', type=click.Path(path_type=Path), help='File of labelled frames, from which the picks keep away.'
)
@click.option(
    '-o',
    '--output',
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path('selected.extxyz'),
    show_default=True,
    help='File for the selected frames (extxyz).',
)
@click.option(
    '--figures', type=click.Path(path_type=Path, file_okay=False), help='Folder for figures of the selection.'
)
def command(
    files: tuple[Path, ...],
    number: int,
    rule: str,
    seed: int,
    known: Path | None,
    output: Path,
    figures: Path | None,
    **options: Any,
) -> None:
    """Select frames worth a label from FILE..., trajectories in any format that ASE reads. Needs no AiiDA.

    The rule and the descriptor are those of the pipeline. The picks keep what the file says of them and, in `info`,
    where they come from and how many frames each stands for (`represents`). Isolated atoms are not selected.

    \b
    mlip-autopipe select trajectory.extxyz --number 50 --output selected.extxyz
    """
    with tell_errors():
        from aiida_mlip_autopipe.config.sampling import sampling_parameters

        asked = settings(options) | {'n_to_select': number, 'selection': rule, 'random_seed': seed}
        parameters = sampling_parameters(asked)
        source = open_frames(files, options['elements'])
        if number > source.n_frames:
            raise ValueError(
                f'--number: {number} picks, but there are {source.n_frames} frames; select fewer, or give more frames'
            )
        started = time.monotonic()
        selection = _select(source, parameters, options['potential'], known)
        _write(selection, output, figures)
    _tell(source, selection, parameters)
    console.print(f'\n{len(selection.candidates)} frames in {output}, after {time.monotonic() - started:.1f} s')


def _select(
    source: TrajectoryFrames, parameters: SamplingParameters, potential: Path | None, known: Path | None
) -> Selection:
    from aiida_mlip_autopipe.science.frames import read_any
    from aiida_mlip_autopipe.science.sampling import select_frames

    labelled = read_any(known) if known is not None else []
    with showing_progress(source.n_frames) as progress:
        return select_frames(source, parameters, progress, potential, labelled)


def _write(selection: Selection, output: Path, figures: Path | None) -> None:
    from aiida_mlip_autopipe.science.frames import keep_results, write_extxyz
    from aiida_mlip_autopipe.science.sampling.figures import write_figures

    try:
        write_extxyz(output, [keep_results(atoms) for atoms in selection.candidates])
        if figures is not None:
            write_figures(selection.figures, figures)
    except OSError as error:
        raise ValueError(f'{error.filename} cannot be written: {error.strerror}') from error


def _tell(source: TrajectoryFrames, selection: Selection, parameters: SamplingParameters) -> None:
    """Print which frames were selected, what they cover beside other selections, and what was left out."""
    from rich.table import Table

    from aiida_mlip_autopipe.science.frames.trajectories import FROM_FILE, FROM_FRAME

    table = Table(box=None, pad_edge=False)
    for column in ('pick', 'file', 'frame', 'formula', 'reason', 'stands for'):
        table.add_column(column, justify='left' if column in ('file', 'formula', 'reason') else 'right')
    for rank, atoms in enumerate(selection.candidates[:ROWS_SHOWN], start=1):
        told = (atoms.info[name] for name in (FROM_FILE, FROM_FRAME, 'reason', 'represents'))
        file, frame, reason, represents = map(str, told)
        table.add_row(str(rank), Path(file).name, frame, atoms.get_chemical_formula(), reason, represents)
    console.print(table)
    if (more := len(selection.candidates) - ROWS_SHOWN) > 0:
        console.print(f'... and {more} more')
    console.print()
    console.print(_coverage(selection.report, parameters.selection))
    for line in _left_out(source, selection.report):
        console.print(line, soft_wrap=True)


def _coverage(report: dict[str, Any], rule: str) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column('in the reduced space')
    for column in (rule, 'at random', 'farthest points'):
        table.add_column(column, justify='right')
    for name, title in COVERAGE.items():
        values = [report[name + suffix] for suffix in ('', '_random', '_farthest')]
        table.add_row(title, *('-' if value is None else f'{value:.3g}' for value in values))
    return table


def _left_out(source: TrajectoryFrames, report: dict[str, Any]) -> list[str]:
    """Return a line for each reason why frames were not among those to choose from, or fewer were selected."""
    lines = [f'{n} of {report["n_frames"]} frames: {reason}' for reason, n in report['frames_masked'].items()]
    lines += [
        f'{n} of {report["n_frames"]} frames break limits.{limit}, and were left out'
        for limit, n in report['n_excluded'].items()
    ]
    if report['n_not_new']:
        lines.append(f'{report["n_not_new"]} frames are as good as known, and were left out')
    if source.n_isolated:
        lines.append(f'{source.n_isolated} isolated atoms were not among the frames to choose from')
    if report['n_shortfall']:
        lines.append(
            f'[yellow]Warning:[/] {report["n_selected"]} frames were selected, {report["n_shortfall"]} fewer than '
            f'asked for: there are {report["n_distinct"]} distinct ones to choose from'
        )
    return lines
