"""``mlip-autopipe change``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from aiida_mlip_autopipe.cli.commands.status import RUN, load_run
from aiida_mlip_autopipe.cli.console import UsageProblem, console, load_profile, tell_errors

if TYPE_CHECKING:
    from aiida.orm import WorkChainNode

__all__ = ['command']


@click.command('change')
@click.argument('run', metavar='PK', type=RUN)
@click.argument('settings', metavar='KEY=VALUE...', nargs=-1, required=True)
@click.pass_obj
def command(profile_name: str | None, run: int, settings: tuple[str, ...]) -> None:
    """Change the budget or the tolerances of the run PK while it is running.

    The change takes effect before the next round; finished stages are not affected. To pause a run:
    verdi process pause PK.

    \b
    mlip-autopipe change 1234 loop.max_rounds=6 evaluation.max_force_rmse_meV_A=80
    """
    with tell_errors():
        load_profile(profile_name)
        from aiida_mlip_autopipe.provenance.changes import ask_for_change

        node = _load_active_run(run)
        change = parse_settings(settings)
        _check(node, change)
        ask_for_change(node, change)
    console.print(f'run {run} applies the change before its next round: {", ".join(settings)}')


def parse_settings(settings: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the values by section and key.

    Raises
    ------
    ValueError
        If one is not KEY=VALUE, or its key must not be changed.
    """
    import yaml

    from aiida_mlip_autopipe.provenance.changes import CHANGEABLE

    allowed = [f'{section}.{key}' for section, keys in CHANGEABLE.items() for key in keys]
    change: dict[str, dict[str, Any]] = {}
    for setting in settings:
        name, equals, value = setting.partition('=')
        if not equals:
            raise ValueError(f'{setting!r} is not KEY=VALUE; write it as loop.max_rounds=5')
        if name not in allowed:
            raise ValueError(
                f'{name}: cannot be changed during a run; these can: {", ".join(allowed)}. For other '
                'changes start another run: common results come from the cache'
            )
        section, key = name.split('.')
        change.setdefault(section, {})[key] = yaml.safe_load(value)
    return change


def _load_active_run(pk: int) -> WorkChainNode:
    from aiida_mlip_autopipe.workflows.autopipe import AutoPipeWorkChain

    node = load_run(pk)
    if node.process_class is not AutoPipeWorkChain:
        raise UsageProblem(f'{pk} is a {node.process_label}, not a run; `mlip-autopipe status` lists the runs')
    if node.is_terminated:
        raise UsageProblem(f'run {pk} has ended; submit the changed input again: common results come from the cache')
    return node


def _check(node: WorkChainNode, change: dict[str, dict[str, Any]]) -> None:
    """Hold the values against the schema, with all changes before them.

    Raises
    ------
    ConfigError
        With all problems.
    """
    from pydantic import ValidationError

    from aiida_mlip_autopipe.config import Configuration
    from aiida_mlip_autopipe.config.errors import ConfigError, translate
    from aiida_mlip_autopipe.config.expander import merged
    from aiida_mlip_autopipe.provenance.changes import changes_of

    before = [node.inputs.configuration, *changes_of(node)]
    values = merged([*(layer.get_dict() for layer in before), change])
    try:
        Configuration.model_validate(values, strict=True)
    except ValidationError as error:
        raise ConfigError(translate(error, values), f'run {node.pk}') from error
