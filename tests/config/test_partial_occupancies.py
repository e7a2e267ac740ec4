"""Files with partly occupied sites are refused, with the sites and the way out; moments in a file are kept."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from aiida_mlip_autopipe.config import ConfigError, ConfigExpander
from aiida_mlip_autopipe.science.generate import build_prototype

CIF = """data_alloy
_cell_length_a 5.5
_cell_length_b 5.5
_cell_length_c 5.5
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_name_H-M_alt 'F d -3 m'
_space_group_IT_number 227
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
{sites}
"""


def expanded(folder, sites):
    """Return the expansion of an input with a CIF of these sites."""
    (folder / 'alloy.cif').write_text(CIF.format(sites='\n'.join(sites)))
    return ConfigExpander({'system': {'structure': 'alloy.cif'}}, base=folder).expand()


def test_a_site_shared_by_two_elements_is_refused(tmp_path):
    """What it would be read as is told, and what to give instead."""
    with pytest.raises(ConfigError) as caught:
        expanded(tmp_path, ['Si1 Si 0 0 0 0.7', 'Ge1 Ge 0 0 0 0.3'])
    (problem,) = caught.value.problems
    assert problem.startswith('system: source 0 (Si8): 8 sites with 0.7 Si, 0.3 Ge: a calculation needs a whole atom')
    assert 'as read this would be Si8' in problem and 'sqsgenerator' in problem


def test_a_site_that_is_partly_empty_is_refused(tmp_path):
    """Vacancies are a choice of the user, too."""
    with pytest.raises(ConfigError, match=r'8 sites with 0\.9 Si, the rest empty: a calculation'):
        expanded(tmp_path, ['Si1 Si 0 0 0 0.9'])


def test_whole_sites_are_read(tmp_path):
    """Occupancies of one, as most files have them."""
    assert expanded(tmp_path, ['Si1 Si 0 0 0 1.0']).sources[0].get_chemical_formula() == 'Si8'


def test_occupancies_for_each_atom_are_looked_at(tmp_path):
    """As files of other formats have them."""
    atoms = bulk('Si')
    atoms.set_array('occupancy', np.array([1.0, 0.5]))
    write(tmp_path / 'partial.extxyz', atoms)
    with pytest.raises(ConfigError, match=r'atom 1 with 0\.5 Si: a calculation needs'):
        ConfigExpander({'system': {'structure': 'partial.extxyz'}}, base=tmp_path).expand()


def test_moments_that_a_calculation_has_found_are_started_from(tmp_path):
    """The expanded configuration says that they are kept; initial moments in the file come first."""
    atoms = Atoms('Fe2', positions=[[0, 0, 0], [1.435] * 3], cell=[2.87] * 3, pbc=True)
    atoms.calc = SinglePointCalculator(atoms, magmoms=[2.2, -2.2])
    write(tmp_path / 'iron.extxyz', atoms)
    expansion = ConfigExpander({'system': {'structure': 'iron.extxyz'}}, base=tmp_path).expand()
    assert expansion.sources[0].get_initial_magnetic_moments().tolist() == [2.2, -2.2]
    assert 'its initial_magmoms are kept up to the labels' in expansion.dump()
    atoms.set_initial_magnetic_moments([1.0, 1.0])
    write(tmp_path / 'iron.extxyz', atoms)
    expansion = ConfigExpander({'system': {'structure': 'iron.extxyz'}}, base=tmp_path).expand()
    assert expansion.sources[0].get_initial_magnetic_moments().tolist() == [1.0, 1.0]


def test_a_prototype_has_no_moments_of_its_own():
    """ASE gives iron its moment; which order it has is for the labels to say."""
    assert 'initial_magmoms' not in build_prototype('bcc', 'Fe').arrays
