"""``mlip-autopipe verify``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aiida_mlip_autopipe.cli.console import console, tell_errors

if TYPE_CHECKING:
    from aiida_mlip_autopipe.report.bundle.check import Check

__all__ = ['checked', 'command', 'print_checks']


@click.command('verify')
@click.argument('bundle', metavar='BUNDLE', type=click.Path(path_type=Path))
def command(bundle: Path) -> None:
    """Verify a bundle, a folder or a zip file, with its checksums and its card.

    It needs no AiiDA profile. Each line is a check; the exit status is 0 if all pass, else 1. Without this package,
    `sha256sum -c SHA256SUMS` compares the checksums.

    \b
    mlip-autopipe verify SiC.zip
    """
    import zipfile

    from aiida_mlip_autopipe.report.bundle.check import open_bundle

    with tell_errors():
        try:
            with open_bundle(bundle) as folder:
                checks = checked(folder)
        except zipfile.BadZipFile as error:
            console.print(f'[bold red]wrong[/]  {bundle}: the zip file is broken: {error}', soft_wrap=True)
            sys.exit(1)
    if not all(check.passed for check in checks):
        sys.exit(1)


def checked(folder: Path) -> list[Check]:
    """Verify the bundle in a folder, print a line for each check and how it came out, and return them."""
    from aiida_mlip_autopipe.report.bundle.check import verify_bundle

    checks = verify_bundle(folder)
    print_checks(checks)
    wrong = sum(not check.passed for check in checks)
    if wrong:
        console.print(f'[bold red]{wrong} of {len(checks)} checks failed: do not use this bundle[/]')
    else:
        console.print(f'all {len(checks)} checks passed')
    return checks


def print_checks(checks: list[Check]) -> None:
    """Print a line for each check."""
    from rich.markup import escape

    width = max(len(check.subject) for check in checks)
    for check in checks:
        verdict = '[green]ok   [/]' if check.passed else '[bold red]wrong[/]'
        console.print(f'{verdict}  {escape(check.subject):<{width}}  {escape(check.found)}', soft_wrap=True)
