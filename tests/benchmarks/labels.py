"""What AiiDA costs per label: a stand-in for pw.x through a real daemon with one worker, one by one and in batches.

``OMP_NUM_THREADS=1 python -m tests.benchmarks.labels --labels 300 --batch-size 50 --slots 200``

The stand-in repeats the files of one real run of two atoms, so what is measured is the daemon's worker: its CPU time
per label, and its memory at the start, halfway and at the end. The profile is one of its own, on tmpfs where there is
one, and removed at the end. With 10 slots there is room for three sequences, with 200 for sixteen, and a batch is as
large as the share of a sequence allows. With ``--bare`` AiiDA's PwBaseWorkChain is submitted for each candidate without
anything of ours around it: what is left to gain.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from ase import Atoms
from ase.build import bulk

from tests.support.pw_stand_in import write_stand_in

PROFILE, SLOTS_OF_A_STAGE, SLOTS_PER_SEQUENCE, MOST_SEQUENCES, MIB = 'labels', 1, 3, 16, 1024**2
OPTIONS = {'resources': {'num_machines': 1, 'num_mpiprocs_per_machine': 1}, 'withmpi': False}
LEVEL = {'ecutwfc_Ry': 12, 'ecutrho_Ry': 48, 'kpoints_distance': 1.5}


@dataclass
class Worker:
    """The daemon's worker: its CPU time since the start of the measurement, and its memory."""

    process: psutil.Process
    memory_MiB: list[float] = field(default_factory=list)

    def cpu_seconds(self) -> float:
        """Return the CPU time of the process itself, without the jobs that it starts."""
        times = self.process.cpu_times()
        return times.user + times.system

    def look(self) -> None:
        """Note the memory."""
        self.memory_MiB.append(self.process.memory_info().rss / MIB)


def displaced_silicon(n_frames: int) -> list[Atoms]:
    """Return cells of two atoms, each displaced a little differently."""
    frames = []
    for number in range(n_frames):
        atoms = bulk('Si', 'diamond', a=5.43)
        atoms.positions[1] += 1e-4 * number
        atoms.info.update(frame_id=f'frame-{number}', origin='frame', config_type='candidate')
        frames.append(atoms)
    return frames


def start_worker(folder: Path, n_slots: int) -> Worker:
    """Make the profile with the stand-in as its pw.x, and start its daemon with one worker."""
    from aiida import load_profile
    from aiida.engine.daemon.client import get_daemon_client
    from aiida.manage.configuration import get_config

    command = Path(sys.executable).with_name('mlip-autopipe')
    init = [command, '--profile', PROFILE, 'init', '--yes', '--workers', '1', '--pw', write_stand_in(folder)]
    subprocess.run(list(map(str, init)), check=True, stdout=subprocess.DEVNULL)
    load_profile(PROFILE)
    client = get_daemon_client(PROFILE)
    client.stop_daemon(wait=True, timeout=60)
    config = get_config()
    config.set_option('daemon.worker_process_slots', n_slots, scope=PROFILE)
    config.store()
    client.start_daemon(number_workers=1, timeout=60)
    (pid,) = map(int, client.get_worker_info()['info'])
    return Worker(psutil.Process(pid))


