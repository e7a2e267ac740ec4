"""The recipe of the labels in an input: what is refused before anything is submitted, and what is told."""

from __future__ import annotations

import pytest
from ase import Atoms
from ase.build import bulk, molecule

from aiida_mlip_autopipe.config import ConfigError, ConfigExpander
from aiida_mlip_autopipe.labelling.espresso.boundary import suggested_boundary, uncorrected_dipole
from aiida_mlip_autopipe.labelling.espresso.dispersion import missing_dispersion
from aiida_mlip_autopipe.labelling.espresso.hubbard import hubbard_problems
from aiida_mlip_autopipe.labelling.espresso.recommendation import Recommendation
from tests.science.test_dimensionality import dry_ice, graphite, in_a_box, layer, selenium, slab

SILICON = 'system: {prototype: diamond, composition: Si}\n'


def problem(labelling: str, system: str = SILICON, recommended: object = None) -> str:
    """Return the one problem of an input with a section ``labelling``."""
    with pytest.raises(ConfigError) as caught:
        ConfigExpander(f'{system}labelling: {labelling}').expand(recommended)
    assert len(caught.value.problems) == 1, caught.value.problems
    return caught.value.problems[0]


@pytest.mark.parametrize(
    ('extra', 'told'),
    [
        ('SYSTEM: {ecutwfc: 60}', 'SYSTEM.ecutwfc: give labelling.ecutwfc_Ry'),
        ('SYSTEM: {Hubbard_J0: {Si: 1}}', 'SYSTEM.Hubbard_J0: write it as hubbard_j0'),
        ('SYSTEM: {nbnd: 40}', 'SYSTEM.nbnd: the pipeline sets it for each structure; leave it out'),
        ('SYSTEM: {celldm(1): 10.2}', 'SYSTEM.celldm(1): the pipeline sets it'),
        ('SYSTEM: {hubbard_j0(1): 1.0}', 'SYSTEM.hubbard_j0(1): write the species into the value'),
        ('SYSTEM: {noncolin: true}', 'SYSTEM.noncolin: spinors need twice the bands'),
        ('CONTROL: {tstress: false}', 'CONTROL.tstress: the pipeline sets it'),
        ('ELECTRONS: {conv_thr: 1e-9}', 'ELECTRONS.conv_thr: give labelling.conv_thr_per_atom_Ry'),
        ('SYSTEM: {mixing_mode: local-TF}', 'SYSTEM.mixing_mode: it belongs to ELECTRONS; move it there'),
        ('SYSTEM: {nosymm: true}', 'SYSTEM.nosymm: pw.x has no such key; did you mean nosym?'),
        ('CONTROL: {title: "it\'s"}', 'CONTROL.title: "it\'s" has a quotation mark'),
    ],
)
def test_an_entry_that_the_pipeline_sets_is_refused_with_the_key_that_sets_it(extra, told):
    """By the name of namelist and key, with what to give in its place."""
    assert problem(f'{{extra: {{{extra}}}}}').startswith(f'labelling.extra: {told}')


def test_other_namelists_are_refused():
    """A single point reads no namelist for ions or cells."""
    assert 'extra' in problem('{extra: {IONS: {ion_dynamics: bfgs}}}')


def test_entries_that_are_newer_than_the_list_of_keys_are_let_through():
    """The list of keys ends with a version of pw.x; the values stay as they were written."""
    text = f'{SILICON}labelling: {{extra: {{SYSTEM: {{a_new_key: 3, nosym: true}}, ELECTRONS: {{mixing_beta: 0.2}}}}}}'
    expansion = ConfigExpander(text).expand()
    expected = {'SYSTEM': {'a_new_key': 3, 'nosym': True}, 'ELECTRONS': {'mixing_beta': 0.2}}
    assert expansion.configuration.labelling.extra == expected
    assert expansion.origins['labelling.extra.SYSTEM.nosym'] == 'user'
    assert ConfigExpander(expansion.dump()).expand().configuration == expansion.configuration


