"""``mlip-autopipe lineage``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiida_mlip_autopipe.cli.console import UsageProblem, console, load_profile, tell_command, tell_errors

if TYPE_CHECKING:
    from aiida.orm import Node, ProcessNode

__all__ = ['command']

N_NAMED = 20


@click.command('lineage')
@click.argument('subject', metavar='PK|FRAME_ID')
@click.option(
    '-g',
    '--graph',
    'graph_path',
    type=click.Path(path_type=Path, dir_okay=False),
    metavar='FILE.svg',
    help='Also draw it to a file.',
)
@click.pass_obj
def command(profile_name: str | None, subject: str, graph_path: Path | None) -> None:
    """Show the origin of a frame or a potential, and its use.

    FRAME_ID is in the `info` of each frame of dataset.extxyz. PK is the PK of a potential, of a run (its final
    potential), or of any job or node that belongs to one potential or one frame.

    \b
    mlip-autopipe lineage 1234
    mlip-autopipe lineage 11cbac15-r003-s000144-2831f9c1d05b7e64 --graph frame.svg
    """
    if graph_path is not None and graph_path.suffix != '.svg':
        raise UsageProblem(f'--graph {graph_path}: the figure is an SVG file; give it a name that ends in .svg')
    with tell_errors():
        load_profile(profile_name)
        from aiida_mlip_autopipe.cli.lineage_tree import frame_tree, potential_tree
        from aiida_mlip_autopipe.provenance.lineage import frame_lineage, potential_lineage

        target = _target(int(subject)) if subject.isdigit() else subject
        lineage: Any = frame_lineage(target) if isinstance(target, str) else potential_lineage(target)
        console.print(frame_tree(lineage) if isinstance(target, str) else potential_tree(lineage))
        if graph_path is not None:
            from aiida_mlip_autopipe.report.lineage_graph import draw_lineage

            graph_path.write_text(draw_lineage(lineage), encoding='utf-8')
            console.print(f'drawn: {graph_path}', soft_wrap=True)


def _target(pk: int) -> Any:
    """Return the potential or the frame_id that a PK stands for."""
    from aiida.common.exceptions import NotExistent
    from aiida.orm import ProcessNode, load_node

    try:
        node = load_node(pk)
    except NotExistent as error:
        raise UsageProblem(f'{pk} is not a node of this profile') from error
    found = _of_data(node)
    if found is None:
        process = node if isinstance(node, ProcessNode) else node.creator
        found = None if process is None else _of_process(process)
    if found is None and getattr(node, 'process_label', None) == 'AutoPipeWorkChain':
        raise UsageProblem(f'run {pk} has not trained a potential yet; {tell_command(f"status {pk}")} shows its state')
    if found is None:
        raise UsageProblem(
            f'{pk} ({type(node).__name__}) does not belong to a single potential or frame: give the PK of a '
            'potential, a run, a labelling job, or a frame_id'
        )
    return found


def _of_data(node: Node) -> Any:
    """Return the potential that a node is, or the frame_id of the structure that it is; None if it is neither."""
    from aiida.orm import StructureData

    from aiida_mlip_autopipe.data import FramesData, PotentialData

    if isinstance(node, PotentialData):
        return node
    if isinstance(node, StructureData):
        return node.label or None
    if isinstance(node, FramesData):
        names = [atoms.info['frame_id'] for atoms in node.get_atoms()]
        more = ' ...' if len(names) > N_NAMED else ''
        raise UsageProblem(f'{node.pk} is a set of {len(names)} frames: give one, {", ".join(names[:N_NAMED])}{more}')
    return None


def _of_process(process: ProcessNode) -> Any:
    """Return the potential or the frame that a process is about: what it made, or else what it was given."""
    from aiida_mlip_autopipe.provenance.lineage import linked_nodes

    for nodes in linked_nodes(process):
        structures = [name for name in nodes if name.endswith('__structure')]
        for name in ('potential', 'structure', *structures, 'job__potential'):
            if name in nodes and (found := _of_data(nodes[name])) is not None:
                return found
    if 'indices' in process.inputs:
        frames = process.inputs.candidates.get_atoms()
        names = ', '.join(frames[index].info['frame_id'] for index in process.inputs.indices.get_list())
        raise UsageProblem(f'{process.pk} is a batch: give one of its frames, {names}')
    return None
