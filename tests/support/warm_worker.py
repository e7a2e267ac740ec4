"""The real worker, from a server that has imported MACE already.

Each job of a worker imports MACE, which takes ten seconds, and the tests run some hundred jobs. The server imports it
once and forks for each job; what runs is the worker's own ``main``, in the folder, the environment and with the streams
of the job. A job that is to be killed is started by the installed command instead (fixture ``installed_worker_code``).

``python warm_worker.py SOCKET STAGE INPUT`` asks the server for a job and ends as it ends;
``python -m tests.support.warm_worker SOCKET`` is the server.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from array import array
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

MESSAGE_BYTES = 1 << 20


def ask(path: str, arguments: list[str]) -> int:
    """Have a job done by the server that listens at a socket; return its exit status."""
    message = {'arguments': arguments, 'folder': str(Path.cwd()), 'environment': dict(os.environ)}
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(path)
        streams = array('i', (0, 1, 2))
        connection.sendmsg([json.dumps(message).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
        job = int(connection.recv(MESSAGE_BYTES))
        signal.signal(signal.SIGTERM, lambda *_: os.kill(job, signal.SIGTERM))
        return int(connection.recv(MESSAGE_BYTES) or 1)


def serve(path: str) -> None:
    """Import what the worker needs, and do the jobs that come in, each in a process of its own."""
    import mace.calculators  # noqa: F401

    from aiida_mlip_autopipe import science, worker

    for package in (science, worker):
        for module in walk_packages(package.__path__, f'{package.__name__}.'):
            if not module.name.endswith('__main__'):
                import_module(module.name)

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

    try:
        return main(message['arguments'])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


if __name__ == '__main__':
    if len(sys.argv) == 2:
        serve(sys.argv[1])
    else:
        sys.exit(ask(sys.argv[1], sys.argv[2:]))
