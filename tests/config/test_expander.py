"""From ten lines to a full configuration: values, their origins, and every way to get the input wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from ase import Atoms
from ase.build import bulk, molecule
from ase.data import atomic_numbers, chemical_symbols
from ase.io import write

from aiida_mlip_autopipe.config import ConfigError, ConfigExpander, Configuration, check_surrogate_elements
from aiida_mlip_autopipe.config.elements import unpaired_electrons
from aiida_mlip_autopipe.config.expander import PROTOCOLS, load_protocol
from aiida_mlip_autopipe.config.loader import load_yaml
from aiida_mlip_autopipe.science.potential.foundation import FOUNDATIONS

SILICON = 'system: {prototype: diamond, composition: Si}\n'
CUTOFFS = {'Si': (16.0, 64.0), 'C': (40.0, 320.0)}
EXAMPLES = Path(__file__).parents[2] / 'examples'


def problems(text, base=None, **arguments):
    """Return the problems of an input that must have some."""
    with pytest.raises(ConfigError) as caught:
        ConfigExpander(text, base=base).expand(**arguments)
    assert isinstance(caught.value, ValueError)
    for problem in caught.value.problems:
        assert problem in str(caught.value)
    return caught.value.problems


def only_problem(text, base=None, **arguments):
    """Return the problem of an input that must have exactly one."""
    found = problems(text, base, **arguments)
    assert len(found) == 1, found
    return found[0]


# --------------------------------------------------------------------------------------------- values and their origins


def test_two_lines_are_enough():
    expansion = ConfigExpander(SILICON).expand(CUTOFFS)
    configuration = expansion.configuration
    assert configuration.protocol == 'fast'
    assert configuration.surrogate == 'bootstrap'
    assert configuration.exploration.temperatures_K == [590.0, 1180.0]
    assert configuration.labelling.ecutwfc_Ry == 16.0
    assert configuration.labelling.ecutrho_Ry == 64.0
    assert configuration.labelling.atomic_magnetization == {'Si': 2}
    assert configuration.labelling.spin_polarised is False
    assert expansion.elements == ['Si']
    assert len(expansion.sources[0]) == 2


@pytest.mark.parametrize('name', ['silicon', 'silicon_carbide'])
def test_example_is_ten_lines_and_expands(name):
    example = EXAMPLES / name / 'input.yaml'
    assert len(example.read_text().splitlines()) <= 10
    expansion = ConfigExpander(example).expand(CUTOFFS)
    assert expansion.origins['exploration.temperatures_K'] == 'user'
    assert expansion.configuration.exploration.temperatures_K == [600.0, 1800.0]


def test_user_is_above_protocol_and_heuristic_and_default():
    text = (
        SILICON
        + """
