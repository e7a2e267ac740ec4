"""What follows from what the structures are, as an input is told it: values, reasons, refusals, temperatures."""

from __future__ import annotations

import pytest
from ase import units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.io import write

from aiida_mlip_autopipe.config import ConfigError, ConfigExpander
from aiida_mlip_autopipe.config.melting import COMPOUND_MELTING_K, MELTING_K, melting_estimate
from tests.science.test_dimensionality import dry_ice, graphite, in_a_box, layer, slab


@pytest.fixture
def expand(tmp_path):
    def run(sources, **sections):
        write(tmp_path / 'source.xyz', sources, format='extxyz')
        sections['exploration'] = {'temperatures_K': [300.0], **sections.get('exploration', {})}
        sections['exploration'] = {k: v for k, v in sections['exploration'].items() if v is not None}
        system = {'structure': 'source.xyz', **sections.pop('system', {})}
        return ConfigExpander({'system': system, **sections}, base=tmp_path).expand()

    return run


def problems_of(expand, *arguments, **sections):
    with pytest.raises(ConfigError) as raised:
        expand(*arguments, **sections)
    return raised.value.problems


@pytest.mark.parametrize('pbc', [True, (True, True, False)])
@pytest.mark.parametrize('protocol', ['fast', 'balanced', 'stringent'])
def test_a_slab_is_left_its_vacuum_whatever_the_protocol_says(expand, protocol, pbc):
    expansion = expand(slab(pbc), protocol=protocol)
    exploration, evaluation = expansion.configuration.exploration, expansion.configuration.evaluation
    assert (exploration.ensemble, exploration.pressures_GPa) == ('nvt', [0.0])
    assert evaluation.max_stress_rmse_GPa is None
    assert expansion.origins['exploration.ensemble'] == 'heuristic'
    text = expansion.dump()
    for reason in ('Si6: slab or layer, vacuum of 4.6 Å along c', 'a barostat would close it', 'no label has a stress'):
        assert reason in text, reason
    again = ConfigExpander(text).expand()
    assert again.configuration == expansion.configuration


def test_bulk_keeps_what_the_protocol_says(expand):
    for source in (bulk('Si'), graphite(), bulk('NiO', 'rocksalt', a=4.18)):
        expansion = expand(source, protocol='stringent')
        assert expansion.configuration.exploration.ensemble == 'npt'
        assert expansion.configuration.exploration.pressures_GPa == [-1.0, 0.0, 5.0]
        assert expansion.configuration.evaluation.max_stress_rmse_GPa == 0.3
        assert expansion.configuration.exploration.guards.max_bond_stretch is None


@pytest.mark.parametrize('element', ['Al', 'Cu', 'Au', 'Ni'])
@pytest.mark.parametrize('fraction', [0.2, 0.5])
def test_displacements_of_a_crystal_hold_the_energy_of_the_temperature(expand, element, fraction):
    """Against ASE's effective medium theory, which knows neither the melting point nor the rule."""
    crystal = bulk(element, cubic=True)
    temperature = fraction * MELTING_K[element]
    expansion = expand(crystal, exploration={'temperatures_K': [temperature, 2 * temperature]})
    displaced = crystal * (3, 3, 3)
    energies = []
    for displacement in (0.0, expansion.configuration.generation.rattled.stdev_A):
        displaced.rattle(displacement, seed=1)
        displaced.calc = EMT()
        energies.append(displaced.get_potential_energy() / len(displaced))
    assert 0.6 < (energies[1] - energies[0]) / (1.5 * units.kB * temperature) < 1.6


