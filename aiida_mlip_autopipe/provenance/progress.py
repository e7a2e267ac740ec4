"""How far a run is, stage by stage, as the graph and the jobs at work tell it.

A finished stage is told by its outputs. Inside a running job the worker rewrites ``progress.json``; it is read where
the job runs, through its transport, and its absence means that the job has not begun to count yet.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from aiida import orm
from aiida.common.exceptions import NotExistentAttributeError

from aiida_mlip_autopipe.calculations.monitors import read_progress
from aiida_mlip_autopipe.labelling.states import tell_states
from aiida_mlip_autopipe.pipeline.stages import Kind, Stage
from aiida_mlip_autopipe.provenance.calls import Call, call_tree
from aiida_mlip_autopipe.provenance.changes import changes_of
from aiida_mlip_autopipe.provenance.dynamics import last_attempts, manifests_of
from aiida_mlip_autopipe.provenance.failures import Failure, all_failures
from aiida_mlip_autopipe.provenance.states import MACE_MD, CandidateState, count_states
from aiida_mlip_autopipe.science.frames import Manifest

__all__ = ['ProgressReader', 'RunProgress', 'StageProgress', 'tell_errors']

# A remote computer is not asked more often than this, whatever the rate of the display.
REMOTE_INTERVAL_S = 15.0


@dataclass(frozen=True)
class StageProgress:
    """One stage of a run.

    Attributes
    ----------
    name : str
        The label under which the run called it: ``explore_r1``.
    pk : int
    state : str
        'running', 'done' or 'failed'.
    done, total : int or None
        What is counted: frames, labels, epochs.
    unit : str
        Its name.
    detail : str
        Errors, candidates, failures: for the user to read.
    seconds : float
        Since its start, or what it took.
    n_processes, n_reused : int
        Calculations in it, and how many of them took the results of an earlier one.
    counting_s : float or None
        How long it took to get to what is counted, if that is less than ``seconds``: the selection counts no frames.
    begun : tuple of (float, int) or None
        Seconds and count when it was first seen to count: a rate from there on leaves out how long a job takes to
        start.
    """

    name: str
    pk: int
    state: str
    seconds: float
    n_processes: int
    n_reused: int
    done: int | None = None
    total: int | None = None
    unit: str = ''
    detail: str = ''
    counting_s: float | None = None
    begun: tuple[float, int] | None = None

    @property
    def per_second(self) -> float | None:
        """Return how many are done in a second; None where nothing is, or all of it was taken from the cache."""
        done, seconds = self.done, self.seconds if self.counting_s is None else self.counting_s
        if not done or seconds <= 0 or self.n_reused == self.n_processes:
            return None
        if self.state == 'running' and self.begun is not None and done > self.begun[1]:
            return (done - self.begun[1]) / (seconds - self.begun[0])
        return done / seconds

    @property
    def to_go_s(self) -> float | None:
        """Return how long the rest of what is counted takes at that rate; None where that cannot be told.

        Of jobs that count themselves it is not told before they are seen to count on: their start takes long.
        """
        if self.state != 'running' or self.total is None or self.done is None or self.per_second is None:
            return None
        if self.counting_s is not None and (self.begun is None or self.done == self.begun[1]):
            return None
        return (self.total - self.done) / self.per_second if self.total > self.done else None

    @property
    def round(self) -> int:
        """Return the round that it belongs to; 0 before the first and after the last."""
        stage = Stage.parse(self.name)
        return 0 if stage is None else stage.round

    @property
    def name_in_round(self) -> str:
        """Return its name without the number of the round, under which it comes again in each."""
        stage = Stage.parse(self.name)
        return self.name if stage is None else stage.name


@dataclass(frozen=True)
class RunProgress:
    """A run: its state, its stages in order, what it counts in all, what is paused in it, and what has failed.

    ``max_rounds`` is None where it is no run of the whole pipeline.
    """

    pk: int
    state: str
    is_terminated: bool
    is_ok: bool
    message: str
    seconds: float
    stages: list[StageProgress]
    n_processes: int
    n_reused: int
    paused: list[Call]
    failures: list[Failure]
    max_rounds: int | None


@dataclass
class ProgressReader:
    """Reads the progress of one run again and again; stages that are over, and failures, are read once."""

    run: int
    _failed: tuple[Any, list[Failure]] = ((), [])
    _over: dict[int, StageProgress] = field(default_factory=dict)
    _begun: dict[int, tuple[float, int]] = field(default_factory=dict)
    _asked: dict[int, tuple[float, dict[str, Any]]] = field(default_factory=dict)

    def read(self) -> RunProgress:
        """Return the progress now.

        Raises
        ------
        ValueError
            If there is no such process.
        """
        tree = call_tree(self.run)
        top = tree[0]
        below: dict[int, list[Call]] = {}
        for call in tree:
            below.setdefault(call.parent, []).append(call)
        stages = [
            self._over.get(call.pk) or self._read_stage(call, stage, below)
            for call in below.get(self.run, [])
            if (stage := Stage.parse(call.link)) is not None
        ]
        work = _calculations(tree)
        return RunProgress(
            self.run,
            top.state,
            top.is_terminated,
            top.is_ok,
            top.message,
            top.seconds,
            stages,
            len(work),
            sum(call.cached_from is not None for call in work),
            [call for call in tree if call.paused is not None],
            self._read_failures(tree),
            _max_rounds(self.run),
        )

    def _read_failures(self, tree: list[Call]) -> list[Failure]:
        """Return what has failed; asked again when another process has ended."""
        ended = tuple(call.pk for call in tree if call.is_terminated)
        if ended != self._failed[0]:
            self._failed = (ended, all_failures(self.run))
        return self._failed[1]

    def _read_stage(self, call: Call, stage: Stage, below: Mapping[int, list[Call]]) -> StageProgress:
        calls = _descendants(call, below)
        work = _calculations([call, *calls])
        state = 'running' if not call.is_terminated else 'done' if call.is_ok else 'failed'
        progress = StageProgress(
            stage.label, call.pk, state, call.seconds, len(work), sum(one.cached_from is not None for one in work)
        )
        try:
            progress = replace(progress, **_COUNTS[stage.kind](call, calls, self._ask_job))
        except NotExistentAttributeError:
            # What comes from the cache is finished a moment before it has its outputs: the next reading finds them.
            return replace(progress, state='running')
        if state == 'failed':
            progress = replace(progress, detail=call.message or call.state)
        if call.is_terminated:
            self._over[call.pk] = progress
        elif progress.done:
            counting_s = progress.seconds if progress.counting_s is None else progress.counting_s
            begun = self._begun.setdefault(call.pk, (counting_s, progress.done))
            progress = replace(progress, begun=begun)
        return progress

    def _ask_job(self, pk: int) -> dict[str, Any]:
        """Return what a running job wrote last; empty if nothing yet."""
        when, known = self._asked.get(pk, (-REMOTE_INTERVAL_S, {}))
        node = cast(orm.CalcJobNode, orm.load_node(pk))
        is_local = node.computer is not None and node.computer.transport_type == 'core.local'
        if node.is_terminated or (not is_local and time.monotonic() - when < REMOTE_INTERVAL_S):
            return known
        try:
            with node.get_transport() as transport:
                answer = read_progress(node, transport) or known
        except Exception:  # each transport fails in its own way, and a computer that does not answer stops no display
            answer = known
        self._asked[pk] = (time.monotonic(), answer)
        return answer


def _max_rounds(run: int) -> int | None:
    """Return how many rounds a run may have, with the changes that were asked for; None if it has none."""
    node = cast(orm.ProcessNode, orm.load_node(run))
    if 'loop' not in (node.inputs.configuration.get_dict() if 'configuration' in node.inputs else {}):
        return None
    asked = [change.get_dict().get('loop', {}) for change in changes_of(node)]
    return [node.inputs.configuration['loop'], *(loop for loop in asked if 'max_rounds' in loop)][-1]['max_rounds']


def _descendants(call: Call, below: Mapping[int, list[Call]]) -> list[Call]:
    found = list(below.get(call.pk, []))
    for child in found:
        found.extend(below.get(child.pk, []))
    return found


def _calculations(calls: list[Call]) -> list[Call]:
    """Return the CalcJobs and calcfunctions, which is what caching can spare."""
    return [call for call in calls if call.process_type.startswith('aiida.calculations:')]


Ask = Callable[[int], dict[str, Any]]


def _count_relaxations(stage: Call, calls: list[Call], ask: Ask) -> dict[str, Any]:
    if not stage.is_ok:
        return {}
    moved = orm.load_node(stage.pk).outputs.report['structures']
    told = ', '.join(f'{100 * (one["volume_ratio"] - 1):+.2f} %' for one in moved)
    return {'done': len(moved), 'total': len(moved), 'unit': 'structures', 'detail': f'volume {told}'}


def _tell_choice(stage: Call, calls: list[Call], ask: Ask) -> dict[str, Any]:
    return {'detail': tell_states(orm.load_node(stage.pk).outputs.report.get_dict())} if stage.is_ok else {}


def _count_generation(stage: Call, calls: list[Call], ask: Ask) -> dict[str, Any]:
    if not stage.is_ok:
        return {}
    seeds = orm.load_node(stage.pk).outputs.seeds.n_frames
    return {'done': seeds, 'total': seeds, 'unit': 'seeds'}


def _count_labels(stage: Call, calls: list[Call], ask: Ask) -> dict[str, Any]:
    states = count_states(stage.pk, orm.load_node(stage.pk).inputs.candidates.n_frames)
    n_failed = states[CandidateState.FAILED]
    return {
        'done': states[CandidateState.LABELLED],
        'total': states.total(),
        'unit': 'labels',
        'detail': f'{n_failed} failed' if n_failed else '',
    }


def _count_exploration(stage: Call, calls: list[Call], ask: Ask) -> dict[str, Any]:
    done, total, tripped = _count_dynamics(calls, ask)
    details = [f'{tripped} replicas stopped by a guard'] if tripped else []
    if stage.is_ok:
        outputs = orm.load_node(stage.pk).outputs
        found = f'{outputs.candidates.n_frames} candidates' if 'candidates' in outputs else 'nothing new'
        details.insert(0, found)
        details += _tell_masked(outputs.report.get_dict())
    elif any(call.link == 'sampling' for call in calls):
        said = _ask_sampling(calls, ask)
        of = f' ({said["frames_described"]} of {said["frames_total"]} frames described)' if said else ''
        details.insert(0, f'selecting candidates{of}')
        details += _tell_masked(said)
    return {
        'done': done,
        'total': total or None,
        'unit': 'frames',
        'detail': ', '.join(details),
        'counting_s': _span([call for call in calls if call.process_type == MACE_MD]),
    }


def _span(calls: list[Call]) -> float | None:
    """Return how long it took from the start of the first job to the end of the last, or until now."""
    if not calls:
        return None
    return (max(call.end for call in calls) - min(call.started for call in calls)).total_seconds()


def _count_dynamics(calls: list[Call], ask: Ask) -> tuple[int, int, int]:
    """Return the frames that there are, those there will be, and the replicas that a guard stopped.

    Of each MD job only the last attempt counts. Jobs that wait for their turn are taken to bring as much
    as the others.
    """
    attempts = last_attempts(calls)
    manifests = manifests_of(attempts)
    counts = [_count_attempt(call, manifests.get(call.pk), ask) for call in attempts]
    known = [one for one in counts if one is not None]
    if not known:
        return 0, 0, 0
    done, total, tripped = (sum(column) for column in zip(*known, strict=True))
    n_jobs = orm.load_node(attempts[0].pk).inputs.n_jobs.value
    return done, round(total * n_jobs / len(known)), tripped


def _count_attempt(call: Call, manifest: Manifest | None, ask: Ask) -> tuple[int, int, int] | None:
    """Return the same of one attempt; None if it has not begun to count."""
    if not call.is_terminated:
        said = ask(call.pk)
        return (said['frames'], said['frames_total'], said['guards_tripped']) if 'frames' in said else None
    if manifest is None:
        return None if call.is_ok else (0, 0, 0)
    frames = manifest['n_frames']
    return frames, frames, sum(replica['guard'] is not None for replica in manifest['replicas'])


def _ask_sampling(calls: list[Call], ask: Ask) -> dict[str, Any]:
    """Return what the sampling job at work wrote last; empty if there is none."""
    for call in calls:
        if call.process_type.endswith('mlip_autopipe.direct_sampling') and not call.is_terminated:
            return ask(call.pk)
    return {}


def _tell_masked(report: Mapping[str, Any]) -> list[str]:
    """Return how many frames could not be described, in words, if there are any."""
    n_masked = sum(report.get('frames_masked', {}).values())
    return [f'{n_masked} broken frames left out'] if n_masked else []


def _count_training(stage: Call, calls: list[Call], ask: Ask) -> dict[str, Any]:
    jobs = [call for call in calls if call.process_type.endswith('mlip_autopipe.mace_train')]
    counted = {'unit': 'epochs', 'counting_s': _span(jobs)}
    if stage.is_ok:
        metrics = orm.load_node(stage.pk).outputs.metrics.get_dict()
        n_epochs = metrics['run']['n_epochs']
        detail = f'validation: {tell_errors(metrics["validation"])}'
        return {**counted, 'done': n_epochs, 'total': n_epochs, 'detail': detail}
    running = [said for call in jobs if not call.is_terminated and 'epochs' in (said := ask(call.pk))]
    if not running:
        return counted
    last = min(running, key=lambda said: said['epoch'])
    errors = {'energy_rmse_meV': last.get('rmse_e_meV'), 'force_rmse_meV_A': last.get('rmse_f_meV_A')}
    return {**counted, 'done': last['epoch'], 'total': last['epochs'], 'detail': f'validation: {tell_errors(errors)}'}


def _count_evaluation(stage: Call, calls: list[Call], ask: Ask) -> dict[str, Any]:
    if not stage.is_ok:
        return {}
    metrics = orm.load_node(stage.pk).outputs.metrics.get_dict()
    judged_on = metrics['by_split'] or {'new labels': metrics}
    return {'detail': '; '.join(f'{name}: {tell_errors(judged_on[name])}' for name in sorted(judged_on, reverse=True))}


def _count_checks(stage: Call, calls: list[Call], ask: Ask) -> dict[str, Any]:
    if not stage.is_ok:
        return {}
    verdicts = [check['passed'] for check in orm.load_node(stage.pk).outputs.checks['checks'].values()]
    judged = {'done': verdicts.count(True), 'total': len(verdicts) - verdicts.count(None), 'unit': 'checks passed'}
    return {**judged, 'detail': f'{verdicts.count(None)} without a verdict' if None in verdicts else ''}


_COUNTS: dict[Kind, Callable[[Call, list[Call], Ask], dict[str, Any]]] = {
    Kind.RELAX: _count_relaxations,
    Kind.CHOOSE: _tell_choice,
    Kind.GENERATE: _count_generation,
    Kind.LABEL: _count_labels,
    Kind.EXPLORE: _count_exploration,
    Kind.TRAIN: _count_training,
    Kind.EVALUATE: _count_evaluation,
    Kind.PHYSICS: _count_checks,
}


def tell_errors(metrics: Mapping[str, object]) -> str:
    """Return root mean square errors in words: '4.1 meV/atom, 95 meV/Å, 0.31 GPa'."""
    units = (
        ('energy_rmse_meV', '{:.1f} meV/atom'),
        ('force_rmse_meV_A', '{:.0f} meV/Å'),
        ('stress_rmse_GPa', '{:.2f} GPa'),
    )
    return ', '.join(text.format(metrics[name]) for name, text in units if metrics.get(name) is not None)
