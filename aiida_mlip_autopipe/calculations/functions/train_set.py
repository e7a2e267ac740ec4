"""A labelled set by itself, as nodes: divided into what is trained on and what tests; and what came of it."""

from __future__ import annotations

from typing import Any, TypedDict

from aiida import orm
from aiida.engine import calcfunction

from aiida_mlip_autopipe.data import FramesData
from aiida_mlip_autopipe.science.evaluation import missed_tolerances
from aiida_mlip_autopipe.science.evaluation.records import Calibration, ErrorKey, Errors
from aiida_mlip_autopipe.science.evaluation.stopping import Missed
from aiida_mlip_autopipe.science.parameters import EvaluationParameters, LabellingParameters
from aiida_mlip_autopipe.science.training.labelled_set import hold_out, test_frames, training_set

__all__ = ['TrainingSummary', 'divide_set', 'summarise_training', 'training_parameters']


class TrainingSummary(TypedDict):
    """What came of a training: errors on its own sets and why they are no lower (`training`), and on the test set."""

    warning: str | None
    tolerances: dict[str, float | None]
    above_tolerance: dict[str, dict[ErrorKey, Missed]]
    test: Errors
    calibration: Calibration | None
    training: dict[str, Any]


@calcfunction
def training_parameters(configuration: orm.Dict) -> dict[str, orm.Dict]:
    """Return the parameters of the training and of the evaluation.

    :param configuration: as ``config.training`` makes it.
    """
    return {stage: orm.Dict(configuration[stage]) for stage in ('training', 'evaluation')}


@calcfunction
def divide_set(data: FramesData, configuration: orm.Dict, test: FramesData | None = None) -> dict[str, orm.Data]:
    """Judge a labelled set, give it its reference energies, and hold out test frames of other origins.

    :param data: the labelled frames.
    :param configuration: as ``config.training`` makes it.
    :param test: labelled test frames; without them some origins of the data are held out.
    :returns: ``labelled`` (isolated atoms first), ``test_set``, and ``warning`` where there is one.
    :raises ValueError: with what is wrong with the set.
    """
    values = configuration.get_dict()
    origin, bounds = values['origin'], LabellingParameters(**values['labelling'])
    whole = training_set(data.get_atoms(), values['isolated_atoms'], origin, bounds)
    if test is None:
        rest, tested = hold_out(whole.frames, values['test_fraction'], values['training']['random_seed'])
    else:
        rest, tested = whole.frames, test_frames(test.get_atoms(), whole.frames, origin, bounds)
    for atoms in tested:
        atoms.info['split'] = 'test'
    nodes: dict[str, orm.Data] = {
        name: FramesData.from_atoms(frames, data.label_fingerprint or whole.label_fingerprint)
        for name, frames in (('labelled', rest), ('test_set', tested))
    }
    return nodes | ({'warning': orm.Str('. '.join(whole.warnings))} if whole.warnings else {})


@calcfunction
def summarise_training(
    configuration: orm.Dict, training: orm.Dict, evaluation: orm.Dict, warning: orm.Str | None = None
) -> orm.Dict:
    """Put the errors side by side, with what limits the potential.

    :param training: errors on the training and validation set, and what the training says of itself.
    :param evaluation: errors on the test set.
    """
    limits = EvaluationParameters(**configuration['evaluation'])
    errors = evaluation['by_split']
    summary: TrainingSummary = {
        'warning': None if warning is None else warning.value,
        'tolerances': {key: value for key, value in configuration['evaluation'].items() if key.startswith('max_')},
        'above_tolerance': missed_tolerances({'test': errors['test']}, limits),
        'test': errors['test'],
        'calibration': evaluation['calibration'],
        'training': training.get_dict(),
    }
    return orm.Dict(summary)
