"""The stage ``doctor``: what this computer offers a job, and what to change.

A doctor that dies of what it should find is useless: each probe runs in a process of its own with a time limit, and
one that raises, crashes or hangs leaves a message in ``failed`` while the others go on. Only a wrong input ends the
stage.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any, TypeVar, cast

from aiida_mlip_autopipe.science.parameters import DoctorParameters
from aiida_mlip_autopipe.worker import probes
from aiida_mlip_autopipe.worker.advice import Advice, advise
from aiida_mlip_autopipe.worker.inputs import Job

__all__ = ['ProbeError', 'Report', 'examine', 'in_process']

# A process that waits for a dead file system cannot be ended.
LAST_WORDS_S = 5.0
Tell = Callable[[Mapping[str, object]], None]
Answer = TypeVar('Answer')


class ProbeError(Exception):
    """A probe has no answer; the message says why."""


class Report(probes.Facts, Advice):
    """What the computer offers, and what to change."""


def examine(job: Job, tell: Tell) -> Report:
    """Return what the computer offers.

    Raises
    ------
    InputError, ValueError
        If the input is wrong: a parameter out of bounds, a potential that is no file.
    """
    parameters = job.validated(DoctorParameters)
    given = job.path('potential') if 'potential' in job.files else None
    ward = _Ward(parameters.max_probe_seconds, 7 + len(parameters.n_atoms), tell)
    ward.ask('packages', probes.packages)
    ward.ask('cpu', probes.cpu)
    ward.ask('memory', probes.memory)
    ward.ask('disk', probes.disk, job.folder, parameters.write_megabytes)
    ward.ask('gpu', probes.gpu)
    ward.ask('engine', probes.engine, parameters.device)
    ward.ask('potential', probes.potential, given, job.folder, parameters.random_seed)
    steps = []
    if potential := ward.report.get('potential'):
        path, elements = potential.pop('path'), potential['elements']
        for n_atoms in parameters.n_atoms:
            name = f'md_step_{n_atoms}'
            ward.ask(name, probes.md_step, path, elements, n_atoms, parameters)
            steps += [ward.report.pop(name)] if name in ward.report else []
    (job.folder / probes.UNTRAINED_FILE).unlink(missing_ok=True)
    facts = cast(probes.Facts, {**ward.report, 'md_steps': steps, 'failed': ward.failed})
    return {**facts, **advise(facts, str(job.arguments.get('scheduler', '')))}


class _Ward:
    """Asks one probe after the other and keeps answers and failures."""

    def __init__(self, limit_s: float, n_probes: int, tell: Tell) -> None:
        self.report: dict[str, Any] = {}
        self.failed: dict[str, str] = {}
        self._limit_s, self._n_probes, self._tell = limit_s, n_probes, tell

    def ask(self, name: str, probe: Callable[..., object], *arguments: object) -> None:
        self._tell({'probe': name, 'probes_done': len(self.report) + len(self.failed), 'probes_total': self._n_probes})
        try:
            self.report[name] = in_process(probe, *arguments, limit_s=self._limit_s)
        except ProbeError as error:
            self.failed[name] = str(error)


def in_process(probe: Callable[..., Answer], *arguments: object, limit_s: float) -> Answer:
    """Return what a function returns in a new process.

    Raises
    ------
    ProbeError
        If it raises, ends without an answer, or takes longer than ``limit_s`` seconds; it does not run on.
    """
    context = multiprocessing.get_context('spawn')
    answers, teller = context.Pipe(duplex=False)
    child = context.Process(target=_answer, args=(teller, probe, arguments), daemon=True)
    child.start()
    teller.close()
    try:
        if not answers.poll(limit_s):
            raise ProbeError(f'no answer within {limit_s:g} s')
        problem, value = answers.recv()
    except EOFError:
        child.join(LAST_WORDS_S)
        raise ProbeError(_how_it_ended(child.exitcode)) from None
    finally:
        child.kill()
        child.join(LAST_WORDS_S)
    if problem:
        raise ProbeError(problem)
    return value


def _answer(teller: Connection, probe: Callable[..., object], arguments: tuple[object, ...]) -> None:
    """Send what the probe says, or what it died of; all that it prints goes to stderr."""
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        answer: tuple[str, object] = ('', probe(*arguments))
    except Exception as error:
        traceback.print_exc()
        answer = (f'{type(error).__name__}: {error}', None)
    teller.send(answer)


def _how_it_ended(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f'the process was ended by the signal {signal.Signals(-exit_code).name}'
    return f'the process ended with status {exit_code} and no answer'