exploration: {temperatures_K: [300], timestep_fs: 1.5, descriptor: {r_cut: 4.5}}
generation: {rattled: {n: 9}}
"""
    )
    expansion = ConfigExpander(text).expand(CUTOFFS)
    assert expansion.configuration.exploration.temperatures_K == [300.0]
    assert expansion.configuration.exploration.timestep_fs == 1.5
    assert expansion.configuration.generation.rattled.n == 9
    origins = expansion.origins
    assert origins['exploration.descriptor.r_cut'] == origins['generation.rattled.n'] == 'user'
    assert origins['generation.target_atoms'] == 'protocol'
    assert origins['exploration.guards.min_distance_factor'] == 'heuristic'
    assert origins['exploration.descriptor.n_max'] == 'default'
    assert origins['protocol'] == 'default'
    assert set(origins.values()) == {'user', 'protocol', 'heuristic', 'default'}


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_protocols_are_valid_and_applied(protocol):
    expansion = ConfigExpander(f'{SILICON}protocol: {protocol}').expand(CUTOFFS)
    values = load_protocol(protocol)
    assert expansion.configuration.generation.target_atoms == values.configuration['generation']['target_atoms']
    assert len(expansion.configuration.exploration.temperatures_K) == values.heuristics.n_temperatures
    assert expansion.configuration.labelling.ecutwfc_Ry == 16 * values.heuristics.cutoff_factor


@pytest.mark.parametrize('protocol', PROTOCOLS)
@pytest.mark.parametrize('kind', ['soap', 'ace', 'mace'])
def test_a_descriptor_may_be_a_bare_name(protocol, kind):
    """The name alone and the section are the same, and it is the user's; a protocol's values join their own kind."""
    text = f'{SILICON}protocol: {protocol}\nexploration: '
    expansion = ConfigExpander(f'{text}{{descriptor: {kind}}}').expand(CUTOFFS)
    descriptor = expansion.configuration.exploration.descriptor
    assert descriptor.kind == kind
    assert (
        descriptor
        == ConfigExpander(f'{text}{{descriptor: {{kind: {kind}}}}}').expand().configuration.exploration.descriptor
    )
    assert expansion.origins['exploration.descriptor.kind'] == 'user'
    preset = load_protocol(protocol).configuration['exploration'].get('descriptor', {})
    others = {key: origin for key, origin in expansion.origins.items() if key.startswith('exploration.descriptor.')}
    joined = {f'exploration.descriptor.{key}' for key in preset if kind == 'soap'} - {'exploration.descriptor.kind'}
    assert {key for key, origin in others.items() if origin == 'protocol'} == joined
    assert (kind != 'soap') or all(getattr(descriptor, key) == value for key, value in preset.items())
    assert ConfigExpander(expansion.dump()).expand().configuration == expansion.configuration


def test_descriptor_in_full_survives_the_dump_and_json():
    weighting = '{function: poly, r0: 6.0, c: 1, m: 2, w0: 0.5}'
    compression = '{mode: mu2, species_weighting: {Si: 1.0, C: 0.3}}'
    for descriptor in (
        f'{{kind: soap, rbf: polynomial, l_max: 12, weighting: {weighting}, compression: {compression}}}',
        '{kind: ace, correlation_order: 4, n_max: [6, 3, 2, 1], l_max: [0, 3, 2, 1], average: inner}',
        '{kind: ace, correlation_order: 2, max_degree: 8}',
        '{kind: mace, layers: [1], invariants_only: false, model_dtype: float64, device: cpu}',
        '{kind: mace, of_last_layer: true}',
    ):
        text = f'system: {{prototype: zincblende, composition: SiC}}\nexploration: {{descriptor: {descriptor}}}'
        expansion = ConfigExpander(text).expand(CUTOFFS)
        configuration = expansion.configuration
        assert ConfigExpander(expansion.dump()).expand().configuration == configuration
        assert Configuration(**json.loads(configuration.model_dump_json())) == configuration


def test_dump_is_yaml_that_gives_the_same_configuration_again():
    text = (
        SILICON
        + """
