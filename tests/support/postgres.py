"""PostgreSQL for the tests: what pgtest needs where the tests run as root or where a locale is missing.

``pg_ctl`` refuses to run as root, so a ``pg_ctl`` of our own goes first on PATH: it gives the cluster's folder to the
``postgres`` user and calls the real one as that user. AiiDA creates its databases with the collation ``en_US.UTF-8``;
where the system does not have it, it is compiled into a folder that only this server sees.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

__all__ = ['prepare_postgres']

_WRAPPER = """#!/bin/sh
# pg_ctl for root: the real one, as the user postgres.
previous=
for argument in "$@"; do
  [ "$previous" = -D ] && chown -R postgres "$(dirname "$argument")"
  previous=$argument
done
cd /
{locale}exec setpriv --reuid=postgres --regid=postgres --clear-groups '{pg_ctl}' "$@"
"""


def prepare_postgres(folder: Path) -> None:
    """Put a usable PostgreSQL server first on PATH for the rest of this process.

    Parameters
    ----------
    folder : Path
        An empty folder that the ``postgres`` user can enter.

    Raises
    ------
    RuntimeError
        If no PostgreSQL server is installed, or root lacks ``setpriv``.
    """
    pg_ctl = _newest_pg_ctl()
    locpath = _compile_locale(folder / 'locale')
    if os.geteuid() == 0:
        if shutil.which('setpriv') is None:
            raise RuntimeError('running PostgreSQL as root needs `setpriv` (Debian package util-linux)')
        wrapper = folder / 'bin' / 'pg_ctl'
        wrapper.parent.mkdir()
        locale = f"LOCPATH='{locpath}'; export LOCPATH\n" if locpath else ''
        wrapper.write_text(_WRAPPER.format(pg_ctl=pg_ctl, locale=locale))
        wrapper.chmod(0o755)
        first = wrapper.parent
    else:
        first = pg_ctl.parent
        if locpath:
            os.environ['LOCPATH'] = str(locpath)
    os.environ['PATH'] = os.pathsep.join([str(first), os.environ['PATH'], str(pg_ctl.parent)])


def _newest_pg_ctl() -> Path:
    """Return the ``pg_ctl`` of the newest server, Debian's folders first: those on PATH may be links or wrappers."""
    found = sorted(
        Path('/usr/lib/postgresql').glob('*/bin/pg_ctl'), key=lambda path: float(path.parts[-3]), reverse=True
    )
    if found:
        return found[0]
    if on_path := shutil.which('pg_ctl'):
        return Path(on_path).resolve()
    raise RuntimeError('no PostgreSQL server found for --db-backend psql; install it (Debian: apt install postgresql)')


def _compile_locale(folder: Path) -> Path | None:
    """Compile en_US.UTF-8 into ``folder`` where the system lacks it; return the folder, or None if not needed."""
    known = subprocess.run(['locale', '-a'], capture_output=True, text=True, check=True).stdout
    if re.search(r'^en_US\.utf-?8$', known, flags=re.MULTILINE | re.IGNORECASE):
        return None
    folder.mkdir()
    command = ['localedef', '-i', 'en_US', '-f', 'UTF-8', str(folder / 'en_US.UTF-8')]
    done = subprocess.run(command, capture_output=True, text=True)
    if not (folder / 'en_US.UTF-8' / 'LC_COLLATE').is_file():
        raise RuntimeError(f'`{" ".join(command)}` failed (Debian: apt install locales): {done.stderr.strip()}')
    return folder
