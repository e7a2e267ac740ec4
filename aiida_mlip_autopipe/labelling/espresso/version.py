"""The version of pw.x: as it tells it, and as the profile knows it of a code."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from aiida_mlip_autopipe.labelling.answers import VERSION_EXTRA

__all__ = ['ask_version', 'version_of_code', 'version_tuple']

BANNER = re.compile(r'Program PWSCF v\.(?P<version>\d+\.\d+)')
LONGEST_S = 60


def ask_version(executable: Path) -> str | None:
    """Return the version that pw.x prints when it is started without an input; None if it does not start here."""
    with TemporaryDirectory() as folder:
        try:
            run = subprocess.run(
                [str(executable)],
                input='\n',
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=LONGEST_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
    match = BANNER.search(run.stdout)
    return match['version'] if match else None


def version_of_code(label: str) -> str | None:
    """Return the version of a code of the profile: what ``init`` found, else what its newest job printed."""
    from aiida import orm
    from aiida.common.exceptions import MultipleObjectsError, NotExistent

    try:
        code = orm.load_code(label)
    except (NotExistent, MultipleObjectsError, ValueError):
        return None
    if (known := code.base.extras.get(VERSION_EXTRA, None)) is not None:
        return str(known)
    query = orm.QueryBuilder(limit=1)
    query.append(orm.AbstractCode, filters={'id': code.pk}, tag='code')
    query.append(orm.CalcJobNode, with_incoming='code', tag='job')
    query.append(
        orm.Dict,
        with_incoming='job',
        edge_filters={'label': 'output_parameters'},
        filters={'attributes': {'has_key': 'creator_version'}},
        project='attributes.creator_version',
    )
    query.order_by({'job': {'ctime': 'desc'}})
    return query.first(flat=True)


def version_tuple(version: str) -> tuple[int, int]:
    """Return ``'6.7MaX'`` as ``(6, 7)``."""
    match = re.match(r'(\d+)\.(\d+)', version)
    return (int(match[1]), int(match[2])) if match else (0, 0)
