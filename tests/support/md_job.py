"""The folder of an MD job, made from given frames."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ase import Atoms

from aiida_mlip_autopipe.science.frames import SCHEMA_VERSION, write_manifest
from aiida_mlip_autopipe.science.frames.shards import ShardWriter

Frame = tuple[Any, ...]
"""What `ShardWriter.append` takes."""


def write_md_job(
    folder: Path,
    md_job: str,
    replicas: Iterable[tuple[Atoms, Iterable[Frame]]],
    *,
    max_megabytes: float = 256.0,
    **entries: Any,
) -> Path:
    """Write shards and manifest as an MD job does.

    Parameters
    ----------
    folder : path
        Folder of the job.
    md_job : str
        Its name.
    replicas : iterable
        For each replica a structure that names its elements, and its frames.
    max_megabytes : float
        Size limit of a shard.
    **entries
        Of all shards, in place of those they get here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards: list[dict[str, Any]] = []
    for replica, (atoms, frames) in enumerate(replicas):
        writer = ShardWriter(folder, replica, atoms.numbers, atoms.pbc, 2.0, max_megabytes=max_megabytes)
        for frame in frames:
            writer.append(*frame)
        common = {
            'replica': replica,
            'seed_id': f'seed-{replica:08x}',
            'origin': 'seed-00000000',
            'temperature_K': 300.0,
            'temperature_end_K': None,
            'pressure_GPa': None,
            'ensemble': 'nvt',
            'integrator': 'Langevin',
            'n_atoms': len(atoms),
        }
        shards += [part | common | entries for part in writer.close()]
    write_manifest(
        folder,
        {
            'schema_version': SCHEMA_VERSION,
            'md_job': md_job,
            'job_index': 0,
            'n_jobs': 1,
            'complete': True,
            'n_frames': sum(shard['n_frames'] for shard in shards),
            'shards': shards,
            'replicas': [],
        },
    )
    return folder
