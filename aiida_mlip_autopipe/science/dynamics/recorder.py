"""One replica's way to the disk: its frames, its checkpoints, and what is said of it in the end.

A checkpoint is one file, ``checkpoints/rNNN.npz``, replaced in one go: the state of the integrator as the engine gave
it, what the replica has shown so far, and which frames of its shards belong to it. Frames that were written after the
last checkpoint of a killed job are not counted: the replica goes on from the checkpoint and makes them again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from aiida_mlip_autopipe.science.dynamics.novelty import Novelty
from aiida_mlip_autopipe.science.frames import GuardEntry, structure_hash
from aiida_mlip_autopipe.science.frames.carried import carried_arrays
from aiida_mlip_autopipe.science.frames.records import PartEntry
from aiida_mlip_autopipe.science.frames.shards import ShardWriter, first_frames

if TYPE_CHECKING:
    from aiida_mlip_autopipe.science.dynamics.guards import GuardTripped
    from aiida_mlip_autopipe.science.dynamics.replicas import Replica, ReplicaPlan

__all__ = ['Facts', 'Record', 'Recorder', 'ReplicaEnd', 'checkpoint_path', 'run_fingerprint']

log = logging.getLogger(__name__)

OF_NO_EFFECT = {'n_processes', 'max_batch_atoms', 'checkpoint_interval_s', 'shard_megabytes', 'device', 'engine'}
"""Parameters that may change from one job to the next without making it another run."""

Arrays = Mapping[str, np.ndarray]


def checkpoint_path(folder: Path, replica: int) -> Path:
    """Return the path of a replica's checkpoint in the folder of a job."""
    return folder / 'checkpoints' / f'r{replica:03d}.npz'


def run_fingerprint(plan: ReplicaPlan, replica: Replica, engine: str) -> str:
    """Return a name of what a replica computes with an engine (and its potentials, if the name tells them).

    A checkpoint of anything else is no start for it.
    """
    seed = plan.seeds[replica.seed_index]
    parts = {
        'parameters': plan.parameters.model_dump(mode='json', exclude=OF_NO_EFFECT),
        'seed': structure_hash(seed),
        'replica': vars(replica),
        'engine': engine,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class Facts(TypedDict, total=False):
    """What a checkpoint says in words and numbers; ``closed``: whether the parts are whole files.

    ``checkpoint``, its step and frames, is there where later frames are counted, and None where there was none.
    """

    fingerprint: str
    parts: list[PartEntry]
    step: int
    ended: str
    guard: GuardEntry | None
    closed: bool
    checkpoint: dict[str, int] | None


class ReplicaEnd(TypedDict):
    """How a replica ended: as `Recorder.end` was told, and the frames that it kept."""

    replica: int
    n_frames: int
    ended: str
    guard: GuardEntry | None


class Record:
    """What the checkpoint of a replica says.

    Attributes
    ----------
    facts : dict
    state, novelty : dict of ndarray
        Of the integrator and of `Novelty`.
    """

    def __init__(self, facts: Facts, state: Arrays, novelty: Arrays) -> None:
        self.facts = facts
        self.state = dict(state)
        self.novelty = dict(novelty)

    @classmethod
    def read(cls, folder: Path, replica: int) -> Record | None:
        """Return the record of a replica, or None if it left none or a damaged one.

        Raises
        ------
        OSError
            If the file is there and the disk does not let it be read.
        """
        path = checkpoint_path(folder, replica)
        try:
            with np.load(path, allow_pickle=False) as file:
                content = {name: file[name] for name in file.files}
            facts = json.loads(str(content.pop('facts')))
            if facts.pop('arrays') != sorted(content):
                raise ValueError('it has lost some of its arrays')
        except FileNotFoundError:
            return None
        except Exception as error:  # a damaged archive fails in many ways
            if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
                raise
            log.warning('the checkpoint %s is not used, as it cannot be read: %s', path, error)
            return None
        return cls(
            facts,
            {name.removeprefix('state.'): array for name, array in content.items() if name.startswith('state.')},
            {name.removeprefix('novelty.'): array for name, array in content.items() if name.startswith('novelty.')},
        )

    def write(self, folder: Path, replica: int) -> None:
        """Write the record in one go."""
        path = checkpoint_path(folder, replica)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f'.{path.name}')
        arrays = {f'state.{name}': array for name, array in self.state.items()}
        arrays |= {f'novelty.{name}': array for name, array in self.novelty.items()}
        with partial.open('wb') as handle:
            facts = json.dumps({**self.facts, 'arrays': sorted(arrays)})
            np.savez(handle, facts=np.array(facts), **arrays)  # type: ignore[arg-type]
        partial.replace(path)


