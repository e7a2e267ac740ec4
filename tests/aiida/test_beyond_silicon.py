"""Whole runs on what is no crystal of silicon, with the real pw.x and MACE: a molecule with hydrogen, and a layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from aiida import engine, orm
from ase import Atoms
from ase.build import bulk, graphene, molecule

from aiida_mlip_autopipe.cli.results import write_results
from aiida_mlip_autopipe.data import FramesData
from aiida_mlip_autopipe.labelling.espresso.pseudos import DEBIAN_FOLDER, install_family
from aiida_mlip_autopipe.pipeline.stages import Kind, Stage
from aiida_mlip_autopipe.provenance.progress import ProgressReader
from aiida_mlip_autopipe.report.page.document import write_report
from aiida_mlip_autopipe.science.systems import is_isolated_atom
from aiida_mlip_autopipe.workflows.autopipe import AutoPipeWorkChain
from tests.aiida.test_autopipe import TINY

FAMILY = 'tests/debian'
SMALL = {
    'generation': {**TINY['generation'], 'strained': {'n': 0}, 'rattled': {'n': 3}},
    'labelling': {
        'pseudo_family': FAMILY,
        'ecutwfc_Ry': 25.0,
        'ecutrho_Ry': 200.0,
        'kpoints_distance': 1.0,
        'conv_thr_per_atom_Ry': 1e-6,
    },
    'loop': {'max_rounds': 1},
}


@pytest.fixture
def run(worker_code, pw_code) -> Callable[..., orm.WorkChainNode]:
    """Return a function that runs the tiny pipeline for a structure."""
    install_family(DEBIAN_FOLDER, FAMILY)

    def factory(atoms: Atoms, **sections: Any) -> orm.WorkChainNode:
        builder = AutoPipeWorkChain.get_builder_from_protocol(
            worker_code, pw_code, FramesData.from_atoms([atoms]), 'fast', {**TINY, **SMALL, **sections}
        )
        _, node = engine.run_get_node(builder)
        assert node.is_finished_ok, node.exit_message
        return node

    return factory


def check_labels(node: orm.WorkChainNode, vacuum_axes: str) -> list[Atoms]:
    """Return the frames that a run trained on: none was rejected, none has a stress."""
    stages = {link.link_label: link.node for link in node.base.links.get_outgoing(orm.WorkChainNode).all()}
    for name, stage in stages.items():
        if (called := Stage.parse(name)) and called.kind is Kind.LABEL:
            assert not stage.outputs.rejected.get_dict(), name
    frames = node.outputs.dataset.get_atoms()
    for atoms in frames:
        assert is_isolated_atom(atoms) or atoms.info['vacuum_axes'] == vacuum_axes
        assert 'REF_stress' not in atoms.info and atoms.pbc.all()
    return frames


@pytest.mark.nightly
def test_water_from_its_isolated_atoms_to_a_report(run, tmp_path):
    """Hydrogen has its moment, the molecule is relaxed in its box and not strained, and what is told has no stress."""
    atoms = molecule('H2O', cell=[8.0] * 3, pbc=True)
    atoms.center()
    node = run(atoms)
    frames = check_labels(node, 'abc')
    (hydrogen,) = [one for one in frames if is_isolated_atom(one) and str(one.symbols) == 'H']
    assert hydrogen.info['total_magnetization_uB'] == pytest.approx(1, abs=0.02)
    assert node.outputs.potential.elements == ['H', 'O']
    called = [link.link_label for link in node.base.links.get_outgoing(orm.WorkChainNode).all()]
    assert called[0] == 'relax' and 'evaluate_r1' in called
    assert all(one['test']['stress_rmse_GPa'] is None for one in node.outputs.summary['rounds'])
    write_results(node, ProgressReader(node.pk).read(), tmp_path)
    assert write_report(node, tmp_path / 'report.html').stat().st_size > 10_000


@pytest.mark.nightly
def test_graphene_keeps_its_vacuum(run):
    """One k-point along it, no barostat, no stress; the layer is repeated in its plane alone."""
    atoms = graphene()
    atoms.center(vacuum=4.5, axis=2)
    node = run(atoms, generation={**SMALL['generation'], 'target_atoms': 8})
    frames = check_labels(node, 'c')
    heights = {round(float(one.cell.lengths()[2]), 3) for one in frames if not is_isolated_atom(one)}
    assert heights == {9.0}
    meshes = {
        tuple(job.inputs.kpoints.get_kpoints_mesh()[0])
        for job in node.called_descendants
        if isinstance(job, orm.CalcJobNode) and 'kpoints' in job.inputs
    }
    assert {mesh[2] for mesh in meshes} == {1} and any(mesh[0] > 1 for mesh in meshes)


@pytest.mark.nightly
def test_iron_keeps_its_moment(run):
    """Magnetic by the heuristics; the crystal and what MD makes of it have about 2 µB an atom, the free atom has 4."""
    node = run(
        bulk('Fe', a=2.866),
        generation={**SMALL['generation'], 'isolated_atom_box_A': 6.0},
        labelling={**SMALL['labelling'], 'ecutwfc_Ry': 30.0, 'ecutrho_Ry': 240.0, 'kpoints_distance': 0.7},
        system={'relax': 'none'},
    )
    frames = node.outputs.dataset.get_atoms()
    moments = {atoms.info['frame_id']: atoms.info['total_magnetization_uB'] / len(atoms) for atoms in frames}
    free = [moments[atoms.info['frame_id']] for atoms in frames if is_isolated_atom(atoms)]
    assert free == [pytest.approx(4, abs=0.1)]
    crystals = [moments[atoms.info['frame_id']] for atoms in frames if not is_isolated_atom(atoms)]
    assert len(crystals) >= 5 and 1.5 < min(crystals) <= max(crystals) < 3
