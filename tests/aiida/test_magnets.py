"""Spin with the real pw.x: isolated atoms with their moments, bands that do not suffice, what a label keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from aiida import engine, orm
from aiida_pseudo.data.pseudo import UpfData
from ase import Atoms
from ase.build import bulk, make_supercell
from ase.units import Rydberg

from aiida_mlip_autopipe.calculations.functions.choose_state import choose_state
from aiida_mlip_autopipe.data import FramesData
from aiida_mlip_autopipe.labelling.espresso.labeller import EspressoLabeller
from aiida_mlip_autopipe.labelling.espresso.parameters import EspressoParameters
from aiida_mlip_autopipe.labelling.states import tell_states
from aiida_mlip_autopipe.workflows.autopipe import AutoPipeWorkChain
from aiida_mlip_autopipe.workflows.labelling.engine import LabellingEngineWorkChain
from aiida_mlip_autopipe.workflows.labelling.state import StateWorkChain
from tests.aiida.test_autopipe import TINY
from tests.support.profiles import PSEUDO_FOLDER

FILES = {'H': 'H.pbe-kjpaw.UPF', 'O': 'O.pbe-kjpaw.UPF', 'Fe': 'Fe.pbe-nd-rrkjus.UPF', 'Ni': 'Ni.pbe-nd-rrkjus.UPF'}
PLUMBING = {
    'ecutwfc_Ry': 25,
    'ecutrho_Ry': 100,
    'kpoints_distance': 1.0,
    'conv_thr_per_atom_Ry': 1e-6,
    'max_concurrent': 1,
    'min_success_fraction': 0.0,
}
OPTIONS = {
    'resources': {'num_machines': 1, 'num_mpiprocs_per_machine': 1},
    'max_wallclock_seconds': 300,
    'withmpi': False,
}


@pytest.fixture(scope='module')
def pseudos(aiida_profile) -> dict[str, UpfData]:
    """Return pseudopotentials of Debian's folder that need few plane waves."""
    return {element: UpfData(PSEUDO_FOLDER / file).store() for element, file in FILES.items()}


@pytest.fixture
def label(pw_code, pseudos):
    """Return a function that labels frames in this process and returns the stage."""

    def factory(frames: list[Atoms], **parameters: Any) -> orm.WorkChainNode:
        _, node = engine.run_get_node(
            LabellingEngineWorkChain,
            candidates=FramesData.from_atoms(frames),
            parameters=EspressoParameters(**PLUMBING | parameters).model_dump(mode='json'),
            labelling={'code': pw_code, **{f'pseudo_{one}': pseudo for one, pseudo in pseudos.items()}},
            options=OPTIONS,
        )
        return node

    return factory


def isolated(symbol: str, box: float = 6.0) -> Atoms:
    """Return one atom in a small box."""
    name = f'atom-{symbol}'
    info = {'frame_id': name, 'origin': name, 'config_type': 'IsolatedAtom'}
    return Atoms(symbol, positions=[[box / 2] * 3], cell=[box] * 3, pbc=True, info=info)


def test_isolated_hydrogen_and_oxygen_have_their_moments(label):
    """Hydrogen, whose minority channel is empty, and oxygen, where it is not: with their energies and multiplicities.

    The energy of hydrogen is that of pw.x by hand at this cutoff, 1 eV below the atom without spin.
    """
    stage = label([isolated('H'), isolated('O')], atomic_magnetization={'H': 1, 'O': 2})
    assert not stage.outputs.rejected.get_dict()
    hydrogen, oxygen = stage.outputs.labelled.get_atoms()
    assert hydrogen.info['REF_energy'] == pytest.approx(-0.998 * Rydberg, abs=0.01 * Rydberg)
    assert hydrogen.info['total_magnetization_uB'] == pytest.approx(1, abs=0.01)
    assert oxygen.info['total_magnetization_uB'] == pytest.approx(2, abs=0.01)
    assert hydrogen.info['n_scf_steps'] > 1 and -10 < hydrogen.info['fermi_energy_eV'] < 0
    assert 0.5 < hydrogen.arrays['site_moments_uB'][0] <= 1
    assert 'fermi_energy_eV' not in oxygen.info  # it has one for each spin


