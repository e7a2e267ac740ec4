"""Changes to a run that is under way: asked for by the user, found by the run before its next round.

A change is a ``Dict`` that names its run. The run takes it up through a calcfunction, so that the graph tells what held
when; what has run stays as it is.
"""

from __future__ import annotations

from typing import Any

from aiida import orm

__all__ = ['CHANGEABLE', 'ask_for_change', 'changes_of']

RUN_EXTRA = 'mlip_autopipe_changes_run'
CHANGEABLE = {
    'loop': ('min_rounds', 'max_rounds', 'max_labels', 'max_core_hours'),
    'evaluation': ('max_energy_rmse_meV', 'max_force_rmse_meV_A', 'max_stress_rmse_GPa'),
    'exploration': ('n_to_select',),
}
"""What may be changed: budget and tolerances, which say when to stop, and how many frames a round labels."""


def ask_for_change(run: orm.WorkChainNode, values: dict[str, dict[str, Any]]) -> orm.Dict:
    """Store a change for a run: section -> key -> value."""
    change = orm.Dict(values, label=f'change of run {run.pk}')
    change.store()
    change.base.extras.set(RUN_EXTRA, run.uuid)
    return change


def changes_of(run: orm.ProcessNode) -> list[orm.Dict]:
    """Return the changes that were asked for, oldest first."""
    query = orm.QueryBuilder()
    query.append(orm.Dict, filters={f'extras.{RUN_EXTRA}': run.uuid}, tag='change')
    query.order_by({'change': 'ctime'})
    return query.all(flat=True)
