"""What is on the disk: taken over from an interrupted job, and told in the manifest.

The manifest is made from the checkpoints and shards alone. It does not matter whether the replicas ended just now, in
an earlier job whose folder this one goes on from, or were killed on the way: what was brought to the disk is there.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from aiida_mlip_autopipe.science.dynamics.recorder import Facts, Record, run_fingerprint
from aiida_mlip_autopipe.science.dynamics.replicas import Replica, ReplicaPlan
from aiida_mlip_autopipe.science.frames import SCHEMA_VERSION, ManifestError
from aiida_mlip_autopipe.science.frames.records import (
    Conditions,
    JobFrames,
    Origin,
    PartEntry,
    ReplicaEntry,
    ShardEntry,
)
from aiida_mlip_autopipe.science.frames.shards import ShardReader, adopt_parts, find_parts, first_frames
from aiida_mlip_autopipe.science.registry import ENSEMBLES
from aiida_mlip_autopipe.science.systems import VACUUM_AXES, vacuum_axes

__all__ = ['describe_frames', 'take_over']

log = logging.getLogger(__name__)

CHECKPOINTS, SHARDS = 'checkpoints', 'shards'


def take_over(
    plan: ReplicaPlan,
    replicas: Sequence[Replica],
    folder: Path,
    engine: str,
    parent: Path | None = None,
    *,
    all_frames: bool = False,
) -> dict[int, Record]:
    """Bring what earlier attempts left, in this folder or in that of another job, and return it by replica.

    Afterwards each replica that was begun has its record and the frames it counts in ``folder``, in whole files, and
    frames that no record counts are gone. A replica whose frames are damaged is begun anew.

    Parameters
    ----------
    plan : ReplicaPlan
        What is to be run; records of anything else are left alone.
    replicas : sequence of Replica
        Those of this job.
    folder : Path
        Folder of the job; may hold what a requeued attempt left.
    engine : str
        Name of the engine, and of its potentials where another run could have other ones.
    parent : Path, optional
        Folder of an interrupted job.
    all_frames : bool
        Count the frames after the last checkpoint, too: where nothing is to be run. Whoever goes on from there later
        drops them again.
    """
    (folder / SHARDS).mkdir(parents=True, exist_ok=True)
    found = {}
    for replica in replicas:
        for source in filter(None, (folder, parent)):
            record = Record.read(source, replica.index)
            fingerprint = run_fingerprint(plan, replica, engine)
            if record is not None and record.facts['fingerprint'] != fingerprint:
                log.warning(
                    'replica %d is started again: its checkpoint in %s belongs to another run', replica.index, source
                )
                continue
            if all_frames:
                record = _with_all_frames(record, source, replica, fingerprint)
            elif record is not None:
                record = _back_at_checkpoint(record)
            if record is not None and _bring(record, replica, source, folder):
                found[replica.index] = record
                break
    _remove_uncounted(folder, found)
    return found


def describe_frames(plan: ReplicaPlan, replicas: Sequence[Replica], folder: Path, engine: str) -> JobFrames:
    """Return what the manifest says of replicas and shards: ``n_frames``, ``complete``, ``shards``, ``replicas``.

    Each shard and each replica names its ensemble and the integrator that samples it with the engine.
    """
    ensemble = plan.parameters.ensemble
    shards: list[ShardEntry] = []
    entries: list[ReplicaEntry] = []
    for replica in replicas:
        record = Record.read(folder, replica.index)
        atoms = plan.seeds[replica.seed_index]
        seed_id = str(atoms.info['frame_id'])
        origin: Origin = {'seed_id': seed_id, 'origin': str(atoms.info.get('origin', seed_id))}
        vacuum = {VACUUM_AXES: vacuum_axes(atoms)} if vacuum_axes(atoms) else {}
        conditions: Conditions = {
            'temperature_K': replica.temperature_K,
            'temperature_end_K': replica.temperature_end_K,
            'pressure_GPa': replica.pressure_GPa,
            'ensemble': ensemble,
            'integrator': ENSEMBLES[ensemble].integrators[engine],
            'n_atoms': len(plan.atoms(replica)),
        }
        waiting: Facts = {'parts': [], 'ended': 'waiting', 'step': 0, 'guard': None}
        facts = record.facts if record is not None else waiting
        parts = [part for part in facts['parts'] if part['n_frames']]
        shards += [
            cast(ShardEntry, {**part, 'replica': replica.index, **origin, **conditions, **vacuum}) for part in parts
        ]
        entries.append(
            {
                'replica': replica.index,
                'seed_index': replica.seed_index,
                **origin,
                'strain': replica.strain,
                **conditions,
                'random_seed': replica.random_seed,
                'n_steps': max(facts['step'], 0),
                'n_frames': _n_frames(parts),
                'ended': facts['ended'],
                'guard': facts['guard'],
            }
        )
    return JobFrames(
        schema_version=SCHEMA_VERSION,
        complete=all(entry['ended'] not in ('waiting', 'interrupted') for entry in entries),
        n_frames=_n_frames(shards),
        shards=shards,
        replicas=entries,
    )


def _with_all_frames(record: Record | None, source: Path, replica: Replica, fingerprint: str) -> Record | None:
    """Return the record of a replica that was cut off, with all its frames that can be read."""
    if record is not None and record.facts['ended'] != 'interrupted':
        return record
    parts = [part for part in find_parts(source, replica.index) if part['n_frames']]
    n_counted = 0 if record is None else _n_frames(record.facts['parts'])
    if _n_frames(parts) <= n_counted:
        return record
    with ShardReader(source / parts[-1]['path']) as reader:
        step = int(reader.read(slice(reader.n_frames - 1, None))['step'][0])
    facts: Facts = {'ended': 'interrupted', 'guard': None, 'closed': False, 'checkpoint': None}
    if record is not None:
        facts |= {'checkpoint': {'step': record.facts['step'], 'n_frames': n_counted}, **record.facts}
    facts |= {'fingerprint': fingerprint, 'parts': parts, 'step': step, 'closed': False}
    return Record(facts, *((record.state, record.novelty) if record is not None else ({}, {})))


def _n_frames(parts: Sequence[PartEntry] | Sequence[ShardEntry]) -> int:
    return sum(part['n_frames'] for part in parts)


def _back_at_checkpoint(record: Record) -> Record | None:
    """Return a record without the frames that `_with_all_frames` added; None if there was no checkpoint."""
    if 'checkpoint' not in record.facts:
        return record
    facts = record.facts.copy()
    checkpoint = facts.pop('checkpoint')
    if checkpoint is None:
        return None
    parts = first_frames(facts['parts'], checkpoint['n_frames'])
    facts |= {'step': checkpoint['step'], 'parts': parts, 'closed': False}
    return Record(facts, record.state, record.novelty)


def _bring(record: Record, replica: Replica, source: Path, folder: Path) -> bool:
    """Bring the frames of a record to the folder, then the record itself; return whether that went well."""
    if source == folder and record.facts['closed'] and _are_there(folder, record.facts['parts']):
        return True
    try:
        record.facts['parts'] = adopt_parts(source, folder, record.facts['parts'])
    except ManifestError as error:
        log.warning('replica %d is started again: %s', replica.index, error)
        return False
    record.facts['closed'] = True
    record.write(folder, replica.index)
    return True


def _are_there(folder: Path, parts: Sequence[PartEntry]) -> bool:
    paths = [folder / part['path'] for part in parts]
    return all(path.is_file() and path.stat().st_size == part['bytes'] for path, part in zip(paths, parts, strict=True))


def _remove_uncounted(folder: Path, found: dict[int, Record]) -> None:
    """Remove files that no record counts: of replicas begun anew, or written after the last checkpoint."""
    counted = {part['path'] for record in found.values() for part in record.facts['parts']}
    for path in (folder / SHARDS).iterdir():
        if f'{SHARDS}/{path.name}' not in counted:
            path.unlink() if path.is_file() else shutil.rmtree(path)
    for path in (folder / CHECKPOINTS).glob('*'):
        if path.name not in {f'r{index:03d}.npz' for index in found}:
            path.unlink()
