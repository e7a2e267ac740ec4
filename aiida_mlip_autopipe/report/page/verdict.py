"""The top of the report: what was made, how good it is, why it ended, what to beware of."""

from __future__ import annotations

from collections import Counter

from aiida_mlip_autopipe.provenance.failures import failures
from aiida_mlip_autopipe.provenance.rounds import Evaluated, RunRecord
from aiida_mlip_autopipe.provenance.states import CandidateState
from aiida_mlip_autopipe.report.page.blocks import Section, Table, Text, number, title_of
from aiida_mlip_autopipe.science.evaluation import (
    REASONS_TO_STOP,
    has_converged,
    missed_tolerances,
    tell_missed,
)
from aiida_mlip_autopipe.science.evaluation.records import ERROR_WORDS, STANDARD_ERRORS, ErrorKey, Errors
from aiida_mlip_autopipe.science.evaluation.rises import tell_risen
from aiida_mlip_autopipe.science.parameters import EvaluationParameters
from aiida_mlip_autopipe.science.systems.consequences import NO_STRESS
from aiida_mlip_autopipe.workflows.inputs import elements_of

__all__ = ['ERRORS', 'judgements', 'tolerances', 'verdict']

#: Key of an error -> its name, unit, the digits it is told with, and the key of its tolerance.
ERRORS: dict[ErrorKey, tuple[str, str, str, str]] = {key: (*told, f'max_{key}') for key, told in ERROR_WORDS.items()}
#: Below so many frames an error on them is told with a warning.
FEW_TEST_FRAMES = 20


def verdict(record: RunRecord) -> Section:
    """Return what a reader must know first."""
    return Section(
        'verdict',
        'Verdict',
        [Text(_what(record)), *_how_it_ended(record), *_final_errors(record), *_warnings(record)],
    )


def judgements(record: RunRecord) -> list[Evaluated]:
    """Return the evaluations on the test set: of the surrogate and of each round."""
    return [one for one in record.evaluated if one.stage.judges_potential]


def tolerances(record: RunRecord) -> dict[ErrorKey, float | None]:
    """Return what was asked for: key of an error -> its tolerance, None where none was given."""
    asked = record.configuration['evaluation']
    return {key: asked[limit] for key, (*_, limit) in ERRORS.items()}


def _what(record: RunRecord) -> str:
    configuration = record.configuration
    elements = ', '.join(configuration_elements(record))
    begin = 'bootstrapped from labelled seeds'
    if record.surrogate is not None:
        begin = (
            f'started from a given potential ({record.surrogate.base.attributes.get("origin", "of unknown origin")})'
        )
    n_rounds = sum(bool(one.stage.round) for one in record.trained)
    return (
        f'A MACE potential for {elements}; protocol {configuration["protocol"]}, {begin}. '
        f'{n_rounds} {"round" if n_rounds == 1 else "rounds"} of exploration, labelling and training, '
        f'{sum(candidate.state is CandidateState.LABELLED for candidate in record.candidates)} labels'
        + ('.' if record.run.is_terminated else ' so far.')
    )


def configuration_elements(record: RunRecord) -> list[str]:
    """Return the elements of the run."""
    return elements_of(record.run.inputs.structure)


def _how_it_ended(record: RunRecord) -> list[Text]:
    run = record.run
    if not run.is_terminated:
        running = [call.link for call in record.stages if not call.is_terminated]
        return [Text(f'The run is still running ({", ".join(running) or "between two stages"}).', 'warning')]
    if not run.is_finished_ok:
        message = run.exit_message or run.exception or run.process_state.value
        return [Text(f'The run failed: {message}', 'warning')]
    if record.summary is None:
        return []
    stopped = record.summary['stopped']
    good = has_converged(stopped['why'], stopped['above_tolerance'])
    return [Text(f'The run ended because {REASONS_TO_STOP[stopped["why"]]}.', 'good' if good else 'plain')]


