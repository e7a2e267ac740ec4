"""The parameters of each stage of a round, from the configuration; and what a user changes in it under way."""

from __future__ import annotations

import numpy as np
from aiida import orm
from aiida.engine import calcfunction

from aiida_mlip_autopipe.config.expander import merged
from aiida_mlip_autopipe.science.parameters import DynamicsParameters, SamplingParameters
from aiida_mlip_autopipe.science.random_seeds import derived_seed
from aiida_mlip_autopipe.science.registry import SELECTION_RULES

__all__ = ['change_configuration', 'round_parameters']

STAGES_OF_A_ROUND = ('generation', 'dynamics', 'sampling', 'labelling', 'training', 'evaluation', 'physics')


@calcfunction
def round_parameters(
    configuration: orm.Dict, round_number: orm.Int, metrics: orm.Dict | None = None
) -> dict[str, orm.Dict]:
    """Derive the parameters of each stage of a round from the configuration.

    Each round explores and samples with a random seed of its own; round 0, where the test set is made, samples at
    random as many frames as the evaluation asks for, as many at the hotter temperature as at each of the rounds.

    :param configuration: the full configuration, as ``ConfigExpander`` makes it.
    :param round_number: 0 for what comes before the first round.
    :param metrics: errors of the committee that explores on the test set: its disagreement is multiplied by the factor
        of their calibration.
    """
    values = configuration.get_dict()
    exploration = dict(values['exploration'])
    number = round_number.value
    exploration['random_seed'] = derived_seed(exploration['random_seed'], number)
    if number == 0:
        exploration |= _for_the_test_set(exploration['temperatures_K'], values['evaluation'])
    elif metrics is not None and metrics['calibration'] and metrics['calibration']['factor']:
        exploration['disagreement_factor'] = metrics['calibration']['factor']
    stages = {
        **values,
        'dynamics': {name: exploration[name] for name in DynamicsParameters.model_fields},
        'sampling': {name: exploration[name] for name in SamplingParameters.model_fields},
    }
    return {stage: orm.Dict(stages[stage]) for stage in STAGES_OF_A_ROUND}


@calcfunction
def change_configuration(configuration: orm.Dict, change: orm.Dict) -> orm.Dict:
    """Put the values of a change, section by section, in the place of those of a configuration."""
    return orm.Dict(merged([configuration.get_dict(), change.get_dict()]))


def _for_the_test_set(temperatures: list, evaluation: dict) -> dict:
    """Return what differs where the test set is explored: any frame may be in it, at one more, hotter temperature."""
    factor = evaluation['hot_factor']
    of_other_rules = sorted({name for _, rule in SELECTION_RULES.items() for name in rule.settings})
    return {
        **{name: SamplingParameters.model_fields[name].default for name in of_other_rules},
        'temperatures_K': [*temperatures, *([] if factor is None else [factor * float(np.max(temperatures))])],
        'selection': 'random',
        'group_by': 'temperature',
        'n_to_select': evaluation['n_test'],
        'random_fraction': 0.0,
        'min_expected_error_eV_A': 0.0,
    }
