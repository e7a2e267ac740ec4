"""Labels in batches, the ledger of what is not labelled, and labels that were computed before, with the real pw.x."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from aiida import engine, orm
from aiida.manage.caching import enable_caching
from aiida_quantumespresso.parsers.parse_xml.parse import parse_xml
from ase import Atoms
from ase.build import bulk
from ase.units import GPa

from aiida_mlip_autopipe.data import FramesData
from aiida_mlip_autopipe.labelling.espresso.batch import PwBatchCalculation
from aiida_mlip_autopipe.labelling.espresso.batch_parser import NoLabelError, read_label
from aiida_mlip_autopipe.labelling.espresso.parameters import EspressoParameters
from aiida_mlip_autopipe.labelling.espresso.units import ase_stress
from aiida_mlip_autopipe.labelling.labels import check_label, energy_outliers, pressure_warning
from aiida_mlip_autopipe.provenance.states import CandidateState, candidate_states
from aiida_mlip_autopipe.science.label import Label
from aiida_mlip_autopipe.workflows.labelling.engine import LabellingEngineWorkChain
from tests.support.pw_stand_in import write_stand_in

PLUMBING = {
    'ecutwfc_Ry': 12,
    'ecutrho_Ry': 48,
    'kpoints_distance': 1.5,
    'conv_thr_per_atom_Ry': 1e-8,
    'max_concurrent': 1,
    'min_success_fraction': 0.3,
}
OPTIONS = {
    'resources': {'num_machines': 1, 'num_mpiprocs_per_machine': 1},
    'max_wallclock_seconds': 300,
    'withmpi': False,
}


def silicon(shift: float = 0.0) -> Atoms:
    """Return two atoms of silicon, the second displaced by ``shift`` Å along x, y and z; named by the shift in mÅ."""
    atoms = bulk('Si', 'diamond', a=5.43)
    atoms.positions[1] += shift
    atoms.info.update(frame_id=f'si-{shift * 1000:.0f}', origin='si', config_type='seed')
    return atoms


def broken() -> Atoms:
    """Return two atoms that sit on each other: pw.x refuses them."""
    atoms = silicon()
    atoms.positions[1] = atoms.positions[0]
    atoms.info.update(frame_id='broken', origin='broken')
    return atoms


@pytest.fixture
def label(pw_code, pseudo_family):
    """Return a function that labels frames, or a set of them, in this process and returns the stage."""

    def factory(candidates: list[Atoms] | FramesData, code: orm.Code = pw_code, **changes: Any) -> orm.WorkChainNode:
        inputs = {name: changes.pop(name) for name in ('only',) if name in changes}
        if not isinstance(candidates, FramesData):
            candidates = FramesData.from_atoms(candidates)
        _, node = engine.run_get_node(
            LabellingEngineWorkChain,
            candidates=candidates,
            parameters=EspressoParameters(**PLUMBING | changes).model_dump(mode='json'),
            labelling={'code': code, 'pseudo_Si': pseudo_family.get_pseudo('Si')},
            options=OPTIONS,
            **inputs,
        )
        return node

    return factory


def jobs(stage: orm.WorkChainNode) -> list[orm.CalcJobNode]:
    """Return the jobs that a stage really ran, in order."""
    found = [node for node in stage.called_descendants if isinstance(node, orm.CalcJobNode)]
    return sorted((node for node in found if not node.base.caching.is_created_from_cache), key=lambda node: node.pk)


def n_pw(stage: orm.WorkChainNode) -> int:
    """Return how often a stage really ran pw.x."""
    return sum(len(job.inputs.indices.get_list()) if 'indices' in job.inputs else 1 for job in jobs(stage))


def test_a_batch_gives_the_labels_of_single_calculations(label):
    """Energy, forces and stress agree; each frame says which job labelled it, and its lineage leads there."""
    candidates = FramesData.from_atoms([silicon(), silicon(0.1)]).store()
    single, batch = label(candidates), label(candidates, batch_size=2)
    assert single.is_finished_ok and batch.is_finished_ok
    assert len(jobs(single)) == 2 and len(jobs(batch)) == 1 and n_pw(batch) == 2
    for one, other in zip(single.outputs.labelled.get_atoms(), batch.outputs.labelled.get_atoms(), strict=True):
        assert one.info['frame_id'] == other.info['frame_id']
        assert one.info['label_fingerprint'] == other.info['label_fingerprint']
        assert other.info['REF_energy'] == pytest.approx(one.info['REF_energy'], abs=1e-6)
        np.testing.assert_allclose(other.arrays['REF_forces'], one.arrays['REF_forces'], atol=1e-6)
        np.testing.assert_allclose(other.info['REF_stress'], one.info['REF_stress'], atol=1e-6)
        assert other.info['label_job'] == jobs(batch)[0].uuid[:8] != one.info['label_job']
    assert not batch.outputs.rejected.get_dict()
    assert_every_datum_has_a_creator(batch)


def assert_every_datum_has_a_creator(stage: orm.WorkChainNode) -> None:
    """Of what a batch made nothing is without a creator, but inputs and the literals of WorkChains."""
    declared = {link.node.uuid for link in stage.base.links.get_incoming().all()}
    literals = (orm.Int, orm.Str, orm.List, orm.AbstractCode)
    for process in [stage, *stage.called_descendants]:
        for link in [*process.base.links.get_incoming().all(), *process.base.links.get_outgoing().all()]:
            if isinstance(link.node, orm.Data) and link.node.creator is None:
                assert link.node.uuid in declared or isinstance(link.node, literals), (process, link)


def test_what_a_batch_cannot_label_is_labelled_alone(label):
    """The broken candidate goes to the handlers, the others of its batch stay; the ledger has pw.x's own words."""
    candidates = FramesData.from_atoms([silicon(), broken(), silicon(0.05)]).store()
    stage = label(candidates, batch_size=2)
    assert stage.is_finished_ok
    first, alone, second = jobs(stage)
    assert (first.inputs.indices.get_list(), second.inputs.indices.get_list()) == ([0, 1], [2])
    assert first.exit_status == PwBatchCalculation.exit_codes.WARNING_NOT_ALL_LABELLED.status
    assert alone.inputs.structure.label == 'broken'
    assert list(first.outputs.labels.base.attributes.get('failed')) == ['1']
    assert [atoms.info['frame_id'] for atoms in stage.outputs.labelled.get_atoms()] == ['si-0', 'si-50']
    assert list(stage.outputs.rejected.get_dict()) == ['broken']
    assert f'<{alone.pk}> [{alone.exit_status}]' in stage.outputs.rejected['broken']
    states = [CandidateState.LABELLED, CandidateState.FAILED, CandidateState.LABELLED]
    assert [one.state for one in candidate_states(candidates)] == states
    assert job_of(candidates, 2) == second.pk