protocol: stringent
labelling: {pseudo_family: 'NO'}
evaluation: {max_energy_rmse_meV: null}
options: {labelling: {prepend_text: "export A='x'  # y\\nulimit -s unlimited", account: '1e5'}}
codes: {labelling: 'on'}
"""
    )
    expansion = ConfigExpander(text).expand(CUTOFFS)
    dump = expansion.dump()
    again = ConfigExpander(dump).expand()
    assert again.configuration == expansion.configuration
    assert set(again.origins.values()) == {'user'}
    assert Configuration(**yaml.safe_load(dump)) == expansion.configuration  # for readers of YAML 1.1, too
    assert again.dump().count('\n') == dump.count('\n')
    assert expansion.configuration.evaluation.max_energy_rmse_meV is None


def test_dump_says_where_each_value_is_from():
    dump = ConfigExpander(SILICON + 'loop: {max_rounds: 3}').expand(CUTOFFS).dump()
    comments = {line.split(':')[0].strip(): line.split('  # ')[1] for line in dump.splitlines() if '  # ' in line}
    assert comments['max_rounds'] == 'user'
    assert comments['n_steps'] == 'protocol: fast'
    assert comments['temperatures_K'] == 'heuristic: 0.35..0.7 of the melting estimate (1687 K)'
    assert comments['ecutwfc_Ry'] == "heuristic: the family's recommendation for Si"
    assert comments['r_max'] == 'protocol: fast'
    assert comments['correlation'] == 'default'
    assert comments['target_atoms'] == 'protocol: fast (8 atoms, 5.43 x 5.43 x 5.43 Å)'
    assert comments['lattice_constant_A'] == 'heuristic: experimental lattice constant of Si'
    assert 'min_distance_factor: 0.7 ' in dump
    assert 'heuristic: of the covalent radii: Si-Si 1.55 Å' in dump
    values = [line for line in dump.splitlines() if not line.startswith('#') and not line.endswith(':')]
    assert all('  # ' in line for line in values)


def test_defaults_of_the_cutoffs_say_that_nothing_is_known():
    expansion = ConfigExpander(SILICON).expand()
    assert expansion.origins['labelling.ecutwfc_Ry'] == 'default'
    assert 'check its convergence' in expansion.dump()


def test_cutoffs_are_the_highest_and_may_come_from_a_callable():
    text = 'system: {prototype: zincblende, composition: SiC}\nlabelling: {pseudo_family: mine}'
    asked = []
    expansion = ConfigExpander(text).expand(lambda given: asked.append(given['pseudo_family']) or CUTOFFS)
    assert asked == ['mine']
    assert expansion.configuration.labelling.ecutwfc_Ry == 40.0
    assert expansion.configuration.labelling.ecutrho_Ry == 320.0


def test_density_cutoff_follows_a_given_one():
    expansion = ConfigExpander(SILICON + 'labelling: {ecutwfc_Ry: 60}').expand(CUTOFFS)
    assert expansion.configuration.labelling.ecutrho_Ry == pytest.approx(240.0)


def test_magnetic_elements_are_spin_polarised():
    expansion = ConfigExpander('system: {prototype: bcc, composition: Fe}').expand()
    assert expansion.configuration.labelling.spin_polarised is True
    assert expansion.configuration.labelling.atomic_magnetization == {'Fe': 4}
    text = (
        'system: {prototype: bcc, composition: Fe}\nlabelling: {spin_polarised: false, atomic_magnetization: {Fe: 0}}'
    )
    labelling = ConfigExpander(text).expand().configuration.labelling
    assert labelling.spin_polarised is False
    assert labelling.atomic_magnetization == {'Fe': 0}


def test_short_bonds_and_light_atoms_are_respected(tmp_path):
    nitrogen = molecule('N2', vacuum=4.0, pbc=True)
    write(tmp_path / 'n2.xyz', nitrogen)
    text = 'system: {structure: n2.xyz}\nexploration: {temperatures_K: [300]}'
    configuration = ConfigExpander(text, base=tmp_path).expand().configuration
    bond = nitrogen.get_distance(0, 1)
    assert configuration.generation.min_distance_factor * 2 * 0.71 < 0.9 * bond
    assert configuration.exploration.guards.min_distance_factor < configuration.generation.min_distance_factor
    assert configuration.exploration.timestep_fs == 1.0


def test_pressures_ask_for_npt():
    expansion = ConfigExpander(SILICON + 'exploration: {pressures_GPa: [0, 5]}').expand()
    assert expansion.configuration.exploration.ensemble == 'npt'
    assert expansion.origins['exploration.ensemble'] == 'heuristic'
    for ensemble in ('nvt', 'nve'):
        problem = only_problem(SILICON + f'exploration: {{pressures_GPa: [5], ensemble: {ensemble}}}')
        assert f'needs exploration.ensemble: npt; {ensemble} has a fixed cell' in problem


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_temperatures_as_fractions_of_the_melting_estimate(protocol):
    """They become temperatures, with their reason; what is written gives the same again."""
    text = f'{SILICON}protocol: {protocol}\nexploration: {{melting_fractions: [0.9, 0.3]}}'
    expansion = ConfigExpander(text).expand(CUTOFFS)
    exploration = expansion.configuration.exploration
    assert exploration.temperatures_K == [510.0, 1520.0]
    assert exploration.melting_fractions is None
    assert expansion.origins['exploration.temperatures_K'] == 'heuristic'
    assert expansion.reasons['exploration.temperatures_K'] == '0.9, 0.3 of the melting estimate (1687 K)'
    assert expansion.origins['exploration.melting_fractions'] == 'user'
    assert 'user: [0.9, 0.3], in K in temperatures_K' in expansion.dump()
    assert ConfigExpander(expansion.dump()).expand().configuration == expansion.configuration


@pytest.mark.parametrize(
    ('given', 'words'),
    [
        ('melting_fractions: [0.3], temperatures_K: [400]', ['[0.3]', '[400]', 'give one of them only']),
        ('melting_fractions: [0.5, -1]', ['melting_fractions[1]', '-1', '> 0']),
        ('melting_fractions: [30]', ['melting_fractions[0]', '30', '<= 5']),
        ('melting_fractions: []', ['melting_fractions', 'at least 1 value']),
        ('melting_fractions: 0.5', ['melting_fractions', 'not a list']),
        ('keep_frames: stash', ["keep_frames 'stash' needs a stash_folder"]),
        ('keep_frames: clean, stash_folder: /data', ["'/data'", 'keep_frames: stash only', "'clean'"]),
        ('keep_frames: stash, stash_folder: data', ["'data' is not an absolute path"]),
        ('keep_frames: kepe', ["'kepe'", "did you mean 'keep'"]),
        ('max_concurrent: 0', ['exploration.max_concurrent', '0', '>= 1']),
    ],
)
def test_conditions_and_frames_that_cannot_be(given, words):
    problem = only_problem(f'{SILICON}exploration: {{{given}}}')
    assert all(word in problem for word in words), problem


def test_fractions_are_nothing_without_a_system():
    with pytest.raises(ValueError, match='needs the melting estimate of a system'):
        Configuration(system={'prototype': 'diamond', 'composition': 'Si'}, exploration={'melting_fractions': [0.5]})


def test_a_temperature_may_be_a_ramp():
    expansion = ConfigExpander(SILICON + 'exploration: {temperatures_K: [300, [300, 1200]]}').expand()
    assert expansion.configuration.exploration.temperatures_K == [300.0, (300.0, 1200.0)]
    assert ConfigExpander(expansion.dump()).expand().configuration == expansion.configuration
    assert Configuration(**json.loads(expansion.configuration.model_dump_json())) == expansion.configuration
    assert 'temperatures_K[0]: [300, 600, 900] is not a number' in only_problem(
        SILICON + 'exploration: {temperatures_K: [[300, 600, 900]]}'
    )


def test_structure_file_relative_to_the_input(tmp_path):
    write(tmp_path / 'POSCAR', bulk('Si'))
    (tmp_path / 'potential.model').write_bytes(b'0')
    (tmp_path / 'input.yaml').write_text('system: {structure: POSCAR}\nsurrogate: potential.model\n')
    expansion = ConfigExpander(str(tmp_path / 'input.yaml')).expand(CUTOFFS)
    assert expansion.configuration.system.structure == str(tmp_path / 'POSCAR')
    assert expansion.configuration.surrogate == str(tmp_path / 'potential.model')
    assert expansion.elements == ['Si']
    assert ConfigExpander(expansion.dump()).expand().configuration == expansion.configuration


def test_node_needs_its_structures():
    expansion = ConfigExpander({'system': {'node': 1234}}).expand(CUTOFFS, sources=[bulk('Si')])
    assert expansion.configuration.system.node == 1234
    assert expansion.elements == ['Si']
    assert 'system.node: 1234 can only be loaded by AiiDA' in only_problem('system: {node: 1234}')


@pytest.mark.parametrize('surrogate', ['bootstrap', next(iter(FOUNDATIONS)), 'node:1234'])
def test_surrogates(surrogate):
    assert ConfigExpander(f'{SILICON}surrogate: {surrogate}').expand().configuration.surrogate == surrogate


def test_yaml_reads_words_as_text_and_numbers_as_numbers():
    assert load_yaml('{a: NO, b: 1e-8, c: on, d: true, e: .5, f: 010, g: null, h: -.inf}') == {
        'a': 'NO', 'b': 1e-8, 'c': 'on', 'd': True, 'e': 0.5, 'f': 10, 'g': None, 'h': float('-inf'),
    }  # fmt: skip


# ---------------------------------------------------------------------------------------------------- facts per element


def test_unpaired_electrons_have_the_parity_of_the_atom():
    for symbol in chemical_symbols[1:104]:
        assert unpaired_electrons(symbol) % 2 == atomic_numbers[symbol] % 2, symbol
    assert [unpaired_electrons(symbol) for symbol in ('H', 'C', 'N', 'O', 'Si', 'Cr', 'Mn', 'Gd')] == [
        1, 2, 3, 2, 2, 6, 5, 8,
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ('extra', 'expected'),
    [
        ('exploration: {temperature_K: [300]}', 'exploration.temperature_K: unknown key; did you mean exploration.temp'
                                                'eratures_K?'),
        ('labeling: {}', 'labeling: unknown key; did you mean labelling?'),
        ('exploration: {ecutwfc_Ry: 30}', 'exploration.ecutwfc_Ry: unknown key; did you mean labelling.ecutwfc_Ry?'),
        ('exploration: {guards: {n_drp: 1}}', 'exploration.guards.n_drp: unknown key; did you mean exploration.guards'
                                              '.n_drop?'),
        ('loop: {xyzzy: 1}', 'loop.xyzzy: unknown key; the keys of loop are min_rounds, max_rounds, max_labels, '
         'max_core_hours'),
        ('exploration: {temperatures_K: [300, -300]}', 'exploration.temperatures_K[1]: -300 is not > 0 K; give a value '
                                                       '> 0 K: temperature grid, in K'),
        ('loop: {max_labels: 20}',
         'loop.max_labels: 20 is below 31 = 1 isolated atoms + 8 seeds (generation) + '
         '12 test frames (evaluation.n_test) + 10 frames of the first round (exploration.n_to_select); raise it to at '
         'least 31'),
        ('exploration: {temperatures_K: [300, 600]}\nevaluation: {n_test: 2}', 'evaluation.n_test (2) is not >= 3, the '
         'number of temperatures with the hotter one'),
        ('training: {method: naive}', 'training.method: naive fine-tunes the surrogate, but surrogate is bootstrap; '
                                      'give a potential, or train from scratch'),
        ('surrogate: medium-mpa-0\ntraining: {method: multihead}', 'replay: None, but training.method is multihead; '
         'give a replay set with multihead only'),
        ('data: nowhere.xyz', "data: 'nowhere.xyz': there is no file"),
        ('surrogate: medium-mpa-0\nreplay: nowhere.xyz\ntraining: {method: multihead}',
         "replay: 'nowhere.xyz': there is no file"),
        ('exploration: {n_to_select: 0}', 'exploration.n_to_select: 0 is not >= 1; give a value >= 1: frames to select '
                                          'for labelling'),
        ('protocol: fats', "protocol: 'fats' is not one of 'fast', 'balanced' or 'stringent'; did you mean 'fast'?"),
        ('exploration: {n_steps: many}', "exploration.n_steps: 'many' is not a whole number; give one: "
                                         'number of steps of each replica'),
        ('exploration: {n_steps: 1.5}', 'exploration.n_steps: 1.5 is not a whole number; give one: '
                                         'number of steps of each replica'),
        ('exploration: {n_steps: true}', 'exploration.n_steps: true is not a whole number; give one: '
                                         'number of steps of each replica'),
        ('exploration: {timestep_fs: .nan}', 'exploration.timestep_fs: NaN is not'),
        ('exploration: {temperatures_K: []}', 'exploration.temperatures_K: [] is empty; give at least 1 value'),
        ('exploration: {temperatures_K: 300}', 'exploration.temperatures_K: 300 is not a list; write it as [value, '
                                               '...]: temperature grid, in K'),
        ('exploration: {temperatures_K: }', 'exploration.temperatures_K: null is not a list'),
        ('training: 3', 'training: 3 is not a section; give keys and values: MACE training'),
        ('codes: {labelling: 3}', 'codes.labelling: 3 is not text; put it in quotes: the label of the '
                                  'labelling code'),
        ('options: {labelling: {resources: {num_machines: 1.5}}}', 'options.labelling.resources.num_machines: 1.5 is '
                                                                   'not a whole number'),
        ('exploration: {n_steps: 5, sample_interval: 6}', 'exploration: sample_interval (6) is larger than n_steps'),
        ('labelling: {ecutwfc_Ry: 40, ecutrho_Ry: 100}', 'labelling: ecutrho_Ry (100.0) is below 4 x ecutwfc_Ry'),
        ('training: {r_max: 9.5}', 'generation.isolated_atom_box_A (9.0) is not > training.r_max (9.5)'),
        ('labelling: {atomic_magnetization: {Ge: 2}}', 'labelling.atomic_magnetization.Ge: Ge is not in the system '
                                                       '(Si); remove it'),
        ("surrogate: ''", "surrogate: '' is not long enough"),
    ],
)  # fmt: skip
def test_bad_values(extra, expected):
    assert only_problem(SILICON + extra, recommended=CUTOFFS).startswith(expected)


@pytest.mark.parametrize(
    ('system', 'expected'),
    [
        ('{prototype: diamond, composition: Sj}', "system.composition: 'Sj' is not an element; did you mean 'S"),
        ('{prototype: diamond, composition: Qqq}', "system.composition: 'Qqq' is not a chemical formula"),
        ('{prototype: diamond, composition: si}', "system.composition: 'si' is not a chemical formula; did you mean"),
        ('{prototype: diamond, composition: NaCl}', "system.composition: 'NaCl' does not fit diamond; give a formula "
                                                    'such as Si'),
        ('{prototype: dimond, composition: Si}', "system.prototype: 'dimond' is not known; did you mean 'diamond'?"),
        ('{prototype: diamond}', "system: prototype 'diamond' needs a composition"),
        ('{composition: Si}', "system: composition 'Si' needs a prototype"),
        ('{prototype: diamond, composition: Si, lattice_constant_A: -5}', 'system.lattice_constant_A: -5 is not > 0 Å'),
        ('{prototype: diamond, composition: Si, lattice_constant_A: 2.0}', 'system: source 0 (Si2): Si-Si at 0.866 Å'),
        ('{structure: 3}', 'system.structure: 3 is not text'),
        ('{}', 'system: no structure is given; give'),
        ('{node: 3, prototype: diamond, composition: Si}', 'system.node: 3 can only be loaded by AiiDA'),
        ('3', 'system: 3 is not a section'),
        ('', 'system: missing; give a section'),
    ],
)  # fmt: skip
def test_bad_systems(system, expected):
    assert problems(f'system: {system}\nprotocol: fast', recommended=CUTOFFS)[0].startswith(expected)


@pytest.mark.parametrize(
    ('descriptor', 'expected'),
    [
        ('sope', ".kind: 'sope' is not one of 'soap', 'ace' or 'mace'; did you mean 'soap'?"),
        ('{kind: }', '.kind: null is not one of'),
        ('3', ': 3 is not a name or a section; give one: descriptor of the frames'),
        ('{r_cut: 99}', '.r_cut: 99 is not <= 12; give a value <= 12: cutoff radius, in Å'),
        ('{sigma: 0.01}', '.sigma: 0.01 is not >= 0.1; give a value >= 0.1: width of the atomic Gaussians'),
        ('{n_mox: 3}', '.n_mox: unknown key; did you mean exploration.descriptor.n_max?'),
        ('{kind: ace, sigma: 1}', '.sigma: kind ace has no such key, soap has; its keys are kind, r_cut'),
        ('{kind: mace, soap: 1}', '.soap: unknown key; the keys of exploration.descriptor are kind, layers'),
        ('{kind: ace, correlation_order: 5}', '.correlation_order: 5 is not <= 4; give a value <= 4: number of '
                                           'neighbours'),
        ('{kind: ace, n_max: [8, 4]}', ': n_max [8, 4] has 2 values for correlation_order 3; give one for each order'),
        ('{kind: ace, n_max: [8, 0, 1]}', '.n_max[1]: 0 is not >= 1; give a value >= 1: number of radial functions'),
        ('{kind: ace, l_max: [1, 2, 1]}', ': l_max [1, 2, 1] has 1 for order 1; give at most 0 there'),
        ('{kind: ace, max_degree: 4, n_max: [1, 1, 1]}', ': max_degree (4) is given together with n_max'),
        ('{kind: mace, average: inner}', ".average: 'inner' is not 'outer': the features are averaged over the atoms"),
        ('{kind: mace, layers: 0}', '.layers: 0 is not a list; write it as [value, ...]: message-passing '
                                    'layers to use'),
        ('{kind: mace, layers: []}', '.layers: [] is empty; give at least 1 value: message-passing layers to use'),
        ('{kind: mace, layers: [0, 99]}', '.layers[1]: 99 is not <= 15'),
        ('{weighting: 3}', '.weighting: 3 is not a section; give keys and values'),
        ('{weighting: {functoin: pow}}', '.weighting.functoin: unknown key; did you mean exploration.descriptor.w'),
        ('{weighting: {function: poly}}', '.weighting: function poly needs c, m, r0; give a value for each'),
        ('{weighting: {w0: 1, d: 2}}', '.weighting: without a function there is no d; remove it or name another'),
        ('{weighting: {}}', '.weighting: neither function nor w0 is given; give one, or null for no weighting'),
        ('{compression: {mode: mu3}}', ".compression.mode: 'mu3' is not one of 'off', 'crossover', 'mu2' or 'mu1nu1'"),
        ('{compression: {species_weighting: {Si: 1, Ge: 1}}}', '.compression.species_weighting.Ge: Ge is not in'),
    ],
)  # fmt: skip
def test_bad_descriptors(descriptor, expected):
    """The key, the value and the bound, without the kind that pydantic puts between the section and its key."""
    found = only_problem(f'{SILICON}exploration: {{descriptor: {descriptor}}}', recommended=CUTOFFS)
    assert found.startswith(f'exploration.descriptor{expected}')


def test_weights_of_elements_cover_the_system():
    text = 'system: {prototype: zincblende, composition: SiC}\nexploration: {descriptor: {compression: '
    found = only_problem(text + '{species_weighting: {Si: 1}}}}', recommended=CUTOFFS)
    assert found.endswith('species_weighting: no weight for C; give one for each element')


def test_missing_structure_file_names_what_is_there(tmp_path):
    write(tmp_path / 'POSCAR', bulk('Si'))
    found = only_problem('system: {structure: POSCR}', base=tmp_path)
    assert found.startswith(f"system.structure: 'POSCR' does not exist (looked for {tmp_path / 'POSCR'})")
    assert "did you mean 'POSCAR'?" in found


def test_unreadable_structure_files(tmp_path):
    (tmp_path / 'broken.cif').write_text('no crystal at all')
    assert "'broken.cif' cannot be read" in only_problem('system: {structure: broken.cif}', base=tmp_path)
    (tmp_path / 'strange.xyz').write_text('1\n\nSj 0 0 0\n')
    assert "'Sj' is not an element; did you mean 'S" in only_problem('system: {structure: strange.xyz}', base=tmp_path)
    write(tmp_path / 'dummy.xyz', Atoms('X', cell=[5] * 3, pbc=True), format='extxyz')
    assert "'X' is not an element" in only_problem('system: {structure: dummy.xyz}', base=tmp_path)
    assert 'is a folder' in only_problem('system: {structure: .}', base=tmp_path)
    write(tmp_path / 'molecule.xyz', molecule('N2'))
    assert 'has no volume' in only_problem('system: {structure: molecule.xyz}', base=tmp_path)


def test_no_pseudopotential():
    found = only_problem(SILICON, recommended={'C': (40.0, 320.0)})
    assert found.startswith("labelling.pseudo_family: 'autopipe/pbe' has no pseudopotential for Si (it has C); give")


def test_missing_family_is_a_problem_among_others():
    def missing(given):
        label = given.get('pseudo_family', 'autopipe/pbe')
        raise ValueError(f'labelling.pseudo_family: {label!r} is not installed; install it')

    found = problems(SILICON + 'loop: {max_rounds: 0}', recommended=missing)
    assert found[0] == "labelling.pseudo_family: 'autopipe/pbe' is not installed; install it"
    assert len(found) == 2


def test_wrong_surrogate_path_and_unknown_name_are_told_apart(tmp_path):
    (tmp_path / 'silicon.model').write_bytes(b'0')
    path = only_problem(SILICON + 'surrogate: ./silicn.model', base=tmp_path)
    assert path.startswith(f"surrogate: './silicn.model' looks like a path, but there is no file {tmp_path}")
    assert "did you mean 'silicon.model'?" in path
    name = only_problem(SILICON + 'surrogate: medium-mpa0', base=tmp_path)
    assert "'medium-mpa0' is neither a known foundation model nor a file" in name
    assert "did you mean 'medium-mpa-0'?" in name
    assert 'is a folder' in only_problem(SILICON + f'surrogate: {tmp_path}', base=tmp_path)


def test_surrogate_elements():
    check_surrogate_elements(['H', 'Si'], ['Si'])
    with pytest.raises(ConfigError, match=r'surrogate: does not know Si \(it knows C, H\).*bootstrap'):
        check_surrogate_elements(['H', 'C'], ['Si', 'C'])


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('', 'the input is empty; give at least'),
        ('# nothing\n', 'the input is empty'),
        ('- a\n- b\n', 'the input is a list (["a", "b"]), not a mapping'),
        ('silicon', "the input is text ('silicon'), not a mapping"),
        ('42', 'the input is a single value (42), not a mapping'),
        ('system: !!python/object/apply:os.system [ls]\n', 'system (line 1): the tag !!python/object/apply:os.system '
                                                           'would construct an object'),
        ('loop:\n  max_rounds: !!python/name:os.system\n', 'loop.max_rounds (line 2): the tag'),
        ('loop: {max_rounds: 1}\nloop: {max_rounds: 2}\n', 'loop: given twice, in lines 1 and 2'),
        ('loop:\n  max_rounds: 1\n  max_rounds: 2\n', 'loop.max_rounds: given twice, in lines 2 and 3'),
        ('a: &x [1, 2]\nb: *x\n', 'b (line 1): aliases are not supported'),
        ('1: 2\n', "the input (line 1): the key '1' is not text"),
        ('a: [1, 2\n', 'line 2, column 1: not valid YAML'),
        ('\ta: 1\n', 'line 1, column 1: not valid YAML'),
        ('a: 1\n---\nb: 2\n', 'line 2, column 1: not valid YAML'),
        ('[' * 5000, 'the YAML is nested too deeply'),
    ],
)  # fmt: skip
def test_bad_yaml(text, expected):
    assert only_problem(text).startswith(expected)


def test_missing_and_binary_input_files(tmp_path):
    assert 'does not exist' in only_problem(tmp_path / 'input.yaml')
    assert 'does not exist' in only_problem('nowhere.yaml')
    assert 'is a folder' in only_problem(tmp_path)
    (tmp_path / 'binary.yaml').write_bytes(b'\xff\xfe\x00')
    assert 'is not UTF-8 text' in only_problem(tmp_path / 'binary.yaml')


def test_all_problems_are_reported_at_once(tmp_path):
    path = tmp_path / 'input.yaml'
    path.write_text("""
system: {structure: POSCAR}
surrogate: smal
protocol: fats
exploration: {temprature_K: [3], temperatures_K: [-300], n_to_select: 0}
labelling: {smearing: colt, pseudo_family: 3}
""")
    with pytest.raises(ConfigError) as caught:
        ConfigExpander(path).expand(CUTOFFS)
    keys = {problem.split(':')[0] for problem in caught.value.problems}
    assert keys == {
        'system.structure', 'surrogate', 'protocol', 'exploration.temprature_K', 'exploration.temperatures_K[0]',
        'exploration.n_to_select', 'labelling.smearing', 'labelling.pseudo_family',
    }  # fmt: skip
    assert str(caught.value).splitlines()[0] == f'{path}: 8 problems'
