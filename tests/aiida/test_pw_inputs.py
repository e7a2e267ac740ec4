"""What pw.x is asked for the cell at hand."""

from __future__ import annotations

import re

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from aiida_mlip_autopipe.config.elements import unpaired_electrons
from aiida_mlip_autopipe.data import PotentialData
from aiida_mlip_autopipe.labelling.espresso.inputs import kpoints_mesh, label_key, pw_input, pw_parameters
from aiida_mlip_autopipe.labelling.espresso.labeller import EspressoLabeller
from aiida_mlip_autopipe.labelling.espresso.parameters import EspressoParameters
from aiida_mlip_autopipe.science.evaluation.physics import reference_structures
from aiida_mlip_autopipe.science.parameters import PhysicsParameters
from aiida_mlip_autopipe.science.potential import FOUNDATIONS, inspect_potential
from aiida_mlip_autopipe.workflows.inputs import functional_mismatch

Z_VALENCE = {'Si': 4, 'Fe': 16, 'O': 6, 'N': 5}


def isolated(symbol: str) -> Atoms:
    """Return one atom in a box."""
    return Atoms(symbol, cell=[10.0] * 3, pbc=True, info={'config_type': 'IsolatedAtom'})


def test_k_points_have_the_same_density_in_every_cell():
    """Neighbouring points are at most the distance apart, and one point fewer would be too few."""
    distance = 0.3
    cubic = bulk('Si', cubic=True)
    sheared = cubic.copy()
    sheared.set_cell(cubic.cell.array @ [[1.1, 0.1, 0], [0, 0.8, 0], [0, 0.2, 1]], scale_atoms=True)
    for atoms in (bulk('Si'), cubic, sheared, cubic * (1, 2, 3)):
        mesh = np.array(kpoints_mesh(atoms, distance))
        spacing = 2 * np.pi * np.linalg.norm(atoms.cell.reciprocal(), axis=1)
        assert (spacing / mesh <= distance * (1 + 1e-6)).all()
        assert (spacing / np.maximum(mesh - 1, 0.5) > distance)[mesh > 1].all()
    assert kpoints_mesh(cubic, distance) == [4, 4, 4] and kpoints_mesh(cubic * (1, 2, 4), distance) == [4, 2, 1]
    assert kpoints_mesh(isolated('Si'), distance) == [1, 1, 1]


def test_a_strained_crystal_keeps_the_mesh_of_the_crystal():
    """Or the points of an equation of state would lie on two curves."""
    frames = reference_structures(bulk('Si'), PhysicsParameters(checks=['equation_of_state'], max_volume_strain=0.3))
    meshes = {tuple(kpoints_mesh(atoms, 0.3)) for atoms in frames}
    own = {tuple(kpoints_mesh(Atoms(cell=atoms.cell, pbc=True), 0.3)) for atoms in frames}
    assert meshes == {tuple(kpoints_mesh(bulk('Si'), 0.3))} and len(own) > 1


def test_convergence_and_bands_go_with_the_size():
    """The energy converges per atom, and twice the electrons have twice the bands, but for the spare ones."""
    labelling = EspressoParameters(conv_thr_per_atom_Ry=1e-9)
    small, large = (pw_parameters(bulk('Si', cubic=True) * (n, 1, 1), labelling, Z_VALENCE) for n in (1, 2))
    assert small['ELECTRONS']['conv_thr'] == pytest.approx(8e-9)
    assert large['ELECTRONS']['conv_thr'] == pytest.approx(16e-9)
    assert small['SYSTEM']['nbnd'] >= 16 + 4 and large['SYSTEM']['nbnd'] >= 32 + 4
    assert small['SYSTEM']['occupations'] == 'smearing'


def test_spin_where_the_elements_call_for_it():
    """Moments start on magnetic elements; where the user asks for spin without one, on all."""
    oxide = Atoms('FeO', cell=[4.3] * 3, pbc=True)
    assert 'nspin' not in pw_parameters(oxide, EspressoParameters(), Z_VALENCE)['SYSTEM']
    polarised = EspressoParameters(spin_polarised=True)
    system = pw_parameters(oxide, polarised, Z_VALENCE)['SYSTEM']
    assert system['nspin'] == 2 and list(system['starting_magnetization']) == ['Fe']
    assert list(pw_parameters(bulk('Si'), polarised, Z_VALENCE)['SYSTEM']['starting_magnetization']) == ['Si']
    assert system['starting_magnetization'] == {'Fe': pytest.approx(5 / 16)}
    assert re.search(r'starting_magnetization\(1\) = +3\.125', pw_input(oxide, polarised, Z_VALENCE))


