"""Dimers of a potential, held against those of the labels: whether it repels where they do."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT

from aiida_mlip_autopipe.labelling.labels import energy_outliers
from aiida_mlip_autopipe.science.evaluation.physics import check_calculator, reference_structures
from aiida_mlip_autopipe.science.generate.isolated import isolated_atoms
from aiida_mlip_autopipe.science.parameters import PhysicsParameters
from aiida_mlip_autopipe.science.systems import vacuum_axes

PARAMETERS = PhysicsParameters(checks=['dimers'])


class Softened(Calculator):
    """Effective medium theory less a Gaussian around a short distance, into which atoms fall."""

    implemented_properties = ('energy', 'forces', 'stress')

    def __init__(self, depth_eV):
        super().__init__()
        self.depth_eV = depth_eV

    def calculate(self, atoms=None, properties=('energy',), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        bare.calc = EMT()
        short = np.exp(-(((bare.get_all_distances()[np.triu_indices(len(bare), 1)] - 1.98) / 0.15) ** 2)).sum()
        self.results = {
            'energy': bare.get_potential_energy() - self.depth_eV * short,
            'forces': bare.get_forces(),
            'stress': np.zeros(6),
        }


def labelled(crystal):
    frames = reference_structures(crystal, PARAMETERS) + isolated_atoms(crystal.symbols, 12.0)
    for atoms in frames:
        atoms.calc = EMT()
        atoms.info['REF_energy'] = atoms.get_potential_energy()
        atoms.arrays['REF_forces'] = atoms.get_forces()
    return frames


def dimers(frames, calculator=None):
    return check_calculator(calculator or EMT(), frames, PARAMETERS)['checks']['dimers']


def test_energies_are_counted_from_the_free_atoms():
    """Two atoms of copper at 1.2 times the sum of their radii (1.32 Å each), by hand."""
    rows = {row['name']: row for row in dimers(labelled(bulk('Cu', cubic=True)))['rows']}
    assert len(rows) == 1 + 6 and rows['wall_Cu-Cu']['passed']
    pair = Atoms('Cu2', [[0, 0, 0], [3.168, 0, 0]], cell=[15.168] * 3, pbc=True)
    alone = Atoms('Cu', cell=[12] * 3, pbc=True)
    pair.calc, alone.calc = EMT(), EMT()
    expected = pair.get_potential_energy() - 2 * alone.get_potential_energy()
    assert rows['energy_Cu-Cu_3.17_A']['value'] == pytest.approx(expected)
    assert rows['energy_Cu-Cu_3.17_A']['passed'] is None


def test_a_hole_at_a_short_distance_fails():
    """1.98 Å is the shortest distance of two copper atoms: with a deep enough hole there the energy falls inwards."""
    frames = labelled(bulk('Cu', cubic=True))
    check = dimers(frames, Softened(20.0))
    assert check['passed'] is False and check['rows'][0]['difference'] < 0
    assert dimers(frames, Softened(0.1))['passed'] is True


def test_each_pair_of_elements_is_judged_and_a_missing_one_is_told():
    crystal = bulk('CuAu', 'rocksalt', a=4.8)
    frames = labelled(crystal)
    assert [row['name'] for row in dimers(frames)['rows'][::7]] == ['wall_Au-Au', 'wall_Au-Cu', 'wall_Cu-Cu']
    some = [atoms for atoms in frames if atoms.info.get('pair') != 'Au-Cu']
    check = dimers(some)
    assert len(check['rows']) == 14 and check['note'] == 'not judged for want of labels: Au-Cu'


def test_dimers_are_molecules_in_a_box_and_have_an_energy_window_of_their_own():
    """Else the window of the crystal, 1 eV per atom around the median, would reject them or the crystal."""
    frames = labelled(bulk('Cu', cubic=True))
    pairs = [atoms for atoms in frames if atoms.info.get('check') == 'dimers']
    assert all(vacuum_axes(atoms) == 'abc' for atoms in pairs)
    crystals = [atoms for atoms in frames if atoms.info.get('check') == 'pristine'] * 5
    assert energy_outliers(pairs + crystals, 1.0) == {}
    for atoms in pairs:
        del atoms.info['energy_window_eV']
    assert crystals[0].info['frame_id'] in energy_outliers(pairs + crystals, 1.0)


def test_a_charged_crystal_is_not_judged():
    """A data set has one charge, so its dimers would carry it, too."""
    frames = labelled(bulk('Cu', cubic=True))
    for atoms in frames:
        atoms.info['charge'] = 1
    assert 'not judged: the crystal has a charge' in dimers(frames)['note']