def measure(n_labels: int, batch_size: int, n_slots: int, folder: Path, bare: bool) -> dict[str, Any]:
    """Label; return what it cost the worker."""
    worker = start_worker(folder, n_slots)
    from aiida import orm
    from aiida.engine import submit
    from aiida.orm import load_code

    from aiida_mlip_autopipe.data import FramesData
    from aiida_mlip_autopipe.labelling.espresso.family import load_family
    from aiida_mlip_autopipe.labelling.espresso.parameters import EspressoParameters
    from aiida_mlip_autopipe.provenance.states import CandidateState, count_states
    from aiida_mlip_autopipe.workflows.labelling.engine import LabellingEngineWorkChain

    n_sequences = min(MOST_SEQUENCES, (n_slots - SLOTS_OF_A_STAGE) // SLOTS_PER_SEQUENCE)
    labelling = EspressoParameters(**LEVEL, batch_size=batch_size, max_concurrent=n_sequences)
    pseudos = {'Si': load_family(labelling.pseudo_family).get_pseudo('Si')}
    inputs = {
        'candidates': FramesData.from_atoms(displaced_silicon(n_labels)).store(),
        'parameters': orm.Dict(labelling.model_dump(mode='json')).store(),
    }
    time.sleep(5)
    started, before = time.monotonic(), worker.cpu_seconds()
    worker.look()
    if bare:
        label_bare(inputs, pseudos, n_sequences)
        return row_of(n_labels, 'bare', n_slots, n_sequences, worker.cpu_seconds() - before, started, worker)
    stage = submit(
        LabellingEngineWorkChain,
        **inputs,
        labelling={'code': load_code('pw@localhost'), 'pseudo_Si': pseudos['Si']},
        options=OPTIONS,
    )
    while not stage.is_terminated:
        time.sleep(1)
        done = count_states(stage.pk, n_labels)[CandidateState.LABELLED]
        if len(worker.memory_MiB) == 1 and done >= n_labels / 2:
            worker.look()
    assert stage.is_finished_ok, stage.exit_message
    assert stage.outputs.labelled.n_frames == n_labels
    return row_of(n_labels, batch_size, n_slots, n_sequences, worker.cpu_seconds() - before, started, worker)


def label_bare(inputs: dict[str, Any], pseudos: dict[str, Any], n_sequences: int) -> None:
    """Submit a PwBaseWorkChain for each candidate, as many side by side as there are sequences, and wait for all."""
    from aiida import orm
    from aiida.engine import submit
    from aiida_quantumespresso.workflows.pw.base import PwBaseWorkChain

    from aiida_mlip_autopipe.calculations.functions.label import pick_structure

    given = {'candidates': inputs['candidates'], 'parameters': inputs['parameters'], 'node_pseudo_Si': pseudos['Si']}
    nodes: list[orm.WorkChainNode] = []
    for index in range(inputs['candidates'].n_frames):
        picked = pick_structure(index=orm.Int(index), **given)
        pw = {
            'code': orm.load_code('pw@localhost'),
            'structure': picked['structure'],
            'parameters': picked['parameters'],
            'pseudos': pseudos,
            'metadata': {'options': OPTIONS},
        }
        while sum(not node.is_terminated for node in nodes) >= n_sequences:
            time.sleep(0.2)
        nodes.append(submit(PwBaseWorkChain, pw=pw, kpoints=picked['kpoints'], clean_workdir=orm.Bool(True)))
    while not all(node.is_terminated for node in nodes):
        time.sleep(0.5)
    assert all(node.is_finished_ok for node in nodes)


def row_of(
    n_labels: int, batch_size: int | str, n_slots: int, n_sequences: int, cpu_s: float, started: float, worker: Worker
) -> dict[str, Any]:
    """Return the row of the table."""
    from aiida import orm

    worker.look()
    memory = ' / '.join(f'{value:.0f}' for value in worker.memory_MiB)
    nodes = orm.QueryBuilder().append(orm.Node).count()
    return {
        'labels': n_labels,
        'batch': batch_size,
        'slots': n_slots,
        'sequences': n_sequences,
        'CPU s / label': f'{cpu_s / n_labels:.3f}',
        'wall s': f'{time.monotonic() - started:.0f}',
        'worker MiB': memory,
        'nodes / label': f'{nodes / n_labels:.1f}',
    }


def main() -> None:
    """Measure in a profile of its own and print a row of a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--labels', type=int, default=300)
    parser.add_argument('--batch-size', type=int, default=1)
    parser.add_argument('--slots', type=int, default=200)
    parser.add_argument('--bare', action='store_true', help='PwBaseWorkChain alone')
    arguments = parser.parse_args()
    tmpfs = Path('/dev/shm')
    with tempfile.TemporaryDirectory(dir=tmpfs if tmpfs.is_dir() else None) as name:
        os.environ['AIIDA_PATH'] = name
        os.environ['PATH'] = os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']])
        folder = Path(name) / 'stand-in'
        folder.mkdir()
        try:
            row = measure(arguments.labels, arguments.batch_size, arguments.slots, folder, arguments.bare)
        finally:
            subprocess.run(['verdi', '-p', PROFILE, 'daemon', 'stop'], stdout=subprocess.DEVNULL, check=False)
    print('| ' + ' | '.join(row) + ' |')
    print('|' + '---:|' * len(row))
    print('| ' + ' | '.join(map(str, row.values())) + ' |')


if __name__ == '__main__':
    main()
