"""The real parts that the other tests stand on: pw.x through AiiDA, in the interpreter and through the daemon."""

from __future__ import annotations

import pytest
from aiida.engine import run_get_node


@pytest.fixture
def pw_builder(pw_code, pseudo_family):
    """Return the inputs of an SCF of two silicon atoms that takes half a second."""
    from aiida.orm import Dict, KpointsData, StructureData
    from ase.build import bulk

    structure = StructureData(ase=bulk('Si', 'diamond', a=5.43))
    kpoints = KpointsData()
    kpoints.set_kpoints_mesh([2, 2, 2])
    ecutwfc, ecutrho = pseudo_family.get_recommended_cutoffs(structure=structure, unit='Ry')
    builder = pw_code.get_builder()
    builder.structure = structure
    builder.kpoints = kpoints
    builder.pseudos = pseudo_family.get_pseudos(structure=structure)
    builder.parameters = Dict(
        {
            'CONTROL': {'calculation': 'scf', 'tprnfor': True, 'tstress': True},
            'SYSTEM': {
                'ecutwfc': ecutwfc,
                'ecutrho': ecutrho,
                'occupations': 'smearing',
                'smearing': 'cold',
                'degauss': 0.01,
            },
            'ELECTRONS': {'conv_thr': 1e-8},
        }
    )
    builder.metadata.options = {'resources': {'num_machines': 1, 'num_mpiprocs_per_machine': 1}, 'withmpi': False}
    return builder


def check(node):
    assert node.is_finished_ok, node.exit_message
    assert -220 < node.outputs.output_parameters['energy'] < -210
    assert abs(node.outputs.output_trajectory.get_array('forces')).max() < 1e-3


def test_pw_runs_in_the_interpreter(pw_builder):
    """pw.x is found, its pseudopotential and cutoffs too, and its energy of silicon is right."""
    check(run_get_node(pw_builder).node)


def test_profile_backend(request, aiida_profile):
    """The profile is on the database that was asked for."""
    assert aiida_profile.storage_backend == f'core.{request.config.getoption("--db-backend")}_dos'


def test_worker_code_exists(installed_worker_code):
    """The worker's console script is installed beside the interpreter that runs the tests."""
    assert installed_worker_code.computer.label == 'localhost'
    assert installed_worker_code.validate_filepath_executable() is None
