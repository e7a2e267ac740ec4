"""The probes of the doctor: each asks a computer one thing and returns plain numbers and words.

Each runs in a process of its own (`worker.doctor`), so that one which crashes or hangs takes nothing with it.
No probe names the computer or a user.
"""

from __future__ import annotations

import os
import platform
import resource
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, Required, TypedDict, cast

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms
    from ase.md.langevin import Langevin

    from aiida_mlip_autopipe.science.parameters import DoctorParameters

__all__ = ['Facts', 'cpu', 'disk', 'engine', 'gpu', 'md_step', 'memory', 'memory_limits', 'packages', 'potential']

PACKAGES = (
    'aiida-mlip-autopipe',
    'ase',
    'cuequivariance',
    'cuequivariance-torch',
    'e3nn',
    'h5py',
    'mace-torch',
    'numba',
    'numpy',
    'torch',
    'torch-sim-atomistic',
)
NOT_INSTALLED = 'not installed'
CGROUPS = Path('/sys/fs/cgroup')
DRIVER_VERSION = Path('/sys/module/nvidia/version')
GIB, MB = 1024**3, 10**6
WRITE_BLOCK = 4 * MB
UNTRAINED_FILE, WRITE_FILE = 'doctor.model', 'doctor.write'
N_WARMUP = 3
TEMPERATURE_K, TIMESTEP_FS, FRICTION_PER_FS = 300.0, 1.0, 0.02
SILICON_A = 5.43
DIAMOND_A_PER_BOND = 4 / 3**0.5


class Cpu(TypedDict):
    """The processor, the cores that the job may use and those of the node, and the load."""

    model: str
    cores: int
    cores_of_node: int
    load: float


class Memory(TypedDict):
    """The memory of the node and the smallest limit that holds for the job, in GiB; what sets it, if anything does."""

    total_GiB: float
    limit_GiB: float
    limited_by: str | None


class Gpu(TypedDict):
    """The GPUs that torch can use, or the reason why there is none."""

    cards: list[dict[str, object]]
    torch_built_for: str | None
    driver: str | None
    given_by_scheduler: str | None
    reason: str | None


class Examined(TypedDict):
    """What a potential, 'given' or 'untrained', says of itself; its path is not in the report."""

    kind: str
    path: NotRequired[str]
    sha256: str
    elements: list[str]
    r_max: float
    dtype: str
    n_parameters: int


class MdStep(TypedDict):
    """A step of molecular dynamics: its median time, the peak memory of the process, and what was run."""

    formula: str
    n_atoms: int
    ms_per_step: float
    atom_steps_per_s: float
    n_steps: int
    device: str
    dtype: str
    process_memory_MiB: int


class Facts(TypedDict, total=False):
    """What the probes said; those that failed are missing, with a message for each in ``failed``."""

    packages: dict[str, str]
    cpu: Cpu
    memory: Memory
    disk: dict[str, float]
    gpu: Gpu
    engine: dict[str, str]
    potential: Examined
    md_steps: Required[list[MdStep]]
    failed: Required[dict[str, str]]


