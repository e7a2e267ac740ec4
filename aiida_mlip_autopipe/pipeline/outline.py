"""The method: which stages run, in which order, and on which conditions.

``AutoPipeWorkChain`` makes its outline of this and ``mlip-autopipe plan`` counts it. A name in quotes is a step of the
workflow that submits nothing; a condition is asked by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from aiida_mlip_autopipe.pipeline.stages import (
    CHOOSE_STATE,
    EVALUATE,
    EVALUATE_LABELS,
    EVALUATE_SURROGATE,
    EXPLORE,
    EXPLORE_TEST,
    GENERATE_SEEDS,
    LABEL,
    LABEL_DATA,
    LABEL_INITIAL,
    LABEL_PHYSICS,
    LABEL_TEST,
    PHYSICS,
    RELAX,
    TRAIN,
    TRAIN_BOOTSTRAP,
    Stage,
)

__all__ = ['OUTLINE', 'Rounds', 'Step', 'When', 'stages_that_run']


@dataclass(frozen=True)
class When:
    """Steps that run once where a condition holds."""

    condition: str
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Rounds:
    """Steps that run again and again as long as a condition holds; its stages bear the number of the round."""

    condition: str
    steps: tuple[Step, ...]


Step = Stage | str | When | Rounds

OUTLINE: tuple[Step, ...] = (
    'start',
    When('should_relax', (RELAX,)),
    When('should_choose_state', (CHOOSE_STATE, 'take_state')),
    GENERATE_SEEDS,
    When('has_data', (LABEL_DATA, 'adopt_data')),
    LABEL_INITIAL,
    When('needs_a_surrogate', (TRAIN_BOOTSTRAP,)),
    EXPLORE_TEST,
    LABEL_TEST,
    EVALUATE_SURROGATE,
    Rounds(
        'should_continue',
        (
            EXPLORE,
            When('found_something_new', (LABEL, EVALUATE_LABELS, TRAIN, EVALUATE)),
        ),
    ),
    'finish',
    When('should_check_physics', (LABEL_PHYSICS, PHYSICS)),
)


def stages_that_run(
    holds: Callable[[str], bool], steps: tuple[Step, ...] = OUTLINE, number: int = 0
) -> Iterator[Stage]:
    """Yield the stages of a run in order.

    Parameters
    ----------
    holds : callable
        Name of a condition -> whether it holds. It is asked when the stages before have been taken.
    steps : tuple
        The steps; by default all.
    number : int
        The round that they belong to.
    """
    for step in steps:
        if isinstance(step, Stage):
            yield step.in_round(number)
        elif isinstance(step, When) and holds(step.condition):
            yield from stages_that_run(holds, step.steps, number)
        elif isinstance(step, Rounds):
            while holds(step.condition):
                number += 1
                yield from stages_that_run(holds, step.steps, number)
            number = 0
