"""Frames on disk: H5MD shards with a manifest for what molecular dynamics makes, extxyz for what is labelled.

A trajectory is written as one or more H5MD files, its shards (`shards`, in the layout of `h5md`), in the folder of its
job, and never leaves it whole. Its `manifest` says what belongs to it; `reading` gives the frames back in chunks.
Labelled frames are files of extended XYZ (`extxyz`). Structures are named by their content (`hashes`).
"""

from aiida_mlip_autopipe.science.frames.extxyz import iter_any, keep_results, read_any, read_extxyz, write_extxyz
from aiida_mlip_autopipe.science.frames.h5md import ManifestError
from aiida_mlip_autopipe.science.frames.hashes import content_hash, file_sha256, structure_hash
from aiida_mlip_autopipe.science.frames.manifest import MANIFEST, SCHEMA_VERSION, read_manifest, write_manifest
from aiida_mlip_autopipe.science.frames.reading import FrameChunk, iter_chunks, load_frames
from aiida_mlip_autopipe.science.frames.records import GuardEntry, Manifest, ReplicaEntry, ShardEntry
from aiida_mlip_autopipe.science.frames.sources import FrameSource, ShardFrames

__all__ = [
    'MANIFEST',
    'SCHEMA_VERSION',
    'FrameChunk',
    'FrameSource',
    'GuardEntry',
    'Manifest',
    'ManifestError',
    'ReplicaEntry',
    'ShardEntry',
    'ShardFrames',
    'content_hash',
    'file_sha256',
    'iter_any',
    'iter_chunks',
    'keep_results',
    'load_frames',
    'read_any',
    'read_extxyz',
    'read_manifest',
    'structure_hash',
    'write_extxyz',
    'write_manifest',
]
