"""The expanded configuration as YAML, with the origin of every value at the end of its line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from aiida_mlip_autopipe.config.loader import PlainLoader

__all__ = ['dump_yaml', 'flatten']

COMMENT_COLUMN = 52


class CautiousDumper(yaml.SafeDumper):
    """Safe dumper that quotes what a reader of YAML 1.1 or of 1.2 would take for something other than text."""

    yaml_implicit_resolvers = {
        first: yaml.SafeDumper.yaml_implicit_resolvers.get(first, [])
        + PlainLoader.yaml_implicit_resolvers.get(first, [])
        for first in {*yaml.SafeDumper.yaml_implicit_resolvers, *PlainLoader.yaml_implicit_resolvers}
    }


def flatten(data: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
    """Return ``{'a': {'b': 1}}`` as ``{'a.b': 1}``; lists and empty mappings are values."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        path = f'{prefix}{key}'
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f'{path}.')
        else:
            flat[path] = value
    return flat


def dump_yaml(data: Mapping[str, Any], comments: Mapping[str, str], header: str) -> str:
    """Return nested plain values as YAML.

    Parameters
    ----------
    data : mapping
        Sections, keys and values.
    comments : mapping
        Comment of each value, by its flat key.
    header : str
        Comment lines at the top.
    """
    lines = [f'# {line}' for line in header.splitlines()]
    lines += [f'{text:<{COMMENT_COLUMN}}  # {comments[path]}' if path else text for path, text in _lines(data, '', 0)]
    return '\n'.join(lines) + '\n'


def _lines(data: Mapping[str, Any], prefix: str, depth: int) -> Iterator[tuple[str, str]]:
    """Yield the flat key (empty for the head of a section) and the text of each line."""
    for key, value in data.items():
        path, start = f'{prefix}{key}', f'{"  " * depth}{_scalar(key)}:'
        if isinstance(value, Mapping) and value:
            yield '', start
            yield from _lines(value, f'{path}.', depth + 1)
        else:
            yield path, f'{start} {_scalar(value)}'


def _scalar(value: Any) -> str:
    text = yaml.dump(value, Dumper=CautiousDumper, default_flow_style=True, width=2**31, allow_unicode=True)
    text = text.removesuffix('...\n').strip()
    return json.dumps(value) if '\n' in text else text
