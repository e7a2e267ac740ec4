"""The summary of a run, from what a finished one has left; its rounds renumbered as if others had found nothing."""

import re

import pytest
from aiida import orm

from aiida_mlip_autopipe.calculations.functions.summarise import summarise

NUMBERED = re.compile(r'_2$')


@pytest.fixture
def given(finished_run):
    """Return the inputs of the summary of a run with two rounds."""
    (node,) = [node for node in finished_run.called if node.process_label == 'summarise']
    return {name: node.inputs[name] for name in node.inputs}


def test_a_round_in_the_middle_that_found_nothing_keeps_the_numbers(given, finished_run):
    """As if the second of four rounds, and the last, had found nothing: nothing but the numbers changes."""
    renumbered = {NUMBERED.sub('_3', name): node for name, node in given.items()}
    renumbered['n_rounds'] = orm.Int(4)
    found, before = summarise(**renumbered).get_dict(), finished_run.outputs.summary
    assert [one['round'] for one in found['rounds']] == [1, 3]
    assert (found['stopped']['n_rounds'], found['stopped']['empty_rounds']) == (4, [2, 4])
    assert [one['test'] for one in found['rounds']] == [one['test'] for one in before['rounds']]
    assert found['learning_curve'] == before['learning_curve'] and found['learning_curve'] is not None
    assert found['stopped']['above_tolerance'] == before['stopped']['above_tolerance']


def test_without_a_number_of_rounds_none_was_empty(given):
    stopped = summarise(**{name: node for name, node in given.items() if name != 'n_rounds'})['stopped']
    assert (stopped['n_rounds'], stopped['empty_rounds']) == (2, [])


def test_an_error_that_rises_is_in_the_summary_with_its_reason(given):
    """The first potential takes the place of the last: what fell rises; its training says that steps were the limit."""
    training = given['training_2'].get_dict()
    training['run'] |= {'limited_by': 'training'}
    exchanged = given | {
        'surrogate': given['round_2'], 'round_1': given['round_2'], 'round_2': given['surrogate'],
        'training_2': orm.Dict(training),
    }  # fmt: skip
    first, second = summarise(**exchanged)['rounds']
    assert first['risen'] is None
    rise = second['risen']['errors']['test']['force_rmse_meV_A']
    assert rise['now'] - rise['before'] > rise['standard_error']
    assert rise['now'] == given['surrogate']['by_split']['test']['force_rmse_meV_A']
    assert any('limited by its steps' in reason for reason in second['risen']['reasons'])
