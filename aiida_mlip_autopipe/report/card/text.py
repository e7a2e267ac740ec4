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
    'test': 'Test set: frames of dynamics drawn at random, of seed structures that are used for nothing else. What to '
    'expect where the rounds explored.',
    'hot': 'Hotter test set: made likewise, but hotter than any round explored. What to expect a step outside.',
    'newly_found': 'Newly found: frames that the last exploration found and chose since they were unlike all others, '
    'judged with the potential **before** it was trained on them. What its predecessor was worth where it went; the '
    'hand-picked worst, not what to expect.',
    'test_of_the_first': 'First potential: the same test set, with the potential that the run began with.',
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
        ('What it was trained on', _data),
        ('Level of theory', _level),
        ('Where it explored', _explored),
        ('Errors', _errors),
        ('Errors of its own predictions', _calibration),
        ('Physics', _physics),
        ('Licence', _licence),
        ('How to load it', _load),
        ('What it cost', _cost),
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
        lines.append(f'Trained alike, from other random numbers: {names}.')
    lines += [
        '',
        'A `.model` file is a pickle: loading one runs the code in it. Load it if you trust where it is from.',
    ]
    return lines


def _limits(card: Mapping[str, Any]) -> list[str]:
    if not card['limits']:
        return ['None were met. That is no promise beyond the conditions below.']
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
        f'Training frames by composition: {compositions}. *Generated*: supercells, strained and rattled ones; '
        '*explored*: chosen from dynamics'
        + (', *given*: of earlier work, of which some were labelled again' if 'given' in kinds else '')
        + '. Frames are split by the seed structure that they descend from, so that no '
        'trajectory spans two files; *seeds* are how many there are.',
    ]


def _level(card: Mapping[str, Any]) -> list[str]:
    level = card['level_of_theory']
    rows = [
        ['code', level['code'] + f' {card["versions"].get(level["program"], "")}'.rstrip()],
        *level['in_words'],
        ['fingerprint', f'`{level["label_fingerprint"]}`: labels with another one must not be mixed with these'],
    ]
    return _table(['', ''], rows)


def _explored(card: Mapping[str, Any]) -> list[str]:
    explored = card['explored']
    if not explored['n_replicas']:
        return ['No round explored: it was trained on generated structures alone.']
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
        return ['It was not judged.']
    lines = _error_table('', {name.replace('_', ' '): one for name, one in judged.items()})
    lines += ['', f'Root mean square errors, computed in {errors["dtype"]}.', '']
    lines += [f'- {FRAMES[name]}' for name in judged]
    lines += [
        '- The standard error takes each frame as one sample. Frames of one seed are alike, so it is rather too small.',
        '- The errors are those against the labels. What DFT itself gets wrong comes on top.',
    ]
    for title, name in (('element', 'by_element'), ('temperature (K)', 'by_temperature'), ('GPa', 'by_pressure')):
        if errors.get(name):
            lines += ['', *_error_table(title, errors[name])]
    return lines


def _calibration(card: Mapping[str, Any]) -> list[str]:
    found = card['errors']['calibration']
    if found is None or found['factor'] is None:
        return ['There is no committee, so nothing tells an error of a single prediction.']
    rank = _number(found['rank_correlation'], '{:.2f}')
    return [
        'Where the committee disagrees by *d* on the force on an atom, expect a force error of '
        f'**{found["factor"]:.2f} d** (largest of a frame, from {found["n_frames"]} test frames). Rank correlation of '
        f'disagreement and error: {rank}; 1: the frames that it disagrees most on are those it is most wrong on; 0: it '
        'says nothing.',
        '',
        'Do not trust it where the test set has not been: potentials that were trained alike err alike, and agree on '
        'what all of them have never seen. A small disagreement is no proof; a large one is a warning.',
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
    """Return what may be done with the potential, as far as the graph knows: a sentence a line."""
    licence, surrogate = card['licence'], card['licence']['surrogate']
    tuned = surrogate is not None and licence['method'] not in (None, 'scratch')
    lines = [f'Licence of the potential: **{licence["potential"]}**.']
    if tuned:
        lines.append(
            f'It was fine-tuned from {surrogate["name"]} and holds its weights: the licence of that one '
            f'({surrogate["licence"]}) holds for it, too.'
        )
    else:
        lines.append(
            'Its weights were trained from scratch on labels of this run: whoever ran it says under which licence it '
            'is handed on.'
        )
        if surrogate is not None:
            lines.append(
                f'{surrogate["name"]} (licence: {surrogate["licence"]}) explored for it; none of its weights are in '
                'it. Whether its licence reaches what was found with it is to be read there.'
            )
    known = {licence['potential'], surrogate and surrogate['licence']}
    if NO_COMMERCIAL_USE in known:
        lines.append('ASL, the Academic Software License, does not permit commercial use.')
    if 'unknown' in known:
        lines.append('Of an unknown licence: ask who made it before you use it or hand it on.')
    if surrogate is not None:
        lines.append('The archive of the provenance holds the file of the surrogate, under its own licence.')
    return [*lines, 'The MIT licence of aiida-mlip-autopipe covers the program, not what is trained with it.']


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
        f'In this folder. The errors above were found in {card["errors"]["dtype"]}; a GPU is `cuda` for `cpu`.',
        '',
        'ASE, with mace-torch:',
        '',
        *_code('python', snippets.ase(potential)),
        '',
        'torch-sim, many systems at once, with mace-torch and torch-sim-atomistic (Python 3.12):',
        '',
        *_code('python', snippets.torch_sim(potential)),
        '',
        'LAMMPS reads a converted file, made where mace-torch is, and a structure:',
        '',
        *_code('console', '$ ' + snippets.lammps_convert(potential)),
        '',
        *_code('python', snippets.lammps_data(potential)),
        '',
        'On CPUs, with the branch of LAMMPS that has `pair_style mace`, the input is:',
        '',
        *_code('text', snippets.lammps_input(potential)),
        '',
        'On a GPU, with a LAMMPS that has ML-IAP with Python and Kokkos, convert it there (it needs cuEquivariance):',
        '',
        *_code('console', '$ ' + snippets.lammps_convert_for_gpu(potential)),
        '',
        'and write in the input instead:',
        '',
        *_code('text', snippets.lammps_pair_for_gpu(potential)),
        '',
        "All but the inputs of LAMMPS is run by this package's tests. mace's documentation tells how either LAMMPS is "
        'built: https://mace-docs.readthedocs.io.',
    ]


def _cost(card: Mapping[str, Any]) -> list[str]:
    cost = card['cost']
    rows = [[stage, f'{hours:.3f}'] for stage, hours in cost['core_hours_by_stage'].items()]
    return [
        f'{cost["core_hours"]:.2f} core hours and {cost["wall_hours"]:g} hours from beginning to end; '
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