@pytest.mark.parametrize(
    ('labelling', 'told'),
    [
        (
            '{dispersion: ts}',
            "labelling.dispersion: 'ts': Tkatchenko-Scheffler is not implemented with ultrasoft or PAW",
        ),
        ('{dispersion: d4}', "labelling.dispersion: 'd4': pw.x or its interface here has no such correction"),
        (
            '{dispersion: d2, dispersion_three_body: true}',
            'labelling: dispersion_three_body: the three-body term is one',
        ),
        ('{dispersion: d2, functional: PBEsol}', 'labelling: dispersion: d2 has no parameters for PBEsol here'),
        ('{extra: {SYSTEM: {vdw_corr: ts}}}', 'labelling.extra: SYSTEM.vdw_corr: give labelling.dispersion'),
        ('{extra: {CONTROL: {dipfield: true}}}', 'labelling.extra: CONTROL.dipfield: a sawtooth field has no stress'),
        ('{extra: {SYSTEM: {tot_charge: 1}}}', 'labelling.extra: SYSTEM.tot_charge: give labelling.charge'),
        ('{hubbard_projector: norm-atomic}', "labelling.hubbard_projector: 'norm-atomic': pw.x has no forces with it"),
        ('{hubbard: {Si: 3}}', "labelling: hubbard.Si: write it as ELEMENT-MANIFOLD, as in 'Ni-3d: 6.0'"),
        ('{hubbard: {Si-3d: 3}}', 'labelling: hubbard.Si-3d: 3d is no valence shell of Si; it has 3s, 3p'),
        (
            '{hubbard: {Si-3p: 3}}',
            'labelling: hubbard.Si-3p: pw.x before 7.1 has the manifold built in, and has none for',
        ),
        ('{hubbard: {Ni-3d: 6}}', 'labelling.hubbard.Ni: Ni is not in the system (Si); remove it'),
        ('{charge: 0.5}', 'labelling.charge: 0.5 is not a whole number'),
        ('{boundary: 2d}', 'labelling.boundary: 2d needs the vacuum along z'),
    ],
)
def test_what_cannot_be_computed_is_refused_by_name(labelling, told):
    """With the key, and what to give in its place."""
    assert problem(labelling).startswith(told)


def test_manifolds_are_those_of_valence():
    """Of each block, with the shell that its bonds or its moments are made of; semicore shells are none."""
    right = {'H-1s', 'O-2p', 'Ti-3d', 'Ni-3d', 'Zn-3d', 'Mo-4d', 'Ce-4f', 'W-5d', 'U-5f', 'Ga-3d'}
    wrong = {'H-2s', 'O-1s', 'Ni-4d', 'Ni-3p', 'Mg-3d', 'Ce-5f', 'Xx-3d'}
    assert not list(hubbard_problems(dict.fromkeys(right, 4.0), 'namelist'))
    assert len(list(hubbard_problems(dict.fromkeys(wrong, 4.0), 'card'))) == len(wrong)
    assert 'one manifold' in next(hubbard_problems({'Ce-4f': 4.0, 'Ce-5d': 1.0}, 'card'))


@pytest.mark.parametrize(
    ('version', 'syntax'), [('6.7MaX', 'namelist'), ('7.0', 'namelist'), ('7.1', 'card'), ('7.4.1', 'card')]
)
def test_the_version_of_pw_decides_how_it_is_told_of_u(version, syntax):
    """The other way is refused, as an older pw.x passes over a card that it does not know."""
    text = (
        'system: {prototype: rocksalt, composition: NiO, lattice_constant_A: 4.17}\nlabelling: {hubbard: {Ni-3d: 6.0}}'
    )
    known = Recommendation({'Ni': (75.0, 476.0), 'O': (38.0, 152.0)})
    known.pw_version = version
    expansion = ConfigExpander(text).expand(known)
    assert expansion.configuration.labelling.hubbard_syntax == syntax
    assert version in expansion.reasons['labelling.hubbard_syntax']
    other = {'card': 'namelist', 'namelist': 'card'}[syntax]
    told = problem(f'{{hubbard: {{Ni-3d: 6.0}}, hubbard_syntax: {other}}}', text.partition('labelling')[0], known)
    assert told.startswith(f'labelling.hubbard_syntax: {other}, but pw.x is version {version}')


def test_u_needs_a_known_version_of_pw():
    """Where the profile does not know it, the user says in which way pw.x is told."""
    system = 'system: {prototype: rocksalt, composition: NiO, lattice_constant_A: 4.17}\n'
    unknown = Recommendation({'Ni': (75.0, 476.0), 'O': (38.0, 152.0)})
    told = problem('{hubbard: {Ni-3d: 6.0}}', system, unknown)
    assert 'init --pw PATH' in told and 'hubbard_syntax: namelist' in told
    text = f'{system}labelling: {{hubbard: {{Ni-3d: 6.0}}, hubbard_syntax: card}}'
    assert ConfigExpander(text).expand(unknown).configuration.labelling.hubbard_syntax == 'card'


