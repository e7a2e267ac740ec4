"""What all commands share: the two consoles, the profile, and how an error is told."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

import click
from rich.console import Console

if TYPE_CHECKING:
    from aiida.manage.configuration.profile import Profile

__all__ = ['UsageProblem', 'console', 'load_profile', 'tell_command', 'tell_errors', 'tell_size']

# Where the output is no terminal nothing tells its width, and 80 columns would fold every row of a table.
WIDTH_OF_A_FILE = 110
UNITS_OF_SIZE = ('B', 'kB', 'MB', 'GB', 'TB')

console = Console(highlight=False)
if not console.is_terminal and 'COLUMNS' not in os.environ:
    console.width = WIDTH_OF_A_FILE


class UsageProblem(click.ClickException):
    """What the user can put right: told in words, exit code 2."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message to stderr."""
        to_stderr = Console(stderr=True, highlight=False, soft_wrap=True)
        to_stderr.print('[bold red]Error:[/] ', end='')
        to_stderr.print(self.message, markup=False)


@contextlib.contextmanager
def tell_errors() -> Iterator[None]:
    """Turn the errors that name an input into messages without a traceback."""
    try:
        yield
    except ValueError as error:
        raise UsageProblem(str(error)) from error


def load_profile(name: str | None) -> Profile:
    """Load a profile, the default one if ``name`` is None.

    Raises
    ------
    UsageProblem
        If there is no such profile.
    """
    from aiida import load_profile
    from aiida.common.exceptions import ConfigurationError

    try:
        return load_profile(name)
    except ConfigurationError as error:
        wanted = f'profile {name!r}' if name else 'AiiDA profile'
        raise UsageProblem(f'no {wanted} could be loaded ({error}); `mlip-autopipe init` makes one') from error


def tell_command(words: str) -> str:
    """Return a command of this program as it is to be typed: with the loaded profile, if it is not the default."""
    from aiida.manage.configuration import get_config, get_profile

    profile = get_profile()
    option = (
        '' if profile is None or profile.name == get_config().default_profile_name else f'--profile {profile.name} '
    )
    return f'mlip-autopipe {option}{words}'


def tell_size(n_bytes: float) -> str:
    """Return a number of bytes in the decimal unit that suits it, with three digits: '1.41 MB'."""
    size, *units = n_bytes, *UNITS_OF_SIZE
    # From 999.5 on three digits would be those of the next unit.
    while size >= 999.5 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f'{size:.3g} {units[0]}' if size < 999.5 else f'{size:,.0f} {units[0]}'
