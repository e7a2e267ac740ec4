"""Labels of cells with vacuum, with the real pw.x: one k-point along it, no stress, periodic in the data set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from aiida import engine, orm
from aiida.plugins import DataFactory
from ase import Atoms
from ase.build import graphene, molecule

from aiida_mlip_autopipe.data import FramesData
from aiida_mlip_autopipe.labelling.espresso.inputs import kpoints_mesh, pw_parameters
from aiida_mlip_autopipe.labelling.espresso.parameters import EspressoParameters
from aiida_mlip_autopipe.labelling.labels import check_label, labelled_atoms, pressure_warning
from aiida_mlip_autopipe.science.existing_data import read_labelled
from aiida_mlip_autopipe.science.frames import write_extxyz
from aiida_mlip_autopipe.science.label import Label
from aiida_mlip_autopipe.science.systems import recognised
from aiida_mlip_autopipe.workflows.labelling.engine import LabellingEngineWorkChain
from tests.support.profiles import PSEUDO_FOLDER

PSEUDOS = {'C': 'C.pbe-n-kjpaw_psl.0.1.UPF', 'H': 'H.pbe-kjpaw.UPF', 'O': 'O.pbe-kjpaw.UPF'}
PLUMBING = {'ecutwfc_Ry': 25, 'ecutrho_Ry': 200, 'kpoints_distance': 1.0, 'conv_thr_per_atom_Ry': 1e-8}


def named(atoms: Atoms, name: str) -> Atoms:
    """Return a source as its seed."""
    seed = recognised(atoms)
    seed.info |= {'frame_id': name, 'origin': name, 'config_type': 'seed', 'method': 'pristine'}
    return seed


def sheet(height: float = 8.0) -> Atoms:
    """Return graphene, T T F as ASE makes it."""
    atoms = graphene()
    atoms.center(vacuum=height / 2, axis=2)
    return named(atoms, 'graphene')


def water() -> Atoms:
    """Return a molecule in a box."""
    atoms = molecule('H2O', cell=[7.5] * 3, pbc=True)
    atoms.center()
    return named(atoms, 'water')


def test_there_is_one_k_point_along_vacuum_and_no_stress_is_computed():
    assert kpoints_mesh(sheet(20.0), 0.2) == [15, 15, 1]
    assert kpoints_mesh(water(), 0.2) == [1, 1, 1]
    leaning = sheet(20.0)
    leaning.cell[2] += leaning.cell[0]
    assert kpoints_mesh(leaning, 0.2)[2] == 1
    for atoms in (sheet(), water()):
        assert pw_parameters(atoms, EspressoParameters(), {'C': 4, 'H': 1, 'O': 6})['CONTROL']['tstress'] is False


def test_a_label_with_vacuum_needs_no_stress_and_keeps_none():
    seed = sheet()
    label = Label(-300.0, np.zeros((2, 3)), np.full(6, np.nan))
    assert check_label(seed, label, EspressoParameters()) is None
    assert check_label(Atoms(seed.numbers, seed.positions, cell=seed.cell, pbc=True), label, EspressoParameters())
    frame = labelled_atoms(seed, Label(-300.0, np.zeros((2, 3)), np.full(6, -1.0)), 'level')
    assert frame.pbc.all() and 'REF_stress' not in frame.info and frame.info['vacuum_axes'] == 'c'
    assert pressure_warning([frame]) is None


@pytest.fixture
def stages(pw_code):
    """Return the stages that label a sheet and a molecule: each alone, and both in one job."""
    make = DataFactory('pseudo.upf').get_or_create
    parts = {f'pseudo_{symbol}': make(PSEUDO_FOLDER / file) for symbol, file in PSEUDOS.items()}
    options = {'resources': {'num_machines': 1, 'num_mpiprocs_per_machine': 1}, 'withmpi': False}

    def run(batch_size: int) -> Any:
        parameters = EspressoParameters(**PLUMBING, batch_size=batch_size)
        _, node = engine.run_get_node(
            LabellingEngineWorkChain,
            candidates=FramesData.from_atoms([sheet(), water()]),
            parameters=parameters.model_dump(mode='json'),
            labelling={'code': pw_code, **parts},
            options={**options, 'max_wallclock_seconds': 300},
        )
        return node

    return run(1), run(2)


@pytest.mark.nightly
def test_pw_labels_a_sheet_and_a_molecule_alone_and_in_a_batch(stages, tmp_path):
    """The two ways agree; the data set is accepted as data of another run."""
    single, batch = stages
    assert single.is_finished_ok and batch.is_finished_ok
    meshes = {
        node.inputs.structure.label: node.inputs.kpoints.get_kpoints_mesh()[0]
        for node in single.called_descendants
        if isinstance(node, orm.CalcJobNode)
    }
    assert meshes == {'graphene': [3, 3, 1], 'water': [1, 1, 1]}
    frames = single.outputs.labelled.get_atoms()
    for one, other in zip(frames, batch.outputs.labelled.get_atoms(), strict=True):
        assert one.pbc.all() and 'REF_stress' not in one.info and 'REF_stress' not in other.info
        assert other.info['REF_energy'] == pytest.approx(one.info['REF_energy'], abs=1e-5)
        np.testing.assert_allclose(other.arrays['REF_forces'], one.arrays['REF_forces'], atol=1e-4)
    write_extxyz(tmp_path / 'dataset.extxyz', frames)
    again = read_labelled(tmp_path / 'dataset.extxyz')
    assert [atoms.info['vacuum_axes'] for atoms in again] == ['c', 'abc']
    assert not any('REF_stress' in atoms.info for atoms in again)