@pytest.mark.parametrize(('symbol', 'unpaired'), [('Si', 2), ('O', 2), ('N', 3), ('Fe', 4)])
def test_isolated_atoms_have_the_multiplicity_of_their_ground_state(symbol, unpaired):
    """Hund's rule, and bands enough for the majority spin."""
    labelling = EspressoParameters(atomic_magnetization={symbol: unpaired_electrons(symbol)})
    system = pw_parameters(isolated(symbol), labelling, Z_VALENCE)['SYSTEM']
    assert (system['nspin'], system['tot_magnetization']) == (2, unpaired)
    assert system['nbnd'] > (Z_VALENCE[symbol] + unpaired) / 2


@pytest.mark.parametrize(('symbol', 'electrons'), [('H', 1), ('Li', 1), ('Na', 1), ('Cr', 6), ('Nb', 5)])
def test_an_atom_without_minority_electrons_starts_polarised(symbol, electrons):
    """To impose its moment would leave a channel without electrons, whose Fermi energy pw.x cannot find."""
    labelling = EspressoParameters(atomic_magnetization={symbol: unpaired_electrons(symbol)})
    system = pw_parameters(isolated(symbol), labelling, {symbol: electrons})['SYSTEM']
    assert 'tot_magnetization' not in system and system['starting_magnetization'] == {symbol: 1.0}
    assert system['nbnd'] > electrons
    semicore = pw_parameters(isolated(symbol), labelling, {symbol: electrons + 2})['SYSTEM']
    assert semicore['tot_magnetization'] == unpaired_electrons(symbol)


def test_closed_shells_are_not_polarised():
    """Helium, and what has no unpaired electron."""
    labelling = EspressoParameters(atomic_magnetization={'He': unpaired_electrons('He')})
    assert 'nspin' not in pw_parameters(isolated('He'), labelling, {'He': 2})['SYSTEM']


@pytest.mark.parametrize(
    ('formula', 'electrons', 'majority'),
    [
        ('Mn32O32', {'Mn': 15, 'O': 6}, 416),
        ('Gd36', {'Gd': 18}, 36 * 13),
        ('Eu32', {'Eu': 17}, 32 * 12),
        ('Fe2', {'Fe': 16}, 19),
        ('V4O8', {'V': 13, 'O': 6}, 54),
        ('O2', {'O': 6}, 7),
    ],
)
def test_bands_hold_the_majority_of_high_spin_cells(formula, electrons, majority):
    """As many as the majority has electrons with the largest moments, and at least four more."""
    labelling = EspressoParameters(spin_polarised=True)
    system = pw_parameters(Atoms(formula, cell=[20.0] * 3, pbc=True), labelling, electrons)['SYSTEM']
    assert system['nbnd'] >= majority + 4


def nickel_oxide(moments: list[float]) -> Atoms:
    """Return two formula units of nickel oxide with initial moments."""
    atoms = Atoms('Ni2O2', scaled_positions=[[0] * 3, [0.5] * 3, [0.25] * 3, [0.75] * 3], cell=[5.0] * 3, pbc=True)
    atoms.set_initial_magnetic_moments(moments)
    return atoms


def test_moments_of_their_own_make_species_of_their_own():
    """One for each moment of an element, in the file and in the nodes; the pseudopotential is that of the element."""
    labelling = EspressoParameters(spin_polarised=True, magnetic_order='from_file')
    atoms = nickel_oxide([-1.8, 1.8, 0, 0])
    text = pw_input(atoms, labelling, {'Ni': 18, 'O': 6})
    assert re.search(r'ntyp = 3', text)
    assert re.search(r'starting_magnetization\(1\) = +1\.0.*starting_magnetization\(2\) = +-1\.0', text, re.DOTALL)
    assert 'Ni1 58.6934 Ni.upf' in text and 'Ni2 58.6934 Ni.upf' in text and 'O 15.9990 O.upf' in text
    assert re.findall(r'^(\w+) +\d+\.\d+ +\d', text, re.MULTILINE) == ['Ni2', 'Ni1', 'O', 'O']
    parameters = EspressoParameters(spin_polarised=True)
    assert 'ntyp = 2' in pw_input(Atoms('Ni2O2', cell=[5.0] * 3, pbc=True), parameters, {'Ni': 18, 'O': 6})


def test_a_structure_without_the_moments_of_its_order_is_refused():
    """It is named, with the way out; so are more moments than pw.x has species."""
    labelling = EspressoParameters(spin_polarised=True, magnetic_order='antiferromagnetic')
    bare = Atoms('NiO', cell=[4.0] * 3, pbc=True, info={'frame_id': 'lonely'})
    told = EspressoLabeller(labelling).unfit(bare)
    assert 'NiO (lonely) has no initial moments' in told and 'leave it out' in told
    assert EspressoLabeller(labelling).unfit(nickel_oxide([1, -1, 0, 0])) is None
    many = Atoms('Ni11', cell=[20.0] * 3, pbc=True)
    many.set_initial_magnetic_moments(np.arange(11) / 10)
    with pytest.raises(ValueError, match=r'11 different ones .* pw\.x takes 10 species'):
        pw_parameters(many, labelling, {'Ni': 18})


