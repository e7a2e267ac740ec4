"""A stage of the pipeline: what kind of work, for what purpose, in which round; and the link label made of these.

A run calls each of its stages under its label, such as ``explore_r1`` or ``label_initial``. All that asks the graph for
stages reads the labels here.

>>> Stage.parse('evaluate_labels_r2')
Stage(kind=<Kind.EVALUATE: 'evaluate'>, purpose='labels', round=2)
>>> EXPLORE.in_round(1).label
'explore_r1'
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum

__all__ = [
    'CHOOSE_STATE',
    'EVALUATE',
    'EVALUATE_LABELS',
    'EVALUATE_SURROGATE',
    'EXPLORE',
    'EXPLORE_TEST',
    'GENERATE_SEEDS',
    'LABEL',
    'LABEL_DATA',
    'LABEL_INITIAL',
    'LABEL_PHYSICS',
    'LABEL_TEST',
    'PHYSICS',
    'RELAX',
    'TRAIN',
    'TRAIN_BOOTSTRAP',
    'Kind',
    'Stage',
]


class Kind(StrEnum):
    """The kind of work of a stage."""

    RELAX = 'relax'
    CHOOSE = 'choose'
    GENERATE = 'generate'
    LABEL = 'label'
    TRAIN = 'train'
    EXPLORE = 'explore'
    EVALUATE = 'evaluate'
    PHYSICS = 'physics'


@dataclass(frozen=True)
class Stage:
    """A stage.

    Attributes
    ----------
    kind : Kind
    purpose : str
        What it is for, where the kind alone does not say: 'initial', 'test', 'bootstrap' ...
    round : int
        Counted from 1; 0 for a stage before or after the rounds.
    """

    kind: Kind
    purpose: str = ''
    round: int = 0

    @property
    def name(self) -> str:
        """Return its kind and purpose without the round: 'explore', 'evaluate_labels'."""
        return '_'.join(part for part in (self.kind, self.purpose) if part)

    @property
    def label(self) -> str:
        """Return the label of its call: 'explore_r1', 'evaluate_labels_r1', 'label_initial'."""
        return f'{self.name}_r{self.round}' if self.round else self.name

    @property
    def subject(self) -> str:
        """Return its label without the kind: 'r1', 'labels_r1', 'initial'; that of ``physics`` is empty."""
        return '_'.join(part for part in (self.purpose, f'r{self.round}' if self.round else '') if part)

    @property
    def is_trained_on(self) -> bool:
        """Return whether its labels go into the training set of the run: not those of tests and checks."""
        return replace(self, round=0) in (LABEL_INITIAL, LABEL)

    @property
    def judges_potential(self) -> bool:
        """Return whether it judges a potential on the test set, not one on the labels of what it found."""
        return replace(self, round=0) in (EVALUATE_SURROGATE, EVALUATE)

    @property
    def judges_labels(self) -> bool:
        """Return whether it judges the potential that explored on the labels of what it found."""
        return replace(self, round=0) == EVALUATE_LABELS

    def in_round(self, number: int) -> Stage:
        """Return the same stage in a round."""
        return replace(self, round=number)

    @classmethod
    def parse(cls, label: str) -> Stage | None:
        """Return the stage of a label; None where the call is no stage, such as 'summarise' or 'change_1'."""
        match = _LABEL.match(label)
        stage = _KNOWN.get(match['name']) if match else None
        if match is None or stage is None or (match['round'] is None) == (stage in _IN_ROUNDS):
            return None
        return stage if match['round'] is None else stage.in_round(int(match['round']))

    def __str__(self) -> str:
        """Return the label."""
        return self.label


RELAX = Stage(Kind.RELAX)
CHOOSE_STATE = Stage(Kind.CHOOSE, 'state')
GENERATE_SEEDS = Stage(Kind.GENERATE, 'seeds')
LABEL_DATA = Stage(Kind.LABEL, 'data')
LABEL_INITIAL = Stage(Kind.LABEL, 'initial')
LABEL_TEST = Stage(Kind.LABEL, 'test')
LABEL_PHYSICS = Stage(Kind.LABEL, 'physics')
TRAIN_BOOTSTRAP = Stage(Kind.TRAIN, 'bootstrap')
EXPLORE_TEST = Stage(Kind.EXPLORE, 'test')
EVALUATE_SURROGATE = Stage(Kind.EVALUATE, 'surrogate')
PHYSICS = Stage(Kind.PHYSICS)

# Those of a round, which `Stage.in_round` numbers.
EXPLORE = Stage(Kind.EXPLORE)
LABEL = Stage(Kind.LABEL)
EVALUATE_LABELS = Stage(Kind.EVALUATE, 'labels')
TRAIN = Stage(Kind.TRAIN)
EVALUATE = Stage(Kind.EVALUATE)

_IN_ROUNDS = (EXPLORE, LABEL, EVALUATE_LABELS, TRAIN, EVALUATE)
_OUTSIDE_ROUNDS = (
    RELAX,
    CHOOSE_STATE,
    GENERATE_SEEDS,
    LABEL_DATA,
    LABEL_INITIAL,
    LABEL_TEST,
    LABEL_PHYSICS,
    TRAIN_BOOTSTRAP,
    EXPLORE_TEST,
    EVALUATE_SURROGATE,
    PHYSICS,
)
_KNOWN = {stage.name: stage for stage in (*_IN_ROUNDS, *_OUTSIDE_ROUNDS)}
_LABEL = re.compile(r'^(?P<name>[a-z_]+?)(?:_r(?P<round>[1-9]\d*))?$')
