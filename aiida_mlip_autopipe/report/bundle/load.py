"""The way of a bundle into a profile."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.common.exceptions import AiidaException, NotExistent

from aiida_mlip_autopipe.data import PotentialData
from aiida_mlip_autopipe.provenance.calls import count_nodes, pk_of
from aiida_mlip_autopipe.provenance.lineage import find_potential
from aiida_mlip_autopipe.report.bundle.check import ARCHIVE, CARD, read_card

__all__ = ['Imported', 'import_bundle']


@dataclass(frozen=True)
class Imported:
    """What a bundle has become in a profile.

    Attributes
    ----------
    potential : PotentialData
    run : WorkChainNode or None
        None where the bundle holds no archive.
    n_new : int
        Nodes that were not in the profile before.
    """

    potential: PotentialData
    run: orm.WorkChainNode | None
    n_new: int


def import_bundle(folder: Path) -> Imported:
    """Take a bundle into the loaded profile; nodes that are there already are recognised, and stay as they are.

    Parameters
    ----------
    folder : Path
        A bundle that was verified.

    Raises
    ------
    ValueError
        If AiiDA cannot read the archive, or the card cannot be read.
    """
    card = read_card(folder)
    before = count_nodes()
    if (folder / ARCHIVE).is_file():
        _import_archive(folder / ARCHIVE)
        run = _load(card['run']['uuid'])
        return Imported(_load(card['potential']['uuid']), run, count_nodes() - before)
    return Imported(_lone_potential(folder, card), None, count_nodes() - before)


def _load(uuid: str) -> Any:
    try:
        return orm.load_node(uuid=uuid)
    except NotExistent as error:
        raise ValueError(f'{ARCHIVE} does not contain the node {uuid} named in {CARD}') from error


def _import_archive(path: Path) -> None:
    from aiida.common.exceptions import IncompatibleStorageSchema
    from aiida.tools.archive import import_archive

    logging.getLogger('aiida.export').setLevel(logging.WARNING)
    try:
        import_archive(path, create_group=False)
    except IncompatibleStorageSchema as error:
        raise ValueError(
            f'{ARCHIVE} was written by another version of AiiDA ({error}); unpack the bundle and migrate the archive '
            f'with `verdi archive migrate {ARCHIVE} NEW`, then `verdi archive import NEW`'
        ) from error
    except AiidaException as error:
        raise ValueError(f'{ARCHIVE} cannot be imported: {error}') from error


def _lone_potential(folder: Path, card: dict[str, Any]) -> PotentialData:
    """Return the potential of a bundle without archive: the node of the profile if it is there, else a new one."""
    about = dict(card['potential'])
    uuid, name = about.pop('uuid'), about.pop('file')
    about.pop('committee')
    there = find_potential(uuid, about['sha256'])
    if there is not None:
        return there
    origin, licence = about.pop('origin'), about.pop('licence')
    node = PotentialData.from_file(folder / name, about, origin=origin, licence=licence)
    node.label = folder.name
    node.description = f'from a bundle without provenance; trained in the run {card["run"]["uuid"]}'
    node.store()
    return orm.load_node(pk_of(node))  # type: ignore[return-value]
