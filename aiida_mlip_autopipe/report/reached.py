"""What a run has to hand on: its outputs, or what its stages had reached when it was ended from outside.

A run that fails attaches what it has. A run that is killed, or whose daemon died, attaches nothing: then its stages are
asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiida import orm

from aiida_mlip_autopipe.data import FramesData, PotentialData
from aiida_mlip_autopipe.pipeline.stages import Kind, Stage
from aiida_mlip_autopipe.provenance.calls import Call, call_tree, pk_of

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ['Reached', 'what_it_reached']

SPLITS = ('training', 'validation', 'test', 'hot')
TEST_SET_LINK = 'mark_hot_frames'


@dataclass(frozen=True)
class Reached:
    """The potential of a run, its committee, and the frames with labels.

    Attributes
    ----------
    potential : PotentialData
    committee : dict
        ``member_1`` ... -> the other potentials.
    dataset : FramesData
        Training and validation set.
    test_set : FramesData or None
    """

    potential: PotentialData
    committee: dict[str, PotentialData]
    dataset: FramesData
    test_set: FramesData | None

    def splits(self) -> dict[str, list[Atoms]]:
        """Return the frames of each split that there is, in this order: training, validation, test, hot."""
        frames: dict[str, list[Atoms]] = {name: [] for name in SPLITS}
        for node in (self.dataset, self.test_set):
            for atoms in node.get_atoms() if node is not None else ():
                frames[atoms.info['split']].append(atoms)
        return {name: found for name, found in frames.items() if found}


def what_it_reached(run: orm.WorkChainNode) -> Reached:
    """Return what a run has to hand on.

    Raises
    ------
    ValueError
        If it is no run of the pipeline, is still at work, or has trained no potential.
    """
    if 'configuration' not in run.inputs:
        raise ValueError(
            f'{run.pk} is a {run.process_label}, not a run of the pipeline; `mlip-autopipe status` lists the runs'
        )
    if not run.is_terminated:
        raise ValueError(
            f'run {run.pk} is still running; wait until it ends (`mlip-autopipe watch {run.pk}`), or get the '
            f'results so far with `mlip-autopipe status {run.pk} --output FOLDER`'
        )
    training = next((stage.outputs for stage in _called(run, _is_training) if 'dataset' in stage.outputs), None)
    source = run.outputs if 'potential' in run.outputs else training
    if source is None or 'potential' not in source:
        raise ValueError(
            f'run {run.pk} has not trained a potential, so there is nothing to export; '
            f'`mlip-autopipe status {run.pk}` shows its state'
        )
    marked = next((node.outputs.result for node in _called(run, _marks_test_set) if 'result' in node.outputs), None)
    return Reached(
        source.potential,
        dict(source.committee.items()) if 'committee' in source else {},
        source.dataset,
        run.outputs.test_set if 'test_set' in run.outputs else marked,
    )


def _is_training(call: Call) -> bool:
    stage = Stage.parse(call.link)
    return stage is not None and stage.kind is Kind.TRAIN


def _marks_test_set(call: Call) -> bool:
    return call.link == TEST_SET_LINK


def _called(run: orm.WorkChainNode, is_wanted: Callable[[Call], bool]) -> Iterator[orm.ProcessNode]:
    """Yield the wanted ones among what a run called, newest first."""
    for call in sorted(call_tree(pk_of(run)), key=lambda call: call.started, reverse=True):
        if call.parent == run.pk and is_wanted(call):
            yield orm.load_node(call.pk)  # type: ignore[misc]