def _final_errors(record: RunRecord) -> list[Table | Text]:
    judged = judgements(record)
    if not judged:
        return []
    last, limits = judged[-1], tolerances(record)
    asked = any(limit is not None for limit in limits.values())
    splits = dict(sorted(last.metrics['by_split'].items(), reverse=True))
    missed = missed_tolerances(splits, EvaluationParameters(**record.configuration['evaluation']))
    rows = []
    for key, (name, unit, form, _) in ERRORS.items():
        row = [f'{name} ({unit})', *(_with_spread(metrics, key, form) for metrics in splits.values())]
        limit = limits[key]
        held = limit is not None and not any(key in one for one in missed.values())
        verdicts = [number(limit, '{:g}'), '' if limit is None else 'passed' if held else 'failed']
        rows.append([*row, *verdicts] if asked else row)
    columns = ['RMSE', *(f'{split} ({metrics["n_frames"]} frames)' for split, metrics in splits.items())]
    title = f'Errors of the potential of {title_of(last.stage)}'
    unstressed = all(metrics['stress_rmse_GPa'] is None for metrics in splits.values())
    table = Table(title, [*columns, *(['tolerance', 'verdict'] * asked)], rows)
    return [table, *([Text(f'There is no error of the stress: {NO_STRESS}.')] if unstressed else [])]


def _with_spread(metrics: Errors, key: ErrorKey, form: str) -> str:
    """Return an error and how uncertain it is because the trajectories are few."""
    spread = metrics[STANDARD_ERRORS[key]]
    return number(metrics[key], form) + (f' ± {form.format(spread)}' if spread is not None else '')


def _warnings(record: RunRecord) -> list[Text]:
    told = [record.summary['warning']] if record.summary and record.summary['warning'] else []
    told += _missed(record)
    told += _risen(record)
    told += _physics(record)
    judged = judgements(record)
    test = judged[-1].on('test') if judged else None
    if judged and (n_test := 0 if test is None else test['n_frames']) < FEW_TEST_FRAMES:
        told.append(f'The test set has only {n_test} frames: note the uncertainty of the errors.')
    states = Counter(candidate.state for candidate in record.candidates)
    if states[CandidateState.FAILED]:
        told.append(f'{states[CandidateState.FAILED]} labels failed and are not in the data sets.')
    if guards := sum(replica['guard'] is not None for replicas in record.replicas.values() for replica in replicas):
        told.append(f'{guards} replicas of the dynamics were stopped by a guard.')
    if open_failures := [one for one in failures(record.run.pk) if not one.handled]:
        told.append(f'Unresolved failures: {len(open_failures)}.')
    if paused := sum(call.paused is not None for call in record.calls.values()):
        told.append(f'{paused} processes are paused.')
    return [Text(text, 'warning') for text in told]


def _missed(record: RunRecord) -> list[str]:
    judged = judgements(record)
    if not judged:
        return []
    limits = EvaluationParameters(**record.configuration['evaluation'])
    missed = tell_missed(missed_tolerances(judged[-1].metrics['by_split'], limits))
    return [f'Not clearly below the tolerance: {missed}.'] if missed else []


def _risen(record: RunRecord) -> list[str]:
    """Return of each round in which errors rose which did and why."""
    rounds = record.summary['rounds'] if record.summary is not None else []
    return [f'In round {one["round"]} {tell_risen(risen)}.' for one in rounds if (risen := one.get('risen'))]


def _physics(record: RunRecord) -> list[str]:
    """Return which physics checks failed, and which could not be judged and why."""
    checks = record.output('physics')
    told = []
    for name, check in checks['checks'].items() if checks is not None else ():
        if check['passed'] is False:
            rows = ', '.join(row['name'] for row in check['rows'] if row['passed'] is False)
            told.append(f'The physics check {name} failed: {rows}.')
        elif check['passed'] is None:
            why = (check.get('note') or 'no tolerance').removeprefix('not judged: ')
            told.append(f'The physics check {name} has no verdict: {why}.')
    return told
