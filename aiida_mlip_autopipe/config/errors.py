"""Everything that is wrong with an input, at once, in words: the key, its value, the bound and the way out."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from aiida_mlip_autopipe.config.schema import Configuration, kinds_at, model_of

__all__ = ['ConfigError', 'key_path', 'nearest', 'show', 'translate']

UNITS = ('per_fs', 'meV_A', 'eV_A', 'meV', 'GPa', 'eV', 'Ry', 'fs', 'K', 'A3', 'A')
UNIT_TEXT = {'per_fs': '1/fs', 'meV_A': 'meV/Å', 'eV_A': 'eV/Å', 'A3': 'Å³', 'A': 'Å'}
BOUNDS = {
    'greater_than': ('gt', '>'),
    'greater_than_equal': ('ge', '>='),
    'less_than': ('lt', '<'),
    'less_than_equal': ('le', '<='),
}
NUMBER, WHOLE, SECTION = 'a number; give one', 'a whole number; give one', 'a section; give keys and values'
WANTED = {
    'int_type': WHOLE,
    'int_from_float': WHOLE,
    'float_type': NUMBER,
    'finite_number': 'a finite number; give one',
    'bool_type': 'true or false; give one of them',
    'string_type': 'text; put it in quotes',
    'string_too_short': 'long enough; enter some text',
    'list_type': 'a list; write it as [value, ...]',
    'dict_type': SECTION,
    'model_type': SECTION,
    'model_attributes_type': 'a name or a section; give one',
}


class ConfigError(ValueError):
    """An input that cannot be expanded.

    Parameters
    ----------
    problems : sequence of str
        One line for each thing to repair; also an attribute.
    source : str
        What was read, for the first line of the message.
    """

    def __init__(self, problems: Sequence[str], source: str = 'input') -> None:
        self.problems = list(dict.fromkeys(problems))
        number = f'{len(self.problems)} problem{"s" if len(self.problems) > 1 else ""}'
        super().__init__('\n'.join([f'{source}: {number}', *(f'  - {problem}' for problem in self.problems)]))


def translate(error: ValidationError, data: Mapping[str, Any]) -> list[str]:
    """Return the problems of a pydantic error of ``Configuration`` as ``key: value is not ...; give ...``."""
    problems: dict[str, str] = {}
    for details in error.errors(include_url=False):
        location = _location(details, data)
        # one for a value: a union complains once for each branch
        problems.setdefault(key_path(location), _problem(details, location, data))
    return list(problems.values())


def key_path(location: Iterable[object]) -> str:
    """Return ``('exploration', 'temperatures_K', 1)`` as ``exploration.temperatures_K[1]``."""
    text = ''
    for part in location:
        text += f'[{part}]' if isinstance(part, int) else f'{"." if text else ""}{part}'
    return text


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the known word that is most like ``word``, whatever the case, or None."""
    by_fold: dict[str, str] = {}
    for name in known:
        by_fold.setdefault(name.casefold(), name)
    found = difflib.get_close_matches(word.casefold(), by_fold, 1, cutoff)
    return by_fold[found[0]] if found else None


def show(value: object) -> str:
    """Return a value as its author would write it, shortened."""
    try:
        text = repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 60 else f'{text[:57]}...'


def _problem(details: Any, location: tuple[Any, ...], data: Mapping[str, Any]) -> str:
    kind, value, context = details['type'], details['input'], details.get('ctx', {})
    path = key_path(location)
    prefix = f'{path}: ' if path else ''
    if kind == 'extra_forbidden':
        return _unknown_key(location, data)
    if kind == 'value_error':
        return f'{prefix}{context["error"]}'
    if kind == 'missing':
        return f'{path}: missing; give {_meaning(location, data)}'
    if kind in BOUNDS:
        name, sign = BOUNDS[kind]
        bound = f'{sign} {_number(context[name])}{_unit(location)}'
        return f'{prefix}{show(value)} is not {bound}; give a value {bound}: {_meaning(location, data)}'
    if kind == 'union_tag_invalid':
        value, kind, context = value['kind'], 'literal_error', {'expected': _alternatives(context['expected_tags'])}
    if kind == 'literal_error' and ', ' not in context['expected'] and ' or ' not in context['expected']:
        return f'{prefix}{show(value)} is not {context["expected"]}: {_meaning(location, data)}'
    if kind == 'literal_error':
        return f'{prefix}{show(value)} is not one of {context["expected"]}; {_near_literal(value, context["expected"])}'
    if kind == 'too_short':
        least = f'at least {context["min_length"]} value'
        return f'{prefix}{show(value)} is empty; give {least}: {_meaning(location, data)}'
    return f'{prefix}{show(value)} is not {WANTED.get(kind, details["msg"])}: {_meaning(location, data)}'


