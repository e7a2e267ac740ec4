"""Frames that were copied: are they, byte for byte, those that the MD jobs wrote?

The manifest that the job returned is the measure, not the one beside the copy, which could be as wrong as the frames.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from aiida_mlip_autopipe.science.frames import ManifestError, read_manifest
from aiida_mlip_autopipe.worker.errors import InputError
from aiida_mlip_autopipe.worker.inputs import Job

__all__ = ['MEASURED', 'verify_folders']

MEASURED = ('path', 'replica', 'part', 'n_frames', 'bytes', 'sha256')
"""What of a shard's entry in the manifest is compared."""


def verify_folders(job: Job, tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Compare folders of shards with what is said of them: bytes and checksum of each shard, and their list.

    Parameters
    ----------
    job : Job
        ``files.folders``: the folders; ``arguments.shards``: for each of them the entries of its shards.
    tell : callable
        Called with ``folders_done`` and ``folders_total``.

    Returns
    -------
    dict
        ``n_frames``, ``n_shards``, ``bytes`` of the folders that are right; ``problems``: folder -> what is wrong.
    """
    folders, expected = job.paths('folders'), job.arguments.get('shards')
    if not isinstance(expected, dict) or set(expected) != {folder.name for folder in folders}:
        raise InputError('arguments.shards: the entries of the shards of each folder are needed')
    right: list[dict[str, Any]] = []
    problems: dict[str, str] = {}
    for number, folder in enumerate(folders, 1):
        try:
            shards = cast(list[dict[str, Any]], read_manifest(folder)['shards'])
            found = [{name: shard[name] for name in MEASURED} for shard in shards]
            if found != expected[folder.name]:
                raise ManifestError(f'the manifest in {folder} is not the one that the job returned')
            right += found
        except (ManifestError, OSError, KeyError) as error:
            problems[folder.name] = f'{error}'
        tell({'folders_done': number, 'folders_total': len(folders)})
    return {
        'n_frames': sum(shard['n_frames'] for shard in right),
        'n_shards': len(right),
        'bytes': sum(shard['bytes'] for shard in right),
        'problems': problems,
    }
