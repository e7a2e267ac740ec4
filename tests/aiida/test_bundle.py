"""A bundle: written, verified at the other side, taken into another profile; and what is wrong with a broken one."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import ProcessState
from aiida.tools import delete_nodes
from click.testing import CliRunner

from aiida_mlip_autopipe.cli import main
from aiida_mlip_autopipe.cli.commands.verify import command as verify
from aiida_mlip_autopipe.provenance.lineage import frame_lineage
from aiida_mlip_autopipe.report.bundle.load import import_bundle
from aiida_mlip_autopipe.report.bundle.write import write_bundle
from aiida_mlip_autopipe.report.reached import what_it_reached
from aiida_mlip_autopipe.science.frames import read_extxyz, write_extxyz

BIN = Path(sys.executable).parent
KINDS = ['potential.model', 'training.extxyz', 'card.json', 'card.md', 'README.md', 'exec_config_dump.yaml',
         'provenance.aiida']  # fmt: skip


@pytest.fixture(scope='module')
def whole(finished_run, fast_folder):
    """Return the folder of a bundle; not to be changed."""
    folder = fast_folder / 'handed_over/bundle'
    done = export(finished_run, folder)
    assert done.exit_code == 0, done.output
    assert all(str(path) in done.output for path in folder.iterdir())
    return folder


def export(run, target, *options):
    """Call the command."""
    return CliRunner().invoke(main, ['export', str(run.pk), '--output', str(target), *options])


@pytest.fixture
def bundle(whole, tmp_path):
    """Return a copy of the bundle."""
    return Path(shutil.copytree(whole, tmp_path / 'bundle'))


def verified(path):
    """Return the exit status of ``verify`` and its lines that tell of something wrong."""
    done = CliRunner().invoke(verify, [str(path)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.output
    return done.exit_code, [line for line in done.output.splitlines() if line.startswith('wrong')]


def list_again(folder):
    """Write the checksums anew, as who has changed a file on purpose would."""
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    del sums['SHA256SUMS']
    (folder / 'SHA256SUMS').write_text(''.join(f'{digest}  {name}\n' for name, digest in sums.items()))


def test_a_whole_bundle_is_right(whole, finished_run):
    """Here, and for ``sha256sum``; its README names every file."""
    assert verified(whole) == (0, [])
    done = subprocess.run(['sha256sum', '--strict', '-c', 'SHA256SUMS'], cwd=whole, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    names = {path.name for path in whole.iterdir()} - {'README.md'}
    assert {*KINDS[:-1], 'validation.extxyz', 'test.extxyz'} - {'README.md'} <= names
    readme = (whole / 'README.md').read_text()
    assert all(f'| `{name}` |' in readme for name in names)
    # A surrogate is no file of the bundle: to repeat the run elsewhere its node is named.
    given = yaml.safe_load(re.findall(r'```yaml\n(.*?)```', readme, re.DOTALL)[-1]) if '```yaml' in readme else {}
    named = {name: f'node:{finished_run.inputs[name].uuid}' for name in ('surrogate',) if name in finished_run.inputs}
    assert given == named


def test_the_frames_are_those_of_the_run(whole, finished_run):
    """Each labelled frame is in the file of its split, with its label."""
    sets = [finished_run.outputs.dataset, finished_run.outputs.test_set]
    frames = {atoms.info['frame_id']: atoms for node in sets for atoms in node.get_atoms()}
    for path in whole.glob('*.extxyz'):
        for atoms in read_extxyz(path):
            wanted = frames.pop(atoms.info['frame_id'])
            assert atoms == wanted and atoms.info['split'] == path.stem
            assert atoms.info['REF_energy'] == wanted.info['REF_energy']
            assert (atoms.arrays['REF_forces'] == wanted.arrays['REF_forces']).all()
    assert frames == {}


def test_verify_needs_no_aiida(whole, tmp_path):
    """Not even its import: the receiver may have no profile."""
    script = (
        'import sys; from aiida_mlip_autopipe.cli import main\n'
        f"try: main(['verify', {str(whole)!r}])\n"
        "finally: print({'aiida', 'torch'} & set(sys.modules), file=sys.stderr)"
    )
    environment = {**os.environ, 'AIIDA_PATH': str(tmp_path / 'none')}
    done = subprocess.run([sys.executable, '-c', script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr.strip() == 'set()', done.stderr
    assert 'checks passed' in done.stdout


@pytest.mark.parametrize('name', KINDS)
def test_a_flipped_bit_is_found(bundle, name):
    """In whichever kind of file; the line names it."""
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    status, wrong = verified(bundle)
    assert status == 1 and any(f' {name} ' in line and 'changed' in line for line in wrong), wrong
    assert all(line.split()[1] == name for line in wrong)


@pytest.mark.parametrize('place', [0, 64, 66, -1])
def test_a_flipped_bit_of_the_checksums_is_found(bundle, place):
    """In a checksum, between it and the name, in the name, at the end."""
    content = bytearray((bundle / 'SHA256SUMS').read_bytes())
    content[place] ^= 1
    (bundle / 'SHA256SUMS').write_bytes(content)
    status, wrong = verified(bundle)
    assert status == 1 and wrong


@pytest.mark.parametrize('name', ['test.extxyz', 'potential.model', 'card.json', 'provenance.aiida', 'SHA256SUMS'])
def test_a_missing_file_is_found(bundle, name):
    (bundle / name).unlink()
    status, wrong = verified(bundle)
    assert status == 1 and any(name in line and 'missing' in line for line in wrong), wrong


def test_a_file_too_many_is_found(bundle):
    (bundle / 'notes').mkdir()
    (bundle / 'notes/extra.txt').write_text('?')
    assert verified(bundle) == (1, ['wrong  notes/extra.txt        not listed in SHA256SUMS'])


def test_another_potential_with_right_checksums_is_found(bundle):
    (bundle / 'potential.model').write_bytes(b'another')
    list_again(bundle)
    status, wrong = verified(bundle)
    assert status == 1 and [line.split(maxsplit=2)[1:] for line in wrong] == [
        ['potential.model', 'not the potential of card.json']
    ]


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda frames: frames[:-1], 'frames, card.json says'),
        (lambda frames: [frames[0].info.update(label_fingerprint='0' * 16), *frames][1:], f'labels of {"0" * 16}'),
        (lambda frames: [frames[0].info.update(split='test'), *frames][1:], 'frames of the split test'),
    ],
)
def test_other_frames_with_right_checksums_are_found(bundle, change, words):
    """Fewer than the card says, of another level of theory, of another split."""
    write_extxyz(bundle / 'training.extxyz', change(read_extxyz(bundle / 'training.extxyz')))
    list_again(bundle)
    status, wrong = verified(bundle)
    assert status == 1 and len(wrong) == 1 and 'training.extxyz' in wrong[0] and words in wrong[0]


@pytest.mark.parametrize('text', ['', 'not a zip file', 'PK\3\4'])
def test_an_archive_that_is_none_is_found(bundle, text):
    (bundle / 'provenance.aiida').write_text(text)
    list_again(bundle)
    status, wrong = verified(bundle)
    assert status == 1 and len(wrong) == 1 and 'cannot be read' in wrong[0]


@pytest.mark.parametrize('content', ['{', '{}', '[]'])
def test_a_card_that_is_none_is_found(bundle, content):
    (bundle / 'card.json').write_text(content)
    list_again(bundle)
    status, wrong = verified(bundle)
    assert status == 1 and len(wrong) == 1 and 'card.json' in wrong[0] and 'cannot be read' in wrong[0]


def test_what_is_no_bundle_is_told(tmp_path):
    """Bad input, not a broken bundle: exit status 2."""
    for path in (tmp_path / 'nowhere', tmp_path, Path(__file__)):
        done = CliRunner().invoke(verify, [str(path)])
        assert done.exit_code == 2 and str(path) in done.output


def test_exported_twice_it_is_the_same(whole, finished_run, tmp_path):
    """A zip file byte for byte, whatever its name; and its files are those of the folder."""
    packed = [tmp_path / name for name in ('one.zip', 'two.zip')]
    for path in packed:
        assert export(finished_run, path, '--no-provenance').exit_code == 0
    assert packed[0].read_bytes() == packed[1].read_bytes()
    assert verified(packed[0]) == (0, [])
    with zipfile.ZipFile(packed[0]) as archive:
        inside = {Path(name).name: archive.read(name) for name in archive.namelist()}
    there = {path.name: path.read_bytes() for path in whole.iterdir()}
    assert set(there) - set(inside) == {'provenance.aiida'}
    # The list of files, which names the archive, is in these two.
    assert {name for name in inside if inside[name] != there[name]} == {'README.md', 'SHA256SUMS'}


def test_a_broken_zip_file_is_found(finished_run, tmp_path):
    """At its beginning, in a file, and in another."""
    packed = [tmp_path / name for name in ('one.zip', 'two.zip')]
    write_bundle(finished_run, packed[0], provenance=False)
    with zipfile.ZipFile(packed[0]) as archive:
        starts = [member.header_offset for member in archive.infolist()]
    for place in (0, starts[0] + 100, starts[-1] + 100):
        content = bytearray(packed[0].read_bytes())
        content[place] ^= 1
        packed[1].write_bytes(content)
        status, wrong = verified(packed[1])
        assert status == 1 and wrong


def test_nothing_is_overwritten(finished_run, tmp_path):
    """Neither a folder that holds something, nor a file; and nothing is left behind."""
    (tmp_path / 'mine').write_text('precious')
    (tmp_path / 'there.zip').write_text('precious')
    for target in (tmp_path, tmp_path / 'mine', tmp_path / 'there.zip'):
        done = export(finished_run, target, '--no-provenance')
        assert done.exit_code == 2 and '--output' in done.stderr, done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ['mine', 'there.zip']
    assert {path.read_text() for path in tmp_path.iterdir()} == {'precious'}


@pytest.fixture
def ended_from_outside(finished_run):
    """Return a function that makes a run with the inputs of the finished one, trained or not, that is still running."""
    made = []

    def make(*, trained):
        run = orm.WorkChainNode(process_type=finished_run.process_type)
        for link in finished_run.base.links.get_incoming(link_type=LinkType.INPUT_WORK).all():
            run.base.links.add_incoming(link.node, LinkType.INPUT_WORK, link.link_label)
        run.set_process_state(ProcessState.WAITING)
        made.append(run.store().pk)
        if trained:
            stage = orm.WorkChainNode(process_type='aiida.workflows:mlip_autopipe.train')
            stage.base.links.add_incoming(run, LinkType.CALL_WORK, 'train_r1')
            stage.store()
            for name in ('potential', 'dataset'):
                finished_run.outputs[name].base.links.add_incoming(stage, LinkType.RETURN, name)
            stage.set_process_state(ProcessState.FINISHED)
            stage.set_exit_status(0)
        return run

    yield make
    delete_nodes(made, dry_run=False)


def test_of_a_killed_run_there_is_what_its_stages_reached(finished_run, ended_from_outside, tmp_path):
    """The potential and its frames; the card says how the run ended, and that nothing judged it."""
    run = ended_from_outside(trained=True)
    with pytest.raises(ValueError, match='still running'):
        what_it_reached(run)
    run.set_process_state(ProcessState.KILLED)
    write_bundle(run, tmp_path / 'bundle', provenance=False)
    assert verified(tmp_path / 'bundle') == (0, [])
    card = json.loads((tmp_path / 'bundle/card.json').read_text())
    assert card['potential']['sha256'] == finished_run.outputs.potential.sha256
    assert set(card['data']) == {'training', 'validation'}
    limits = [one['text'] for one in card['limits']]
    assert any('it was killed' in text for text in limits)
    assert 'It was never evaluated on a test set.' in limits


def test_a_run_without_a_potential_has_nothing_to_hand_on(ended_from_outside):
    run = ended_from_outside(trained=False)
    run.set_process_state(ProcessState.KILLED)
    with pytest.raises(ValueError, match='has not trained a potential'):
        what_it_reached(run)
    with pytest.raises(ValueError, match='not a run of the pipeline'):
        what_it_reached(orm.WorkChainNode())


def test_where_the_run_is_known_nothing_changes(whole, finished_run, tmp_path):
    """With provenance or without, the nodes that are there are recognised."""
    imported = import_bundle(whole)
    assert (imported.run, imported.n_new) == (finished_run, 0)
    write_bundle(finished_run, tmp_path / 'light', provenance=False)
    imported = import_bundle(tmp_path / 'light')
    assert (imported.potential, imported.run, imported.n_new) == (finished_run.outputs.potential, None, 0)


AT_THE_OTHER_SIDE = """
import json
import sys

