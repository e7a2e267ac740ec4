"""The source of the seeds is relaxed by the real pw.x: where it ends is where its labels have no pressure."""

from __future__ import annotations

import numpy as np
import pytest
from aiida import engine, orm
from ase.build import bulk
from ase.units import GPa

from aiida_mlip_autopipe.data import FramesData
from aiida_mlip_autopipe.labelling.espresso.parameters import EspressoParameters
from aiida_mlip_autopipe.workflows.labelling.engine import LabellingEngineWorkChain
from aiida_mlip_autopipe.workflows.labelling.relaxation import RelaxationWorkChain

THEORY = {'ecutwfc_Ry': 24, 'ecutrho_Ry': 96, 'kpoints_distance': 1.1, 'conv_thr_per_atom_Ry': 1e-9}
OPTIONS = {
    'resources': {'num_machines': 1, 'num_mpiprocs_per_machine': 1},
    'max_wallclock_seconds': 600,
    'withmpi': False,
}


@pytest.fixture
def inputs(pw_code, pseudo_family):
    """Return what a stage is given beside its structures."""
    return {
        'parameters': EspressoParameters(**THEORY).model_dump(mode='json'),
        'labelling': {'code': pw_code, 'pseudo_Si': pseudo_family.get_pseudo('Si')},
        'options': OPTIONS,
    }


@pytest.mark.parametrize(
    ('a', 'n_passes'),
    [(5.55, 1), pytest.param(6.2, 1, marks=pytest.mark.nightly), pytest.param(4.9, 2, marks=pytest.mark.nightly)],
)
def test_a_crystal_ends_without_pressure(inputs, a, n_passes):
    """Silicon far from the minimum of its labels: the cell changes, it is diamond as before, and the report says so.

    More than a tenth off in length, as a guessed prototype may be, it ends in the same cell; where that cell has fewer
    k-points than the one it started from, it is relaxed once more with those.
    """
    structure = orm.StructureData(ase=bulk('Si', 'diamond', a=a)).store()
    outputs, node = engine.run_get_node(RelaxationWorkChain, structure=structure, what=orm.Str('cell'), **inputs)
    assert node.is_finished_ok, node.exit_message
    assert len([job for job in node.called if job.process_label == 'PwRelaxWorkChain']) == n_passes
    (relaxed,) = outputs['structure'].get_atoms()
    (moved,) = outputs['report']['structures']
    assert moved['volume_ratio'] == pytest.approx(relaxed.cell.volume / structure.get_cell_volume())
    assert 5.57 < np.cbrt(4 * relaxed.cell.volume) < 5.73  # large, as there are few k-points
    assert moved['largest_shift_A'] < 1e-3
    angles = relaxed.cell.angles()
    np.testing.assert_allclose(angles, 60, atol=0.01)

    relaxed.info = {'frame_id': 'a', 'origin': 'a', 'config_type': 'seed'}
    labelled, _ = engine.run_get_node(LabellingEngineWorkChain, candidates=FramesData.from_atoms([relaxed]), **inputs)
    (frame,) = labelled['labelled'].get_atoms()
    assert abs(np.mean(frame.info['REF_stress'][:3])) / GPa < 0.2


def test_a_relaxation_that_fails_says_why(inputs):
    """Atoms on top of each other make pw.x fail."""
    atoms = bulk('Si', 'diamond', a=5.43)
    atoms.positions[1] = atoms.positions[0]
    structure = orm.StructureData(ase=atoms).store()
    _, node = engine.run_get_node(RelaxationWorkChain, structure=structure, what=orm.Str('positions'), **inputs)
    assert node.exit_status == RelaxationWorkChain.exit_codes.ERROR_NOT_RELAXED.status
    assert 'Structure 0 of system was not relaxed: PwRelaxWorkChain' in node.exit_message