class Recorder:
    """What an engine hands the frames of one replica to.

    Parameters
    ----------
    plan : ReplicaPlan
        Gives the starting structure and the parameters.
    replica : Replica
        Which one.
    folder : Path
        Folder of the job. A record found there is gone on from.
    engine : str
        Name of the engine, and of its potentials where another run could have other ones.
    on_frame : callable, optional
        Called with the index of the replica after each frame.

    Attributes
    ----------
    atoms : Atoms
        Starting structure.
    resumed : tuple or None
        Step and state of the integrator to go on from.
    energy_eV : float or None
        The energy per atom, in eV, that the guards compare with, where a replica goes on.
    """

    def __init__(
        self,
        plan: ReplicaPlan,
        replica: Replica,
        folder: Path,
        engine: str,
        on_frame: Callable[[int], None] | None = None,
    ) -> None:
        parameters = plan.parameters
        self.replica = replica
        self.atoms = plan.atoms(replica)
        self._folder = folder
        self._on_frame = on_frame
        self._interval_s = parameters.checkpoint_interval_s
        self._n_drop = parameters.guards.n_drop
        self._fingerprint = run_fingerprint(plan, replica, engine)
        self._next = time.monotonic() + self._interval_s
        record = Record.read(folder, replica.index)
        self.resumed = (int(record.facts['step']), record.state) if record is not None else None
        self._record = record or Record({}, {}, {})
        self._novelty = Novelty(self.atoms, parameters.early_stop, self._record.novelty)
        self._writer = ShardWriter(
            folder,
            replica.index,
            self.atoms.numbers,
            self.atoms.pbc,
            parameters.timestep_fs,
            max_megabytes=parameters.shard_megabytes,
            parts=self._record.facts.get('parts', ()),
            carried=carried_arrays(self.atoms),
        )

    @property
    def n_frames(self) -> int:
        """Frames so far, those of earlier jobs included."""
        return self._writer.n_frames

    def frame(
        self,
        step: int,
        positions: np.ndarray,
        cell: np.ndarray,
        energy: float,
        temperature: float,
        max_force: float,
        disagreement: float = float('nan'),
    ) -> bool:
        """Take a frame.

        Parameters
        ----------
        step : int
            Step of the replica.
        positions : ndarray, shape (N, 3)
            In Å.
        cell : ndarray, shape (3, 3)
            In Å.
        energy, temperature, max_force, disagreement : float
            In eV, K, eV/Å and eV/Å.

        Returns
        -------
        bool
            Whether to go on: False once the replica has shown nothing new for long.
        """
        self._writer.append(step, positions, cell, energy, temperature, max_force, disagreement)
        if self._on_frame is not None:
            self._on_frame(self.replica.index)
        return not self._novelty.exhausted(positions, cell, disagreement)

    def checkpoint_due(self) -> bool:
        """Return whether the last checkpoint is old enough for another."""
        return time.monotonic() >= self._next

    def checkpoint(self, step: int, state: Arrays) -> None:
        """Bring all frames to the disk, then the state from which the replica can go on.

        Parameters
        ----------
        step : int
            Last step done; negative during equilibration.
        state : dict of ndarray
            Whatever the engine needs.
        """
        self._writer.flush()
        self._record.state = dict(state)
        self._record.novelty = self._novelty.state()
        self._save(step, self._writer.parts, closed=False)
        self._next = time.monotonic() + self._interval_s

    def end(self, how: str, step: int, guard: GuardTripped | None = None) -> ReplicaEnd:
        """Close the shards and note how the replica ended.

        Parameters
        ----------
        how : str
            ``completed``, ``guard``, ``nothing_new``; or ``interrupted``, just after a checkpoint at the same step.
        step : int
            Last step done.
        guard : GuardTripped, optional
            What stopped it; the last frames are dropped then.
        """
        tripped = None if guard is None else guard.record(step)
        if how != 'interrupted':
            self._record.state, self._record.novelty = {}, {}
        if guard is not None:
            n_kept = self._writer.n_frames - self._n_drop
            self._writer.flush()
            self._save(step, first_frames(self._writer.parts, n_kept), closed=False, ended=how, guard=tripped)
            self._writer.truncate(n_kept)
        parts = self._writer.close()
        self._save(step, parts, closed=True, ended=how, guard=tripped)
        n_frames = sum(part['n_frames'] for part in parts)
        return {'replica': self.replica.index, 'n_frames': n_frames, 'ended': how, 'guard': tripped}

    def close(self) -> None:
        """Close the shards where an error ended the run; after `end` there is nothing to close."""
        with suppress(OSError, ValueError):
            self._writer.close()

    def _save(
        self,
        step: int,
        parts: list[PartEntry],
        *,
        closed: bool,
        ended: str = 'interrupted',
        guard: GuardEntry | None = None,
    ) -> None:
        self._record.facts = {
            'fingerprint': self._fingerprint,
            'step': step,
            'parts': parts,
            'closed': closed,
            'ended': ended,
            'guard': guard,
        }
        self._record.write(self._folder, self.replica.index)
