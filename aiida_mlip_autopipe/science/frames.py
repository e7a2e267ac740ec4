"""Frames on disk: H5MD shards with a manifest for what molecular dynamics makes, extxyz for what is labelled.

A trajectory is written as one or more H5MD files, its shards, in the folder of its job (see
:mod:`aiida_mlip_autopipe.science.shards`) and never leaves it whole. The manifest lists the shards with their bytes and
checksums, so that whoever reads them later knows that nothing is missing or cut. Frames are read in chunks: memory does
not grow with their number. An extxyz file is written with all digits, where ASE's own writer keeps eight decimals.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import iread
from ase.io.extxyz import PROPERTY_NAME_MAP, escape, key_val_dict_to_str, key_val_str_to_dict

from aiida_mlip_autopipe.science.h5md import ManifestError, ShardReader
from aiida_mlip_autopipe.science.shards import file_sha256

__all__ = [
    'FrameChunk',
    'ManifestError',
    'content_hash',
    'file_sha256',
    'iter_chunks',
    'load_frames',
    'read_any',
    'read_extxyz',
    'read_manifest',
    'write_extxyz',
    'write_manifest',
]

MANIFEST = 'manifest.json'
SCHEMA_VERSION = 2


def content_hash(numbers: Any, positions: Any, cell: Any, pbc: Any) -> str:
    """Return eight hexadecimal digits that name a structure by its content.

    Parameters
    ----------
    numbers : array_like of int, shape (N,)
        Atomic numbers.
    positions : array_like of float, shape (N, 3)
        Positions, in Å; rounded to single precision, as a shard holds them.
    cell : array_like of float, shape (3, 3)
        Lattice vectors as rows, in Å; rounded likewise.
    pbc : array_like of bool, shape (3,)
        Periodic directions.
    """
    digest = hashlib.sha256()
    digest.update(np.asarray(numbers, dtype='<i4').tobytes())
    for values in (positions, cell):
        digest.update((np.asarray(values, dtype='<f4') + np.float32(0)).tobytes())  # + 0: no negative zero
    digest.update(np.asarray(pbc, dtype='u1').tobytes())
    return digest.hexdigest()[:8]


def read_any(path: str | Path) -> list[Atoms]:
    """Return all frames of a file that ASE reads, with the results of their calculations.

    Raises
    ------
    ValueError
        If it cannot be read.
    """
    try:
        return list(iread(path, index=':'))
    except Exception as error:  # each of ASE's readers fails in its own way
        raise ValueError(f'{path} cannot be read: {error}; give a file of frames that ASE reads') from error


# ----------------------------------------------------------------------------------------------------------- extxyz


def read_extxyz(path: str | Path) -> list[Atoms]:
    """Return all frames of an extended XYZ file, with plain Python numbers in ``info``.

    Raises
    ------
    ValueError
        If the file is missing, holds no frame or cannot be parsed.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f'{path} is not a file: give the path of an extended XYZ file')
    if not path.read_bytes().strip():
        raise ValueError(f'{path} is empty: an extended XYZ file with at least one frame is needed')
    try:
        frames = list(iread(path, index=':', format='extxyz'))
    except Exception as error:  # ASE's parser raises many kinds
        raise ValueError(f'{path} cannot be read as extended XYZ: {error}') from error
    for atoms in frames:
        atoms.info = {
            key: value.item() if isinstance(value, np.generic) else value for key, value in atoms.info.items()
        }
    return frames


def write_extxyz(path: str | Path, frames: Sequence[Atoms]) -> None:
    """Write frames as extended XYZ: ``info`` and arrays with all digits, without calculators and constraints."""
    with Path(path).open('w', encoding='utf-8') as handle:
        for atoms in frames:
            handle.write(_format_frame(atoms))


def _format_frame(atoms: Atoms) -> str:
    names = ['symbols', 'positions', *(name for name in atoms.arrays if name not in ('numbers', 'positions'))]
    properties, columns = [], []
    for name in names:
        values = np.array(atoms.get_chemical_symbols()) if name == 'symbols' else atoms.arrays[name]
        values = values.reshape(len(atoms), -1)
        kind, convert = _column_kind(name, values.dtype)
        properties.append(f'{PROPERTY_NAME_MAP.get(name, name)}:{kind}:{values.shape[1]}')
        columns.append([' '.join(map(convert, row)) for row in values.tolist()])
    header = {'Properties': ':'.join(properties), 'pbc': np.asarray(atoms.pbc)}
    lattice = ' '.join(map(repr, atoms.cell.array.ravel().tolist()))
    comment = ([f'Lattice="{lattice}"'] if atoms.cell.array.any() else []) + [key_val_dict_to_str(header)]
    if atoms.info:
        comment.append(key_val_dict_to_str({key: _unambiguous(value) for key, value in atoms.info.items()}))
    rows = '\n'.join(' '.join(row) for row in zip(*columns, strict=True))
    return f'{len(atoms)}\n{" ".join(comment)}\n{rows}\n'