def _location(details: Any, data: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the keys and indices, as the data has them, of what an error is about."""
    location = _without_kinds(details['loc'])
    if details['type'] == 'union_tag_invalid':
        return (*location, 'kind')
    return location if details['type'] == 'missing' else _known_part(location, data)


def _without_kinds(location: Sequence[Any]) -> tuple[Any, ...]:
    """Return the location without the kinds that pydantic puts between a section and what is in it."""
    plain: list[Any] = []
    for index, part in enumerate(location):
        follows_section = bool(plain) and location[index - 1] == plain[-1]
        if not (follows_section and part in kinds_at([name for name in plain if isinstance(name, str)])):
            plain.append(part)
    return tuple(plain)


def _known_part(location: Sequence[Any], data: Any) -> tuple[Any, ...]:
    """Return the location as far as the data has it: pydantic adds the branches of a union."""
    known: list[Any] = []
    for part in location:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            break
        known.append(part)
    return tuple(known)


def _unknown_key(location: tuple[Any, ...], data: Mapping[str, Any]) -> str:
    """Say which key was meant: one of the same section, else the same key in another section or of another kind."""
    *parents, key = location
    model = model_of(parents, data)
    path, siblings = key_path(location), list(model.model_fields) if model else []
    near = nearest(str(key), siblings)
    if near:
        return f'{path}: unknown key; did you mean {key_path([*parents, near])}?'
    others = {name: [section, name] for section, name in _all_keys()}
    elsewhere = nearest(str(key), others, 0.8)
    if elsewhere:
        return f'{path}: unknown key; did you mean {key_path(others[elsewhere])}?'
    kinds = [kind for kind, other in kinds_at(parents).items() if key in other.model_fields]
    if kinds and model:
        kind = model.model_fields['kind'].default
        return f'{path}: kind {kind} has no such key, {" and ".join(kinds)} has; its keys are {", ".join(siblings)}'
    return f'{path}: unknown key; the keys of {key_path(parents) or "the input"} are {", ".join(siblings)}'


def _all_keys() -> Iterator[tuple[str, str]]:
    for section in Configuration.model_fields:
        model = model_of([section])
        if model is not None:
            yield from ((section, name) for name in model.model_fields)


def _meaning(location: Sequence[Any], data: Mapping[str, Any]) -> str:
    """Return what a key holds: the first sentence of its description in the schema."""
    names = [part for part in location if isinstance(part, str)]
    for depth in range(len(names), 0, -1):
        model = model_of(names[: depth - 1], data)
        if model is not None and names[depth - 1] in model.model_fields:
            description = model.model_fields[names[depth - 1]].description or ''
            return _lower_first(description.split('. ')[0]).rstrip('.')
    return 'see the documentation of input.yaml'


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def _unit(location: Sequence[Any]) -> str:
    """Return the unit that a key's name ends with, with a leading space."""
    names = [part for part in location if isinstance(part, str)]
    for unit in UNITS:
        if names and names[-1].endswith(f'_{unit}'):
            return f' {UNIT_TEXT.get(unit, unit)}'
    return ''


def _number(value: float) -> str:
    return f'{value:g}' if abs(value) < 1e6 else str(value)


def _alternatives(quoted: str) -> str:
    """Return ``'a', 'b', 'c'`` as ``'a', 'b' or 'c'``."""
    return ' or '.join(quoted.rsplit(', ', 1))


def _near_literal(value: Any, expected: str) -> str:
    choices = [choice.strip(" '") for choice in expected.replace(' or ', ', ').split(',')]
    near = nearest(value, choices) if isinstance(value, str) else None
    return f'did you mean {near!r}?' if near else 'give one of them'
