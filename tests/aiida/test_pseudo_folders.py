"""Folders of pseudopotentials, with a table and without, and which elements can be labelled with them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from aiida import orm
from aiida.plugins import DataFactory, GroupFactory

from aiida_mlip_autopipe.labelling.espresso.coverage import covered, families_covered
from aiida_mlip_autopipe.labelling.espresso.family import family_cutoffs
from aiida_mlip_autopipe.labelling.espresso.labeller import EspressoLabeller
from aiida_mlip_autopipe.labelling.espresso.pseudos import (
    DEBIAN_FOLDER,
    Choice,
    cutoffs_told,
    family_label,
    install_family,
    read_table,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an empty folder."""
    (tmp_path / 'mine').mkdir()
    return tmp_path / 'mine'


def put(folder: Path, *names: str) -> None:
    """Copy files of Debian's folder."""
    for name in names:
        shutil.copy(DEBIAN_FOLDER / name, folder)


def test_a_folder_without_a_table_tells_its_cutoffs_in_the_headers(folder):
    """The family is named after the functional, and what the cutoffs rest on is said."""
    put(folder, 'Fe.pbesol-spn-kjpaw_psl.1.0.0.UPF', 'O.pbesol-n-kjpaw_psl.0.1.UPF')
    table = read_table(folder)
    assert table['Fe'] == Choice('Fe.pbesol-spn-kjpaw_psl.1.0.0.UPF', 71.0, 496.0)
    assert table['O'] == Choice('O.pbesol-n-kjpaw_psl.0.1.UPF', 47.0, 188.0)  # 186 Ry is below 4 x 47
    assert family_label(folder) == 'autopipe/pbesol'
    assert 'suggested minimum in the header' in cutoffs_told(folder)
    (_, told, is_new), (_, elements, _) = EspressoLabeller.install({'pseudos': folder})
    assert told.startswith('autopipe/pbesol: Fe O; cutoffs: ') and is_new
    assert elements.startswith('2: O Fe; of the common ones not H Li') and 'aiida-pseudo install sssp' in elements
    assert family_cutoffs('autopipe/pbesol') == {'Fe': (71.0, 496.0), 'O': (47.0, 188.0)}
    assert dict(families_covered())['autopipe/pbesol'] == elements


@pytest.mark.parametrize(
    ('names', 'told'),
    [
        ((), 'has no UPF file'),
        (('Si.pbe-rrkj.UPF',), 'Si.pbe-rrkj.UPF in .* suggest no cutoffs in their headers; write a pseudos.yaml'),
        (('O.pbe-kjpaw.UPF', 'O.pbe-rrkjus.UPF'), 'has several files for an element'),
    ],
)
def test_a_folder_that_is_not_clear_is_refused(folder, names, told):
    """With what to write, or to leave out."""
    put(folder, *names)
    with pytest.raises(ValueError, match=told):
        read_table(folder)


def test_files_of_several_functionals_make_no_family(folder):
    """Labels of two functionals would be mixed."""
    put(folder, 'Ni.pbesol-n-kjpaw_psl.0.1.UPF', 'O.pbe-kjpaw.UPF')
    with pytest.raises(ValueError, match=r'several functionals \(PBE: O; PBESOL: Ni\)'):
        family_label(folder)


def test_debians_folder_is_read_by_its_table():
    """It has several files for most elements; those of the table are PBE."""
    table = read_table(DEBIAN_FOLDER)
    assert table['Si'] == Choice('Si.pbe-rrkj.UPF', 24, 96) and 'Al' not in table
    assert family_label(DEBIAN_FOLDER) == 'autopipe/pbe' and cutoffs_told(DEBIAN_FOLDER) == ''
    assert set(['Al', 'Mg', 'Ti', 'Mn', 'V', 'Li', 'Na', 'Cl', 'S']) <= set(covered(table).partition('not ')[2].split())


def test_a_family_of_a_library_is_found_by_its_label(folder):
    """Libraries have classes of their own in aiida-pseudo."""
    put(folder, 'O.pbe-kjpaw.UPF')
    family = GroupFactory('pseudo.family.sssp').create_from_folder(
        folder, 'SSSP/1.3/PBE/efficiency', pseudo_type=DataFactory('pseudo.upf')
    )
    family.set_cutoffs({'O': {'cutoff_wfc': 50.0, 'cutoff_rho': 400.0}}, 'normal', unit='Ry')
    assert family_cutoffs('SSSP/1.3/PBE/efficiency') == {'O': (50.0, 400.0)}
    orm.Group.collection.delete(family.pk)


def test_what_a_family_has_stays_when_a_folder_is_given_again(folder):
    """Only what is missing is added."""
    put(folder, 'Ni.pbesol-n-kjpaw_psl.0.1.UPF')
    _, first = install_family(folder, 'test/again')
    put(folder, 'O.pbesol-n-kjpaw_psl.0.1.UPF')
    _, second = install_family(folder, 'test/again')
    assert (first, second) == (['Ni'], ['O'])
