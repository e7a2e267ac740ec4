"""What ``init`` makes: each function makes one part, or finds that it works and leaves it alone."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiida_mlip_autopipe.labelling.answers import VERSION_EXTRA, CodeSetup
from aiida_mlip_autopipe.labelling.executable import find_executable

if TYPE_CHECKING:
    from aiida.manage.configuration.profile import Profile
    from aiida.orm import Computer, InstalledCode

__all__ = [
    'Report',
    'ensure_code',
    'ensure_computer',
    'ensure_daemon',
    'ensure_options',
    'ensure_profile',
    'find_worker',
    'keep_version',
]

DEFAULT_PROFILE = 'autopipe'
COMPUTER = 'localhost'
# Two seconds, the default, end in a critical message under load although the daemon did start.
DAEMON_TIMEOUT_S = 30
DAEMON_START_TIMEOUT_S = 90
JOB_POLL_S = 2.0
CACHED_PROCESSES = 'aiida.calculations:mlip_autopipe.*'


@dataclass
class Report:
    """What was found in order and what was done, in order; for the user to read."""

    lines: list[tuple[str, str, str]] = field(default_factory=list)

    def found(self, part: str, text: str) -> None:
        """Note a part that works as it is."""
        self.lines.append((part, 'in order', text))

    def did(self, part: str, text: str) -> None:
        """Note a part that was made or repaired."""
        self.lines.append((part, 'done', text))

    @property
    def n_done(self) -> int:
        """Return how many parts were made or repaired."""
        return sum(state == 'done' for _, state, _ in self.lines)


def ensure_profile(name: str | None, report: Report) -> Profile:
    """Load the profile ``name``, or the default one; make one on SQLite with the ZeroMQ broker if there is none.

    Raises
    ------
    ValueError
        If the profile has no broker: nothing could be submitted.
    """
    from aiida.manage.configuration import create_profile, get_config, load_profile
    from aiida.plugins import BrokerFactory

    config = get_config(create=True)
    name = name or config.default_profile_name or DEFAULT_PROFILE
    if name in config.profile_names:
        profile = load_profile(name, allow_switch=True)
        if profile.process_control_backend is None:
            raise ValueError(
                f'profile {name!r}: has no broker, so no run can be submitted; choose another name with '
                '`mlip-autopipe --profile NAME init`, or `verdi profile configure-broker core.zeromq`'
            )
        report.found('profile', f'{name} ({profile.storage_backend}, {profile.process_control_backend})')
        return profile
    broker = 'core.zeromq'
    create_profile(
        config,
        name=name,
        email='aiida@localhost',
        storage_backend='core.sqlite_dos',
        storage_config={},
        broker_backend=broker,
        broker_config=BrokerFactory(broker).get_default_config(),
    )
    config.set_option('runner.poll.interval', 1, scope=name)
    if config.default_profile_name is None:
        config.set_default_profile(name)
    config.store()
    report.did('profile', f'{name} in {config.dirpath} (SQLite, ZeroMQ: no service needed)')
    return load_profile(name, allow_switch=True)


def ensure_options(profile: Profile, label_jobs: Iterable[str], report: Report) -> bool:
    """Switch on caching for what the pipeline runs and give the daemon time to start; return whether that was new.

    ``label_jobs`` are the process types of the jobs of labelling codes.
    """
    from aiida.manage.configuration import get_config

    config = get_config()
    changed = []
    enabled = config.get_option('caching.enabled_for', scope=profile.name) or []
    if not config.get_option('caching.default_enabled', scope=profile.name) and (
        missing := [
            name for name in (CACHED_PROCESSES, *sorted(label_jobs)) if not any(fnmatch(name, one) for one in enabled)
        ]
    ):
        config.set_option('caching.enabled_for', [*enabled, *missing], scope=profile.name)
        changed.append('caching on')
    if config.get_option('daemon.timeout', scope=profile.name) < DAEMON_TIMEOUT_S:
        config.set_option('daemon.timeout', DAEMON_TIMEOUT_S, scope=profile.name)
        changed.append(f'daemon.timeout {DAEMON_TIMEOUT_S}')
    if changed:
        config.store()
        report.did('options', ', '.join(changed))
    else:
        report.found('options', 'caching on')
    return bool(changed)


def ensure_computer(report: Report) -> Computer:
    """Return the computer ``localhost``, configured; make it if there is none."""
    from aiida.common.exceptions import NotExistent
    from aiida.manage.configuration import get_config
    from aiida.manage.manager import get_manager
    from aiida.orm import Computer, load_computer

    try:
        computer = load_computer(COMPUTER)
    except NotExistent:
        profile = get_manager().get_profile()
        assert profile is not None
        computer = Computer(
            label=COMPUTER,
            hostname='localhost',
            description='This computer, without a queue',
            transport_type='core.local',
            scheduler_type='core.direct',
            workdir=str(Path(get_config().dirpath) / 'scratch' / profile.name),
        ).store()
        computer.set_default_mpiprocs_per_machine(1)
        report.did('computer', f'{COMPUTER} (core.local, core.direct), scratch in {computer.get_workdir()}')
    else:
        if computer.is_configured:
            report.found('computer', f'{COMPUTER} ({computer.transport_type}, {computer.scheduler_type})')
            return computer
        report.did('computer', f'{COMPUTER} configured')
    # Each worker of the daemon looks at the jobs of this computer, on the cores that they need, with a shell for each
    # look. A login shell may take a second to start; jobs have the environment of the daemon either way.
    computer.configure(safe_interval=0, use_login_shell=False)
    computer.set_minimum_job_poll_interval(JOB_POLL_S)
    return computer


def find_worker(given: Path | None) -> Path:
    """Return the path of the worker's console script; that of the running environment if none is given."""
    return find_executable(given or Path(sys.executable).with_name('mlip-autopipe-worker'), '--worker')


