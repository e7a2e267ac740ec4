"""``mlip-autopipe lineage``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from rich.tree import Tree

from .console import UsageProblem, console, load_profile, tell_errors

if TYPE_CHECKING:
    from aiida_mlip_autopipe.provenance.lineage import FrameLineage, PotentialLineage

__all__ = ['command']


@click.command('lineage')
@click.argument('subject', metavar='PK|FRAME_ID')
@click.pass_obj
def command(profile_name: str | None, subject: str) -> None:
    """Show where a frame or a potential comes from.

    FRAME_ID is in the `info` of each frame of dataset.extxyz. PK is that of a potential, of a run (its final
    potential), or of a pw.x calculation or structure (its frame).
    """
    with tell_errors():
        load_profile(profile_name)
        from aiida_mlip_autopipe.provenance.lineage import frame_lineage, potential_lineage

        if not subject.isdigit():
            console.print(_frame_tree(frame_lineage(subject)))
            return
        target = _target(int(subject))
        if isinstance(target, str):
            console.print(_frame_tree(frame_lineage(target)))
        else:
            console.print(_potential_tree(potential_lineage(target)))


def _target(pk: int) -> Any:
    """Return the potential or the frame_id that a PK stands for."""
    from aiida.common.exceptions import NotExistent
    from aiida.orm import CalcJobNode, ProcessNode, StructureData, load_node

    from aiida_mlip_autopipe.data import PotentialData

    try:
        node = load_node(pk)
    except NotExistent as error:
        raise UsageProblem(f'{pk} is not a node of this profile') from error
    if isinstance(node, PotentialData):
        return node
    if isinstance(node, ProcessNode) and 'potential' in node.outputs:
        return node.outputs.potential
    if isinstance(node, CalcJobNode) and 'structure' in node.inputs:
        node = node.inputs.structure
    if isinstance(node, StructureData) and node.label:
        return node.label
    if isinstance(node, CalcJobNode) and 'indices' in node.inputs:
        frames = node.inputs.candidates.get_atoms()
        names = ', '.join(frames[index].info['frame_id'] for index in node.inputs.indices.get_list())
        raise UsageProblem(f'{pk} is a batch: give one of its frames, {names}')
    raise UsageProblem(
        f'{pk} is a {type(node).__name__}: give the PK of a potential, a run, a pw.x calculation, or a frame_id'
    )


def _frame_tree(frame: FrameLineage) -> Tree:
    info = frame.info
    tree = Tree(f'[bold]frame {frame.frame_id}[/] ({frame.config_type})')
    label = tree.add(f'label: {frame.state.value}' + (f' ({frame.reason})' if frame.reason else ''))
    if frame.pw_pk is not None:
        energy = f', energy {frame.energy_eV:.6f} eV' if frame.energy_eV is not None else ''
        label.add(f'pw.x calculation <{frame.pw_pk}>{energy}')
    chosen = tree.add(f'candidate {frame.index} of <{frame.candidates_pk}>, made by <{frame.source_pk}>')
    if 'cluster' in info:
        chosen.add(
            f'cluster {info["cluster"]}, rank {info["rank"]}, chosen as {info["reason"]}, '
            f'distance to the centre {info["distance"]:.3g}'
        )
        if 'represents' in info:
            novelty = f', {info["novelty"]:.3g} from the nearest labelled one' if 'novelty' in info else ''
            chosen.add(f'stands for {info["represents"]} frames{novelty}')
    if frame.md_job_pk is not None:
        pressure = f', {info["pressure_GPa"]:g} GPa' if 'pressure_GPa' in info else ''
        dynamics = tree.add(
            f'MD job <{frame.md_job_pk}>: replica {info["replica"]}, step {info["step"]}, '
            f'{info["temperature_K"]:g} K{pressure}'
        )
        dynamics.add(f'driven by potential <{frame.potential_pk}>')
        dynamics.add(f'seed structure {frame.origin}')
    trained = tree.add('trained on it: ' + ('' if frame.potentials else 'no potential'))
    for pk, part in frame.potentials.items():
        trained.add(f'potential <{pk}> ({part} set)')
    return tree


def _potential_tree(potential: PotentialLineage) -> Tree:
    tree = Tree(f'[bold]potential <{potential.pk}>[/] {potential.origin}, sha256 {potential.sha256[:12]}')
    if potential.training_pk is None:
        return tree
    tree.add(
        f'trained by <{potential.training_pk}> on {potential.n_training} frames, validated on {potential.n_validation}'
    )
    for one in potential.sets:
        branch = tree.add(
            f'labelled set <{one.labelled_pk}>: {one.n_frames} frames, {one.source}, candidates '
            f'<{one.candidates_pk}>, {one.n_pw} pw.x jobs'
        )
        if one.md_job_pks:
            branch.add('MD jobs ' + ' '.join(f'<{pk}>' for pk in one.md_job_pks))
    for parent in potential.parents:
        tree.add('explored with').add(_potential_tree(parent))
    return tree
