"""What went wrong in a run, and where: the processes that failed first, with their own words."""

from __future__ import annotations

from dataclasses import dataclass

from .calls import call_tree, stage_of

__all__ = ['Failure', 'failures']


@dataclass(frozen=True)
class Failure:
    """A process that failed.

    Attributes
    ----------
    pk : int
    process : str
        Its name.
    stage : str
        The stage of the pipeline that it belongs to.
    exit_status, message
        What it said.
    handled : bool
        Whether the process that called it went on to finish well: a restart, or a label that was kept aside.
    """

    pk: int
    process: str
    stage: str
    exit_status: int | None
    message: str
    handled: bool


def failures(run: int) -> list[Failure]:
    """Return the failed processes of a run that no failed process of theirs explains, oldest first.

    Raises
    ------
    ValueError
        If there is no such process.
    """
    tree = {call.pk: call for call in call_tree(run)}
    explained = {call.parent for call in tree.values() if call.is_failed}
    return [
        Failure(
            call.pk,
            call.label,
            stage_of(call, tree, run),
            call.exit_status,
            call.message or call.state,
            call.parent in tree and not tree[call.parent].is_failed,
        )
        for call in sorted(tree.values(), key=lambda call: call.pk)
        if call.is_failed and call.pk not in explained
    ]
