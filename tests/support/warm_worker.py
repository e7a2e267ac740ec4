"""The real worker, from a server that has imported MACE already.

Each job of a worker imports MACE, which takes ten seconds, and so does each training that a job starts; the tests run
some hundred. The server imports it once and forks for each; what runs is the worker's own ``main``, or the module that
a training names, in the folder, the environment and with the streams of the one who asks. A job that is to be killed
is started by the installed command instead (fixture ``installed_worker_code``).

``python warm_worker.py SOCKET STAGE INPUT`` asks the server for a job and ends as it ends, as does
``python warm_worker.py SOCKET -m MODULE ARGUMENTS`` for a module; ``python -m tests.support.warm_worker SOCKET`` is
the server.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import socket
import sys
import traceback
from array import array
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from types import SimpleNamespace

MESSAGE_BYTES = 1 << 20
PYTHON = 'python'


def ask(path: str, arguments: list[str]) -> int:
    """Have a job done by the server that listens at a socket; return its exit status."""
    message = {'arguments': arguments, 'folder': str(Path.cwd()), 'environment': dict(os.environ)}
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(path)
        streams = array('i', (0, 1, 2))
        connection.sendmsg([json.dumps(message).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
        job = int(connection.recv(MESSAGE_BYTES))
        signal.signal(signal.SIGTERM, lambda *_: os.kill(job, signal.SIGTERM))
        status = int(connection.recv(MESSAGE_BYTES) or 1)
    if status < 0:  # ended by a signal
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


def install(folder: Path, socket_path: Path) -> tuple[Path, Path]:
    """Write the commands that ask the server: the worker, and a Python for ``-m MODULE``."""
    worker, python = folder / 'mlip-autopipe-worker', folder / PYTHON
    for command in (worker, python):
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E {__file__} {socket_path} "$@"\n')
        command.chmod(0o755)
    return worker, python


def serve(path: str) -> None:
    """Import what the worker needs, and do the jobs that come in, each in a process of its own."""
    import mace.calculators
    import mace.cli.run_train  # noqa: F401

    from aiida_mlip_autopipe import science, worker
    from aiida_mlip_autopipe.science.potential import training_command

    for package in (science, worker):
        for module in walk_packages(package.__path__, f'{package.__name__}.'):
            if not module.name.endswith('__main__'):
                import_module(module.name)
    training_command.sys = SimpleNamespace(executable=str(Path(path).with_name(PYTHON)))

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # none is waited for
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(path)
        server.listen()
        while True:
            connection, _ = server.accept()
            if os.fork():
                connection.close()
            else:
                server.close()
                _attend(connection)


def _attend(connection: socket.socket) -> None:
    """Do one job, in a process below this one, and tell its exit status."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    text, ancillary, _, _ = connection.recvmsg(MESSAGE_BYTES, socket.CMSG_SPACE(12))
    message, streams = json.loads(text), array('i')
    streams.frombytes(ancillary[0][2])
    job = os.fork()
    if job == 0:
        connection.close()
        os._exit(_work(message, list(streams)))
    connection.send(str(job).encode())
    _, status = os.waitpid(job, 0)
    connection.send(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _work(message: dict, streams: list[int]) -> int:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(message['folder'])
    os.environ.clear()
    os.environ.update(message['environment'])
    from aiida_mlip_autopipe.worker import main

    arguments = message['arguments']
    try:
        if arguments[0] != '-m':
            return main(arguments)
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name='__main__', alter_sys=True)
        return 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


if __name__ == '__main__':
    if len(sys.argv) == 2:
        serve(sys.argv[1])
    else:
        sys.exit(ask(sys.argv[1], sys.argv[2:]))
