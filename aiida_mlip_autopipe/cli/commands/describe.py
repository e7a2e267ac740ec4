"""``mlip-autopipe describe``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from aiida_mlip_autopipe.cli.console import console, tell_errors, tell_size
from aiida_mlip_autopipe.cli.trajectory_options import (
    descriptor_options,
    open_frames,
    settings,
    showing_progress,
)

__all__ = ['command']


@click.command('describe')
@descriptor_options
@click.option('--per-atom', is_flag=True, help='A row for each atom, instead of the average over each frame.')
@click.option(
    '-o',
    '--output',
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path('descriptors.npz'),
    show_default=True,
    help='File for the descriptors: .npy for the rows alone, .npz with frame and element of each row.',
)
def command(
    files: tuple[Path, ...],
    per_atom: bool,
    output: Path,
    **options: Any,
) -> None:
    """Write descriptors of the frames of FILE..., in any format that ASE reads, to OUTPUT. Needs no AiiDA.

    Frames are read, described and written in chunks. Isolated atoms are passed over. A frame that cannot be described
    is a row of NaN, and is told.

    \b
    mlip-autopipe describe trajectory.extxyz --descriptor ace --per-atom --output descriptors.npz
    """
    with tell_errors():
        from aiida_mlip_autopipe.config.sampling import sampling_parameters
        from aiida_mlip_autopipe.science.sampling.describing import write_descriptors

        if output.suffix not in ('.npy', '.npz'):
            raise ValueError(f'--output: {output} is neither .npy nor .npz; give one of them')
        asked = settings(options)
        if others := sorted(set(asked) - {'descriptor'}):
            raise ValueError(f'--set {", ".join(others)}: not of the descriptor; its keys begin with descriptor.')
        parameters = sampling_parameters(asked).descriptor
        source = open_frames(files, options['elements'])
        started = time.monotonic()
        with showing_progress(source.n_frames) as progress:
            try:
                written = write_descriptors(
                    source, parameters, output, source.elements, per_atom, options['potential'], progress
                )
            except OSError as error:
                raise ValueError(f'{output} cannot be written: {error.strerror}') from error
    seconds = time.monotonic() - started
    rows, features = written.shape
    console.print(
        f'{output}: {rows} {"atoms" if per_atom else "frames"} x {features} features, float32, {written.unit}',
        soft_wrap=True,
    )
    console.print(
        f'{tell_size(4 * rows * features)} of rows in memory; {source.n_frames} frames of '
        f'{", ".join(written.elements)} in {seconds:.1f} s, {1e6 * seconds / source.n_atoms.sum():.3g} µs an atom',
        soft_wrap=True,
    )
    for reason, n_frames in written.masked.items():
        console.print(f'[yellow]Warning:[/] {n_frames} frames are rows of NaN: {reason}', soft_wrap=True)
    if source.n_isolated:
        console.print(f'{source.n_isolated} isolated atoms were passed over')