def test_a_recipe_below_what_is_recommended_is_a_remark():
    """At the value in the full configuration, and as a warning; what is good enough has none."""
    family = {'B': (43.0, 325.0), 'N': (44.0, 320.0)}
    system = 'system: {prototype: zincblende, composition: BN, lattice_constant_A: 3.6}\nprotocol: balanced\n'
    poor = ConfigExpander(f'{system}labelling: {{ecutwfc_Ry: 30, kpoints_distance: 0.3}}').expand(family)
    assert set(poor.remarks) == {'labelling.ecutwfc_Ry', 'labelling.kpoints_distance'}
    assert "below the family's 44 Ry for N" in poor.dump() and 'coarser than the 0.2 1/Å' in poor.dump()
    assert [line.split(':')[0] for line in poor.warnings()] == ['labelling.ecutwfc_Ry', 'labelling.kpoints_distance']
    good = ConfigExpander(f'{system}labelling: {{ecutwfc_Ry: 44, kpoints_distance: 0.2}}').expand(family)
    assert not good.remarks and not ConfigExpander(f'{SILICON}protocol: fast').expand({'Si': (24.0, 96.0)}).remarks


@pytest.mark.parametrize(
    ('labelling', 'told'),
    [('{charge: 1}', 'uniform background'), ('{dispersion: xdm}', 'not the derivatives of its energy')],
)
def test_what_has_a_catch_is_told_before_the_run(labelling, told):
    """As a warning with the key."""
    (warning,) = ConfigExpander(f'{SILICON}labelling: {labelling}').expand().warnings()
    assert told in warning and warning[:10] == 'labelling.'


@pytest.mark.parametrize(
    ('source', 'is_told'),
    [
        *((one, True) for one in (graphite(), dry_ice(), selenium(), bulk('Ar', 'fcc', a=5.3))),
        (in_a_box('H2O', 8.0) + molecule('H2O', positions=[[1, 1, 1], [1.96, 1, 1], [0.76, 1.93, 1]]), True),
        *((one, False) for one in (bulk('Si'), bulk('NaCl', 'rocksalt', a=5.64), layer(10.0), slab())),
        *((one, False) for one in (in_a_box('CH4', 9.0), bulk('Cs'), bulk('Zn'), bulk('NiO', 'rocksalt', a=4.18))),
    ],
)
def test_parts_that_only_dispersion_binds_are_told(source, is_told):
    """Layers, molecules side by side, rare gases; not what is bonded throughout, nor what is alone."""
    assert (missing_dispersion([source], {}) is not None) is is_told
    assert missing_dispersion([source], {'dispersion': 'd3bj'}) is None


def test_the_dipole_of_a_slab_with_two_sides_is_told():
    """Where it is labelled as periodic; a hydrogenated side makes the difference, the same on both does not."""
    clean = slab()
    one_side = clean + Atoms('H', [clean.positions[clean.positions[:, 2].argmax()] + [0, 0, 1.5]])
    assert (
        uncorrected_dipole([clean], '3d') is None
        and uncorrected_dipole([bulk('GaAs', 'zincblende', a=5.65)], '3d') is None
    )
    assert 'a slab whose two sides differ' in str(uncorrected_dipole([one_side], None))
    assert uncorrected_dipole([one_side], '2d') is None


def test_the_boundary_follows_from_the_vacuum():
    """2d of a layer and 0d of a molecule in cells that suit them; else 3d, with the reason; nothing of bulk."""
    assert suggested_boundary([layer(24.0)])['boundary'] == ('2d', 'vacuum along c')
    value, reason = suggested_boundary([slab()])['boundary']
    assert value == '3d' and 'add vacuum' in reason
    assert suggested_boundary([in_a_box('H2O', 9.0)])['boundary'][0] == '0d'
    assert suggested_boundary([in_a_box('C6H6', 9.5)])['boundary'][0] == '3d'
    chain = Atoms('HF', [(4, 4, 0.0), (4, 4, 0.95)], cell=[8, 8, 2.5], pbc=True)
    value, reason = suggested_boundary([chain])['boundary']
    assert value == '3d' and reason.startswith('vacuum along a, b: pw.x has no Coulomb interaction')
    assert suggested_boundary([bulk('Si')]) == {} and suggested_boundary([bulk('Si'), layer(24.0)]) == {}
