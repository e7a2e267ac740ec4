"""Reference pages that are made from the code: what is written once is shown once.

``{parameters} ExplorationParameters``, ``{generators}``, ``{registered} ENSEMBLES``,
``{protocols}``, ``{ports} workflows mlip_autopipe.explore``,
``{exit-codes} workflows mlip_autopipe.explore``, ``{calcfunction} pick_structure``, ``{foundations}``,
``{command} run``.
"""

from __future__ import annotations

import importlib
import inspect
import types
import typing
from collections.abc import Iterator
from pkgutil import iter_modules
from typing import Any

import click
from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

from aiida_mlip_autopipe.science.registry import Registry

SIGNS = {'gt': '>', 'ge': '≥', 'lt': '<', 'le': '≤'}


def table(header: list[str], rows: list[list[str]], widths: list[int], literal: int) -> nodes.table:
    """Return a table whose first ``literal`` columns are code."""
    group = nodes.tgroup(cols=len(header))
    group += [nodes.colspec(colwidth=width) for width in widths]
    head, body = nodes.thead(), nodes.tbody()
    head += _row(header, 0)
    body += [_row(row, literal) for row in rows]
    group += [head, body]
    result = nodes.table(classes=['colwidths-given'])
    result += group
    return result


def _row(cells: list[str], literal: int) -> nodes.row:
    row = nodes.row()
    for index, cell in enumerate(cells):
        paragraph = nodes.paragraph()
        if cell:
            paragraph += nodes.literal(cell, cell) if index < literal else nodes.Text(cell)
        row += nodes.entry('', paragraph)
    return row


class Parameters(Directive):
    """The fields of a parameter model: name, default, bounds, description."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        from aiida_mlip_autopipe.config import schema, training
        from aiida_mlip_autopipe.science import parameters

        name = self.arguments[0]
        of_labellers = {one.parameters_class.__name__: one.parameters_class for _, one in parameters.LABELLERS.items()}
        of_config = getattr(schema, name, None) or getattr(training, name, None)
        return _described(getattr(parameters, name, None) or of_labellers.get(name) or of_config)


class Registered(Directive):
    """What is registered in a group of entry points: each name and what it does."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return a list."""
        from aiida_mlip_autopipe.science import registry

        found = nodes.bullet_list('')
        for name, one in getattr(registry, self.arguments[0]).items():
            told = nodes.Text(f': {getattr(one, "about", one.__doc__).splitlines()[0]}')
            found += nodes.list_item('', nodes.paragraph('', '', nodes.literal(name, name), told))
        return [found]


class Generators(Directive):
    """The section of each method of making seeds."""

    def run(self) -> list[nodes.Node]:
        """Return a heading, what the method does, and the table of its parameters, for each."""
        from aiida_mlip_autopipe.science.registry import GENERATORS

        found: list[nodes.Node] = []
        for name, method in GENERATORS.items():
            key = f'generation.{name}'
            found += [nodes.rubric('', '', nodes.literal(key, key)), *_described(method)]
        return found


def _described(model: Any) -> list[nodes.Node]:
    """Return what a model says of itself, and the table of its fields."""
    fields = model.model_fields
    rows = [[name, _default(info), _bounds(info), info.description or ''] for name, info in fields.items()]
    introduction = nodes.paragraph(text=' '.join((model.__doc__ or '').replace('``', '').split()))
    return [introduction, table(['key', 'default', 'allowed', 'meaning'], rows, [24, 18, 20, 48], 2)]


def _default(info: Any) -> str:
    from pydantic import BaseModel

    if info.is_required():
        return ''
    value = info.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return ''
    return {None: 'null', True: 'true', False: 'false'}.get(value, str(value)) if _hashable(value) else str(value)


