"""The LabellingEngine with the real pw.x."""

from __future__ import annotations

import numpy as np
import pytest
from aiida import engine, orm
from ase import Atoms
from ase.build import bulk

from aiida_mlip_autopipe.data import FramesData
from aiida_mlip_autopipe.labelling.espresso.parameters import EspressoParameters
from aiida_mlip_autopipe.workflows.labelling.engine import LabellingEngineWorkChain

PLUMBING = {
    'ecutwfc_Ry': 12,
    'ecutrho_Ry': 48,
    'kpoints_distance': 1.5,
    'conv_thr_per_atom_Ry': 1e-6,
    'atomic_magnetization': {'Si': 2},
}


def silicon(frame_id: str, shift: float = 0.0) -> Atoms:
    """Return two atoms of silicon, the second displaced by ``shift`` Å along x, y and z."""
    atoms = bulk('Si', 'diamond', a=5.43)
    atoms.positions[1] += shift
    atoms.info.update(frame_id=frame_id, origin=frame_id, config_type='seed')
    return atoms


def isolated_silicon() -> Atoms:
    """Return one atom in a small box."""
    atoms = Atoms('Si', cell=[6.0] * 3, pbc=True)
    atoms.info.update(frame_id='atom-Si', origin='atom-Si', config_type='IsolatedAtom')
    return atoms


def label(candidates: list[Atoms], pw_code: orm.Code, pseudo_family: orm.Group, **parameters):
    """Run the LabellingEngine in this process; return its outputs and its node."""
    options = {
        'resources': {'num_machines': 1, 'num_mpiprocs_per_machine': 1},
        'max_wallclock_seconds': 300,
        'withmpi': False,
    }
    return engine.run_get_node(
        LabellingEngineWorkChain,
        candidates=FramesData.from_atoms(candidates),
        parameters=EspressoParameters(**PLUMBING | parameters).model_dump(mode='json'),
        labelling={'code': pw_code, 'pseudo_Si': pseudo_family.get_pseudo('Si')},
        options=options,
    )


def test_labels_are_those_of_pw(pw_code, pseudo_family):
    """Energy, forces and stress arrive with ASE's units and signs, the isolated atom in its triplet."""
    outputs, node = label([isolated_silicon(), silicon('a'), silicon('b', 0.1)], pw_code, pseudo_family)

    assert node.is_finished_ok
    atom, perfect, displaced = outputs['labelled'].get_atoms()
    assert perfect.info['REF_energy'] < displaced.info['REF_energy'] < 2 * atom.info['REF_energy']
    np.testing.assert_allclose(perfect.arrays['REF_forces'], 0, atol=1e-4)
    # The displaced atom is pulled back, and the two forces cancel.
    assert (displaced.arrays['REF_forces'][1] < -0.1).all()
    np.testing.assert_allclose(displaced.arrays['REF_forces'].sum(axis=0), 0, atol=1e-3)
    assert displaced.info['REF_stress'].shape == (6,)
    assert atom.info['config_type'] == 'IsolatedAtom'
    assert outputs['labelled'].label_fingerprint
    magnetization = [
        calculation.outputs.output_parameters['total_magnetization']
        for calculation in node.called_descendants
        if isinstance(calculation, orm.CalcJobNode) and calculation.inputs.structure.label == 'atom-Si'
    ]
    assert magnetization == pytest.approx([2.0], abs=1e-2)


def test_the_stress_has_the_sign_of_ase(pw_code, pseudo_family):
    """A compressed crystal has a negative stress in ASE's convention: it wants to expand."""
    compressed = silicon('compressed')
    compressed.set_cell(compressed.cell * 0.94, scale_atoms=True)
    outputs, _ = label([compressed], pw_code, pseudo_family)
    (frame,) = outputs['labelled'].get_atoms()
    assert (frame.info['REF_stress'][:3] < -0.01).all()


def test_a_failed_label_is_kept_aside(pw_code, pseudo_family):
    """Atoms on top of each other make pw.x fail; the other candidate is labelled all the same."""
    broken = silicon('broken')
    broken.positions[1] = broken.positions[0]
    outputs, node = label([broken, silicon('sound')], pw_code, pseudo_family)
    assert node.is_finished_ok
    assert [atoms.info['frame_id'] for atoms in outputs['labelled'].get_atoms()] == ['sound']


def test_a_label_with_an_unphysical_force_is_rejected(pw_code, pseudo_family):
    """The reason names the force and the bound; too few sound labels fail the stage, with what exists as output."""
    outputs, node = label(
        [silicon('calm'), silicon('wild', 0.1)], pw_code, pseudo_family, max_force_eV_A=0.2, min_success_fraction=0.9
    )
    assert node.exit_status == LabellingEngineWorkChain.exit_codes.ERROR_TOO_FEW_LABELS.status
    assert [atoms.info['frame_id'] for atoms in outputs['labelled'].get_atoms()] == ['calm']
    assert 'max_force_eV_A (0.2)' in outputs['rejected']['wild']


def test_only_the_needed_pseudopotential_must_exist(pw_code, pseudo_family):
    """A candidate whose element has no pseudopotential is refused before anything is submitted."""
    frame = silicon('a')
    frame.symbols[0] = 'Ge'
    with pytest.raises(ValueError, match='no pseudopotential for Ge'):
        label([frame], pw_code, pseudo_family)