def test_an_isolated_atom_that_lost_its_moment_is_rejected_with_both(label):
    """A smearing far too wide fills the empty channel of hydrogen: pw.x converges, and the label is not the atom's."""
    stage = label([isolated('H')], atomic_magnetization={'H': 1}, degauss_Ry=0.6, smearing='gaussian')
    reason = stage.outputs.rejected['atom-H']
    assert 'labelled' not in stage.outputs
    assert 'asks for 1' in reason and 'µB' in reason and 'degauss_Ry' in reason


@pytest.mark.parametrize('wrong', [3, 2, -1])
def test_unpaired_electrons_that_an_atom_cannot_have_are_refused(pseudos, monkeypatch, wrong):
    """More than its pseudopotential has, or of the other parity: told with those that fit, before anything runs."""
    monkeypatch.setattr(
        'aiida_mlip_autopipe.labelling.espresso.family.family_pseudos', lambda _, elements: {'H': pseudos['H']}
    )
    with pytest.raises(ValueError, match=rf'atomic_magnetization\.H: {wrong}, but with the 1 electrons .* has 1 unp'):
        EspressoLabeller.find_nodes(EspressoParameters(atomic_magnetization={'H': wrong}), ['H'])


@pytest.mark.nightly
def test_a_batch_keeps_what_single_labels_keep(label):
    """Magnetisation, Fermi energy and steps of molecular oxygen and hydrogen, in both modes the same."""
    frames = [isolated('H', 5.0)]
    single, batch = (
        label(frames, atomic_magnetization={'H': 1}, batch_size=size).outputs.labelled.get_atoms()[0] for size in (1, 2)
    )
    names = ('total_magnetization_uB', 'absolute_magnetization_uB', 'fermi_energy_eV')
    for name in names:
        assert batch.info[name] == pytest.approx(single.info[name], abs=1e-4)
    assert batch.info['n_scf_steps'] == single.info['n_scf_steps']
    np.testing.assert_allclose(batch.arrays['site_moments_uB'], single.arrays['site_moments_uB'], atol=1e-3)


def iron() -> Atoms:
    """Return two atoms of iron."""
    atoms = bulk('Fe', cubic=True, a=2.83)
    atoms.info.update(frame_id='iron', origin='iron', config_type='seed')
    return atoms


def test_a_label_whose_bands_do_not_suffice_is_rejected_in_a_batch_and_made_again_alone(label, monkeypatch):
    """With ten bands the majority of iron does not fit: the batch says so, and the handler takes more bands."""
    monkeypatch.setattr('aiida_mlip_autopipe.labelling.espresso.inputs.n_bands', lambda *_: 10)
    stage = label([iron()], spin_polarised=True, batch_size=2, ecutwfc_Ry=16, ecutrho_Ry=100, conv_thr_per_atom_Ry=1e-4)
    jobs = [node for node in stage.called_descendants if isinstance(node, orm.CalcJobNode)]
    first, *alone = sorted(jobs, key=lambda node: node.pk)
    reason = first.outputs.labels.base.attributes.get('failed')['0']
    assert 'the highest of 10 bands holds' in reason and 'more of them are needed' in reason
    assert [job.outputs.output_parameters['number_of_bands'] for job in alone][:2] == [10, 14]
    (frame,) = stage.outputs.labelled.get_atoms()
    poor = alone[0].outputs.output_parameters['total_magnetization']
    assert frame.info['total_magnetization_uB'] > poor + 0.1


def test_the_magnetic_order_with_the_lowest_energy_is_taken(pw_code, pseudos):
    """Of iron with parallel, antiparallel and without moments it is the first, by figures; the choice is a change."""
    outputs, node = engine.run_get_node(
        StateWorkChain,
        structure=orm.StructureData(ase=bulk('Fe', cubic=True, a=2.83)),
        parameters=EspressoParameters(
            **PLUMBING | {'ecutwfc_Ry': 20, 'kpoints_distance': 0.7}, spin_polarised=True, magnetic_order='try'
        ).model_dump(mode='json'),
        labelling={'code': pw_code, 'pseudo_Fe': pseudos['Fe']},
        options=OPTIONS,
    )
    assert node.is_finished_ok, node.exit_message
    report = outputs['report'].get_dict()
    assert report['chosen'] == 'ferromagnetic'
    energies = report['energies_eV_atom']
    assert energies['non_magnetic'] > energies['ferromagnetic'] + 0.1
    assert 'antiferromagnetic' in {**energies, **report['rejected']}
    assert outputs['change'].get_dict() == {'labelling': {'magnetic_order': 'ferromagnetic'}}
    assert 'ferromagnetic has the lowest energy' in tell_states(report)


