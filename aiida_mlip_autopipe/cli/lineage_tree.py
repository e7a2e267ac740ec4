"""The lineage of a frame or a potential as a tree on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.tree import Tree

if TYPE_CHECKING:
    from aiida_mlip_autopipe.provenance.lineage import FrameLineage, PotentialLineage, SetLineage
    from aiida_mlip_autopipe.provenance.residuals import Residual

__all__ = ['frame_tree', 'potential_tree']


def frame_tree(frame: FrameLineage) -> Tree:
    """Return what became of a frame, and what potentials say of it."""
    tree = Tree(f'[bold]frame {frame.frame_id}[/] ({frame.config_type})')
    label = tree.add(f'label: {frame.state.value}' + (f' ({frame.reason})' if frame.reason else ''))
    if frame.label_job_pk is not None:
        energy = f', energy {frame.energy_eV:.6f} eV' if frame.energy_eV is not None else ''
        label.add(f'calculation <{frame.label_job_pk}>{energy}')
    _add_origin(tree, frame)
    trained = tree.add('trained on it: ' + ('' if frame.potentials else 'no potential'))
    for pk, part in frame.potentials.items():
        trained.add(f'potential <{pk}> ({part} set)')
    judged = tree.add(
        'residuals, predicted minus DFT:' if frame.residuals else 'residuals: no evaluation contains this frame'
    )
    for one in frame.residuals:
        judged.add(_residual(one))
    unseen = [pk for pk in frame.potentials if pk not in {one.potential_pk for one in frame.residuals}]
    if frame.residuals and unseen:
        judged.add('none of ' + ' '.join(f'<{pk}>' for pk in unseen) + ': no evaluation of them contains this frame')
    return tree


def _add_origin(tree: Tree, frame: FrameLineage) -> None:
    """Say why a frame was chosen, and which dynamics made it."""
    info = frame.info
    made = 'given to the run' if frame.source_pk is None else f'made by <{frame.source_pk}>'
    chosen = tree.add(f'candidate {frame.index} of <{frame.candidates_pk}>, {made}')
    if 'cluster' in info:
        cluster = f'cluster {info["cluster"]}, rank {info["rank"]}, ' if info['cluster'] >= 0 else ''
        chosen.add(f'{cluster}selected as {info["reason"]}, distance to the centre {info["distance"]:.3g}')
        if 'represents' in info:
            novelty = f', {info["novelty"]:.3g} from the nearest labelled frame' if 'novelty' in info else ''
            chosen.add(f'represents {info["represents"]} frames{novelty}')
    if frame.md_job_pk is not None:
        pressure = f', {info["pressure_GPa"]:g} GPa' if 'pressure_GPa' in info else ''
        dynamics = tree.add(
            f'MD job <{frame.md_job_pk}>: replica {info["replica"]}, step {info["step"]}, '
            f'{info["temperature_K"]:g} K{pressure}'
        )
        dynamics.add(f'run with potential <{frame.potential_pk}>')
        dynamics.add(f'seed structure {frame.origin}')


def _residual(one: Residual) -> str:
    where = one.stage or f'evaluation <{one.evaluation_pk}>'
    return (
        f'potential <{one.potential_pk}>: forces {one.force_rmse_meV_A:.1f} meV/Å RMSE, at most '
        f'{one.force_max_meV_A:.0f}; energy {one.energy_error_meV:+.2f} meV/atom ({where}, {one.split})'
    )


def potential_tree(potential: PotentialLineage) -> Tree:
    """Return what a potential has seen and is worth, and the potentials before it, each of them once."""
    return _potential_tree(potential, set())


def _potential_tree(potential: PotentialLineage, shown: set[int]) -> Tree:
    tree = Tree(f'[bold]potential <{potential.pk}>[/] {potential.origin}, sha256 {potential.sha256[:12]}')
    if potential.pk in shown:
        tree.label = f'potential <{potential.pk}>, as above'
        return tree
    shown.add(potential.pk)
    if potential.training_pk is not None:
        tree.add(
            f'trained by <{potential.training_pk}> on {potential.n_training} frames, '
            f'validated on {potential.n_validation}'
        )
        for one in potential.sets:
            _add_set(tree, one)
    for judged in potential.judgements:
        errors = judged.errors
        stress = '' if errors['stress_rmse_GPa'] is None else f', {errors["stress_rmse_GPa"]:.2f} GPa'
        tree.add(
            f'RMSE on {judged.frames} ({judged.stage or "evaluation"} <{judged.evaluation_pk}>, '
            f'{errors["n_frames"]} frames): '
            f'{errors["energy_rmse_meV"]:.1f} meV/atom, {errors["force_rmse_meV_A"]:.0f} meV/Å{stress}'
        )
    for parent in potential.parents:
        how = 'fine-tuned from' if parent.pk == potential.foundation_pk else 'explored with'
        if parent.pk == potential.previous_pk:
            drove = any(parent.pk in one.driver_pks for one in potential.sets)
            how = 'explored with, and began with the weights of' if drove else 'began with the weights of'
        tree.add(how).add(_potential_tree(parent, shown))
    return tree


def _add_set(tree: Tree, one: SetLineage) -> None:
    name = f'{one.stage}: ' if one.stage else ''
    branch = tree.add(
        f'{name}labelled set <{one.labelled_pk}>, {one.n_frames} frames, {one.source}, candidates '
        f'<{one.candidates_pk}>, {one.n_label_jobs} labelling jobs'
    )
    if one.md_job_pks:
        jobs = ' '.join(f'<{pk}>' for pk in one.md_job_pks)
        branch.add(f'MD jobs {jobs}, {one.n_explored} frames')
