"""Faults on purpose: full disks, damaged files, potentials that yield no numbers; and what interrupted MD left."""

from __future__ import annotations

import errno
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from h5py import File

from aiida_mlip_autopipe.science.dynamics.recorder import Record
from aiida_mlip_autopipe.science.frames import iter_chunks

LIMIT_S = 600
"""Nothing waited for takes so long, however busy the machine is."""

STEPS, INTERVAL = 160, 2
EVERY = list(range(INTERVAL, STEPS + 1, INTERVAL))
MD = {
    'temperatures_K': [300, 500],
    'n_steps': STEPS,
    'sample_interval': INTERVAL,
    'timestep_fs': 1.0,
    'engine': 'ase',
    'device': 'cpu',
    'dtype': 'float64',
    'n_processes': 2,
    'checkpoint_interval_s': 0.02,
    'shard_megabytes': 0.001,
}
"""Two replicas of some seconds, with a checkpoint at every moment and 16 frames in each part.

In double precision, as the frames of an interrupted and an uninterrupted run are compared: they are stored in single
precision, where nothing is left of what libraries of linear algebra round otherwise from one process to another.
"""

TOLERANCE_A = 1e-6
"""Some units of the last place of a stored position; from one frame to the next it changes a thousand times as much."""

ENOUGH = 20
"""Frames after which a replica is in the middle: more than a part."""


def wait_for(event: Callable[[], Any], what: str) -> Any:
    """Return what an event gives as soon as it is true."""
    deadline = time.monotonic() + LIMIT_S
    while not (value := event()):
        if time.monotonic() > deadline:
            raise TimeoutError(f'{what}: not within {LIMIT_S} s')
        time.sleep(0.01)
    return value


def saved_frames(folder: Path) -> dict[int, int]:
    """Return how many frames the checkpoints in a folder count, for each replica."""
    records = {index: Record.read(folder, index) for index in range(2)}
    return {i: sum(part['n_frames'] for part in record.facts['parts']) for i, record in records.items() if record}


def in_the_middle(folder: Path) -> bool:
    """Return whether a replica is on its way."""
    return any(ENOUGH <= n < len(EVERY) for n in saved_frames(folder).values())


Frames = dict[int, tuple[list[int], np.ndarray]]


def frames_of(folder: Path) -> Frames:
    """Return steps and positions of all frames that a manifest counts, by replica."""
    found: dict[int, tuple[list[int], list[np.ndarray]]] = {}
    for chunk in iter_chunks([folder]):
        steps, positions = found.setdefault(chunk.shard['replica'], ([], []))
        steps += chunk.steps.tolist()
        positions.append(chunk.positions)
    return {replica: (steps, np.concatenate(positions)) for replica, (steps, positions) in found.items()}


def assert_all_of(folder: Path, whole: Frames) -> None:
    """Check that the frames in a folder are those of a whole run, each once."""
    assert {replica: steps for replica, (steps, _) in frames_of(folder).items()} == dict.fromkeys(whole, EVERY)
    assert_beginning_of(folder, whole)


def assert_beginning_of(folder: Path, whole: Frames) -> None:
    """Check that the frames in a folder are the first ones of each replica of a whole run, each once."""
    for replica, (steps, positions) in frames_of(folder).items():
        assert steps == EVERY[: len(steps)]
        np.testing.assert_allclose(positions, whole[replica][1][: len(steps)], rtol=0, atol=TOLERANCE_A)


def md_processes(worker: int) -> list[psutil.Process]:
    """Return the processes that run replicas for a worker."""
    return [child for child in psutil.Process(worker).children() if 'spawn_main' in ' '.join(child.cmdline())]


def has_pending(process: psutil.Process, signal_number: int) -> bool:
    """Return whether a signal waits for a stopped process."""
    status = Path(f'/proc/{process.pid}/status').read_text()
    pending = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith(('SigPnd:', 'ShdPnd:'))]
    return any(mask >> (signal_number - 1) & 1 for mask in pending)


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """Mount a file system of a few MB on a new folder."""
    if os.geteuid() != 0:
        raise PermissionError('a small file system cannot be mounted: only root may; run the tests as root')
    folder.mkdir()
    subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={megabytes}m', 'tmpfs', folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(['umount', '--lazy', folder], check=True)


def fill(disk: Path) -> None:
    """Write until no space is left."""
    try:
        with (disk / 'ballast').open('wb', buffering=0) as handle:
            while True:
                handle.write(bytes(65536))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


def flip_a_bit(shard: Path) -> None:
    """Change one bit of the positions in a shard."""
    with File(shard) as file:
        offset = file['particles/all/position/value'].id.get_chunk_info(0).byte_offset
    content = bytearray(shard.read_bytes())
    content[offset + 100] ^= 1
    shard.write_bytes(content)


def without_numbers(potential: Path, target: Path) -> Path:
    """Write a copy of a potential whose parameters are NaN."""
    import torch

    model = torch.load(potential, weights_only=False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(np.nan)
    torch.save(model, target)
    return target
