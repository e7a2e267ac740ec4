"""The cohesive energy of a potential, held against that of the labels."""

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from aiida_mlip_autopipe.science.evaluation.physics import check_calculator, check_physics, reference_structures
from aiida_mlip_autopipe.science.generate.isolated import isolated_atoms
from aiida_mlip_autopipe.science.parameters import PhysicsParameters

PARAMETERS = PhysicsParameters(checks=['cohesive'])


def labelled(crystal, calculator=None, free_atom_off_eV=0.0):
    """Return a crystal and the isolated atoms of its elements, labelled by a calculator."""
    frames = reference_structures(crystal, PARAMETERS) + isolated_atoms(crystal.symbols, 12.0)
    for atoms in frames:
        atoms.calc = calculator or EMT()
        atoms.info['REF_energy'] = atoms.get_potential_energy()
        atoms.arrays['REF_forces'] = atoms.get_forces()
        if atoms.info['config_type'] == 'IsolatedAtom':
            atoms.info['REF_energy'] += free_atom_off_eV
    return frames


def cohesive(frames, calculator=None, parameters=PARAMETERS):
    return check_calculator(calculator or EMT(), frames, parameters)['checks']['cohesive']


def test_it_is_the_energy_of_the_free_atoms_less_that_of_the_crystal():
    """Copper by effective medium theory: 3.51 eV, the measured energy that it was fitted to."""
    check = cohesive(labelled(bulk('Cu', cubic=True)))
    energy, atom = check['rows']
    assert energy['value'] == pytest.approx(3.51, abs=0.02) and energy['unit'] == 'eV/atom'
    assert atom['name'] == 'free_atom_Cu' and atom['difference'] == 0 and check['passed']


def test_of_a_compound_each_atom_counts():
    crystal = bulk('CuAu', 'rocksalt', a=4.8)
    energy, *atoms = cohesive(labelled(crystal))['rows']
    assert [one['name'] for one in atoms] == ['free_atom_Au', 'free_atom_Cu']
    crystal.calc = EMT()
    apart = sum(one['reference'] for one in atoms)
    assert energy['reference'] == pytest.approx((apart - crystal.get_potential_energy()) / 2)


def test_a_free_atom_that_is_off_fails_where_all_errors_of_the_crystal_vanish():
    """By one eV, as a potential that was not trained on it; which of the two is off is told."""
    check = cohesive(labelled(bulk('Cu', cubic=True), free_atom_off_eV=1.0))
    energy, atom = check['rows']
    assert check['passed'] is False and energy['difference'] == pytest.approx(-1.0)
    assert atom['difference'] == pytest.approx(-1.0) and atom['passed'] is None
    assert energy['tolerance'] == pytest.approx(0.02 * energy['reference'])


def test_a_charged_crystal_and_missing_atoms_are_not_judged():
    frames = labelled(bulk('Cu', cubic=True))
    check = cohesive(frames[:1])
    assert check['passed'] is None and check['note'] == 'not judged: the isolated atoms of Cu have no label'
    frames[0].info['charge'] = 1
    assert 'a charge of +1 e and its isolated atoms are neutral' in cohesive(frames)['note']


def test_labels_by_which_the_crystal_is_not_bound_are_told():
    check = cohesive(labelled(bulk('Cu', cubic=True), free_atom_off_eV=-9.0))
    assert 'not bound' in check['note'] and check['passed'] is False


def test_a_mace_potential_computes_a_free_atom(tiny_potential):
    """Without a neighbour it has energy and forces, and a stress of zero."""
    frames = reference_structures(bulk('Si', a=5.43), PARAMETERS) + isolated_atoms(['Si'], 12.0)
    for atoms in frames:
        atoms.info['REF_energy'], atoms.arrays['REF_forces'] = -1.0 * len(atoms), np.zeros((len(atoms), 3))
    energy, atom = check_physics(tiny_potential, frames, PARAMETERS)['checks']['cohesive']['rows']
    assert np.isfinite(energy['value']) and atom['reference'] == -1.0
