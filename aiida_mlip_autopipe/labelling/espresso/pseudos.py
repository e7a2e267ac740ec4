"""What ``init`` sets up: pw.x, and a pseudopotential family of one file per element, with cutoffs.

Debian's folder holds several files per element and several functionals; mixing them would spoil every label. So a table
names the file of each element. A folder of one's own may bring its own table, ``pseudos.yaml``, in the same form; of
one without a table the headers of the files tell the elements and the cutoffs.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import yaml

from aiida_mlip_autopipe.labelling.espresso.upf import read_element, read_header
from aiida_mlip_autopipe.labelling.executable import find_executable

if TYPE_CHECKING:
    from aiida_pseudo.groups.family import CutoffsPseudoPotentialFamily

__all__ = [
    'DEBIAN_FOLDER',
    'FAMILY_LABEL',
    'STRINGENCY',
    'Choice',
    'cutoffs_told',
    'family_label',
    'find_pw',
    'install_family',
    'read_table',
]

FAMILY_LABEL = 'autopipe/pbe'
STRINGENCY = 'standard'
DEBIAN_FOLDER = Path('/usr/share/espresso/pseudo')
TABLE_FILE = 'pseudos.yaml'


@dataclass(frozen=True)
class Choice:
    """The file of one element and its cutoffs, in Ry."""

    file: str
    ecutwfc_Ry: float
    ecutrho_Ry: float

    def cutoffs(self) -> dict[str, float]:
        """Return the cutoffs under aiida-pseudo's names."""
        return {'cutoff_wfc': float(self.ecutwfc_Ry), 'cutoff_rho': float(self.ecutrho_Ry)}


def find_pw(given: Path | None) -> Path:
    """Return the path of pw.x.

    Raises
    ------
    ValueError
        If it is not there.
    """
    if given is None:
        on_path = shutil.which('pw.x')
        if on_path is None:
            raise ValueError(
                'pw.x: not on PATH; install Quantum ESPRESSO (Debian: apt install quantum-espresso '
                'quantum-espresso-data libopenblas0-serial) or give its path with --pw PATH'
            )
        given = Path(on_path)
    return find_executable(given, '--pw')


def read_table(folder: Path) -> dict[str, Choice]:
    """Return the choice for each element whose file lies in ``folder``.

    The table is ``pseudos.yaml`` in the folder; where there is none, it is the one for Debian's folder, or else what
    the headers of the files say.

    Raises
    ------
    ValueError
        If the folder does not exist, holds none of the files, or its table is not one.
    """
    if not folder.is_dir():
        raise ValueError(
            f'pseudopotentials: {folder} is not a folder; install them (Debian: apt install quantum-espresso-data) '
            'or give a folder of UPF files with --pseudos'
        )
    own = folder / TABLE_FILE
    text = own.read_text() if own.is_file() else resources.files(__package__).joinpath(TABLE_FILE).read_text()
    try:
        table = {element: Choice(**row) for element, row in yaml.safe_load(text).items()}
    except (yaml.YAMLError, AttributeError, TypeError) as error:
        raise ValueError(
            f'{own}: not a table of pseudopotentials ({error}); write lines like '
            '"Si: {file: Si.upf, ecutwfc_Ry: 30, ecutrho_Ry: 120}"'
        ) from error
    if own.is_file() and (missing := [row.file for row in table.values() if not (folder / row.file).is_file()]):
        raise ValueError(f'{own}: names {", ".join(missing)}, which are not in {folder}; correct the names')
    present = {element: row for element, row in table.items() if (folder / row.file).is_file()}
    if own.is_file() or (present and folder.resolve() == DEBIAN_FOLDER):
        return present
    return _table_of_headers(folder)


def family_label(folder: Path) -> str:
    """Return the label of the family of a folder, which names the functional of its files.

    Raises
    ------
    ValueError
        If the files have several functionals.
    """
    found: dict[str, list[str]] = {}
    for element, row in read_table(folder).items():
        functional = read_header((folder / row.file).read_text(errors='replace')).functional
        if functional is not None:
            found.setdefault(functional, []).append(element)
    if len(found) > 1:
        told = '; '.join(f'{functional}: {", ".join(sorted(names))}' for functional, names in sorted(found.items()))
        raise ValueError(f'--pseudos: {folder} has files of several functionals ({told}); give a folder of one')
    return f'autopipe/{next(iter(found), "pbe").lower()}'


