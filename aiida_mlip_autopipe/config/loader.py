"""YAML in, plain values out: nothing that constructs objects, repeats a key or expands without end.

PyYAML follows YAML 1.1, where ``NO`` is false and ``1e-8`` is text. Here words are text, except true and false, and
numbers are numbers, as in YAML 1.2: ``composition: NO`` is nitric oxide.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from aiida_mlip_autopipe.config.errors import ConfigError, key_path, show

__all__ = ['load_yaml', 'read_text']

CORE_TAGS = {f'tag:yaml.org,2002:{name}' for name in ('map', 'seq', 'str', 'int', 'float', 'bool', 'null')}


class PlainLoader(yaml.SafeLoader):
    """Safe loader with the scalars of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}


for _tag, _pattern, _first in (
    ('bool', r'true|True|TRUE|false|False|FALSE', 'tTfF'),
    ('int', r'[-+]?[0-9]+', '-+0123456789'),
    (
        'float',
        r'[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)',
        '-+0123456789.',
    ),
    ('null', r'~|null|Null|NULL|', ['~', 'n', 'N', '']),
):
    PlainLoader.add_implicit_resolver(f'tag:yaml.org,2002:{_tag}', re.compile(f'^(?:{_pattern})$'), list(_first))


def _decimal(loader: PlainLoader, node: yaml.ScalarNode) -> int:
    return int(node.value)


def _float(loader: PlainLoader, node: yaml.ScalarNode) -> float:
    return float(node.value.lower().replace('.inf', 'inf').replace('.nan', 'nan'))


PlainLoader.add_constructor('tag:yaml.org,2002:int', _decimal)
PlainLoader.add_constructor('tag:yaml.org,2002:float', _float)


def read_text(path: Path) -> str:
    """Return the text of an input file.

    Raises
    ------
    ConfigError
        If there is no such file or it is not text.
    """
    if not path.is_file():
        what = 'is a folder' if path.is_dir() else f'does not exist (looked in {path.resolve().parent})'
        raise ConfigError([f'{path} {what}; give the path of an input file'], str(path))
    try:
        return path.read_text(encoding='utf-8')
    except UnicodeDecodeError:
        raise ConfigError([f'{path} is not UTF-8 text; give a YAML file'], str(path)) from None


def load_yaml(text: str, source: str = 'input') -> dict[str, Any]:
    """Return the mapping that a YAML text holds.

    Raises
    ------
    ConfigError
        With all problems: syntax, an empty text, something other than a mapping, tags that would construct objects,
        keys that come twice or are not text, aliases.
    """
    try:
        node = _compose(text)
        if node is None:
            raise ConfigError(
                ["the input is empty; give at least 'system', such as 'system: {prototype: diamond, composition: Si}'"],
                source,
            )
        problems = list(_problems(node, ()))
        if problems:
            raise ConfigError(problems, source)
        loader = PlainLoader('')
        value = loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ConfigError([_syntax(error)], source) from None
    except RecursionError:
        raise ConfigError(['the YAML is nested too deeply; write plain sections, keys and values'], source) from None
    if not isinstance(value, dict):
        kind = 'a list' if isinstance(value, list) else 'text' if isinstance(value, str) else 'a single value'
        raise ConfigError(
            [
                f"the input is {kind} ({show(value)}), not a mapping; write 'key: value' lines, such as "
                "'system: {prototype: diamond, composition: Si}'"
            ],
            source,
        )
    return value


def _compose(text: str) -> yaml.Node | None:
    loader = PlainLoader(text)
    try:
        return loader.get_single_node()
    finally:
        loader.dispose()


def _problems(node: yaml.Node, location: tuple[Any, ...], seen: set[int] | None = None) -> Iterator[str]:
    """Yield what is not plain below a node, each with its key and line."""
    seen = set() if seen is None else seen
    where = f'{key_path(location) or "the input"} (line {node.start_mark.line + 1})'
    if id(node) in seen:
        yield f'{where}: aliases are not supported; write the value again'
        return
    seen.add(id(node))
    if node.tag not in CORE_TAGS:
        tag = node.tag.replace('tag:yaml.org,2002:', '!!')
        yield f'{where}: the tag {tag} would construct an object; give a plain value without a tag'
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _problems(item, (*location, index), seen)
    elif isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            if key.tag != 'tag:yaml.org,2002:str':
                yield f'{where}: the key {show(key.value)} is not text; put it in quotes or remove it'
                continue
            if key.value in lines:
                yield (
                    f'{key_path((*location, key.value))}: given twice, in lines {lines[key.value]} and '
                    f'{key.start_mark.line + 1}; remove one of them'
                )
            lines.setdefault(key.value, key.start_mark.line + 1)
            yield from _problems(value, (*location, key.value), seen)


def _syntax(error: yaml.YAMLError) -> str:
    mark = getattr(error, 'problem_mark', None)
    where = f'line {mark.line + 1}, column {mark.column + 1}: ' if mark is not None else ''
    reason = getattr(error, 'problem', None) or str(error)
    return f"{where}not valid YAML: {reason}; write 'key: value' lines with the same indent within a section"
