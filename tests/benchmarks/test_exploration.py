"""Molecular dynamics on CPUs: what the engine adds to the force calls, and replicas side by side. No time is asserted.

``OMP_NUM_THREADS=1 pytest tests/benchmarks -k exploration``
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.constraints import FixCom
from ase.md.langevin import Langevin
from ase.md.nose_hoover_chain import IsotropicMTKNPT

from aiida_mlip_autopipe.science.dynamics import ReplicaPlan
from aiida_mlip_autopipe.science.dynamics.ase.trajectory import run_dynamics
from aiida_mlip_autopipe.science.dynamics.recorder import Recorder
from aiida_mlip_autopipe.science.parameters import DynamicsParameters
from aiida_mlip_autopipe.science.potential.load import load_calculator

POTENTIAL = Path(__file__).parents[2] / 'examples/silicon/silicon.model'
TIMESTEP_FS, FRICTION_PER_FS = 2.0, 0.02


def silicon(repeat: int) -> Atoms:
    """Return a cell of silicon, 8 atoms times the cube of ``repeat``, with the info of a seed."""
    atoms = bulk('Si', cubic=True) * (repeat, repeat, repeat)
    atoms.info['frame_id'] = 'seed-00000001'
    return atoms


class Clock:
    """Counts the CPU time of a calculator's force calls."""

    def __init__(self, calculator: Any) -> None:
        self.seconds, self._calculate = 0.0, calculator.calculate
        calculator.calculate = self

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        start = time.process_time()
        self._calculate(*args, **kwargs)
        self.seconds += time.process_time() - start


def share_outside(run: Any, clock: Clock) -> float:
    """Return the CPU time that a run spends outside of the force calls, over that inside."""
    clock.seconds = 0.0
    start = time.process_time()
    run()
    return (time.process_time() - start - clock.seconds) / clock.seconds


def plain_ase(atoms: Atoms, ensemble: str, n_steps: int) -> None:
    """Run ASE's integrator and nothing else."""
    rng = np.random.default_rng(0)
    atoms.set_momenta(rng.normal(size=(len(atoms), 3)) * np.sqrt(atoms.get_masses()[:, None] * units.kB * 600))
    timestep = TIMESTEP_FS * units.fs
    dynamics: Any
    if ensemble == 'nvt':
        atoms.set_constraint(FixCom())
        friction = FRICTION_PER_FS / units.fs
        dynamics = Langevin(atoms, timestep, temperature_K=300, friction=friction, fixcm=False, rng=rng)
    else:
        dynamics = IsotropicMTKNPT(
            atoms, timestep, temperature_K=300, pressure_au=0.0, tdamp=100 * units.fs, pdamp=500 * units.fs
        )
    for _ in range(n_steps):
        dynamics.step()


@pytest.mark.parametrize('sample_interval', [20, 1])
@pytest.mark.parametrize('ensemble', ['nvt', 'npt'])
@pytest.mark.parametrize('repeat', [1, 2])
def test_overhead(benchmark, add_row, tmp_path, repeat: int, ensemble: str, sample_interval: int):
    """CPU time outside of the force calls: of the engine with guards, frames and checkpoints, and of ASE alone.

    The two take turns, and each is compared with its own force calls: what else runs on the machine cancels out.
    """
    atoms, n_steps = silicon(repeat), 60
    calculator = load_calculator(POTENTIAL, 'float32', 'cpu')
    clock = Clock(calculator)
    parameters = DynamicsParameters(
        ensemble=ensemble,
        n_steps=n_steps,
        sample_interval=sample_interval,
        timestep_fs=TIMESTEP_FS,
        checkpoint_interval_s=5.0,
    )
    plan = ReplicaPlan([atoms], parameters)

    def engine(folder: Path) -> None:
        run_dynamics(Recorder(plan, plan.replicas[0], folder, 'ase'), calculator, parameters)

    def alone() -> None:
        moving = atoms.copy()
        moving.calc = calculator
        plain_ase(moving, ensemble, n_steps)

    engine(tmp_path / 'first')  # imports, compilation
    shares = np.array(
        [(share_outside(lambda n=n: engine(tmp_path / f'{n}'), clock), share_outside(alone, clock)) for n in range(3)]
    )
    ours, theirs = np.median(shares, axis=0)
    benchmark.pedantic(lambda: share_outside(lambda: engine(tmp_path / 'last'), clock), rounds=1)
    add_row(
        'Engine ase: CPU time outside of the force calls, in % of them',
        **{
            'structure': f'Si, {len(atoms)} atoms',
            'ensemble': ensemble,
            'a frame each': f'{sample_interval} steps',
            'force call (ms)': f'{1e3 * clock.seconds / (n_steps + 1):.1f}',
            'ASE alone': f'{100 * theirs:.1f}',
            'engine': f'{100 * ours:.1f}',
            'overhead over ASE alone': f'{100 * ((1 + ours) / (1 + theirs) - 1):.1f}',
        },
    )


