"""``mlip-autopipe plan``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiida_mlip_autopipe.cli.console import console, load_profile
from aiida_mlip_autopipe.cli.examination import Examination

if TYPE_CHECKING:
    from aiida.manage.configuration.profile import Profile
    from aiida.orm import AbstractCode

    from aiida_mlip_autopipe.config import Expansion

__all__ = ['command', 'examine']

WRONG = 2


@click.command('plan')
@click.argument('input_file', metavar='INPUT', type=click.Path(path_type=Path))
@click.option('--json', 'as_json', is_flag=True, help='Print it as JSON, for scripts.')
@click.pass_obj
def command(profile_name: str | None, input_file: Path, as_json: bool) -> None:
    """Show what INPUT would run, its cost, and any problems; nothing is submitted or stored.

    Counts are exact, or upper bounds if they depend on results. Hours are estimated from `doctor` measurements on
    the computer, and from earlier jobs of this profile. All problems are listed at once, with solutions. Exit
    status 2 if there are any.

    \b
    mlip-autopipe plan input.yaml
    mlip-autopipe plan input.yaml --json | jq .plan.totals.labels
    """
    profile = load_profile(profile_name)
    with console.status(f'examining {input_file}'):
        found = examine(input_file, profile)
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=1, ensure_ascii=False))
    else:
        from aiida_mlip_autopipe.cli.plan_table import print_plan

        print_plan(found)
    if found.problems:
        sys.exit(WRONG)


def examine(path: Path, profile: Profile) -> Examination:
    """Look at all that could stand in the way of an input, and plan it as far as that is possible."""
    from aiida_mlip_autopipe.cli.launch import (
        collect_problems,
        daemon_slots,
        expand_in_profile,
        load_nodes,
        needed_slots,
    )

    found = Examination(path, profile.name)
    done, found.problems = collect_problems(
        {'expansion': lambda: expand_in_profile(path), 'daemon': lambda: daemon_slots(profile)}
    )
    found.expansion = done.get('expansion')
    if 'daemon' in done:
        found.n_workers, found.slots_per_worker = done['daemon']
    if found.expansion is None:
        codes, problems = _codes_of_a_bad_input(path)
        found.problems += problems
    else:
        codes, problems = load_nodes(found.expansion)
        found.slots_needed = needed_slots(found.expansion.configuration)
        found.problems += [*problems, *_too_few_slots(found)]
        found.warnings += _mismatch(codes, found.expansion)
        found.warnings += found.expansion.warnings()
    for name in ('worker_code', 'labelling_code'):
        if codes.get(name) is not None:
            found.problems += _unreachable(codes[name])
    if found.expansion is not None:
        _make_plan(found, found.expansion, codes)
    found.problems = list(dict.fromkeys(found.problems))
    return found


def _make_plan(found: Examination, expansion: Expansion, codes: Mapping[str, Any]) -> None:
    from aiida_mlip_autopipe.config.plan import make_plan
    from aiida_mlip_autopipe.provenance.speed import measured_speeds
    from aiida_mlip_autopipe.science.existing_data import existing_data

    speeds = measured_speeds(expansion.configuration, codes.get('worker_code'), codes.get('labelling_code'))
    data = existing_data(codes['data'].get_atoms()) if codes.get('data') else []
    try:
        found.plan = make_plan(expansion.configuration, expansion.sources, speeds, data)
    except ValueError as error:
        found.problems.append(str(error))
        return
    found.warnings += found.plan.warnings


def _codes_of_a_bad_input(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the codes that an input names which cannot be expanded, as far as it can be read; and what is wrong."""
    from aiida_mlip_autopipe.cli.launch import collect_problems
    from aiida_mlip_autopipe.config import ConfigError, ConfigExpander
    from aiida_mlip_autopipe.config.schema import CodesConfiguration
    from aiida_mlip_autopipe.science.parameters.labelling import LABELLERS, kind_of
    from aiida_mlip_autopipe.workflows.inputs import find_code

    try:
        data = ConfigExpander(path).data
    except ConfigError:
        data = {}
    kind, given = kind_of(data.get('labelling')), data.get('codes') or {}
    usual = LABELLERS[kind].default_code if kind in LABELLERS else None
    defaults = {**CodesConfiguration().model_dump(), 'labelling': usual}
    labels = {name: given.get(name, label) if isinstance(given, Mapping) else label for name, label in defaults.items()}
    steps: dict[str, Callable[[], Any]] = {
        f'{name}_code': partial(find_code, label, f'codes.{name}')
        for name, label in labels.items()
        if isinstance(label, str)
    }
    return collect_problems(steps)


def _mismatch(nodes: Mapping[str, Any], expansion: Expansion) -> Iterator[str]:
    from aiida_mlip_autopipe.labelling.base import labeller_of
    from aiida_mlip_autopipe.workflows.inputs import functional_mismatch

    if warning := functional_mismatch(
        nodes.get('surrogate'), labeller_of(expansion.configuration.labelling), expansion.elements
    ):
        yield warning


def _too_few_slots(found: Examination) -> Iterator[str]:
    if found.n_workers is None or found.slots_per_worker is None or found.slots_needed is None:
        return
    if found.n_workers * found.slots_per_worker < found.slots_needed:
        from aiida_mlip_autopipe.cli.launch import tell_too_few_slots

        yield tell_too_few_slots(found.n_workers, found.slots_per_worker, found.slots_needed)


def _unreachable(code: AbstractCode) -> Iterator[str]:
    """Yield why a code cannot be run now: its computer is disabled, not set up or does not answer, or it is gone."""
    from aiida.common.exceptions import ValidationError
    from aiida.orm import InstalledCode, User

    computer, user = code.computer, User.collection.get_default()
    if computer is None or user is None:
        return
    if not computer.is_configured:
        yield (
            f'{code.full_label}: computer {computer.label!r} is not set up for this user; '
            f'`verdi computer configure {computer.transport_type} {computer.label}`'
        )
    elif not computer.is_user_enabled(user):
        yield f'{code.full_label}: computer {computer.label!r} is disabled; `verdi computer enable {computer.label}`'
    elif isinstance(code, InstalledCode):
        try:
            code.validate_filepath_executable()
        except ValidationError as error:
            yield (
                f'{code.full_label}: {str(error).rstrip(".")} ({code.filepath_executable} on {computer.label}); '
                f'`verdi computer test {computer.label}` says what does not work, `mlip-autopipe init` repairs the '
                'codes of this computer'
            )
