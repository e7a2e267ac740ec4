"""What the graph costs: nodes, processes by state, bytes of the database and of the files; and what the jobs cost.

A job costs its wall time times its cores, and its GPUs. Both are told by the job itself: its resources, the lines that
it put into the scheduler's header, and what the worker says of its device. A job from the cache has cost nothing.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from aiida import orm
from aiida.manage import get_manager
from aiida.repository.backend import DiskObjectStoreRepositoryBackend
from sqlalchemy import text

from aiida_mlip_autopipe.pipeline.stages import Stage
from aiida_mlip_autopipe.provenance.calls import Call, call_tree, in_time, stage_of
from aiida_mlip_autopipe.provenance.states import MACE_MD
from aiida_mlip_autopipe.worker.files import RESULT_FILE

__all__ = [
    'RUN_ITSELF',
    'JobCost',
    'ProfileCost',
    'RunCost',
    'StageCost',
    'core_hours',
    'cores_of',
    'gpus_asked_for',
    'job_costs',
    'profile_cost',
    'run_cost',
]

#: What a run does beside its stages: its own node, and the functions that derive parameters and sum up.
RUN_ITSELF = 'beside the stages'

DATABASE_BYTES = {
    'sqlite': 'SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()',
    'postgresql': 'SELECT pg_database_size(current_database())',
}
FILES_ON_DISK = ('total_size_packfiles_on_disk', 'total_size_packindexes_on_disk', 'total_size_loose')

# How schedulers are asked for GPUs (Slurm, PBS, SGE, LSF), and what the number is for. The first that fits counts.
GPU_REQUESTS = (
    (re.compile(r'--gres[= ](?:\S*,)?gpu(?::[A-Za-z][\w.-]*)?(?:[:=](\d+))?'), 'machine'),
    (re.compile(r'--gpus-per-node[= ](?:[A-Za-z][\w.-]*:)?(\d+)'), 'machine'),
    (re.compile(r'--gpus-per-task[= ](?:[A-Za-z][\w.-]*:)?(\d+)'), 'process'),
    (re.compile(r'(?:--gpus[= ]|-G ?)(?:[A-Za-z][\w.-]*:)?(\d+)'), 'job'),
    (re.compile(r'\bn?gpus?=(\d+)'), 'machine'),
    (re.compile(r'-gpu\s+"?num=(\d+)'), 'machine'),
)


@dataclass(frozen=True)
class ProfileCost:
    """Nodes, processes by outcome ('ok', 'failed', 'active'), and bytes of the loaded profile."""

    n_nodes: int
    processes: dict[str, int]
    database_bytes: int
    repository_bytes: int


@dataclass(frozen=True)
class JobCost:
    """What one job that really ran has cost.

    Attributes
    ----------
    pk : int
    stage : str
        The stage that it belongs to.
    cores, gpus : int
        How many it had.
    gpus_told_by : str
        'scheduler' (it asked for them in its header), 'device' (the worker said that it ran on one, or its parameters
        insist on one), 'computer' (by default it takes one, and another job of the run found one on its computer), or
        '' without a GPU.
    wall_s : float
        How long it ran.
    """

    pk: int
    stage: str
    cores: int
    gpus: int
    gpus_told_by: str
    wall_s: float

    @property
    def core_hours(self) -> float:
        """Return wall time times cores, in hours."""
        return self.wall_s * self.cores / 3600

    @property
    def gpu_hours(self) -> float:
        """Return wall time times GPUs, in hours."""
        return self.wall_s * self.gpus / 3600


@dataclass(frozen=True)
class StageCost:
    """What a stage of a run has cost.

    Attributes
    ----------
    name : str
        The label under which the run called it; of the sum 'total'.
    core_hours, gpu_hours : float
        Of its jobs that really ran.
    elapsed_s : float
        From its start to its end, or until now: waiting in queues included.
    n_jobs, n_cached : int
        Its jobs, and how many of them came from the cache.
    n_nodes : int
        Its processes, what they made, and what was made to be given to them.
    repository_bytes : int
        The files of these nodes, uncompressed; one that several nodes share counts once, where it was first.
    frames_bytes : int
        Frames of the dynamics that lie on the computer, their stashed copies included; those of jobs from the cache
        are another run's.
    """

    name: str
    core_hours: float
    gpu_hours: float
    elapsed_s: float
    n_jobs: int
    n_cached: int
    n_nodes: int
    repository_bytes: int
    frames_bytes: int


@dataclass(frozen=True)
class RunCost:
    """The stages of a run in order, their sum, and how many jobs told of their GPUs in which way."""

    pk: int
    stages: list[StageCost]
    total: StageCost
    gpu_jobs: dict[str, int]


def profile_cost() -> ProfileCost:
    """Return what the loaded profile holds."""
    query = orm.QueryBuilder().append(orm.ProcessNode, project=['attributes.process_state', 'attributes.exit_status'])
    outcomes = Counter(_outcome(*row) for row in query.all())
    backend: Any = get_manager().get_profile_storage()
    sizes = backend.get_repository().get_info(detailed=True)['Size (MB)']
    return ProfileCost(
        n_nodes=orm.QueryBuilder().append(orm.Node).count(),
        processes=dict(outcomes),
        database_bytes=_database_bytes(backend),
        repository_bytes=round(sum(sizes[name] for name in FILES_ON_DISK) * 1024**2),
    )


def _outcome(state: str | None, exit_status: int | None) -> str:
    if state == 'finished':
        return 'ok' if exit_status == 0 else 'failed'
    return 'failed' if state in ('excepted', 'killed') else 'active'


def _database_bytes(backend: Any) -> int:
    session = backend.get_session()
    return int(session.execute(text(DATABASE_BYTES[session.get_bind().dialect.name])).scalar_one())


def core_hours(run: int) -> dict[str, float]:
    """Return what each stage of a run has cost, in core hours: wall time times cores, of jobs that really ran."""
    spent: dict[str, float] = defaultdict(float)
    for job in job_costs(run, {call.pk: call for call in call_tree(run)}):
        spent[job.stage] += job.core_hours
    return dict(spent)


def job_costs(run: int, tree: Mapping[int, Call]) -> list[JobCost]:
    """Return what each job of a run has cost that is over and was not taken from the cache.

    A job that left no word of its wall time, as it was killed, counts from its submission to its end.

    Parameters
    ----------
    run : int
    tree : mapping
        Its calls by their PK.
    """
    jobs = _asked([call.pk for call in tree.values() if call.is_terminated and call.cached_from is None])
    said = _wall_seconds(list(jobs))
    with_gpu = {jobs[pk].computer for pk, (_, device) in said.items() if device == 'cuda'}
    costs = []
    for pk, asked in jobs.items():
        seconds, device = said.get(pk, ((tree[pk].changed - tree[pk].started).total_seconds(), ''))
        gpus, told_by = gpus_asked_for(asked.header, asked.resources), 'scheduler'
        if not gpus and 'cuda' in (device, asked.device):
            gpus, told_by = 1, 'device'
        elif not gpus and asked.device == 'auto' and asked.computer in with_gpu and device != 'cpu':
            gpus, told_by = 1, 'computer'
        cores = cores_of(asked.resources)
        costs.append(JobCost(pk, stage_of(tree[pk], tree, run), cores, gpus, told_by if gpus else '', seconds))
    return costs


@dataclass(frozen=True)
class _Asked:
    """What a job asked for: AiiDA's resources, lines in its header, a device in its parameters; and its computer."""

    resources: dict[str, Any]
    header: str
    device: str | None
    computer: int | None