def _column_kind(name: str, dtype: np.dtype) -> tuple[str, Any]:
    kinds = {'f': ('R', repr), 'i': ('I', str), 'b': ('L', lambda flag: 'T' if flag else 'F'), 'U': ('S', str)}
    if dtype.kind not in kinds:
        raise ValueError(
            f'the array {name!r} has the type {dtype}: extended XYZ holds floats, integers, booleans and '
            'strings; remove it from the frame or convert it'
        )
    return kinds[dtype.kind]


def _unambiguous(value: Any) -> Any:
    """Return a string that ASE's reader would take for something else ('00123456', '1e234567') as JSON."""
    if value is None or (isinstance(value, str) and key_val_str_to_dict(f'key={escape(value)}').get('key') != value):
        return f'_JSON {json.dumps(value)}'
    return value


# --------------------------------------------------------------------------------------------------------- manifest


def write_manifest(folder: str | Path, manifest: dict[str, Any]) -> None:
    """Write ``manifest.json`` in one go: it is there complete, or not at all."""
    target = Path(folder) / MANIFEST
    partial = target.with_suffix('.json.part')
    partial.write_text(json.dumps(manifest, indent=1, allow_nan=False))
    partial.replace(target)


def read_manifest(folder: str | Path, *, verify: bool = True) -> dict[str, Any]:
    """Return the manifest of a folder of shards, after making sure that the shards are what it says.

    Parameters
    ----------
    folder : path
        The folder in which the MD job ran.
    verify : bool
        Compare bytes and checksum of every shard; False: trust an earlier comparison.

    Raises
    ------
    ManifestError
        If the manifest or a shard is missing or differs.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if not path.is_file():
        raise ManifestError(
            f'{path} does not exist: the folder of the MD job was wiped or the job did not finish; run the MD again'
        )
    try:
        manifest = json.loads(path.read_text())
        shards = manifest['shards']
    except (ValueError, KeyError, TypeError) as error:
        raise ManifestError(f'{path} is not a manifest ({error}); run the MD again') from error
    if manifest.get('schema_version') != SCHEMA_VERSION:
        raise ManifestError(
            f'{path} has schema_version {manifest.get("schema_version")}, this version reads '
            f'{SCHEMA_VERSION}; run the MD again'
        )
    if verify:
        for shard in shards:
            _verify_shard(folder / shard['path'], shard)
    return manifest


def _verify_shard(path: Path, shard: dict[str, Any]) -> None:
    if not path.is_file():
        raise ManifestError(
            f'{path} is listed in the manifest but does not exist: the scratch folder was cleaned; run the MD again'
        )
    size = path.stat().st_size
    if size != shard['bytes']:
        raise ManifestError(f'{path} has {size} bytes, the manifest says {shard["bytes"]}: run the MD again')
    if file_sha256(path) != shard['sha256']:
        raise ManifestError(f'{path} differs from what was written (checksum): run the MD again')


# ---------------------------------------------------------------------------------------------------------- reading


@dataclass(frozen=True)
class FrameChunk:
    """Consecutive frames of one replica.

    Attributes
    ----------
    numbers : ndarray of int, shape (N,)
    positions : ndarray of float64, shape (n, N, 3), in Å
    cells : ndarray of float64, shape (n, 3, 3), in Å
    pbc : ndarray of bool, shape (3,)
    folder_index : int
        Which of the folders.
    shard : dict
        Their shard's entry in the manifest.
    first : int
        Number of the first frame within the replica, all its parts.
    steps : ndarray of int, shape (n,)
    energies : ndarray, shape (n,), in eV
    temperatures : ndarray, shape (n,), in K
    max_forces : ndarray, shape (n,), in eV/Å
        Of each frame the norm of the largest force on an atom.
    disagreements : ndarray, shape (n,), in eV/Å
        Of each frame how far the potentials of a committee differ in the forces; NaN where there was none.
    """

    numbers: np.ndarray
    positions: np.ndarray
    cells: np.ndarray
    pbc: np.ndarray
    folder_index: int
    shard: dict[str, Any]
    first: int
    steps: np.ndarray
    energies: np.ndarray
    temperatures: np.ndarray
    max_forces: np.ndarray
    disagreements: np.ndarray

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.positions)


def iter_chunks(folders: Iterable[str | Path], chunk_size: int = 256) -> Iterator[FrameChunk]:
    """Yield all frames: folders in order, shards in the manifest's order, frames in time; constant memory.

    Checksums are not compared here: call `read_manifest` once before.
    """
    if chunk_size < 1:
        raise ValueError(f'chunk_size is {chunk_size}: at least 1 frame is needed')
    for folder_index, folder in enumerate(map(Path, folders)):
        first = 0
        for shard in read_manifest(folder, verify=False)['shards']:
            first = first if shard['part'] else 0
            with ShardReader(folder / shard['path']) as reader:
                for row in range(0, shard['n_frames'], chunk_size):
                    rows = slice(row, min(row + chunk_size, shard['n_frames']))
                    yield _read(reader, rows, folder_index, shard, first + row)
            first += shard['n_frames']


def load_frames(folders: Iterable[str | Path], indices: Any) -> list[Atoms]:
    """Return single frames by their global index, in the order asked, with ``info`` filled as for candidates.

    Parameters
    ----------
    folders : iterable of path
        The folders, in the same order as for `iter_chunks`.
    indices : array_like of int
        Global indices.

    Raises
    ------
    ValueError
        If an index is negative or not smaller than the number of frames.
    """
    wanted = np.asarray(indices, dtype=int).reshape(-1)
    paths = [Path(folder) for folder in folders]
    manifests = [read_manifest(path, verify=False) for path in paths]
    shards = [(i, manifest['md_job'], shard) for i, manifest in enumerate(manifests) for shard in manifest['shards']]
    ends = np.cumsum([shard['n_frames'] for _, _, shard in shards], dtype=int)
    total = int(ends[-1]) if len(ends) else 0
    if wanted.size and (wanted.min() < 0 or wanted.max() >= total):
        raise ValueError(
            f'indices go from {wanted.min()} to {wanted.max()}, there are {total} frames (0 to {total - 1})'
        )
    owner = np.searchsorted(ends, wanted, side='right')
    frames: dict[int, Atoms] = {}
    for which in np.unique(owner):
        folder_index, md_job, shard = shards[which]
        places = np.flatnonzero(owner == which)
        local = wanted[places] - (ends[which] - shard['n_frames'])
        rows, inverse = np.unique(local, return_inverse=True)
        with ShardReader(paths[folder_index] / shard['path']) as reader:
            chunk = _read(reader, rows, folder_index, shard, 0)
        for place, row in zip(places, inverse, strict=True):
            frames[int(place)] = _frame(chunk, int(row), md_job)
    return [frames[place] for place in range(len(wanted))]


def _read(reader: ShardReader, rows: Any, folder_index: int, shard: dict[str, Any], first: int) -> FrameChunk:
    columns = reader.read(rows)
    return FrameChunk(
        numbers=reader.numbers,
        positions=columns['positions'].astype(float),
        cells=columns['cell'],
        pbc=reader.pbc,
        folder_index=folder_index,
        shard=shard,
        first=first,
        steps=columns['step'],
        energies=columns['energy'],
        temperatures=columns['temperature'],
        max_forces=columns['max_force'],
        disagreements=columns['disagreement'],
    )


def _frame(chunk: FrameChunk, row: int, md_job: str) -> Atoms:
    shard, step = chunk.shard, int(chunk.steps[row])
    atoms = Atoms(numbers=chunk.numbers, positions=chunk.positions[row], cell=chunk.cells[row], pbc=chunk.pbc)
    name = content_hash(chunk.numbers, chunk.positions[row], chunk.cells[row], chunk.pbc)
    atoms.info = {
        'frame_id': f'{md_job}-r{shard["replica"]:03d}-s{step:06d}-{name}',
        'origin': shard['origin'],
        'config_type': 'candidate',
        'md_job': md_job,
        'seed_id': shard['seed_id'],
        'replica': shard['replica'],
        'step': step,
        'temperature_K': shard['temperature_K'],
        'integrator': shard['integrator'],
    }
    for name in ('temperature_end_K', 'pressure_GPa'):
        if shard[name] is not None:
            atoms.info[name] = shard[name]
    if np.isfinite(chunk.disagreements[row]):
        atoms.info['disagreement_eV_A'] = float(chunk.disagreements[row])
    return atoms
