"""Magnetic order, from the input and the structure file to the configuration, and what is refused on the way."""

from __future__ import annotations

from pathlib import Path

import pytest
from ase import Atoms
from ase.build import bulk, make_supercell, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from aiida_mlip_autopipe.config import ConfigError, ConfigExpander, Expansion
from aiida_mlip_autopipe.config.plan import make_plan

NIO_MOMENTS = [2.0, 0.0, -2.0, 0.0]


def nickel_oxide(moments: list[float] | None = None) -> Atoms:
    """Return the cell of two formula units that holds antiparallel planes (111)."""
    atoms = make_supercell(bulk('NiO', 'rocksalt', a=4.18), [[0, 1, 1], [1, 0, 1], [1, 1, 0]])
    atoms.set_initial_magnetic_moments(moments)
    return atoms


def expand(folder: Path, frames: Atoms | list[Atoms], labelling: str = '') -> Expansion:
    """Return the expansion of an input that names a file of these frames."""
    write(folder / 'source.extxyz', frames)
    return ConfigExpander(f'system: {{structure: source.extxyz}}\n{labelling}', base=folder).expand()


def test_moments_of_the_file_are_its_order(tmp_path):
    """They are not passed over: the configuration says where the order is from, and which it is; twice the same."""
    expansion = expand(tmp_path, nickel_oxide(NIO_MOMENTS))
    labelling = expansion.configuration.labelling
    assert (labelling.magnetic_order, labelling.spin_polarised) == ('from_file', True)
    assert labelling.magnetic_pattern == 'Ni -2, 2 µB; antiparallel neighbours 6/12, 6/6'
    assert expansion.reasons['labelling.magnetic_order'] == 'the structure has initial moments'
    again = ConfigExpander(expansion.configuration.model_dump(), base=tmp_path).expand().configuration
    assert again == expansion.configuration


def test_moments_that_a_calculation_in_the_file_ended_with_count_too(tmp_path):
    """As in a file that another code has left."""
    atoms = nickel_oxide()
    atoms.calc = SinglePointCalculator(atoms, energy=0.0, magmoms=[1.6, 0.0, -1.6, 0.0])
    labelling = expand(tmp_path, atoms).configuration.labelling
    assert labelling.magnetic_order == 'from_file' and labelling.magnetic_pattern.startswith('Ni -1.6, 1.6 µB')


def test_the_user_may_pass_over_the_moments_of_the_file(tmp_path):
    """By another order, or without spin."""
    for text, polarised in (('magnetic_order: non_magnetic', False), ('spin_polarised: false', False)):
        labelling = expand(tmp_path, nickel_oxide(NIO_MOMENTS), f'labelling: {{{text}}}').configuration.labelling
        assert labelling.spin_polarised is polarised and labelling.magnetic_pattern is None


def test_an_antiferromagnet_is_made(tmp_path):
    """The signs are chosen, and told; the size is that which is given."""
    text = 'labelling: {magnetic_order: antiferromagnetic, magnetic_moments: {Ni: 1.8}}'
    labelling = expand(tmp_path, nickel_oxide(), text).configuration.labelling
    assert labelling.spin_polarised and labelling.magnetic_pattern == (
        'Ni -1.8, 1.8 µB; antiparallel neighbours 6/12, 6/6'
    )


def test_species_of_the_file_have_moments_of_their_own(tmp_path):
    """By element and tag."""
    atoms = nickel_oxide()
    atoms.set_tags([1, 0, 2, 0])
    text = 'labelling: {magnetic_moments: {Ni1: 2.0, Ni2: -2.0}}'
    labelling = expand(tmp_path, atoms, text).configuration.labelling
    assert labelling.magnetic_pattern == 'Ni -2, 2 µB; antiparallel neighbours 6/12, 6/6'


@pytest.mark.parametrize(
    ('moments', 'text', 'told'),
    [
        (None, 'magnetic_order: from_file', 'it has no initial moments'),
        (None, 'magnetic_moments: {Ni3: 1.0}', 'names Ni3, but its species are Ni, O'),
        (None, 'magnetic_moments: {Fe: 1.0}', r'magnetic_moments\.Fe: Fe is not in the system'),
        (None, 'magnetic_order: antiferomagnetic', 'magnetic_order'),
        (NIO_MOMENTS, 'magnetic_moments: {Ni: 1.0}', 'the structure has initial moments, too'),
        (NIO_MOMENTS, 'magnetic_order: from_file, magnetic_moments: {Ni: 1.0}', 'magnetic_order is from_file'),
        (NIO_MOMENTS, 'magnetic_order: from_file, spin_polarised: false', 'spin_polarised is false'),
    ],
)
def test_an_order_that_the_structure_does_not_have_is_refused(tmp_path, moments, text, told):
    """Each error names the key and the way out."""
    with pytest.raises(ConfigError, match=told):
        expand(tmp_path, nickel_oxide(moments), f'labelling: {{{text}}}')


