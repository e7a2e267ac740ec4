"""``mlip-autopipe resubmit``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from aiida_mlip_autopipe.cli.commands.status import RUN, load_run
from aiida_mlip_autopipe.cli.console import UsageProblem, console, load_profile, tell_errors

if TYPE_CHECKING:
    from aiida.orm import WorkChainNode

__all__ = ['command']


@click.command('resubmit')
@click.argument('pk', metavar='PK', type=RUN)
@click.option('-n', '--max-concurrent', type=click.IntRange(1, 1000), help='Number of sequences; by default as before.')
@click.option(
    '-w',
    '--wallclock',
    type=click.IntRange(1),
    metavar='SECONDS',
    help='Time limit of each job; by default as before.',
)
@click.pass_obj
def command(profile_name: str | None, pk: int, max_concurrent: int | None, wallclock: int | None) -> None:
    """Repeat the labels of candidates without a label, with the same inputs.

    PK is the PK of a run, for all its finished labelling stages, or of one of them. Existing labels are not changed.
    Submit the input of the run again afterwards to continue with all labels.

    \b
    mlip-autopipe resubmit 1234 --wallclock 7200
    """
    with tell_errors():
        profile = load_profile(profile_name)
        from aiida.engine import submit

        from aiida_mlip_autopipe.cli.launch import SLOTS_PER_SEQUENCE, check_slots
        from aiida_mlip_autopipe.workflows.labelling.resubmit import build_resubmission, forget_failures

        failed = {stage: indices for stage in _stages(pk) if (indices := _without_label(stage))}
        if not failed:
            console.print(f'<{pk}>: every candidate has a label, or is being labelled')
            return
        sequences = [
            min(max_concurrent or stage.inputs.parameters['max_concurrent'], len(indices))
            for stage, indices in failed.items()
        ]
        check_slots(profile, sum(1 + SLOTS_PER_SEQUENCE * number for number in sequences), 'lower --max-concurrent')
        for stage, indices in failed.items():
            builder = build_resubmission(stage, indices, max_concurrent=max_concurrent, wallclock_seconds=wallclock)
            forget_failures(stage)
            node = submit(builder)
            console.print(
                f'submitted <{node.pk}>: {len(indices)} of {stage.inputs.candidates.n_frames} candidates of stage '
                f'<{stage.pk}>; follow it with: verdi process status {node.pk}'
            )


def _stages(pk: int) -> list[WorkChainNode]:
    """Return the labelling stage that a PK stands for, or those of a run that have ended."""
    from aiida_mlip_autopipe.provenance.states import LABEL, stages_called

    node = load_run(pk)
    if node.process_type == LABEL:
        if not node.is_terminated:
            raise UsageProblem(f'the labelling stage <{pk}> is running; wait until it ends')
        return [node]
    called = stages_called(node)
    if not called:
        raise UsageProblem(f'<{pk}> has no labelling stage; `mlip-autopipe status` lists the runs')
    return [one for one in called if one.is_terminated]


def _without_label(stage: WorkChainNode) -> list[int]:
    """Return the candidates that a stage was to label and that have no label, nor are about to have one."""
    from aiida.orm import load_node

    from aiida_mlip_autopipe.provenance.states import CandidateState, candidate_states, labelling_stages

    candidates, level = stage.inputs.candidates, _level_of(stage)
    wanted = stage.inputs.only.get_list() if 'only' in stage.inputs else range(candidates.n_frames)
    alike = [one for one in labelling_stages(candidates) if _level_of(load_node(one)) == level]
    states = candidate_states(candidates, alike)
    settled = (CandidateState.LABELLED, CandidateState.LABELLING)
    return [index for index in wanted if states[index].state not in settled]


def _level_of(stage: WorkChainNode) -> str:
    """Return the fingerprint of the level of theory of a labelling stage."""
    from aiida_mlip_autopipe.labelling.base import labeller_of_process

    return labeller_of_process(stage).fingerprint()
