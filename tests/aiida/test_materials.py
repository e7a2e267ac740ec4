"""Materials with the real pw.x at cutoffs at which their physics is right: oxides, molecules, layers, magnets.

They take minutes each. Each holds what the pipeline labels against what is known of the material.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from aiida import engine, orm
from aiida_pseudo.data.pseudo import UpfData
from ase import Atoms
from ase.build import bulk, molecule
from ase.units import GPa

from aiida_mlip_autopipe.data import FramesData
from aiida_mlip_autopipe.labelling.espresso.parameters import EspressoParameters
from aiida_mlip_autopipe.science.systems import recognised
from aiida_mlip_autopipe.workflows.labelling.engine import LabellingEngineWorkChain
from aiida_mlip_autopipe.workflows.labelling.relaxation import RelaxationWorkChain
from tests.aiida.test_magnets import nickel_oxide
from tests.science.test_dimensionality import graphite
from tests.support.profiles import PSEUDO_FOLDER

pytestmark = pytest.mark.nightly

FILES = {
    'C': 'C.pbe-rrkjus.UPF',
    'Fe': 'Fe.pbe-nd-rrkjus.UPF',
    'Ni': 'Ni.pbe-nd-rrkjus.UPF',
    'O': 'O.pbe-rrkjus.UPF',
}
OPTIONS = {
    'resources': {'num_machines': 1, 'num_mpiprocs_per_machine': 1},
    'max_wallclock_seconds': 3000,
    'withmpi': False,
}


@pytest.fixture
def stage(pw_code) -> Callable[..., dict[str, Any]]:
    """Return a function that gives the inputs of a stage that labels some elements."""

    def factory(elements: str, **parameters: Any) -> dict[str, Any]:
        pseudos = {f'pseudo_{one}': UpfData(PSEUDO_FOLDER / FILES[one]).store() for one in elements.split()}
        asked = {'max_concurrent': 1, 'conv_thr_per_atom_Ry': 1e-7, **parameters}
        return {
            'parameters': EspressoParameters(**asked).model_dump(mode='json'),
            'labelling': {'code': pw_code, **pseudos},
            'options': OPTIONS,
        }

    return factory


def label(frames: list[Atoms], inputs: dict[str, Any]) -> list[Atoms]:
    """Return the labelled frames; none is rejected."""
    for number, atoms in enumerate(frames):
        atoms.info |= {'frame_id': f'frame-{number}', 'origin': f'frame-{number}', 'config_type': 'seed'}
    outputs, node = engine.run_get_node(LabellingEngineWorkChain, candidates=FramesData.from_atoms(frames), **inputs)
    assert node.is_finished_ok, node.exit_message
    assert not outputs['rejected'].get_dict()
    return outputs['labelled'].get_atoms()


def test_nickel_oxide_is_labelled_in_its_antiferromagnetic_state(stage):
    """With U on Ni, at a converged cutoff: it lies below the ferromagnet, under little pressure."""
    inputs = stage(
        'Ni O', spin_polarised=True, magnetic_order='from_file', hubbard={'Ni-3d': 6.0},
        ecutwfc_Ry=45, ecutrho_Ry=360, kpoints_distance=0.9,
    )  # fmt: skip
    antiferromagnet, ferromagnet = nickel_oxide('afm'), nickel_oxide('fm')
    ferromagnet.set_initial_magnetic_moments(np.abs(ferromagnet.get_initial_magnetic_moments()))
    (afm,), (fm,) = label([antiferromagnet], inputs), label([ferromagnet], inputs)
    difference = (fm.info['REF_energy'] - afm.info['REF_energy']) / len(afm)
    pressure = -np.mean(afm.info['REF_stress'][:3]) / GPa
    print(f'E(FM) - E(AFM) = {1000 * difference:.1f} meV/atom; {pressure:.1f} GPa; {afm.arrays["site_moments_uB"]}')
    assert 0.005 < difference < 0.1
    assert fm.info['total_magnetization_uB'] == pytest.approx(4, abs=0.2)
    assert afm.info['total_magnetization_uB'] == pytest.approx(0, abs=0.05)
    moments = afm.arrays['site_moments_uB']
    assert moments[0] > 1.3 and moments[2] == pytest.approx(-moments[0], abs=0.05)
    assert abs(pressure) < 20


def test_molecular_oxygen_is_a_triplet(stage):
    """It has two unpaired electrons, and lies 1 eV below the molecule without spin."""
    atoms = molecule('O2', cell=[7.0] * 3, pbc=True)
    atoms.center()
    atoms = recognised(atoms)
    cutoffs = {'ecutwfc_Ry': 35, 'ecutrho_Ry': 280}
    (triplet,) = label([atoms.copy()], stage('O', spin_polarised=True, **cutoffs))
    (singlet,) = label([atoms.copy()], stage('O', **cutoffs))
    difference = singlet.info['REF_energy'] - triplet.info['REF_energy']
    print(f'E(without spin) - E(triplet) = {difference:.3f} eV')
    assert triplet.info['total_magnetization_uB'] == pytest.approx(2, abs=0.05)
    assert difference == pytest.approx(1.0, abs=0.2)
    assert 'REF_stress' not in triplet.info


def test_graphite_keeps_its_layers_apart(stage):
    """Relaxed with D3, its layers are where the labels of a scan of their distance have the lowest energy."""
    inputs = stage('C', dispersion='d3', ecutwfc_Ry=35, ecutrho_Ry=280, kpoints_distance=0.4)
    start = graphite(c=7.0)
    outputs, node = engine.run_get_node(
        RelaxationWorkChain, structure=orm.StructureData(ase=start), what=orm.Str('cell'), **inputs
    )
    assert node.is_finished_ok, node.exit_message
    (relaxed,) = outputs['structure'].get_atoms()
    found = relaxed.cell.lengths()[2] / 2
    frames = []
    for factor in (0.94, 0.98, 1.02, 1.06):
        atoms = relaxed.copy()
        atoms.set_cell(relaxed.cell.array * [[1], [1], [factor]], scale_atoms=True)
        frames.append(atoms)
    labelled = label(frames, inputs)
    curve = np.polyfit([atoms.cell.lengths()[2] / 2 for atoms in labelled],
                       [atoms.info['REF_energy'] for atoms in labelled], 3)  # fmt: skip
    (lowest,) = (root for root in np.roots(np.polyder(curve)) if np.polyval(np.polyder(curve, 2), root) > 0)
    print(f'layers {found:.3f} Å apart, lowest energy at {lowest:.3f} Å; in-plane {relaxed.cell.lengths()[0]:.3f} Å')
    assert found == pytest.approx(lowest, rel=0.03)
    assert found == pytest.approx(3.355, rel=0.05)  # experiment, 0 K
    assert relaxed.cell.lengths()[0] == pytest.approx(2.46, rel=0.01)


def test_iron_has_its_moment(stage):
    """A ferromagnet of 2.2 µB an atom, under little pressure at its experimental lattice constant."""
    inputs = stage(
        'Fe', spin_polarised=True, magnetic_order='ferromagnetic', ecutwfc_Ry=40, ecutrho_Ry=480, kpoints_distance=0.4
    )
    (frame,) = label([bulk('Fe', a=2.866)], inputs)
    pressure = -np.mean(frame.info['REF_stress'][:3]) / GPa
    print(f'{frame.info["total_magnetization_uB"]:.2f} uB, {pressure:.1f} GPa')
    assert frame.info['total_magnetization_uB'] == pytest.approx(2.2, abs=0.25)
    assert abs(pressure) < 10
