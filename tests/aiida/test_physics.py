"""The physics checks as a job, and parity plots as outputs of the evaluation, with a tiny real potential."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiida import engine, orm
from aiida.plugins import CalculationFactory, WorkflowFactory
from ase.build import bulk

from aiida_mlip_autopipe.calculations.evaluate import EvaluateCalculation
from aiida_mlip_autopipe.calculations.functions.physics import join_isolated_atoms, physics_structures
from aiida_mlip_autopipe.data import FramesData, PotentialData
from aiida_mlip_autopipe.science.frames import write_extxyz
from aiida_mlip_autopipe.science.generate.isolated import isolated_atoms
from aiida_mlip_autopipe.science.parameters import EvaluationParameters, PhysicsParameters
from aiida_mlip_autopipe.science.potential.load import inspect_potential, load_calculator
from aiida_mlip_autopipe.worker.job import run_job
from tests.science.test_physics_cells import labelled_by, rows_of

EDGE_A = 5.84  # where the tiny potential has its minimum
PHYSICS = PhysicsParameters(
    checks=['equation_of_state', 'elastic', 'phonons', 'vacancy', 'nve', 'stability'],
    supercell_atoms=8,
    nve_steps=100,
    stability_steps=100,
    max_drift_meV_ps=None,
)


def as_dict(parameters: Any) -> orm.Dict:
    """Return parameters as a node."""
    return orm.Dict(parameters.model_dump(mode='json'))


@pytest.fixture(scope='module')
def potential(aiida_profile, tiny_potential) -> PotentialData:
    """Return the tiny potential as a node."""
    return PotentialData.from_file(tiny_potential, inspect_potential(tiny_potential), origin='file').store()


@pytest.fixture(scope='module')
def labelled(aiida_profile, tiny_potential) -> FramesData:
    """Return what the calcfunction makes of silicon, labelled by the tiny potential itself."""
    frames = physics_structures(structure=orm.StructureData(ase=bulk('Si', a=EDGE_A)), parameters=as_dict(PHYSICS))
    assert frames.creator.process_label == 'physics_structures'
    calculator = load_calculator(tiny_potential, device='cpu')
    return FramesData.from_atoms(labelled_by(calculator, frames.get_atoms()), label_fingerprint='tiny').store()


def test_the_job_judges_a_potential_by_its_own_labels(worker_code, potential, labelled):
    """All passes, and the figures are nodes."""
    assert CalculationFactory('mlip_autopipe.physics_structures') is physics_structures
    outputs, node = engine.run_get_node(
        WorkflowFactory('mlip_autopipe.physics'),
        job={'code': worker_code, 'potential': potential, 'frames': labelled, 'parameters': as_dict(PHYSICS)},
    )
    assert node.is_finished_ok, node.exit_message
    checks = outputs['checks'].get_dict()
    assert checks['passed'] is None and list(checks['checks']) == PHYSICS.checks  # the drift has no tolerance
    assert [checks['checks'][name]['passed'] for name in PHYSICS.checks] == [True] * 4 + [None, True]
    assert rows_of(checks, 'elastic')['C11']['difference'] == pytest.approx(0, abs=1e-6)
    figures = outputs['figures']
    assert sorted(figures.base.repository.list_object_names()) == [
        'equation_of_state.svg', 'figures.json', 'nve.svg', 'phonons.svg', 'stability.svg',
    ]  # fmt: skip
    assert list(json.loads(figures.base.repository.get_object_content('figures.json'))) == [
        'equation_of_state', 'phonons', 'nve', 'stability',
    ]  # fmt: skip


def test_the_stage_of_the_worker(tiny_potential, labelled, tmp_path):
    """A potential whose labels are half as large fails; that is a result and no error."""
    frames = labelled.get_atoms()
    for atoms in frames:
        atoms.info['REF_energy'] *= 2
    write_extxyz(tmp_path / 'frames.extxyz', frames)
    (tmp_path / 'potential.model').write_bytes(tiny_potential.read_bytes())
    job = {
        'schema_version': 1,
        'stage': 'physics',
        'parameters': PhysicsParameters(checks=['equation_of_state'], supercell_atoms=8).model_dump(mode='json'),
        'files': {'potential': 'potential.model', 'frames': 'frames.extxyz'},
        'arguments': {},
    }
    (tmp_path / 'input.json').write_text(json.dumps(job))
    assert run_job('physics', tmp_path / 'input.json') == 0
    result = json.loads((tmp_path / 'result.json').read_text())
    assert result['outputs']['passed'] is False
    row = rows_of(result['outputs'], 'equation_of_state')['bulk_modulus']
    assert row['value'] / row['reference'] == pytest.approx(0.5)
    assert (tmp_path / 'figures/equation_of_state.svg').is_file()


def test_several_crystals_are_refused(aiida_profile):
    """The message says how many there are."""
    frames = FramesData.from_atoms([bulk('Si'), bulk('Ge')])
    with pytest.raises(ValueError, match='structure: 2 frames'):
        physics_structures(structure=frames, parameters=as_dict(PHYSICS))


def test_isolated_atoms_join_the_structures_of_the_checks_at_one_level_of_theory(aiida_profile, labelled):
    """Of the first labels the isolated atoms alone; energies of two levels are not subtracted."""
    known = [*isolated_atoms(['Si'], 8.0), *labelled.get_atoms()[:1]]
    joined = join_isolated_atoms(labelled=labelled, initial=FramesData.from_atoms(known, 'tiny'))
    added = joined.get_atoms()[labelled.n_frames :]
    assert [atoms.info['frame_id'] for atoms in added] == ['atom-Si'] and joined.label_fingerprint == 'tiny'
    with pytest.raises(ValueError, match='labelled has the level of theory tiny, initial other'):
        join_isolated_atoms(labelled=labelled, initial=FramesData.from_atoms(known, 'other'))


def test_the_evaluation_breaks_errors_down_and_draws_them(worker_code, potential, labelled):
    """Groups are among the metrics, and parity plots are a node."""
    outputs, node = engine.run_get_node(
        EvaluateCalculation,
        code=worker_code,
        potential=potential,
        frames=labelled,
        parameters=as_dict(EvaluationParameters()),
    )
    assert node.is_finished_ok, node.exit_message
    metrics = outputs['metrics'].get_dict()
    assert metrics['force_slope'] == pytest.approx(1) and list(metrics['by_element']) == ['Si']
    assert metrics['by_config_type']['physics']['n_frames'] == metrics['n_frames'] == labelled.n_frames
    assert sorted(outputs['figures'].base.repository.list_object_names()) == [
        'figures.json', 'parity_energy.svg', 'parity_forces.svg', 'parity_stress.svg',
    ]  # fmt: skip