def job_of(candidates: FramesData, index: int) -> int | None:
    """Return the job that labelled a candidate, as the states know it."""
    return candidate_states(candidates)[index].pk


def test_without_a_label_the_stage_fails_with_its_ledger(label):
    """All fail: the exit codes say so, and each has its reason."""
    stage = label([broken()], batch_size=2)
    assert stage.exit_status == LabellingEngineWorkChain.exit_codes.ERROR_TOO_FEW_LABELS.status
    assert jobs(stage)[0].exit_status == PwBatchCalculation.exit_codes.ERROR_NO_LABEL.status
    assert 'labelled' not in stage.outputs
    assert list(stage.outputs.rejected.get_dict()) == ['broken']


@pytest.mark.parametrize('batch_size', [1, 2])
def test_a_label_is_computed_once(label, batch_size):
    """Whatever else is in the set or the batch, a label that there is comes from there: in both modes, and across."""
    old, new = silicon(0.011 * batch_size), silicon(0.013 * batch_size)  # of this mode alone
    with enable_caching():
        first = label([old], batch_size=batch_size)
    with enable_caching():
        second = label([new, old], batch_size=batch_size)
    with enable_caching():
        other_mode = label([old, new], batch_size=3 - batch_size)
    assert [n_pw(stage) for stage in (first, second, other_mode)] == [1, 1, 0]
    before, twice, thrice = (
        {atoms.info['frame_id']: atoms.info['REF_energy'] for atoms in stage.outputs.labelled.get_atoms()}
        for stage in (first, second, other_mode)
    )
    assert twice == thrice and before.items() <= twice.items() and len(twice) == 2


@pytest.mark.parametrize('batch_size', [1, 2])
def test_labels_of_a_stand_in_that_are_not_finite_are_in_the_ledger(label, localhost, tmp_path, batch_size):
    """NaN among the forces, which no real pw.x gives: in both modes the reason is told and the others are kept."""
    frames = [silicon(0.2), silicon(0.3)]
    position = f'{frames[1].positions[1, 0]:.10f}'
    stand_in = orm.InstalledCode(
        label=f'stand-in-{batch_size}',
        computer=localhost,
        filepath_executable=str(write_stand_in(tmp_path, not_a_number=position)),
        default_calc_job_plugin='quantumespresso.pw',
        with_mpi=False,
    ).store()
    stage = label(frames, code=stand_in, batch_size=batch_size)
    assert stage.is_finished_ok
    assert list(stage.outputs.rejected.get_dict()) == ['si-300']
    assert 'nan and inf/-inf can not be serialized' in stage.outputs.rejected['si-300']
    assert [atoms.info['frame_id'] for atoms in stage.outputs.labelled.get_atoms()] == ['si-200']
    in_batches = [job.outputs.labels.base.attributes.get('failed') for job in jobs(stage) if 'labels' in job.outputs]
    assert in_batches == [{'1': 'energy, forces or stress are not finite'}] * (batch_size > 1)