def _asked(pks: list[int]) -> dict[int, _Asked]:
    """Return what each job asked for; processes that are no jobs are left out."""
    if not pks:
        return {}
    query = orm.QueryBuilder().append(orm.CalcJobNode, filters={'id': {'in': pks}}, project='id', tag='job')
    query.append(orm.Dict, with_outgoing='job', edge_filters={'label': 'parameters'}, project='attributes.device')
    devices = dict(query.all())
    wanted = ['id', 'attributes.resources', 'attributes.custom_scheduler_commands', 'dbcomputer_id']
    query = orm.QueryBuilder().append(orm.CalcJobNode, filters={'id': {'in': pks}}, project=wanted)
    return {
        pk: _Asked(resources or {}, header or '', devices.get(pk), computer)
        for pk, resources, header, computer in query.all()
    }


def cores_of(resources: Mapping[str, Any]) -> int:
    """Return how many cores AiiDA's ``resources`` of a job ask for."""
    return _processes_of(resources) * (resources.get('num_cores_per_mpiproc') or 1)


def _processes_of(resources: Mapping[str, Any]) -> int:
    machines = resources.get('num_machines') or 1
    return resources.get('tot_num_mpiprocs') or machines * (resources.get('num_mpiprocs_per_machine') or 1)


def gpus_asked_for(header: str, resources: Mapping[str, Any]) -> int:
    """Return how many GPUs the lines in the header of a job ask for; 0 if none.

    Parameters
    ----------
    header : str
        AiiDA's option ``custom_scheduler_commands``, such as ``#SBATCH --gres=gpu:2``.
    resources : mapping
        AiiDA's option ``resources``: a number for each machine or process is multiplied by theirs.
    """
    times = {'machine': resources.get('num_machines') or 1, 'process': _processes_of(resources), 'job': 1}
    for pattern, counted in GPU_REQUESTS:
        if match := pattern.search(header):
            return int(match[1] or 1) * times[counted]
    return 0


