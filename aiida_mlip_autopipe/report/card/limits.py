"""Known failures and limits of a potential, drawn from its card: each is a kind, and words with the figures behind it.

Nothing here is said of potentials at large. A limit is there since this run met it, or never went there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from aiida_mlip_autopipe.science.evaluation import REASONS_TO_STOP, has_converged, tell_missed
from aiida_mlip_autopipe.science.evaluation.rises import tell_risen
from aiida_mlip_autopipe.science.registry import ENSEMBLES
from aiida_mlip_autopipe.science.training.limits import can_forecast, tell_limit

__all__ = ['limits_of', 'without_pks']

LARGE_UNCERTAINTY = 0.2
"""Standard error of the force error, as a fraction of it, above which the error itself is told as uncertain."""

FEW_ORIGINS = 5
"""Fewer seed structures than these are no sample of what the potential will meet."""

WORSE_WHERE_HOTTER = 1.25
"""Force error on the hotter test set, as a multiple of that of the test set, above which hotter is told to be worse."""

LARGE_GAIN_PERCENT = 10.0
"""What further labels are likely to gain in the force error, above which they are worth a word."""

SOFT = 0.03
"""Deviation of the slope of predicted over true forces from one, above which forces are told to be too soft or hard."""

WEAK_CORRELATION = 0.5
"""Rank correlation of disagreement and error below which the disagreement is told not to rank."""

MANY = 10
"""More elements than these are counted, not named."""

PK = re.compile(r'\s*<\d+>')


def without_pks(text: str) -> str:
    """Return words of a process without the PKs in them: they mean nothing in another profile."""
    return PK.sub('', text)


def limits_of(card: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the known failures and limits of a potential.

    Parameters
    ----------
    card : mapping
        The other sections of its card.

    Returns
    -------
    list of dict
        ``kind``, ``text``; those of the run first, then of the data, the errors and the physics.
    """
    drawn = (_of_run, _of_tolerances, _of_conditions, _of_guards, _of_labels, _of_errors, _of_calibration, _of_physics)
    return [{'kind': kind, 'text': text} for draw in drawn for kind, text in draw(card)]