def test_the_results_of_one_pw_are_read_as_by_the_plugin(tmp_path):
    """Energy, forces and stress are those of aiida-quantumespresso's reader, in ASE's units."""
    write_stand_in(tmp_path)
    label = read_label(tmp_path / 'template.xml', tmp_path / 'template.out')
    with (tmp_path / 'template.xml').open() as handle:
        steps = parse_xml(handle)[0]['trajectory']
    assert label.energy == pytest.approx(steps['energy'][-1], abs=1e-9)
    np.testing.assert_allclose(label.forces, steps['forces'][-1], atol=1e-9)
    np.testing.assert_allclose(label.stress, ase_stress(np.array(steps['stress'][-1])), atol=1e-12)


def test_why_there_is_no_label(tmp_path):
    """What did not start, was killed, ended with an error or did not converge is told apart."""
    write_stand_in(tmp_path)
    result, printed = tmp_path / 'template.xml', tmp_path / 'template.out'
    whole, missing = result.read_text(), tmp_path / 'missing'
    box = '%' * 80
    for content, output, why in (
        (None, None, 'was not started'),
        (None, 'Program PWSCF starts', 'it was killed'),
        (None, f'{box}\n Error in routine cdiaghg (3):\n   problems\n {box}\n', 'routine cdiaghg (3): problems'),
        (whole[: len(whole) // 2], 'Program PWSCF starts', 'it was killed'),
        (whole.replace('<convergence_achieved>true', '<convergence_achieved>false'), '', 'did not converge'),
        (re.sub('<forces rank.*?</forces>', '', whole, flags=re.DOTALL), '', 'are missing'),
    ):
        if content is not None:
            result.write_text(content)
        if output is not None:
            printed.write_text(output)
        with pytest.raises(NoLabelError, match=re.escape(why)):
            read_label(result if content else missing, printed if output is not None else missing)


def test_labels_out_of_bounds_are_refused():
    """Each check names what it found and its bound; isolated atoms have no stress, and an energy of their own."""
    labelling = EspressoParameters(max_force_eV_A=5, max_stress_GPa=50, energy_window_eV=2)
    atoms, forces, stress = silicon(), np.zeros((2, 3)), GPa * np.array([1.0] * 3 + [0.0] * 3)
    assert check_label(atoms, Label(-200.0, forces, stress), labelling) is None
    assert 'max_stress_GPa (50' in check_label(atoms, Label(-200.0, forces, -60 * stress), labelling)
    assert check_label(atoms, Label(-200.0, forces, 60 * stress), EspressoParameters(max_stress_GPa=None)) is None
    assert 'max_force_eV_A (5' in check_label(atoms, Label(-200.0, forces + 4, stress), labelling)
    assert 'not converge' in check_label(atoms, Label(-200.0, forces, stress, converged=False), labelling)
    assert 'finite' in check_label(atoms, Label(float('nan'), forces, stress), labelling)
    atoms.info['config_type'] = 'IsolatedAtom'
    assert check_label(atoms, Label(-200.0, forces, -60 * stress), labelling) is None


def test_an_energy_far_from_its_composition_is_refused():
    """Energies are compared per atom, within a composition, whatever the size of the cell; and not among two."""
    frames = []
    for number, (formula, energy) in enumerate([('Si2', -200), ('Si4', -404), ('Si2', -210), ('GeSi', 0), ('GeSi', 9)]):
        atoms = Atoms(formula, info={'frame_id': f'f{number}', 'REF_energy': energy, 'config_type': 'candidate'})
        frames.append(atoms)
    frames.append(Atoms('Si', info={'frame_id': 'atom', 'REF_energy': 0, 'config_type': 'IsolatedAtom'}))
    found = energy_outliers(frames, 2.0)
    assert list(found) == ['f2'] and '-4.00 eV per atom' in found['f2'] and 'energy_window_eV (2.0)' in found['f2']
    assert energy_outliers(frames, None) == {} == energy_outliers(frames, 4.5)


def test_a_structure_under_pressure_is_told_of():
    """Only of undistorted seeds, whose stress says that their volume is not that of the labels; ASE's sign."""
    frames = [bulk('Si') for _ in range(3)]
    for atoms, method, pressure in zip(frames, ('pristine', 'strained', 'pristine'), (4.7, 30.0, 1.0), strict=True):
        atoms.info |= {'method': method, 'REF_stress': np.array([-pressure * GPa] * 3 + [0.0] * 3)}
    assert 'under 4.7 GPa' in pressure_warning(frames)
    assert pressure_warning(frames[1:]) is None and pressure_warning([]) is None