def ensure_code(
    computer: Computer, label: str, executable: Path, report: Report, *, plugin: str | None = None, prepend: str = ''
) -> InstalledCode:
    """Return the code ``label@computer``; make it if there is none, replace it if its executable is gone.

    Codes do not change once they are stored: one that no longer works is hidden under another label, so that what it
    calculated keeps its provenance.
    """
    from aiida.common.exceptions import NotExistent
    from aiida.orm import InstalledCode, load_code

    part = f'code {label}'
    try:
        code: Any = load_code(f'{label}@{computer.label}')
    except NotExistent:
        code = None
    if code is not None:
        if Path(str(code.filepath_executable)).is_file():
            report.found(part, str(code.filepath_executable))
            return code
        report.did(part, f'hid <{code.pk}>: {code.filepath_executable} is gone')
        code.label = f'{label}-{code.pk}'
        code.is_hidden = True
    code = InstalledCode(
        label=label,
        computer=computer,
        filepath_executable=str(executable),
        default_calc_job_plugin=plugin,
        prepend_text=prepend,
        with_mpi=False,
    ).store()
    report.did(part, f'{executable}')
    return code


def keep_version(code: InstalledCode, asked: CodeSetup) -> None:
    """Store the version of a program with its code, if the code is that program."""
    if asked.version is not None and Path(str(code.filepath_executable)) == asked.executable:
        code.base.extras.set(VERSION_EXTRA, asked.version)


def ensure_daemon(profile: Profile, n_workers: int, restart: bool, report: Report) -> None:
    """Start the daemon, or restart it if its configuration changed, or add the workers that it lacks."""
    from aiida.engine.daemon.client import get_daemon_client
    from aiida.manage.configuration import get_config

    client = get_daemon_client(profile.name)
    slots = get_config().get_option('daemon.worker_process_slots', scope=profile.name)
    restart = restart and client.is_daemon_running
    if restart:
        client.stop_daemon(wait=True, timeout=DAEMON_START_TIMEOUT_S)
    if not client.is_daemon_running:
        client.start_daemon(number_workers=n_workers, timeout=DAEMON_START_TIMEOUT_S)
        report.did('daemon', f'{"re" if restart else ""}started with {n_workers} workers x {slots} slots')
        return
    running = client.get_numprocesses()['numprocesses']
    if running < n_workers:
        client.increase_workers(n_workers - running)
        report.did('daemon', f'{n_workers - running} workers added: {n_workers} x {slots} slots')
    else:
        report.found('daemon', f'{running} workers x {slots} slots')
