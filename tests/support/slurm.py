"""A Slurm of one node for the tests: munged, slurmctld and slurmd with their own folder, key, socket and ports.

The node declares one GPU that is no GPU (``/dev/null``), so that the scheduler hands it out as a real one: a job that
asks for it sees ``CUDA_VISIBLE_DEVICES``, a second one waits. Nothing listens beyond the loopback interface. All is
stopped at the end, jobs first.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ['SlurmNode', 'slurm_node']

_PROGRAMS = ('munged', 'slurmctld', 'slurmd', 'sbatch', 'squeue', 'scancel', 'scontrol', 'sinfo', 'setpriv')
_START_TIMEOUT_S = 60.0
_LOOPBACK = ('0100007F', '00000000000000000000000001000000', '0000000000000000FFFF00000100007F')
_CONFIGURATION = """ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=1
SlurmdParameters=config_overrides
GresTypes=gpu
ReturnToService=2
KillWait=30
NodeName={host} NodeAddr=127.0.0.1 CPUs={n_cpus} RealMemory=8000 Gres=gpu:1 State=UNKNOWN
PartitionName=tests Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class SlurmNode:
    """A running Slurm.

    Parameters
    ----------
    folder : Path
        Where its files lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def configuration(self) -> Path:
        """The file that ``SLURM_CONF`` has to name for commands to find this Slurm."""
        return self.folder / 'slurm.conf'

    def command(self, *arguments: str, check: bool = True) -> str:
        """Run a command of Slurm; return what it prints."""
        environment = {**os.environ, 'SLURM_CONF': str(self.configuration)}
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=60)
        if check and done.returncode:
            raise RuntimeError(f'`{" ".join(arguments)}` failed: {done.stderr.strip()}\n{self.logs()}')
        return done.stdout

    def jobs(self) -> dict[str, tuple[str, str]]:
        """Return the state and the reason of each job that is not over, by its id."""
        lines = self.command('squeue', '--noheader', '--format=%i|%T|%r').splitlines()
        return {job: (state, reason) for job, state, reason in (line.split('|') for line in lines)}

    def logs(self) -> str:
        """Return the ends of the logs of its daemons."""
        logs = sorted(self.folder.glob('*.log'))
        return '\n'.join(f'--- {log.name}\n{log.read_text(errors="replace")[-3000:]}' for log in logs)


@contextlib.contextmanager
def slurm_node(folder: Path, n_cpus: int = 4) -> Iterator[SlurmNode]:
    """Run a Slurm of one node.

    Parameters
    ----------
    folder : Path
        A folder for its files, which only this user may write into; made if it does not exist.
    n_cpus : int
        CPUs that it hands out, whatever the machine has.

    Yields
    ------
    SlurmNode
        Once the node is idle.

    Raises
    ------
    RuntimeError
        If a program is missing, a daemon ends, the node is not idle in time, or something listens beyond the loopback
        interface.
    """
    missing = [program for program in _PROGRAMS if shutil.which(program, path=_search_path()) is None]
    if missing:
        raise RuntimeError(
            f'{", ".join(missing)} not found: install Slurm and MUNGE (`make slurm` as root; Debian: apt install '
            'slurm-wlm munge)'
        )
    _write_files(folder, n_cpus)
    node = SlurmNode(folder)
    with contextlib.ExitStack() as running:
        running.callback(_kill_leftovers, node)
        munge = running.enter_context(_daemon(node, *_munge_command(folder)))
        _wait_until(lambda: (folder / 'munge.socket').exists(), 'the socket of munged', [munge], node)
        daemons = [munge]
        for program in ('slurmctld', 'slurmd'):
            daemons.append(running.enter_context(_daemon(node, program, '-D', '-f', str(node.configuration))))
        running.callback(_cancel_jobs, node)
        _wait_until(
            lambda: node.command('sinfo', '--noheader', '--format=%T', check=False).strip() == 'idle',
            'an idle node',
            daemons,
            node,
        )
        _refuse_open_ports(daemons)
        yield node


def _user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


def _search_path() -> str:
    """Return PATH with the folders of system daemons, which other users than root may lack."""
    return os.pathsep.join([os.environ.get('PATH', ''), '/usr/sbin', '/sbin'])


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as open_sockets:
        sockets = [open_sockets.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(('127.0.0.1', 0))
        return [one.getsockname()[1] for one in sockets]


def _write_files(folder: Path, n_cpus: int) -> None:
    """Write the configuration and a key of its own for MUNGE, which insists on folders that no one else writes into."""
    for path in (folder, folder / 'state', folder / 'spool'):
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o755)
    host = socket.gethostname().split('.')[0]
    controller_port, node_port = _free_ports(2)
    settings = {'host': host, 'user': _user(), 'folder': folder, 'n_cpus': n_cpus}
    (folder / 'slurm.conf').write_text(
        _CONFIGURATION.format(controller_port=controller_port, node_port=node_port, **settings)
    )
    (folder / 'gres.conf').write_text(f'NodeName={host} Name=gpu File=/dev/null\n')
    key = folder / 'munge.key'
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))


def _munge_command(folder: Path) -> list[str]:
    """Return the command of munged; ``--force``: temporary folders may be writable for all."""
    files = {'key-file': 'munge.key', 'socket': 'munge.socket', 'pid-file': 'munge.pid', 'seed-file': 'munge.seed'}
    return ['munged', '--foreground', '--force', *(f'--{option}={folder / name}' for option, name in files.items())]


@contextlib.contextmanager
def _daemon(node: SlurmNode, program: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a daemon in the foreground; it ends with the block, or with this process."""
    environment = {**os.environ, 'PATH': _search_path(), 'SLURM_CONF': str(node.configuration)}
    with (node.folder / f'{program}.out.log').open('wb') as output:
        process = subprocess.Popen(
            ['setpriv', '--pdeathsig', 'TERM', program, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until(
    reached: Callable[[], bool], what: str, daemons: list[subprocess.Popen[bytes]], node: SlurmNode
) -> None:
    """Wait for an event of the start; give up if a daemon ends."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not reached():
        ended = [daemon.args for daemon in daemons if daemon.poll() is not None]
        if ended or time.monotonic() > deadline:
            why = f'{ended} ended' if ended else f'not there after {_START_TIMEOUT_S:.0f} s'
            raise RuntimeError(f'Slurm did not start, waiting for {what}: {why}\n{node.logs()}')
        time.sleep(0.1)


def _cancel_jobs(node: SlurmNode) -> None:
    """Kill all jobs and wait until none is left, or not much longer than Slurm itself would."""
    node.command('scancel', '--signal=KILL', '--full', '--state=RUNNING', check=False)
    node.command('scancel', f'--user={_user()}', check=False)
    deadline = time.monotonic() + 20
    while node.jobs() and time.monotonic() < deadline:
        time.sleep(0.2)


def _kill_leftovers(node: SlurmNode) -> None:
    """Kill the processes that still carry the name of this Slurm's configuration: what a broken daemon left behind."""
    mark = f'SLURM_CONF={node.configuration}'.encode()
    for process in Path('/proc').glob('[0-9]*'):
        with contextlib.suppress(OSError):
            if int(process.name) != os.getpid() and mark in (process / 'environ').read_bytes().split(b'\0'):
                os.kill(int(process.name), signal.SIGKILL)


def _refuse_open_ports(daemons: list[subprocess.Popen[bytes]]) -> None:
    """Raise if a daemon listens on another interface than the loopback one."""
    inodes = {link for daemon in daemons for link in _links_of(daemon.pid)}
    for table in ('tcp', 'tcp6'):
        for line in Path(f'/proc/net/{table}').read_text().splitlines()[1:]:
            fields = line.split()
            address, state, inode = fields[1].split(':')[0], fields[3], fields[9]
            if state == '0A' and f'socket:[{inode}]' in inodes and address not in _LOOPBACK:
                raise RuntimeError(
                    f'Slurm listens beyond the loopback interface, since the name of this machine, '
                    f'{socket.gethostname()}, is not that of 127.0.0.1: add it to the line of 127.0.0.1 in /etc/hosts'
                )


def _links_of(pid: int) -> Iterator[str]:
    """Yield what the file descriptors of a process point to."""
    for descriptor in Path(f'/proc/{pid}/fd').iterdir():
        with contextlib.suppress(OSError):
            yield str(descriptor.readlink())