def test_displacements_say_from_which_estimate(expand):
    """The melting point of the tables, one that is given, none at all, and hydrogen."""
    key = 'generation.rattled.stdev_A'
    grid = {'exploration': {'temperatures_K': [300.0]}}
    silicon = expand(bulk('Si'), **grid)
    assert silicon.configuration.generation.rattled.stdev_A == 0.047  # 2.35 Å sqrt(300 / (450 * 1687))
    assert silicon.reasons[key] == "the energy of 300 K (Lindemann's rule, bonds of 2.35 Å, melting estimate 1687 K)"
    unknown = bulk('NiP', 'rocksalt', a=4.9)
    assert '10 eV/Å² per atom' in expand(unknown, **grid).reasons[key]
    fractions = {'melting_fractions': [0.25], 'temperatures_K': None}
    given = expand(unknown, exploration=fractions, system={'melting_point_K': 1200})
    assert '1200 K, given' in given.reasons[key] and 'of 300 K' in given.reasons[key]
    assert '40 eV/Å²' in expand(bulk('LiH', 'rocksalt', a=4.08), **grid).reasons[key]


@pytest.mark.parametrize(
    ('asked', 'words'),
    [
        ({'exploration': {'ensemble': 'npt'}}, ["exploration.ensemble: 'npt'", 'along c', 'use nvt or nve']),
        ({'exploration': {'pressures_GPa': [0.0, 5.0]}}, ['exploration.pressures_GPa: [0.0, 5.0]', 'no pressure']),
        ({'evaluation': {'max_stress_rmse_GPa': 0.3}}, ['evaluation.max_stress_rmse_GPa: 0.3', 'never be met']),
        ({'physics': {'checks': ['elastic', 'nve']}}, ['physics.checks: elastic need', 'leave these out']),
        ({'physics': {'checks': ['phonons']}}, ['physics.checks: phonons need', 'remove the checks']),
    ],
)
def test_what_a_slab_cannot_have_is_refused_before_anything_is_submitted(expand, asked, words):
    (problem,) = problems_of(expand, slab(), **asked)
    assert all(word in problem for word in words), problem


def test_a_check_without_a_label_runs_on_a_slab(expand):
    assert expand(slab(), physics={'checks': ['nve', 'stability']}).configuration.physics.checks == ['nve', 'stability']


def test_a_molecule_is_not_strained_and_its_bonds_are_guarded(expand):
    expansion = expand(in_a_box('H2O', 8), protocol='balanced')
    generation = expansion.configuration.generation
    assert (generation.strained.n, generation.rattled.max_strain) == (0, 0.0)
    assert expansion.configuration.exploration.guards.max_bond_stretch == 2.0
    assert expansion.reasons['generation.target_atoms'].startswith('3 atoms, 8.00 x 8.00 x 8.00 Å')
    assert generation.rattled.stdev_A == 0.031  # sqrt(3/2 kB 300 K / 40 eV/Å²)
    assert 'at 300 K' in expansion.reasons['generation.rattled.stdev_A']
    assert 'molecule in a box (H2O)' in expansion.reasons['system.structure']
    crystal = expand(dry_ice(), protocol='balanced').configuration
    assert (crystal.exploration.ensemble, crystal.exploration.guards.max_bond_stretch) == ('npt', 2.0)


@pytest.mark.parametrize(
    ('asked', 'words'),
    [
        ({'exploration': {'strains': [-0.02, 0.02]}}, ['exploration.strains', 'molecule in a box']),
        ({'generation': {'strained': {'n': 3}}}, ['generation.strained.n: 3', 'set it to 0']),
        ({'exploration': {'strains': 0.02}}, ['exploration.strains: 0.02 is not a list']),
    ],
)
def test_a_strain_of_a_molecule_is_refused(expand, asked, words):
    (problem,) = problems_of(expand, in_a_box('H2O', 8), **asked)
    assert all(word in problem for word in words), problem


def test_molecules_and_crystals_in_one_run_are_asked_to_say_so(expand):
    problems = problems_of(expand, [dry_ice(), in_a_box('CO2', 12)])
    assert any('generation.strained.n' in problem and 'a run of their own' in problem for problem in problems)


def test_an_open_axis_without_vacuum_names_the_source(expand):
    source = bulk('Si')
    source.pbc = (True, True, False)
    (problem,) = problems_of(expand, source)
    assert problem.startswith('system: source 0 (Si2)') and 'c is not periodic' in problem
    (problem,) = problems_of(expand, molecule('H2O'))
    assert 'has no volume' in problem and 'a molecule needs a box' in problem