from click.testing import CliRunner

from aiida_mlip_autopipe.cli import main

light, whole, frame_id = sys.argv[1:]
said = []
for arguments in (['import', light], ['import', whole], ['import', whole], ['lineage', frame_id]):
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, (arguments, done.output)
    said.append(done.output)

from aiida import orm

from aiida_mlip_autopipe.provenance.lineage import frame_lineage

lone = orm.load_node(uuid=said[0].split('surrogate: node:')[1].split()[0])
frame = frame_lineage(frame_id)
pks = (frame.label_job_pk, frame.md_job_pk, frame.potential_pk, frame.candidates_pk, *frame.potentials)
uuids = [orm.load_node(pk).uuid for pk in pks]
json.dump({'said': said, 'lone': lone.base.attributes.all, 'uuid': lone.uuid, 'uuids': uuids}, sys.stdout)
"""


@pytest.mark.nightly
def test_a_frame_has_its_lineage_in_another_profile(whole, finished_run, fast_folder):
    """First the potential alone, then the whole provenance, then nothing new: commands in a fresh profile."""
    home = fast_folder / 'receiver'
    home.mkdir()
    environment = {**os.environ, 'AIIDA_PATH': str(home), 'COLUMNS': '200'}

    def run(program, *arguments):
        command = [str(BIN / program), *map(str, arguments)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run('verdi', 'profile', 'setup', 'core.sqlite_dos', '-n', '--profile-name', 'fresh', '--email', 'receiver@host',
        '--filepath', home / 'storage')  # fmt: skip
    write_bundle(finished_run, home / 'light.zip', provenance=False)
    frame = next(atoms for atoms in read_extxyz(whole / 'training.extxyz') if 'md_job' in atoms.info)
    frame_id = frame.info['frame_id']
    there = json.loads(run('python', '-c', AT_THE_OTHER_SIDE, home / 'light.zip', whole, frame_id))
    alone, first, second, lineage = there['said']
    assert '\n1 new nodes' in alone and 'without its provenance' in alone
    assert re.search(r'\n\d{2,} new nodes', first)
    assert '\nno new nodes' in second and f'surrogate: node:{finished_run.outputs.potential.uuid}' in second
    assert f'step {frame.info["step"]},' in lineage and f'energy {frame.info["REF_energy"]:.6f} eV' in lineage

    assert there['lone'] == finished_run.outputs.potential.base.attributes.all
    here = frame_lineage(frame_id)
    pks = (here.label_job_pk, here.md_job_pk, here.potential_pk, here.candidates_pk)
    assert there['uuids'][:4] == [orm.load_node(pk).uuid for pk in pks]
    assert set(there['uuids'][4:]) == {orm.load_node(pk).uuid for pk in here.potentials}
    assert there['uuid'] not in there['uuids']
