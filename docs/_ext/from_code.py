"""Reference pages that are made from the code: parameters, exit codes, commands. What is written once is shown once.

``{parameters} ExplorationParameters``, ``{exit-codes} workflows mlip_autopipe.explore``, ``{command} run``.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from typing import Any

import click
from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

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
        from aiida_mlip_autopipe.config import schema
        from aiida_mlip_autopipe.science import parameters

        name = self.arguments[0]
        model = getattr(parameters, name, None) or getattr(schema, name)
        rows = [
            [field, _default(info), _bounds(info), info.description or ''] for field, info in model.model_fields.items()
        ]
        introduction = nodes.paragraph(text=' '.join((model.__doc__ or '').split()))
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
    limits = [
        f'{sign} {getattr(item, name):g}'
        for item in info.metadata
        for name, sign in SIGNS.items()
        if getattr(item, name, None) is not None
    ]
    return ', '.join(choices or limits)


def _choices(annotation: Any) -> Iterator[Any]:
    origin = typing.get_origin(annotation)
    if origin is typing.Literal:
        yield from typing.get_args(annotation)
    elif origin in (typing.Union, types.UnionType):
        for part in typing.get_args(annotation):
            yield from _choices(part)


class ExitCodes(Directive):
    """The exit codes of a process that are its own, not AiiDA's."""

    required_arguments = 2

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        from aiida import plugins
        from aiida.engine import BaseRestartWorkChain, CalcJob, WorkChain

        kind, name = self.arguments
        factory = {'calculations': plugins.CalculationFactory, 'workflows': plugins.WorkflowFactory}[kind]
        process = factory(name)
        base = next(one for one in (BaseRestartWorkChain, WorkChain, CalcJob) if issubclass(process, one))
        inherited = set(base.spec().exit_codes)
        rows = [
            [str(code.status), label, code.message]
            for label, code in sorted(process.spec().exit_codes.items(), key=lambda item: item[1].status)
            if label not in inherited
        ]
        return (
            [table(['status', 'label', 'message'], rows, [8, 34, 58], 2)]
            if rows
            else [nodes.paragraph(text='None of its own: it passes on those of its job.')]
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
    app.add_directive('parameters', Parameters)
    app.add_directive('exit-codes', ExitCodes)
    app.add_directive('command', Command)
    return {'parallel_read_safe': True}