def _of_run(card: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    run, summary = card['run'], card['summary']
    if run['exit_status'] != 0:
        words = run['exit_message'] or f'it was {run["state"]}'
        yield 'run', f'The run did not finish: {words}. The results are those obtained before.'
    if summary is None:
        return
    if summary['warning']:
        yield 'level of theory', summary['warning']
    why = summary['stopped']['why']
    if not has_converged(why, summary['stopped']['above_tolerance']):
        yield 'run', f'The run ended because {REASONS_TO_STOP[why]}, not because it had converged.'
    training, curve = summary['training'], summary['learning_curve']
    if training is None:
        return
    told = tell_limit(training)
    yield 'training', f'{told[0].upper()}{told[1:]}.'
    forecast = can_forecast(training['run']['limited_by'], summary['n_rounds'])
    if forecast and curve and curve['gain_percent'] > LARGE_GAIN_PERCENT:
        yield (
            'data',
            f'More labels would help: {curve["n_more"]} more are expected to lower the force error by '
            f'{curve["gain_percent"]:.0f} % ({curve["gain_low_percent"]:.0f} to {curve["gain_high_percent"]:.0f}).',
        )


def _of_tolerances(card: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    errors = card['errors']
    if all(bound is None for bound in errors['tolerances'].values()):
        yield 'errors', 'No tolerance was set, so the errors were not compared with a target.'
    if told := tell_missed(errors['above_tolerance']):
        yield 'errors', f'Not clearly below the tolerance: {told}.'


def _of_conditions(card: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    training, explored = card['data']['training'], card['explored']
    unseen = sorted(set(card['potential']['elements']) - set(training['n_atoms_by_element']))
    if unseen:
        names = ', '.join(unseen[:MANY]) + (f' and {len(unseen) - MANY} more' if len(unseen) > MANY else '')
        yield 'elements', f'It accepts elements that are absent from the training set: {names}.'
    if explored['temperatures_K']:
        hottest = max(explored['temperatures_K'])
        beyond = [one for one in card['data'].get('hot', {}).get('temperatures_K', []) if one > hottest]
        tested = f' (tested up to {max(beyond):g} K)' if beyond else ''
        yield (
            'temperature',
            f'No exploration above {hottest:g} K{tested} or below {min(explored["temperatures_K"]):g} K.',
        )
    volumes = training['volume_per_atom_A3']
    span = f'; training volumes are {volumes[0]:.2f} to {volumes[1]:.2f} Å³ per atom' if volumes else ''
    if explored['pressures_GPa'] and ENSEMBLES[explored['ensemble']].controls_pressure:
        lowest, highest = min(explored['pressures_GPa']), max(explored['pressures_GPa'])
        yield 'pressure', f'No exploration outside {lowest:g} to {highest:g} GPa{span}.'
    else:
        yield 'pressure', f'All dynamics were run at constant volume; pressure was not varied{span}.'
    if training['atoms_per_frame']:
        smallest, largest = training['atoms_per_frame']
        size = f'{largest} atoms' if smallest == largest else f'{smallest} to {largest} atoms'
        yield (
            'size',
            f'Training frames have {size}: they contain no long waves or extended defects, which need a larger cell.',
        )
    if len(training['n_frames_by_composition']) == 1:
        yield 'composition', f'One composition only: {next(iter(training["n_frames_by_composition"]))}.'
    if with_vacuum := training.get('n_with_vacuum'):
        yield (
            'stress',
            f'{with_vacuum} training frames have vacuum in their cell and no stress: pressures and elastic constants '
            'are learned from the others, if there are any.',
        )
    if training['all_periodic']:
        yield 'boundaries', 'All training frames except isolated atoms are periodic in three directions.'


def _of_guards(card: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for row in card['explored']['guards']:
        pressure = '' if row['pressure_GPa'] is None else f', {row["pressure_GPa"]:g} GPa'
        yield (
            'dynamics',
            f'{row["stage"]}: the guard {row["guard"]} stopped {row["n_stopped"]} of {row["n_replicas"]} replicas at '
            f'{row["temperature_K"]:g} K{pressure}.',
        )


def _of_labels(card: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for stage, reasons in card['rejected_labels'].items():
        for reason, number in reasons.items():
            yield 'labels', f'{stage}: {number} without a usable label: {reason}.'


def _of_errors(card: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    errors = card['errors']
    for one in errors['risen']:
        yield 'errors', f'In round {one["round"]} {tell_risen(one)}.'
    test, hot = errors['test'], errors['hot']
    if test is None:
        yield 'errors', 'It was never evaluated on a test set.'
        return
    n_origins = card['data']['test']['n_origins']
    if n_origins < FEW_ORIGINS:
        yield 'errors', f'The test set has {test["n_frames"]} frames of {n_origins} seed structure(s): a small sample.'
    force, spread = test['force_rmse_meV_A'], test['force_rmse_standard_error_meV_A']
    if spread is None:
        yield 'errors', 'There are too few test frames to estimate the uncertainty of the errors.'
    elif spread > LARGE_UNCERTAINTY * force:
        yield 'errors', f'The force error on the test set has a relative uncertainty of {100 * spread / force:.0f} %.'
    if hot is not None and hot['force_rmse_meV_A'] > WORSE_WHERE_HOTTER * force:
        yield (
            'errors',
            f'On the hotter test set the force error is {hot["force_rmse_meV_A"] / force:.1f} times that on the '
            'test set.',
        )
    slope = test['force_slope']
    if slope is not None and abs(slope - 1) > SOFT:
        manner = 'small' if slope < 1 else 'large'
        yield 'errors', f'Forces are too {manner} by {100 * abs(slope - 1):.0f} % (slope of predicted against DFT).'


def _of_calibration(card: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    calibration = card['errors']['calibration']
    if calibration is None:
        yield 'uncertainty', 'No committee was evaluated, so there is no error estimate for single predictions.'
    elif calibration['rank_correlation'] is None:
        yield (
            'uncertainty',
            'There are too few frames to test whether the committee disagreement correlates with the error.',
        )
    elif calibration['rank_correlation'] < WEAK_CORRELATION:
        yield (
            'uncertainty',
            f'The committee disagreement correlates only weakly with the error (rank correlation '
            f'{calibration["rank_correlation"]:.2f}).',
        )


def _of_physics(card: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if card['physics'] is None:
        yield 'physics', 'No physics checks were made: elastic constants, phonons and similar properties are untested.'
        return
    for name, check in card['physics']['checks'].items():
        failed = [row['name'] for row in check['rows'] if row['passed'] is False]
        if failed:
            yield 'physics', f'The check {name} failed: {", ".join(failed)}.'
        elif check['passed'] is None:
            yield 'physics', f'The check {name} has no verdict{": " + check["note"] if check["note"] else ""}.'