def cutoffs_told(folder: Path) -> str:
    """Return in words where the cutoffs of a folder come from, where nobody wrote them down."""
    if (folder / TABLE_FILE).is_file() or folder.resolve() == DEBIAN_FOLDER:
        return ''
    return '; cutoffs: the suggested minimum in the header of each file, so check their convergence'


def _table_of_headers(folder: Path) -> dict[str, Choice]:
    """Return the choice for each element of a folder of one file for each, with the cutoffs that the files suggest."""
    files: dict[str, list[str]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() == '.upf' and (element := read_element(path.read_text(errors='replace'))):
            files.setdefault(element, []).append(path.name)
    line = 'lines like "Si: {file: Si.upf, ecutwfc_Ry: 30, ecutrho_Ry: 120}"'
    if not files:
        raise ValueError(f'--pseudos: {folder} has no UPF file; give a folder that has one for each element')
    if several := {element: names for element, names in files.items() if len(names) > 1}:
        told = '; '.join(f'{element}: {", ".join(names)}' for element, names in sorted(several.items()))
        raise ValueError(
            f'--pseudos: {folder} has several files for an element ({told}); leave one of each, or write a '
            f'{TABLE_FILE} there with {line}'
        )
    cutoffs = {
        element: read_header((folder / names[0]).read_text(errors='replace')).cutoffs()
        for element, names in files.items()
    }
    if silent := sorted(files[element][0] for element, pair in cutoffs.items() if pair is None):
        raise ValueError(
            f'--pseudos: {", ".join(silent)} in {folder} suggest no cutoffs in their headers; write a {TABLE_FILE} '
            f'there with {line} for all files'
        )
    return {element: Choice(files[element][0], *pair) for element, pair in cutoffs.items() if pair is not None}


def install_family(
    folder: Path, label: str = FAMILY_LABEL, elements: tuple[str, ...] | None = None
) -> tuple[CutoffsPseudoPotentialFamily, list[str]]:
    """Make the family, or add to it what it lacks; what it has stays as it is.

    Parameters
    ----------
    folder : Path
        UPF files.
    label : str
        Label of the family.
    elements : tuple of str, optional
        Only these; all that the folder offers if not given.

    Returns
    -------
    family, added
        The family and the elements whose pseudopotential or cutoffs were added.
    """
    from aiida.plugins import DataFactory, GroupFactory

    table = read_table(folder)
    if elements is not None:
        table = {element: row for element, row in table.items() if element in elements}
    upf = DataFactory('pseudo.upf')
    group_class: Any = GroupFactory('pseudo.family.cutoffs')
    found = group_class.collection.find({'label': label})
    family = found[0] if found else None
    missing = sorted(set(table) - set(family.elements if family else ()))
    if missing:
        with TemporaryDirectory() as name:
            for element in missing:
                shutil.copy(folder / table[element].file, name)
            if family is None:
                family = group_class.create_from_folder(Path(name), label, pseudo_type=upf)
            else:
                nodes = group_class.parse_pseudos_from_directory(Path(name), upf)
                family.add_nodes([node.store() for node in nodes])
    return family, sorted({*missing, *_complete_cutoffs(family, table)})


def _complete_cutoffs(family: CutoffsPseudoPotentialFamily, table: dict[str, Choice]) -> list[str]:
    """Set the cutoffs of the elements that have none yet; return these elements."""
    known = family.get_cutoffs(STRINGENCY) if STRINGENCY in family.get_cutoff_stringencies() else {}
    without = sorted(set(family.elements) - set(known))
    if unknown := sorted(set(without) - set(table)):
        raise ValueError(
            f'pseudopotential family {family.label!r}: no cutoffs for {", ".join(unknown)} and none in the table; set '
            f'them with `aiida-pseudo family cutoffs set -s {STRINGENCY} -u Ry {family.label} FILE`'
        )
    if without:
        cutoffs = {**known, **{element: table[element].cutoffs() for element in without}}
        family.set_cutoffs(cutoffs, STRINGENCY, unit='Ry')
    return without
