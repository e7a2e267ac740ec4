"""Which test frames are hotter than the rounds explore, and the errors of all rounds side by side."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, TypedDict, cast

import numpy as np
from aiida import orm
from aiida.engine import calcfunction

from aiida_mlip_autopipe.data import FramesData
from aiida_mlip_autopipe.science.evaluation import fit_learning_curve, missed_tolerances
from aiida_mlip_autopipe.science.evaluation.learning_curve import LearningCurve
from aiida_mlip_autopipe.science.evaluation.records import Breakdown, Calibration, ErrorKey, Errors, Metrics
from aiida_mlip_autopipe.science.evaluation.rises import Risen, risen_over
from aiida_mlip_autopipe.science.evaluation.stopping import Missed
from aiida_mlip_autopipe.science.parameters import EvaluationParameters
from aiida_mlip_autopipe.science.systems import is_isolated_atom

__all__ = ['Summary', 'mark_hot_frames', 'summarise']


class Judgement(TypedDict):
    """Errors on the test set, where the rounds explore and hotter (None: no such frames); see `Metrics`."""

    test: Errors
    hot: Errors | None
    calibration: Calibration | None
    breakdown: Breakdown


class Round(Judgement):
    """A round: what judges its potential; and what the previous one, its training and its sampling had to say.

    ``risen``: the errors on the test set that are larger than before it; None if none is.
    """

    round: int
    labels: Metrics
    training: dict[str, Any]
    sampling: dict[str, object]
    risen: Risen | None


class Curve(LearningCurve):
    """The learning curve with its points: labels, force error, standard error."""

    points: list[tuple[int, float, float]]


class Stopped(TypedDict):
    """Why there are no more rounds, a key of `REASONS_TO_STOP`, and what is missed; see `missed_tolerances`.

    ``n_rounds`` counts the ``empty_rounds`` as well, which found nothing new and are not among the ``rounds``.
    """

    why: str
    n_rounds: int
    empty_rounds: list[int]
    n_labels: int
    core_hours: float
    above_tolerance: dict[str, dict[ErrorKey, Missed]]


class Summary(TypedDict):
    """The summary of a run."""

    protocol: str
    warning: str | None
    surrogate: Judgement
    tolerances: dict[str, float | None]
    rounds: list[Round]
    learning_curve: Curve | None
    stopped: Stopped


@calcfunction
def mark_hot_frames(labelled: FramesData, configuration: orm.Dict) -> FramesData:
    """Tell the test frames apart: ``info['split']`` is ``hot`` where they are hotter than any round explores."""
    hottest = float(np.max(configuration['exploration']['temperatures_K']))
    frames = labelled.get_atoms()
    for atoms in frames:
        atoms.info['split'] = 'hot' if atoms.info['temperature_K'] > hottest else 'test'
    return FramesData.from_atoms(frames, labelled.label_fingerprint)


@calcfunction
def summarise(
    configuration: orm.Dict,
    why: orm.Str,
    n_labels: orm.Int,
    core_hours: orm.Float,
    warning: orm.Str | None = None,
    n_rounds: orm.Int | None = None,
    **results: orm.Data,
) -> orm.Dict:
    """Put the errors of all rounds side by side, and say why there are no more.

    :param why: a key of ``science.evaluation.REASONS_TO_STOP``.
    :param n_labels: DFT calculations asked for.
    :param core_hours: computing time of what was not taken from the cache.
    :param warning: what must be known when the errors are read.
    :param n_rounds: how many rounds explored; by default those that have errors. One that found nothing new has none.
    :param results: ``surrogate`` and ``round_1``, ``round_2`` ...: errors on the test set; ``labels_1`` ...: errors of
        the previous potential on the labels of a round, before training on them; ``training_1`` ...: errors that the
        training itself reported; ``report_1`` ...: what the sampling said; ``dataset_1`` ...: what was trained on, and
        ``dataset_0`` where the first potential was bootstrapped.
    """
    numbers = sorted(int(name.removeprefix('round_')) for name in results if name.startswith('round_'))
    judged = {0: results['surrogate']} | {number: results[f'round_{number}'] for number in numbers}
    explored = max(numbers, default=0) if n_rounds is None else n_rounds.value
    last = judged[max(judged)]
    missed = missed_tolerances(last['by_split'], EvaluationParameters(**configuration['evaluation']))
    summary: Summary = {
        'protocol': configuration['protocol'],
        'warning': None if warning is None else warning.value,
        'surrogate': _judgement(judged[0]),
        'tolerances': {key: value for key, value in configuration['evaluation'].items() if key.startswith('max_')},
        'rounds': [
            {
                'round': number,
                **_judgement(results[f'round_{number}']),
                'labels': results[f'labels_{number}'].get_dict(),
                'training': results[f'training_{number}'].get_dict(),
                'sampling': results[f'report_{number}'].get_dict(),
                'risen': _risen(configuration, before, number, results),
            }
            for before, number in pairwise(judged)
        ],
        'learning_curve': _learning_curve(judged, results),
        'stopped': {
            'why': why.value,
            'n_rounds': explored,
            'empty_rounds': sorted(set(range(1, explored + 1)) - set(numbers)),
            'n_labels': n_labels.value,
            'core_hours': core_hours.value,
            'above_tolerance': missed,
        },
    }
    return orm.Dict(summary)


def _judgement(metrics: orm.Dict) -> Judgement:
    values = metrics.get_dict()
    return {
        'test': values['by_split']['test'],
        'hot': values['by_split'].get('hot'),
        'calibration': values['calibration'],
        'breakdown': cast(Breakdown, {name: groups for name, groups in values.items() if name.startswith('by_')}),
    }


def _risen(configuration: orm.Dict, before: int, number: int, results: dict[str, orm.Data]) -> Risen | None:
    """Return which errors rose over a round, beside those of the potential of an earlier one that had labels."""
    earlier = results[f'round_{before}' if before else 'surrogate']
    return risen_over(
        earlier['by_split'],
        results[f'round_{number}']['by_split'],
        results[f'training_{number}'].get_dict().get('run', {}),
        configuration['training'],
        _doubts(results.get(f'dataset_{before}'), results.get(f'dataset_{number}')),
    )


def _doubts(before: orm.Data | None, now: orm.Data | None) -> str | None:
    """Return what is wrong with the labels that a data set has beyond those of an earlier one, in words."""
    if now is None:
        return None
    known = set() if before is None else {atoms.info['frame_id'] for atoms in before.get_atoms()}
    frames = now.get_atoms()
    new = [atoms for atoms in frames if atoms.info['frame_id'] not in known]
    levels = {atoms.info['label_fingerprint'] for atoms in frames if 'label_fingerprint' in atoms.info}
    others = sum('branch' in atoms.info for atoms in new)
    told = [f'the labels are of {len(levels)} levels of theory'] if len(levels) > 1 else []
    told += [f'{others} new labels may be of another electronic solution than their like'] if others else []
    return '; '.join(told) or None


def _learning_curve(judged: dict[int, orm.Dict], results: dict[str, orm.Data]) -> Curve | None:
    """Fit the force errors on the test set over the number of labelled structures that were trained on."""
    points = []
    for number, metrics in judged.items():
        errors = metrics['by_split']['test']
        if f'dataset_{number}' in results and errors['force_rmse_standard_error_meV_A'] is not None:
            frames = results[f'dataset_{number}'].get_atoms()
            n_frames = sum(not is_isolated_atom(atoms) for atoms in frames)
            points.append((n_frames, errors['force_rmse_meV_A'], errors['force_rmse_standard_error_meV_A']))
    if not points or min(error for _, error, _ in points) == 0:
        return None
    n_labels, force_errors, spreads = zip(*points, strict=True)
    curve = fit_learning_curve(n_labels, force_errors, spreads)
    return None if curve is None else {**curve, 'points': points}
