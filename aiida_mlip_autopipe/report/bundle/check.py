"""What is in a bundle, and whether it is whole: for those who have the files and no AiiDA.

A bundle is a folder, or a zip file that holds one. ``SHA256SUMS`` lists every other file as ``sha256sum -c`` reads it;
``card.json`` says what the files hold. Here one is held against the other, and both against the files.
"""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from aiida_mlip_autopipe.science.frames import file_sha256, read_extxyz

__all__ = ['ARCHIVE', 'CARD', 'CHECKSUMS', 'Check', 'open_bundle', 'read_card', 'verify_bundle']

CARD, CHECKSUMS, ARCHIVE = 'card.json', 'SHA256SUMS', 'provenance.aiida'
LINE = re.compile(r'([0-9a-f]{64})  (\S.*)')


@dataclass(frozen=True)
class Check:
    """One check of a bundle: what was looked at, whether it is right, and what was found."""

    subject: str
    passed: bool
    found: str


@contextmanager
def open_bundle(path: Path) -> Iterator[Path]:
    """Give the folder of a bundle; that of a zip file is unpacked for as long as it is needed.

    Raises
    ------
    ValueError
        If there is no bundle: no such path, or neither a folder nor a zip file, or one without the files of a bundle.
    zipfile.BadZipFile
        If the zip file is broken.
    """
    if path.is_dir():
        yield _folder_of(path, path)
        return
    if not path.is_file():
        raise ValueError(f'{path} does not exist: give a folder or zip file written by `mlip-autopipe export`')
    if path.suffix != '.zip':
        raise ValueError(f'{path} is neither a folder nor a .zip file: give one written by `mlip-autopipe export`')
    with TemporaryDirectory() as name:
        try:
            with zipfile.ZipFile(path) as packed:
                packed.extractall(name)
        except (zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise zipfile.BadZipFile(f'it cannot be unpacked ({error})') from error
        inside = list(Path(name).iterdir())
        yield _folder_of(inside[0] if len(inside) == 1 and inside[0].is_dir() else Path(name), path)


def _folder_of(folder: Path, given: Path) -> Path:
    if not any((folder / name).is_file() for name in (CHECKSUMS, CARD)):
        raise ValueError(
            f'{given} contains neither {CHECKSUMS} nor {CARD}: it is not a bundle of `mlip-autopipe export`'
        )
    return folder


def read_card(folder: Path) -> dict[str, Any]:
    """Return the card of a bundle.

    Raises
    ------
    ValueError
        If it is missing, or no card.
    """
    try:
        card = json.loads((folder / CARD).read_text(encoding='utf-8'))
        if not {'potential', 'data', 'level_of_theory'} <= set(card):
            raise ValueError('potential, data or level_of_theory is missing')
    except (OSError, ValueError) as error:
        raise ValueError(f'{CARD} cannot be read ({error})') from error
    return card


def verify_bundle(folder: Path) -> list[Check]:
    """Hold a bundle against its checksums and its card.

    Parameters
    ----------
    folder : Path
        As `open_bundle` gives it.

    Returns
    -------
    list of Check
        Each file that is listed or there, then what the card says of potentials and frames, then the archive.
    """
    checks = _check_files(folder)
    try:
        card = read_card(folder)
    except ValueError as error:
        return [*checks, Check(CARD, False, str(error))]
    potentials = [card['potential'], *card['potential'].get('committee', [])]
    checks += [_checked(one['file'], _check_potential, folder, one['sha256']) for one in potentials]
    fingerprint = card['level_of_theory'].get('label_fingerprint')
    for split, part in card['data'].items():
        checks.append(_checked(part['file'], _check_frames, folder, split, part['n_frames'], fingerprint))
    if (folder / ARCHIVE).exists() or _is_listed(folder, ARCHIVE):
        checks.append(_checked(ARCHIVE, _check_archive, folder))
    return checks


def _check_files(folder: Path) -> list[Check]:
    """Return of each file whether it is what the list of checksums says."""
    if not (folder / CHECKSUMS).is_file():
        return [Check(CHECKSUMS, False, 'missing: the files cannot be verified')]
    listed, unreadable = _listed(folder)
    checks = [Check(CHECKSUMS, False, f'line {number} is not a checksum and a name') for number in unreadable]
    for name, wanted in sorted(listed.items()):
        path = folder / name
        if not path.is_file():
            checks.append(Check(name, False, f'missing, and listed in {CHECKSUMS}'))
        elif (found := file_sha256(path)) == wanted:
            checks.append(Check(name, True, 'as listed'))
        else:
            checks.append(Check(name, False, f'changed: sha256 is {found[:12]}..., listed is {wanted[:12]}...'))
    there = {path.relative_to(folder).as_posix() for path in folder.rglob('*') if not path.is_dir()}
    extra = sorted(there - set(listed) - {CHECKSUMS})
    return checks + [Check(name, False, f'not listed in {CHECKSUMS}') for name in extra]


def _listed(folder: Path) -> tuple[dict[str, str], list[int]]:
    """Return name -> checksum, and the numbers of the lines that are none."""
    listed, unreadable = {}, []
    text = (folder / CHECKSUMS).read_bytes().decode('utf-8', errors='replace')
    for number, line in enumerate(text.removesuffix('\n').split('\n'), start=1):
        match = LINE.fullmatch(line)
        if match is None:
            unreadable.append(number)
        else:
            listed[match[2]] = match[1]
    return listed, unreadable


def _is_listed(folder: Path, name: str) -> bool:
    return (folder / CHECKSUMS).is_file() and name in _listed(folder)[0]


def _checked(name: str, check: Callable[..., Check], folder: Path, *wanted: Any) -> Check:
    if not (folder / name).is_file():
        return Check(name, False, f'missing, and named in {CARD}')
    return check(folder / name, *wanted)


def _check_potential(path: Path, wanted: str) -> Check:
    same = file_sha256(path) == wanted
    return Check(path.name, same, f'{"the" if same else "not the"} potential of {CARD}')


def _check_frames(path: Path, split: str, n_frames: int, fingerprint: str) -> Check:
    try:
        infos = [atoms.info for atoms in read_extxyz(path)]
    except Exception as error:  # ASE's readers raise many kinds
        return Check(path.name, False, f'cannot be read: {error}')
    if len(infos) != n_frames:
        return Check(path.name, False, f'{len(infos)} frames, {CARD} says {n_frames}')
    strange = {str(info.get('label_fingerprint')) for info in infos} - {fingerprint}
    if strange:
        return Check(path.name, False, f'labels of {", ".join(sorted(strange))}, {CARD} says {fingerprint}')
    misplaced = {str(info.get('split')) for info in infos} - {split}
    if misplaced:
        return Check(path.name, False, f'frames of the split {", ".join(sorted(misplaced))} in the file of {split}')
    return Check(path.name, True, f'{n_frames} frames with labels of {fingerprint}, as {CARD} says')


def _check_archive(path: Path) -> Check:
    try:
        with zipfile.ZipFile(path) as archive:
            metadata = json.loads(archive.read('metadata.json'))
            broken = archive.testzip()
        version, made_by = metadata['export_version'], metadata['aiida_version']
    except Exception as error:  # zip files break in many ways
        return Check(path.name, False, f'cannot be read: {error}')
    if broken is not None:
        return Check(path.name, False, f'cannot be read: {broken} in it is broken')
    return Check(path.name, True, f'readable, version {version} of AiiDA {made_by}')