def packages() -> dict[str, str]:
    """Return the version of Python and of each package that matters, or that it is not installed."""
    found = {'python': platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = NOT_INSTALLED
    return found


def cpu() -> Cpu:
    """Return what there is to compute on."""
    from aiida_mlip_autopipe.science.dynamics.ase.side_by_side import granted_cores

    return {
        'model': _processor(),
        'cores': granted_cores(),
        'cores_of_node': cast(int, os.cpu_count()),
        'load': round(os.getloadavg()[0], 1),
    }


def _processor() -> str:
    information = Path('/proc/cpuinfo')
    if information.is_file():
        for line in information.read_text().splitlines():
            if line.startswith('model name'):
                return line.split(':', 1)[1].strip()
    return platform.machine()


def memory() -> Memory:
    """Return how much memory the job may use."""
    total = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    limits = [(limit, 'control group') for limit in memory_limits(Path('/proc/self/cgroup'), CGROUPS)]
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        limits.append((soft, 'ulimit -v'))
    limit, limited_by = min([*limits, (total, None)], key=lambda one: one[0])
    return {'total_GiB': round(total / GIB, 2), 'limit_GiB': round(limit / GIB, 2), 'limited_by': limited_by}


def memory_limits(membership: Path, root: Path) -> Iterator[int]:
    """Yield the limits, in bytes, of the control groups that hold a process, from its own up to the root.

    Parameters
    ----------
    membership : Path
        ``/proc/PID/cgroup``.
    root : Path
        Where the control groups are mounted: version 2 (one tree), or version 1 (``memory`` is one of several).
    """
    if not membership.is_file():
        return
    for line in membership.read_text().splitlines():
        _, controllers, path = line.split(':', 2)
        if not controllers:
            base, name = root, 'memory.max'
        elif 'memory' in controllers.split(','):
            base, name = root / 'memory', 'memory.limit_in_bytes'
        else:
            continue
        group = base / path.lstrip('/')
        for folder in (group, *group.parents):
            limit = folder / name
            if limit.is_file() and (text := limit.read_text().strip()).isdigit():
                yield int(text)
            if folder == base:
                break


def gpu() -> Gpu:
    """Return the GPUs that torch can use, or why there is none; what torch was built for; the driver's version."""
    import torch

    driver = DRIVER_VERSION.read_text().strip() if DRIVER_VERSION.is_file() else None
    built_for = f'CUDA {torch.version.cuda}' if torch.version.cuda else None
    if torch.version.hip:
        built_for = f'ROCm {torch.version.hip}'
    visible = torch.cuda.is_available()
    cards = [_card(torch.cuda.get_device_properties(i)) for i in range(torch.cuda.device_count())] if visible else []
    return {
        'cards': cards,
        'torch_built_for': built_for,
        'driver': driver,
        'given_by_scheduler': os.environ.get('CUDA_VISIBLE_DEVICES') or None,
        'reason': None if visible else _why_no_gpu(built_for, driver),
    }


def _card(properties: Any) -> dict[str, object]:
    return {
        'name': properties.name,
        'memory_GiB': round(properties.total_memory / GIB, 1),
        'compute_capability': f'{properties.major}.{properties.minor}',
    }


def _why_no_gpu(built_for: str | None, driver: str | None) -> str:
    import torch

    if built_for is None:
        return 'torch is a CPU build' + (f', but the node has the NVIDIA driver {driver}' if driver else '')
    if os.environ.get('CUDA_VISIBLE_DEVICES') == '':
        return 'CUDA_VISIBLE_DEVICES is empty'
    if driver is None and torch.version.cuda:
        return 'the node has no NVIDIA driver'
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return f'{error}'.splitlines()[0].rstrip('.')
    return 'torch finds no device'


def engine(device: str) -> dict[str, str]:
    """Return the engine that ``engine: auto`` takes here, where it computes, and why."""
    from aiida_mlip_autopipe.science.dynamics.run import choose_engine
    from aiida_mlip_autopipe.science.parameters import DynamicsParameters
    from aiida_mlip_autopipe.science.potential.load import resolve_device

    resolved = resolve_device(device)
    chosen = choose_engine(DynamicsParameters(engine='auto'), resolved)
    if resolved == 'cpu':
        reason = 'no GPU: replicas in parallel, one per core'
    elif chosen == 'torchsim':
        reason = 'a GPU and torch-sim: many replicas in one batch'
    else:
        from aiida_mlip_autopipe.science.dynamics.batch.engine import available

        reason = f'a GPU, but {available()}'
    return {'engine': chosen, 'device': resolved, 'reason': reason}


def disk(folder: Path, megabytes: float) -> dict[str, float]:
    """Write a file of random bytes into a folder until it is on the disk; return the speed and the free space.

    Raises
    ------
    OSError
        If the folder does not take it: full, over quota, read only.
    """
    path, size = folder / WRITE_FILE, round(megabytes * MB)
    block = os.urandom(min(size, WRITE_BLOCK))
    free = shutil.disk_usage(folder).free
    try:
        started = time.perf_counter()
        with path.open('wb') as file:
            for start in range(0, size, len(block)):
                file.write(block[: size - start])
            file.flush()
            os.fsync(file.fileno())
        seconds = time.perf_counter() - started
    finally:
        path.unlink(missing_ok=True)
    return {
        'write_MB_per_s': round(size / MB / seconds, 1),
        'written_MB': round(size / MB, 3),
        'free_GB': round(free / 10**9, 1),
    }


def potential(given: Path | None, folder: Path, random_seed: int) -> Examined:
    """Return what a potential says of itself; build an untrained one into ``folder`` if none is given."""
    from aiida_mlip_autopipe.science.potential.load import inspect_potential
    from aiida_mlip_autopipe.science.potential.untrained import untrained_potential

    path = given or untrained_potential(folder / UNTRAINED_FILE, ['Si'], random_seed=random_seed)
    said = inspect_potential(path)
    return {'kind': 'given' if given else 'untrained', 'path': str(path), **said}


def md_step(path: str, elements: list[str], n_atoms: int, parameters: DoctorParameters) -> MdStep:
    """Time the steps of one replica alone with ASE: Langevin, one thread on a CPU.

    Parameters
    ----------
    path : str
        The potential.
    elements : list of str
        What it knows: the crystal is silicon if that is among them, else diamond of the first.
    n_atoms : int
        The crystal is the roundest supercell with at least so many atoms.
    parameters : DoctorParameters
        Steps, precision, device and seed.

    Raises
    ------
    ValueError
        If a position is not finite after the steps: the potential is broken.
    """
    import numpy as np
    import torch

    from aiida_mlip_autopipe.science.potential.load import load_calculator, resolve_device

    device = resolve_device(parameters.device)
    if device == 'cpu':
        torch.set_num_threads(1)
    atoms = _crystal('Si' if 'Si' in elements else elements[0], n_atoms)
    atoms.calc = load_calculator(path, parameters.dtype, device)
    dynamics = _langevin(atoms, np.random.default_rng(parameters.random_seed))
    for _ in range(N_WARMUP):
        dynamics.step()
    seconds = [_seconds(dynamics.step) for _ in range(parameters.n_steps)]
    if not np.isfinite(atoms.positions).all():
        raise ValueError(f'{parameters.n_steps} steps of {atoms.symbols} gave positions that are not finite')
    step = statistics.median(seconds)
    return {
        'formula': str(atoms.symbols),
        'n_atoms': len(atoms),
        'ms_per_step': round(step * 1e3, 3),
        'atom_steps_per_s': round(len(atoms) / step, 1),
        'n_steps': parameters.n_steps,
        'device': device,
        'dtype': parameters.dtype,
        'process_memory_MiB': round(_peak_memory() / 1024**2),
    }


def _langevin(atoms: Atoms, rng: np.random.Generator) -> Langevin:
    """Return dynamics at a usual temperature, with velocities drawn and the centre of mass at rest."""
    from ase import units
    from ase.constraints import FixCom
    from ase.md.langevin import Langevin
    from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

    MaxwellBoltzmannDistribution(atoms, temperature_K=TEMPERATURE_K, rng=rng)
    atoms.set_constraint(FixCom())
    return Langevin(
        atoms,
        timestep=TIMESTEP_FS * units.fs,
        temperature_K=TEMPERATURE_K,
        friction=FRICTION_PER_FS / units.fs,
        fixcm=False,
        rng=rng,
    )


def _crystal(element: str, n_atoms: int) -> Atoms:
    from ase.build import bulk
    from ase.data import atomic_numbers, covalent_radii

    from aiida_mlip_autopipe.science.generate.supercell import isotropic_supercell

    lattice = SILICON_A if element == 'Si' else DIAMOND_A_PER_BOND * 2 * covalent_radii[atomic_numbers[element]]
    return isotropic_supercell(bulk(element, 'diamond', a=lattice), n_atoms)


def _seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def _peak_memory() -> int:
    """Return the largest memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == 'darwin' else peak * 1024
