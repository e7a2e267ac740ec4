"""What went wrong in a run, and where: what failed first, in its own words, what the run did about it, and the way out.

Three sources tell it: the processes that failed, what the labelling stages rejected, and the guards in the manifests
of the MD jobs. A failed process and the rejected candidate that it was to label are one failure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from aiida import orm

from aiida_mlip_autopipe.data import FramesData
from aiida_mlip_autopipe.labelling.kinds import job_types
from aiida_mlip_autopipe.pipeline.exit_codes import WARNINGS, advice_on
from aiida_mlip_autopipe.provenance.calls import Call, call_tree, in_time, stage_of
from aiida_mlip_autopipe.provenance.dynamics import last_attempts, manifests_of
from aiida_mlip_autopipe.provenance.states import LABEL, Candidate, CandidateState, candidate_states
from aiida_mlip_autopipe.science.dynamics.guards import GENTLER_SEEDS, seeds_own_energy
from aiida_mlip_autopipe.science.frames import GuardEntry

__all__ = ['Ending', 'Failure', 'all_failures', 'failures']

ATTEMPT_LINK = 'iteration_'
LABEL_SEQUENCE, TRAIN = (f'aiida.workflows:mlip_autopipe.{name}' for name in ('label.sequence', 'train'))
MD_SEQUENCE = 'aiida.workflows:mlip_autopipe.mace_md.sequence'
#: The words of a process in a reason: ``PwCalculation<57> [410]: ...``
IN_REASON = re.compile(r'^(?P<process>\w+)<(?P<pk>\d+)>(?: \[(?P<status>\d+)\])?: (?P<words>.*)$', re.DOTALL)
#: What stands for the process where none failed.
REFUSED_LABEL, BROKEN_REPLICA = 'label rejected', 'replica stopped by a guard'
BOUNDS = re.compile(r'\b(max_force_eV_A|max_stress_GPa|energy_window_eV)\b')

AGAIN = 'submit the same input again: finished calculations come from the cache'


class Ending(StrEnum):
    """What became of a failure."""

    RECOVERED = 'recovered'
    TOLERATED = 'tolerated'
    IN_PROGRESS = 'in progress'
    UNRESOLVED = 'unresolved'


@dataclass(frozen=True)
class Failure:
    """Something that failed.

    Attributes
    ----------
    pk : int
        The process; of a label that was refused what computed it, of a replica its MD job.
    process : str
        Its name; 'label rejected' or 'replica stopped by a guard' if no process failed.
    stage : str
        The stage of the pipeline that it belongs to.
    exit_status, message
        What it said.
    ending : Ending
        'recovered': a later attempt succeeded. 'tolerated': the run continued without it. 'in progress': another
        attempt is running. 'unresolved': the run ended because of it.
    action : str
        What the pipeline did about it.
    way_out : str
        What the user can do; empty where nothing is to be done.
    subject : str
        The frame or the replica that it is about; empty where it is about neither.
    """

    pk: int
    process: str
    stage: str
    exit_status: int | None
    message: str
    ending: Ending
    action: str = ''
    way_out: str = ''
    subject: str = ''

    @property
    def handled(self) -> bool:
        """Return whether the run went on, or may do so."""
        return self.ending is not Ending.UNRESOLVED


def failures(run: int) -> list[Failure]:
    """Return the failed processes of a run that no failed process of theirs explains, oldest first.

    Raises
    ------
    ValueError
        If there is no such process.
    """
    return _failed_processes(run, {call.pk: call for call in call_tree(run)})


def all_failures(run: int) -> list[Failure]:
    """Return all that failed in a run: processes, candidates without a label, replicas that a guard ended.

    Raises
    ------
    ValueError
        If there is no such process.
    """
    tree = {call.pk: call for call in call_tree(run)}
    rejected = {(one.pk, one.subject): one for one in _refused_candidates(run, tree)}
    of_rejected = {one.pk for one in rejected.values()}
    processes = [one for one in _failed_processes(run, tree) if one.pk not in of_rejected]
    when = {call.pk: number for number, call in enumerate(in_time(tree.values()))}
    return sorted(
        [*processes, *rejected.values(), *_broken_replicas(run, tree)],
        key=lambda one: (when.get(one.pk, len(when)), one.subject),
    )


def _failed_processes(run: int, tree: Mapping[int, Call]) -> list[Failure]:
    explained = {call.parent for call in tree.values() if call.is_failed}
    return [
        _with_ending(call, tree, run) for call in in_time(tree.values()) if call.is_failed and call.pk not in explained
    ]


def _with_ending(call: Call, tree: Mapping[int, Call], run: int) -> Failure:
    """Return the failure of a process, with what the nearest of its callers that did not fail made of it."""
    failure = Failure(
        call.pk,
        call.label,
        stage_of(call, tree, run) if call.pk != run else call.label,
        call.exit_status,
        call.message or call.state,
        Ending.UNRESOLVED,
        'the run ended',
        _way_out(call, run),
    )
    given_up = call
    while given_up.parent in tree and tree[given_up.parent].is_failed:
        given_up = tree[given_up.parent]
    if given_up.parent not in tree:
        return failure
    ending, action = _what_was_done(call, given_up, tree)
    return replace(failure, ending=ending, action=action, way_out=failure.way_out if ending is Ending.TOLERATED else '')


def _what_was_done(call: Call, given_up: Call, tree: Mapping[int, Call]) -> tuple[Ending, str]:
    """Return how it went on after a process was given up, and in words; ``call`` is the process that failed first."""
    caller = tree[given_up.parent]
    if given_up.link.startswith(ATTEMPT_LINK):
        later = [one for one in in_time(tree.values()) if one.parent == caller.pk and one.started > given_up.started]
        attempts = [one for one in later if one.link.startswith(ATTEMPT_LINK)]
        again = f'run again as <{attempts[0].pk}>' if attempts else 'will run again'
        if not caller.is_terminated:
            return Ending.IN_PROGRESS, again
        if caller.exit_status in WARNINGS:
            return Ending.TOLERATED, f'not repeated; the results of <{caller.pk}> so far were used'
        return Ending.RECOVERED, f'{again}; <{caller.pk}> succeeded'
    if caller.process_type == LABEL_SEQUENCE:
        if given_up.link.startswith('batch_'):
            return Ending.RECOVERED, 'its candidates were labelled one by one'
        return Ending.TOLERATED, 'the candidate was rejected, the other labels were used'
    if caller.process_type == TRAIN:
        return Ending.TOLERATED, 'the committee was trained without this member'
    if caller.process_type == MD_SEQUENCE:
        return Ending.TOLERATED, 'the exploration continued with the existing frames'
    return Ending.TOLERATED, f'{caller.label} <{caller.pk}> continued'


def _way_out(call: Call, run: int) -> str:
    """Return what the user can do about a process that failed."""
    if call.process_type == LABEL or call.process_type in job_types():
        return f'mlip-autopipe resubmit {run}' + (' --wallclock SECONDS' if call.exit_status in (120, 400) else '')
    hint = advice_on(call.process_type, call.exit_status)
    if call.state == 'killed' or not hint:
        return AGAIN
    return f'{hint}; then {AGAIN}'


def _refused_candidates(run: int, tree: Mapping[int, Call]) -> Iterator[Failure]:
    """Yield the candidates that labelling stages rejected, with what became of them since."""
    stages = [call.pk for call in tree.values() if call.process_type == LABEL]
    query = orm.QueryBuilder()
    query.append(orm.WorkChainNode, filters={'id': {'in': stages}}, project='id', tag='stage')
    query.append(orm.Dict, with_incoming='stage', edge_filters={'label': 'rejected'}, project='attributes')
    query.append(FramesData, with_outgoing='stage', edge_filters={'label': 'candidates'}, project='*')
    for stage, rejected, candidates in query.all() if stages else ():
        now = {one.frame_id: one for one in candidate_states(candidates)} if rejected else {}
        for frame_id, reason in rejected.items():
            yield _refused(run, tree[stage], stage_of(tree[stage], tree, run), frame_id, reason, now[frame_id])


def _refused(run: int, stage: Call, name: str, frame_id: str, reason: str, now: Candidate) -> Failure:
    """Return the failure of a candidate that a stage rejected; ``now``: its state after all stages since."""
    said = IN_REASON.match(reason)
    bound = BOUNDS.search(reason)
    ending, action = Ending.TOLERATED, 'the candidate was rejected, the other labels were used'
    way_out = f'labelling.{bound[0]}, if the frame is needed; then {AGAIN}' if bound else ''
    if not bound:
        slow = said is not None and said['status'] in ('120', '400')
        way_out = f'mlip-autopipe resubmit {run}' + (' --wallclock SECONDS' if slow else '')
    if now.state is CandidateState.LABELLED:
        ending, action, way_out = Ending.RECOVERED, f'labelled later by <{now.pk}>', ''
    elif now.state is CandidateState.LABELLING:
        ending, action, way_out = Ending.IN_PROGRESS, f'being labelled by <{now.pk}>', ''
    return Failure(
        pk=int(said['pk']) if said else now.pk or stage.pk,
        process=said['process'] if said else REFUSED_LABEL,
        stage=name,
        exit_status=int(said['status']) if said and said['status'] else None,
        message=said['words'] if said else reason,
        ending=ending,
        action=action,
        way_out=way_out,
        subject=f'frame {frame_id}',
    )


def _broken_replicas(run: int, tree: Mapping[int, Call]) -> Iterator[Failure]:
    """Yield the replicas that a guard ended; of each MD job the last attempt tells of all its replicas."""
    for pk, manifest in manifests_of(last_attempts(tree.values())).items():
        for replica in manifest['replicas']:
            guard = replica['guard']
            if guard is None:
                continue
            value = 'not finite' if guard['value'] is None else f'{guard["value"]:.4g}'
            pressure = '' if replica['pressure_GPa'] is None else f', {replica["pressure_GPa"]:g} GPa'
            conditions = f'{replica["temperature_K"]:g} K{pressure}'
            yield Failure(
                pk=pk,
                process=BROKEN_REPLICA,
                stage=stage_of(tree[pk], tree, run),
                exit_status=None,
                message=f'guard {guard["name"]} at step {guard["step"]}: {value} (bound {guard["bound"]:.4g})',
                ending=Ending.TOLERATED,
                action=f'the replica was stopped; its {replica["n_frames"]} earlier frames were used',
                way_out=f'not needed if few replicas are affected; else {_of_guard(guard)}',
                subject=f'replica {replica["replica"]} of {replica["origin"]}, {conditions}',
            )


def _of_guard(guard: GuardEntry) -> str:
    """Return what to change where a guard stops too many replicas."""
    own = seeds_own_energy(guard)
    return f'{GENTLER_SEEDS}: {own}' if own else 'lower the temperatures or timestep_fs'
