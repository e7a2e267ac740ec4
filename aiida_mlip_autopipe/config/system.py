"""Find what the input names: the structure, the surrogate. What cannot be found is a problem in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from aiida_mlip_autopipe.config.elements import element_problems, formula_problems
from aiida_mlip_autopipe.config.errors import ConfigError, nearest, show
from aiida_mlip_autopipe.science.frames.carried import carried_arrays
from aiida_mlip_autopipe.science.generate import PROTOTYPES, build_prototype
from aiida_mlip_autopipe.science.systems import Dimensionality, dimensionality, recognised

__all__ = ['check_surrogate_elements', 'find_frames', 'find_sources', 'find_surrogate', 'recognise']

MODEL_SUFFIXES = {'.model', '.pt', '.pth', '.ckpt'}


def find_sources(system: Mapping[str, Any], base: Path) -> tuple[dict[str, Any], list[Atoms], list[str]]:
    """Return the system section with an absolute path, its source structures, and the problems.

    Wrong types and missing keys are left to the schema: they give no structure and no problem here.
    """
    resolved = dict(system)
    if isinstance(system.get('structure'), str):
        path = _absolute(system['structure'], base)
        resolved['structure'] = str(path)
        return resolved, *_read(system['structure'], path)
    prototype, composition = system.get('prototype'), system.get('composition')
    if not isinstance(prototype, str) or not isinstance(composition, str):
        return resolved, [], []
    problems = [f'system.composition: {problem}' for problem in formula_problems(composition)]
    if prototype not in PROTOTYPES:
        near = nearest(prototype, PROTOTYPES)
        hint = f'did you mean {near!r}? ' if near else ''
        problems.append(f'system.prototype: {prototype!r} is not known; {hint}known are {", ".join(PROTOTYPES)}')
    if problems:
        return resolved, [], problems
    a = system.get('lattice_constant_A')
    positive = isinstance(a, int | float) and not isinstance(a, bool) and a > 0
    try:
        return resolved, [build_prototype(prototype, composition, float(a) if a and positive else None)], []
    except ValueError as error:
        return resolved, [], [f'system.{error}']


def recognise(sources: Sequence[Atoms]) -> tuple[list[Dimensionality], list[str]]:
    """Return what each source is, and the problems; nothing where there is one."""
    found, problems = [], []
    for index, atoms in enumerate(sources):
        name = f'system: source {index} ({atoms.get_chemical_formula()})'
        if atoms.cell.rank < 3 or not np.isfinite(atoms.cell.array).all() or not np.isfinite(atoms.positions).all():
            problems.append(
                f'{name}: the cell {atoms.cell.tolist()} has no volume, or is not finite; give three lattice vectors '
                '(a molecule needs a box with 8 Å and more of vacuum)'
            )
            continue
        try:
            recognised(atoms)
            found.append(dimensionality(atoms))
        except ValueError as error:
            problems.append(f'{name}: {error}')
    return ([] if problems else found), problems


def find_surrogate(surrogate: str, base: Path) -> tuple[str, list[str]]:
    """Return the surrogate, a path made absolute, and the problems.

    A wrong path and an unknown name are told apart: the loader of foundation models would say the same of both.
    """
    from aiida_mlip_autopipe.science.potential.foundation import FOUNDATIONS

    if surrogate == 'bootstrap' or surrogate.startswith('node:') or surrogate in FOUNDATIONS:
        return surrogate, []
    path = _absolute(surrogate, base)
    if path.is_file():
        return str(path), []
    if path.is_dir():
        return surrogate, [f'surrogate: {surrogate!r} is a folder ({path}); give the .model file in it']
    if '/' in surrogate or surrogate[0] in '.~' or path.suffix in MODEL_SUFFIXES:
        return surrogate, [
            f'surrogate: {surrogate!r} looks like a path, but there is no file {path}; '
            f'{_similar_file(path)}give the path of a .model file, relative to the input file'
        ]
    near = nearest(surrogate, ['bootstrap', *FOUNDATIONS])
    hint = f'did you mean {near!r}?' if near else f'known are bootstrap, {", ".join(FOUNDATIONS)}'
    return surrogate, [f'surrogate: {surrogate!r} is neither a known foundation model nor a file in {base}; {hint}']


def find_frames(key: str, frames: str, base: Path) -> tuple[str, list[str]]:
    """Return frames that the input names under a key (``data``, ``replay``), a path made absolute, and the problems."""
    if frames.startswith('node:'):
        return frames, []
    path = _absolute(frames, base)
    if path.is_file():
        return str(path), []
    return frames, [f'{key}: {frames!r}: there is no file {path}; {_similar_file(path)}give one that ASE reads']


def check_surrogate_elements(surrogate_elements: Iterable[str], system_elements: Iterable[str]) -> None:
    """Raise if a surrogate does not know an element of the system.

    Parameters
    ----------
    surrogate_elements : iterable of str
        Elements that the potential knows, as ``inspect_potential`` gives them.
    system_elements : iterable of str
        Elements of the structures to explore.

    Raises
    ------
    ConfigError
        Naming the elements, and the way out.
    """
    known = sorted(set(surrogate_elements))
    missing = sorted(set(system_elements) - set(known))
    if missing:
        raise ConfigError(
            [
                f'surrogate: does not know {", ".join(missing)} (it knows {_some(known)}); give a potential '
                "that does, or 'surrogate: bootstrap' to train one from the seeds"
            ]
        )


def _absolute(path: str, base: Path) -> Path:
    return (base / Path(path).expanduser()).resolve()


def _read(name: str, path: Path) -> tuple[list[Atoms], list[str]]:
    """Return all frames of a structure file, or the reason why not."""
    from ase.io import read

    key = 'system.structure'
    if path.is_dir():
        return [], [f'{key}: {name!r} is a folder ({path}); give a structure file']
    if not path.is_file():
        return [], [
            f'{key}: {name!r} does not exist (looked for {path}); {_similar_file(path)}give the path of a '
            'structure file, relative to the input file'
        ]
    try:
        frames = read(path, index=':')
    except Exception as error:  # each of ASE's readers fails in its own way
        symbol = error.args[0] if isinstance(error, KeyError) and error.args else None
        if isinstance(symbol, str) and len(symbol) <= 3 and symbol.isalpha():
            return [], [f'{key}: {name!r}: {problem}' for problem in element_problems([symbol])]
        return [], [
            f'{key}: {name!r} cannot be read ({type(error).__name__}: {show(str(error))}); give a file that '
            'ASE reads, such as POSCAR, CIF or extxyz'
        ]
    atoms = [frame for frame in (frames if isinstance(frames, list) else [frames]) if isinstance(frame, Atoms)]
    symbols = sorted({symbol for frame in atoms for symbol in frame.symbols})
    problems = [f'{key}: {name!r}: {problem}' for problem in element_problems(symbols)]
    if not symbols:
        problems = [f'{key}: {name!r} contains no atoms; give a structure file']
    return ([] if problems else [_with_moments(frame) for frame in atoms]), problems


def _with_moments(atoms: Atoms) -> Atoms:
    """Return a structure that starts from the moments that a calculation has found for it, if it says no others."""
    found = atoms.calc.results.get('magmoms') if atoms.calc is not None else None
    if found is not None and np.shape(found) == (len(atoms),) and 'initial_magmoms' not in carried_arrays(atoms):
        atoms.set_initial_magnetic_moments(found)
    return atoms


def _similar_file(path: Path) -> str:
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = nearest(path.name, [name for name in siblings if Path(name).suffix == path.suffix])
    return f'did you mean {near!r}? else ' if near else ''


def _some(names: Sequence[str], limit: int = 12) -> str:
    if not names:
        return 'none'
    return ', '.join(names[:limit]) + (f' and {len(names) - limit} more' if len(names) > limit else '')