def _hashable(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _bounds(info: Any) -> str:
    choices = [str(choice) for choice in _choices(info.annotation)]
    choices += [name for item in info.metadata if isinstance(item, Registry) for name in item]
    limits = _limits(info.metadata) or _inner_limits(info.annotation)
    return ', '.join(choices or limits)


def _limits(metadata: list[Any]) -> list[str]:
    return [
        f'{sign} {_number(getattr(item, name))}'
        for item in metadata
        for name, sign in SIGNS.items()
        if getattr(item, name, None) is not None
    ]


def _inner_limits(annotation: Any) -> list[str]:
    """Return the bounds of what a list or an optional value holds, or of each alternative."""
    return [' or '.join(found)] if (found := dict.fromkeys(_limits_within(annotation, ''))) else []


def _limits_within(annotation: Any, each: str) -> Iterator[str]:
    each = 'each ' if typing.get_origin(annotation) is list else each
    for part in typing.get_args(annotation):
        fields: tuple[Any, ...] = ()
        if typing.get_origin(part) is typing.Annotated:
            part, *fields = typing.get_args(part)
        limits = [limit for one in fields for limit in _limits(getattr(one, 'metadata', [one]))]
        if limits:
            yield each + ', '.join(limits)
        yield from _limits_within(part, each)


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f'{value:g}'


def _choices(annotation: Any) -> Iterator[Any]:
    origin = typing.get_origin(annotation)
    if origin is typing.Literal:
        yield from typing.get_args(annotation)
    elif origin in (typing.Union, types.UnionType):
        for part in typing.get_args(annotation):
            yield from _choices(part)


class Protocols(Directive):
    """What each protocol sets, side by side; a value that it leaves out is the default's or a heuristic's."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        from aiida_mlip_autopipe.config.dump import flatten
        from aiida_mlip_autopipe.config.expander import PROTOCOLS, load_protocol
        from aiida_mlip_autopipe.science.parameters.labelling import DEFAULT_LABELLER, LABELLERS

        protocols = [load_protocol(name) for name in PROTOCOLS]
        of_labels = [
            flatten({'labelling': dict(LABELLERS[DEFAULT_LABELLER].protocols.get(name, {}))}) for name in PROTOCOLS
        ]
        values = [
            {**flatten(one.configuration), **labels, **one.heuristics.model_dump()}
            for one, labels in zip(protocols, of_labels, strict=True)
        ]
        keys = dict.fromkeys(key for one in values for key in one)
        rows = [[key, *(str(one.get(key, '')) for one in values)] for key in keys]
        described = [
            nodes.list_item('', nodes.paragraph('', '', nodes.literal(name, name), nodes.Text(f': {one.description}')))
            for name, one in zip(PROTOCOLS, protocols, strict=True)
        ]
        return [nodes.bullet_list('', *described), table(['key', *PROTOCOLS], rows, [40, 18, 18, 18], 4)]


class Foundations(Directive):
    """The foundation models that can be named, with their licences."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        from aiida_mlip_autopipe.science.potential import FOUNDATIONS

        rows = [[name, one.licence, one.functional, one.elements] for name, one in FOUNDATIONS.items()]
        return [table(['name', 'licence', 'labels', 'elements'], rows, [26, 12, 22, 34], 1)]


def _load_process(kind: str, name: str) -> Any:
    from aiida import plugins

    return {'calculations': plugins.CalculationFactory, 'workflows': plugins.WorkflowFactory}[kind](name)


def _base_of(process: Any) -> Any:
    from aiida.engine import BaseRestartWorkChain, CalcJob, WorkChain

    return next(one for one in (BaseRestartWorkChain, WorkChain, CalcJob) if issubclass(process, one))


class Ports(Directive):
    """The inputs and outputs of a process that are its own, not AiiDA's."""

    required_arguments = 2

    def run(self) -> list[nodes.Node]:
        """Return what the process says of itself and two tables."""
        from aiida.engine import CalcJob

        process = _load_process(*self.arguments)
        base = _base_of(process)
        found: list[nodes.Node] = [nodes.paragraph(text=' '.join((process.__doc__ or '').replace('``', '').split()))]
        for title in ('inputs', 'outputs'):
            known = {*getattr(base.spec(), title), *getattr(CalcJob.spec(), title)} - {'code'}
            rows = list(_ports(getattr(process.spec(), title), known))
            if rows:
                found.append(table([title, 'type', 'meaning'], rows, [26, 26, 56], 2))
        return found


def _ports(namespace: Any, skip: set[str], prefix: str = '') -> Iterator[list[str]]:
    """Yield name, type and help of each port; a namespace that takes any key is one row."""
    from plumpy.ports import PortNamespace

    for name, port in namespace.items():
        if name in skip or name == 'metadata':
            continue
        if isinstance(port, PortNamespace):
            if len(port):
                yield from _ports(port, skip, f'{prefix}{name}.')
            else:
                yield [f'{prefix}{name}.*', _types(port), port.help or '']
            continue
        optional = '' if port.required or prefix else '(optional) '
        yield [f'{prefix}{name}', _types(port), optional + (port.help or '')]


def _types(port: Any) -> str:
    kinds = port.valid_type if isinstance(port.valid_type, tuple) else (port.valid_type,)
    return ' | '.join(kind.__name__ for kind in kinds if kind is not None and kind is not type(None))


class CalcFunction(Directive):
    """The signature and the docstring of a calcfunction."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return its signature and its docstring."""
        from aiida_mlip_autopipe.calculations import functions

        name = self.arguments[0]
        modules = [
            importlib.import_module(f'{functions.__name__}.{one.name}') for one in iter_modules(functions.__path__)
        ]
        function = next(getattr(module, name) for module in modules if hasattr(module, name)).__wrapped__
        names = ', '.join(_signature(function))
        text = f'{self.arguments[0]}({names})\n\n{inspect.cleandoc(function.__doc__ or "")}'
        return [nodes.literal_block(text, text, language='text')]


def _signature(function: Any) -> Iterator[str]:
    for name, parameter in inspect.signature(function).parameters.items():
        yield ('**' if parameter.kind is parameter.VAR_KEYWORD else '') + name


class ExitCodes(Directive):
    """The exit codes of a process that are its own, not AiiDA's."""

    required_arguments = 2

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        process = _load_process(*self.arguments)
        base = _base_of(process)
        inherited = set(base.spec().exit_codes)
        from aiida_mlip_autopipe.pipeline.exit_codes import EXIT_CODES

        meanings = {code.status: code.meaning for code in EXIT_CODES}
        rows = [
            [str(code.status), label, meanings[code.status], code.message]
            for label, code in sorted(process.spec().exit_codes.items(), key=lambda item: item[1].status)
            if label not in inherited
        ]
        return (
            [table(['status', 'label', 'meaning', 'message'], rows, [8, 28, 30, 34], 2)]
            if rows
            else [nodes.paragraph(text='Only those of its job.')]
        )


class Command(Directive):
    """The help text of a command of ``mlip-autopipe``; without an argument that of the group."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the text."""
        from aiida_mlip_autopipe.cli import main

        context = click.Context(main, info_name='mlip-autopipe', terminal_width=90, max_content_width=90)
        command: click.Command = main
        if self.arguments:
            found = main.get_command(context, self.arguments[0])
            assert found is not None
            command = found
            context = click.Context(
                command, parent=context, info_name=self.arguments[0], terminal_width=90, max_content_width=90
            )
        text = command.get_help(context)
        return [nodes.literal_block(text, text, language='text')]


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directives."""
    directives = {
        'parameters': Parameters,
        'generators': Generators,
        'registered': Registered,
        'protocols': Protocols,
        'foundations': Foundations,
        'ports': Ports,
        'calcfunction': CalcFunction,
        'exit-codes': ExitCodes,
        'command': Command,
    }
    for name, directive in directives.items():
        app.add_directive(name, directive)
    return {'parallel_read_safe': True}
