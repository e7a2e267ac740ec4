"""Stages and their labels, and the outline of which the workflow is made."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import aiida_mlip_autopipe
from aiida_mlip_autopipe.pipeline.outline import OUTLINE, stages_that_run
from aiida_mlip_autopipe.pipeline.stages import EVALUATE, EVALUATE_LABELS, LABEL, LABEL_TEST, Kind, Stage

LABELS = (
    'relax',
    'choose_state',
    'generate_seeds',
    'label_data',
    'label_initial',
    'train_bootstrap',
    'explore_test',
    'label_test',
    'evaluate_surrogate',
    *(f'{name}_r{n}' for n in (1, 12) for name in ('explore', 'label', 'evaluate_labels', 'train', 'evaluate')),
    'label_physics',
    'physics',
)
CONDITIONS = (
    'should_relax',
    'should_choose_state',
    'has_data',
    'needs_a_surrogate',
    'should_continue',
    'found_something_new',
    'should_check_physics',
)
#: Labels of stages that are parsed as strings.
PARSED = re.compile(
    r"""(startswith|removeprefix|replace)\(f?'(label|explore|train|evaluate)_?(r|labels)?'?|(?<!parameters)_r\{"""
)


@pytest.mark.parametrize('label', LABELS)
def test_a_label_is_read_as_it_was_made(label):
    """Each label gives a stage that makes the same label."""
    stage = Stage.parse(label)
    assert stage is not None and stage.label == str(stage) == label


@pytest.mark.parametrize(
    'label',
    ['', 'summarise', 'change_1', 'parameters_r1', 'physics_structures', 'explore', 'label', 'label_3', 'explore_r0',
     'explore_test_r1', 'label_initial_r1', 'mark_hot_frames', 'train_member_1'],
)  # fmt: skip
def test_what_is_no_stage(label):
    """Other calls of a run, and labels without the round that they need, are no stages."""
    assert Stage.parse(label) is None


def test_what_a_stage_is_for():
    """Its kind, purpose and round, and what follows from them."""
    stage = Stage.parse('evaluate_labels_r2')
    assert stage == Stage(Kind.EVALUATE, 'labels', 2) == EVALUATE_LABELS.in_round(2)
    assert (stage.name, stage.subject, stage.round) == ('evaluate_labels', 'labels_r2', 2)
    assert stage.judges_labels and not stage.judges_potential
    assert EVALUATE.in_round(3).judges_potential
    assert LABEL.in_round(1).is_trained_on and not LABEL_TEST.is_trained_on
    trained_on = [label for label in LABELS if Stage.parse(label).is_trained_on]
    assert trained_on == ['label_initial', 'label_r1', 'label_r12']


def test_all_stages_of_the_outline_run_where_all_conditions_hold():
    """Two rounds, each with its number."""
    rounds = iter([True, True, False])
    ran = [stage.label for stage in stages_that_run(lambda name: name != 'should_continue' or next(rounds))]
    assert ran == [label.replace('_r12', '_r2') for label in LABELS]


def test_where_no_condition_holds_the_first_potential_is_still_judged():
    """Without data, rounds and checks, and with a surrogate."""
    asked = []
    ran = [stage.label for stage in stages_that_run(lambda name: asked.append(name) or False)]
    assert ran == ['generate_seeds', 'label_initial', 'explore_test', 'label_test', 'evaluate_surrogate']
    assert asked == [name for name in CONDITIONS if name != 'found_something_new']


def test_the_workflow_has_a_method_for_each_step():
    """What the outline names is there: a stage under its name, a condition, a step between stages."""
    from aiida_mlip_autopipe.workflows.autopipe import AutoPipeWorkChain

    methods = list(AutoPipeWorkChain.methods_of(OUTLINE))
    assert methods[0].__name__ == 'start'
    assert all(callable(getattr(AutoPipeWorkChain, name)) for name in (*CONDITIONS, 'start', 'adopt_data', 'finish'))
    assert str(AutoPipeWorkChain.spec().get_outline().get_description())


def test_labels_are_made_and_read_in_one_place():
    """No other module of the package takes a label of a stage apart."""
    package = Path(aiida_mlip_autopipe.__file__).parent
    found = {path.name for path in package.rglob('*.py') if PARSED.search(path.read_text(encoding='utf-8'))}
    assert found <= {'stages.py'}
