"""The recipe of the labels in the inputs of pw.x, of single jobs and of batches; and with the real pw.x."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from aiida import engine, orm
from aiida.plugins import CalculationFactory, DataFactory
from ase import Atoms
from ase.build import bulk

from aiida_mlip_autopipe.cli.setup import keep_version
from aiida_mlip_autopipe.data import FramesData
from aiida_mlip_autopipe.labelling.answers import CodeSetup
from aiida_mlip_autopipe.labelling.espresso.hubbard import U_IGNORED, missing_orbitals
from aiida_mlip_autopipe.labelling.espresso.inputs import dft_of, pw_input
from aiida_mlip_autopipe.labelling.espresso.labeller import PSEUDO, EspressoLabeller
from aiida_mlip_autopipe.labelling.espresso.parameters import EspressoParameters
from aiida_mlip_autopipe.labelling.espresso.pseudos import DEBIAN_FOLDER
from aiida_mlip_autopipe.labelling.espresso.upf import Header, read_header
from aiida_mlip_autopipe.labelling.espresso.version import ask_version, version_of_code, version_tuple
from aiida_mlip_autopipe.workflows.labelling.engine import LabellingEngineWorkChain

EXTRA = {'SYSTEM': {'nosym': True, 'hubbard_j0': {'Si': 1.5, 'C': 1.0}}, 'ELECTRONS': {'mixing_beta': 0.2}}
HEADERS = {
    'B.pbe-n-rrkjus_psl.1.0.0.UPF': Header('PBE', 'USPP', 43.0, 325.0, ('2s', '2p')),
    'Ni.pbe-spn-kjpaw_psl.1.0.0.UPF': Header('PBE', 'PAW', 75.0, 476.0, ('3s', '4s', '3p', '3d')),
    'Fe.pbesol-spn-kjpaw_psl.1.0.0.UPF': Header('PBESOL', 'PAW', 71.0, 496.0, ('3s', '4s', '3p', '3d')),
    'Si.pbe-rrkj.UPF': Header('PBE', 'NC', None, None, ('3s', '3p')),
    'H.blyp-vbc.UPF': Header('BLYP', 'NC', 60.0, 240.0, ('1s',)),
    'C_3.98148.UPF': Header('LDA', 'NC', None, None, ()),
}
OWN = {'outdir', 'prefix', 'pseudo_dir', 'verbosity'}


def silicon(**info: Any) -> Atoms:
    """Return two displaced atoms of silicon."""
    atoms = bulk('Si')
    atoms.positions[1] += 0.05
    atoms.info.update({'frame_id': 'si', **info})
    return atoms


def labeller(pseudos: dict[str, Any], **asked: Any) -> EspressoLabeller:
    """Return a labelling code with some parts of a recipe."""
    nodes = {f'{PSEUDO}{element}': pseudo for element, pseudo in pseudos.items()}
    return EspressoLabeller(EspressoParameters(**asked), nodes)


def entries(text: str) -> dict[str, str]:
    """Return the entries of all namelists of an input of pw.x, and its card HUBBARD as one entry."""
    found = dict(re.findall(r'^ *([a-z_0-9]+(?:\([\d,]+\))?) = *(\S.*)$', text, re.MULTILINE))
    card = text.partition('HUBBARD')[2].split()
    return {name: value for name, value in found.items() if name not in OWN} | (
        {'HUBBARD': ' '.join(card)} if card else {}
    )


def written(asked: EspressoLabeller, atoms: Atoms) -> tuple[dict[str, str], dict[str, str]]:
    """Return the entries that aiida-quantumespresso writes for a candidate, and those of a batch."""
    picked: Any = asked.pick(atoms)
    pseudos = {kind.name: asked.pseudos[kind.symbol] for kind in picked['structure'].kinds}
    generate = CalculationFactory('quantumespresso.pw')._generate_pwcp_inputdata
    z_valence = {element: pseudo.z_valence for element, pseudo in asked.pseudos.items()}
    single, _ = generate(picked['parameters'], {}, pseudos, picked['structure'], picked['kpoints'])
    return entries(single), entries(
        pw_input(atoms, asked.parameters, z_valence, dft=dft_of(asked.parameters, asked.pseudos))
    )


@pytest.fixture
def pseudos(pseudo_family: orm.Group) -> dict[str, Any]:
    """Return the pseudopotential of silicon."""
    return {'Si': pseudo_family.get_pseudo('Si')}


@pytest.fixture(scope='module')
def nickel_oxide() -> dict[str, Any]:
    """Return pseudopotentials of nickel and oxygen, as nodes."""
    files = {'Ni': 'Ni.pbe-spn-kjpaw_psl.1.0.0.UPF', 'O': 'O.pbe-kjpaw.UPF'}
    return {element: DataFactory('pseudo.upf')(DEBIAN_FOLDER / name).store() for element, name in files.items()}


def test_entries_of_ones_own_are_written_alike_by_job_and_batch(pseudos):
    """With the number of the species for a value by element; an element that is not there is left out."""
    single, batch = written(labeller(pseudos, extra=EXTRA), silicon())
    assert single == batch
    assert batch['nosym'] == '.true.' and float(batch['mixing_beta'].replace('d', 'e')) == 0.2
    assert 'hubbard_j0(1)' in batch and 'hubbard_j0(2)' not in batch


def test_what_is_left_at_its_default_leaves_earlier_labels_valid(pseudos):
    """The level of theory names no part of a recipe that is off, so that fingerprints of before still hold."""
    plain, given = labeller(pseudos), labeller(pseudos, extra=EXTRA)
    assert set(plain.level_of_theory()) == {
        *('functional', 'ecutwfc_Ry', 'ecutrho_Ry', 'kpoints_distance', 'smearing', 'degauss_Ry', 'spin_polarised'),
        'pseudos',
    }
    assert given.level_of_theory()['extra'] == EXTRA and given.fingerprint() != plain.fingerprint()
    assert given.record()['extra'] == EXTRA
    assert 'nosym' in given.sentence() and any('nosym' in value for _, value in given.rows())


@pytest.mark.parametrize(
    ('asked', 'expected'),
    [
        ({'dispersion': 'd2'}, {'vdw_corr': "'dft-d'"}),
        ({'dispersion': 'd3'}, {'vdw_corr': "'dft-d3'", 'dftd3_version': '3', 'dftd3_threebody': '.false.'}),
        (
            {'dispersion': 'd3bj', 'dispersion_three_body': True},
            {'vdw_corr': "'dft-d3'", 'dftd3_version': '4', 'dftd3_threebody': '.true.'},
        ),
        ({'dispersion': 'xdm'}, {'vdw_corr': "'xdm'"}),
        ({'boundary': '2d'}, {'assume_isolated': "'2D'"}),
        ({'boundary': '0d'}, {'assume_isolated': "'mt'"}),
        ({'charge': -1}, {'tot_charge': '-1'}),
        ({'functional': 'PBEsol'}, {'input_dft': "'pbesol'"}),
        ({'functional': 'pbe'}, {}),
    ],
)
def test_each_part_of_a_recipe_is_an_entry(pseudos, asked, expected):
    """Job and batch write the same, and a plain recipe has none of it; each has its own fingerprint, key and words."""
    plain, given = labeller(pseudos), labeller(pseudos, **asked)
    (before, _), (single, batch) = written(plain, silicon()), written(given, silicon())
    assert single == batch
    different = {name: value for name, value in batch.items() if before.get(name) != value} | {'nbnd': ''}
    assert different == expected | {'nbnd': ''}
    if expected:
        assert (
            len({one.fingerprint() for one in (plain, given)})
            == len({one.key(silicon()) for one in (plain, given)})
            == 2
        )
        assert given.sentence() != plain.sentence() and given.rows() != plain.rows()


def test_an_isolated_atom_is_neutral_in_its_own_box(pseudos):
    """Its energy is the zero of all others, so charge and boundary of the run are not its own."""
    atom = Atoms('Si', cell=[10.0] * 3, pbc=True, info={'config_type': 'IsolatedAtom', 'frame_id': 'atom'})
    single, batch = written(labeller(pseudos, charge=1, boundary='0d', dispersion='d3'), atom)
    assert single == batch and 'tot_charge' not in batch and 'assume_isolated' not in batch
    assert batch['vdw_corr'] == "'dft-d3'"


def test_bands_are_those_of_the_charged_cell(pseudos):
    """An anion has more electrons than its atoms."""
    bands = [int(written(labeller(pseudos, charge=charge), silicon())[1]['nbnd']) for charge in (4, 0, -4)]
    assert bands == sorted(bands) and len(set(bands)) == 3


@pytest.mark.parametrize('projector', ['atomic', 'ortho-atomic'])
def test_u_is_in_the_namelist_or_on_the_card(nickel_oxide, projector):
    """As the version of pw.x reads it, by species; from job and batch alike."""
    oxide = bulk('NiO', 'rocksalt', a=4.17)
    oxide.info['frame_id'] = 'oxide'
    asked = {'hubbard': {'Ni-3d': 6.0}, 'hubbard_projector': projector}
    single, batch = written(labeller(nickel_oxide, **asked), oxide)
    assert single == batch and 'HUBBARD' not in batch
    assert (batch['lda_plus_u'], batch['u_projection_type']) == ('.true.', f"'{projector}'")
    assert float(batch['hubbard_u(1)'].replace('d', 'e')) == 6.0 and 'hubbard_u(2)' not in batch
    single, batch = written(labeller(nickel_oxide, **asked, hubbard_syntax='card'), oxide)
    assert single == batch and 'lda_plus_u' not in batch
    assert batch['HUBBARD'] == f'{projector} U Ni-3d 6.0'
    levels = {labeller(nickel_oxide, **asked, hubbard_syntax=syntax).fingerprint() for syntax in ('card', 'namelist')}
    assert len(levels) == 1


def test_a_structure_without_an_element_of_u_is_told_nothing_of_it(pseudos, nickel_oxide):
    """The isolated atom of oxygen, say; that of nickel has it as the oxide has."""
    oxygen, nickel = (
        Atoms(one, cell=[10.0] * 3, pbc=True, info={'config_type': 'IsolatedAtom', 'frame_id': one})
        for one in ('O', 'Ni')
    )
    for syntax, sign in (('namelist', 'lda_plus_u'), ('card', 'HUBBARD')):
        asked = labeller(nickel_oxide, hubbard={'Ni-3d': 6.0}, hubbard_syntax=syntax)
        assert all(sign not in found for found in written(asked, oxygen))
        assert all(sign in found for found in written(asked, nickel))


def test_what_the_pseudopotentials_cannot_do_is_refused_before_the_run(pseudo_family):
    """XDM without PAW, a functional that is neither theirs nor known, an orbital that they have not."""
    find = EspressoLabeller.find_nodes

    def told(**asked: Any) -> str:
        with pytest.raises(ValueError) as caught:
            find(EspressoParameters(pseudo_family=pseudo_family.label, **asked), ['Si'])
        return str(caught.value)

    assert 'labelling.dispersion: xdm integrates the all-electron density' in told(dispersion='xdm')
    assert 'Si (NC)' in told(dispersion='xdm')
    assert told(functional='r2SCAN').startswith(
        'labelling.functional: r2SCAN is not that of the pseudopotentials (Si: PBE)'
    )
    assert 'labelling.hubbard.Si-3d' in missing_orbitals({'Si-3d': 2.0}, {'Si': ('3s', '3p')})[0]
    assert f'{PSEUDO}Si' in find(EspressoParameters(pseudo_family=pseudo_family.label), ['Si'])


def test_a_header_tells_what_the_pseudopotential_is():
    """Functional, type, suggested cutoffs and orbitals, of both versions of the format."""
    found = {name: read_header((DEBIAN_FOLDER / name).read_text(errors='replace')) for name in HEADERS}
    assert found == HEADERS


PLUMBING = {'ecutwfc_Ry': 12, 'ecutrho_Ry': 48, 'kpoints_distance': 5.0, 'max_concurrent': 1, 'min_success_fraction': 0}
OPTIONS = {
    'resources': {'num_machines': 1, 'num_mpiprocs_per_machine': 1},
    'max_wallclock_seconds': 300,
    'withmpi': False,
}


def label(pw_code: orm.Code, pseudos: dict[str, Any], atoms: Atoms, **asked: Any) -> orm.WorkChainNode:
    """Label one candidate with the real pw.x, in this process, and return the stage."""
    _, node = engine.run_get_node(
        LabellingEngineWorkChain,
        candidates=FramesData.from_atoms([atoms]),
        parameters=EspressoParameters(**PLUMBING | asked).model_dump(mode='json'),
        labelling={'code': pw_code, **{f'{PSEUDO}{element}': pseudo for element, pseudo in pseudos.items()}},
        options=OPTIONS,
    )
    return node


def test_dispersion_and_functional_reach_pw(pw_code, pseudos):
    """Job and batch agree to the last digit that counts, and both lie below the energy without the correction."""
    atoms = silicon(origin='si', config_type='seed')
    asked = {'functional': 'PBEsol', 'dispersion': 'd3bj'}
    stages = [label(pw_code, pseudos, atoms, **asked, batch_size=size) for size in (1, 2)]
    stages.append(label(pw_code, pseudos, atoms, functional='PBEsol', batch_size=2))
    single, batch, plain = (stage.outputs.labelled.get_atoms()[0].info['REF_energy'] for stage in stages)
    assert single == pytest.approx(batch, abs=1e-6) and batch < plain - 0.05
    levels = [stage.outputs.labelled.label_fingerprint for stage in stages]
    assert levels[0] == levels[1] != levels[2]


def test_u_reaches_pw_and_a_label_without_it_is_rejected(pw_code):
    """By the namelist with forces and stress; the card is one that this pw.x, older than 7.1, passes over."""
    carbon = {'C': DataFactory('pseudo.upf')(DEBIAN_FOLDER / 'C.pbe-n-kjpaw_psl.0.1.UPF').store()}
    atoms = bulk('C')
    atoms.positions[1] += 0.03
    atoms.info.update(frame_id='c', origin='c', config_type='seed')
    asked = {'hubbard': {'C-2p': 3.0}, 'max_stress_GPa': None}
    single, batch = (label(pw_code, carbon, atoms, **asked, batch_size=size) for size in (1, 2))
    assert [stage.outputs.rejected.get_dict() for stage in (single, batch)] == [{}, {}]
    energies = [stage.outputs.labelled.get_atoms()[0].info['REF_energy'] for stage in (single, batch)]
    assert energies[0] == pytest.approx(energies[1], abs=1e-6)
    ignored = label(pw_code, carbon, atoms, **asked, hubbard_syntax='card', batch_size=2)
    assert ignored.outputs.rejected['c'] == U_IGNORED and 'labelled' not in ignored.outputs
    batches = [
        one for one in ignored.called_descendants if isinstance(one, orm.CalcJobNode) and 'labels' in one.outputs
    ]
    assert batches[0].outputs.labels.base.attributes.get('failed') == {'0': U_IGNORED}


def test_init_asks_pw_for_its_version(pw_code):
    """From the line that it starts with; what is no pw.x has none."""
    assert version_tuple(str(ask_version(Path(pw_code.filepath_executable)))) >= (6, 7)
    assert ask_version(Path('/bin/true')) is None


def test_the_version_of_a_code_is_kept_with_it(localhost):
    """The extra that init leaves, for codes that no job has told anything of."""
    code = orm.InstalledCode(label='pw-new', computer=localhost, filepath_executable='/bin/true').store()
    assert version_of_code('pw-new@localhost') is None and version_of_code('nowhere@localhost') is None
    keep_version(code, CodeSetup('pw-new', Path('/bin/true'), version='7.4'))
    assert version_of_code('pw-new@localhost') == '7.4'
    keep_version(code, CodeSetup('pw-new', Path('/bin/false'), version='6.0'))
    assert version_of_code('pw-new@localhost') == '7.4'
