"""The manifest of a folder of shards: bytes and checksums, so that a reader knows that nothing is missing or cut."""

from __future__ import annotations

import json
from pathlib import Path

from aiida_mlip_autopipe.science.frames.h5md import ManifestError
from aiida_mlip_autopipe.science.frames.hashes import file_sha256
from aiida_mlip_autopipe.science.frames.records import Manifest, ShardEntry

__all__ = ['MANIFEST', 'SCHEMA_VERSION', 'read_manifest', 'write_manifest']

MANIFEST = 'manifest.json'
SCHEMA_VERSION = 2


def write_manifest(folder: str | Path, manifest: Manifest) -> None:
    """Write ``manifest.json`` in one go: it is there complete, or not at all."""
    target = Path(folder) / MANIFEST
    partial = target.with_suffix('.json.part')
    partial.write_text(json.dumps(manifest, indent=1, allow_nan=False))
    partial.replace(target)


def read_manifest(folder: str | Path, *, verify: bool = True) -> Manifest:
    """Return the manifest of a folder of shards, after making sure that the shards are what it says.

    Parameters
    ----------
    folder : path
        The folder in which the MD job ran.
    verify : bool
        Compare bytes and checksum of every shard; False: trust an earlier comparison.

    Raises
    ------
    ManifestError
        If the manifest or a shard is missing or differs.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if not path.is_file():
        raise ManifestError(
            f'{path} does not exist: the folder of the MD job was wiped or the job did not finish; run the MD again'
        )
    try:
        manifest: Manifest = json.loads(path.read_text())
        shards = manifest['shards']
    except (ValueError, KeyError, TypeError) as error:
        raise ManifestError(f'{path} is not a manifest ({error}); run the MD again') from error
    if manifest.get('schema_version') != SCHEMA_VERSION:
        raise ManifestError(
            f'{path} has schema_version {manifest.get("schema_version")}, this version reads '
            f'{SCHEMA_VERSION}; run the MD again'
        )
    if verify:
        for shard in shards:
            _verify_shard(folder / shard['path'], shard)
    return manifest


def _verify_shard(path: Path, shard: ShardEntry) -> None:
    if not path.is_file():
        raise ManifestError(
            f'{path} is listed in the manifest but does not exist: the scratch folder was cleaned; run the MD again'
        )
    size = path.stat().st_size
    if size != shard['bytes']:
        raise ManifestError(f'{path} has {size} bytes, the manifest says {shard["bytes"]}: run the MD again')
    if file_sha256(path) != shard['sha256']:
        raise ManifestError(f'{path} differs from what was written (checksum): run the MD again')
