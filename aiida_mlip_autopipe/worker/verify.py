"""Frames that were copied: are they, byte for byte, those that the MD jobs wrote?

The manifest that the job returned is the measure, not the one beside the copy, which could be as wrong as the frames.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypedDict, cast

from aiida_mlip_autopipe.science.frames import ManifestError, ShardEntry, read_manifest
from aiida_mlip_autopipe.worker.errors import InputError
from aiida_mlip_autopipe.worker.inputs import Job

__all__ = ['MEASURED', 'verify_folders']

MEASURED = ('path', 'replica', 'part', 'n_frames', 'bytes', 'sha256')
"""What of a shard's entry in the manifest is compared."""


class Verified(TypedDict):
    """Frames, shards and bytes of the folders that are right, and folder -> what is wrong with it."""

    n_frames: int
    n_shards: int
    bytes: int
    problems: dict[str, str]


def verify_folders(job: Job, tell: Callable[[Mapping[str, object]], None]) -> Verified:
    """Compare folders of shards with what is said of them: bytes and checksum of each shard, and their list.

    Parameters
    ----------
    job : Job
        ``files.folders``: the folders; ``arguments.shards``: for each of them the entries of its shards.
    tell : callable
        Called with ``folders_done`` and ``folders_total``.
    """
    folders, expected = job.paths('folders'), job.arguments.get('shards')
    if not isinstance(expected, dict) or set(expected) != {folder.name for folder in folders}:
        raise InputError('arguments.shards: the entries of the shards of each folder are needed')
    right: list[ShardEntry] = []
    problems: dict[str, str] = {}
    for number, folder in enumerate(folders, 1):
        try:
            shards = read_manifest(folder)['shards']
            found = [{name: shard[name] for name in MEASURED} for shard in cast(list[dict[str, object]], shards)]
            if found != expected[folder.name]:
                raise ManifestError(f'the manifest in {folder} is not the one that the job returned')
            right += shards
        except (ManifestError, OSError, KeyError) as error:
            problems[folder.name] = f'{error}'
        tell({'folders_done': number, 'folders_total': len(folders)})
    return {
        'n_frames': sum(shard['n_frames'] for shard in right),
        'n_shards': len(right),
        'bytes': sum(shard['bytes'] for shard in right),
        'problems': problems,
    }
