"""Where the potential and the frames of a recorded run come from, what became of them, and the pictures of it."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest
from aiida import orm
from click.testing import CliRunner
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from aiida_mlip_autopipe.cli.commands.lineage import command
from aiida_mlip_autopipe.provenance.calls import call_tree
from aiida_mlip_autopipe.provenance.lineage import frame_lineage, potential_lineage
from aiida_mlip_autopipe.report.lineage_graph import BAR_PX, FONT_PX, draw_lineage

SVG = '{http://www.w3.org/2000/svg}'


def shown(*arguments) -> str:
    """Return what the command prints, without line breaks."""
    done = CliRunner(env={'COLUMNS': '400'}).invoke(command, [str(one) for one in arguments], obj=None)
    assert done.exit_code == 0, done.output
    return done.output


def newest_explored(run):
    """Return a frame of the data set that the last round found."""
    return next(
        atoms for atoms in reversed(run.outputs.dataset.get_atoms()) if atoms.info['config_type'] == 'candidate'
    )


def test_a_potential_tells_all_that_it_has_seen(finished_run):
    """Its sets add up to what it was trained on, and its errors are those of the summary."""
    lineage = potential_lineage(finished_run.outputs.potential)
    seen = {atoms.info['frame_id'] for one in lineage.sets for atoms in orm.load_node(one.labelled_pk).get_atoms()}
    assert seen == {atoms.info['frame_id'] for atoms in finished_run.outputs.dataset.get_atoms()}
    assert len(seen) == lineage.n_training + lineage.n_validation
    assert [one.stage for one in lineage.sets][:2] == ['label_initial', 'label_r1']
    last = finished_run.outputs.summary['rounds'][-1]
    errors = {one.frames: one.errors['force_rmse_meV_A'] for one in lineage.judgements}
    assert errors['test'] == last['test']['force_rmse_meV_A']
    explored = [one for one in lineage.sets if one.md_job_pks]
    assert {pk for one in explored for pk in one.driver_pks} == {parent.pk for parent in lineage.parents}
    assert all(one.n_explored > one.n_frames for one in explored)


def test_each_earlier_potential_is_told_once(finished_run):
    """The lineage of a run of many rounds grows with the rounds: a potential before is looked up and drawn once."""
    lineage = potential_lineage(finished_run.outputs.potential)
    first, second = lineage.parents[0], lineage.parents[-1]
    assert second.parents[0] is first
    output = shown(finished_run.pk)
    assert output.count(f'potential <{first.pk}> ') == 1 and f'potential <{first.pk}>, as above' in output


def test_the_residuals_of_a_test_frame(finished_run):
    """Each potential of the run was judged on it; the numbers are those of its own rows among the predictions."""
    atoms = finished_run.outputs.test_set.get_atoms()[1]
    lineage = frame_lineage(atoms.info['frame_id'])
    n_rounds = len(finished_run.outputs.summary['rounds'])
    stages = [one.stage for one in lineage.residuals]
    assert stages == ['evaluate_surrogate', *(f'evaluate_r{number + 1}' for number in range(n_rounds))]
    assert lineage.potentials == {}
    one = lineage.residuals[-1]
    assert one.potential_pk == finished_run.outputs.potential.pk
    predictions = orm.load_node(one.evaluation_pk).outputs.predictions
    frame_of_atom = np.repeat(predictions.get_array('frame_id'), predictions.get_array('n_atoms'))
    predicted = predictions.get_array('forces')[frame_of_atom == atoms.info['frame_id']]
    expected = np.sqrt(np.mean((predicted - atoms.arrays['REF_forces']) ** 2)) * 1e3
    assert one.force_rmse_meV_A == pytest.approx(expected, rel=1e-6)
    energy = predictions.get_array('energy')[1] - atoms.info['REF_energy']
    assert one.energy_error_meV == pytest.approx(energy / len(atoms) * 1e3, abs=1e-6)
    assert one.force_max_meV_A >= one.force_rmse_meV_A


def test_a_training_frame_was_judged_before_it_was_trained_on(finished_run):
    """What explored is judged on what it found; seeds are in no evaluation, and that is said."""
    frame_id = newest_explored(finished_run).info['frame_id']
    lineage = frame_lineage(frame_id)
    assert [one.split for one in lineage.residuals] == ['new labels']
    assert lineage.residuals[0].potential_pk == lineage.potential_pk
    assert lineage.potential_pk not in lineage.potentials and finished_run.outputs.potential.pk in lineage.potentials
    told = shown(frame_id)
    for words in ('MD job', 'replica', 'step', ' K', 'selected as', 'calculation', 'meV/Å RMSE', 'trained on it'):
        assert words in told
    seed = next(one for one in finished_run.outputs.dataset.get_atoms() if one.info['config_type'] == 'seed')
    assert frame_lineage(seed.info['frame_id']).residuals == []
    assert 'no evaluation contains this frame' in shown(seed.info['frame_id'])


def test_any_node_of_a_frame_or_a_potential_leads_to_it(finished_run):
    """What belongs to a label leads to its frame, to a training to its potential; a set is refused."""
    frame = frame_lineage(newest_explored(finished_run).info['frame_id'])
    pw = orm.load_node(frame.label_job_pk)
    for pk in (pw.inputs.structure.pk, pw.outputs.output_trajectory.pk, pw.caller.pk):
        assert shown(pk).startswith(f'frame {frame.frame_id}')
    potential = finished_run.outputs.potential
    training = potential.creator
    for pk in (training.outputs.metrics.pk, training.caller.pk):
        assert shown(pk).startswith(f'potential <{potential.pk}>')
    for pk in (finished_run.outputs.dataset.pk, finished_run.outputs.summary.pk, 10**9):
        assert CliRunner().invoke(command, [str(pk)], obj=None).exit_code == 2


def test_pictures(finished_run, tmp_path):
    """One box for each potential and set, within the picture and apart; arrows end at boxes; the same bytes again."""
    path = tmp_path / 'potential.svg'
    shown(finished_run.pk, '--graph', path)
    lineage = potential_lineage(finished_run.outputs.potential)
    assert path.read_text() == draw_lineage(lineage)
    words = ' '.join(ElementTree.parse(path).getroot().itertext())
    for one in (lineage, *lineage.parents):
        assert f'potential <{one.pk}>' in words
    for one in lineage.sets:
        assert f'{one.n_frames} frames <{one.labelled_pk}>' in words
    assert_readable(path)
    frame = newest_explored(finished_run)
    for frame_id in (frame.info['frame_id'], frame.info['origin']):
        shown(frame_id, '-g', path)
        assert_readable(path)


def assert_readable(path):
    """No two boxes of a picture overlap, none is cut off, and each line of words is within a box, in a wide font."""
    root = ElementTree.parse(path).getroot()
    width, height = float(root.get('width')), float(root.get('height'))
    rectangles = [
        tuple(float(one.get(key)) for key in ('x', 'y', 'width', 'height'))
        for one in root.iter(f'{SVG}rect')
        if one.get('x')
    ]
    boxes = [one for one in rectangles if one[2] > BAR_PX]
    for number, (left, top, w, h) in enumerate(boxes):
        assert left >= 0 and top >= 0 and left + w <= width and top + h <= height
        for left2, top2, w2, h2 in boxes[:number]:
            assert left + w <= left2 or left2 + w2 <= left or top + h <= top2 or top2 + h2 <= top
    lines = [one for one in root.iter(f'{SVG}text') if one.get('font-size') is None]
    for line in lines:
        x, y = float(line.get('x')), float(line.get('y'))
        font = FontProperties(family='DejaVu Sans', weight=line.get('font-weight', 'normal'))
        right = x + TextPath((0, 0), line.text, size=FONT_PX, prop=font).get_extents().width
        inside = [one for one in boxes if one[0] <= x and one[1] <= y <= one[1] + one[3] and right <= one[0] + one[2]]
        assert inside or line.text.startswith('dashed'), line.text
    assert root.find(f'{SVG}title') is not None and root.find(f'{SVG}desc') is not None


def test_a_picture_is_an_svg_file(finished_run, tmp_path):
    """Another suffix is refused before anything is read."""
    refused = CliRunner().invoke(command, [str(finished_run.pk), '--graph', str(tmp_path / 'a.pdf')], obj=None)
    assert refused.exit_code == 2 and '.svg' in refused.output


def test_all_jobs_are_reached_without_their_order(finished_run):
    """An imported run has PKs in any order: the sets of its potential are in the order of time."""
    order = {call.link: call.started for call in call_tree(finished_run.pk) if call.parent == finished_run.pk}
    stages = [one.stage for one in potential_lineage(finished_run.outputs.potential).sets]
    assert stages == sorted(stages, key=order.__getitem__)