ALONE = """
import sys, time
from pathlib import Path
from aiida_mlip_autopipe.science.potential.load import load_calculator
from tests.benchmarks.test_exploration import POTENTIAL, plain_ase, silicon

calculator = load_calculator(POTENTIAL, 'float32', 'cpu')
n_replicas, n_steps, interval = map(int, sys.argv[1:])
times = []
for replica in range(n_replicas + 1):
    atoms = silicon(2)
    atoms.calc = calculator
    started = time.perf_counter(), time.process_time()
    plain_ase(atoms, 'nvt', n_steps if replica else 5)
    times.append((time.perf_counter() - started[0], time.process_time() - started[1]))
frames = n_replicas * n_steps / interval
print(*(frames / sum(each[kind] for each in times[1:]) for kind in (0, 1)))
"""

SIDE_BY_SIDE = """
import sys, tempfile, time
from pathlib import Path
import psutil
from aiida_mlip_autopipe.science.dynamics import run_replicas
from aiida_mlip_autopipe.science.parameters import DynamicsParameters
from tests.benchmarks.test_exploration import POTENTIAL, silicon

def progress(state):
    if seen and time.perf_counter() - seen[-1][1] < 1:  # counting takes time too
        return
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    cpu = sum(sum(process.cpu_times()[:2]) for process in family)
    seen.append((state['frames'], time.perf_counter(), cpu))

if __name__ == '__main__':
    seen = []
    n_replicas, n_steps, interval = map(int, sys.argv[1:])
    parameters = DynamicsParameters(temperatures_K=[300.0] * n_replicas, n_steps=n_steps, sample_interval=interval,
                                    engine='ase', device='cpu', n_processes=2)
    with tempfile.TemporaryDirectory() as folder:
        run_replicas(POTENTIAL, [silicon(2)], parameters, Path(folder), md_job='aaaaaaaa', progress=progress)
    total = n_replicas * n_steps / interval
    middle = [each for each in seen if 0.25 * total <= each[0] <= 0.85 * total]  # both processes are at work
    frames, *spent = (last - first for first, last in zip(middle[0], middle[-1]))
    print(*(frames / each for each in spent))
"""


def frames_per_second(folder: Path, script: str, n_threads: int) -> tuple[float, float]:
    """Run a script with replicas of silicon; return its frames for each second of wall time and of CPU time."""
    path = folder / 'script.py'
    path.write_text(script)
    environment = {**os.environ, 'OMP_NUM_THREADS': str(n_threads), 'PYTHONPATH': os.pathsep.join(sys.path)}
    command = [sys.executable, str(path), '4', '200', '2']
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    wall, cpu = output.split()[-2:]
    return float(wall), float(cpu)


def test_side_by_side(benchmark, add_row, tmp_path):
    """Frames per second of 4 replicas of 64 atoms: one after the other with ASE alone, and two side by side.

    The runs take turns; medians of three. On a busy machine, see the CPU time.
    """
    rates: dict[str, list[tuple[float, float]]] = {}
    cases = {
        'ASE alone, one thread': (ALONE, 1),
        'ASE alone, two threads': (ALONE, 2),
        'engine ase, two processes': (SIDE_BY_SIDE, 1),
    }

    def take_turns() -> None:
        for name, (script, n_threads) in cases.items():
            rates.setdefault(name, []).append(frames_per_second(tmp_path, script, n_threads))

    benchmark.pedantic(take_turns, rounds=3)
    first_wall = [wall for wall, _ in rates['ASE alone, one thread']]
    for name, each in rates.items():
        wall, cpu = (median(column) for column in zip(*each, strict=True))
        add_row(
            'Replicas of Si, 64 atoms, on two cores',
            **{
                'run': name,
                'frames/s (wall)': f'{wall:.2f}',
                'frames/s of CPU time': f'{cpu:.2f}',
                'speed-up (wall)': f'{median(w / f for (w, _), f in zip(each, first_wall, strict=True)):.2f}',
            },
        )
