"""What a run says at its end."""

from rich.console import Console

from aiida_mlip_autopipe.cli.results import error_tables, tell_what_is_next, tell_what_rose, tell_why_it_stopped


def errors(force):
    return {'energy_rmse_meV': 2.0, 'force_rmse_meV_A': force, 'stress_rmse_GPa': None}


ABOVE = {
    'test': {'force_rmse_meV_A': {'is': 48.04, 'standard_error': 3.21, 'wanted': 40.0}},
    'hot': {'energy_rmse_meV': {'is': 2.0, 'standard_error': None, 'wanted': 1.0}},
}
CURVE = {'n_more': 50, 'gain_percent': 30.4, 'gain_low_percent': 12.0, 'gain_high_percent': 45.0, 'expected': 33.4,
         'low': 26.0, 'high': 42.0}  # fmt: skip
TRAINING = {
    'train': {'energy_rmse_meV': 1.0, 'force_rmse_meV_A': 20.0, 'n_frames': 30},
    'validation': {'energy_rmse_meV': 2.0, 'force_rmse_meV_A': 40.0, 'n_frames': 5},
    'run': {'limited_by': 'labels', 'continuations': []},
}
SUMMARY = {
    'surrogate': {'test': errors(208.0), 'hot': errors(400.0)},
    'rounds': [
        {'round': 1, 'labels': errors(300.0), 'test': errors(75.0), 'hot': errors(120.0)},
        {'round': 2, 'labels': errors(110.0), 'test': errors(48.04), 'hot': errors(90.0), 'training': TRAINING},
    ],
    'learning_curve': CURVE,
    'stopped': {'why': 'rounds', 'n_labels': 42, 'above_tolerance': ABOVE},
}
NOTHING_NEW = {
    'surrogate': {'test': errors(1.0), 'hot': None},
    'rounds': [],
    'learning_curve': None,
    'stopped': {'why': 'nothing_new', 'n_labels': 7, 'above_tolerance': {}},
}


def lines_of(summary):
    """Return the words of each line that is printed."""
    console = Console(width=120)
    with console.capture() as capture:
        for table in error_tables(summary):
            console.print(table)
    return [line.split() for line in capture.get().splitlines()]


def test_each_potential_is_judged_on_the_test_set_and_where_it_explored():
    lines = lines_of(SUMMARY)
    assert [line for line in lines if line[0] == 'surrogate'] == [
        ['surrogate', '2.00', '208.0', '-'],
        ['surrogate', '2.00', '400.0', '-'],
        ['surrogate', '2.00', '300.0', '-'],
    ]
    assert [line for line in lines if line[:2] == ['round', '1']] == [
        ['round', '1', '2.00', '75.0', '-'],
        ['round', '1', '2.00', '120.0', '-'],
        ['round', '1', '2.00', '110.0', '-'],
    ]
    assert [line for line in lines if line[:2] == ['round', '2']] == [
        ['round', '2', '2.00', '48.0', '-'],
        ['round', '2', '2.00', '90.0', '-'],
    ]


def test_without_rounds_there_is_the_surrogate_alone():
    assert len(error_tables(NOTHING_NEW)) == 1
    lines = lines_of(NOTHING_NEW)
    assert ['surrogate', '2.00', '1.0', '-'] in lines
    assert 'no label has a stress' in ' '.join(lines[-2] + lines[-1])  # which the table says


def test_the_end_is_told_with_what_is_missing():
    told = tell_why_it_stopped(SUMMARY)
    assert told == (
        'after 2 round(s) and 42 labels: the maximum number of rounds (loop.max_rounds) was reached; '
        'not clearly below the tolerance: forces (meV/Å) 48.0 ± 3.2 of 40, '
        'energy (meV/atom) 2.00 of 1 (hotter test set)'
    )
    assert tell_why_it_stopped(NOTHING_NEW) == 'after 0 round(s) and 7 labels: no new frames were found'


def test_a_round_that_found_nothing_is_counted_and_told():
    stopped = SUMMARY['stopped'] | {'n_rounds': 4, 'empty_rounds': [1, 4], 'why': 'nothing_new'}
    told = tell_why_it_stopped({**SUMMARY, 'stopped': stopped})
    assert told.startswith('after 4 round(s) (nothing new in 1, 4) and 42 labels: no new frames were found; not clear')


def test_an_error_that_rises_is_told_with_its_reason():
    assert tell_what_rose(SUMMARY) == []  # as recorded by an earlier version
    risen = {
        'errors': {'hot': {'energy_rmse_meV': {'before': 2.0, 'now': 4.5, 'standard_error': 0.5}}},
        'reasons': ['the training diverged'],
    }
    rounds = [SUMMARY['rounds'][0], {**SUMMARY['rounds'][1], 'risen': risen}]
    assert tell_what_rose({**SUMMARY, 'rounds': rounds}) == [
        'round 2: errors rose: energy from 2.00 to 4.50 ± 0.50 meV/atom (hotter test set): the training diverged'
    ]


def test_what_further_labels_are_worth_is_told_with_its_uncertainty():
    """From three rounds on, and where labels are what limits the potential; of fewer rounds the limit alone is told."""
    limit = (
        'the labels limit the potential: force errors are 20 meV/Å on the training set, 40 on the validation set '
        '(5 frames: few); more of them would help'
    )
    assert tell_what_is_next(SUMMARY) == limit
    three = {**SUMMARY, 'rounds': [SUMMARY['rounds'][0], *SUMMARY['rounds']]}
    assert tell_what_is_next(three) == (
        f'{limit}; the next 50 labels are expected to change the force error by -30 % (-12 to -45), to 33 meV/Å '
        '(26 to 42)'
    )
    run = {'limited_by': 'neither', 'continuations': []}
    three['rounds'] = [*SUMMARY['rounds'], {**SUMMARY['rounds'][1], 'training': {**TRAINING, 'run': run}}]
    assert 'a larger network' in tell_what_is_next(three) and 'next 50' not in tell_what_is_next(three)
    assert tell_what_is_next(NOTHING_NEW) is None