def test_a_state_without_a_label_is_told(aiida_profile):
    """The choice is among those that have one; where none has, there is none."""
    parameters = orm.Dict({'magnetic_order': 'try', 'spin_polarised': True})
    asked = {'parameters_non_magnetic': orm.Dict({'magnetic_order': 'non_magnetic', 'spin_polarised': False})}
    rejected = {'rejected_ferromagnetic': orm.Dict({'source-0': 'its moments are gone'})}
    atoms = iron()
    atoms.info['REF_energy'] = -2.0
    labelled = {'labelled_non_magnetic': FramesData.from_atoms([atoms])}
    chosen = choose_state(parameters=parameters, **asked, **rejected, **labelled)
    assert chosen['change'].get_dict() == {'labelling': {'magnetic_order': 'non_magnetic', 'spin_polarised': False}}
    told = tell_states(chosen['report'].get_dict())
    assert told == 'non_magnetic has the lowest energy; ferromagnetic has no label: its moments are gone'
    assert set(choose_state(parameters=parameters, **asked, **rejected)) == {'report'}


def nickel_oxide(frame_id: str) -> Atoms:
    """Return two formula units with antiparallel moments."""
    atoms = make_supercell(bulk('NiO', 'rocksalt', a=4.18), [[0, 1, 1], [1, 0, 1], [1, 1, 0]])
    atoms.set_initial_magnetic_moments([1.8, 0.0, -1.8, 0.0])
    atoms.info.update(frame_id=frame_id, origin=frame_id, config_type='seed')
    return atoms


def test_an_antiferromagnet_is_labelled_as_one(label):
    """From initial moments to species of pw.x and to the moments of the label, in a batch as alone."""
    asked = {'spin_polarised': True, 'magnetic_order': 'from_file', 'ecutwfc_Ry': 18, 'ecutrho_Ry': 120}
    single, batch = (
        label([nickel_oxide('nio')], batch_size=size, **asked).outputs.labelled.get_atoms()[0] for size in (1, 2)
    )
    for frame in (single, batch):
        assert frame.info['total_magnetization_uB'] == pytest.approx(0, abs=0.02)
        assert frame.info['absolute_magnetization_uB'] > 2
        moments = frame.arrays['site_moments_uB']
        assert moments[0] > 0.5 and moments[2] == pytest.approx(-moments[0], abs=0.02)
        assert frame.get_initial_magnetic_moments().tolist() == [1.8, 0, -1.8, 0]
    assert batch.info['REF_energy'] == pytest.approx(single.info['REF_energy'], abs=1e-4)


def test_a_run_without_an_isolated_atom_ends_before_it_trains_and_says_why(
    worker_code, pw_code, pseudo_family, monkeypatch
):
    """With a tolerance that no moment meets the label is rejected, and the run ends with an exit code of its own."""
    monkeypatch.setattr('aiida_mlip_autopipe.labelling.espresso.magnetism.ATOM_TOLERANCE_UB', -1.0)
    generation = {**TINY['generation'], 'strained': {'n': 0}, 'rattled': {'n': 1}}
    labelling = {**TINY['labelling'], 'batch_size': 9, 'max_concurrent': 1}
    structure = orm.StructureData(ase=bulk('Si', 'diamond', a=5.43)).store()
    builder = AutoPipeWorkChain.get_builder_from_protocol(
        worker_code, pw_code, structure, 'fast', {**TINY, 'generation': generation, 'labelling': labelling}
    )
    _, run = engine.run_get_node(builder)
    assert run.exit_status == AutoPipeWorkChain.exit_codes.ERROR_ISOLATED_ATOMS.status == 351
    assert 'the isolated atom of Si has a moment of 2.00' in run.exit_message and 'asks for 2' in run.exit_message
    assert [link.link_label for link in run.base.links.get_outgoing(orm.WorkChainNode).all()] == ['label_initial']
