"""The model card as Markdown: the same figures as in its dictionary, with what they mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from aiida_mlip_autopipe.science.potential import snippets

__all__ = ['card_markdown', 'exported', 'licence_text']

NO_COMMERCIAL_USE = 'ASL'
ERRORS = (
    ('energy (meV/atom)', 'energy_rmse_meV', '{:.2f}'),
    ('forces (meV/Å)', 'force_rmse_meV_A', '{:.1f}'),
    ('± standard error', 'force_rmse_standard_error_meV_A', '{:.1f}'),
    ('stress (GPa)', 'stress_rmse_GPa', '{:.3f}'),
)
FRAMES = {
    'test': 'Test set: random frames of dynamics started from separate seed structures. The expected error within '
    'the explored conditions.',
    'hot': 'Hotter test set: the same, at a temperature above all rounds. The expected error in extrapolation.',
    'newly_found': 'Newly found: frames that the last exploration selected as different from the training set, '
    'predicted by the potential **before** it was trained on them. The error of the previous potential on difficult '
    'frames, not the expected error.',
    'test_of_the_first': 'First potential: the same test set, with the initial potential of the run.',
}


def card_markdown(card: Mapping[str, Any]) -> str:
    """Return a card as Markdown.

    Parameters
    ----------
    card : mapping
        As ``card.model_card`` makes it.
    """
    system = card['run']['description'] or ' '.join(card['data']['training']['n_frames_by_composition'])
    sections: tuple[tuple[str, Callable[[Mapping[str, Any]], list[str]]], ...] = (
        ('Limits and known failures', _limits),
        ('Training data', _data),
        ('Level of theory', _level),
        ('Explored conditions', _explored),
        ('Errors', _errors),
        ('Error estimates from the committee', _calibration),
        ('Physics', _physics),
        ('Licence', _licence),
        ('How to load it', _load),
        ('Cost', _cost),
        ('Versions', _versions),
    )
    lines = [f'# A MACE potential for {", ".join(card["data"]["training"]["n_atoms_by_element"])} ({system})', '']
    lines += _head(card)
    for title, write in sections:
        lines += ['', f'## {title}', '', *write(card)]
    return '\n'.join(lines) + '\n'


def _head(card: Mapping[str, Any]) -> list[str]:
    potential, test = card['potential'], card['errors']['test']
    lines = [
        f'`{potential["file"]}`: cutoff {potential["r_max"]:g} Å, {potential["n_parameters"]} parameters in '
        f'{potential["dtype"]}, sha256 `{potential["sha256"]}`.',
    ]
    if test is not None:
        told = f'{test["force_rmse_meV_A"]:.0f} meV/Å, {test["energy_rmse_meV"]:.1f} meV/atom'
        lines.append(f'Root mean square errors on {test["n_frames"]} test frames: {told}.')
    if potential['committee']:
        names = ', '.join(f'`{member["file"]}`' for member in potential['committee'])
        lines.append(f'Other members of the committee, trained from different random seeds: {names}.')
    lines += [
        '',
        'A `.model` file is a pickle: loading it executes the code in it. Load it only if you trust its source.',
    ]
    return lines


def _limits(card: Mapping[str, Any]) -> list[str]:
    if not card['limits']:
        return ['None were found. This holds only for the conditions below.']
    return [f'- **{one["kind"]}**: {one["text"]}' for one in card['limits']]


def _data(card: Mapping[str, Any]) -> list[str]:
    kinds = sorted({kind for part in card['data'].values() for kind in part['by_kind']})
    rows = [
        [
            f'`{part["file"]}`',
            str(part['n_frames']),
            *(str(part['by_kind'].get(kind, 0)) for kind in kinds),
            str(part['n_origins']),
            _span(part['atoms_per_frame'], 'd'),
            _span(part['volume_per_atom_A3'], '.2f'),
            _listed(part['temperatures_K']),
        ]
        for part in card['data'].values()
    ]
    titles = ['file', 'frames', *kinds, 'seeds', 'atoms', 'Å³ per atom', 'K']
    compositions = ', '.join(
        f'{number} {name}' for name, number in card['data']['training']['n_frames_by_composition'].items()
    )
    return [
        *_table(titles, rows),
        '',
        f'Training frames by composition: {compositions}. *Generated*: supercells, strained and rattled copies; '
        '*explored*: selected from dynamics'
        + (', *given*: from earlier work, some of which were labelled again' if 'given' in kinds else '')
        + '. Frames are split by the seed structure from which they descend, so that no '
        'trajectory is in two files; *seeds* is the number of seed structures.',
    ]


def _level(card: Mapping[str, Any]) -> list[str]:
    level = card['level_of_theory']
    rows = [
        ['code', level['code'] + f' {card["versions"].get(level["program"], "")}'.rstrip()],
        *level['in_words'],
        ['fingerprint', f'`{level["label_fingerprint"]}`: labels with a different one must not be combined with these'],
    ]
    return _table(['', ''], rows)


def _explored(card: Mapping[str, Any]) -> list[str]:
    explored = card['explored']
    if not explored['n_replicas']:
        return ['No exploration: the potential was trained on generated structures only.']
    pressures = f'{_listed(explored["pressures_GPa"])} GPa' if explored['pressures_GPa'] else 'none (constant volume)'
    return _table(
        ['', ''],
        [
            ['ensemble', explored['ensemble']],
            ['temperatures', f'{_listed(explored["temperatures_K"])} K'],
            ['pressures', pressures],
            ['volume strains of the seeds', _listed(explored['strains'])],
            ['atoms', _span(explored['atoms_per_frame'], 'd')],
            ['replicas, frames', f'{explored["n_replicas"]}, {explored["n_frames"]}'],
            ['stopped by a guard', str(sum(row['n_stopped'] for row in explored['guards']))],
        ],
    )


def _errors(card: Mapping[str, Any]) -> list[str]:
    errors = card['errors']
    judged = {name: errors[name] for name in FRAMES if errors.get(name)}
    if not judged:
        return ['It was not evaluated.']
    lines = _error_table('', {name.replace('_', ' '): one for name, one in judged.items()})
    lines += ['', f'Root mean square errors, computed in {errors["dtype"]}.', '']
    lines += [f'- {FRAMES[name]}' for name in judged]
    lines += [
        '- The standard error is that of leaving out one trajectory after the other; few of them tell little of it.',
        '- The errors are relative to the labels. They do not include the errors of DFT itself.',
    ]
    for title, name in (('element', 'by_element'), ('temperature (K)', 'by_temperature'), ('GPa', 'by_pressure')):
        if errors.get(name):
            lines += ['', *_error_table(title, errors[name])]
    return lines


def _calibration(card: Mapping[str, Any]) -> list[str]:
    found = card['errors']['calibration']
    if found is None or found['factor'] is None:
        return ['There is no committee, so there is no error estimate for single predictions.']
    rank = _number(found['rank_correlation'], '{:.2f}')
    return [
        'For a committee disagreement *d* on the force on an atom, the expected force error is '
        f'**{found["factor"]:.2f} d** (largest in a frame, from {found["n_frames"]} test frames). Rank correlation of '
        f'disagreement and error: {rank} (1: frames with the largest disagreement have the largest errors; 0: no '
        'correlation).',
        '',
        'Do not rely on it outside the range of the test set: potentials trained on the same data make similar errors '
        'and may agree far from the data. A small disagreement does not prove accuracy; a large one is a warning.',
        '',
        *_code('python', snippets.committee(exported(card)) if card['potential']['committee'] else ''),
    ]


def _physics(card: Mapping[str, Any]) -> list[str]:
    if card['physics'] is None:
        return ['Not checked.']
    verdicts = {True: 'passed', False: '**failed**', None: ''}
    rows = [
        [
            name,
            row['name'],
            *(_number(row[key], '{:.4g}') for key in ('value', 'reference', 'difference', 'tolerance')),
            row['unit'],
            verdicts[row['passed']],
        ]
        for name, check in card['physics']['checks'].items()
        for row in check['rows']
    ]
    return _table(['check', '', 'potential', 'DFT', 'difference', 'tolerance', 'unit', ''], rows)


def licence_text(card: Mapping[str, Any]) -> list[str]:
    """Return the terms of use of the potential, as far as the graph contains them: one sentence per line."""
    licence, surrogate = card['licence'], card['licence']['surrogate']
    tuned = surrogate is not None and licence['method'] not in (None, 'scratch')
    lines = [f'Licence of the potential: **{licence["potential"]}**.']
    if tuned:
        lines.append(
            f'It was fine-tuned from {surrogate["name"]} and derives from its weights: the licence of that potential '
            f'({surrogate["licence"]}) applies to it as well.'
        )
    else:
        lines.append(
            'Its weights were trained from scratch on labels of this run: the author of the run chooses the licence '
            'under which it is distributed.'
        )
        if surrogate is not None:
            lines.append(
                f'{surrogate["name"]} (licence: {surrogate["licence"]}) was used to explore; the potential '
                'contains none of its weights. Check its licence for terms on derived results.'
            )
    known = {licence['potential'], surrogate and surrogate['licence']}
    if NO_COMMERCIAL_USE in known:
        lines.append('ASL, the Academic Software License, does not permit commercial use.')
    if 'unknown' in known:
        lines.append('The licence is unknown: ask the author before you use or distribute the potential.')
    if surrogate is not None:
        lines.append('The provenance archive contains the file of the surrogate, under its own licence.')
    return [*lines, 'The MIT licence of aiida-mlip-autopipe covers the program, not the potentials trained with it.']


def _licence(card: Mapping[str, Any]) -> list[str]:
    return [f'- {line}' for line in licence_text(card)]


def exported(card: Mapping[str, Any]) -> snippets.Exported:
    """Return what the snippets need to know: they compute the frames of the test set, if there is one."""
    data, errors, potential = card['data'], card['errors'], card['potential']
    return snippets.Exported(
        file=potential['file'],
        committee=tuple(member['file'] for member in potential['committee']),
        frames=data['test' if 'test' in data else 'training']['file'],
        dtype=errors['dtype'],
        elements=tuple(sorted(data['training']['n_atoms_by_element'])),
        error_by_disagreement=(errors['calibration'] or {}).get('factor'),
    )


def _load(card: Mapping[str, Any]) -> list[str]:
    potential = exported(card)
    return [
        f'Run in this folder. The errors were computed in {card["errors"]["dtype"]}; on a GPU use `cuda`, not `cpu`.',
        '',
        'ASE, with mace-torch:',
        '',
        *_code('python', snippets.ase(potential)),
        '',
        'torch-sim, many systems at once, with mace-torch and torch-sim-atomistic (Python 3.12):',
        '',
        *_code('python', snippets.torch_sim(potential)),
        '',
        'LAMMPS needs a converted file, made where mace-torch is installed, and a structure:',
        '',
        *_code('console', '$ ' + snippets.lammps_convert(potential)),
        '',
        *_code('python', snippets.lammps_data(potential)),
        '',
        'Input for CPUs, with the branch of LAMMPS that has `pair_style mace`:',
        '',
        *_code('text', snippets.lammps_input(potential)),
        '',
        'For a GPU, with a LAMMPS that has ML-IAP with Python and Kokkos, convert it there (needs cuEquivariance):',
        '',
        *_code('console', '$ ' + snippets.lammps_convert_for_gpu(potential)),
        '',
        'and use these lines in the input instead:',
        '',
        *_code('text', snippets.lammps_pair_for_gpu(potential)),
        '',
        'The tests of this package run everything except the LAMMPS inputs. The mace documentation describes how to '
        'build both versions of LAMMPS: https://mace-docs.readthedocs.io.',
    ]


def _cost(card: Mapping[str, Any]) -> list[str]:
    cost = card['cost']
    rows = [[stage, f'{hours:.3f}'] for stage, hours in cost['core_hours_by_stage'].items()]
    return [
        f'{cost["core_hours"]:.2f} core hours and {cost["wall_hours"]:g} hours in total; '
        f'{cost["n_calculations"]} calculations, {cost["n_reused"]} of them reused from earlier runs.',
        '',
        *_table(['stage', 'core hours'], rows),
    ]


def _versions(card: Mapping[str, Any]) -> list[str]:
    return _table(['', ''], [[name, version] for name, version in card['versions'].items()])


def _error_table(title: str, judged: Mapping[str, Mapping[str, Any]]) -> list[str]:
    shown = [row for row in ERRORS if any(one.get(row[1]) is not None for one in judged.values())]
    rows = [
        [name, str(one['n_frames']), *(_number(one.get(key), text) for _, key, text in shown)]
        for name, one in judged.items()
    ]
    return _table([title, 'frames', *(column for column, _, _ in shown)], rows)


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f'| {" | ".join(titles)} |', '|' + '---|' * len(titles), *(f'| {" | ".join(row)} |' for row in rows)]


def _code(language: str, text: str) -> list[str]:
    return [f'```{language}', *text.rstrip('\n').split('\n'), '```'] if text else []


def _number(value: float | None, text: str) -> str:
    return '-' if value is None else text.format(value)


def _span(values: Sequence[float] | None, text: str) -> str:
    if values is None:
        return '-'
    lowest, highest = (format(value, text) for value in values)
    return lowest if lowest == highest else f'{lowest} to {highest}'


def _listed(values: Sequence[float]) -> str:
    return ', '.join(f'{value:g}' for value in values) or '-'