# --------------------------------------------------------------------------------------------------------- temperatures


@pytest.mark.parametrize(
    ('composition', 'temperature', 'basis'),
    [
        ({'Si': 8}, 1687, ''),
        ({'Na': 4, 'Cl': 4}, 1074, 'of NaCl'),
        ({'Si': 1, 'Ge': 1}, 1449, 'mean of Ge, Si'),
        ({'Cu': 3, 'Ni': 1}, 1450, 'mean of Cu, Ni'),
        ({'Ga': 2, 'N': 2}, 2773, 'of GaN, under nitrogen pressure'),
        ({'Ni': 2, 'O': 2}, 2230, 'of NiO'),
        ({'N': 4, 'H': 12}, 195, 'of NH3'),
        ({'Al': 2, 'N': 2}, 3273, 'of AlN, under nitrogen pressure'),
    ],
)
def test_melting_points_are_tabulated_or_those_of_an_alloy(composition, temperature, basis):
    assert melting_estimate(composition) == (temperature, basis)


@pytest.mark.parametrize(
    'composition', [{'C': 1, 'H': 4, 'O': 1}, {'C': 6, 'H': 6}, {'Li': 3, 'P': 1, 'S': 4}, {'Fr': 1}]
)
def test_without_ground_there_is_no_melting_point(composition):
    assert melting_estimate(composition) is None


def test_tabulated_melting_points_are_plausible():
    assert all(50 < kelvin < 4300 for kelvin in COMPOUND_MELTING_K.values())
    assert len(COMPOUND_MELTING_K) > 130


@pytest.mark.parametrize('name', ['C6H6', 'CH3OH', 'H2O'])
def test_a_molecule_in_a_box_is_asked_its_temperatures(expand, name):
    (problem,) = problems_of(expand, in_a_box(name, 12), exploration={'temperatures_K': None})
    assert problem.startswith('exploration.temperatures_K: missing;') and 'does not melt' in problem
    assert expand(in_a_box(name, 12)).configuration.exploration.temperatures_K == [300.0]


def test_a_compound_that_is_not_tabulated_is_asked_and_takes_a_melting_point(expand):
    source = bulk('TiO', 'rocksalt', a=4.18)
    (problem,) = problems_of(expand, source, exploration={'temperatures_K': None})
    assert 'exploration.temperatures_K: missing; OTi (bulk)' in problem and 'system.melting_point_K' in problem
    expansion = expand(source, exploration={'temperatures_K': None}, system={'melting_point_K': 2000.0})
    assert expansion.configuration.exploration.temperatures_K == [700.0, 1400.0]
    assert '(2000 K, given)' in expansion.reasons['exploration.temperatures_K']


def test_graphene_is_carbon(expand):
    expansion = expand(layer(15), exploration={'temperatures_K': None})
    assert '(4762 K, triple point)' in expansion.reasons['exploration.temperatures_K']


def test_physics_checks_follow_the_system(expand):
    """Hydrogen needs a short time step; what is explored below room temperature is checked there."""
    hydride = expand(bulk('LiH', 'rocksalt', a=4.08), exploration={'temperatures_K': [300.0, 600.0]})
    assert (hydride.configuration.physics.timestep_fs, hydride.configuration.physics.temperature_K) == (0.5, 300.0)
    assert 'the lightest element is H' in hydride.reasons['physics.timestep_fs']
    argon = expand(bulk('Ar', 'fcc', a=5.3), exploration={'temperatures_K': [[40.0, 80.0], 60.0]})
    assert (argon.configuration.physics.timestep_fs, argon.configuration.physics.temperature_K) == (1.0, 40.0)
    asked = expand(bulk('Ar', 'fcc', a=5.3), exploration={'temperatures_K': [40.0]}, physics={'temperature_K': 70.0})
    assert asked.configuration.physics.temperature_K == 70.0