def test_the_magnetic_order_is_part_of_the_level_of_theory():
    """Two orders are two levels; the words say which."""
    orders = [
        EspressoParameters(spin_polarised=True, magnetic_order=order, magnetic_pattern=pattern)
        for order, pattern in (('auto', None), ('ferromagnetic', None), ('from_file', 'a'), ('from_file', 'b'))
    ]
    labellers = [EspressoLabeller(parameters) for parameters in orders]
    assert len({labeller.fingerprint() for labeller in labellers}) == 4
    assert 'ferromagnetic' in labellers[1].sentence() and 'moments of the structure file; b' in labellers[3].sentence()


@pytest.mark.parametrize(
    ('values', 'told'),
    [
        ({'magnetic_order': 'non_magnetic', 'spin_polarised': True}, 'non_magnetic, but spin_polarised is true'),
        ({'magnetic_order': 'ferromagnetic'}, 'ferromagnetic, but spin_polarised is false'),
        ({'magnetic_moments': {'Fe': 2.2}}, 'but spin_polarised is false'),
        ({'magnetic_moments': {'Fe': 0.0}, 'spin_polarised': True}, 'all zero; give magnetic_order: non_magnetic'),
    ],
)
def test_moments_that_contradict_each_other_are_refused(values, told):
    """Each error names the keys and the way out."""
    with pytest.raises(ValueError, match=told):
        EspressoParameters(**values)


def test_a_closed_shell_needs_no_spin():
    """An isolated atom without unpaired electrons is not polarised, even where the bulk is."""
    labelling = EspressoParameters(spin_polarised=True, atomic_magnetization={'Si': 0})
    assert 'nspin' not in pw_parameters(isolated('Si'), labelling, Z_VALENCE)['SYSTEM']


def test_the_key_is_what_pw_is_asked_for(pseudo_family):
    """The name of a frame is no part of it; its positions, the level of theory and the pseudopotential are."""
    pseudos = {'Si': pseudo_family.get_pseudo('Si')}
    atoms, labelling = bulk('Si'), EspressoParameters()
    key = label_key(atoms, labelling, pseudos)
    named, moved = atoms.copy(), atoms.copy()
    named.info['frame_id'] = 'another'
    moved.positions[0, 0] += 1e-6
    assert label_key(named, labelling, pseudos) == key
    assert label_key(atoms, labelling.model_copy(update={'max_concurrent': 9, 'batch_size': 9}), pseudos) == key
    others = [
        label_key(moved, labelling, pseudos),
        *(
            label_key(atoms, labelling.model_copy(update=change), pseudos)
            for change in ({'degauss_Ry': 0.02}, {'kpoints_distance': 0.2}, {'spin_polarised': True})
        ),
    ]
    assert len({key, *others}) == 5


@pytest.mark.parametrize(
    ('surrogate', 'functional', 'told'),
    [('medium-mpa-0', 'PBE', False), ('mace-matpes-r2scan-0', 'PBE', True), ('off-small', 'wB97M-D3BJ', False)],
)
def test_a_surrogate_of_another_functional_is_told(surrogate, functional, told, tiny_potential):
    """The warning names both functionals; a potential that says nothing of its labels is no reason for one."""
    properties = inspect_potential(tiny_potential)
    labelling = EspressoLabeller(EspressoParameters(functional=functional))
    known = {'functional': FOUNDATIONS[surrogate].functional_name}
    warning = functional_mismatch(PotentialData.from_file(tiny_potential, properties | known, origin='x'), labelling)
    assert (warning is not None) is told
    assert warning is None or ('r2SCAN' in warning and 'PBE' in warning)
    assert functional_mismatch(PotentialData.from_file(tiny_potential, properties, origin='x'), labelling) is None
    assert functional_mismatch(None, labelling) is None


@pytest.mark.parametrize(
    ('surrogate', 'elements', 'hubbard', 'told'),
    [
        ('medium-mpa-0', ['Ni', 'O'], {}, True),
        ('medium-mpa-0', ['Ni', 'O'], {'Ni-3d': 6.0}, False),
        ('medium-mpa-0', ['Ni', 'Al'], {}, False),
        ('medium-mpa-0', ['Si', 'O'], {}, False),
        ('mace-matpes-pbe-0', ['Ni', 'O'], {}, False),
    ],
)
def test_a_surrogate_with_u_is_told_where_the_labels_have_none(surrogate, elements, hubbard, told, tiny_potential):
    """For oxides and fluorides of the metals that the Materials Project computes with U, with its values."""
    properties = inspect_potential(tiny_potential) | {'functional': FOUNDATIONS[surrogate].functional_name}
    node = PotentialData.from_file(tiny_potential, properties, origin=surrogate)
    warning = functional_mismatch(node, EspressoLabeller(EspressoParameters(hubbard=hubbard)), elements)
    assert (warning is not None) is told
    assert warning is None or ('Ni 6.2 eV' in warning and 'labelling.hubbard' in warning)
