"""Frames in files that people read: extended XYZ with all digits, where ASE's own writer keeps eight decimals."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import iread
from ase.io.extxyz import PROPERTY_NAME_MAP, escape, key_val_dict_to_str, key_val_str_to_dict, save_calc_results
from ase.stress import voigt_6_to_full_3x3_stress

__all__ = ['iter_any', 'keep_results', 'read_any', 'read_extxyz', 'write_extxyz']


def read_any(path: str | Path) -> list[Atoms]:
    """Return all frames of a file that ASE reads, with the results of their calculations.

    Raises
    ------
    ValueError
        If it cannot be read.
    """
    return list(iter_any(path))


def iter_any(path: str | Path) -> Iterator[Atoms]:
    """Yield the frames that `read_any` returns, one after the other."""
    try:
        yield from iread(path, index=':')
    except Exception as error:  # each of ASE's readers fails in its own way
        raise ValueError(f'{path} cannot be read: {error}; give a file of frames that ASE reads') from error


def keep_results(atoms: Atoms) -> Atoms:
    """Return a copy with the results of its calculator where `write_extxyz` writes them and ASE reads them back."""
    copy = atoms.copy()
    save_calc_results(copy, atoms.calc, calc_prefix='', force=True)
    if np.shape(copy.info.get('stress')) == (6,):
        copy.info['stress'] = voigt_6_to_full_3x3_stress(copy.info['stress'])
    return copy


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
