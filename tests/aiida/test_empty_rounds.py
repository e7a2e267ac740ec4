"""What a run does after a round that found nothing new: the WorkChain itself, between two of its steps."""

import pytest
from aiida import orm
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager

from aiida_mlip_autopipe.pipeline.exit_codes import NOTHING_NEW


@pytest.fixture
def after_an_empty_exploration(finished_run):
    """Return the WorkChain of a run just after an exploration that found nothing new; two rounds at least are asked."""
    process = instantiate_process(get_manager().get_runner(), finished_run.get_builder_restart())
    process.node.store()
    process.start()
    exploration = orm.WorkChainNode()
    exploration.set_exit_status(NOTHING_NEW.status)
    exploration.set_exit_message('no frame is farther than 0.1')
    evaluations = [node for node in finished_run.called if node.process_label == 'EvaluationWorkChain']
    judged = next(node for node in evaluations if node.outputs.metrics['by_split'])
    process.ctx.update({'stage': exploration, 'metrics': judged.outputs.metrics})
    return process


def test_the_run_goes_on_before_its_least_number_of_rounds_and_ends_after_it(after_an_empty_exploration):
    process = after_an_empty_exploration
    assert process.inputs.configuration['loop'] == {
        'min_rounds': 2, 'max_rounds': 2, 'max_labels': None, 'max_core_hours': None,
    }  # fmt: skip
    process.ctx.round = 1
    assert process.should_continue() and process.ctx.why is None
    process.ctx.round = 2
    assert not process.should_continue() and process.ctx.why == 'nothing_new'
