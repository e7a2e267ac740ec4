"""A million frames of 64 silicon atoms: written, described and sampled; time, memory and disk of each step.

``OMP_NUM_THREADS=1 python -m tests.benchmarks.million_frames --frames 1000000`` prints a table.

Two jobs of twenty replicas, each with a strain, a temperature and a seed of its own, are written as an MD job writes
them, and a thousand candidates selected as the worker does, by a small SOAP. Writing and selecting run in a process
each. Memory is the largest that its process ever took, interpreter and libraries included. All files are removed.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .thermal_frames import silicon, thermal_blocks

N_JOBS, REPLICAS, N_TO_SELECT = 2, 20, 1000
TEMPERATURES_K, STRAINS = (150.0, 300.0, 600.0, 1200.0), (-0.04, -0.02, 0.0, 0.02, 0.04)
DESCRIPTOR = {'kind': 'soap', 'r_cut': 5.0, 'n_max': 6, 'l_max': 4, 'average': 'inner'}


def replica_frames(job: int, replica: int, n_frames: int) -> Iterator[tuple[Any, ...]]:
    """Yield the frames of a replica as the writer takes them."""
    atoms, temperature_K = silicon(2), TEMPERATURES_K[replica % len(TEMPERATURES_K)]
    conditions = {'temperature_K': temperature_K, 'strain': STRAINS[replica // len(TEMPERATURES_K)]}
    scalars = np.random.default_rng((1, job, replica))
    step = 0
    for positions, cell in thermal_blocks(atoms, n_frames, **conditions, random_seed=REPLICAS * job + replica):
        energies = scalars.normal(scale=0.5, size=len(positions))
        temperatures = scalars.normal(temperature_K, temperature_K / 10, size=len(positions))
        for frame, energy, temperature in zip(positions, energies, temperatures, strict=True):
            yield step, frame, cell, energy, temperature, 2.0
            step += 20


def write(folder: Path, n_frames: int) -> dict[str, dict[str, float]]:
    """Write all jobs."""
    from tests.support.md_job import write_md_job

    each = n_frames // (N_JOBS * REPLICAS)
    for job in range(N_JOBS):
        replicas = ((silicon(2), replica_frames(job, replica, each)) for replica in range(REPLICAS))
        write_md_job(folder / f'md_{job}', f'job{job:05d}', replicas)
    return {'write': taken(folder)}


def select(folder: Path, n_frames: int) -> dict[str, dict[str, float]]:
    """Describe all frames and select, with the descriptors in a file as the worker has them."""
    from aiida_mlip_autopipe.science.parameters import SamplingParameters
    from aiida_mlip_autopipe.science.sampling import select_candidates

    steps: dict[str, dict[str, float]] = {}

    def tell(state: dict[str, Any]) -> None:
        if state['frames_described'] == state['frames_total']:
            steps['describe'] = taken(folder)

    parameters = SamplingParameters(n_to_select=N_TO_SELECT, descriptor=DESCRIPTOR)
    folders = [folder / f'md_{job}' for job in range(N_JOBS)]
    selection = select_candidates(folders, parameters, tell, scratch=folder)
    steps['select'] = taken(folder)
    if len(selection.candidates) != N_TO_SELECT or selection.report['n_frames'] != n_frames:
        raise SystemExit(f'{len(selection.candidates)} of {selection.report["n_frames"]} frames were selected')
    return steps


def taken(folder: Path) -> dict[str, float]:
    """Return what was taken so far: wall and CPU time of the process in s, its peak memory and the disk in MB."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        'wall': time.perf_counter(),
        'cpu': time.process_time(),
        'memory': usage.ru_maxrss / 1024,
        'disk': sum(path.stat().st_size for path in folder.rglob('*') if path.is_file()) / 1e6,
    }


STEPS = {'write': write, 'select': select}


def run(step: str, folder: Path, n_frames: int) -> dict[str, dict[str, float]]:
    """Run a step in a process of its own."""
    command = [sys.executable, '-m', 'tests.benchmarks.million_frames', '--frames', str(n_frames), '--step', step]
    done = subprocess.run(
        [*command, '--folder', str(folder)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def main() -> None:
    """Run all steps, or one of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--frames', type=int, default=20_000)
    parser.add_argument('--folder', type=Path, help='where the files go; a temporary folder unless given')
    parser.add_argument('--step', choices=STEPS)
    arguments = parser.parse_args()
    n_frames = arguments.frames - arguments.frames % (N_JOBS * REPLICAS)
    if arguments.step:
        start = taken(arguments.folder)
        steps = STEPS[arguments.step](arguments.folder, n_frames)
        for step in steps.values():
            step['wall'], step['cpu'] = step['wall'] - start['wall'], step['cpu'] - start['cpu']
        print(json.dumps(steps))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        written = run('write', Path(name), n_frames)
        selected = run('select', Path(name), n_frames)
    selected['select'] |= {kind: selected['select'][kind] - selected['describe'][kind] for kind in ('wall', 'cpu')}
    print(f'{n_frames} frames of 64 atoms, {N_TO_SELECT} candidates')
    print('| step | wall time (s) | CPU time (s) | peak memory (MB) | disk (MB) |\n|---|---:|---:|---:|---:|')
    for name, step in {**written, **selected}.items():
        print(f'| {name} | {step["wall"]:.0f} | {step["cpu"]:.0f} | {step["memory"]:.0f} | {step["disk"]:.0f} |')


if __name__ == '__main__':
    main()