def _wall_seconds(pks: list[int]) -> dict[int, tuple[float, str]]:
    """Return the wall time that each job has told, and its device if it told it.

    The worker tells its time in its result file, other programs in an output ``wall_time_seconds``.
    """
    if not pks:
        return {}
    query = orm.QueryBuilder().append(orm.CalcJobNode, filters={'id': {'in': pks}}, project='id', tag='job')
    query.append(orm.Dict, with_incoming='job', project='attributes.wall_time_seconds')
    told = {pk: (float(seconds), '') for pk, seconds in query.all() if seconds is not None}
    others = [pk for pk in pks if pk not in told]
    if not others:
        return told
    query = orm.QueryBuilder().append(orm.CalcJobNode, filters={'id': {'in': others}}, project='id', tag='job')
    query.append(orm.FolderData, with_incoming='job', edge_filters={'label': 'retrieved'}, project='*')
    for pk, retrieved in query.all():
        if RESULT_FILE in retrieved.base.repository.list_object_names():
            result = json.loads(retrieved.base.repository.get_object_content(RESULT_FILE))
            told[pk] = (result['wall_s'], (result.get('outputs') or {}).get('device', ''))
    return told


def run_cost(run: int) -> RunCost:
    """Return what a run has cost, stage by stage.

    Raises
    ------
    ValueError
        If there is no such process.
    """
    tree = {call.pk: call for call in call_tree(run)}
    tops = _stages(tree, run)
    stage_by_pk = {}
    for call in in_time(tree.values()):
        name = stage_of(call, tree, run) if call.pk != run else RUN_ITSELF
        stage_by_pk[call.pk] = name if name in tops else RUN_ITSELF
    spent = defaultdict(list)
    for job in job_costs(run, tree):
        spent[stage_by_pk[job.pk]].append(job)
    cached: dict[str, list[bool]] = defaultdict(list)
    for pk in _asked(list(tree)):
        cached[stage_by_pk[pk]].append(tree[pk].cached_from is not None)
    nodes, files = _nodes_and_files(stage_by_pk)
    frames = _frames_bytes(tree, stage_by_pk)
    stages = [
        StageCost(
            name=name,
            core_hours=sum(job.core_hours for job in spent[name]),
            gpu_hours=sum(job.gpu_hours for job in spent[name]),
            elapsed_s=seconds,
            n_jobs=len(cached[name]),
            n_cached=sum(cached[name]),
            n_nodes=nodes[name],
            repository_bytes=files[name],
            frames_bytes=frames[name],
        )
        for name, seconds in (*tops.items(), (RUN_ITSELF, 0.0))
    ]
    told_by = Counter(job.gpus_told_by for jobs in spent.values() for job in jobs if job.gpus)
    return RunCost(run, stages, _total(stages, tree[run].seconds), dict(told_by))


def _stages(tree: Mapping[int, Call], run: int) -> dict[str, float]:
    """Return what the run called that calls others itself or is a stage all the same, with its seconds, in order."""
    callers = {call.parent for call in tree.values()}
    called = in_time(call for call in tree.values() if call.parent == run)
    return {call.link: call.seconds for call in called if call.pk in callers or Stage.parse(call.link)}


def _total(stages: list[StageCost], elapsed_s: float) -> StageCost:
    """Return the sum of the stages; the time is the run's own."""
    sums = {one.name: sum(getattr(stage, one.name) for stage in stages) for one in fields(StageCost)[1:]}
    return StageCost(**{**sums, 'name': 'total', 'elapsed_s': elapsed_s})


