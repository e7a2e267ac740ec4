"""What the manifest of an MD job holds, as plain JSON: the job, its replicas and their guards, its shards."""

from __future__ import annotations

from typing import NotRequired, TypedDict

__all__ = ['GuardEntry', 'JobFrames', 'Manifest', 'PartEntry', 'ReplicaEntry', 'ShardEntry']


class GuardEntry(TypedDict):
    """The guard that stopped a replica, the step, and its value (None: not finite) against its bound.

    ``released_eV``: the potential energy per atom, in eV, that the start of a replica that is too hot has given up.
    """

    name: str
    step: int
    value: float | None
    bound: float
    released_eV: NotRequired[float]


class PartEntry(TypedDict):
    """A part of the frames of a replica, as a file; its size and checksum are known once it is closed."""

    path: str
    part: int
    n_frames: int
    bytes: NotRequired[int]
    sha256: NotRequired[str]


class Origin(TypedDict):
    """What a replica begins with: its seed, and the structure that the seed descends from."""

    seed_id: str
    origin: str


class Conditions(TypedDict):
    """What a replica runs at, and how."""

    temperature_K: float
    temperature_end_K: float | None
    pressure_GPa: float | None
    ensemble: str
    integrator: str
    n_atoms: int


class ShardEntry(Origin, Conditions):
    """A file of frames in the manifest: a closed part of a replica, its seed, and the conditions that it ran at."""

    path: str
    part: int
    n_frames: int
    bytes: int
    sha256: str
    replica: int
    vacuum_axes: NotRequired[str]


class ReplicaEntry(Origin, Conditions):
    """A replica: its seed, its conditions, how far it came, and how it ended.

    ``ended`` is 'completed', 'guard', 'interrupted' or 'waiting'.
    """

    replica: int
    seed_index: int
    strain: float
    random_seed: int
    n_steps: int
    n_frames: int
    ended: str
    guard: GuardEntry | None


class JobFrames(TypedDict):
    """What replicas left: how far each came, and their frames by shard."""

    schema_version: int
    complete: bool
    n_frames: int
    shards: list[ShardEntry]
    replicas: list[ReplicaEntry]


class Manifest(JobFrames):
    """What an MD job left; ``run`` is what the worker says of it, in the graph only."""

    md_job: str
    job_index: int
    n_jobs: int
    engine: str
    device: str
    n_processes: NotRequired[int]
    run: NotRequired[dict[str, object]]
