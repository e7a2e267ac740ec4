"""How fast the batched engine is: ``python tests/benchmarks/gpu_exploration.py [--device cuda] [--quick]``.

Silicon of 8, 64 and 216 atoms, 1 to 1024 replicas in a batch, in atom-steps per second; against ASE's own Langevin
dynamics with the same potential on the same device, one replica after the other. The time that the potential takes is
measured by events of the GPU around its calls, and on a CPU by the clock. Guards, frames and checkpoints are as in any
run. Prints a table in Markdown and writes the figures as JSON.

Without ``--potential`` an untrained MACE of the size of a foundation model is built: it is as fast as a trained one.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.md.langevin import Langevin

from aiida_mlip_autopipe.science.dynamics.batch.run import BatchRun
from aiida_mlip_autopipe.science.dynamics.batch.state import Batch, Slot
from aiida_mlip_autopipe.science.dynamics.recorder import Recorder
from aiida_mlip_autopipe.science.dynamics.replicas import ReplicaPlan
from aiida_mlip_autopipe.science.dynamics.stopping import Stop
from aiida_mlip_autopipe.science.parameters import DynamicsParameters
from aiida_mlip_autopipe.science.potential.batch import atoms_that_fit, fastest_model
from aiida_mlip_autopipe.science.potential.load import load_calculator, quiet, resolve_device
from tests.support.potentials import tiny_potential

CELLS = {8: 1, 64: 2, 216: 3}
REPLICAS = (1, 4, 16, 64, 256, 1024)
TARGETS = {8: 50.0, 64: 10.0}
"""Times the speed of ASE that the batch should reach, by the number of atoms."""

MODEL_SHARE = 0.9


def full_size_potential(folder: Path) -> Path:
    """Save an untrained MACE of two layers and 128 channels with max_L = 1, for silicon, that holds atoms apart."""
    with quiet():
        import mace.modules as modules
        from e3nn import o3
    torch.manual_seed(0)
    with quiet():
        model = modules.ScaleShiftMACE(
            r_max=5.0,
            num_bessel=8,
            num_polynomial_cutoff=5,
            max_ell=3,
            interaction_cls=modules.interaction_classes['RealAgnosticResidualInteractionBlock'],
            interaction_cls_first=modules.interaction_classes['RealAgnosticInteractionBlock'],
            num_interactions=2,
            num_elements=1,
            hidden_irreps=o3.Irreps('128x0e + 128x1o'),
            MLP_irreps=o3.Irreps('16x0e'),
            gate=torch.nn.functional.silu,
            atomic_energies=np.array([-1.0]),
            avg_num_neighbors=28.0,
            atomic_numbers=[14],
            correlation=3,
            radial_type='bessel',
            pair_repulsion=True,
            atomic_inter_scale=0.1,
            atomic_inter_shift=0.0,
        )
    path = folder / 'full-size.model'
    torch.save(model, path)
    return path


def silicon(n_atoms: int) -> Atoms:
    """Return a supercell with the info of a seed."""
    atoms = bulk('Si', cubic=True).repeat(CELLS[n_atoms])
    atoms.info = {'frame_id': 'seed-00000001', 'origin': 'seed-00000001'}
    return atoms


def wait_for(device: str) -> float:
    """Return the time once the device has done all it was given, in s."""
    if device == 'cuda':
        torch.cuda.synchronize()
    return time.perf_counter()


class Timed:
    """A potential whose calls are timed."""

    def __init__(self, model: Any) -> None:
        self._model, self.device, self.dtype = model, model.device, model.dtype
        self.calls: list[tuple[Any, Any]] = []

    def __call__(self, state: Any) -> Any:
        start = self._mark()
        output = self._model(state)
        self.calls.append((start, self._mark()))
        return output

    def _mark(self) -> Any:
        if self.device.type != 'cuda':
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self) -> float:
        """Return the time that the calls took, in s."""
        if self.device.type != 'cuda':
            return sum(end - start for start, end in self.calls)
        torch.cuda.synchronize()
        return sum(start.elapsed_time(end) for start, end in self.calls) / 1e3


class Clock(Stop):
    """Asked before each step: starts after the warm-up, stops the run after the steps that count."""

    def __init__(self, device: str, timed: Timed, warm_up: int, steps: int) -> None:
        super().__init__()
        self._device, self._timed = device, timed
        self._first, self._last = warm_up, warm_up + steps
        self._asked, self._start = 0, 0.0
        self.seconds = 0.0

    def now(self) -> bool:
        if self._asked == self._first:
            self._timed.calls.clear()
            self._start = wait_for(self._device)
        if self._asked == self._last:
            self.seconds = wait_for(self._device) - self._start
        self._asked += 1
        return self._asked > self._last


def ase_speed(potential: Path, dtype: str, device: str, n_atoms: int, warm_up: int, steps: int) -> float:
    """Return the atom-steps per second of one replica with ASE."""
    atoms = silicon(n_atoms)
    atoms.calc = load_calculator(potential, dtype, device)
    rng = np.random.default_rng(0)
    atoms.set_momenta(rng.normal(size=(n_atoms, 3)) * np.sqrt(atoms.get_masses()[:, None] * units.kB * 100))
    dynamics = Langevin(atoms, 1.0 * units.fs, temperature_K=100, friction=0.02 / units.fs, fixcm=False, rng=rng)
    dynamics.run(warm_up)
    start = wait_for(device)
    dynamics.run(steps)
    return n_atoms * steps / (wait_for(device) - start)


def batch_speed(
    model: Any, settings: DynamicsParameters, device: str, n_atoms: int, replicas: int, warm_up: int, steps: int
) -> dict[str, float]:
    """Return the atom-steps per second of a batch and the share of the potential in its time."""
    plan = ReplicaPlan([silicon(n_atoms)] * replicas, settings)
    timed = Timed(model)
    clock = Clock(device, timed, warm_up, steps)
    with tempfile.TemporaryDirectory() as folder:
        slots = [Slot(Recorder(plan, replica, Path(folder), 'torchsim'), 0) for replica in plan.replicas]
        run = BatchRun(timed, slots, settings, room=n_atoms * replicas, stop=clock)
        run.run()
    facts = run.facts()
    if not clock.seconds or facts['largest_batch'] != replicas or facts['batch_halvings']:
        raise MemoryError(f'{replicas} replicas of {n_atoms} atoms did not run as one batch to the end: {facts}')
    return {
        'atom_steps_per_s': n_atoms * replicas * steps / clock.seconds,
        'model_share': timed.seconds() / clock.seconds,
        'ms_per_step': clock.seconds / steps * 1e3,
    }


def measure(arguments: argparse.Namespace, potential: Path) -> dict[str, Any]:
    """Return all figures."""
    device = resolve_device(arguments.device)
    sizes, replicas = ((8, 64), (1, 8, 32)) if arguments.quick else (tuple(CELLS), REPLICAS)
    warm_up, steps = (3, 10) if arguments.quick else (20, 60)
    settings = DynamicsParameters(
        engine='torchsim', temperatures_K=[100], n_steps=10**6, sample_interval=20, timestep_fs=1.0,
        dtype=arguments.dtype, device=device, cuequivariance=arguments.cuequivariance, compile=arguments.compile,
    )  # fmt: skip
    rows, options = [], {}
    for n_atoms in sizes:
        alone = ase_speed(potential, arguments.dtype, device, n_atoms, warm_up, steps)
        with tempfile.TemporaryDirectory() as folder:
            plan = ReplicaPlan([silicon(n_atoms)], settings)
            slots = [Slot(Recorder(plan, plan.replicas[0], Path(folder), 'torchsim'), 0)] * max(1, 512 // n_atoms)
            probe = Batch.of(slots, settings.guards, device)
            model, options = fastest_model(potential, settings, device, probe)
            room = atoms_that_fit(model, settings, probe) if device == 'cuda' else 10**9
        for count in replicas:
            row: dict[str, Any] = {'n_atoms': n_atoms, 'replicas': count, 'ase_atom_steps_per_s': alone}
            if count * n_atoms <= room:
                row |= batch_speed(model, settings, device, n_atoms, count, warm_up, steps)
                row['times_ase'] = row['atom_steps_per_s'] / alone
            rows.append(row)
            print(line(row), flush=True)
    name = torch.cuda.get_device_name() if device == 'cuda' else f'CPU, {torch.get_num_threads()} thread(s)'
    packages = ('torch', 'mace-torch', 'torch-sim-atomistic', 'ase')
    versions = {'python': platform.python_version()} | {package: version(package) for package in packages}
    return {'device': name, 'dtype': arguments.dtype, 'options': options, 'versions': versions, 'rows': rows}


HEADER = (
    '| Atoms | Replicas | ASE (atom-steps/s) | Batch (atom-steps/s) | Times ASE | Potential (share) | ms a step |\n'
    '| ---: | ---: | ---: | ---: | ---: | ---: | ---: |'
)


def line(row: dict[str, Any]) -> str:
    """Return a row of the table."""
    start = f'| {row["n_atoms"]} | {row["replicas"]} | {row["ase_atom_steps_per_s"]:.3g} |'
    if 'times_ase' not in row:
        return f'{start} does not fit | | | |'
    return (
        f'{start} {row["atom_steps_per_s"]:.3g} | {row["times_ase"]:.1f} | {row["model_share"]:.0%} | '
        f'{row["ms_per_step"]:.1f} |'
    )


def verdict(result: dict[str, Any]) -> list[str]:
    """Return, for each target, what was reached."""
    lines = []
    for n_atoms, target in TARGETS.items():
        rows = [row for row in result['rows'] if row['n_atoms'] == n_atoms and 'times_ase' in row]
        best = max(rows, key=lambda row: row['times_ase'])
        lines.append(
            f'{n_atoms} atoms: {best["times_ase"]:.1f} times ASE with {best["replicas"]} replicas '
            f'(target {target:g}); the potential takes {best["model_share"]:.0%} of the time (target {MODEL_SHARE:.0%})'
        )
    return lines


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--device', choices=['auto', 'cuda', 'cpu'], default='auto')
    parser.add_argument('--dtype', choices=['float32', 'float64'], default='float32')
    parser.add_argument('--potential', type=Path, help='a MACE .model file that knows silicon')
    parser.add_argument('--cuequivariance', action='store_true')
    parser.add_argument('--compile', action='store_true')
    parser.add_argument('--quick', action='store_true', help='few sizes and steps with a tiny potential: does it work?')
    parser.add_argument('--output', type=Path, default=Path('gpu_exploration.json'))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        build = tiny_potential if arguments.quick else full_size_potential
        potential = arguments.potential or build(Path(folder))
        print(HEADER)
        result = measure(arguments, potential)
    print(f'\n{result["device"]}, {result["dtype"]}, {"tiny" if arguments.quick else "full-size"} potential')
    print('\n'.join(verdict(result)))
    arguments.output.write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')
    print(f'written to {arguments.output}')


if __name__ == '__main__':
    main()