def _nodes_and_files(stage_by_pk: Mapping[int, str]) -> tuple[Counter[str], Counter[str]]:
    """Return the number of nodes and the bytes of their files, by stage.

    Data belongs to the stage whose process made it, or else to the first that was given it. What was made elsewhere
    and what the run itself was given, such as codes and pseudopotentials, is not the run's. The processes of
    ``stage_by_pk`` are in the order of time, the run first.
    """
    pks = list(stage_by_pk)
    when = {pk: number for number, pk in enumerate(pks)}
    stage_of_node: dict[int, tuple[str, Any]] = {pk: (stage, None) for pk, stage in stage_by_pk.items()}
    made = orm.QueryBuilder().append(orm.ProcessNode, filters={'id': {'in': pks}}, project='id', tag='maker')
    made.append(orm.Data, with_incoming='maker', edge_filters={'type': 'create'}, project=['id', 'repository_metadata'])
    for maker, pk, listing in made.all():
        stage_of_node[pk] = (stage_by_pk[maker], listing)
    given = orm.QueryBuilder().append(orm.ProcessNode, filters={'id': {'in': pks}}, project='id', tag='taker')
    given.append(orm.Data, with_outgoing='taker', project=['id', 'repository_metadata'], tag='given')
    found = {pk: (taker, listing) for taker, pk, listing in sorted(given.all(), key=lambda row: -when[row[0]])}
    foreign = {pk for pk, (taker, _) in found.items() if taker == pks[0]} | _made_by_any(found)
    stage_of_node |= {
        pk: (stage_by_pk[taker], listing)
        for pk, (taker, listing) in found.items()
        if pk not in stage_of_node and pk not in foreign
    }
    keys: dict[str, str] = {}
    order = list(dict.fromkeys(stage_by_pk.values()))
    for stage, listing in sorted(stage_of_node.values(), key=lambda value: order.index(value[0])):
        for key in _object_keys(listing or {}):
            keys.setdefault(key, stage)
    files: Counter[str] = Counter()
    for key, size in _object_sizes(list(keys)).items():
        files[keys[key]] += size
    return Counter(stage for stage, _ in stage_of_node.values()), files


def _made_by_any(pks: Iterable[int]) -> set[int]:
    """Return those of some data that a process made."""
    asked = list(pks)
    if not asked:
        return set()
    query = orm.QueryBuilder().append(orm.Data, filters={'id': {'in': asked}}, project='id', tag='data')
    query.append(orm.ProcessNode, with_outgoing='data', edge_filters={'type': 'create'})
    return set(query.all(flat=True))


def _object_keys(listing: Mapping[str, Any]) -> Iterator[str]:
    """Yield the keys of the files in what AiiDA stores of a node's repository."""
    if 'k' in listing:
        yield listing['k']
    for entry in listing.get('o', {}).values():
        yield from _object_keys(entry)


def _object_sizes(keys: list[str]) -> dict[str, int]:
    """Return the bytes of objects of the repository; an archive that is read in place has to be read for them."""
    repository: Any = get_manager().get_profile_storage().get_repository()
    if isinstance(repository, DiskObjectStoreRepositoryBackend):
        with repository._container as container:
            return {key: meta['size'] for key, meta in container.get_objects_meta(keys)}
    return {key: len(repository.get_object_content(key)) for key in keys}


def _frames_bytes(tree: Mapping[int, Call], stage_by_pk: Mapping[int, str]) -> Counter[str]:
    """Return the bytes of the frames that lie on the computer, by stage: of each MD job, its last attempt's.

    A stashed copy counts like the folder that it was copied from; a cleaned folder holds nothing.
    """
    attempts = {
        call.parent: call.pk
        for call in in_time(tree.values())
        if call.process_type == MACE_MD and call.cached_from is None
    }
    if not attempts:
        return Counter()
    query = orm.QueryBuilder().append(
        orm.CalcJobNode, filters={'id': {'in': list(attempts.values())}}, project='id', tag='job'
    )
    query.append(orm.Dict, with_incoming='job', edge_filters={'label': 'manifest'}, project='attributes.shards')
    cleaned = f'extras.{orm.RemoteData.KEY_EXTRA_CLEANED}'
    query.append(orm.RemoteData, with_incoming='job', edge_filters={'label': 'remote_folder'}, project=['id', cleaned])
    rows = query.all()
    stashed = _stashed([folder for _, _, folder, _ in rows])
    frames: Counter[str] = Counter()
    for pk, shards, folder, is_cleaned in rows:
        copies = stashed[folder] + (not is_cleaned)
        frames[stage_by_pk[pk]] += copies * sum(shard['bytes'] for shard in shards)
    return frames


def _stashed(folders: list[int]) -> Counter[int]:
    """Return how many stashed copies there are of each folder."""
    if not folders:
        return Counter()
    query = orm.QueryBuilder().append(orm.RemoteData, filters={'id': {'in': folders}}, project='id', tag='folder')
    query.append(orm.CalcJobNode, with_incoming='folder', tag='copy')
    query.append(orm.RemoteStashFolderData, with_incoming='copy')
    return Counter(query.all(flat=True))