@pytest.mark.parametrize('order', ['ferromagnetic', 'antiferromagnetic'])
def test_an_order_of_elements_that_carry_no_moment_is_refused(tmp_path, order):
    """Before a cell of silicon is labelled and rejected; who gives moments is believed."""
    with pytest.raises(ConfigError, match=r'none of its elements \(Si\) is expected to carry a moment'):
        expand(tmp_path, bulk('Si'), f'labelling: {{magnetic_order: {order}}}')
    text = f'labelling: {{magnetic_order: {order}, magnetic_moments: {{Si: 0.5}}}}'
    assert expand(tmp_path, bulk('Si'), text).configuration.labelling.spin_polarised


def test_orders_are_tried_of_one_structure_that_holds_them(tmp_path):
    """Three labels are planned; a cell without room for antiparallel moments is refused, and several structures."""
    text = 'labelling: {magnetic_order: try}'
    found = expand(tmp_path, nickel_oxide(), text)
    assert found.configuration.labelling.spin_polarised
    planned = make_plan(found.configuration, found.sources)
    (choice,) = [stage for stage in planned.stages if stage.name == 'choose_state']
    assert choice.labels == 3
    with pytest.raises(ConfigError, match=r'1 magnetic atom\(s\) cannot be antiparallel'):
        expand(tmp_path, bulk('NiO', 'rocksalt', a=4.18), text)
    with pytest.raises(ConfigError, match='try, but there are 2 structures'):
        expand(tmp_path, [nickel_oxide(), nickel_oxide()], text)
    with pytest.raises(ConfigError, match='none of its elements'):
        expand(tmp_path, bulk('Si'), text)


def test_two_orders_in_one_file_are_refused(tmp_path):
    """A potential cannot tell them apart."""
    with pytest.raises(ConfigError, match='make one data set for each order'):
        expand(tmp_path, [nickel_oxide(NIO_MOMENTS), nickel_oxide([2, 0, 2, 0])])


def test_molecular_oxygen_is_a_triplet_and_the_oxygen_of_water_is_not(tmp_path):
    """Oxygen alone is spin-polarised."""
    for name, polarised in (('O2', True), ('H2O', False)):
        atoms = molecule(name, vacuum=4.0, pbc=True)
        atoms.set_initial_magnetic_moments(None)
        expansion = expand(tmp_path, atoms, 'exploration: {temperatures_K: [300.0]}')
        assert expansion.configuration.labelling.spin_polarised is polarised


@pytest.mark.parametrize(
    ('system', 'labelling', 'is_told'),
    [
        ('{prototype: bcc, composition: Cr}', '{}', True),
        ('{prototype: rocksalt, composition: NiO, lattice_constant_A: 4.17, melting_point_K: 2230}', '{}', True),
        ('{prototype: bcc, composition: Cr}', '{magnetic_order: ferromagnetic}', False),
        ('{prototype: bcc, composition: Cr}', '{magnetic_moments: {Cr: 1.0}}', False),
        ('{prototype: bcc, composition: Cr}', '{spin_polarised: false}', False),
        ('{prototype: fcc, composition: Cu}', '{}', False),
    ],
)
def test_an_order_that_is_a_guess_is_told_before_the_run(system, labelling, is_told):
    """Parallel moments of a solid that nobody asked for."""
    expansion = ConfigExpander(f'system: {system}\nprotocol: fast\nlabelling: {labelling}').expand()
    told = [line for line in expansion.warnings() if line.startswith("labelling.magnetic_order: 'auto' is a guess")]
    assert bool(told) == is_told


def test_the_triplet_of_oxygen_is_no_guess(tmp_path):
    """The moments of the molecule are parallel."""
    molecule('O2', vacuum=4.0).write(tmp_path / 'o2.xyz')
    text = f'system: {{structure: {tmp_path}/o2.xyz}}\nexploration: {{temperatures_K: [300]}}'
    assert 'labelling.magnetic_order' not in ConfigExpander(text).expand().remarks
