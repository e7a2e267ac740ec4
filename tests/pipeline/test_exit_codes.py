"""Exit codes of all processes of the package: one meaning a number, and advice where there is something to do."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest
from aiida.engine import BaseRestartWorkChain, CalcJob

from aiida_mlip_autopipe.pipeline.exit_codes import EXIT_CODES, WARNINGS, advice_on

OF_AIIDA = {code.status for process in (CalcJob, BaseRestartWorkChain) for code in process.spec().exit_codes.values()}
#: What handles itself, and what is told where it began: in the failed process below, or by the message alone.
NEED_NO_ADVICE = {
    'ERROR_INVALID_INPUT',
    'ERROR_DYNAMICS_FAILED',
    'ERROR_SAMPLING_FAILED',
    'ERROR_STAGE_FAILED',
    'ERROR_NO_LABEL',
    'WARNING_NOTHING_NEW',
    'WARNING_NOT_ALL_LABELLED',
    'WARNING_PROBE_FAILED',
}


def registered():
    """Return the processes of the package by their process types."""
    return {
        f'{group}:{point.name}': point.load()
        for group in ('aiida.calculations', 'aiida.workflows')
        for point in entry_points(group=group)
        if point.name.startswith('mlip_autopipe.')
    }


def test_each_number_and_each_label_has_one_meaning():
    """Neither is used twice, and none of AiiDA's own numbers is."""
    statuses, labels = [code.status for code in EXIT_CODES], [code.label for code in EXIT_CODES]
    assert len(set(statuses)) == len(statuses) and len(set(labels)) == len(labels)
    assert not OF_AIIDA & set(statuses)
    assert all(code.label.startswith('WARNING_') == (code.status in WARNINGS) for code in EXIT_CODES)
    assert all(code.meaning.endswith('.') for code in EXIT_CODES)


def test_all_processes_take_their_codes_from_the_list():
    """What a process defines is AiiDA's or as it is in the list, and all of the list is used."""
    known, used = {code.status: code for code in EXIT_CODES}, set()
    for name, process in registered().items():
        for label, code in process.spec().exit_codes.items() if hasattr(process, 'spec') else ():
            if code.status in OF_AIIDA or code.status < 100:
                continue
            defined = known[code.status]
            assert (label, code.message) == (defined.label, defined.message), name
            assert code.invalidates_cache == defined.invalidates_cache, name
            used.add(code.status)
    assert used == set(known)


@pytest.mark.parametrize('code', EXIT_CODES, ids=lambda code: code.label)
def test_there_is_advice_where_it_is_needed(code):
    """Each code says what to do, or is one of those that need no word."""
    assert bool(code.advice) != (code.label in NEED_NO_ADVICE)
    assert advice_on('aiida.calculations:mlip_autopipe.evaluate', code.status) == code.advice


def test_advice_is_of_the_process():
    """A number of another plugin is not ours; AiiDA's own mean the same everywhere, and some processes know more."""
    memory = [
        advice_on(f'aiida.calculations:mlip_autopipe.{name}', 110) for name in ('mace_md', 'mace_train', 'verify')
    ]
    assert len(set(memory)) == 3
    assert advice_on('aiida.calculations:quantumespresso.pw', 110) == memory[-1] and 'memory' in memory[-1]
    assert 'max_wallclock_seconds' in advice_on('aiida.calculations:mlip_autopipe.mace_md', 410)
    assert advice_on('aiida.calculations:quantumespresso.pw', 410) is None
    assert advice_on('aiida.workflows:mlip_autopipe.autopipe', None) is None
    assert advice_on('aiida.workflows:mlip_autopipe.autopipe', 999) is None


def test_the_errors_of_the_worker_are_exit_codes():
    """Each word for an error that the worker writes is the label of a code."""
    from aiida_mlip_autopipe.science.dynamics import NoFramesError
    from aiida_mlip_autopipe.science.frames import ManifestError
    from aiida_mlip_autopipe.science.potential import PotentialError
    from aiida_mlip_autopipe.science.training import TrainingError, TrainingSetError
    from aiida_mlip_autopipe.worker.errors import error_code

    raised = [MemoryError, ManifestError, NoFramesError, PotentialError, TrainingSetError, TrainingError, ValueError]
    words = {f'ERROR_{error_code(error("so it is"))}' for error in (*raised, KeyError)}
    words.add(f'ERROR_{error_code(OSError(28, "No space left on device"))}')
    assert words <= {code.label for code in EXIT_CODES}
