"""Single steps of a run: the WorkChain itself, with what a finished run had reached."""

import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager

from aiida_mlip_autopipe.pipeline.exit_codes import NOTHING_NEW


@pytest.fixture
def process(finished_run):
    """Return the WorkChain of a run that has begun."""
    process = instantiate_process(get_manager().get_runner(), finished_run.get_builder_restart())
    process.node.store()
    process.start()
    return process


@pytest.fixture
def after_an_empty_exploration(process, finished_run):
    """Return it just after an exploration that found nothing new; two rounds at least are asked."""
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


def test_a_check_of_the_cohesive_energy_is_given_the_isolated_atoms(process, finished_run, monkeypatch):
    """Those of the first labels, beside what was labelled for the checks; without such a check they stay away."""
    labellings = {node.base.links.get_incoming(link_type=LinkType.CALL_WORK).one().link_label: node
                  for node in finished_run.called if node.process_label == 'LabellingEngineWorkChain'}  # fmt: skip
    process.ctx.update(
        {
            'labelled': {'round_0': labellings['label_initial'].outputs.labelled},
            'stage': labellings['label_physics'],
            'potential': finished_run.outputs.potential,
        }
    )
    given = []
    monkeypatch.setattr(process, 'submit_stage', lambda stage, workchain, inputs: given.append(inputs['job']['frames']))
    configuration = process.ctx.configuration.get_dict()
    for checks in (['equation_of_state'], ['equation_of_state', 'cohesive']):
        process.ctx.configuration = orm.Dict(
            {**configuration, 'physics': {**configuration['physics'], 'checks': checks}}
        )
        process.physics()
    without, joined = given
    assert without.uuid == labellings['label_physics'].outputs.labelled.uuid
    (atom,) = joined.get_atoms()[without.n_frames :]
    assert atom.info['frame_id'] == 'atom-Si' and atom.info['REF_energy'] < 0
